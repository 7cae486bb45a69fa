r"""The Beta posterior with a prior that follows the pool (empirical Bayes).

What is known about a prompt that was never visited, or long ago, is what the others show. The prior is
the Beta law with the mean and the variance of the success rates over the pool, both without bias from
groups of n rollouts with s right ones,

.. math:: E\Bigl[\frac{s}{n}\Bigr] = E[p], \qquad E\Bigl[\frac{s(s-1)}{n(n-1)}\Bigr] = E[p^2],

each group weighted by the time since its prompt was seen before. Of every prompt these times add up to
the whole time, however often it is visited, so a scheduler that prefers some prompts does not take what
it prefers for the pool. Weights fade as evidence does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, as_float, as_float_array, as_int, as_int_array
from cures.posterior import BetaPosterior

# Before any evidence: four groups of a U-shaped pool, Beta(1/2, 1/2), of mean 1/2 and mean square 3/8.
FIRST_GUESS = np.array([4.0, 2.0, 1.5])
STRENGTH = (0.2, 20.0)  # of the prior, in rollouts: a pool of two kinds; a pool of one kind


class PoolPosterior(BetaPosterior):
    """A :class:`~cures.posterior.BetaPosterior` whose prior is estimated from what it is told.

    Parameters
    ----------
    num_prompts : int
    visits_per_step : float
        Prompts seen between two policy updates, > 0: makes the average weight of a group 1.
    forgetting : float, optional
        See :class:`~cures.posterior.BetaPosterior`.

    Examples
    --------
    Three prompts without a right answer make a fourth one suspect:

    >>> posterior = PoolPosterior(4, visits_per_step=3)
    >>> posterior.update([0, 1, 2], [0, 0, 0], [8, 8, 8])
    >>> bool(posterior.mean()[3] < 0.5)
    True
    """

    def __init__(
        self, num_prompts: int, *, visits_per_step: float, forgetting: float = 0.0
    ) -> None:
        super().__init__(num_prompts, forgetting=forgetting)
        where = "PoolPosterior"
        self._share = (
            as_float(where, "visits_per_step", visits_per_step, 0.0, open_low=True) / num_prompts
        )
        self._pool = np.zeros(3)  # sums over groups of weight, weight p, weight p^2
        # step from which on a prompt's time is not counted yet
        self._next_N = np.zeros(num_prompts, dtype=np.int64)

    def advance(self, steps: int = 1) -> None:
        """See :meth:`BetaPosterior.advance <cures.posterior.BetaPosterior.advance>`."""
        super().advance(steps)
        self._pool = self._pool * (1.0 - self.forgetting) ** steps

    def update(self, prompt_B: ArrayLike, success_B: ArrayLike, trial_B: ArrayLike) -> None:
        """See :meth:`BetaPosterior.update <cures.posterior.BetaPosterior.update>`."""
        super().update(prompt_B, success_B, trial_B)
        where = "PoolPosterior.update"
        trial = as_int_array(where, "trial_B", trial_B)
        has_pairs = trial >= 2
        prompt = as_int_array(where, "prompt_B", prompt_B)[has_pairs]
        s = as_int_array(where, "success_B", success_B)[has_pairs].astype(np.float64)
        n = trial[has_pairs].astype(np.float64)
        weight = self._share * (self.step + 1 - self._next_N[prompt])
        self._next_N = self._next_N.copy()
        self._next_N[prompt] = self.step + 1
        self._pool = self._pool + np.array(
            [
                weight.sum(),
                (weight * s / n).sum(),
                (weight * s * (s - 1.0) / (n * (n - 1.0))).sum(),
            ]
        )

    def prior(self) -> tuple[float, float]:
        """Counts of the Beta law of the pool's mean and variance now."""
        weight, first, second = self._pool + FIRST_GUESS
        mean = first / weight
        variance = second / weight - mean**2
        # of Beta(a, b): variance = mean (1 - mean) / (a + b + 1); nothing if it is no variance of rates
        spread = mean * (1.0 - mean)
        strength = spread / variance - 1.0 if variance > 0.0 else STRENGTH[1]
        strength = float(np.clip(strength, *STRENGTH))
        return mean * strength, (1.0 - mean) * strength

    def alpha_beta(self, prompt_B: ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
        """See :meth:`BetaPosterior.alpha_beta <cures.posterior.BetaPosterior.alpha_beta>`."""
        success, failure = self.evidence(prompt_B)
        alpha, beta = self.prior()
        return alpha + success, beta + failure

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`BetaPosterior.state_dict <cures.posterior.BetaPosterior.state_dict>`."""
        return {**super().state_dict(), "pool": self._pool.copy(), "next_N": self._next_N.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`BetaPosterior.load_state_dict <cures.posterior.BetaPosterior.load_state_dict>`."""
        where = "PoolPosterior.load_state_dict"
        pool, following = self._pool, self._next_N
        # or the other one says what is missing
        if isinstance(state, Mapping) and {"pool", "next_N", "step"} <= state.keys():
            pool = as_float_array(where, "pool", state["pool"], length=3, low=0.0)
            latest = as_int(where, "step", state["step"], 0) + 1
            following = as_int_array(
                where, "next_N", state["next_N"], length=len(self), low=0, high=latest
            )
        super().load_state_dict(state)
        self._pool, self._next_N = pool, following
