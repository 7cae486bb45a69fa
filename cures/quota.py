r"""Split a rollout budget over prompts, in whole rollouts, exactly optimally.

Given the drawn prompts, the variance of the gradient estimate is proportional to
:math:`\sum_i \sigma_i^2 / n_i`. Over real numbers its minimum under :math:`\sum_i n_i = N` is
:math:`n_i \propto \sigma_i` (Eq. 20). Over whole numbers with bounds it is reached by handing out
one rollout after another, each to the prompt whose variance it lowers most (Fox 1966), because
every :math:`\sigma^2 / n` is convex. :func:`allocate` computes the result of that greedy rule
without running it; :func:`allocate_by_value` does the same for any concave value of a group.

In the data flow: ``gradient_std -> quota -> Plan``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, IntArray, as_choice, as_float_array, as_int, as_int_array, fail
from cures.marginal import decreasing_prefix
from cures.water_level import fill_to_level

LARGEST_BUDGET = 2**52  # sums of counts up to twice this are exact in float64


def allocate(
    sigma: ArrayLike,
    budget: int,
    *,
    min_quota: int | ArrayLike = 2,
    max_quota: int | ArrayLike | None = None,
    infeasible: str = "raise",
) -> IntArray:
    r"""Split a budget so that :math:`\sum_i \sigma_i^2 / n_i` is as small as whole numbers allow.

    Parameters
    ----------
    sigma : array_like of float, shape (B,)
        Standard deviation of one rollout's gradient per prompt, >= 0; only ratios matter. A prompt
        drawn k times counts as one with k sigma.
    budget : int
        Rollouts N to hand out, at most 2**52.
    min_quota, max_quota : int or array_like of int, optional
        Inclusive bounds per prompt, ``1 <= min <= max``. A group of one has no group baseline,
        hence the default 2. None: no upper bound.
    infeasible : {"raise", "drop"}
        What to do when the budget is below the sum of the minima. "drop" serves only the k prompts
        with the largest sigma (ties: lowest index), k the largest number whose minima fit, with the
        whole budget; the others get 0. A budget above what the served can take is always an error,
        and so is one that is too small for the largest sigma alone.

    Returns
    -------
    ndarray of int64, shape (B,)
        Sums to ``budget`` exactly. Unless prompts were dropped, it lies within the bounds and no
        entry falls when the budget grows.

    Raises
    ------
    ValueError
        If a bound, sigma or the budget is out of range; the range is named with this call's
        numbers.

    Notes
    -----
    Integer form of Eq. 20. Each next rollout goes to the largest
    :math:`\sigma_i^2 / (n_i (n_i + 1))`, compared in exact rational arithmetic where floating point
    cannot tell; ties go to the lowest index. A prompt with sigma 0 gets its minimum unless every
    other prompt is at its maximum; prompts of sigma 0 share what is left as equally as their bounds
    allow. O(B log B) at worst; the marginal price is found by root search, not by handing out
    rollouts.

    References
    ----------
    .. [1] B. Fox, "Discrete optimization via marginal analysis", Management Science 13(3), 1966.

    Examples
    --------
    >>> allocate([0.5, 0.3, 0.1], budget=12)
    array([6, 4, 2])
    >>> allocate([0.5, 0.3, 0.1], budget=5, infeasible="drop")
    array([3, 2, 0])
    """
    where = "allocate"
    sigma_B = as_float_array(where, "sigma", sigma, low=0.0)
    total = as_int(where, "budget", budget, 0, LARGEST_BUDGET)
    low_B, high_B = _as_bounds(where, sigma_B.size, total, min_quota, max_quota)
    rule = as_choice(where, "infeasible", infeasible, ("raise", "drop"))
    served = np.arange(sigma_B.size)
    if rule == "drop" and total < _exact_sum(low_B):
        ranked = np.argsort(-sigma_B, kind="stable")
        # Minima are capped at budget + 1: one that large never fits, and the sums cannot overflow.
        cost = np.cumsum(np.minimum(low_B[ranked], total + 1).astype(np.float64))
        served = np.sort(ranked[: int(np.searchsorted(cost, total, side="right"))])
        if sigma_B.size and total and not served.size:
            first = int(low_B[ranked[0]])
            fail(where, "budget", f"0 or >= {first}, the minimum of the largest sigma", total)
    _check_feasible(where, total, low_B[served], high_B[served])
    quota_B = np.zeros(sigma_B.size, dtype=np.int64)
    quota_B[served] = _allocate_feasible(sigma_B[served], total, low_B[served], high_B[served])
    return quota_B


def _allocate_feasible(
    sigma_B: FloatArray, budget: int, low_B: IntArray, high_B: IntArray
) -> IntArray:
    """Positive sigmas first; what they cannot take is spread evenly over those of sigma 0."""
    quota_B = low_B.copy()
    is_positive = sigma_B > 0.0
    left = budget - int(low_B.sum())
    # Equal sigmas of 1 make "as equal as possible" the same problem, sum of 1 / n.
    for group, weight_B in ((is_positive, sigma_B), (~is_positive, np.ones_like(sigma_B))):
        low, high = low_B[group], high_B[group]
        extra = min(left, _exact_sum(high) - int(low.sum()))
        if extra:
            quota_B[group] = fill_to_level(weight_B[group], int(low.sum()) + extra, low, high)
            left -= extra
    return quota_B


def _as_bounds(
    where: str, size: int, budget: int, min_quota: Any, max_quota: Any
) -> tuple[IntArray, IntArray]:
    """Bounds as arrays; no maximum is larger than the budget or the prompt's own minimum need."""

    def as_bound(parameter: str, value: Any) -> IntArray:
        if np.ndim(value) == 0:
            return np.full(size, as_int(where, parameter, value, 1, LARGEST_BUDGET), dtype=np.int64)
        return as_int_array(where, parameter, value, length=size, low=1, high=LARGEST_BUDGET)

    low_B = as_bound("min_quota", min_quota)
    if max_quota is None:
        return low_B, np.maximum(low_B, budget)
    high_B = as_bound("max_quota", max_quota)
    is_bad = high_B < low_B
    if is_bad.any():
        index = int(np.flatnonzero(is_bad)[0])
        legal = f">= min_quota ({low_B[index]} at index {index})"
        fail(where, "max_quota", legal, int(high_B[index]))
    return low_B, high_B


