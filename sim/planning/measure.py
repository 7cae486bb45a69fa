"""Run the real scheduler at fixed success rates and read off what an update and a pilot cost.

Methods that screen or refill cost what chance makes of them; the mean over some updates has a
standard error, which is reported. Methods with subsets run on *one* subset of its true size, because
some of them (``cures-released``) spend a different number of rollouts on subsets of another size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from cures import loop
from cures.checks import FloatArray, InWords, as_int, fail
from cures.records import Plan
from cures.schedulers import SCHEDULERS, make_scheduler
from cures.schedulers.driver import Scheduler
from cures.schedulers.subsets import SubsetScheduler
from sim.planning.frozen_host import FrozenHost
from sim.planning.schedule import Cycle, Rates
from sim.planning.tally import Tally

LARGEST_POOL = 2**20  # prompts of one subset that are really run: time and memory stay bounded
SAMPLE = 2**17  # prompts that methods without subsets are run on, at most
WARM_UP = 5  # updates before the mean begins: buffers fill
BATCHES = 10  # of consecutive updates; their means are nearly independent
ENDLESS = 2**50  # rollouts: the measurement stops by updates


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates of a scheduler, and how well they are known.

    Attributes
    ----------
    rates : Rates
    error : float, optional
        Standard error of ``rates.update.generated``, from means of batches of consecutive updates;
        ``None`` where one update was all there was.
    updates, prompts : int
        What it rests on: updates, and prompts of the pool (or subset) they were run on.
    counters : dict of str to int
        Rare events of the scheduler: partial batches, fall-backs.
    """

    rates: Rates
    error: float | None
    updates: int
    prompts: int
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class Protocol:
    """What all arms share.

    Attributes
    ----------
    num_prompts, batch_size, budget : int
        N, m and N of an update.
    updates : int
        Updates to average over.
    seed : int
    """

    num_prompts: int
    batch_size: int
    budget: int
    updates: int
    seed: int


