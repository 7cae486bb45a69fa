"""What one wants to know of a population: means over it of a function of the success rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cures.checks import BoolArray, FloatArray
from sim.calibration.mixture import SHARE_LIMITS


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """``sum_k weight_k value_k``.

    Attributes
    ----------
    name, text : str
        Key in files, and what it means.
    value_K : ndarray of float64
        The function on the grid.
    lowest_K, highest_K : ndarray of float64
        The same, except where it jumps: a bound on a share may put mass on either side of its limit,
        as close as it likes.
    """

    name: str
    text: str
    value_K: FloatArray
    lowest_K: FloatArray
    highest_K: FloatArray

    def of(self, weight_K: FloatArray) -> float:
        """Its value for one population."""
        return float(self.value_K @ weight_K)


def quantities_of(rate_K: FloatArray, group_size: int) -> list[Quantity]:
    """The reported quantities on a grid.

    Parameters
    ----------
    rate_K : ndarray of float64, shape (K,)
    group_size : int
        Rollouts n of one group, >= 2.

    Examples
    --------
    >>> mixed = quantities_of(np.array([0.0, 0.5, 1.0]), 2)[4]
    >>> mixed.name, mixed.value_K.tolist()
    ('mixed', [0.0, 0.5, 0.0])
    """
    low, high = SHARE_LIMITS
    p = rate_K
    uniform = np.asarray(p**group_size + (1.0 - p) ** group_size, dtype=np.float64)
    smooth: dict[str, tuple[str, FloatArray]] = {
        "mean": ("mean success rate", p),
        "reward_std": (
            "mean of sqrt(p (1 - p)), the paper's potential",
            np.asarray(np.sqrt(p * (1.0 - p))),
        ),
        "mixed": (f"chance that a group of {group_size} has both rewards", 1.0 - uniform),
        "wasted": (f"chance that a group of {group_size} has one reward only", uniform),
    }
    mean, std, mixed, wasted = (_continuous(k, text, v) for k, (text, v) in smooth.items())
    below = _share(f"below_{low:g}", f"share of prompts below {low:g}", p < low, p <= low)
    above = _share(f"above_{high:g}", f"share of prompts above {high:g}", p > high, p >= high)
    return [mean, below, above, std, mixed, wasted]


def share_below(rate_K: FloatArray, limit: float) -> Quantity:
    """Share of prompts at or below ``limit``: a point of the distribution function."""
    at_most_K = np.where(rate_K <= limit, 1.0, 0.0)
    return Quantity("at_most", "", at_most_K, np.where(rate_K < limit, 1.0, 0.0), at_most_K)


def _continuous(name: str, text: str, value_K: FloatArray) -> Quantity:
    return Quantity(name, text, value_K, value_K, value_K)


def _share(name: str, text: str, strict_K: BoolArray, closed_K: BoolArray) -> Quantity:
    value_K = np.where(strict_K, 1.0, 0.0)
    return Quantity(name, text, value_K, value_K, np.where(closed_K, 1.0, 0.0))
