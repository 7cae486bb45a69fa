"""The settings of a plan: validated at birth, dumped with the result."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

from cures.checks import as_choice, as_int, fail
from cures.schedulers import SCHEDULERS, list_schedulers
from cures.schedulers.subsets import SubsetScheduler
from sim.planning.cost import Site
from sim.planning.hardware import EFFICIENCIES, Efficiency
from sim.settings import check_options, split_arm

LARGEST_RUN = 10**12  # rollouts; sums stay exact far beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What is planned, on which pool, with which machine.

    Attributes
    ----------
    arms : tuple of str
        Schedulers; ``name@label`` is a second arm of the same one. The first fixes the equal number
        of rollouts, unless ``rollouts`` is given.
    site : Site
    options : dict of str to dict
        Keywords per arm.
    population : str
        Name of a population, or path of a population file.
    num_prompts : int
        Pool N.
    batch_size, group_size : int
        Draws per update, and rollouts per draw.
    updates : int
        Updates of the first comparison.
    rollouts : int, optional
        Generated rollouts of the second; ``None``: what the first arm generates in ``updates``.
    num_subsets, pilots, steps_per_subset : int
        T, N' and M, of the methods that have them.
    measured_updates : int
        Updates that are really run, per arm, to measure what one costs.
    seed : int
    efficiencies : dict of str to Efficiency
        By level.
    """

    arms: tuple[str, ...]
    site: Site
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    population: str = "u_shaped"
    num_prompts: int = 150_000
    group_size: int = 8
    updates: int = 150
    rollouts: int | None = None
    num_subsets: int = 15
    pilots: int = 4
    steps_per_subset: int = 10
    measured_updates: int = 120
    seed: int = 0
    efficiencies: Mapping[str, Efficiency] = field(default_factory=lambda: dict(EFFICIENCIES))

    def __post_init__(self) -> None:
        where = "plan"
        object.__setattr__(self, "options", deepcopy(self.options))
        if not self.arms or len(set(self.arms)) != len(self.arms):
            fail(where, "schedulers", "at least one, named once each", list(self.arms))
        for arm in self.arms:
            as_choice(where, "schedulers", split_arm(arm, where)[0], tuple(list_schedulers()))
        for arm, options in self.options.items():
            as_choice(where, "set", arm, self.arms)
            check_options(where, arm, options)
        as_int(where, "num_prompts", self.num_prompts, 1, 10**9)
        as_int(where, "batch_size", self.batch_size, 1)
        as_int(where, "group_size", self.group_size, 2)
        as_int(where, "updates", self.updates, 1, LARGEST_RUN // self.budget)
        if self.rollouts is not None:
            as_int(where, "rollouts", self.rollouts, self.budget, LARGEST_RUN)
        as_int(where, "num_subsets", self.num_subsets, 1, self.num_prompts)
        as_int(where, "pilots", self.pilots, 1)
        as_int(where, "steps_per_subset", self.steps_per_subset, 1)
        as_int(where, "measured_updates", self.measured_updates, 2, 100_000)
        as_int(where, "seed", self.seed, 0)

    @property
    def batch_size(self) -> int:
        """Draws per update."""
        return self.site.batch_size

    @property
    def budget(self) -> int:
        """Rollouts of an update."""
        return self.batch_size * self.group_size

    def options_of(self, arm: str) -> dict[str, Any]:
        """Keywords of an arm; T, N' and M where the method has them, unless the arm has its own."""
        frame: dict[str, Any] = {}
        if issubclass(SCHEDULERS[split_arm(arm)[0]], SubsetScheduler):
            frame = {
                "num_subsets": self.num_subsets,
                "pilots": self.pilots,
                "steps_per_subset": self.steps_per_subset,
            }
        return {**frame, **self.options.get(arm, {})}

    def as_json(self) -> dict[str, Any]:
        """What ``plan.json`` says was asked."""
        return {**asdict(self), "arms": list(self.arms)}
