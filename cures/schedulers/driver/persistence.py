"""A scheduler's whole state as flat plain data, and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cures.checks import as_int, fail
from cures.ledger import Ledger
from cures.schedulers.driver.books import Books
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.driver.consistency import check_consistency
from cures.schedulers.driver.groups import LiveGroups
from cures.schedulers.driver.open_plans import OpenPlan
from cures.schedulers.driver.streaming import StreamQuota
from cures.storage import State

if TYPE_CHECKING:
    from cures.schedulers.driver.scheduler import Scheduler


def collect(scheduler: Scheduler) -> State:
    """Settings, counters, books, open plans and the rule's own state."""
    state = SchedulerState.collect(
        {
            "name": scheduler.name,
            "num_prompts": scheduler.num_prompts,
            "batch_size": scheduler.batch_size,
            "budget": scheduler.budget,
            "seed": scheduler.seed,
            "min_quota": scheduler.min_quota,
            "max_quota": str(scheduler.max_quota),
            "estimator": scheduler.estimator,
            **scheduler._config(),
        },
        {
            "next_plan_id": scheduler._next_plan_id,
            "next_group_id": scheduler._next_group_id,
            "draws_since_update": scheduler._draws_since_update,
        },
    )
    state.add("stream", scheduler._stream.state_dict())
    state.add("ledger", scheduler.ledger.state_dict())
    state.add("counter", dict(scheduler.counters))
    state.add("live", scheduler.live.state_dict())
    state.add("open", OpenPlan.pack(scheduler._open))
    state.add("rule", scheduler._rule_state())
    return state.flat


def restore(scheduler: Scheduler, state: State, *, reissue: bool) -> None:
    """Replace the scheduler's state, or leave it as it was and raise ValueError."""
    if not isinstance(state, Mapping):
        fail(f"{scheduler.name}.load_state_dict", "state", "a dict", type(state).__name__)
    loaded = SchedulerState(dict(state))
    loaded.check_config(scheduler.state_dict(), scheduler.name)
    before = dict(scheduler.__dict__)
    try:
        scheduler._next_plan_id = loaded.integer("next_plan_id")
        scheduler._next_group_id = loaded.integer("next_group_id")
        scheduler._draws_since_update = loaded.integer("draws_since_update")
        scheduler._stream = StreamQuota.from_state(loaded.section("stream"))
        counters = loaded.section("counter").flat
        scheduler._books = Books(
            Ledger.from_state(loaded.section("ledger").flat),
            LiveGroups.from_state(loaded.section("live")),
            {k: as_int("load_state_dict", k, v, 0) for k, v in counters.items()},
        )
        scheduler._open = OpenPlan.unpack(loaded.section("open"))
        scheduler._reissue = deque(sorted(scheduler._open)) if reissue else deque()
        scheduler._load_rule_state(loaded.section("rule"))
        check_consistency(scheduler)
    except Exception:
        scheduler.__dict__.clear()
        scheduler.__dict__.update(before)
        raise
