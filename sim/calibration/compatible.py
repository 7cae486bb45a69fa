r"""All populations that fit, not one: intervals that contain what few rollouts cannot tell.

With t trials per prompt the counts depend on the population through its first t moments only. Two
populations with these moments in common give the same data, for any number of prompts, and may
differ in everything else. So a bootstrap around one estimate, however honest about sampling, is too
narrow. Here an interval is the range of a quantity over *every* population whose implied counts lie
in a simultaneous confidence region of the observed ones [1]_. The region is a box, so the two ends
are linear programs. If the region holds the truth, all intervals do at once: they cover jointly.

References
----------
.. [1] N. Ignatiadis, S. Wager, "Confidence intervals for nonparametric empirical Bayes analysis",
   JASA 117(539), 2022: F-localization.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.stats import beta

from cures.checks import FloatArray, IntArray, as_float
from sim.calibration.mixture import Counts
from sim.calibration.quantities import Quantity

# Bins of successes per number of trials: more would widen every band without telling more.
MOST_BINS, PROMPTS_PER_BIN = 16, 25


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Counts that are not surprising: ``low_E <= event_E_K @ weight_K <= high_E``.

    Attributes
    ----------
    event_E_K : ndarray of float64, shape (E, K)
        Chance of an event about the counts of a prompt, at every success rate.
    low_E, high_E : ndarray of float64, shape (E,)
        Simultaneous confidence limits of the chance of that event in the population.
    """

    event_E_K: FloatArray
    low_E: FloatArray
    high_E: FloatArray


def confidence_region(counts: Counts, rate_K: FloatArray, confidence: float = 0.95) -> Region:
    """Clopper-Pearson limits for every cell and every tail, simultaneous by Bonferroni.

    Parameters
    ----------
    counts : Counts
    rate_K : ndarray of float64, shape (K,)
    confidence : float in (0, 1)
        That *all* limits hold, exactly, for any number of prompts.

    Notes
    -----
    Among the prompts with t trials, "s successes" and "at least s successes" are events whose numbers
    are binomial. Cells pin down where counts lie, tails pin down means: with cells alone the errors
    of many add up. Numbers of trials share the allowed error in proportion to their prompts, so
    a rare one costs the others nothing.
    """
    as_float("confidence_region", "confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    events, number, total, error = [], [], [], []
    for t in np.unique(counts.trial_C):
        is_t = counts.trial_C == t
        seen = np.zeros(t + 1, dtype=np.int64)
        seen[counts.success_C[is_t]] = counts.prompts_C[is_t]
        everything = Counts(np.arange(t + 1), np.full(t + 1, t), seen)
        prompts = int(seen.sum())
        start = _bin_starts(int(t), prompts)
        cell = np.add.reduceat(everything.likelihood(rate_K), start)
        in_cell = np.add.reduceat(seen, start)
        # the first and the last tail are cells or complements of cells already
        tail = np.cumsum(cell[::-1], axis=0)[::-1][2:-1]
        in_tail = np.cumsum(in_cell[::-1])[::-1][2:-1]
        size = len(cell) + len(tail)
        events += [cell, tail]
        number += [in_cell, in_tail]
        total += [np.full(size, prompts)]
        error += [np.full(size, (1.0 - confidence) * prompts / counts.prompts / size)]
    low, high = _clopper_pearson(*(np.concatenate(a) for a in (number, total, error)))
    return Region(np.concatenate(events), low, high)


def _bin_starts(trial: int, prompts: int) -> IntArray:
    """First success count of each bin: one per count, or about equal steps in arcsin(sqrt(s/t))."""
    bins = min(MOST_BINS, max(2, prompts // PROMPTS_PER_BIN))
    if trial + 1 <= bins:
        return np.arange(trial + 1)
    edge = (trial + 1) * np.sin(np.linspace(0.0, np.pi / 2.0, bins + 1)[:-1]) ** 2
    start = np.unique(np.floor(edge).astype(np.int64))
    return np.union1d(start, [0, 1, trial]) if bins == MOST_BINS else start


def _clopper_pearson(
    number_E: IntArray, total_E: IntArray, error_E: FloatArray
) -> tuple[FloatArray, FloatArray]:
    with np.errstate(invalid="ignore"):  # a beta law with a parameter of 0: replaced
        low = beta.ppf(error_E / 2.0, number_E, total_E - number_E + 1)
        high = beta.isf(error_E / 2.0, number_E + 1, total_E - number_E)
    return (
        np.where(number_E == 0, 0.0, low),
        np.where(number_E == total_E, 1.0, high),
    )


def compatible_intervals(
    region: Region,
    quantities: Sequence[Quantity],
    on_progress: Callable[[], None] = lambda: None,
) -> FloatArray:
    """Smallest and largest value of each quantity over every population in the region.

    Parameters
    ----------
    region : Region
    quantities : sequence of Quantity
    on_progress : callable
        Called after every quantity.

    Returns
    -------
    ndarray of float64, shape (len(quantities), 2)

    Raises
    ------
    ValueError
        If no population is in the region: the counts are no mixture of binomials.
    RuntimeError
        If the solver fails otherwise.

    Notes
    -----
    Populations on the grid of success rates stand for all. The events and the smooth quantities
    change little between its points; where a quantity jumps, :class:`Quantity` says what a bound may
    use.
    """
    intervals = []
    for quantity in quantities:
        low = _extreme(region, quantity.lowest_K)
        high = -_extreme(region, -quantity.highest_K)
        intervals.append((low, high))
        on_progress()
    return np.array(intervals)


def _extreme(region: Region, cost_K: FloatArray) -> float:
    result = linprog(
        cost_K,
        A_ub=np.vstack([region.event_E_K, -region.event_E_K]),
        b_ub=np.concatenate([region.high_E, -region.low_E]),
        A_eq=np.ones((1, cost_K.size)),
        b_eq=[1.0],
        bounds=(0.0, 1.0),
        method="highs",
    )
    if result.status == 2:
        raise ValueError(
            "calibrate: counts must be those of independent rollouts at one success rate per prompt; "
            "no population of success rates gives these (rollouts of a prompt that depend on each "
            "other, or trials stopped by their outcome, look so)"
        )
    if result.status != 0 or result.fun is None:
        raise RuntimeError(f"compatible_intervals: linear program failed: {result.message}")
    return float(result.fun)
