"""A check: what is measured, what the theory expects, a band for the statistic, and a control.

A check passes iff its statistic lies in the band *and* that of its control, a wrong formula or a wrong
setting, does not: an experiment too small to tell right from wrong fails too.

Every check that rests on random numbers has the same chance of a false alarm, :data:`FALSE_ALARM`,
that of a band of four standard errors. Where a check looks at several numbers its band is widened
(Bonferroni), so that the chance holds for the check as a whole; a run of C random checks then fails
by chance with a probability of at most C times it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2, norm

from cures.checks import FloatArray

FALSE_ALARM = float(2.0 * norm.sf(4.0))  # 6.3e-5 per random check
EXACT = 1e-9  # relative; what is left of float64 after inverting a Fisher matrix
Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a check is given.

    Attributes
    ----------
    draws : int
        Rollouts, or prompts, that a random check may draw in all, about.
    generator : numpy.random.Generator
        The check's own, derived from the seed and the check's name.
    seed : int
        Root of all randomness.
    """

    draws: int
    generator: np.random.Generator
    seed: int = 0

    def common(self, what: str) -> np.random.Generator:
        """A generator that is the same for every check that asks by this name: for a common pool."""
        key = np.random.SeedSequence(self.seed, spawn_key=tuple(f"common {what}".encode()))
        return np.random.default_rng(key)


