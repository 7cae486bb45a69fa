r"""Ragged groups of rewards -> one advantage per rollout, and the weight of each rollout in the loss.

The loss of every host is :math:`\sum_r w_r A_r \,\mathrm{ratio}_r`, with :math:`\mathrm{ratio}_r` the
mean over the tokens of rollout r. :func:`advantages` gives A, :func:`rollout_weights` gives w.
A rollout is *wasted* iff its advantage is exactly 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import (
    FloatArray,
    IntArray,
    InWords,
    as_choice,
    as_float,
    as_float_array,
    as_int,
    as_int_array,
    fail,
)
from cures.records import binary_rewards

ESTIMATORS = ("grpo", "rloo", "dr_grpo", "reinforce++", "reinforce++-baseline")
AGGREGATIONS = ("prompt", "rollout", "token")


def advantages(
    reward_R: ArrayLike,
    group_R: ArrayLike,
    *,
    estimator: str = "grpo",
    eps: float = 1e-6,
    ddof: int = 1,
    baseline_R: ArrayLike | None = None,
    threshold: float | None = None,
) -> FloatArray:
    r"""Advantage of every rollout; groups may have any sizes, in any order.

    With group mean :math:`\bar r_g`, group size n, batch mean :math:`\bar r` and standard deviations
    over group (:math:`s_g`) or batch (:math:`s`):

    =========================  ==========================================================
    ``grpo``                   :math:`(r - \bar r_g) / (s_g + \epsilon)`
    ``rloo``                   :math:`(r - \bar r_g)\, n / (n - 1)`
    ``dr_grpo``                :math:`r - \bar r_g`
    ``reinforce++``            :math:`(r - \bar r) / (s + \epsilon)`
    ``reinforce++-baseline``   :math:`(r - \bar r_g) / (s + \epsilon)`, s of the numerators
    =========================  ==========================================================

    Parameters
    ----------
    reward_R : array_like of float, shape (R,)
        0 or 1; graded rewards need ``threshold``.
    group_R : array_like of int, shape (R,)
        Group of each rollout.
    estimator : str
        One of the table.
    eps : float
        Added to a standard deviation, > 0; 1e-6 as in verl.
    ddof : {0, 1}
        Degrees of freedom taken off in a standard deviation; 1 as in torch.
    baseline_R : array_like of float, shape (R,), optional
        Takes the place of the mean that ``rloo`` (then without n/(n-1)), ``dr_grpo`` and the
        ``reinforce++`` kinds subtract; where these then find no spread in the whole batch, they do
        not divide. Refused for ``grpo``: dividing by the spread of the group explodes where a
        constant group meets another centre than its own.
    threshold : float, optional
        Right iff ``reward >= threshold``.

    Returns
    -------
    advantage_R : ndarray of float64, shape (R,)
        Never NaN. Without a baseline: exactly 0 in singletons and constant groups (``reinforce++``:
        only in a constant batch).

    Raises
    ------
    ValueError
        On rewards other than 0/1, unknown estimator, wrong shapes.

    Examples
    --------
    >>> advantages([1, 0, 0, 0, 1, 1], [7, 7, 7, 7, 9, 9], estimator="rloo").round(3).tolist()
    [1.0, -0.333, -0.333, -0.333, 0.0, 0.0]
    """
    where = "advantages"
    as_choice(where, "estimator", estimator, ESTIMATORS)
    eps = as_float(where, "eps", eps, 0.0, open_low=True)
    ddof = as_int(where, "ddof", ddof, 0, 1)
    reward = binary_rewards(where, reward_R, threshold)
    group = as_int_array(where, "group_R", group_R, length=reward.size)
    if reward.size == 0:
        return reward
    baseline = None
    if baseline_R is not None:
        if estimator == "grpo":
            fail(where, "baseline_R", "None for estimator 'grpo'", InWords("an array"))
        baseline = as_float_array(where, "baseline_R", baseline_R, length=reward.size)

    _, index = np.unique(group, return_inverse=True)
    size_R = np.bincount(index)[index]
    mean_R = (np.bincount(index, weights=reward) / np.bincount(index))[index]
    if estimator == "reinforce++":
        mean_R = np.full(reward.size, reward.mean())
    centred: FloatArray = reward - (mean_R if baseline is None else baseline)
    if estimator == "dr_grpo" or (estimator == "rloo" and baseline is not None):
        return centred
    if estimator == "rloo":
        return np.asarray(centred * size_R / np.maximum(size_R - 1, 1))
    if estimator == "grpo":
        sum_sq = np.bincount(index, weights=centred**2)[index]
        std_R = np.sqrt(sum_sq / np.maximum(size_R - ddof, 1))
        return np.asarray(centred / (std_R + eps))
    spread = centred - centred.mean()
    if not (centred != centred[0]).any():
        spread[:] = 0.0  # the mean of equal floats can differ from them in the last bit
    if baseline is not None and not spread.any():
        return centred
    std = float(np.sqrt((spread**2).sum() / max(reward.size - ddof, 1)))
    return np.asarray(centred / (std + eps))


def rollout_weights(
    weight_G: ArrayLike,
    trial_G: ArrayLike,
    token_R: ArrayLike | None = None,
    aggregation: str = "prompt",
) -> FloatArray:
    r"""Weight :math:`w_r` of every trained rollout in the loss.

    =============  =====================================================================
    ``prompt``     weight_g / n_g: every draw of a prompt counts alike (Eq. 16)
    ``rollout``    m weight_g / sum of n_g
    ``token``      every *token* gets m weight_g / (all tokens), so w_r = that x token_r
    =============  =====================================================================

    Parameters
    ----------
    weight_G : array_like of float, shape (G,)
        ``Selection.weight_G``.
    trial_G : array_like of int, shape (G,)
        Rollouts trained on per group, n_g >= 0; a group without any contributes nothing.
    token_R : array_like of int, shape (R,), optional
        Tokens of each rollout, groups in the order of ``weight_G``; needed for ``token`` only.
    aggregation : str
        One of the table; m is the number of selected groups G.

    Returns
    -------
    weight_R : ndarray of float64, shape (R,)
        R = sum of n_g, groups in the order given.
    """
    where = "rollout_weights"
    as_choice(where, "aggregation", aggregation, AGGREGATIONS)
    weight = as_float_array(where, "weight_G", weight_G, low=0.0)
    trial: IntArray = as_int_array(where, "trial_G", trial_G, length=weight.size, low=0)
    total = int(trial.sum())
    if aggregation == "prompt":
        return np.repeat(weight / np.maximum(trial, 1), trial)  # Eq. (16)
    scaled = np.repeat(weight * weight.size, trial)
    if aggregation == "rollout":
        return scaled / max(total, 1)
    if token_R is None:
        fail(where, "token_R", "given for aggregation 'token'", None)
    token = as_int_array(where, "token_R", token_R, length=total, low=0)
    return scaled * token / max(int(token.sum()), 1)