def measure(
    name: str,
    options: Mapping[str, Any],
    protocol: Protocol,
    rates_of: Callable[[int], FloatArray],
) -> Measured:
    """What a scheduler spends per update and on pilots.

    Parameters
    ----------
    name : str
        Scheduler.
    options : mapping
        Its keywords, beside those of the protocol.
    protocol : Protocol
    rates_of : callable
        Number of prompts -> their success rates.

    Raises
    ------
    ValueError
        If the scheduler refuses an option, in its own words, or trains on its pilots.
    """
    if issubclass(SCHEDULERS[name], SubsetScheduler):
        return _measure_subset(name, options, protocol, rates_of)
    pool = min(protocol.num_prompts, max(SAMPLE, 4 * protocol.batch_size))
    scheduler, host = _build(name, options, protocol, rates_of(pool))
    every = [own for _, own in islice(_spent(scheduler, host), WARM_UP + protocol.updates)]
    updates = every[WARM_UP:]
    size = max(len(updates) // BATCHES, 1)
    batches = [updates[i : i + size] for i in range(0, len(updates) - size + 1, size)]
    rates = Rates(sum(updates, Tally()) / len(updates), Tally(), None)
    return Measured(rates, _error(batches), len(updates), pool, dict(scheduler.counters))


def _measure_subset(
    name: str,
    options: Mapping[str, Any],
    protocol: Protocol,
    rates_of: Callable[[int], FloatArray],
) -> Measured:
    """Whole visits of one subset, or the begin of one where the subset is large."""
    where = f"plan: {name}"
    if options.get("subset_N") is not None:
        fail(where, "subset_N", "left out: subsets are equal parts here", InWords("given"))
    num_subsets = as_int(where, "num_subsets", options.get("num_subsets"), 1, protocol.num_prompts)
    pool = min(-(-protocol.num_prompts // num_subsets), LARGEST_POOL)
    scheduler, host = _build(name, {**options, "num_subsets": 1}, protocol, rates_of(pool))
    assert isinstance(scheduler, SubsetScheduler)
    if scheduler.train_pilots:
        fail(where, "train_pilots", "False: updates on pilots are not costed", True)
    steps = scheduler.steps_per_subset
    count = -(-protocol.updates // steps) if pool <= SAMPLE else 1
    pilots, visits = _visits(_spent(scheduler, host), count, min(steps, protocol.updates))
    updates = [update for visit in visits for update in visit]
    mean = sum(updates, Tally()) / len(updates)
    # a visit settles its own account (gvm's quotas add up over it), so visits are the batches
    batches = visits if len(visits) > 1 else [[update] for update in updates]
    # gvm passes over batches without a live prompt, so a visit may have fewer updates than M
    length = steps if steps > protocol.updates else len(updates) / len(visits)
    rates = Rates(
        mean,
        sum(pilots, Tally()) / (len(visits) * pool),
        Cycle(protocol.num_prompts, num_subsets, length),
    )
    return Measured(rates, _error(batches), len(updates), pool, dict(scheduler.counters))


def _visits(
    spent: Iterator[tuple[Tally, Tally]], count: int, most: int
) -> tuple[list[Tally], list[list[Tally]]]:
    """Pilots and updates of ``count`` visits, ``most`` updates of each at most."""
    pilots: list[Tally] = []
    visits: list[list[Tally]] = []
    for pilot, update in spent:
        if pilot.rounds:
            if len(visits) == count:
                break
            pilots.append(pilot)
            visits.append([])
        visits[-1].append(update)
        if len(visits) == count and len(visits[-1]) == most:
            break
    return pilots, visits


def _spent(scheduler: Scheduler, host: FrozenHost) -> Iterator[tuple[Tally, Tally]]:
    """What the pilots ahead of every update took, and what the update itself did.

    Rollouts that wait in a buffer are left out of ``generated``: they belong to the update that will
    train on them or drop them.
    """
    settled = trained = mixed = 0
    for record in loop.run(scheduler, host, rollouts=ENDLESS):
        pilots = _asked([plan for plan in record.plans if plan.is_pilot_B.any()])
        others = _asked([plan for plan in record.plans if not plan.is_pilot_B.any()])
        ledger = scheduler.ledger
        now = (ledger.generated - ledger.pending, ledger.trained, host.mixed)
        update = replace(
            others,
            updates=1,
            generated=now[0] - settled - pilots.generated,
            trained=now[1] - trained,
            mixed=now[2] - mixed,
        )
        settled, trained, mixed = now
        # no pilot waits for another: those of one subset are one round, in however many plans
        yield replace(pilots, rounds=min(pilots.rounds, 1)), update


def _asked(plans: Sequence[Plan]) -> Tally:
    """What plans ask of the engine; an empty plan asks nothing."""
    return Tally(
        rounds=sum(len(plan) > 0 for plan in plans),
        visits=sum(len(plan) for plan in plans),
        generated=sum(plan.num_rollouts for plan in plans),
        measured=sum(plan.num_rollouts for plan in plans if plan.wants_moments),
    )


def _build(
    name: str, options: Mapping[str, Any], protocol: Protocol, success_rate_N: FloatArray
) -> tuple[Scheduler, FrozenHost]:
    """Scheduler and host on a pool of their own size."""
    root = np.random.SeedSequence(protocol.seed, spawn_key=(1,))
    scheduler_seed, host_seed = (int(word) for word in root.generate_state(2))
    told: dict[str, Any] = {}
    host = FrozenHost(success_rate_N, seed=host_seed)
    if name == "oracle":
        told["true_success_rate"] = host.true_success_rate
    if name == "staged":  # the measured updates go through all stages
        told["prior_success_rate_N"] = success_rate_N
        told["total_rollouts"] = (WARM_UP + protocol.updates) * protocol.budget
    scheduler = make_scheduler(
        name,
        num_prompts=success_rate_N.size,
        batch_size=protocol.batch_size,
        budget=protocol.budget,
        seed=scheduler_seed,
        **told,
        **options,
    )
    return scheduler, host


def _error(batches: Sequence[Sequence[Tally]]) -> float | None:
    """Standard error of the rollouts per update from means of batches; ``None`` from a single one."""
    means = [float(np.mean([update.generated for update in batch])) for batch in batches]
    return float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None