def _exact_sum(value: IntArray) -> int:
    """Sum of non-negative int64 as a Python int: many maxima near 2**52 would overflow int64."""
    return (int((value >> 32).sum()) << 32) + int((value & 0xFFFFFFFF).sum())


def _check_feasible(where: str, budget: int, low_B: IntArray, high_B: IntArray) -> None:
    smallest, largest = _exact_sum(low_B), _exact_sum(high_B)
    if not smallest <= budget <= largest:
        legal = f"in [{smallest}, {largest}] for {low_B.size} served prompts with these bounds"
        fail(where, "budget", legal, budget)


def allocate_by_value(
    marginal_value: Callable[[IntArray], ArrayLike],
    budget: int,
    *,
    min_quota: int | ArrayLike,
    max_quota: int | ArrayLike | None,
    num_groups: int | None = None,
) -> IntArray:
    r"""Split a budget so that a sum of concave values, one per group, is as large as possible.

    Parameters
    ----------
    marginal_value : callable
        ``marginal_value(n_B)`` -> array of shape (B,): what the (n+1)-th rollout is worth to each
        group that has n. It must not increase with n. It is called with every entry of ``n_B``
        between the group's minimum and maximum.
    budget : int
        Rollouts to hand out.
    min_quota, max_quota : int or array_like of int
        Inclusive bounds per group, ``1 <= min <= max``; None: no upper bound.
    num_groups : int, optional
        B; needed when ``min_quota`` is a single number.

    Returns
    -------
    ndarray of int64, shape (B,)
        Sums to ``budget`` exactly and lies within the bounds.

    Raises
    ------
    ValueError
        If the budget cannot be met, a value is not finite, or a marginal value increases with n by
        more than rounding (1e-9 of itself plus 1e-12 of the largest): greedy is not optimal then.
        The whole range that the budget lets a group reach is checked.

    Notes
    -----
    Ties go to the lowest index, except that rollouts of value exactly 0 go to the group that has
    the fewest. With L the largest number of rollouts a group could get beyond its minimum, this
    calls ``marginal_value`` L times: give a ``max_quota`` when the budget is large.

    Examples
    --------
    The chance of a mixed group of n rises by p^n (1-p) + (1-p)^n p with one more rollout.

    >>> p = np.array([0.5, 0.1])
    >>> allocate_by_value(lambda n: p**n * (1 - p) + (1 - p) ** n * p, 20,
    ...                   min_quota=1, max_quota=None, num_groups=2)
    array([ 6, 14])
    """
    where = "allocate_by_value"
    if num_groups is None and np.ndim(min_quota) == 0:
        fail(where, "num_groups", "given when min_quota is a single number", num_groups)
    groups = np.size(min_quota) if num_groups is None else num_groups
    size = as_int(where, "num_groups", groups, 0)
    total = as_int(where, "budget", budget, 0, LARGEST_BUDGET)
    low_B, high_B = _as_bounds(where, size, total, min_quota, max_quota)
    _check_feasible(where, total, low_B, high_B)
    left = total - int(low_B.sum())
    if left == 0:
        return low_B
    gain, group, rank = decreasing_prefix(marginal_value, low_B, high_B, left)
    # Order: value; among zeros the fewest rollouts; then index.
    level = np.where(gain == 0.0, low_B[group] + rank, 0)
    chosen = np.lexsort((group, level, -gain))[:left]
    return low_B + np.bincount(group[chosen], minlength=size).astype(np.int64)