@dataclass(frozen=True, slots=True)
class Result:
    """Statistics of one check.

    Attributes
    ----------
    statistic : str
        What ``value`` is.
    value, low, high : float
        The check holds iff ``low <= value <= high``.
    control : float
        The same statistic under the control; must lie outside the band.
    measured, expected : float
        The quantity itself, at the worst point if there are several.
    where : str
        Which point that is.
    arrays : mapping of str to ndarray
        What figures need.
    """

    statistic: str
    value: float
    low: float
    high: float
    control: float
    measured: float
    expected: float
    where: str = ""
    arrays: Arrays = field(default_factory=dict)

    def is_inside(self, value: float) -> bool:
        """Whether a statistic lies in the band; what is no number lies nowhere."""
        return math.isfinite(value) and self.low <= value <= self.high

    @property
    def is_control_rejected(self) -> bool:
        """Whether the control was told from the truth."""
        return math.isfinite(self.control) and not self.is_inside(self.control)

    @property
    def holds(self) -> bool:
        """The verdict."""
        return self.is_inside(self.value) and self.is_control_rejected


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to measure.

    Attributes
    ----------
    name : str
        Unique in its family; lower case, dashes.
    claims : tuple of str
        Numbers of the theory's claims whose formulas give the expected values.
    what : str
        Measured quantity, and against what.
    control : str
        Which wrong formula or setting must be rejected.
    run : callable
        Setting -> Result.
    is_random : bool
        Whether the statistic rests on random numbers, so that a false alarm is possible.
    """

    name: str
    claims: tuple[str, ...]
    what: str
    control: str
    run: Callable[[Setting], Result]
    is_random: bool = False


def largest_z(
    measured: ArrayLike,
    expected: ArrayLike,
    error: ArrayLike,
    control: ArrayLike,
    *,
    where: Callable[[int], str] = lambda index: "",
    arrays: Arrays | None = None,
) -> Result:
    """Largest distance from the expected values, in standard errors.

    Parameters
    ----------
    measured, expected, control : array_like of float, shape (S,)
        Means, and what they should and should not be.
    error : array_like of float, shape (S,)
        Standard errors of the means, >= 0.
    where : callable
        Position -> words.
    arrays : mapping, optional
        Kept for the figures.

    Notes
    -----
    The band is two-sided with Bonferroni's correction for S values. A mean without any spread has to
    be exact, to 1e-12 of the largest; the control has to be rejected by the others, the noisy ones.
    """
    mean_S, right_S, wrong_S, error_S = (
        np.atleast_1d(np.asarray(x, dtype=np.float64))
        for x in np.broadcast_arrays(measured, expected, control, error)
    )
    floor = 1e-12 * np.abs(mean_S).max() + np.finfo(np.float64).tiny
    scale_S = np.maximum(error_S, floor)
    z_S = np.abs(mean_S - right_S) / scale_S
    worst = int(np.argmax(np.where(np.isnan(z_S), np.inf, z_S)))
    is_noisy_S = (error_S > floor) | (error_S.max() <= floor)
    return Result(
        "largest |z|" if mean_S.size > 1 else "|z|",
        float(z_S[worst]),
        0.0,
        float(norm.isf(FALSE_ALARM / (2 * mean_S.size))),
        float(np.max(np.abs(mean_S - wrong_S)[is_noisy_S] / scale_S[is_noisy_S])),
        float(mean_S[worst]),
        float(right_S[worst]),
        where(worst),
        arrays or {},
    )


def chi_square(
    observed: ArrayLike,
    expected: ArrayLike,
    control: ArrayLike,
    *,
    control_observed: ArrayLike | None = None,
    arrays: Arrays | None = None,
) -> Result:
    """Pearson's test of counts; a fit that is too good to be independent draws is refused as well.

    Parameters
    ----------
    observed, expected, control : array_like of float, shape (S,)
        Counts, and expected counts with the same sum, right and wrong.
    control_observed : array_like of float, shape (S,), optional
        Counts under the control, where it changes these and not what is expected.

    Raises
    ------
    ValueError
        If an expected count is below 5, where the limit law does not hold.
    """
    count_S, right_S, wrong_S = (
        np.asarray(x, dtype=np.float64) for x in (observed, expected, control)
    )
    if not right_S.min() >= 5.0:
        raise ValueError(f"chi_square: expected must be >= 5 each, got {right_S.min():.3g}")
    other_S = count_S if control_observed is None else np.asarray(control_observed)
    distance, wrong = (
        float(((c_S - e_S) ** 2 / e_S).sum())
        for c_S, e_S in ((count_S, right_S), (other_S, wrong_S))
    )
    law = chi2(count_S.size - 1)
    worst = int(np.argmax((count_S - right_S) ** 2 / right_S))
    return Result(
        f"chi-square, {count_S.size - 1} degrees of freedom",
        distance,
        float(law.ppf(FALSE_ALARM / 2)),
        float(law.isf(FALSE_ALARM / 2)),
        wrong,
        float(count_S[worst]),
        float(right_S[worst]),
        f"count in bin {worst}",
        arrays or {},
    )


def relative_error(
    measured: ArrayLike,
    expected: ArrayLike,
    control: ArrayLike,
    *,
    tolerance: float = EXACT,
    where: Callable[[int], str] = lambda index: "",
    arrays: Arrays | None = None,
) -> Result:
    """Largest ``|measured - expected| / |expected|``, over all entries; nothing random.

    Parameters
    ----------
    measured, expected, control : array_like of float
        Broadcast and flattened.
    tolerance : float
    """
    mean_S, right_S, wrong_S = (
        np.asarray(x, dtype=np.float64).ravel()
        for x in np.broadcast_arrays(measured, expected, control)
    )
    error_S = np.abs(mean_S - right_S) / np.abs(right_S)
    worst = int(np.argmax(np.where(np.isnan(error_S), np.inf, error_S)))
    return Result(
        "relative error",
        float(error_S[worst]),
        0.0,
        tolerance,
        float(np.max(np.abs(mean_S - wrong_S) / np.abs(right_S))),
        float(mean_S[worst]),
        float(right_S[worst]),
        where(worst),
        arrays or {},
    )


def rate_of_decay(
    radius_R: FloatArray,
    rest_P_R: FloatArray,
    control_P_R: FloatArray,
    order: float,
    *,
    band: float = 0.05,
    arrays: Arrays | None = None,
) -> Result:
    """Slope, on logarithmic axes, at which something vanishes with the radius.

    Parameters
    ----------
    radius_R : ndarray of float64, shape (R,)
        Radii of the trust region.
    rest_P_R, control_P_R : ndarray of float64, shape (P, R)
        What should vanish, and what vanishes more slowly or not at all, for P prompts. Their root
        mean square is taken: the next order of a single prompt may be zero by accident.
    order : float
        Expected power of the radius.
    band : float
        The next order still shows at these radii.
    """
    measured = decay(radius_R, rest_P_R)
    return Result(
        "slope",
        measured,
        order - band,
        order + band,
        decay(radius_R, control_P_R),
        measured,
        order,
        "",
        arrays or {},
    )


def decay(radius_R: FloatArray, rest_P_R: FloatArray) -> float:
    """Least-squares slope of the logarithm of the root mean square over prompts."""
    size_R = np.sqrt(np.mean(np.square(rest_P_R), axis=0))
    if not (np.isfinite(size_R).all() and (size_R > 0.0).all()):
        return math.nan
    return float(np.polyfit(np.log(radius_R), np.log(size_R), 1)[0])


def rate_in_words(rate_P: FloatArray, index: int) -> str:
    """Success rate at a position in a grid, or in several such grids end to end.

    Examples
    --------
    >>> rate_in_words(np.array([0.1, 0.5]), 3)
    'p = 0.50'
    """
    return f"p = {rate_P[index % rate_P.size]:.2f}"


def largest_ratio(
    gain: ArrayLike,
    bound: ArrayLike,
    control: ArrayLike,
    *,
    tightness: float,
    arrays: Arrays | None = None,
) -> Result:
    """Largest gain over its bound: at most 1, and at least ``tightness``, or the bound says little.

    Parameters
    ----------
    gain, bound, control : array_like of float
        Improvements, what they may reach, and a bound that they break.
    tightness : float
        In [0, 1].
    """
    gain_S, bound_S, wrong_S = (
        np.asarray(x, dtype=np.float64).ravel() for x in np.broadcast_arrays(gain, bound, control)
    )
    ratio_S = gain_S / bound_S
    worst = int(np.argmax(np.where(np.isnan(ratio_S), np.inf, ratio_S)))
    return Result(
        "largest gain over bound",
        float(ratio_S[worst]),
        tightness,
        1.0 + EXACT,
        float(np.max(gain_S / wrong_S)),
        float(gain_S[worst]),
        float(bound_S[worst]),
        "",
        arrays or {},
    )
