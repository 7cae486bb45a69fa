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

from figures.adaptive_pieces import PIECES
from sim.population_file import EmpiricalLaw
from sim.settings import LEARNING_RATES, Settings
from sim.task import ArmTask, build

POOLS = ("skills", "u_shaped")
ESTIMATORS = {"grpo": "grpo", "rpp": "reinforce++"}
AGAINST = ("uniform", "uniform@again", "cures", "gvm", "speed")
PILOTS = (4, 8, 16)
GROUP_SIZES = (8, 16, 32)
SUBSETS = (1, 5, 15, 30)
BATCH_FACTORS = (0.125, 0.25, 0.5, 1, 2, 4)
ABLATION_POOLS = ("skills", "u_shaped", "dead")
PIECE_POOLS = ("skills", "u_shaped", "dead", "coins")

# One-factor sweeps: values beside the default; coins are a share of the prompts that are not dead.
SWEPT = ("uniform", "adaptive", "cures", "oracle@learnable")
DEAD = 0.6
SWEEPS: dict[str, tuple[Any, ...]] = {
    "dead": (0.0, 0.3, 0.85, 0.95),
    "coin": (0.2, 0.5),
    "pool": (0.064, 0.25, 4.0),  # times the default, as the rate
    "rate": (0.25, 4.0, 16.0),
    "estimator": ("rloo", "dr_grpo", "reinforce++"),
    "aggregation": ("rollout", "token"),
    "transfer": (0.05, 0.2, 0.8),  # of another policy, item response: skills have no such number
}
DEFAULT, LONG, LONGER = "default", "budget", 4  # LONG: the default, LONGER times as many rollouts
SWEEP_RATE = 2.0  # times LEARNING_RATES: runs are shorter
# Lowest of the rates; each is twice the one before. The dead pool is the built-in one.
LOWEST_RATE = {"adam": 0.04, "sgd": 80.0, "normalised": 2.0}
NUM_RATES, RATE_POOLS = 8, ("skills", "dead")


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

    def fraction(self, parts: int) -> Size:
        """A quarter of the pool, half the batch, and a ``parts``-th of the rollouts, for many runs.

        The rollouts are a multiple of four updates.
        """
        batch = self.batch // 2
        four = 4 * 8 * batch
        rollouts = max(1, self.rollouts // parts // four) * four
        return replace(self, pool=self.pool // 4, batch=batch, rollouts=rollouts)


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
    runs |= _sweeps(size.fraction(6)) | _rates(size.fraction(10))
    arms = {"adaptive": {}} | {f"adaptive@{label}": o for label, (_, o) in PIECES.items()}
    part = size.fraction(4)
    for pool in PIECE_POOLS:
        runs[f"pieces-{pool}"] = partial(
            _settings, part, arms, population=pool, seeds=2 * part.seeds, dev_seeds=1
        )
    return runs


def _sweeps(size: Size) -> dict[str, Recipe]:
    """``boundary-OPTIMISER-FACTOR-NUMBER``: one factor other than the default at a time."""
    runs: dict[str, Recipe] = {}
    for optimiser in ("adam", "sgd"):
        runs[f"boundary-{optimiser}-{DEFAULT}"] = partial(_swept, size, optimiser)
        for factor, values in SWEEPS.items():
            for number, value in enumerate(values):
                recipe = partial(_swept, size, optimiser, **{factor: value})
                runs[f"boundary-{optimiser}-{factor}-{number}"] = recipe
        long = replace(size, rollouts=LONGER * size.rollouts)
        runs[f"boundary-{optimiser}-{LONG}"] = partial(_swept, long, optimiser, grid_points=65)
    return runs


def _swept(
    size: Size,
    optimiser: str,
    *,
    dead: float = DEAD,
    coin: float = 0.0,
    pool: float = 1.0,
    rate: float = 1.0,
    transfer: float | None = None,
    **changes: Any,
) -> Settings:
    """The default, but for what is given; evenly spread success rates of the learnable prompts."""
    policy = "skills" if transfer is None else "item_response"
    law = EmpiricalLaw(
        name=f"dead{dead:g}-coin{coin:g}" + ("" if transfer is None else f"-transfer{transfer:g}"),
        success_rate_K=(np.arange(50) + 0.5) / 50,
        weight_K=np.full(50, 1 / 50),
        never=dead * 0.60 / 0.85,  # as in the built-in dead pool
        always=dead * 0.25 / 0.85,
        coin=coin * (1.0 - dead),
        policy=policy,
        transfer=transfer,
    )
    return _settings(
        size,
        _swept_arms(size),
        population=law.name,
        empirical=law.as_json(),
        pool=max(15, size.batch, round(pool * size.pool)),  # CurES cuts it into 15
        optimiser=optimiser,
        learning_rate=rate * SWEEP_RATE * LEARNING_RATES[optimiser][policy],
        dev_seeds=max(1, size.dev_seeds // 2),
        **changes,
    )


def _rates(size: Size) -> dict[str, Recipe]:
    """``rates-POOL-OPTIMISER-NUMBER``; a third of the seeds is there to choose the rates."""
    return {
        f"rates-{pool}-{optimiser}-{number}": partial(
            _settings,
            size,
            _swept_arms(size),
            population=pool,
            optimiser=optimiser,
            learning_rate=lowest * 2.0**number,
            seeds=size.seeds + size.few_seeds,
            dev_seeds=1,
        )
        for pool in RATE_POOLS
        for optimiser, lowest in LOWEST_RATE.items()
        for number in range(NUM_RATES)
    }


def _swept_arms(size: Size) -> dict[str, dict[str, Any]]:
    """The oracle is told what can be learned, too."""
    return _arms(size, *SWEPT[:-1]) | _arms(size, SWEPT[-1], learnable=True)


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
