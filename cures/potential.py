r"""How much a prompt is worth rolling out, as a function of its success rate.

The expected reward of a prompt with success rate p can improve, to leading order in the size of the
trust region, by at most :math:`\sqrt{2 \delta p (1 - p)}` (Eq. 11). The factor that depends on the
prompt is its *potential*. It is an upper bound: a prompt whose reward ignores the answer has a
large potential and nothing to teach.

In the data flow: ``posterior -> potential -> sampling``. Expectations of the same two functions
under a Beta posterior are in :mod:`cures.beta_moments`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import (
    FloatArray,
    IntArray,
    as_array,
    as_float_array,
    as_int_array,
    broadcast,
    fail,
)


def as_rate(where: str, parameter: str, value: ArrayLike) -> FloatArray:
    """Success rates of any shape, as float64 in [0, 1]."""
    array = as_array(where, parameter, value, "an array of real numbers")
    return as_float_array(where, parameter, array.ravel(), low=0.0, high=1.0).reshape(array.shape)


def as_group_size(where: str, parameter: str, value: ArrayLike, low: int) -> IntArray:
    """Group sizes of any shape, as int64 >= ``low``."""
    legal = f"an int >= {low}, or an array of such"
    array = as_array(where, parameter, value, legal)
    if array.dtype.kind not in "iu" and array.size:
        fail(where, parameter, legal, value)
    return as_int_array(where, parameter, array.ravel(), low=low).reshape(array.shape)


def potential(p: ArrayLike) -> FloatArray:
    r"""Compute :math:`\sqrt{p (1 - p)}`, the prompt's factor in the bound on its improvement.

    Parameters
    ----------
    p : array_like of float, any shape
        Success rates in [0, 1].

    Returns
    -------
    ndarray of float64, shape of ``p``
        In [0, 1/2]; 0 at p = 0 and p = 1, largest at p = 1/2.

    Raises
    ------
    ValueError
        If a rate lies outside [0, 1] or is not finite.

    Notes
    -----
    Eq. 11, without the factor :math:`\sqrt{2 \delta}` that all prompts share.

    Examples
    --------
    >>> potential([0.0, 0.1, 0.5, 1.0])
    array([0. , 0.3, 0.5, 0. ])
    """
    rate = as_rate("potential", "p", p)
    # Not p - p^2, which cancels near 1; the difference 1 - p is exact for p >= 1/2.
    return np.asarray(np.sqrt(rate * (1.0 - rate)))  # Eq. 11


def prob_mixed(p: ArrayLike, n: ArrayLike) -> FloatArray:
    r"""Probability that a group of n rollouts holds both right and wrong answers.

    A group of one kind only has advantage zero under every group-baseline estimator.

    Parameters
    ----------
    p : array_like of float
        Success rates in [0, 1].
    n : array_like of int
        Group sizes >= 0, broadcast against ``p``.

    Returns
    -------
    ndarray of float64
        :math:`1 - p^n - (1-p)^n`, with 0 for n = 0 and n = 1. Relative accuracy of a few units in
        the last place at any rate, also where the plain formula returns 0.

    Raises
    ------
    ValueError
        If a rate lies outside [0, 1], or a group size is negative or no integer.

    Notes
    -----
    With q = min(p, 1 - p) the sum is :math:`-\mathrm{expm1}(n\,\mathrm{log1p}(-q)) - q^n`; for n >=
    2 the subtracted term is at most a third of the other, so nothing cancels.

    Examples
    --------
    >>> prob_mixed(0.5, [1, 2, 8])
    array([0.       , 0.5      , 0.9921875])
    >>> float(prob_mixed(1e-20, 4))
    4e-20
    """
    where = "prob_mixed"
    rate, size = broadcast(where, p=as_rate(where, "p", p), n=as_group_size(where, "n", n, low=0))
    rare = np.minimum(rate, 1.0 - rate)
    count = size.astype(np.float64)
    mixed = -np.expm1(count * np.log1p(-rare)) - rare**count
    return np.where(count < 2, 0.0, mixed)
