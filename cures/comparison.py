"""Honest statistics for "which scheduler is better": fixed targets, paired seeds, censoring.

Every arm of a comparison runs on the same seeds (same population, same initial policy, same
held-out set) and is read on one grid of *generated* rollouts, pilots and dropped groups included.
Two questions are answered. How much higher is held-out success at equal rollouts
(:func:`paired_difference`, :func:`harm_verdict`)? How many rollouts does each arm need to reach a
level that was fixed before the arms were read (:func:`target_gains`, :func:`rollouts_to_target`,
:func:`speed_up`)?

Both arms of a ratio are timed by crossing the same level. Letting the budget stand in for the
reference's crossing would make an arm *identical* to the reference look faster, because a noisy
curve usually reaches its own final mean before the budget ends. A run that does not arrive is
censored: it is counted, and the ratio becomes a bound.

An additional axis suffix: ``_S`` seeds (paired across arms), ``_E`` points of the common grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm, t

from cures.checks import BoolArray, FloatArray, InWords, as_float, as_float_array, as_int, fail
from cures.targets import FRACTIONS, on_grid, rollouts_to_target, target_gains

__all__ = [
    "FRACTIONS",
    "PairedDifference",
    "SpeedUp",
    "harm_verdict",
    "on_grid",
    "paired_difference",
    "rollouts_to_target",
    "seeds_needed",
    "speed_up",
    "target_gains",
]


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """Ratio of the medians of rollouts-to-target, reference over arm: above 1 the arm is faster.

    Attributes
    ----------
    ratio : float or None
        ``None`` when both medians are censored, or one is zero (a level at or below the start).
    low, high : float
        Bootstrap interval. ``low`` is 0 (``high`` is inf) where censoring leaves that side open.
    bound : {'exact', 'at least', 'at most', 'undefined'}
        What censoring lets ``ratio`` claim.
    reference_median, arm_median : float
        Medians with censored runs at their budget.
    reference_censored, arm_censored : int
        Seeds that never reached the level.
    seeds : int
    """

    ratio: float | None
    low: float
    high: float
    bound: str
    reference_median: float
    arm_median: float
    reference_censored: int
    arm_censored: int
    seeds: int


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of (arm - reference) over paired seeds, with interval and sign test.

    Attributes
    ----------
    mean, low, high : float
        ``low`` and ``high`` are -inf and inf with too few seeds (:func:`seeds_needed`).
    wins, ties, losses : int
        Seeds on which the arm is above, equal to, below the reference.
    sign_p_value : float
        Two-sided exact sign test, ties left out; 1 when every seed ties.
    seeds : int
    """

    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    sign_p_value: float
    seeds: int


