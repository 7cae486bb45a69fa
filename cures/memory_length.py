r"""How long evidence about a success rate should last: what would have predicted best.

Evidence fades because the policy moves, and how fast it moves is not known beforehand. So several
memories are kept side by side, tau = 8, 16, 32 ... updates after which evidence counts 1/e. Each
predicts every new group of a prompt that was seen before by a beta-binomial law, and its score is the
sum of the logarithms of what it gave to what came, fading within :data:`SCORE_MEMORY` updates. The
memory in use is the mean of log tau under weights exp(score), with a prior around the length to begin
with.

Groups are weighted by the time since their prompt was seen before, as for the pool's prior
(:mod:`cures.pool_posterior`): a scheduler comes back soon to those that move, and the memory has to do
for those, too, that wait. Of a large pool a part is followed (:mod:`cures.followed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from cures.beta_binomial import log_beta_binomial
from cures.checks import IntArray, as_float, as_float_array, as_int, as_int_array, fail
from cures.followed import stride
from cures.sampling import order_free_sum
from cures.storage import State

SHORTEST, OCTAVES_UP = 3, 3  # octaves: 2^3 updates; the longest is 2^3 times the one to begin with
SCORE_MEMORY = 20.0  # updates
SPREAD = 1.0  # octaves: standard deviation of the prior


class MemoryLength:
    """The memory in use, and the evidence for it. Changed in place.

    Parameters
    ----------
    num_prompts : int
    start : float
        Updates in which evidence fades to 1/e to begin with, >= 1.

    Attributes
    ----------
    length_K : ndarray of float64, shape (K,)
        The memories that are compared, in updates.
    updates : float
        The one in use.

    Examples
    --------
    Prompts that are one way at one visit and another way at the next ask for a short memory:

    >>> memory = MemoryLength(4, start=64.0)
    >>> for step in range(0, 400, 10):
    ...     memory.told(np.arange(4), np.full(4, 8 * (step // 10 % 2)), np.full(4, 8), (0.5, 0.5), step)
    >>> memory.updates < 16.0
    True
    """

    def __init__(self, num_prompts: int, start: float) -> None:
        start = as_float("MemoryLength", "start", start, 1.0)
        longest = max(SHORTEST + 1, int(np.ceil(np.log2(start))) + OCTAVES_UP)
        self._octave_K = np.arange(SHORTEST, longest + 1, dtype=np.float64)
        self.length_K = np.exp2(self._octave_K)
        self._prior_K = -0.5 * ((self._octave_K - np.log2(start)) / SPREAD) ** 2
        self._num_prompts = num_prompts
        self._stride = stride(num_prompts)
        tracked = -(-num_prompts // self._stride)
        self._success_K_N = np.zeros((self.length_K.size, tracked))
        self._failure_K_N = np.zeros((self.length_K.size, tracked))
        self._step_N = np.full(tracked, -1, dtype=np.int64)
        self._score_K = np.zeros(self.length_K.size)
        self._score_step = 0
        self._weigh()

    def _weigh(self) -> None:
        log_weight_K = self._score_K + self._prior_K
        weight_K = np.exp(log_weight_K - log_weight_K.max())
        self.updates = float(np.exp2(weight_K @ self._octave_K / weight_K.sum()))

    def told(
        self,
        prompt_B: IntArray,
        success_B: IntArray,
        trial_B: IntArray,
        prior: tuple[Any, Any],
        step: int,
        *,
        share: float = 1.0,
    ) -> None:
        """Score the memories by groups of distinct prompts, and remember these.

        Parameters
        ----------
        prompt_B, success_B, trial_B : ndarray of int64, shape (B,)
        prior : pair of float or ndarray of float64, shape (B,)
            Counts of each prompt's Beta law without evidence.
        step : int
            Updates so far, never less than before.
        share : float
            Of the pool in an update: makes the average weight of a group 1.
        """
        is_tracked = (prompt_B % self._stride == 0) & (trial_B > 0)
        at = prompt_B[is_tracked] // self._stride
        s, n = success_B[is_tracked], trial_B[is_tracked]
        alpha, beta = (np.broadcast_to(half, prompt_B.shape)[is_tracked] for half in prior)
        before = self._step_N[at]
        age = step - before
        kept_K_B = np.where(before >= 0, np.exp(-age / self.length_K[:, None]), 0.0)
        right_K_B = self._success_K_N[:, at] * kept_K_B
        wrong_K_B = self._failure_K_N[:, at] * kept_K_B
        predicted_K_B = log_beta_binomial(s, n, alpha + right_K_B, beta + wrong_K_B)
        weight_B = np.where((before >= 0) & (age > 0), share * age, 0.0)
        self._score_K = self._score_K * np.exp(-(step - self._score_step) / SCORE_MEMORY)
        # every row is a sum in one order whatever the prompts are called
        self._score_K += np.array([order_free_sum(row) for row in predicted_K_B * weight_B])
        self._score_step = step
        self._success_K_N[:, at] = right_K_B + s
        self._failure_K_N[:, at] = wrong_K_B + (n - s)
        self._step_N[at] = step
        self._weigh()

    def extended(self, count: int) -> MemoryLength:
        """Another one, with so many more prompts at the end of the pool; the same memories."""
        other = copy(self)
        other._num_prompts += count
        other._stride = stride(other._num_prompts)
        stay = slice(None, None, other._stride // self._stride)
        tracked = -(-other._num_prompts // other._stride)
        none_K_N = np.zeros((self.length_K.size, tracked - self._step_N[stay].size))
        other._success_K_N = np.concatenate([self._success_K_N[:, stay], none_K_N], axis=1)
        other._failure_K_N = np.concatenate([self._failure_K_N[:, stay], none_K_N], axis=1)
        never = np.full(none_K_N.shape[1], -1, dtype=np.int64)
        other._step_N = np.concatenate([self._step_N[stay], never])
        return other

    def state_dict(self) -> State:
        """Flat arrays and ints, copies."""
        return {
            "success_K_N": self._success_K_N.reshape(-1).copy(),
            "failure_K_N": self._failure_K_N.reshape(-1).copy(),
            "step_N": self._step_N.copy(),
            "score_K": self._score_K.copy(),
            "score_step": self._score_step,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, step: int) -> None:
        """Continue from :meth:`state_dict` of a memory of the same pool and start, at this update.

        Raises
        ------
        ValueError
            Naming an entry that is missing or malformed; nothing has changed then.
        """
        where = "MemoryLength.load_state_dict"
        own = self.state_dict()
        if set(state) != set(own):
            fail(where, "state", f"a dict with keys {sorted(own)}", sorted(map(str, state)))
        shape = self._success_K_N.shape
        success, failure = (
            as_float_array(where, name, state[name], length=shape[0] * shape[1], low=0.0)
            for name in ("success_K_N", "failure_K_N")
        )
        score = as_float_array(where, "score_K", state["score_K"], length=shape[0])
        score_step = as_int(where, "score_step", state["score_step"], 0, step)
        step_N = as_int_array(
            where, "step_N", state["step_N"], length=shape[1], low=-1, high=score_step
        )
        self._success_K_N, self._failure_K_N = success.reshape(shape), failure.reshape(shape)
        self._step_N, self._score_K, self._score_step = step_N, score, score_step
        self._weigh()
