r"""The best a policy can do inside a trust region of any size, numerically and without expansion.

The paper's bounds (11) and (12) are leading order in the radius. Here the problems themselves are
solved: raise the success rate p to q, or the average success rate of several prompts, subject to the
(average) divergence ``kl(p, q) = p log(p/q) + (1-p) log((1-p)/(1-q)) <= delta``. No policy whatever can
do better, because merging answers never increases a divergence; a table attains it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import rel_entr

from cures.checks import FloatArray, InWords, as_float, as_float_array, fail

_SERIES = 0.1  # below it, x - log(1 + x) loses too many digits
_TERMS = 16  # 0.1^16 is below the spacing of floats
_LOG_PRICE = 700.0  # |log| of the largest price that is still a float


def divergence(p_N: ArrayLike, improvement_N: ArrayLike) -> FloatArray:
    r"""Kullback-Leibler divergence of success rate p from p + improvement, accurate for tiny steps.

    Parameters
    ----------
    p_N : array_like of float, shape (N,)
        Old success rates, in [0, 1].
    improvement_N : array_like of float, shape (N,)
        New minus old, in [-p, 1 - p].

    Returns
    -------
    ndarray of float64, shape (N,)
        In nats; infinite where an answer that has some chance is given none.

    Raises
    ------
    ValueError
        If a success rate, old or new, lies outside [0, 1].

    Notes
    -----
    The constraint of Eq. (1) for one prompt and two kinds of answer.

    Examples
    --------
    >>> divergence([0.5, 0.5], [0.25, 1e-9]).round(24)
    array([1.43841036e-01, 2.00000000e-18])
    """
    p = as_float_array("divergence", "p_N", p_N, low=0.0, high=1.0)
    step = as_float_array("divergence", "improvement_N", improvement_N, length=p.size)
    if ((step < -p) | (step > 1.0 - p)).any():
        fail("divergence", "improvement_N", "in [-p, 1 - p]", improvement_N)
    return _divergence(p, step, (1.0 - p) - step)


def _divergence(p: FloatArray, step: FloatArray, failure: FloatArray) -> FloatArray:
    """The two terms, each non-negative by itself; ``failure`` is 1 - p - step without cancellation."""
    return _part(p, step, p + step) + _part(1.0 - p, -step, failure)


def _part(old: FloatArray, step: FloatArray, new: FloatArray) -> FloatArray:
    """``old * (x - log(1 + x))`` with x = step / old and new = old + step."""
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(old > 0.0, step / old, np.inf)
    small = np.abs(x) <= _SERIES
    x = np.where(small, x, 0.0)
    k = np.arange(_TERMS, -1, -1)
    series = np.polyval((-1.0) ** k / (k + 2.0), x) * x * x
    return np.asarray(np.where(small, old * series, step + rel_entr(old, new)))


def _respond(p: FloatArray, price: float) -> tuple[FloatArray, FloatArray]:
    """Improvement and failure rate at which one more unit of divergence is worth ``price``.

    The derivative of the divergence is (q-p) / (q(1-q)); ``price * (q-p) = q(1-q)`` is quadratic, and of
    the two ways of writing its root the one without cancellation is taken.
    """
    variance = p * (1.0 - p)
    middle = price - (1.0 - 2.0 * p)
    root = np.hypot(middle, 2.0 * np.sqrt(variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(middle > 0.0, 2.0 * variance / (middle + root), 0.5 * (root - middle))
    failure = (
        2.0 * price * (1.0 - p) / (1.0 + price + np.hypot(1.0 - price, np.sqrt(4 * price * p)))
    )
    return step, failure


def exact_dataset_improvement(
    p_N: ArrayLike, delta: float, prob_N: ArrayLike
) -> tuple[float, FloatArray]:
    r"""Largest increase of the average success rate with average divergence at most ``delta``.

    .. math:: \max_q \sum_i \rho_i (q_i - p_i) \quad \text{subject to} \quad
              \sum_i \rho_i\, \mathrm{kl}(p_i, q_i) \le \delta

    Parameters
    ----------
    p_N : array_like of float, shape (N,)
        Success rates, in [0, 1].
    delta : float
        Radius of the trust region, >= 0, in nats.
    prob_N : array_like of float, shape (N,)
        Weights :math:`\rho`, non-negative, with sum 1.

    Returns
    -------
    improvement : float
        In [0, 1].
    improvement_N : ndarray of float64, shape (N,)
        Of each prompt.

    Raises
    ------
    ValueError
        If an argument is outside its range, or ``prob_N`` is no distribution.

    Notes
    -----
    The problem of Eq. (1) with the average constraint, solved exactly; to leading order the optimum is
    :math:`\sqrt{2 \delta\, \mathbb{E}_\rho[p(1-p)]}`, not Eq. (12).

    Examples
    --------
    >>> best, each = exact_dataset_improvement([0.5, 0.02], 1e-4, [0.5, 0.5])
    >>> round(best, 6), each.round(6)
    (0.005197, array([0.009611, 0.000783]))
    """
    where = "exact_dataset_improvement"
    p = as_float_array(where, "p_N", p_N, low=0.0, high=1.0)
    prob = as_float_array(where, "prob_N", prob_N, length=p.size, low=0.0)
    radius = as_float(where, "delta", delta, 0.0)
    if abs(prob.sum() - 1.0) > 1e-9:
        fail(where, "prob_N", "a distribution that sums to 1", InWords(f"sum {prob.sum()}"))
    step = _best_steps(p, radius, prob)
    return float(prob @ step), step


def _best_steps(p: FloatArray, delta: float, prob: FloatArray) -> FloatArray:
    if delta == 0.0 or not ((p < 1.0) & (prob > 0.0)).any():
        return np.zeros_like(p)

    def excess(log_price: float) -> float:
        step, failure = _respond(p, math.exp(log_price))
        spent = float(prob @ np.where(prob > 0.0, _divergence(p, step, failure), 0.0))
        return (spent - delta) / (spent + delta)  # between -1 and 1, falls as the price rises

    low, high = -_LOG_PRICE, _LOG_PRICE
    if excess(low) <= 0.0:  # so much divergence is allowed that nothing is left to improve
        return np.where(prob > 0.0, 1.0 - p, 0.0)
    log_price = brentq(excess, low, high, xtol=1e-15, rtol=1e-15, maxiter=500)
    return np.where(prob > 0.0, _respond(p, math.exp(log_price))[0], 0.0)


def exact_improvement(p: ArrayLike, delta: ArrayLike) -> FloatArray:
    r"""Largest increase of one prompt's success rate in a trust region of radius ``delta``.

    Parameters
    ----------
    p : array_like of float, any shape
        Success rates, in [0, 1]. For the largest decrease pass 1 - p.
    delta : array_like of float
        Radii >= 0 in nats, broadcast against ``p``.

    Returns
    -------
    ndarray of float64
        q - p with q > p the root of ``kl(p, q) = delta``; relative accuracy about 1e-14, and 1e-10
        for p below 1e-6, where the price of divergence is ill-conditioned. At p = 0 it is
        ``1 - exp(-delta)``, not 0: the divergence from a policy that never does something does not
        keep another from doing it.

    Raises
    ------
    ValueError
        If a success rate lies outside [0, 1], or a radius is negative or not finite.

    Notes
    -----
    Eq. (11) is its leading order, :math:`\sqrt{2 \delta p (1-p)}`, a bound only for p >= 1/2.

    Examples
    --------
    >>> exact_improvement([0.01, 0.5, 0.99], 0.1).round(4)
    array([0.1179, 0.2129, 0.01  ])
    """
    where = "exact_improvement"
    rate, radius = np.broadcast_arrays(np.asarray(p), np.asarray(delta))
    rate_N = as_float_array(where, "p", rate.ravel(), low=0.0, high=1.0)
    radius_N = as_float_array(where, "delta", radius.ravel(), low=0.0)
    one = np.ones(1)
    best = [
        _best_steps(np.array([r]), float(d), one)[0] for r, d in zip(rate_N, radius_N, strict=True)
    ]
    return np.array(best, dtype=np.float64).reshape(rate.shape)
