"""Many tests at once: Holm's adjustment, and paired tests that know what to do without any scatter."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t

from cures.checks import FloatArray, as_choice, as_float, as_float_array, fail

Alternative = Literal["two-sided", "greater", "less"]


def holm(p_value_K: ArrayLike) -> FloatArray:
    r"""Adjusted p-values: rejecting those up to alpha errs anywhere with chance alpha at most [1]_.

    Parameters
    ----------
    p_value_K : array_like of float, shape (K,)
        In [0, 1], of K tests, dependent or not.

    Returns
    -------
    ndarray of float64, shape (K,)
        With :math:`p_{(1)} \le \dots \le p_{(K)}` that of the k-th is
        :math:`\max_{j \le k} \min(1, (K - j + 1)\, p_{(j)})`.

    References
    ----------
    .. [1] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
       Statistics 6(2), 1979.

    Examples
    --------
    >>> holm([0.04, 0.01, 0.03]).round(2)
    array([0.06, 0.03, 0.06])
    """
    p = as_float_array("holm", "p_value_K", p_value_K, low=0.0, high=1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(p.size)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def paired_p_value(
    difference_S: ArrayLike, *, at: float = 0.0, alternative: Alternative = "two-sided"
) -> float:
    """Student's paired t-test: p-value of "the mean difference is ``at``".

    It belongs to the interval of :func:`cures.comparison.paired_difference`: two-sided at 0, it is
    below 0.05 where the 95 % interval leaves 0 out; one-sided at -margin it is below 0.025 where
    :func:`cures.comparison.harm_verdict` decides.

    Parameters
    ----------
    difference_S : array_like of float, shape (S,)
        Arm minus reference on paired seeds, S >= 2.
    at : float
    alternative : {'two-sided', 'greater', 'less'}

    Returns
    -------
    float
        Where all seeds differ by the same, 0 if that contradicts the hypothesis, else 1.
    """
    where = "paired_p_value"
    difference = as_float_array(where, "difference_S", difference_S)
    if difference.size < 2:
        fail(where, "difference_S", "of shape (S,) with S >= 2", difference.shape)
    as_choice(where, "alternative", alternative, ("two-sided", "greater", "less"))
    hypothesis = as_float(where, "at", at)
    if np.ptp(difference) == 0.0:  # there is no t; arms that act alike are alike to the last bit
        apart = float(difference[0]) - hypothesis
        is_contradicted = {"two-sided": apart != 0.0, "greater": apart > 0.0, "less": apart < 0.0}
        return 0.0 if is_contradicted[alternative] else 1.0
    ratio = (difference.mean() - hypothesis) / (difference.std(ddof=1) / np.sqrt(difference.size))
    law = t(difference.size - 1)
    if alternative == "two-sided":
        return float(2.0 * law.sf(abs(ratio)))
    return float(law.sf(ratio) if alternative == "greater" else law.cdf(ratio))
