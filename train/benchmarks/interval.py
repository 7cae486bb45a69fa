"""How sure is a mean over problems? Intervals that know that answers to one problem are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from cures.checks import as_float, as_float_array, as_int, fail

# Added to the problems, half on each side, where their spread is estimated.
PSEUDO_PROBLEMS = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value in [0, 1] with its confidence interval."""

    value: float
    low: float
    high: float


def clustered_interval(value_N: ArrayLike, samples: int, *, confidence: float = 0.95) -> Estimate:
    r"""Mean over problems and its interval, over other problems of the kind and other samples.

    Parameters
    ----------
    value_N : array_like of float in [0, 1], shape (N,)
        One value per problem, such as the mean reward of its answers. At least one problem.
    samples : int
        Answers behind each value, >= 1.
    confidence : float in (0, 1)

    Returns
    -------
    Estimate

    Notes
    -----
    The answers to one problem share its success rate: N problems with S answers each are not N S
    independent answers. Their mean m has the variance :math:`s^2 / N` of a mean of N problem means,
    whatever S is, and so does the mean of :math:`N^* = N m (1-m) / s^2` independent answers [1]_. The
    interval is Wilson's [2]_ for :math:`N^*` answers [3]_:

    .. math:: \frac{m + z^2 / 2N^* \pm z \sqrt{m (1-m) / N^* + z^2 / 4N^{*2}}}{1 + z^2 / N^*},
        \qquad N \le N^* \le N S.

    With one answer per problem :math:`N^* = N`: Wilson's interval itself.

    On a hard benchmark most values are 0, and the few that are not may be missing from the N problems
    altogether: m and s are then too small together. So m and s in :math:`N^*` (nowhere else) are those
    with half a problem more, a quarter of it always right, a quarter never. Coverage at 95 % over
    populations of success rates like those of the benchmarks is 0.94 to 0.99; it would fall to 0.85
    without that half problem, and to 0.45 if answers are taken for independent.

    References
    ----------
    .. [1] L. Kish, "Survey Sampling", Wiley 1965: design effect.
    .. [2] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA
       22(158), 1927.
    .. [3] C. Franco, R. Little, T. Louis, E. Slud, "Comparative study of confidence intervals for
       proportions in complex sample surveys", J. Survey Statistics and Methodology 7(3), 2019.

    Examples
    --------
    >>> found = clustered_interval([1.0, 0.0, 1.0, 1.0], 1)  # 3 of 4: Wilson's interval
    >>> round(found.low, 3), found.value, round(found.high, 3)
    (0.301, 0.75, 0.954)
    """
    where = "clustered_interval"
    value_N = as_float_array(where, "value_N", value_N, low=0.0)
    if value_N.size == 0 or (value_N > 1.0).any():
        fail(where, "value_N", "numbers in [0, 1], at least one", value_N.tolist())
    samples = as_int(where, "samples", samples, 1)
    level = as_float(where, "confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    problems = value_N.size
    effective = float(np.clip(_effective_answers(value_N), problems, problems * samples))
    return wilson(float(value_N.mean()), effective, confidence=level)


def _effective_answers(value_N: np.ndarray) -> float:
    """Independent answers whose mean varies like that of the problems' values."""
    problems, side = value_N.size, PSEUDO_PROBLEMS / 2.0
    total = problems + PSEUDO_PROBLEMS
    mean = (value_N.sum() + side) / total
    square = ((value_N - mean) ** 2).sum() + side * (mean**2 + (1.0 - mean) ** 2)
    variance = square / total * problems / max(problems - 1, 1)
    return float(problems * mean * (1.0 - mean) / variance)


def wilson(rate: float, answers: float, *, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval for a rate seen among independent answers.

    Parameters
    ----------
    rate : float in [0, 1]
    answers : float
        > 0, not necessarily whole.
    confidence : float in (0, 1)

    Examples
    --------
    >>> found = wilson(0.0, 30)
    >>> found.low, round(found.high, 3)
    (0.0, 0.114)
    """
    z = float(norm.ppf(0.5 + confidence / 2.0))
    shrink = 1.0 + z * z / answers
    centre = (rate + z * z / (2.0 * answers)) / shrink
    half = z * math.sqrt(rate * (1.0 - rate) / answers + (z / (2.0 * answers)) ** 2) / shrink
    # at the edges the formula ends in 0 and 1 exactly; rounding must not leave the unit interval
    low = 0.0 if rate == 0.0 else max(centre - half, 0.0)
    high = 1.0 if rate == 1.0 else min(centre + half, 1.0)
    return Estimate(rate, low, high)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    r"""Mean of independent estimates, every one with the same weight.

    Parameters
    ----------
    estimates : sequence of Estimate
        At least one; their intervals have one confidence, and so has the result's.

    Notes
    -----
    The distances from value to bound add up in squares, each side by itself: for k estimates the lower
    bound lies :math:`\frac1k \sqrt{\sum_i (v_i - l_i)^2}` below the mean [1]_. An estimate of 0, whose
    standard error would be 0, counts with the width of its interval. The bounds stay in [0, 1], because
    the root of a sum of squares is at most the sum.

    References
    ----------
    .. [1] G. Zou, W. Huang, X. Zhang, "A note on confidence interval estimation for a linear function of
       binomial proportions", Computational Statistics & Data Analysis 53(4), 2009.
    """
    if not estimates:
        fail("mean_of", "estimates", "at least one", estimates)
    count = len(estimates)
    value = sum(e.value for e in estimates) / count
    below = math.sqrt(sum((e.value - e.low) ** 2 for e in estimates)) / count
    above = math.sqrt(sum((e.high - e.value) ** 2 for e in estimates)) / count
    return Estimate(value, value - below, value + above)
