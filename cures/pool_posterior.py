r"""The Beta posterior with a prior that follows the pool (empirical Bayes).

What is known about a prompt that was never visited, or long ago, is what the others show. The prior is
the Beta law with the mean and the variance of the success rates over the pool, both without bias from
groups of n rollouts with s right ones,

.. math:: E\Bigl[\frac{s}{n}\Bigr] = E[p], \qquad E\Bigl[\frac{s(s-1)}{n(n-1)}\Bigr] = E[p^2],

each group weighted by the time since its prompt was seen before. Of every prompt these times add up to
the whole time, however often it is visited, so a scheduler that prefers some prompts does not take what
it prefers for the pool. Weights fade as evidence does.

Where prompts have categories, each category has such a prior of its own, and begins as
:data:`CATEGORY_START` groups of the pool: a hierarchy of moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import (
    FloatArray,
    IntArray,
    as_float,
    as_float_array,
    as_int_array,
    fail,
    is_distinct,
)
from cures.memory_length import MemoryLength
from cures.posterior import BetaPosterior

# Before any evidence: four groups of a U-shaped pool, Beta(1/2, 1/2), of mean 1/2 and mean square 3/8.
FIRST_GUESS = np.array([4.0, 2.0, 1.5])
CATEGORY_START = 4.0
ROOM = 64  # updates
STRENGTH = (0.2, 20.0)  # of the prior, in rollouts: a pool of two kinds; a pool of one kind


class PoolPosterior(BetaPosterior):
    """A :class:`~cures.posterior.BetaPosterior` whose prior is estimated from what it is told.

    Parameters
    ----------
    num_prompts : int
    visits_per_step : float
        Prompts seen between two policy updates, > 0: makes the average weight of a group 1.
    forgetting : float, optional
        See :class:`~cures.posterior.BetaPosterior`; of the sums behind the prior, too.
    choose_memory : bool
        The share of the evidence that is lost is ``forgetting`` to begin with, and then what would have
        predicted best (:mod:`cures.memory_length`). The sums behind the prior keep to ``forgetting``.
    category_N : array_like of int, shape (N,), optional
        In [0, C).

    Examples
    --------
    Three prompts without a right answer make a fourth one suspect:

    >>> posterior = PoolPosterior(4, visits_per_step=3)
    >>> posterior.update([0, 1, 2], [0, 0, 0], [8, 8, 8])
    >>> bool(posterior.mean()[3] < 0.5)
    True
    """

    # Counts that fade need no more digits, and large pools are held in half the memory.
    _holds = np.float32

    def __init__(
        self,
        num_prompts: int,
        *,
        visits_per_step: float,
        forgetting: float = 0.0,
        choose_memory: bool = False,
        category_N: ArrayLike | None = None,
    ) -> None:
        super().__init__(num_prompts, forgetting=forgetting)
        where = "PoolPosterior"
        self._visits = as_float(where, "visits_per_step", visits_per_step, 0.0, open_low=True)
        self._category_N: IntArray | None = None
        if category_N is not None:
            self._category_N = as_int_array(
                where, "category_N", category_N, length=num_prompts, low=0
            )
        categories = 1 if self._category_N is None else int(self._category_N.max()) + 1
        # sums over a category's groups of weight, weight p, weight p^2
        self._sums_C_3 = np.zeros((categories, 3))
        self._stamp_N = np.zeros(num_prompts, dtype=np.int32)  # also where nothing is forgotten
        self.memory: MemoryLength | None = None
        if choose_memory:
            if not self.forgetting:
                fail(where, "choose_memory", "False where nothing is forgotten", choose_memory)
            self.memory = MemoryLength(num_prompts, -1.0 / np.log1p(-self.forgetting))
        # minus the logarithm of what is left of the first evidence of all, at the latest S updates
        self._faded_S = np.zeros(1)
        self._room = ROOM  # updates until those are let go that came before the oldest evidence

    def advance(self, steps: int = 1) -> None:
        """See :meth:`BetaPosterior.advance <cures.posterior.BetaPosterior.advance>`."""
        super().advance(steps)
        if self.memory is not None:
            more_S = np.arange(1, steps + 1) / self.memory.updates
            self._faded_S = np.concatenate([self._faded_S, self._faded_S[-1] + more_S])
            if self._faded_S.size > self._room:
                self._faded_S = self._needed()
                self._room = 2 * self._faded_S.size + ROOM  # so that looking at the pool is rare
        self._sums_C_3 = self._sums_C_3 * (1.0 - self.forgetting) ** steps

    def update(self, prompt_B: ArrayLike, success_B: ArrayLike, trial_B: ArrayLike) -> None:
        """See :meth:`BetaPosterior.update <cures.posterior.BetaPosterior.update>`."""
        where = "PoolPosterior.update"
        if self.memory is not None and not is_distinct(np.asarray(prompt_B)):
            fail(where, "prompt_B", "distinct under choose_memory", prompt_B)
        prior = self.prior_of(prompt_B)  # before these groups
        since = self._uncounted_from(prompt_B)
        super().update(prompt_B, success_B, trial_B)
        prompt = as_int_array(where, "prompt_B", prompt_B)
        right = as_int_array(where, "success_B", success_B)
        trial = as_int_array(where, "trial_B", trial_B)
        share = self._visits / len(self)
        if self.memory is not None:
            self.memory.told(prompt, right, trial, prior, self.step, share=share)
        has_pairs = trial >= 2
        prompt, since = prompt[has_pairs], since[has_pairs]
        s, n = right[has_pairs].astype(np.float64), trial[has_pairs].astype(np.float64)
        weight = share * (self.step + 1 - since)
        rate, pairs = s / n, s * (s - 1.0) / (n * (n - 1.0))
        told_B_3 = np.stack([weight, weight * rate, weight * pairs], axis=1)
        np.add.at(self._sums_C_3, self._of(prompt), told_B_3)

    def evidence(
        self, prompt_B: ArrayLike | None = None, *, at_step: int | IntArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """See :meth:`BetaPosterior.evidence <cures.posterior.BetaPosterior.evidence>`.

        Raises
        ------
        ValueError
            If another time is asked for and the memory is chosen along the way.
        """
        if self.memory is None:
            return super().evidence(prompt_B, at_step=at_step)
        where = "PoolPosterior.evidence"
        if at_step is not None:
            fail(where, "at_step", "None under choose_memory", at_step)
        selected = self._select(where, prompt_B)
        # who came before the first of them has no evidence
        age = np.minimum(self.step - self._stamp_N[selected], self._faded_S.size - 1)
        kept = np.exp(self._faded_S[-1 - age] - self._faded_S[-1])
        return self._success_N[selected] * kept, self._failure_N[selected] * kept

    def _oldest(self) -> int:
        """Update of the oldest evidence that there is."""
        has_any = (self._success_N > 0.0) | (self._failure_N > 0.0)
        return int(self._stamp_N.min(where=has_any, initial=self.step))

    def _needed(self) -> FloatArray:
        """Of the fading clock, what evidence is read by. O(N)."""
        size = 1 if self.memory is None else self.step - self._oldest() + 1
        return self._faded_S[-size:].copy()

    def _uncounted_from(self, prompt_B: ArrayLike) -> IntArray:
        """Update from which on the time of these prompts is not in the sums yet."""
        at = self._select("PoolPosterior.update", prompt_B)
        # a prompt without evidence has the stamp of when it came into the pool
        is_told = self._success_N[at] + self._failure_N[at] > 0.0
        return self._stamp_N[at].astype(np.int64) + is_told

    def extend(self, count: int) -> None:
        """See :meth:`BetaPosterior.extend <cures.posterior.BetaPosterior.extend>`.

        Raises
        ------
        ValueError
            If prompts have categories: nobody said what those of the new ones are.
        """
        if self._category_N is not None:
            legal = "None in a pool that grows"
            fail("PoolPosterior.extend", "category_N", legal, "an array")
        super().extend(count)
        self._stamp_N[-count:] = self.step  # not of this pool's time until now
        if self.memory is not None:
            self.memory = self.memory.extended(count)

    def _of(self, prompt_B: IntArray) -> IntArray:
        """Category of each prompt."""
        return np.zeros_like(prompt_B) if self._category_N is None else self._category_N[prompt_B]

    def prior(self) -> tuple[float, float]:
        """Counts of the Beta law of the pool's mean and variance now."""
        alpha, beta = _law(self._sums_C_3.sum(axis=0) + FIRST_GUESS)
        return float(alpha), float(beta)

    def prior_of(self, prompt_B: ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
        """See :meth:`BetaPosterior.prior_of <cures.posterior.BetaPosterior.prior_of>`."""
        if self._category_N is None:
            alpha, beta = self.prior()
            return np.asarray(alpha), np.asarray(beta)
        pool_3 = self._sums_C_3.sum(axis=0) + FIRST_GUESS
        alpha_C, beta_C = _law(self._sums_C_3 + CATEGORY_START * pool_3 / pool_3[0])
        category = self._category_N[self._select("PoolPosterior.prior_of", prompt_B)]
        return alpha_C[category], beta_C[category]

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`BetaPosterior.state_dict <cures.posterior.BetaPosterior.state_dict>`."""
        memory = {} if self.memory is None else self.memory.state_dict()
        return {
            **super().state_dict(),
            **{f"memory/{key}": value for key, value in memory.items()},
            "faded_S": self._needed(),
            "pool": self._sums_C_3.reshape(-1).copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`BetaPosterior.load_state_dict <cures.posterior.BetaPosterior.load_state_dict>`."""
        where = "PoolPosterior.load_state_dict"
        other = copy(self)
        super(PoolPosterior, other).load_state_dict(state)
        flat = as_float_array(where, "pool", state["pool"], length=self._sums_C_3.size, low=0.0)
        other._sums_C_3 = flat.reshape(self._sums_C_3.shape)
        size = 1 if self.memory is None else other.step - other._oldest() + 1
        faded_S = as_float_array(where, "faded_S", state["faded_S"], length=size, low=0.0)
        if (np.diff(faded_S) < 0.0).any():
            fail(where, "faded_S", "what never falls", faded_S)
        other._faded_S, other._room = faded_S, 2 * faded_S.size + ROOM
        if self.memory is not None:
            other.memory = copy(self.memory)
            other.memory.load_state_dict(
                {
                    key.removeprefix("memory/"): value
                    for key, value in state.items()
                    if key.startswith("memory/")
                }
            )
        vars(self).update(vars(other))


def _law(moments: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Counts of the Beta law with these sums of weight, weight p, weight p^2, shape (..., 3)."""
    weight, first, second = np.moveaxis(moments, -1, 0)
    mean = first / weight
    variance = second / weight - mean**2
    # of Beta(a, b): variance = mean (1 - mean) / (a + b + 1); nothing if it is no variance of rates
    with np.errstate(divide="ignore"):
        strength = np.where(variance > 0.0, mean * (1.0 - mean) / variance - 1.0, STRENGTH[1])
    strength = np.clip(strength, *STRENGTH)
    return mean * strength, (1.0 - mean) * strength
