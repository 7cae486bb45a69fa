"""From settings to one run at its start: whose population, which host, what the scheduler is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cures.checks import fail
from cures.schedulers import make_scheduler, scheduler_settings
from cures.schedulers.driver import Scheduler
from sim.host import SimHost
from sim.policy import FloatMatrix
from sim.populations import Population, make_population
from sim.settings import CATEGORY, HOST, Seeds, Settings, split_arm
from sim.skills import Skills


@dataclass(frozen=True, slots=True)
class ArmTask:
    """Which run: arm, seed, and whether it only serves to fix the targets."""

    arm: str
    index: int
    is_development: bool

    def __str__(self) -> str:
        kind = "development seed" if self.is_development else "seed"
        return f"arm {self.arm}, {kind} {self.index}"

    @property
    def folder(self) -> str:
        """Relative to the run folder."""
        parent = "development" if self.is_development else "arms"
        return f"{parent}/{self.arm}-{self.index}"


def build(settings: Settings, task: ArmTask) -> tuple[Scheduler, SimHost]:
    """Scheduler and host of a run, at their start.

    Raises
    ------
    ValueError
        If the scheduler is unknown or refuses an option, in its own words.
    """
    assert settings.learning_rate is not None  # Settings replaces it
    seeds = Seeds.of(settings.root_seed, task.arm, task.index, is_development=task.is_development)
    population = make_population(
        settings.law or settings.population,
        settings.policy,
        num_pool=settings.pool,
        num_held_out=settings.held_out,
        seed=seeds.population,
    )
    host = SimHost(
        population,
        seed=seeds.host,
        estimator=settings.estimator,
        aggregation=settings.aggregation,
        optimiser=settings.optimiser,
        learning_rate=settings.learning_rate,
        missing_rate=settings.missing_rate,
    )
    name = split_arm(task.arm)[0]
    arguments: dict[str, Any] = {
        "num_prompts": settings.pool,
        "batch_size": settings.batch_size,
        "budget": settings.budget,
        "seed": seeds.scheduler,
        "estimator": settings.estimator,
        **_told_by_host(name, settings, population, host),
        **settings.options.get(task.arm, {}),  # none of the keys above: Settings refuses them
    }
    if arguments.get("learnable") is True:  # an array has no place on a command line
        arguments["learnable"] = population.is_learnable_N
    if arguments.get("features_N_D") == HOST:
        arguments["features_N_D"] = _step_counts(task.arm, population)
    if arguments.get("subset_N") == CATEGORY:
        arguments.update(_subsets_by_category(task.arm, population, arguments))
    return make_scheduler(name, **arguments), host


def check_arms(settings: Settings) -> None:
    """Build every arm once, so that what a scheduler refuses is refused before any run.

    Raises
    ------
    ValueError
        See :func:`build`.
    """
    for arm in settings.arms:
        build(settings, ArmTask(arm, 0, False))


def _step_counts(arm: str, population: Population) -> FloatMatrix:
    """How often every pool prompt needs each skill, shape (N, K): what it asks, not how hard it is.

    Neither the strength of the skills is in it, nor the prompts' thresholds.
    """
    policy = population.policy
    if not isinstance(policy, Skills):
        fail("compare", f"set {arm}.features_N_D", "left out: only skills can be told", HOST)
    chain_N_L = policy.chain_N_L[: population.num_pool]
    length_N = policy.length_N[: population.num_pool]
    is_step_N_L = np.arange(chain_N_L.shape[1]) < length_N[:, None]
    count_N_K = np.zeros((population.num_pool, policy.num_skills))
    np.add.at(count_N_K, (np.nonzero(is_step_N_L)[0], chain_N_L[is_step_N_L]), 1.0)
    return count_N_K


def _subsets_by_category(
    arm: str, population: Population, arguments: dict[str, Any]
) -> dict[str, Any]:
    """``subset_N``, and ``num_subsets`` where it was not given."""
    if population.category_N is None:
        legal = "left out: this population has no categories"
        fail("compare", f"set {arm}.subset_N", legal, CATEGORY)
    category_N = population.category_N[: population.num_pool]
    return {
        "num_subsets": arguments.get("num_subsets", int(category_N.max()) + 1),
        "subset_N": category_N,
    }


def _told_by_host(
    name: str, settings: Settings, population: Population, host: SimHost
) -> dict[str, Any]:
    """What some schedulers know beforehand and no ledger counts."""
    told: dict[str, Any] = {}
    if population.category_N is not None and "category_N" in scheduler_settings(name):
        told["category_N"] = population.category_N[: population.num_pool]
    if name == "oracle":
        told["true_success_rate"] = host.true_success_rate
    if name == "staged":
        pool = np.arange(population.num_pool)
        told["prior_success_rate_N"] = population.success_rate(population.theta_D, pool)
        told["total_rollouts"] = settings.rollouts
    return told
