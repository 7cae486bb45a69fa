"""How fast the simulated policy must learn to end where the real one did.

A learning rate of the real model means nothing to the simulator. What carries over is the gain: the
simulated policy, trained by ``uniform`` on the calibrated population for as many updates, must end at
the mean success rate that the log's gain in logits leads to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from cures import loop
from cures.schedulers import make_scheduler
from sim.host import SimHost
from sim.population_file import EmpiricalLaw
from sim.populations import RATE_RANGE, make_population
from sim.settings import LEARNING_RATES

SLOWEST, FACTOR = 1e-5, 3.0
# In units of the policy's default. Beyond, steps of Adam are as long as the parameters they move,
# and gains level off.
FASTEST = 30.0
TRANSFERS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)  # tried in turn where less cannot reach the gain
SEEDS = 2  # simulated runs whose mean is matched
PRECISION = 0.05  # of the logarithm of the learning rate


@dataclass(frozen=True, slots=True)
class Protocol:
    """The training run that is imitated.

    Attributes
    ----------
    updates, batch_size, group_size, pool : int
    logit_gain : float
        Mean gain of the pool's logits over these updates.
    seed : int
    """

    updates: int
    batch_size: int
    group_size: int
    pool: int
    logit_gain: float
    seed: int


@dataclass(frozen=True, slots=True)
class Learning:
    """What was matched.

    Attributes
    ----------
    start, target : float
        Mean success rate of the population before, and with every logit raised by the gain.
    learning_rate : float or None
        For Adam; ``None`` if there is no gain to match, or no learning rate reaches it.
    transfer : float or None
        That of the population, or the smallest of :data:`TRANSFERS` with which the gain is reached.
    is_transfer_raised : bool
        Whether it is the latter.
    """

    start: float
    target: float
    learning_rate: float | None
    transfer: float | None
    is_transfer_raised: bool


def match_learning_rate(
    law: EmpiricalLaw, protocol: Protocol, on_progress: Callable[[], None] = lambda: None
) -> Learning:
    """Find the learning rate under which ``uniform`` gains as much as the log shows.

    Parameters
    ----------
    law : EmpiricalLaw
        Population, policy, transfer, drift.
    protocol : Protocol
    on_progress : callable
        Called after every simulated run.

    Notes
    -----
    A simulated policy has few parameters for many prompts. With little transfer its prompts pull it
    in as many directions as it has, and no learning rate lifts them all; a real model has room for
    each. The transfer is then raised, which keeps the gain and gives up the separation.
    """
    rate = np.clip(law.success_rate_K, *RATE_RANGE)
    start = float(law.weight_K @ rate)
    target = float(law.weight_K @ expit(logit(rate) + protocol.logit_gain))
    if target <= start:
        return Learning(start, target, None, law.transfer, False)
    found = _learning_rate(law, protocol, target, on_progress)
    if found is not None or law.transfer is None:
        return Learning(start, target, found, law.transfer, False)
    for transfer in (t for t in TRANSFERS if t > law.transfer):
        found = _learning_rate(replace(law, transfer=transfer), protocol, target, on_progress)
        if found is not None:
            return Learning(start, target, found, transfer, True)
    return Learning(start, target, None, law.transfer, False)


def _learning_rate(
    law: EmpiricalLaw, protocol: Protocol, target: float, on_progress: Callable[[], None]
) -> float | None:
    """Smallest learning rate that reaches ``target``; ``None`` if none does."""

    def excess(log_rate: float) -> float:
        ends = [
            _end_of_run(law, protocol, float(np.exp(log_rate)), protocol.seed + index, on_progress)
            for index in range(SEEDS)
        ]
        return float(np.mean(ends)) - target

    fastest = FASTEST * LEARNING_RATES["adam"][law.policy]
    high = SLOWEST
    while excess(float(np.log(high))) < 0.0:
        high *= FACTOR
        if high > fastest:
            return None
    if high == SLOWEST:
        return SLOWEST
    found = brentq(excess, np.log(high / FACTOR), np.log(high), xtol=PRECISION)
    return float(np.exp(found))


def _end_of_run(
    law: EmpiricalLaw,
    protocol: Protocol,
    learning_rate: float,
    seed: int,
    on_progress: Callable[[], None],
) -> float:
    """Mean true success rate of the pool after a run of ``uniform``."""
    still = replace(law, drift_sd=0.0)  # what moves by itself is no gain
    population = make_population(
        still, law.policy, num_pool=protocol.pool, num_held_out=1, seed=seed
    )
    host = SimHost(population, seed=seed, learning_rate=learning_rate, has_moments=False)
    budget = protocol.batch_size * protocol.group_size
    scheduler = make_scheduler(
        "uniform", num_prompts=protocol.pool, batch_size=protocol.batch_size, budget=budget,
        seed=seed + SEEDS,
    )  # fmt: skip
    for _ in loop.run(scheduler, host, rollouts=budget * protocol.updates):
        pass
    on_progress()
    return float(host.true_success_rate().mean())
