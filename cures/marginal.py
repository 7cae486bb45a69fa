"""Tabulate what one more rollout is worth, as far as a budget reaches; refuse what increases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, IntArray, as_float_array, fail

_RELATIVE, _ABSOLUTE = 1e-9, 1e-12  # differences of values carry the rounding of the values


def decreasing_prefix(
    marginal_value: Callable[[IntArray], ArrayLike], low_B: IntArray, high_B: IntArray, wanted: int
) -> tuple[FloatArray, IntArray, IntArray]:
    """Marginal values that can be among the ``wanted`` largest, after checking that none increases.

    Returns
    -------
    gain, group, rank : ndarray
        Value of the ``rank``-th rollout (from 0) beyond the minimum of ``group``; at least
        ``wanted`` rows. An increase within rounding is levelled.

    Raises
    ------
    ValueError
        If a value is not finite, of the wrong shape, or larger than the one before.
    """
    reach_B = np.minimum(high_B - low_B, wanted)
    groups = np.arange(low_B.size)
    gains: list[FloatArray] = []
    ids: list[IntArray] = []
    last_B = np.full(low_B.size, np.inf)
    scale, kept, next_prune = 0.0, 0, 4 * (wanted + low_B.size)
    floor = -np.inf
    for rank in range(int(reach_B.max(initial=0))):
        active = reach_B > rank
        # A group at its maximum is asked again about its last legal count, and the answer ignored.
        n_B = low_B + np.minimum(rank, np.maximum(reach_B - 1, 0))
        raw = marginal_value(n_B)
        gain_B = as_float_array("allocate_by_value", "marginal_value(n_B)", raw, length=low_B.size)
        scale = max(scale, float(np.abs(gain_B[active]).max()))
        allowed_B = last_B + _RELATIVE * np.abs(np.where(rank, last_B, 0.0)) + _ABSOLUTE * scale
        is_bad = active & (gain_B > allowed_B)
        if is_bad.any():
            i = int(np.flatnonzero(is_bad)[0])
            legal = f"at most {last_B[i]} for group {i} at n = {n_B[i]} (concave value)"
            fail("allocate_by_value", "marginal_value(n_B)", legal, float(gain_B[i]))
        last_B = np.where(active, np.minimum(gain_B, last_B), last_B)
        useful = groups[active & (last_B >= floor)]
        gains.append(last_B[useful])
        ids.append(useful)
        kept += useful.size
        if kept > next_prune:  # what is below the wanted-th largest so far can never be chosen
            everything = np.concatenate(gains)
            floor = float(np.partition(everything, kept - wanted)[kept - wanted])
            next_prune = 2 * kept
    rank_of = np.repeat(np.arange(len(ids)), [i.size for i in ids])
    return np.concatenate(gains), np.concatenate(ids), rank_of
