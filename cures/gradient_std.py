r"""Standard deviation of one rollout's policy gradient, the sigma that quotas are proportional to.

Three readings of the same quantity: Eq. 21 from measured score norms, its surrogates when only the
success rate is known, and the variant in the code released with the paper. The score is
s = grad log pi(y|x), r the 0/1 reward, p the success rate.

In the data flow: ``posterior, moments -> gradient_std -> quota``.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, as_array, as_choice, as_float_array, broadcast, fail
from cures.potential import as_group_size, as_rate, potential, prob_mixed

SURROGATE_ESTIMATORS = ("rloo", "dr_grpo", "grpo")


class NegativeVarianceWarning(UserWarning):
    """Estimated variances came out negative and were taken as 0.

    Attributes
    ----------
    count : int
        How many.
    """

    def __init__(self, count: int, total: int) -> None:
        super().__init__(f"gradient_std: {count} of {total} estimated variances < 0, taken as 0")
        self.count = count


def _as_moment(
    where: str, parameter: str, value: ArrayLike, low: float | None, *, allow_nan: bool = False
) -> FloatArray:
    array = as_array(where, parameter, value, "an array of real numbers")
    flat = as_float_array(where, parameter, array.ravel(), low=low, allow_nan=allow_nan)
    return flat.reshape(array.shape)


def gradient_variance(
    p: ArrayLike,
    sq_norm_correct: ArrayLike,
    sq_norm_wrong: ArrayLike,
    sq_norm_difference: ArrayLike,
) -> FloatArray:
    r"""Compute the variance of one rollout's gradient for advantage A = r - p.

    .. math:: \sigma^2 = p (1-p)^2 E[|s|^2 | r=1] + p^2 (1-p) E[|s|^2 | r=0]
              - p^2 (1-p)^2 |E[s|r=1] - E[s|r=0]|^2

    Parameters
    ----------
    p : array_like of float
        Success rates in [0, 1].
    sq_norm_correct, sq_norm_wrong : array_like of float
        Mean of :math:`|s|^2` over right and over wrong rollouts, >= 0.
    sq_norm_difference : array_like of float
        :math:`|E[s|r=1] - E[s|r=0]|^2`; an unbiased estimate of it may be negative.

    Returns
    -------
    ndarray of float64, broadcast shape
        Negative where estimated moments contradict each other; :func:`gradient_std` deals with
        that.

    Raises
    ------
    ValueError
        If a rate lies outside [0, 1], a mean square is negative, or anything is not finite.

    Notes
    -----
    Eq. 21. Derived for the true advantage: known p, no division by a standard deviation, no group
    mean. The last term equals :math:`|\nabla p|^2`.

    Examples
    --------
    >>> float(gradient_variance(0.5, 1.0, 1.0, 0.0))  # p (1 - p) |s|^2
    0.25
    """
    where = "gradient_variance"
    rate = as_rate(where, "p", p)
    correct = _as_moment(where, "sq_norm_correct", sq_norm_correct, 0.0)
    wrong = _as_moment(where, "sq_norm_wrong", sq_norm_wrong, 0.0)
    difference = _as_moment(where, "sq_norm_difference", sq_norm_difference, None)
    return _eq_21(
        *broadcast(
            where,
            p=rate,
            sq_norm_correct=correct,
            sq_norm_wrong=wrong,
            sq_norm_difference=difference,
        )
    )


def _eq_21(
    p: FloatArray, correct: FloatArray, wrong: FloatArray, difference: FloatArray
) -> FloatArray:
    q = 1.0 - p
    return np.asarray(p * q * (q * correct + p * wrong - p * q * difference))  # Eq. 21


def _root(variance: FloatArray) -> FloatArray:
    count = int(np.count_nonzero(variance < 0.0))
    if count:
        warnings.warn(NegativeVarianceWarning(count, variance.size), stacklevel=3)
    return np.sqrt(np.maximum(variance, 0.0))


def gradient_std(
    p: ArrayLike,
    sq_norm_correct: ArrayLike,
    sq_norm_wrong: ArrayLike,
    sq_norm_difference: ArrayLike,
) -> FloatArray:
    """Compute the root of :func:`gradient_variance`, negative estimates taken as 0.

    Parameters
    ----------
    p, sq_norm_correct, sq_norm_wrong, sq_norm_difference : array_like of float
        As in :func:`gradient_variance`.

    Returns
    -------
    ndarray of float64, broadcast shape
        >= 0.

    Raises
    ------
    ValueError
        As :func:`gradient_variance`.

    Warns
    -----
    NegativeVarianceWarning
        Once per call, with the number of negative variances in its ``count``.

    Notes
    -----
    Square root of Eq. 21.

    Examples
    --------
    >>> float(gradient_std(0.5, 1.0, 1.0, 0.0))
    0.5
    """
    return _root(gradient_variance(p, sq_norm_correct, sq_norm_wrong, sq_norm_difference))


def gradient_std_surrogate(
    p: ArrayLike, *, estimator: str | None = None, n: ArrayLike | None = None
) -> FloatArray:
    r"""Stand in for sigma when only the success rate is known.

    With score norms equal for right and wrong answers, sigma is proportional to the root mean
    square of a rollout's advantage, which depends on the estimator and on the group size.

    Parameters
    ----------
    p : array_like of float
        Success rates in [0, 1].
    estimator : {None, "rloo", "dr_grpo", "grpo"}
        None: the true advantage r - p, the paper's choice.
    n : array_like of int, optional
        Group sizes >= 2, broadcast against ``p``; given exactly when ``estimator`` is.

    Returns
    -------
    ndarray of float64
        :math:`\sqrt{E[A^2]}` of one rollout in a group of n:

        ========= =============================================
        None      :math:`p (1-p)`
        rloo      :math:`p (1-p)\, n / (n-1)`
        dr_grpo   :math:`p (1-p)\, (n-1) / n`
        grpo      :math:`(1 - p^n - (1-p)^n)\, (n-1) / n`
        ========= =============================================

        (the table shows the squares).

    Raises
    ------
    ValueError
        If a rate lies outside [0, 1], the estimator is unknown, or ``n`` is missing, superfluous or
        below 2.

    Notes
    -----
    Eq. 21 with unit score norms and no difference term is :math:`p(1-p)`. ``grpo`` divides by the
    group's sample standard deviation (ddof 1); the small constant that implementations add to that
    divisor is ignored here.

    Examples
    --------
    >>> gradient_std_surrogate([0.1, 0.5])
    array([0.3, 0.5])
    >>> round(float(gradient_std_surrogate(0.5, estimator="rloo", n=2) ** 2), 12)  # A: -1, 0 or 1
    0.5
    """
    where = "gradient_std_surrogate"
    if estimator is None:
        if n is not None:
            fail(where, "n", "None when estimator is None", n)
        return potential(p)
    name = as_choice(where, "estimator", estimator, SURROGATE_ESTIMATORS)
    if n is None:
        fail(where, "n", f"an int >= 2 for estimator {name!r}", n)
    rate, group = broadcast(where, p=as_rate(where, "p", p), n=as_group_size(where, "n", n, low=2))
    size = group.astype(np.float64)
    if name == "rloo":
        return np.asarray(potential(rate) * np.sqrt(size / (size - 1.0)))
    if name == "dr_grpo":
        return np.asarray(potential(rate) * np.sqrt((size - 1.0) / size))
    return np.asarray(np.sqrt(prob_mixed(rate, group) * ((size - 1.0) / size)))


def gradient_std_released(
    p: ArrayLike,
    norm_correct: ArrayLike,
    norm_wrong: ArrayLike,
    sq_norm_correct: ArrayLike,
    sq_norm_wrong: ArrayLike,
) -> FloatArray:
    """Compute sigma as the code released with the paper does.

    It differs from Eq. 21 in the last term, which takes the difference of the *mean norms* of right
    and wrong scores in place of the norm of the difference of the mean scores, and it gives 0 to
    every prompt whose rollouts all agree.

    Parameters
    ----------
    p : array_like of float
        Observed success rates in [0, 1].
    norm_correct, norm_wrong : array_like of float
        Means of ``|s|`` over right and over wrong rollouts, >= 0.
    sq_norm_correct, sq_norm_wrong : array_like of float
        Means of ``|s|^2``, >= 0. All four may be NaN where p is 0 or 1: then one kind is missing.

    Returns
    -------
    ndarray of float64, broadcast shape
        0 where p is 0 or 1.

    Raises
    ------
    ValueError
        If a rate lies outside [0, 1], a norm is negative, or a norm is NaN at 0 < p < 1.

    Warns
    -----
    NegativeVarianceWarning
        If a mean square is smaller than the square of its mean by enough to make a variance
        negative.

    Examples
    --------
    >>> gradient_std_released([0.0, 0.5], [float("nan"), 1.0], 1.0, [float("nan"), 1.0], 1.0)
    array([0. , 0.5])
    """
    where = "gradient_std_released"
    named = {
        "norm_correct": norm_correct,
        "norm_wrong": norm_wrong,
        "sq_norm_correct": sq_norm_correct,
        "sq_norm_wrong": sq_norm_wrong,
    }
    rate = as_rate(where, "p", p)
    moments = [_as_moment(where, name, v, 0.0, allow_nan=True) for name, v in named.items()]
    rate, *moments = broadcast(where, p=rate, **dict(zip(named, moments, strict=True)))
    is_mixed = (rate > 0.0) & (rate < 1.0)
    for name, array in zip(named, moments, strict=True):
        if np.isnan(array[is_mixed]).any():
            fail(where, name, "a number wherever 0 < p < 1", math.nan)
    inner = [array[is_mixed] for array in moments]
    sigma = np.zeros(rate.shape)
    sigma[is_mixed] = _root(_eq_21(rate[is_mixed], inner[2], inner[3], (inner[0] - inner[1]) ** 2))
    return sigma
