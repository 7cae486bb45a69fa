"""How much of what a reference arm saves does a contender save, in rollouts to a level?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cures.checks import as_int, fail

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class OracleShare:
    """Share of the oracle's saving, 95 %.

    Attributes
    ----------
    value : float or None
        1: as many rollouts saved as by the oracle, 0: none. ``None`` where a median rests on a run that
        never arrives, or the oracle saves nothing.
    low, high : float
        -inf or inf where that leaves a side open.
    """

    value: float | None
    low: float
    high: float


def oracle_share(
    uniform_S: ArrayLike,
    arm_S: ArrayLike,
    oracle_S: ArrayLike,
    *,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> OracleShare:
    r"""Saving of the arm over saving of the oracle, by medians over paired seeds.

    .. math:: (T_{uniform} - T_{arm}) / (T_{uniform} - T_{oracle})

    Parameters
    ----------
    uniform_S, arm_S, oracle_S : array_like of float, shape (S,)
        Rollouts to the same level, inf for a run that never arrives.
    generator : numpy.random.Generator
        Seeds are redrawn, keeping the three together; plain percentile interval.
    draws : int

    Examples
    --------
    >>> share = oracle_share([100.0] * 6, [60.0] * 6, [50.0] * 6, generator=np.random.default_rng(0))
    >>> share.value, share.low, share.high
    (0.8, 0.8, 0.8)
    """
    where = "oracle_share"
    times = [np.asarray(values, dtype=np.float64) for values in (uniform_S, arm_S, oracle_S)]
    shape = times[0].shape
    for name, values in zip(("uniform_S", "arm_S", "oracle_S"), times, strict=True):
        if values.ndim != 1 or values.size == 0 or values.shape != shape or np.isnan(values).any():
            fail(where, name, f"numbers of shape {shape}, (S,) with S >= 1", values)
    size = times[0].size
    value, low_1, _ = _shares(*(values[None] for values in times))
    index = generator.integers(0, size, size=(as_int(where, "draws", draws, 1), size))
    _, low_D, high_D = _shares(*(values[index] for values in times))
    return OracleShare(
        value=float(value[0]) if np.isfinite(low_1[0]) else None,
        low=float(np.quantile(low_D, 0.025, method="lower")),
        high=float(np.quantile(high_D, 0.975, method="higher")),
    )


def shares_of_arms(
    reached_S: Mapping[str, Sequence[float | None]],
    *,
    reference: str,
    best: str,
    arms: Sequence[str],
) -> dict[str, OracleShare]:
    """Shares of the saving of arm ``best`` by these arms; None stands for a run that never arrives."""

    def times(arm: str) -> list[float]:
        return [np.inf if at is None else at for at in reached_S[arm]]

    return {
        arm: oracle_share(
            times(reference), times(arm), times(best), generator=np.random.default_rng(0)
        )
        for arm in arms
    }


def _shares(
    uniform_D_S: NDArray[np.float64], arm_D_S: NDArray[np.float64], oracle_D_S: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Per draw the share, and the least and the most that it can be.

    An arm that never arrives is later than uniform, whatever the budget: it saves nothing.
    """
    uniform, arm, oracle = (np.median(t, axis=1) for t in (uniform_D_S, arm_D_S, oracle_D_S))
    is_known = np.isfinite(uniform) & np.isfinite(oracle)
    saved = np.where(is_known, uniform, 1.0) - np.where(is_known, oracle, 0.0)
    is_known &= saved > 0.0
    kept = np.where(is_known, uniform, 0.0) - np.where(np.isfinite(arm), arm, 0.0)
    share = kept / np.where(is_known, saved, 1.0)
    has_arm = np.isfinite(arm)
    low = np.where(is_known & has_arm, share, -np.inf)
    high = np.where(is_known, np.where(has_arm, share, 0.0), np.inf)
    return share, low, high


def share_text(share: OracleShare | None) -> str:
    """In words, without the ends that are open.

    Examples
    --------
    >>> share_text(OracleShare(0.834, 0.5, np.inf)), share_text(None)
    ('0.83 [0.50, inf]', '')
    """
    if share is None:
        return ""
    value = "undefined" if share.value is None else f"{share.value:.2f}"
    return f"{value} [{share.low:.2f}, {share.high:.2f}]"
