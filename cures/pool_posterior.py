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
    as_int,
    as_int_array,
    fail,
    is_distinct,
)
from cures.memory_length import MemoryLength
from cures.posterior import BetaPosterior

# Before any evidence: four groups of a U-shaped pool, Beta(1/2, 1/2), of mean 1/2 and mean square 3/8.
FIRST_GUESS = np.array([4.0, 2.0, 1.5])
CATEGORY_START = 4.0
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
        # step from which on a prompt's time is not counted yet
        self._next_N = np.zeros(num_prompts, dtype=np.int64)
        self.memory: MemoryLength | None = None
        if choose_memory:
            if not self.forgetting:
                fail(where, "choose_memory", "False where nothing is forgotten", choose_memory)
            self.memory = MemoryLength(num_prompts, -1.0 / np.log1p(-self.forgetting))
        # minus the logarithm of what is left of the first evidence of all; the same when last told
        self._faded = 0.0
        self._faded_N = np.zeros(num_prompts if choose_memory else 0)

    def advance(self, steps: int = 1) -> None:
        """See :meth:`BetaPosterior.advance <cures.posterior.BetaPosterior.advance>`."""
        super().advance(steps)
        if self.memory is not None:
            self._faded += steps / self.memory.updates
        self._sums_C_3 = self._sums_C_3 * (1.0 - self.forgetting) ** steps

    def update(self, prompt_B: ArrayLike, success_B: ArrayLike, trial_B: ArrayLike) -> None:
        """See :meth:`BetaPosterior.update <cures.posterior.BetaPosterior.update>`."""
        where = "PoolPosterior.update"
        if self.memory is not None and not is_distinct(np.asarray(prompt_B)):
            fail(where, "prompt_B", "distinct under choose_memory", prompt_B)
        prior = self.prior_of(prompt_B)  # before these groups
        super().update(prompt_B, success_B, trial_B)
        prompt = as_int_array(where, "prompt_B", prompt_B)
        right = as_int_array(where, "success_B", success_B)
        trial = as_int_array(where, "trial_B", trial_B)
        share = self._visits / len(self)
        if self.memory is not None:
            self._faded_N[prompt] = self._faded
            self.memory.told(prompt, right, trial, prior, self.step, share=share)
        has_pairs = trial >= 2
        prompt = prompt[has_pairs]
        s, n = right[has_pairs].astype(np.float64), trial[has_pairs].astype(np.float64)
        weight = share * (self.step + 1 - self._next_N[prompt])
        self._next_N[prompt] = self.step + 1
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
        kept = np.exp(self._faded_N[selected] - self._faded)
        return self._success_N[selected] * kept, self._failure_N[selected] * kept

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
        # not of this pool's time until now
        joined = np.full(count, self.step, dtype=np.int64)
        self._next_N = np.concatenate([self._next_N, joined])
        if self.memory is not None:
            self.memory = self.memory.extended(count)
            self._faded_N = np.concatenate([self._faded_N, np.zeros(count)])

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
            "faded": self._faded,
            "faded_N": self._faded_N.copy(),
            "pool": self._sums_C_3.reshape(-1).copy(),
            "next_N": self._next_N.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`BetaPosterior.load_state_dict <cures.posterior.BetaPosterior.load_state_dict>`."""
        where = "PoolPosterior.load_state_dict"
        sums, following, memory = self._sums_C_3, self._next_N, copy(self.memory)
        faded, faded_N = self._faded, self._faded_N
        # or the other one says what is missing
        needed = {"pool", "next_N", "step", "faded", "faded_N"}
        if isinstance(state, Mapping) and needed <= state.keys():
            flat = as_float_array(where, "pool", state["pool"], length=sums.size, low=0.0)
            sums = flat.reshape(sums.shape)
            latest = as_int(where, "step", state["step"], 0) + 1
            following = as_int_array(
                where, "next_N", state["next_N"], length=len(self), low=0, high=latest
            )
            faded = as_float(where, "faded", state["faded"], 0.0)
            faded_N = as_float_array(
                where, "faded_N", state["faded_N"], length=faded_N.size, low=0.0, high=faded
            )
            if memory is not None:
                memory.load_state_dict(
                    {
                        key.removeprefix("memory/"): value
                        for key, value in state.items()
                        if key.startswith("memory/")
                    }
                )
        super().load_state_dict(state)
        self._sums_C_3, self._next_N, self.memory = sums, following, memory
        self._faded, self._faded_N = faded, faded_N


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
