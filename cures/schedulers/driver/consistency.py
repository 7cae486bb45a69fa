"""Whether a loaded state can have come from a scheduler: every relation between its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cures.checks import IntArray, fail
from cures.ledger import PURPOSES

if TYPE_CHECKING:
    from cures.schedulers.driver.scheduler import Scheduler

WHERE = "load_state_dict"


def check_consistency(scheduler: Scheduler) -> None:
    """Raise ValueError, naming the part, if a damaged state was loaded."""
    _check_live(scheduler)
    _check_open(scheduler)
    for purpose in PURPOSES:
        book = scheduler.ledger.counts[purpose]
        accounted = book["missing"] + book["trained"] + book["discarded"]
        if accounted > book["generated"]:
            legal = f"at least the {accounted} {purpose} rollouts accounted for"
            fail(WHERE, f"{purpose}/generated", legal, book["generated"])
    live_trials = int(scheduler.live.trial.sum())
    reported = sum(int(o.trial_B.sum()) for o in scheduler._open.values())
    if scheduler.ledger.pending != live_trials - reported:
        legal = f"{live_trials - reported}, the trials of the live groups"
        fail(WHERE, "pending rollouts of the ledger", legal, scheduler.ledger.pending)


def _check_live(scheduler: Scheduler) -> None:
    live, next_group = scheduler.live, scheduler._next_group_id
    _check_below("live/group", live.group, next_group, "next_group_id")
    _check_below("live/prompt", live.prompt, scheduler.num_prompts, "num_prompts")
    if (live.success > live.trial).any():
        fail(WHERE, "live/success", "at most live/trial", live.success.tolist())
    if (live.draw < 1).any():
        fail(WHERE, "live/draw", ">= 1", live.draw.tolist())


def _check_open(scheduler: Scheduler) -> None:
    for plan_id, open_plan in scheduler._open.items():
        plan = open_plan.plan
        if plan_id >= scheduler._next_plan_id:
            fail(WHERE, "open/plan_id", f"below next_plan_id {scheduler._next_plan_id}", plan_id)
        _check_below("open/prompt_B", plan.prompt_B, scheduler.num_prompts, "num_prompts")
        if (np.diff(plan.group_B) <= 0).any() or not np.isin(
            plan.group_B, scheduler.live.group
        ).all():
            fail(WHERE, "open/group_B", "ascending live groups", plan.group_B.tolist())
        rows = scheduler.live.rows(plan.group_B)
        if (scheduler.live.prompt[rows] != plan.prompt_B).any():
            fail(WHERE, "open/prompt_B", "the prompts of the live groups", plan.prompt_B.tolist())
        if (plan.quota_B < 1).any() or (plan.draw_B < 1).any():
            fail(WHERE, "open/quota_B and open/draw_B", ">= 1", plan.quota_B.tolist())
        if (open_plan.trial_B > plan.quota_B).any():
            fail(WHERE, "open/trial_B", "at most open/quota_B", open_plan.trial_B.tolist())


def _check_below(name: str, values: IntArray, bound: int, bound_name: str) -> None:
    if values.size and int(values.max()) >= bound:
        fail(WHERE, name, f"below {bound_name} = {bound}", int(values.max()))
