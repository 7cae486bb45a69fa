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
from cures.schedulers.driver.pool import Pool
from cures.schedulers.driver.streaming import StreamQuota
from cures.storage import State, refuse_further

if TYPE_CHECKING:
    from cures.schedulers.driver.scheduler import Scheduler


def settings(scheduler: Scheduler) -> State:
    """Settings that a checkpoint must agree with; the size of the pool is that at first."""
    return {
        "name": scheduler.name,
        "num_prompts": scheduler._pool.sizes[0],
        "batch_size": scheduler.batch_size,
        "budget": scheduler.budget,
        "seed": scheduler.seed,
        "min_quota": scheduler.min_quota,
        "max_quota": str(scheduler.max_quota),
        "estimator": scheduler.estimator,
        **scheduler._config(),
    }


def collect(scheduler: Scheduler) -> State:
    """Settings, counters, books, open plans and the rule's own state."""
    state = SchedulerState.collect(
        settings(scheduler),
        {
            "next_plan_id": scheduler._next_plan_id,
            "next_group_id": scheduler._next_group_id,
            "draws_since_update": scheduler._draws_since_update,
        },
    )
    state.add("pool", scheduler._pool.state_dict())
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
    own = SchedulerState.collect(settings(scheduler), {})
    loaded.check_config(own.flat, scheduler.name)
    with scheduler._unchanged_on_error():
        _restore_pool(scheduler, loaded.section("pool"))
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
        refuse_further(f"{scheduler.name}.load_state_dict", loaded.flat, collect(scheduler))


def _restore_pool(scheduler: Scheduler, state: SchedulerState) -> None:
    """Let the pool grow as it did, and mark who was retired."""
    pool = Pool.from_state(state, scheduler._pool)
    scheduler._pool = Pool(scheduler._pool.sizes)
    for size in pool.sizes[len(scheduler._pool.sizes) :]:
        scheduler._grow(size - scheduler.num_prompts)
    if pool.is_retired_N is not None:
        scheduler._check_remaining(pool.is_retired_N)
    scheduler._pool = pool
