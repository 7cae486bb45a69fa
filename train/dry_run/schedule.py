"""What the scheduler would do with the budget: the real object, asked for its plans.

It is answered with success rates spread uniformly over (0, 1), which nothing changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import cures
from cures.checks import FloatArray
from cures.records import Outcome, Plan, Selection
from train.config import Config
from train.seeds import Stream, numpy_generator

SHOWN_UPDATES = 2000  # as many are asked for; the rest is extrapolated


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the scheduler would do with the budget of a run."""

    updates: int
    generated: int
    pilots: int
    trained: int
    is_extrapolated: bool


class _Oblivious:
    """A host without a model: right with a fixed chance per prompt."""

    def __init__(self, estimator: str, rate_N: FloatArray, seed: int) -> None:
        self.estimator = estimator
        self._rate_N, self._seed = rate_N, seed

    def rollout(self, plan: Plan) -> Outcome:
        generator = numpy_generator(self._seed, Stream.GENERATION, plan.plan_id)
        return Outcome.of(plan, generator.binomial(plan.quota_B, self._rate_N[plan.prompt_B]))

    def update(self, selection: Selection) -> Mapping[str, float]:
        return {}

    def discard(self, selection: Selection) -> None:
        """Nothing is kept."""


def schedule(scheduler: cures.Scheduler, num_prompts: int, rollouts: int, seed: int) -> Schedule:
    """Ask the scheduler for its plans until the budget is spent, or for :data:`SHOWN_UPDATES`."""
    rate_N = numpy_generator(seed, Stream.PROBLEMS).random(num_prompts)
    host = _Oblivious(scheduler.estimator, rate_N, seed)
    step = 0
    for record in cures.loop.run(scheduler, host, rollouts=rollouts):
        step = record.step
        if step == SHOWN_UPDATES:
            break
    ledger = scheduler.ledger
    share = rollouts / ledger.generated if step == SHOWN_UPDATES else 1.0
    return Schedule(
        updates=round(step * share),
        generated=round(ledger.generated * share),
        pilots=round(ledger.pilots * share),
        trained=round(ledger.trained * share),
        is_extrapolated=share != 1.0,
    )


def stand_in_scheduler(config: Config, prompts: int) -> cures.Scheduler:
    """The scheduler of the run; what only the data could tell it is left at one kind, one half."""
    chosen = config.scheduler
    stand_ins: dict[str, Any] = {
        "category_N": np.zeros(prompts, dtype=np.int64),
        "features_N_D": np.zeros((prompts, 1)),
        "prior_success_rate_N": np.full(prompts, 0.5),
        "total_rollouts": config.run.rollouts,
        "true_success_rate": lambda: np.full(prompts, 0.5),
        "learnable": np.ones(prompts, dtype=bool),
    }
    options = {
        keyword: stand_ins[keyword]
        for keyword, default in cures.scheduler_settings(chosen.name).items()
        if default is inspect.Parameter.empty and keyword in stand_ins
    }
    for keyword, value in chosen.resolved_options().items():
        is_host = isinstance(value, str) and value == "host"
        options[keyword] = stand_ins[keyword] if is_host else value
    return cures.make_scheduler(
        chosen.name,
        num_prompts=prompts,
        batch_size=chosen.batch_size,
        budget=chosen.budget,
        estimator=config.learner.estimator,
        **{"seed": config.run.seed, **options},
    )
