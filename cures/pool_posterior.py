r"""The Beta posterior with a prior that follows the pool (empirical Bayes).

What is known about a prompt that was never visited, or long ago, is what the others show. The prior is
the Beta law with the mean and the variance of the success rates over the pool, both without bias from
groups of n rollouts with s right ones,

.. math:: E\Bigl[\frac{s}{n}\Bigr] = E[p], \qquad E\Bigl[\frac{s(s-1)}{n(n-1)}\Bigr] = E[p^2],

each group weighted by the time since its prompt was seen before. Of every prompt these times add up to
the whole time, however often it is visited, so a scheduler that prefers some prompts does not take what
it prefers for the pool. (But for groups of which a single rollout came back: they say nothing of a
spread, and their times are lost.) Weights fade as evidence does.

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
    InWords,
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
GONE = 40.0  # evidence that has faded to e^-40 is none
MOST_CHOSEN = 0.6  # forgotten per update where memories are compared: they begin at one update
STRENGTH = (0.2, 20.0)  # of the prior, in rollouts: a pool of two kinds; a pool of one kind


class PoolPosterior(BetaPosterior):
    """A :class:`~cures.posterior.BetaPosterior` whose prior is estimated from what it is told.

    Parameters
    ----------
    num_prompts : int
    visits_per_step : float
        Prompts seen between two policy updates, > 0: makes the average weight of a group 1.
    forgetting : float, optional
        See :class:`~cures.posterior.BetaPosterior`; of the sums behind the prior, too. Evidence that
        fades is held in single precision.
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

    def __init__(
        self,
        num_prompts: int,
        *,
        visits_per_step: float,
        forgetting: float = 0.0,
        choose_memory: bool = False,
        category_N: ArrayLike | None = None,
    ) -> None:
        where = "PoolPosterior"
        if forgetting:  # needs no more digits, and large pools are held in half the memory
            self._holds = np.float32
        super().__init__(num_prompts, forgetting=forgetting)
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
            as_float(where, "forgetting", forgetting, 0.0, MOST_CHOSEN, open_low=True)
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
        prompt = as_int_array(where, "prompt_B", prompt_B, low=0, high=len(self) - 1)
        if not is_distinct(prompt):
            fail(where, "prompt_B", "distinct", prompt_B)
        prior = self.prior_of(prompt)  # before these groups
        since = self._uncounted_from(prompt)
        super().update(prompt, success_B, trial_B)
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
        age = self.step - self._stamp_N[selected]
        faded = self._faded_S[-1] - self._faded_S[-1 - np.minimum(age, self._faded_S.size - 1)]
        kept = np.where((age < self._faded_S.size) & (faded <= GONE), np.exp(-faded), 0.0)
        return self._success_N[selected] * kept, self._failure_N[selected] * kept

    def _since_oldest(self) -> int:
        """Updates from the oldest evidence to now, both counted. O(N)."""
        has_any = (self._success_N > 0.0) | (self._failure_N > 0.0)
        return self.step + 1 - int(self._stamp_N.min(where=has_any, initial=self.step))

    def _needed(self) -> FloatArray:
        """Of the fading clock, what evidence is read by. O(N)."""
        latest_S = self._faded_S[-self._since_oldest() :] if self.memory else self._faded_S
        return np.array(latest_S[latest_S[-1] - latest_S <= GONE])

    def _uncounted_from(self, prompt: IntArray) -> IntArray:
        """Update from which on the time of these prompts is not in the sums yet."""
        # a prompt without evidence has the stamp of when it came into the pool
        is_told = self._success_N[prompt] + self._failure_N[prompt] > 0.0
        return self._stamp_N[prompt].astype(np.int64) + is_told

    def extend(self, count: int) -> None:
        """See :meth:`BetaPosterior.extend <cures.posterior.BetaPosterior.extend>`.

        Raises
        ------
        ValueError
            If prompts have categories: nobody said what those of the new ones are.
        """
        if self._category_N is not None:
            legal = "None in a pool that grows"
            fail("PoolPosterior.extend", "category_N", legal, InWords("an array"))
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
        faded_S = as_float_array(where, "faded_S", state["faded_S"], low=0.0)
        size = 1 if self.memory is None else other._since_oldest()
        is_whole = faded_S.size == size or (
            # what came before is gone; an update fades less than 1
            0 < faded_S.size < size and faded_S[-1] - faded_S[0] > GONE - 1.0
        )
        if not is_whole or (np.diff(faded_S) < 0.0).any():
            fail(where, "faded_S", f"{size} numbers, none below the one before", faded_S)
        other._faded_S, other._room = faded_S, 2 * faded_S.size + ROOM
        if self.memory is not None:
            other.memory = copy(self.memory)
            other.memory.load_state_dict(
                {
                    key.removeprefix("memory/"): value
                    for key, value in state.items()
                    if key.startswith("memory/")
                },
                step=other.step,
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
