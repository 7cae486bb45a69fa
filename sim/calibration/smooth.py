r"""One population to simulate: the one that assumes least among those that fit.

The best fit of :mod:`sim.calibration.mixture` is a few point masses, an artefact of maximum
likelihood: a simulated pool with five success rates is like no real one. Of all populations whose
likelihood is nearly that of the best (within :data:`DEFICIT`), take the one of largest entropy.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import logsumexp, softmax

from cures.checks import FloatArray, IntArray
from sim.calibration.mixture import Counts, Mixture

DEFICIT = 0.5  # nats below the best fit: a likelihood ratio of 1.6, which no data could tell apart
LOG_STRENGTH = (-12.0, 12.0)  # of the data against entropy; beyond, only rounding changes


def smooth(counts: Counts, best: Mixture) -> Mixture:
    r"""Largest entropy with a log-likelihood of ``best.log_likelihood - DEFICIT``, to a tenth of a nat.

    Parameters
    ----------
    counts : Counts
    best : Mixture
        From :func:`sim.calibration.mixture.fit`; its grid is used.

    Returns
    -------
    Mixture
        ``gap`` is what it lacks to the best fit.

    Notes
    -----
    Entropy relative to the grid, i.e. to equal mass per step of :math:`\arcsin\sqrt p`. For a
    strength :math:`\lambda` of the data, :math:`\min_w \sum w \log w - \lambda \sum_c n_c \log(Aw)_c`
    has the dual :math:`\min_u \log \sum_k e^{(A' \lambda n e^u)_k} - \lambda n' u`, smooth and convex
    in as many unknowns as there are cells; :math:`\lambda` is found by bisection.
    """
    likelihood = counts.likelihood(best.rate_K)
    start_C = -np.log(likelihood @ best.weight_K)

    def population(log_strength: float) -> FloatArray:
        return _at_strength(likelihood, counts.prompts_C, float(np.exp(log_strength)), start_C)

    def excess(log_strength: float) -> float:
        return DEFICIT - (best.log_likelihood - _fit(counts, likelihood, population(log_strength)))

    low, high = LOG_STRENGTH
    if excess(low) >= 0.0:  # so few prompts that even the flattest population fits
        weight = population(low)
    elif excess(high) <= 0.0:  # only point masses fit that well
        weight = population(high)
    else:
        weight = population(float(brentq(excess, low, high, xtol=0.02)))
    value = _fit(counts, likelihood, weight)
    return Mixture(best.rate_K, weight, value, best.log_likelihood + best.gap - value)


def _fit(counts: Counts, likelihood: FloatArray, weight_K: FloatArray) -> float:
    return float(counts.prompts_C @ np.log(likelihood @ weight_K))


def _at_strength(
    likelihood: FloatArray, prompts_C: IntArray, strength: float, start_C: FloatArray
) -> FloatArray:
    """The population for one strength of the data, from the dual."""
    pull_C = strength * prompts_C.astype(np.float64)
    scale = float(pull_C.sum())

    def tilted(u_C: FloatArray) -> tuple[FloatArray, FloatArray]:
        tilt_C = pull_C * np.exp(u_C)
        return tilt_C, likelihood.T @ tilt_C

    def value(u_C: FloatArray) -> float:
        return float(logsumexp(tilted(u_C)[1]) - pull_C @ u_C) / scale

    def slope(u_C: FloatArray) -> FloatArray:
        tilt_C, height_K = tilted(u_C)
        return np.asarray(tilt_C * (likelihood @ softmax(height_K)) - pull_C) / scale

    def curvature(u_C: FloatArray, v_C: FloatArray) -> FloatArray:
        """Second derivative times ``v_C``."""
        tilt_C, height_K = tilted(u_C)
        weight_K = softmax(height_K)
        height_v_K = likelihood.T @ (tilt_C * v_C)
        weight_v_K = weight_K * (height_v_K - weight_K @ height_v_K)
        own = v_C * (likelihood @ weight_K)
        return np.asarray(tilt_C * (own + likelihood @ weight_v_K)) / scale

    result = minimize(
        value, start_C, jac=slope, hessp=curvature, method="trust-ncg", options={"gtol": 1e-7}
    )
    return np.asarray(softmax(tilted(result.x)[1]))
