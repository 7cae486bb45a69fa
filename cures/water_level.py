r"""Closed form of the greedy rule for quotas: the price of the last rollout, then the margin.

The greedy rule gives prompt i its n-th rollout iff :math:`\sigma_i^2 / (n (n-1))` is among the
largest marginal values. At a price :math:`1 / t^2` this is :math:`n (n-1) \le (\sigma_i t)^2`, so
the count is :math:`\lfloor 1/2 + \sqrt{1/4 + (\sigma_i t)^2} \rfloor` clipped to the bounds, and
only the scalar t, the water level, must be found. The search runs in floating point and keeps a
margin of a few roundings on each side; the rollouts inside the margin are compared exactly, as
fractions. So the result is that of the greedy rule in exact arithmetic, for any sigma that float64
can hold.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from cures.checks import FloatArray, IntArray

_MARGIN = 2.0**-46  # 64 roundings; a count in float64 is off by fewer than 8


@np.errstate(over="ignore", under="ignore")  # y = inf: at the maximum; y = 0: at the minimum
def fill_to_level(sigma_B: FloatArray, budget: int, low_B: IntArray, high_B: IntArray) -> IntArray:
    """Whole rollouts that minimise the sum of sigma^2 / n; all sigma > 0, ``budget`` feasible.

    Bounds satisfy ``1 <= low <= high <= 2**52``, ``budget <= 2**52``; ties go to the lowest index.
    """
    if budget == int(low_B.sum()):
        return low_B.copy()
    exponent = _level_exponent(sigma_B, budget, low_B, high_B)
    scaled_B = np.ldexp(sigma_B, exponent)
    below, above = _bracket(scaled_B, budget, low_B, high_B)
    base_B = _count(scaled_B * (below * (1.0 - _MARGIN)), low_B, high_B).astype(np.int64)
    upper_B = _count(scaled_B * (above * (1.0 + _MARGIN)), low_B, high_B).astype(np.int64)
    span_B = upper_B - base_B
    row = np.repeat(np.arange(sigma_B.size), span_B)
    start = np.cumsum(span_B) - span_B
    nth = base_B[row] + 1 + np.arange(row.size) - start[row]
    chosen = _largest_marginals(sigma_B, scaled_B, row, nth, budget - int(base_B.sum()))
    return base_B + np.bincount(row[chosen], minlength=sigma_B.size).astype(np.int64)


def _count(y_B: FloatArray, low_B: IntArray, high_B: IntArray) -> FloatArray:
    """Rollouts per prompt at water level t, with y = sigma t.

    Whole numbers as float64: their sum is exact up to 2**53, and cannot wrap around as int64 can.
    """
    count_B = np.floor(0.5 + np.sqrt(0.25 + y_B * y_B))
    return np.asarray(np.clip(count_B, low_B, high_B))


def _level_exponent(sigma_B: FloatArray, budget: int, low_B: IntArray, high_B: IntArray) -> int:
    """The integer E with total count <= budget at t = 2^E and >= budget at 2^(E+1)."""

    def total(exponent: int) -> float:
        return float(_count(np.ldexp(sigma_B, exponent), low_B, high_B).sum())

    largest = math.frexp(float(sigma_B.max()))[1]
    smallest = math.frexp(float(sigma_B.min()))[1]
    # At 2^-largest every y < 1, so all are at their minimum; at the other end y >= budget for all.
    low, high = -largest, budget.bit_length() + 1 - smallest
    relative = float(np.ldexp(sigma_B, -largest).sum())
    guess = min(max(math.floor(math.log2(budget / relative)) - largest, low), high - 1)
    step = 1
    if total(guess) <= budget:
        low = guess
        while low + step < high and total(low + step) <= budget:
            low, step = low + step, 2 * step
        high = min(low + step, high)
    else:
        high = guess
        while high - step > low and total(high - step) > budget:
            high, step = high - step, 2 * step
        low = max(high - step, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= budget else (low, middle)
    return low


def _bracket(
    scaled_B: FloatArray, budget: int, low_B: IntArray, high_B: IntArray
) -> tuple[float, float]:
    """Levels in [1, 2] around the budget, with about one rollout per prompt in between.

    One per prompt, since equal sigmas all gain theirs at the same level.
    """
    few = 64 + scaled_B.size

    def excess(level: float) -> float:
        return float(_count(scaled_B * level, low_B, high_B).sum()) - budget

    below, above = 1.0, 2.0
    at_below, at_above = excess(below), excess(above)
    while at_above - at_below > few and above - below > _MARGIN:
        # The count is nearly linear in the level; the detour by the middle bounds the worst case.
        secant = below - at_below * (above - below) / (at_above - at_below)
        for level in (secant, 0.5 * (below + above)):
            if below < level < above:
                value = excess(level)
                if value <= 0:
                    below, at_below = level, value
                else:
                    above, at_above = level, value
    return below, above


def _largest_marginals(
    sigma_B: FloatArray, scaled_B: FloatArray, row: IntArray, nth: IntArray, wanted: int
) -> IntArray:
    """Indices of the ``wanted`` candidates (row gets its nth rollout) of largest marginal value."""
    if wanted == 0:
        return np.zeros(0, dtype=np.int64)
    if wanted == row.size:
        return np.arange(row.size)
    marginal = (scaled_B[row] / nth) * (scaled_B[row] / (nth - 1))
    cut = np.partition(marginal, row.size - wanted)[row.size - wanted]
    sure = np.flatnonzero(marginal > cut * (1.0 + _MARGIN))
    doubtful = np.flatnonzero(np.abs(marginal - cut) <= cut * _MARGIN)
    chosen = _exact_largest(sigma_B[row[doubtful]], nth[doubtful], wanted - sure.size)
    return np.concatenate([sure, doubtful[chosen]])


def _exact_largest(sigma: FloatArray, nth: IntArray, wanted: int) -> IntArray:
    """Indices of the ``wanted`` largest sigma^2 / (n (n-1)) in exact arithmetic, ties in order."""
    if wanted == sigma.size or (np.all(sigma == sigma[0]) and np.all(nth == nth[0])):
        return np.arange(wanted)
    order = np.lexsort((nth, sigma))  # equal pairs side by side: one fraction per distinct pair
    is_new = np.ones(order.size, dtype=bool)
    is_new[1:] = (np.diff(sigma[order]) != 0.0) | (np.diff(nth[order]) != 0)
    pair = np.empty(order.size, dtype=np.int64)
    pair[order] = np.cumsum(is_new) - 1
    value = [
        Fraction(float(s)) ** 2 / (int(n) * (int(n) - 1))
        for s, n in zip(sigma[order[is_new]], nth[order[is_new]], strict=True)
    ]
    place = {v: i for i, v in enumerate(sorted(set(value), reverse=True))}
    rank = np.array([place[v] for v in value])
    return np.argsort(rank[pair], kind="stable")[:wanted]
