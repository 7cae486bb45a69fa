"""Plans that were issued and are not closed yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cures.checks import BoolArray, IntArray, fail
from cures.records import Outcome, Plan
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.storage import State

_INT_FIELDS = ("group_B", "prompt_B", "quota_B", "is_pilot_B", "draw_B")
_FLAGS = ("is_pilot_B", "is_reported_B")


@dataclass(slots=True)
class OpenPlan:
    """A plan, what was reported of it, whether it was streamed, and its first group that was new."""

    plan: Plan
    is_streamed: bool
    first_new: int
    is_reported_B: BoolArray
    trial_B: IntArray

    @classmethod
    def fresh(cls, plan: Plan, is_streamed: bool, first_new: int) -> OpenPlan:
        """Nothing reported yet."""
        size = len(plan)
        return cls(
            plan, is_streamed, first_new, np.zeros(size, dtype=bool), np.zeros(size, dtype=np.int64)
        )

    def locate(self, outcome: Outcome, name: str) -> IntArray:
        """Row in the plan of every group of the outcome, after checking it against the plan."""
        where = f"{name}.observe"
        row = self.plan.rows(outcome.group_B, where, "group_B")
        excess = outcome.trial_B > self.plan.quota_B[row]
        if excess.any():
            i = int(np.flatnonzero(excess)[0])
            legal = f"at most the quota {self.plan.quota_B[row[i]]} of group {outcome.group_B[i]}"
            fail(where, "trial_B", legal, int(outcome.trial_B[i]))
        return row

    def unreported(self) -> Plan:
        """The plan without the groups that were reported already."""
        plan, keep = self.plan, ~self.is_reported_B
        return Plan(
            plan.plan_id,
            plan.group_B[keep],
            plan.prompt_B[keep],
            plan.quota_B[keep],
            plan.is_pilot_B[keep],
            plan.draw_B[keep],
            plan.prob_B[keep],
            plan.wants_moments,
        )

    @staticmethod
    def pack(open_plans: Mapping[int, OpenPlan]) -> State:
        """All open plans as a few flat arrays (plain data for a checkpoint)."""
        items = [open_plans[plan_id] for plan_id in sorted(open_plans)]

        def ints(values: list[int]) -> IntArray:
            return np.array(values, dtype=np.int64)

        def joined(parts: list[IntArray]) -> IntArray:
            return np.concatenate([ints([]), *parts]).astype(np.int64)

        state: State = {
            "plan_id": ints([o.plan.plan_id for o in items]),
            "size": ints([len(o.plan) for o in items]),
            "is_streamed": ints([int(o.is_streamed) for o in items]),
            "first_new": ints([o.first_new for o in items]),
            "wants_moments": ints([int(o.plan.wants_moments) for o in items]),
            "prob_B": np.concatenate([np.zeros(0), *(o.plan.prob_B for o in items)]),
            "is_reported_B": joined([o.is_reported_B.astype(np.int64) for o in items]),
            "trial_B": joined([o.trial_B for o in items]),
        }
        for key in _INT_FIELDS:
            state[key] = joined([np.asarray(getattr(o.plan, key), dtype=np.int64) for o in items])
        return state

    @staticmethod
    def unpack(state: SchedulerState) -> dict[int, OpenPlan]:
        """Inverse of :meth:`pack`; damaged arrays are errors that name the field."""
        plan_id = state.ints("plan_id")
        if (np.diff(plan_id) <= 0).any():
            fail("load_state_dict", "open/plan_id", "strictly increasing", plan_id.tolist())
        size = state.ints("size", plan_id.size)
        is_streamed = state.ints("is_streamed", plan_id.size, high=1)
        first_new = state.ints("first_new", plan_id.size)
        wants = state.ints("wants_moments", plan_id.size, high=1)
        total = int(size.sum())
        columns = {
            key: state.ints(key, total, high=1 if key in _FLAGS else None)
            for key in (*_INT_FIELDS, "is_reported_B", "trial_B")
        }
        prob_B = state.floats("prob_B", total)
        result: dict[int, OpenPlan] = {}
        stop = np.cumsum(size)
        for i, identity in enumerate(plan_id.tolist()):
            at = slice(int(stop[i] - size[i]), int(stop[i]))
            plan = Plan(
                identity,
                columns["group_B"][at],
                columns["prompt_B"][at],
                columns["quota_B"][at],
                columns["is_pilot_B"][at].astype(bool),
                columns["draw_B"][at],
                prob_B[at],
                bool(wants[i]),
            )
            result[identity] = OpenPlan(
                plan,
                bool(is_streamed[i]),
                int(first_new[i]),
                columns["is_reported_B"][at].astype(bool),
                columns["trial_B"][at],
            )
        return result
