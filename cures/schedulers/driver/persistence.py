"""A scheduler's whole state as flat plain data, and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

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


def settings(scheduler: Scheduler) -> State:
    """Settings that a checkpoint must agree with; the size of the pool is that at first."""
    return {
        "name": scheduler.name,
        "num_prompts": scheduler._pool_sizes[0],
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
    retired = scheduler._is_retired_N
    none = np.zeros(0, dtype=np.int64)
    pool: State = {
        "sizes": np.array(scheduler._pool_sizes, dtype=np.int64),
        "retired": none if retired is None else np.flatnonzero(retired).astype(np.int64),
    }
    state.add("pool", pool)
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


def _restore_pool(scheduler: Scheduler, pool: SchedulerState) -> None:
    """Let the pool grow as it did, and mark who was retired."""
    sizes, own = pool.ints("sizes").tolist(), scheduler._pool_sizes
    if sizes[: len(own)] != own or any(a >= b for a, b in pairwise(sizes)):
        fail("load_state_dict", "sizes", f"growing sizes that begin with {own}", sizes)
    scheduler._mark_retired(None)
    for size in sizes[len(own) :]:
        scheduler._grow(size - scheduler.num_prompts)
    retired = pool.ints("retired", high=scheduler.num_prompts - 1)
    if (np.diff(retired) <= 0).any():
        fail("load_state_dict", "retired", "strictly increasing", retired.tolist())
    if retired.size:
        is_retired_N = np.zeros(scheduler.num_prompts, dtype=bool)
        is_retired_N[retired] = True
        scheduler._check_remaining(is_retired_N)
        scheduler._mark_retired(is_retired_N)
