"""What a study is: the task, the space, how many trials on how many seeds; validated at birth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cures.checks import as_choice, as_int, fail
from cures.comparison import seeds_needed
from cures.schedulers import list_schedulers
from sim.settings import REFERENCE, Settings
from sim.task import ArmTask, build
from sim.tuning.restriction import make_space
from sim.tuning.setting import Setting
from sim.tuning.space import Space

OBJECTIVES = ("final", "rollouts")
FORMAT = "cures-tune-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A search for the settings of one scheduler.

    Attributes
    ----------
    protocol : Settings
        The simulated task; its batch and group size are those of the reference ``uniform``.
    scheduler : str
    objective : {'final', 'rollouts'}
        See :mod:`sim.tuning.objective`.
    trials : int
        Settings tried; may grow later.
    batch : int
        Settings proposed at a time, before the results of any of them are known. Proposals depend on
        it, hence not on the number of processes.
    trial_seeds, select_seeds, confirm_seeds : int
        Seeds of every trial; further seeds that choose among the best; further seeds, from which
        intervals come. All are development seeds of ``compare``, so a later comparison of the
        recommendation stays one on fresh seeds.
    top : int
        Trials that are looked at again.
    profile_points : int
        Values per knob of the one-at-a-time profiles; 0: none.
    fixed, ranges : mapping
        As in :func:`sim.tuning.restriction.make_space`.
    """

    protocol: Settings
    scheduler: str
    objective: str = "final"
    trials: int = 64
    batch: int = 8
    trial_seeds: int = 4
    select_seeds: int = 8
    confirm_seeds: int = 16
    top: int = 5
    profile_points: int = 5
    fixed: dict[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float, bool | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = "tune"
        as_choice(where, "scheduler", self.scheduler, tuple(list_schedulers()))
        as_choice(where, "objective", self.objective, OBJECTIVES)
        for name in ("trials", "batch", "trial_seeds", "select_seeds", "top"):
            as_int(where, name, getattr(self, name), 1)
        as_int(where, "confirm_seeds", self.confirm_seeds, seeds_needed())
        as_int(where, "profile_points", self.profile_points, 0, 100)
        if self.profile_points == 1:
            fail(where, "profile_points", "0 or at least 2", 1)
        self._check_corners()

    @property
    def space(self) -> Space:
        """The scheduler's knobs under this protocol."""
        return make_space(
            self.scheduler,
            budget=self.protocol.budget,
            group_size=self.protocol.group_size,
            pool=self.protocol.pool,
            fixed=self.fixed,
            ranges=self.ranges,
        )

    @property
    def reference(self) -> Setting:
        """``uniform`` at the protocol's group size."""
        return Setting(REFERENCE, self.protocol.group_size, {})

    @property
    def defaults(self) -> Setting:
        """The scheduler's own defaults, with what the user fixed."""
        point = self.space.default_point(self.protocol.group_size)
        if point is not None:
            return self.space.setting(point)
        options = {key: value for key, value in self.fixed.items() if key != "group_size"}
        group_size = int(self.fixed.get("group_size", self.protocol.group_size))
        return Setting(self.scheduler, group_size, options)

    @property
    def search_indices(self) -> range:
        """Seeds of every trial."""
        return range(self.trial_seeds)

    @property
    def select_indices(self) -> range:
        """Seeds that choose among the best trials."""
        return range(self.trial_seeds, self.trial_seeds + self.select_seeds)

    @property
    def confirm_indices(self) -> range:
        """Seeds of the intervals; they decide only whether the choice replaces the defaults."""
        start = self.trial_seeds + self.select_seeds
        return range(start, start + self.confirm_seeds)

    @property
    def profile_indices(self) -> range:
        """Seeds of the profiles: confirming ones, because the trial seeds chose their centre."""
        return self.confirm_indices[: self.trial_seeds]

    def as_json(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        plain = {
            name: getattr(self, name)
            for name in (
                "scheduler", "objective", "trials", "batch", "trial_seeds", "select_seeds",
                "confirm_seeds", "top", "profile_points", "fixed",
            )
        }  # fmt: skip
        ranges = {key: list(given) for key, given in self.ranges.items()}
        task = self.protocol.as_json()
        return {"format": FORMAT, **plain, "ranges": ranges, "protocol": task}

    def _check_corners(self) -> None:
        """Build the scheduler at the ends of its ranges: a refused value is refused now."""
        space = self.space
        for group_size in {space.group_sizes[0], space.group_sizes[-1]}:
            for end in (0, -1):
                point = space.corner(group_size, end)
                _build(self.protocol, space.setting(point))
        _build(self.protocol, self.defaults)
        _build(self.protocol, self.reference)


def _build(protocol: Settings, setting: Setting) -> None:
    build(setting.under(protocol), ArmTask(setting.scheduler, 0, True))
