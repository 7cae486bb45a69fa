r"""From potentials to prompts: the sampling distribution and the draws.

Maximising the expected improvement plus an entropy bonus over distributions on the pool gives
:math:`\rho_i \propto \exp(u_i / \tau)` (Eq. 14), u the potential and tau the temperature. This
module has that map, its inverse in terms of the effective sample size, and draws with and without
replacement that obey it exactly.

In the data flow: ``potential -> sampling -> quota``. Every quantity that a plan records is the same
to the last bit when prompts are numbered differently: sums are taken with an order-free rounding.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from cures.checks import FloatArray, IntArray, InWords, as_float, as_float_array, as_int, fail

_LARGEST = 8e307  # of a potential: the difference of two such numbers is still finite
_UNDERFLOW = 800.0  # exp(-800) is 0 in float64


def order_free_sum(value_N: FloatArray) -> float:
    """Sum floats of size below 1e300 such that permuting them changes no bit.

    Each pass rounds all terms to a grid so coarse that their sum is exact, and leaves the rest to
    the next pass; three passes keep the result within a unit in the last place of the sum of sizes
    for up to 1e6 terms.
    """
    total, rest = 0.0, value_N
    for _ in range(3):
        largest = float(np.max(np.abs(rest), initial=0.0))
        if largest == 0.0:
            break
        anchor = math.ldexp(1.5, math.frexp(largest)[1] + (value_N.size + 1).bit_length())
        on_grid = (rest + anchor) - anchor
        total += float(on_grid.sum())
        rest = rest - on_grid
    return total


def sampling_distribution(potential: ArrayLike, temperature: float) -> FloatArray:
    r"""Compute the entropy-regularised optimal distribution over prompts.

    .. math:: \rho_i = e^{u_i / \tau} / \sum_j e^{u_j / \tau}

    Parameters
    ----------
    potential : array_like of float, shape (N,)
        u, one value per prompt, N >= 1; any sign, since only differences matter.
    temperature : float
        tau > 0, in units of the potential. Towards 0 the prompts of largest potential share all the
        mass equally; towards infinity all prompts do.

    Returns
    -------
    ndarray of float64, shape (N,)
        Non-negative, sums to 1 within rounding; no temperature overflows.

    Raises
    ------
    ValueError
        If the pool is empty, a potential is not finite, or the temperature is not positive.

    Notes
    -----
    Eq. 14. O(N).

    Examples
    --------
    >>> sampling_distribution([0.5, 0.5, 0.0], temperature=1e-300)
    array([0.5, 0.5, 0. ])
    """
    where = "sampling_distribution"
    potential_N = _as_potential(where, potential)
    tau = as_float(where, "temperature", temperature, 0.0, open_low=True)
    return _softmax(potential_N - potential_N.max(), tau)


def _as_potential(where: str, potential: ArrayLike) -> FloatArray:
    potential_N = as_float_array(where, "potential", potential, low=-_LARGEST, high=_LARGEST)
    if potential_N.size == 0:
        fail(where, "potential", "of at least one prompt", InWords("an empty array"))
    return potential_N


def _softmax(gap_N: FloatArray, tau: float) -> FloatArray:
    """Eq. 14 for potentials shifted to a maximum of 0."""
    with np.errstate(over="ignore", under="ignore"):  # a quotient of -inf is a probability of 0
        weight_N = np.exp(gap_N / tau)
    return np.asarray(weight_N / order_free_sum(weight_N))  # Eq. 14


def effective_sample_size(prob_N: ArrayLike) -> float:
    r"""Compute :math:`1 / \sum_i \rho_i^2`, the number of prompts that share the mass.

    Parameters
    ----------
    prob_N : array_like of float, shape (N,)
        A distribution: non-negative, sums to 1.

    Returns
    -------
    float
        From 1 (one prompt has all the mass) to N (uniform).

    Raises
    ------
    ValueError
        If ``prob_N`` is no distribution.

    Examples
    --------
    >>> effective_sample_size([0.5, 0.5, 0.0])
    2.0
    """
    prob_N = _as_distribution("effective_sample_size", prob_N)
    return 1.0 / order_free_sum(prob_N * prob_N)


def _as_distribution(where: str, prob_N: ArrayLike) -> FloatArray:
    prob_N = as_float_array(where, "prob_N", prob_N, low=0.0, high=1.0)
    total = float(prob_N.sum())
    if abs(total - 1.0) > 1e-9:  # rounding of a million terms stays far below
        fail(where, "prob_N", "a distribution that sums to 1", InWords(f"sum {total}"))
    return prob_N


def temperature_for_effective_size(potential_N: ArrayLike, size: float) -> float:
    r"""Find the temperature at which the sampling distribution has a given effective sample size.

    Parameters
    ----------
    potential_N : array_like of float, shape (N,)
        Potentials, as in :func:`sampling_distribution`.
    size : float
        Target in [K, N], K the number of prompts with the largest potential. At the ends, where the
        exact answers are 0 and infinity, a temperature is returned that reaches them within
        rounding. Potentials that differ, but by less than 1e-300 from the largest, leave no
        float to be exact with.

    Returns
    -------
    float
        tau > 0. If all potentials are equal, every temperature gives N, and 1.0 is returned.

    Raises
    ------
    ValueError
        If ``size`` lies outside [K, N].

    Notes
    -----
    The effective size grows strictly with tau: its logarithm has the derivative
    :math:`2 (E_{\rho^2} u - E_\rho u) / \tau^2`, where the law proportional to :math:`\rho^2` is
    Eq. 14 at half the temperature and so has the larger mean. Root of one increasing function, O(N)
    per step.

    Examples
    --------
    >>> tau = temperature_for_effective_size([0.5, 0.4, 0.1, 0.0], 2.0)
    >>> round(effective_sample_size(sampling_distribution([0.5, 0.4, 0.1, 0.0], tau)), 9)
    2.0
    """
    where = "temperature_for_effective_size"
    potential_N = _as_potential(where, potential_N)
    gap_N = potential_N - potential_N.max()
    low, high = int(np.count_nonzero(gap_N == 0.0)), gap_N.size
    target = as_float(where, "size", size, low, high)
    if low == high:
        return 1.0
    below = gap_N[gap_N < 0.0]
    coldest = max(float(-below.max()) / _UNDERFLOW, math.ulp(0.0))
    hottest = min(float(-below.min()), 1e297) * 1e10  # N - size is then below 1e-19 N

    def excess(log_tau: float) -> float:
        prob_N = _softmax(gap_N, math.exp(log_tau))
        return -math.log(order_free_sum(prob_N * prob_N)) - math.log(target)

    ends = math.log(coldest), math.log(hottest)
    if excess(ends[0]) >= 0.0:
        return coldest
    if excess(ends[1]) <= 0.0:
        return hottest
    from scipy.optimize import brentq  # here: it takes longer to import than everything else

    return math.exp(float(brentq(excess, *ends, xtol=1e-14, rtol=1e-14)))


def draw_with_replacement(
    prob_N: ArrayLike, size: int, generator: Generator
) -> tuple[IntArray, IntArray]:
    """Draw ``size`` prompts independently; equal ones come back as one prompt with a count.

    Parameters
    ----------
    prob_N : array_like of float, shape (N,)
        A distribution.
    size : int
        Number of draws m >= 1.
    generator : numpy.random.Generator

    Returns
    -------
    prompt_B : ndarray of int64
        Distinct prompts, ascending, each of positive probability.
    draw_B : ndarray of int64
        How often each was drawn, >= 1; sums to ``size``.

    Raises
    ------
    ValueError
        If ``prob_N`` is no distribution or ``size`` < 1.

    Notes
    -----
    Inverse distribution function at sorted uniforms: O(N + m log m), one pass over the pool.

    Examples
    --------
    >>> draw_with_replacement([0.0, 1.0, 0.0], 5, np.random.default_rng(0))
    (array([1]), array([5]))
    """
    where = "draw_with_replacement"
    prob_N = _as_distribution(where, prob_N)
    uniform_B = np.sort(generator.random(as_int(where, "size", size, 1)))
    cumulative_N = np.cumsum(prob_N)
    # side="right" finds the first prompt whose cumulative mass exceeds the uniform: never one of
    # mass zero, and never past the end, because u <= 1 - 2^-53 keeps u * total below total after
    # rounding.
    chosen = np.searchsorted(cumulative_N, uniform_B * cumulative_N[-1], side="right")
    first = np.flatnonzero(np.diff(chosen, prepend=-1))
    return chosen[first].astype(np.int64), np.diff(first, append=chosen.size).astype(np.int64)


def inclusion_probability(prob_N: ArrayLike, size: int) -> FloatArray:
    r"""Scale a distribution to inclusion probabilities of ``size`` distinct prompts.

    Parameters
    ----------
    prob_N : array_like of float, shape (N,)
        A distribution with P positive entries.
    size : int
        Number m of distinct prompts, in [1, P].

    Returns
    -------
    ndarray of float64, shape (N,)
        :math:`\pi_i = \min(1, c \rho_i)` with c such that the sum is m (to 1e-12 m).

    Raises
    ------
    ValueError
        If ``prob_N`` is no distribution, or m is not in [1, P].

    Notes
    -----
    If the k largest are capped then :math:`c = (m - k) / \sum_{uncapped} \rho`; the right k is the
    smallest for which no uncapped :math:`c \rho_i` exceeds 1, and k < m. Only the m largest entries
    are sorted, and none when nothing needs a cap: O(N + m log m).

    Examples
    --------
    >>> inclusion_probability([0.7, 0.2, 0.1, 0.0], 2).round(12)
    array([1.        , 0.66666667, 0.33333333, 0.        ])
    """
    where = "inclusion_probability"
    prob_N = _as_distribution(where, prob_N)
    positive = int(np.count_nonzero(prob_N))
    size = as_int(
        where, f"size (of {positive} prompts with positive probability)", size, 1, positive
    )
    total = order_free_sum(prob_N)
    if size * float(prob_N.max()) <= total:
        return np.asarray(np.minimum(size * (prob_N / total), 1.0))
    split = prob_N.size - size
    top = np.sort(np.partition(prob_N, split)[split:])  # the m largest, ascending
    smaller = prob_N[prob_N < top[0]]
    ties_outside = int(np.count_nonzero(prob_N == top[0]) - np.count_nonzero(top == top[0]))
    outside = order_free_sum(smaller) + ties_outside * float(top[0])
    # tail[k]: mass of everything but the k largest, added from the small end so that nothing
    # cancels.
    tail = (outside + np.cumsum(top))[::-1]
    capped = np.arange(size)
    k = int(np.argmax((size - capped) * top[::-1] <= tail))
    with np.errstate(over="ignore"):  # only for capped ones, far above the mass of the others
        return np.asarray(np.minimum((size - k) * (prob_N / tail[k]), 1.0))


def draw_without_replacement(inclusion_N: ArrayLike, generator: Generator) -> IntArray:
    r"""Draw distinct prompts with exactly the given inclusion probabilities.

    Parameters
    ----------
    inclusion_N : array_like of float, shape (N,)
        In [0, 1], with a sum m that is a whole number up to rounding.
    generator : numpy.random.Generator

    Returns
    -------
    ndarray of int64, shape (m,)
        Ascending, distinct; prompt i is among them with probability ``inclusion_N[i]``.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1] or the sum is no whole number.

    Notes
    -----
    Systematic sampling in random order: shuffle the prompts, lay their probabilities end to end on
    a line of length m, and take those hit by u, u + 1, ..., u + m - 1 with one uniform u. The
    shuffle makes the law of the result independent of how prompts are numbered. O(N).

    Examples
    --------
    >>> draw_without_replacement([1.0, 0.0, 1.0, 0.0], np.random.default_rng(0))
    array([0, 2])
    """
    where = "draw_without_replacement"
    inclusion_N = as_float_array(where, "inclusion_N", inclusion_N, low=0.0, high=1.0)
    total = float(inclusion_N.sum())
    if abs(total - round(total)) > 1e-9 * max(1.0, total):
        fail(where, "inclusion_N", "of a sum that is a whole number", InWords(f"sum {total}"))
    certain = np.flatnonzero(inclusion_N == 1.0)
    uncertain = np.flatnonzero((inclusion_N > 0.0) & (inclusion_N < 1.0))
    size = round(total) - certain.size
    if size == 0:
        return certain.astype(np.int64)
    generator.shuffle(uncertain)
    cumulative = np.cumsum(inclusion_N[uncertain])
    point = (np.arange(size) + generator.random()) * (cumulative[-1] / size)
    hit = np.searchsorted(cumulative, np.minimum(point, np.nextafter(cumulative[-1], 0.0)), "right")
    # A probability within rounding of 1 may be hit twice: the later hit moves to its neighbour.
    rank = np.arange(size)
    hit = np.maximum.accumulate(hit - rank) + rank
    hit = np.minimum(hit, uncertain.size - size + rank)
    return np.sort(np.concatenate([certain, uncertain[hit]])).astype(np.int64)
