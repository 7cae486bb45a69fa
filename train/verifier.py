"""Completion -> reward 0 or 1: the whole answer, then EOS, exactly.

The spoiled prompts of a pool (see train/tasks/arithmetic.py) have their reward replaced here, where a faulty
verifier would do it, so that nothing downstream can tell.
"""

from __future__ import annotations

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray
from train.tasks.arithmetic import ALWAYS, COIN, NEVER


def exact_match(token_R_T: IntArray, answer_R_A: IntArray) -> FloatArray:
    """1.0 where a completion is the answer and EOS and nothing else, shape (R,).

    An answer cut short has no EOS and is therefore wrong.
    """
    width = answer_R_A.shape[1]
    if token_R_T.shape[1] < width:
        return np.zeros(token_R_T.shape[0])
    is_right_R: BoolArray = (token_R_T[:, :width] == answer_R_A).all(axis=1)
    return is_right_R.astype(np.float64)


def reward(
    token_R_T: IntArray, answer_R_A: IntArray, kind_R: IntArray, generator: np.random.Generator
) -> FloatArray:
    """Reward of each rollout, spoiled prompts included, shape (R,).

    Parameters
    ----------
    token_R_T, answer_R_A : ndarray of int64
        Completions and right answers.
    kind_R : ndarray of int64, shape (R,)
        Kind of each rollout's prompt.
    generator : numpy.random.Generator
        For the coins; one draw per rollout whatever its kind, so that the coins of a prompt do not
        depend on the kinds of the others.
    """
    reward_R = exact_match(token_R_T, answer_R_A)
    coin_R = (generator.random(kind_R.size) < 0.5).astype(np.float64)
    reward_R[kind_R == NEVER] = 0.0
    reward_R[kind_R == ALWAYS] = 1.0
    return np.where(kind_R == COIN, coin_R, reward_R)
