"""Whether a scheduler and a TRL trainer fit; a scheduler made from the trainer's own arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import IterableDataset

from cures.checks import fail
from cures.schedulers import SCHEDULERS, Scheduler, make_scheduler

WHERE = "CuresGRPOTrainer"
ESTIMATORS = {  # TRL's scale_rewards: cures' estimators
    "group": ("grpo",),
    "none": ("dr_grpo", "rloo"),
    "batch": ("reinforce++-baseline", "reinforce++"),
}


def scheduler_of(trainer: Any, given: Scheduler | str, settings: Mapping[str, Any]) -> Scheduler:
    """The scheduler given, or the one of that name for what the trainer trains on."""
    if isinstance(given, Scheduler):
        if settings:
            fail(WHERE, "scheduler_settings", "None with a scheduler that is made", dict(settings))
        return given
    args = trainer.args
    own = {
        "num_prompts": _num_prompts(trainer),
        "batch_size": args.generation_batch_size // args.num_generations,
        "budget": args.generation_batch_size,
        "seed": args.seed,
        "estimator": ESTIMATORS[_scaling(trainer)][0],
    }
    return make_scheduler(given, **{**own, **settings})


def check(trainer: Any, scheduler: Scheduler, *, shadow: bool) -> None:
    """Refuse what cannot work, naming what would.

    Raises
    ------
    ValueError
    """
    size = _num_prompts(trainer)
    if scheduler.num_prompts != size:
        legal = f"{size}, the rows of train_dataset"
        fail(WHERE, "scheduler.num_prompts", legal, scheduler.num_prompts)
    if shadow:
        if trainer.args.remove_unused_columns:
            fail(WHERE, "args.remove_unused_columns", "False with shadow=True", True)
        return
    _check_kind(trainer, scheduler)
    rows = trainer.args.generation_batch_size
    if scheduler.budget > rows or (scheduler.has_exact_budget and scheduler.budget < rows):
        legal = f"{rows}, args.generation_batch_size"
        fail(WHERE, "scheduler.budget", legal, scheduler.budget)
    _check_steps(trainer.args)
    scaling = _scaling(trainer)
    # "group" is TRL's default, which nobody has to change beside the scheduler
    if scaling != "group" and scheduler.estimator not in ESTIMATORS[scaling]:
        legal = f"one of {list(ESTIMATORS[scaling])} with scale_rewards={scaling!r}"
        fail(WHERE, "scheduler.estimator", legal, scheduler.estimator)
    objective = getattr(trainer.args, "multi_objective_aggregation", "sum_then_normalize")
    if objective != "sum_then_normalize":
        fail(WHERE, "args.multi_objective_aggregation", "'sum_then_normalize'", objective)


def _check_kind(trainer: Any, scheduler: Scheduler) -> None:
    if not (scheduler.is_single_plan or scheduler.is_piloted):
        kinds = SCHEDULERS.items()
        names = [name for name, kind in kinds if kind.is_single_plan or kind.is_piloted]
        legal = f"one of {names}, or any with shadow=True"
        fail(WHERE, "scheduler", legal, scheduler.name)
    if getattr(scheduler, "use_moments", False):
        legal = "False: TRL measures no gradient moments"
        fail(WHERE, "scheduler.use_moments", legal, True)
    if getattr(scheduler, "step_scaling", False):
        legal = "False: the learning rate is TRL's business"
        fail(WHERE, "scheduler.step_scaling", legal, True)
    if not scheduler.is_single_plan and trainer.is_deepspeed_enabled:
        legal = "one without pilots under DeepSpeed, which cannot skip an optimiser step"
        fail(WHERE, "scheduler", legal, scheduler.name)


def _check_steps(args: Any) -> None:
    """One plan makes whole optimiser steps: a step on two plans would be one update of two."""
    passes = args.steps_per_generation * args.num_iterations
    if passes % args.gradient_accumulation_steps:
        legal = f"a divisor of steps_per_generation * num_iterations, {passes}"
        fail(WHERE, "args.gradient_accumulation_steps", legal, args.gradient_accumulation_steps)


def _num_prompts(trainer: Any) -> int:
    dataset = trainer.train_dataset
    if dataset is None or isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        legal = "a data set with a length, whose rows have numbers"
        fail(WHERE, "train_dataset", legal, type(dataset).__name__)
    return len(dataset)


def _scaling(trainer: Any) -> str:
    return str(trainer.scale_rewards)
