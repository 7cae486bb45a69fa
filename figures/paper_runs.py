"""The simulator runs behind the figures of the paper, named once; ``python -m figures runs``.

Every entry is one comparison of :mod:`sim.compare` in a folder of its own. Folders describe themselves
(``config.json``), so the figures need nothing from here but the names.

Two *pools* stand where the paper has two model sizes, because a simulated policy has no size:
``skills``, where success rates follow from shared skills and start at 0.2 on average, and
``u_shaped``, where most of them start near 0 or near 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sim.arm import ArmTask, build
from sim.settings import Settings

POOLS = ("skills", "u_shaped")
ESTIMATORS = {"grpo": "grpo", "rpp": "reinforce++"}
AGAINST = ("uniform", "uniform@again", "cures", "gvm", "speed")
PILOTS = (4, 8, 16)
GROUP_SIZES = (8, 16, 32)
SUBSETS = (1, 5, 15, 30)
BATCH_FACTORS = (0.125, 0.25, 0.5, 1, 2, 4)
ABLATION_POOLS = ("skills", "u_shaped", "dead")


@dataclass(frozen=True, slots=True)
class Size:
    """How large the runs are.

    Attributes
    ----------
    pool, held_out, batch : int
        Training prompts, held-out prompts, draws per update.
    rollouts : int
        Of a run.
    steps : int
        M, updates per subset of ``cures`` and ``gvm`` at T = 15.
    seeds, few_seeds, dev_seeds : int
        Paired seeds; those of the grids; those that fix the levels to reach.
    """

    pool: int
    held_out: int
    batch: int
    rollouts: int
    steps: int
    seeds: int
    few_seeds: int
    dev_seeds: int

    @property
    def one_pass(self) -> int:
        """Rollouts of the paper's schedule: 15 subsets, N' = 4 pilots, M steps, n = 8."""
        return 4 * self.pool + 15 * self.steps * self.batch * 8


FULL = Size(4000, 512, 64, 200_000, 10, 8, 4, 4)
QUICK = Size(120, 20, 8, 3000, 2, 2, 1, 1)  # seconds; checks that everything is connected

Recipe = Callable[[], Settings]


def comparisons(size: Size) -> dict[str, Recipe]:
    """Name -> how to make the settings of a comparison (late: some look at initial success rates)."""
    runs: dict[str, Recipe] = {}
    for pool in POOLS:
        for label, estimator in ESTIMATORS.items():
            runs[f"against-{pool}-{label}"] = partial(
                _settings,
                size,
                _arms(size, *AGAINST),
                population=pool,
                estimator=estimator,
            )
    for label, estimator in ESTIMATORS.items():  # the case that suits CurES best
        runs[f"dead-sgd-{label}"] = partial(
            _settings,
            size,
            _arms(size, *AGAINST),
            population="dead",
            estimator=estimator,
            optimiser="sgd",
        )
    for pool in POOLS:
        runs[f"trace-{pool}"] = partial(
            _settings,
            size,
            _arms(size, "uniform", "cures") | _arms(size, "cures@moments", use_moments=True),
            population=pool,
            rollouts=size.one_pass,
            seeds=min(size.seeds, 3),
            dev_seeds=1,
            has_outcomes=True,
        )
    for pool in ABLATION_POOLS:
        for optimiser in ("adam", "sgd"):
            runs[f"ablation-{pool}-{optimiser}"] = partial(
                _settings,
                size,
                _arms(size, "uniform", "cures")
                | _arms(size, "cures@sampling-only", quota=False)
                | _arms(size, "cures@quota-only", sampling=False),
                population=pool,
                optimiser=optimiser,
                dev_seeds=1,
            )
    for pool in POOLS:
        for group_size in GROUP_SIZES:
            arms = _arms(size, "uniform")
            for pilots in PILOTS:
                arms |= _arms(size, f"cures@pilots{pilots}", pilots=pilots)
            runs[f"grid-{pool}-n{group_size}"] = partial(
                _settings,
                size,
                arms,
                population=pool,
                group_size=group_size,
                seeds=size.few_seeds,
                dev_seeds=1,
            )
    for factor in BATCH_FACTORS:
        # M so that pilots keep their share: as many training rollouts per subset at every budget
        steps = max(1, round(size.steps / factor))
        runs[f"budget-x{factor:g}"] = partial(
            _settings,
            size,
            _arms(replace(size, steps=steps), "uniform", "cures", "gvm", "speed", "dapo"),
            batch_size=round(size.batch * factor),
            dev_seeds=1,
        )
    runs["subsets"] = partial(
        _settings, size, _subset_arms(size), rollouts=size.one_pass, dev_seeds=1
    )
    for seed in range(size.seeds):
        runs[f"cut-seed{seed}"] = partial(_sorted_cut, size, seed)
    return runs


def _settings(size: Size, arms: dict[str, dict[str, Any]], **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "pool": size.pool,
        "held_out": size.held_out,
        "rollouts": size.rollouts,
        "seeds": size.seeds,
        "dev_seeds": size.dev_seeds,
        "batch_size": size.batch,
        **changes,
    }
    return Settings(arms=tuple(arms), options={a: o for a, o in arms.items() if o}, **values)


def _arms(size: Size, *names: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Arms with their options; M goes to the methods that have subsets."""
    return {
        name: {"steps_per_subset": size.steps, **options}
        if name.split("@")[0] in ("cures", "gvm")
        else options
        for name in names
    }


def _subset_arms(size: Size) -> dict[str, dict[str, Any]]:
    """T of 1 to 30 at the same number of updates a pass, and two more random cuts into 15."""
    arms = _arms(size, "uniform")
    for count in SUBSETS:
        options = {"num_subsets": count, "steps_per_subset": 15 * size.steps // count}
        arms |= _arms(size, f"cures@T{count}", **options)
        if count == 15:
            arms |= _arms(size, "cures@T15-cut2", "cures@T15-cut3")
    return arms


def _sorted_cut(size: Size, seed: int) -> Settings:
    """One seed of pools cut by their initial success rates: every seed needs a cut of its own."""
    changes = {"rollouts": size.one_pass, "seeds": 1, "dev_seeds": 1, "root_seed": 1000 + seed}
    plain = _settings(size, _arms(size, "uniform"), **changes)
    _, host = build(plain, ArmTask("uniform", 0, False))
    rank_N = np.argsort(np.argsort(-host.true_success_rate(), kind="stable"))
    easy_first_N = rank_N * 15 // rank_N.size
    arms = _arms(size, "uniform", "cures@random")
    arms |= _arms(size, "cures@easy-first", subset_N=easy_first_N.tolist())
    arms |= _arms(size, "cures@hard-first", subset_N=(14 - easy_first_N).tolist())
    return _settings(size, arms, **changes)
