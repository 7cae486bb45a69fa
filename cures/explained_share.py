r"""How much of a prompt's score the reward explains: nothing for a coin, much where there is something
to learn.

The score s = grad log pi(y|x) has mean 0, so that :math:`E|s|^2` is its variance. The part of it that
lies between right and wrong answers is

.. math:: p (1-p) \, |E[s|r=1] - E[s|r=0]|^2 = \frac{|\nabla p|^2}{p (1-p)},

because :math:`\nabla p = p (1-p) (E[s|r=1] - E[s|r=0])`. Their ratio, the *explained share* (R^2 of a
regression of the score on the reward), lies in [0, 1]. It is 0 where the reward ignores the answer:
there sqrt(p (1-p)), the bound of Eq. 11, is as large as ever and says nothing. It is 1 where one answer
is right and one is wrong.
"""

from __future__ import annotations

import numpy as np

from cures.checks import FloatArray, IntArray
from cures.records import Moments


def between_and_total(
    success_B: IntArray, trial_B: IntArray, moments_B: Moments
) -> tuple[FloatArray, FloatArray]:
    r"""Measure both variances on groups with gradient moments.

    Parameters
    ----------
    success_B, trial_B : ndarray of int64, shape (B,)
    moments_B : Moments
        With the *unbiased* squared difference.

    Returns
    -------
    between_B, total_B : ndarray of float64, shape (B,)
        :math:`\frac{s(n-s)}{n(n-1)} \hat D^2` and the mean of :math:`|s|^2`; both 0 where the group has
        fewer than two rollouts of a kind, and then says nothing. ``between_B`` may be negative: its mean
        is 0 for a coin.

    Notes
    -----
    Groups that are nearly all right or all wrong say nothing, so that of a prompt with p near 0 or 1
    the lucky groups alone are measured. Where right and wrong scores are of one size its share then
    comes out too large, 1/(3 p (1-p)) times at n = 4, and smaller where the rare kind's are the larger
    ones (claim 8.10): good enough to tell coins, whose mean is exactly 0 whatever groups are left out,
    and no estimate of the share itself.
    """
    s, n = success_B.astype(np.float64), trial_B.astype(np.float64)
    difference = moments_B.sq_norm_difference
    is_measured = np.isfinite(difference) & (s >= 2.0) & (n - s >= 2.0)
    between = np.zeros(s.size)
    total = np.zeros(s.size)
    s, n = s[is_measured], n[is_measured]
    between[is_measured] = s * (n - s) / (n * (n - 1.0)) * difference[is_measured]
    total[is_measured] = (
        s * moments_B.sq_norm_correct[is_measured] + (n - s) * moments_B.sq_norm_wrong[is_measured]
    ) / n
    return between, total


def learnable_share(
    between_N: FloatArray,
    total_N: FloatArray,
    pool: tuple[float, float, int],
    *,
    cut: float,
    floor: float,
) -> FloatArray:
    """Explained share of every prompt beside the pool's, cut off above.

    Parameters
    ----------
    between_N, total_N : ndarray of float64, shape (N,)
        Sums over a prompt's groups; 0 where none was measured.
    pool : tuple of float, float, int
        The same sums over all groups of the pool, and how many groups were measured.
    cut : float
        Share of the pool's explained share from which on a prompt counts fully, > 0.
    floor : float
        Smallest value, in (0, 1]: everyone is looked at again.

    Returns
    -------
    ndarray of float64, shape (N,)
        In [floor, 1]; 1 for prompts that nothing was measured of, and for all if nothing is explained
        in the pool as a whole. A prompt starts with a tenth of a group that is like the pool.

    Examples
    --------
    >>> between_N, total_N = np.array([4.0, 0.0, 0.0]), np.array([8.0, 8.0, 0.0])
    >>> learnable_share(between_N, total_N, (4.0, 16.0, 5), cut=0.5, floor=0.05)
    array([1.        , 0.07692308, 1.        ])
    """
    between, total, groups = pool
    if between <= 0.0:
        return np.ones(total_N.size)
    of_pool = between / total
    start = 0.1 * total / groups
    share_N = (between_N + start * of_pool) / (total_N + start)
    return np.clip(share_N / (cut * of_pool), floor, 1.0)
