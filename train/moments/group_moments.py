r"""Inner products of the scores of groups, and verdicts -> the moments of Eq. 21.

With n right scores of mean m and sample covariance V, :math:`|m|^2` is too large by :math:`tr V / n` on
average. Products of *different* rollouts alone do without it:

.. math:: |m|^2 - \frac{tr V}{n} = \frac{1}{n(n-1)} \sum_{i \ne j} \langle s_i, s_j \rangle .
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray
from cures.records import Moments

DIFFERENCES = ("unbiased", "plug-in")


@dataclass(frozen=True, slots=True, eq=False)
class GroupMoments:
    """Per group, NaN where rollouts are too few; float64, shape (B,)."""

    sq_norm_correct: FloatArray
    sq_norm_wrong: FloatArray
    unbiased: FloatArray  # of |E[s|r=1] - E[s|r=0]|^2, may be negative; of two of either at least
    plug_in: FloatArray  # |mean difference|^2, on average too large; of one of either at least
    norm_correct: FloatArray
    norm_wrong: FloatArray

    def moments(self, difference: str) -> Moments:
        """As schedulers take them, with one of the two squared differences."""
        return Moments(
            sq_norm_correct=self.sq_norm_correct,
            sq_norm_wrong=self.sq_norm_wrong,
            sq_norm_difference=self.unbiased if difference == "unbiased" else self.plug_in,
            norm_correct=self.norm_correct,
            norm_wrong=self.norm_wrong,
        )


def group_moments(gram_B_n_n: FloatArray, is_right_B_n: BoolArray) -> GroupMoments:
    """Moments of groups of n rollouts.

    Parameters
    ----------
    gram_B_n_n : ndarray of float64
        Inner products of the scores.
    is_right_B_n : ndarray of bool

    Examples
    --------
    Four scores on a line, right at 1 and 3, wrong at 0 and 2: products of different rollouts give
    1*3 + 0*2 - 2 * mean(1, 3) * mean(0, 2) = -1, while the means differ by 1.

    >>> s = np.array([1.0, 3.0, 0.0, 2.0])
    >>> found = group_moments(np.outer(s, s)[None], np.array([[True, True, False, False]]))
    >>> found.unbiased.tolist(), found.plug_in.tolist()
    ([-1.0], [1.0])
    """
    # rounding may leave the square of a vanishing score a hair below 0
    square_B_n = np.maximum(np.diagonal(gram_B_n_n, axis1=1, axis2=2), 0.0)
    kinds = [is_right_B_n.astype(np.float64), (~is_right_B_n).astype(np.float64)]
    count = [kind.sum(axis=1).astype(np.int64) for kind in kinds]

    def product(one: FloatArray, other: FloatArray) -> FloatArray:
        """Of the sums of the scores of two kinds."""
        return np.asarray((one[:, None, :] @ gram_B_n_n @ other[:, :, None])[:, 0, 0])

    def mean(value_B_n: FloatArray, kind: int) -> FloatArray:
        return _ratio((value_B_n * kinds[kind]).sum(axis=1), count[kind])

    own = [product(kind, kind) for kind in kinds]
    trace = [(np.diagonal(gram_B_n_n, axis1=1, axis2=2) * kind).sum(axis=1) for kind in kinds]
    cross = _ratio(product(*kinds), count[0] * count[1])
    distinct = [_ratio(own[k] - trace[k], count[k] * (count[k] - 1)) for k in (0, 1)]
    plain = [_ratio(own[k], count[k] ** 2) for k in (0, 1)]
    norm_B_n = np.sqrt(square_B_n)
    return GroupMoments(
        sq_norm_correct=mean(square_B_n, 0),
        sq_norm_wrong=mean(square_B_n, 1),
        unbiased=distinct[0] + distinct[1] - 2.0 * cross,
        plug_in=plain[0] + plain[1] - 2.0 * cross,
        norm_correct=mean(norm_B_n, 0),
        norm_wrong=mean(norm_B_n, 1),
    )


def _ratio(numerator: FloatArray, count: IntArray) -> FloatArray:
    """NaN, which means "not measured", where the count is 0."""
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, count, out=result, where=count > 0)
    return result
