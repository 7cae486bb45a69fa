"""Learning curves on a common grid, target levels fixed beforehand, and when a curve reaches them.

The first half of :mod:`cures.comparison`, which says how the pieces fit together.

Additional axis suffixes: ``_S`` seeds, ``_E`` points of the common grid, ``_U`` updates of one run,
``_F`` targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from cures.checks import BoolArray, FloatArray, InWords, as_float, as_float_array, fail

FRACTIONS = (0.5, 0.8, 0.95)


def target_gains(
    start_S: ArrayLike, final_S: ArrayLike, fractions: Sequence[float] = FRACTIONS
) -> FloatArray:
    """Gains over the start that define the targets, from *development* runs of the reference.

    Parameters
    ----------
    start_S, final_S : array_like of float, shape (S,)
        Held-out success of the reference before and after training, on development seeds, which are
        never compared.
    fractions : sequence of float in (0, 1]

    Returns
    -------
    gain_F : ndarray of float64
        ``f * (mean final - mean start)``; the level of a compared seed is its start plus this.

    Raises
    ------
    ValueError
        If the reference did not improve on the development seeds: then no target exists.

    Examples
    --------
    >>> target_gains([0.2, 0.4], [0.5, 0.7], fractions=(0.5, 0.8))
    array([0.15, 0.24])
    """
    where = "target_gains"
    start = as_float_array(where, "start_S", start_S)
    final = as_float_array(where, "final_S", final_S, length=start.size)
    if start.size == 0:
        fail(where, "start_S", "of shape (S,) with S >= 1", InWords("shape (0,)"))
    fraction_F = as_float_array(
        where, "fractions", list(fractions), low=0.0, high=1.0, open_low=True
    )
    gain = float(final.mean() - start.mean())
    if gain <= 0.0:
        fail(where, "final_S", f"above the start on average (mean start {start.mean():.6g})", gain)
    return fraction_F * gain


def on_grid(
    generated_U: ArrayLike, value_U: ArrayLike, grid_E: ArrayLike, *, start: float
) -> FloatArray:
    """Read a learning curve on the common grid: the value after the last update so far.

    A step function, not an interpolation: between two updates the policy does not change, and
    pilots that come before an update must not be credited with it.

    Parameters
    ----------
    generated_U : array_like of float, shape (U,)
        Rollouts generated up to each update, never decreasing.
    value_U : array_like of float, shape (U,)
        Value after each update.
    grid_E : array_like of float, shape (E,)
        Points of generated rollouts.
    start : float
        Value before the first update.

    Examples
    --------
    >>> on_grid([10, 20], [0.5, 0.7], [0, 9, 10, 25], start=0.1)
    array([0.1, 0.1, 0.5, 0.7])
    """
    where = "on_grid"
    generated = as_float_array(where, "generated_U", generated_U)
    value = as_float_array(where, "value_U", value_U, length=generated.size)
    grid = as_float_array(where, "grid_E", grid_E)
    if (np.diff(generated) < 0).any():
        fail(where, "generated_U", "never decreasing", generated.tolist())
    known = np.concatenate(([as_float(where, "start", start)], value))
    return known[np.searchsorted(generated, grid, side="right")]


def rollouts_to_target(
    grid_E: ArrayLike, curve_S_E: ArrayLike, level_S: ArrayLike
) -> tuple[FloatArray, BoolArray]:
    """Rollouts each seed needs to reach its level, on isotonically smoothed curves.

    Parameters
    ----------
    grid_E : array_like of float, shape (E,)
        Common grid of generated rollouts, strictly increasing; its last point is the budget.
    curve_S_E : array_like of float, shape (S, E)
        Held-out success of each seed on the grid.
    level_S : array_like of float, shape () or (S,)
        Target, fixed before this arm was read.

    Returns
    -------
    rollouts_S : ndarray of float64
        First crossing, by linear interpolation; the budget where there is none.
    is_censored_S : ndarray of bool
        Runs that never arrive.

    Notes
    -----
    The non-decreasing least-squares fit keeps one lucky evaluation from counting as an arrival: a
    spike is averaged with what follows it.

    Examples
    --------
    >>> rollouts_to_target([0, 10, 20], [[0.0, 0.4, 0.8], [0.0, 0.1, 0.2]], 0.6)
    (array([15., 20.]), array([False,  True]))
    """
    where = "rollouts_to_target"
    grid = as_float_array(where, "grid_E", grid_E)
    if grid.size < 2 or (np.diff(grid) <= 0).any():
        fail(where, "grid_E", "strictly increasing with at least two points", grid.tolist())
    curve = np.asarray(curve_S_E, dtype=np.float64)
    if curve.ndim != 2 or curve.shape[1] != grid.size:
        fail(where, "curve_S_E", f"of shape (S, {grid.size})", InWords(f"shape {curve.shape}"))
    if not np.isfinite(curve).all():
        fail(where, "curve_S_E", "finite", InWords("a value that is not"))
    level = np.asarray(level_S, dtype=np.float64)
    if level.shape not in ((), (curve.shape[0],)) or not np.isfinite(level).all():
        fail(where, "level_S", f"finite, of shape () or ({curve.shape[0]},)", level.tolist())
    level = np.broadcast_to(level, curve.shape[:1])
    rollouts = np.full(curve.shape[0], grid[-1])
    is_censored = np.zeros(curve.shape[0], dtype=bool)
    for s, values in enumerate(curve):
        smooth = isotonic_regression(values).x
        first = int(np.searchsorted(smooth, level[s], side="left"))
        if first == grid.size:
            is_censored[s] = True
        elif first == 0:
            rollouts[s] = grid[0]
        else:
            low, high = smooth[first - 1], smooth[first]
            share = (level[s] - low) / (high - low)
            rollouts[s] = grid[first - 1] + share * (grid[first] - grid[first - 1])
    return rollouts, is_censored