def speed_up(
    reference_S: ArrayLike,
    reference_is_censored_S: ArrayLike,
    arm_S: ArrayLike,
    arm_is_censored_S: ArrayLike,
    *,
    generator: np.random.Generator,
    draws: int = 10_000,
    confidence: float = 0.95,
) -> SpeedUp:
    r"""Ratio of medians of rollouts-to-target over paired seeds, with a bootstrap over seeds.

    Parameters
    ----------
    reference_S, arm_S : array_like of float, shape (S,)
        Rollouts to the same level, from :func:`rollouts_to_target`; entry s of both is seed s.
    reference_is_censored_S, arm_is_censored_S : array_like of bool, shape (S,)
    generator : numpy.random.Generator
    draws : int
        Bootstrap draws; seeds are redrawn, keeping the pairs together.
    confidence : float in (0, 1)

    Returns
    -------
    SpeedUp

    Notes
    -----
    A draw whose arm median is censored knows only that the ratio is at most something, hence counts
    as 0 for the lower end; one whose reference median is censored counts as inf for the upper end.
    The plain percentile interval is too short for few seeds: its levels are moved outwards to
    :math:`\Phi(\sqrt{S/(S-1)}\, t_{\alpha/2, S-1})` [1]_.

    References
    ----------
    .. [1] T. Hesterberg, "What teachers should know about the bootstrap", The American Statistician
       69(4), 2015, section 5.3: the expanded percentile interval.

    Examples
    --------
    >>> none = np.zeros(6, dtype=bool)
    >>> result = speed_up([20.0] * 6, none, [10.0] * 6, none, generator=np.random.default_rng(0))
    >>> result.ratio, result.low, result.high, result.bound
    (2.0, 2.0, 2.0, 'exact')
    """
    where = "speed_up"
    reference = as_float_array(where, "reference_S", reference_S, low=0.0)
    size = reference.size
    arm = as_float_array(where, "arm_S", arm_S, length=size, low=0.0)
    reference_out = _bool_array(where, "reference_is_censored_S", reference_is_censored_S, size)
    arm_out = _bool_array(where, "arm_is_censored_S", arm_is_censored_S, size)
    if size == 0:
        fail(where, "reference_S", "of shape (S,) with S >= 1", InWords("shape (0,)"))
    identity = np.arange(size)[None, :]
    low_1, high_1, ratio = _ratio_bounds(reference, reference_out, arm, arm_out, identity)
    low, high = 0.0, np.inf
    level = as_float(where, "confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    draws = as_int(where, "draws", draws, 1)
    if size >= seeds_needed(level):
        index = generator.integers(0, size, size=(draws, size))
        low_d, high_d, _ = _ratio_bounds(reference, reference_out, arm, arm_out, index)
        tail = _tail(size, level)
        # order statistics, never interpolated: a side opened by censoring must stay 0 or inf
        low = float(np.quantile(low_d, tail, method="lower"))
        high = float(np.quantile(high_d, 1.0 - tail, method="higher"))
    bound = {
        (False, False): "exact",
        (False, True): "at least",
        (True, False): "at most",
        (True, True): "undefined",
    }[(bool(low_1[0] == 0.0), bool(np.isinf(high_1[0])))]
    return SpeedUp(
        ratio=None if bound == "undefined" else float(ratio[0]),
        low=low,
        high=high,
        bound=bound,
        reference_median=float(np.median(reference)),
        arm_median=float(np.median(arm)),
        reference_censored=int(reference_out.sum()),
        arm_censored=int(arm_out.sum()),
        seeds=size,
    )


def paired_difference(
    arm_S: ArrayLike, reference_S: ArrayLike, *, confidence: float = 0.95
) -> PairedDifference:
    r"""Mean difference over paired seeds: Student's interval and exact sign test.

    Parameters
    ----------
    arm_S, reference_S : array_like of float, shape (S,)
        Held-out success at the same number of generated rollouts; entry s of both is seed s.
    confidence : float in (0, 1)

    Returns
    -------
    PairedDifference

    Notes
    -----
    :math:`\bar d \pm t_{S-1} s / \sqrt{S}`. Differences of mean success rates are close to normal,
    and at six seeds a percentile bootstrap, even with widened levels, covers 0.93 where this covers
    0.95. With fewer than :func:`seeds_needed` seeds the interval is open.

    Examples
    --------
    >>> difference = paired_difference([0.5, 0.6], [0.4, 0.5])
    >>> round(difference.mean, 6), difference.wins, difference.sign_p_value
    (0.1, 2, 0.5)
    """
    where = "paired_difference"
    arm = as_float_array(where, "arm_S", arm_S)
    reference = as_float_array(where, "reference_S", reference_S, length=arm.size)
    size = arm.size
    if size == 0:
        fail(where, "arm_S", "of shape (S,) with S >= 1", InWords("shape (0,)"))
    difference = arm - reference
    level = as_float(where, "confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    half = np.inf
    if size >= seeds_needed(level):
        error = difference.std(ddof=1) / np.sqrt(size)
        half = float(t.ppf(0.5 + level / 2.0, size - 1) * error)
    low, high = difference.mean() - half, difference.mean() + half
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    p_value = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    return PairedDifference(
        mean=float(difference.mean()),
        low=float(low),
        high=float(high),
        wins=wins,
        ties=size - wins - losses,
        losses=losses,
        sign_p_value=float(p_value),
        seeds=size,
    )


def harm_verdict(difference: PairedDifference, margin: float) -> str:
    """Non-inferiority: ``'no harm'``, ``'harm'`` or ``'undecided'`` (which is not a pass).

    Parameters
    ----------
    difference : PairedDifference
        Arm minus reference, held-out success at equal generated rollouts.
    margin : float, > 0
        Largest loss that counts as none.

    Returns
    -------
    str
        ``'no harm'`` iff the whole interval lies above ``-margin``, ``'harm'`` iff it lies below;
        with too few seeds the interval is open, hence ``'undecided'``.

    Examples
    --------
    >>> harm_verdict(PairedDifference(0.0, -0.004, 0.004, 4, 0, 4, 1.0, 8), margin=0.005)
    'no harm'
    >>> harm_verdict(PairedDifference(0.0, -0.006, 0.006, 4, 0, 4, 1.0, 8), margin=0.005)
    'undecided'
    """
    limit = -as_float("harm_verdict", "margin", margin, 0.0, open_low=True)
    if difference.low > limit:
        return "no harm"
    return "harm" if difference.high < limit else "undecided"


def seeds_needed(confidence: float = 0.95) -> int:
    """Least number of seeds for an interval spanned by the data.

    The range of n independent values misses their median with chance ``2^(1-n)``, and no bootstrap
    interval of the ratio of medians leaves that range; the difference of means follows the same rule.

    Examples
    --------
    >>> seeds_needed(0.95)
    6
    """
    level = as_float(
        "seeds_needed", "confidence", confidence, 0.0, 1.0, open_low=True, open_high=True
    )
    return int(np.ceil(1.0 - np.log2(1.0 - level)))


def _tail(size: int, confidence: float) -> float:
    """Level of the lower end of the expanded percentile interval for ``size`` seeds."""
    quantile = t.ppf((1.0 - confidence) / 2.0, size - 1)
    return float(norm.cdf(np.sqrt(size / (size - 1)) * quantile))


def _ratio_bounds(
    reference: FloatArray,
    reference_out: BoolArray,
    arm: FloatArray,
    arm_out: BoolArray,
    index: np.ndarray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What each redrawn set of seeds knows about the ratio: from, to, and the plug-in value."""
    reference_median = np.median(reference[index], axis=1)
    arm_median = np.median(arm[index], axis=1)
    # an infinite crossing marks exactly the medians that rest on a censored run
    reference_open = np.isinf(np.median(np.where(reference_out, np.inf, reference)[index], axis=1))
    arm_open = np.isinf(np.median(np.where(arm_out, np.inf, arm)[index], axis=1))
    is_zero = (arm_median == 0.0) | (reference_median == 0.0)  # such a level is below the start
    ratio = reference_median / np.where(arm_median == 0.0, 1.0, arm_median)
    low = np.where(arm_open | is_zero, 0.0, ratio)
    high = np.where(reference_open | is_zero, np.inf, ratio)
    return low, high, ratio


def _bool_array(where: str, parameter: str, value: ArrayLike, length: int) -> BoolArray:
    array = np.asarray(value)
    if array.dtype.kind != "b" or array.shape != (length,):
        fail(
            where,
            parameter,
            f"of dtype bool, shape ({length},)",
            InWords(f"{array.dtype}, {array.shape}"),
        )
    return array
