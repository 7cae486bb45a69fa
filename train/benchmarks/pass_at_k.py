"""The chance that at least one of k answers is right, from n >= k judged ones."""

from __future__ import annotations

import numpy as np

from cures.checks import FloatArray, IntArray, as_int, as_int_array, fail


def pass_at_k(right_N: IntArray, judged_N: IntArray, k: int) -> FloatArray:
    r"""Unbiased estimate of pass@k per problem, shape (N,); NaN where fewer than k were judged.

    Parameters
    ----------
    right_N : array_like of int, shape (N,)
        Right answers c, in [0, n].
    judged_N : array_like of int, shape (N,)
        Answers n that were judged.
    k : int
        >= 1.

    Notes
    -----
    .. math:: 1 - \binom{n-c}{k} \Big/ \binom{n}{k} = 1 - \prod_{j=0}^{k-1} \frac{n-c-j}{n-j},

    the share of the k-subsets of the n answers that hold a right one. Its expectation over n independent
    answers of success rate p is :math:`1 - (1-p)^k`; the plug-in :math:`1 - (1 - c/n)^k` is too low. No
    factor exceeds 1, so the product neither overflows nor cancels [1]_.

    References
    ----------
    .. [1] M. Chen et al., "Evaluating Large Language Models Trained on Code", arXiv:2107.03374, eq. 1.

    Examples
    --------
    >>> pass_at_k([0, 1, 3, 4, 1], [4, 4, 4, 4, 1], 2)
    array([0. , 0.5, 1. , 1. , nan])
    """
    where = "pass_at_k"
    judged_N = as_int_array(where, "judged_N", judged_N, low=0)
    right_N = as_int_array(where, "right_N", right_N, length=judged_N.size, low=0)
    if (right_N > judged_N).any():
        place = int((right_N > judged_N).argmax())
        fail(where, "right_N", f"<= judged_N, which is {judged_N[place]} at index {place}",
             int(right_N[place]))  # fmt: skip
    k = as_int(where, "k", k, 1)
    wrong_N = (judged_N - right_N).astype(np.float64)
    none_right_N = np.ones(judged_N.size)
    for j in range(k):
        # a factor that reaches 0 keeps the product there
        factor_N = np.maximum(wrong_N - j, 0.0) / np.maximum(judged_N - j, 1)
        none_right_N *= factor_N
    return np.where(judged_N >= k, 1.0 - none_right_N, np.nan)