def round_to_total(weight: ArrayLike, total: int) -> IntArray:
    r"""Round shares ``total * weight / sum(weight)`` to whole numbers with the exact sum.

    Parameters
    ----------
    weight : array_like of float, shape (B,)
        Non-negative; a weight of 0 gets 0.
    total : int
        Sum to reach, in [0, 2**52]; positive only if some weight is.

    Returns
    -------
    ndarray of int64, shape (B,)
        Non-negative, sums to ``total``.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are 0 while ``total`` is not.

    Notes
    -----
    Largest remainders: every share is rounded down, then the largest remainders get one more (ties:
    lowest index). Unlike :func:`allocate` this is neither optimal nor monotone in ``total``; it is
    there for published rules that round.

    Examples
    --------
    >>> round_to_total([6.0, 6.0, 2.0], 10), round_to_total([6.0, 6.0, 2.0], 11)
    (array([4, 4, 2]), array([5, 5, 1]))
    """
    where = "round_to_total"
    weight_B = as_float_array(where, "weight", weight, low=0.0)
    goal = as_int(where, "total", total, 0, LARGEST_BUDGET)
    largest = float(weight_B.max(initial=0.0))
    if largest == 0.0:
        if goal:
            fail(where, "total", "0 when no weight is positive", goal)
        return np.zeros(weight_B.size, dtype=np.int64)
    scaled_B = weight_B / largest
    share_B = scaled_B / math.fsum(scaled_B) * goal
    quota_B = np.floor(share_B).astype(np.int64)
    remainder_B = share_B - quota_B
    missing = goal - int(quota_B.sum())
    while missing:  # once, but for totals so large that the shares themselves are rounded
        sign = 1 if missing > 0 else -1
        movable = np.flatnonzero((weight_B > 0.0) & (quota_B + sign >= 0))
        first = np.lexsort((sign * movable, -sign * remainder_B[movable]))
        quota_B[movable[first[: abs(missing)]]] += sign
        missing = goal - int(quota_B.sum())
    return quota_B
