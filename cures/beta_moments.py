r"""Moments of a Beta law in closed form, accurate to 1e-12 relative from counts of 1e-3 to 1e9.

If a success rate is known only as p ~ Beta(alpha, beta), then what a prompt is worth is an
expectation, not the value at the mean. All three expectations below are ratios of Beta functions.
Differences of log-gamma lose up to five digits at counts of 1e9, and 1 - E[p^n] - E[(1-p)^n]
cancels at both ends; so each is rewritten as products and sums of positive, well-conditioned terms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, IntArray, as_array, as_float_array, broadcast
from cures.potential import as_group_size

# log(Gamma(w + 3/4) / Gamma(w + 1/4)) - log(w) / 2 = sum_k c_k / w^(2k), centred at w = x - 1/4 so
# that odd powers vanish; c_k = -2 B_{2k+1}(3/4) / (2k (2k+1)) with Bernoulli polynomials B.
_HALF_STEP_SERIES = (
    1.0 / 64,
    -5.0 / 2048,
    61.0 / 49152,
    -1385.0 / 1048576,
    50521.0 / 20971520,
    -2702765.0 / 402653184,
)
_HALF_STEP_SHIFT = 10  # the first omitted term is below 4e-16 for x >= 10

_HEAD = 32  # terms summed one by one; beyond, the Euler-Maclaurin remainder is below 1e-14
_PANEL = np.log(16.0)  # length, in log x, of one Gauss panel
_NODE, _WEIGHT = np.polynomial.legendre.leggauss(16)


def _as_count(where: str, parameter: str, value: ArrayLike) -> FloatArray:
    array = as_array(where, parameter, value, "an array of real numbers")
    flat = as_float_array(where, parameter, array.ravel(), low=0.0, open_low=True)
    return flat.reshape(array.shape)


def _as_counts(where: str, alpha: ArrayLike, beta: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = broadcast(
        where, alpha=_as_count(where, "alpha", alpha), beta=_as_count(where, "beta", beta)
    )
    return a, b


def _half_step_gamma_ratio(x: FloatArray) -> FloatArray:
    """Gamma(x + 1/2) / Gamma(x) for x > 0: shift to x >= 10, then the centred asymptotic series."""
    factor = np.ones_like(x)
    is_small = x < _HALF_STEP_SHIFT
    small = x[is_small]
    if small.size:
        product = np.ones_like(small)
        for k in range(_HALF_STEP_SHIFT):
            product *= (small + k) / (small + k + 0.5)
        factor[is_small] = product
    w = np.where(is_small, x + _HALF_STEP_SHIFT, x) - 0.25
    inverse_square = (1.0 / w) ** 2  # w * w would overflow for counts above 1e154
    series = np.zeros_like(w)
    for coefficient in reversed(_HALF_STEP_SERIES):
        series = (series + coefficient) * inverse_square
    return np.asarray(factor * np.sqrt(w) * np.exp(series))


def expected_potential(alpha: ArrayLike, beta: ArrayLike) -> FloatArray:
    r"""Compute :math:`E\sqrt{p(1-p)}` for p ~ Beta(alpha, beta).

    Parameters
    ----------
    alpha, beta : array_like of float
        Positive counts, broadcast against each other.

    Returns
    -------
    ndarray of float64, broadcast shape
        In (0, 1/2).

    Raises
    ------
    ValueError
        If a count is not positive and finite.

    Notes
    -----
    Expectation of Eq. 11: :math:`B(a+1/2, b+1/2) / B(a, b) = g(a)\, g(b) / (a + b)` with
    :math:`g(x) = \Gamma(x+1/2)/\Gamma(x)`; no two large numbers are ever subtracted.

    Examples
    --------
    >>> round(float(expected_potential(1.0, 1.0)), 12)  # pi / 8
    0.392699081699
    """
    a, b = _as_counts("expected_potential", alpha, beta)
    total = a + b
    # Interleaved division: g(a) g(b) alone would overflow for counts near 1e308.
    return np.asarray(
        (_half_step_gamma_ratio(a) / np.sqrt(total)) * (_half_step_gamma_ratio(b) / np.sqrt(total))
    )


def expected_variance(alpha: ArrayLike, beta: ArrayLike) -> FloatArray:
    r"""Compute :math:`E[p(1-p)]`, the expected variance of one reward, for p ~ Beta(alpha, beta).

    Parameters
    ----------
    alpha, beta : array_like of float
        Positive counts, broadcast against each other.

    Returns
    -------
    ndarray of float64, broadcast shape
        :math:`ab / ((a+b)(a+b+1))`, in (0, 1/4).

    Raises
    ------
    ValueError
        If a count is not positive and finite.

    Examples
    --------
    >>> float(expected_variance(1.0, 2.0))
    0.16666666666666666
    """
    a, b = _as_counts("expected_variance", alpha, beta)
    return np.asarray((a / (a + b)) * (b / (a + b + 1.0)))


def expected_mixed(alpha: ArrayLike, beta: ArrayLike, n: ArrayLike) -> FloatArray:
    r"""Compute the chance that a group of n is mixed, :math:`E[1 - p^n - (1-p)^n]`.

    Parameters
    ----------
    alpha, beta : array_like of float
        Positive counts.
    n : array_like of int
        Group sizes >= 0, broadcast against the counts.

    Returns
    -------
    ndarray of float64, broadcast shape
        In [0, 1); 0 for n = 0 and n = 1.

    Raises
    ------
    ValueError
        If a count is not positive and finite, or a group size is negative or no integer.

    Notes
    -----
    :math:`1 - p^n - (1-p)^n = (p - p^n) + (q - q^n)` with q = 1 - p, both parts positive, and
    :math:`E[p - p^n] = \frac{a}{a+b} (1 - e^{-L})` with
    :math:`L = \sum_{j=1}^{n-1} \log(1 + b / (a + j))`, again a sum of positive terms. The first 32
    terms are added one by one, the rest by the Euler-Maclaurin midpoint formula, so the cost grows
    with log n.

    Examples
    --------
    >>> round(float(expected_mixed(1.0, 1.0, 4)), 15)  # uniform rate: (n - 1) / (n + 1)
    0.6
    """
    where = "expected_mixed"
    a, b = _as_counts(where, alpha, beta)
    a, b, size = broadcast(where, alpha=a, beta=b, n=as_group_size(where, "n", n, low=0))
    terms = size - 1
    right = a / (a + b) * -np.expm1(-_log_rising_ratio(a, b, terms))
    wrong = b / (a + b) * -np.expm1(-_log_rising_ratio(b, a, terms))
    return np.asarray(right + wrong)


def _log_rising_ratio(a: FloatArray, b: FloatArray, terms: IntArray) -> FloatArray:
    """Sum over j = 1 .. terms of log(1 + b / (a + j)); 0 where ``terms`` < 1."""
    total = np.zeros(a.shape)
    longest = int(terms.max(initial=0))
    for j in range(1, min(longest, _HEAD) + 1):
        total += np.where(terms >= j, np.log1p(b / (a + j)), 0.0)
    is_long = terms > _HEAD
    if is_long.any():
        total[is_long] += _tail(a[is_long], b[is_long], terms[is_long].astype(np.float64))
    return total


def _tail(a: FloatArray, b: FloatArray, terms: FloatArray) -> FloatArray:
    """Sum of f(j) = log(1 + b / (a + j)) over the integers j = _HEAD + 1 .. ``terms``.

    Integral minus f'/24 plus 7 f'''/5760 minus 31 f^(5)/967680 between the ends. The integral is
    taken in log x, where the singularities of f lie at distance pi from the real axis.
    """
    start, end = _HEAD + 0.5, terms + 0.5
    length = np.log(end / start)
    panels = int(np.ceil(length.max() / _PANEL))  # of equal length; the longest element decides
    integral = np.zeros_like(a)
    for node, weight in zip(_NODE, _WEIGHT, strict=True):
        for k in range(panels):
            x = start * np.exp(length * ((k + 0.5 * (node + 1.0)) / panels))
            integral += (0.5 * weight / panels) * length * x * np.log1p(b / (a + x))
    return np.asarray(
        integral + _corrections(a, b, end) - _corrections(a, b, np.full_like(a, start))
    )


def _corrections(a: FloatArray, b: FloatArray, x: FloatArray) -> FloatArray:
    """Midpoint Euler-Maclaurin terms at x, with differences of inverse powers in factored form."""
    v, u = 1.0 / (a + x), 1.0 / (a + b + x)
    first = -b * u * v  # f' = u - v
    third = first * 2.0 * (u * u + u * v + v * v)  # f''' = 2 (u^3 - v^3)
    fifth = first * 24.0 * (u**4 + u**3 * v + (u * v) ** 2 + u * v**3 + v**4)
    return np.asarray(-first / 24.0 + 7.0 / 5760.0 * third - 31.0 / 967680.0 * fifth)
