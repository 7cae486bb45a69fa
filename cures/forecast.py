r"""Is what is believed about success rates any good? Coverage of the truth, scores against outcomes.

Where the truth is known (a simulator), a posterior is calibrated if its central interval of level c
holds the true rate for a share c of the prompts. Where it is not, outcomes can be scored: the mean
log-loss of a forecast exceeds that of the true rate by their Kullback-Leibler divergence, the mean
Brier score by the squared error, so the excess over the truth's own score is the price of not knowing.

In the data flow: beside it; no scheduler decides by these. The simulator prints them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, xlog1py, xlogy

from cures.checks import FloatArray, InWords, as_float_array, as_int_array, fail

__all__ = ["LEVELS", "central_coverage", "forecast_scores"]

LEVELS = (0.5, 0.8, 0.95)


def central_coverage(
    alpha_B: ArrayLike,
    beta_B: ArrayLike,
    success_rate_B: ArrayLike,
    levels: Sequence[float] = LEVELS,
) -> FloatArray:
    """Share of true success rates inside the central credible interval of each level.

    Parameters
    ----------
    alpha_B, beta_B : array_like of float, shape (B,)
        Counts of the Beta laws, > 0.
    success_rate_B : array_like of float, shape (B,)
        True rates in [0, 1]. A rate of exactly 0 or 1 lies in no central interval.
    levels : sequence of float in (0, 1]

    Returns
    -------
    ndarray of float64, one per level

    Raises
    ------
    ValueError
        On bad input, or without any prompt.

    Notes
    -----
    A rate lies in the central interval of level c iff its chance under the law is within c / 2 of
    one half; no quantile has to be inverted.

    Examples
    --------
    >>> central_coverage([1.0, 1.0], [1.0, 1.0], [0.3, 0.9], levels=(0.5, 0.9))
    array([0.5, 1. ])
    """
    where = "central_coverage"
    alpha = as_float_array(where, "alpha_B", alpha_B, low=0.0, open_low=True)
    beta = as_float_array(where, "beta_B", beta_B, length=alpha.size, low=0.0, open_low=True)
    rate = as_float_array(
        where, "success_rate_B", success_rate_B, length=alpha.size, low=0.0, high=1.0
    )
    level = as_float_array(where, "levels", list(levels), low=0.0, high=1.0, open_low=True)
    if alpha.size == 0:
        fail(where, "alpha_B", "of shape (B,) with B >= 1", InWords("shape (0,)"))
    from_centre_B = np.abs(betainc(alpha, beta, rate) - 0.5)
    inside = (from_centre_B[:, None] < 0.5) & (from_centre_B[:, None] <= 0.5 * level)
    return np.asarray(inside.mean(axis=0))


def forecast_scores(
    success_B: ArrayLike, trial_B: ArrayLike, success_rate_B: ArrayLike
) -> tuple[float, float]:
    r"""Summed log-loss (nats) and Brier score of forecasts, over all rollouts.

    Parameters
    ----------
    success_B, trial_B : array_like of int, shape (B,)
        Right answers and answers, ``0 <= success <= trial``.
    success_rate_B : array_like of float, shape (B,)
        Forecast chance of a right answer, in [0, 1].

    Returns
    -------
    log_loss : float
        :math:`-\sum_b s_b \log p_b + (t_b - s_b) \log (1 - p_b)`; inf where the impossible happened.
    brier : float
        :math:`\sum_b s_b (1 - p_b)^2 + (t_b - s_b) p_b^2`.

    Examples
    --------
    >>> forecast_scores([1], [2], [0.5])  # 2 log 2, and 2 / 4
    (1.3862943611198906, 0.5)
    """
    where = "forecast_scores"
    trial = as_int_array(where, "trial_B", trial_B, low=0)
    success = as_int_array(where, "success_B", success_B, length=trial.size, low=0)
    rate = as_float_array(
        where, "success_rate_B", success_rate_B, length=trial.size, low=0.0, high=1.0
    )
    if (success > trial).any():
        index = int(np.flatnonzero(success > trial)[0])
        fail(where, "success_B", f"<= trial_B ({trial[index]} at index {index})", success[index])
    failure = trial - success
    log_loss = -float((xlogy(success, rate) + xlog1py(failure, -rate)).sum())
    brier = float((success * (1.0 - rate) ** 2 + failure * rate**2).sum())
    return log_loss, brier
