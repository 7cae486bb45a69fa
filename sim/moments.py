"""Score norms per group, measured from sampled rollouts: the inputs of Eq. (21)."""

from __future__ import annotations

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray
from cures.records import Moments
from sim.policy import FloatMatrix
from sim.ratio import ratio


def score_moments(
    score_R_L: FloatMatrix, is_right_R: BoolArray, index_R: IntArray, num_groups: int
) -> Moments:
    r"""Moments of the scores of each group.

    Parameters
    ----------
    score_R_L : ndarray of float64, shape (R, L)
        Scores, in coordinates common to the rollouts of one group.
    is_right_R : ndarray of bool, shape (R,)
    index_R : ndarray of int64, shape (R,)
        Position of each rollout's group, in [0, num_groups).
    num_groups : int

    Returns
    -------
    Moments

    Notes
    -----
    With sums :math:`S_c` of the scores of kind c (right, wrong) and :math:`Q_c` of their squares,
    :math:`|E_c s|^2` is estimated by :math:`(|S_c|^2 - Q_c) / (n_c (n_c - 1))`, products of
    *different* rollouts only, hence without bias; the cross term by
    :math:`S_1 \cdot S_0 / (n_1 n_0)`.
    """
    square = (score_R_L**2).sum(axis=1)
    totals, sums, norms, counts = [], [], [], []
    for is_kind in (is_right_R, ~is_right_R):
        index, kind_square = index_R[is_kind], square[is_kind]
        total = np.empty((num_groups, score_R_L.shape[1]))
        for column, score in enumerate(score_R_L[is_kind].T):
            total[:, column] = _sum(index, score, num_groups)
        totals.append(total)
        sums.append(_sum(index, kind_square, num_groups))
        norms.append(_sum(index, np.sqrt(kind_square), num_groups))
        counts.append(np.bincount(index, minlength=num_groups))
    own = [
        ratio((total**2).sum(axis=1) - sq, n * (n - 1))
        for total, sq, n in zip(totals, sums, counts, strict=True)
    ]
    cross = ratio((totals[0] * totals[1]).sum(axis=1), counts[0] * counts[1])
    return Moments(
        sq_norm_correct=ratio(sums[0], counts[0]),
        sq_norm_wrong=ratio(sums[1], counts[1]),
        sq_norm_difference=own[0] + own[1] - 2.0 * cross,
        norm_correct=ratio(norms[0], counts[0]),
        norm_wrong=ratio(norms[1], counts[1]),
    )


def _sum(index_R: IntArray, value_R: FloatArray, num_groups: int) -> FloatArray:
    """Of each group, added one after the other."""
    return np.asarray(np.bincount(index_R, value_R, num_groups), dtype=np.float64)
