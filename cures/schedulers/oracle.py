"""The reference arm: the sampling and quota rules of the paper, fed true success rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import (
    FloatArray,
    IntArray,
    as_array,
    as_bool,
    as_choice,
    as_float,
    as_float_array,
    fail,
)
from cures.gradient_std import gradient_std_surrogate
from cures.potential import potential
from cures.records import Moments, Outcome, Plan
from cures.sampling import sampling_distribution
from cures.schedulers.driver import Scheduler
from cures.schedulers.driver.checkpoint import SchedulerState, fingerprint
from cures.schedulers.driver.draft import Draft
from cures.schedulers.weighted import DenseLaw, WeightedDraw, dense_equal_law
from cures.storage import State, StateValue

KNOWS = ("all", "visited")


class Oracle(Scheduler):
    r"""Eq. 14 and Eq. 20 over the whole pool at the true success rates; no pilots, no posterior.

    What the rule of the paper could reach if estimation were free and perfect. No contender, and no
    upper bound by proof: a better rule may beat it. With ``knows='visited'`` it has to look at a prompt
    before it knows it, as all have to who are told nothing: what it loses against ``'all'`` is the price
    of looking.

    Expected cost of an update: exactly ``budget`` rollouts. What the rates cost is the host's to book
    (in the ledger under ``oracle``, beside the budget).

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`.
    true_success_rate : callable
        ``() -> array_like of float, shape (N,)``, values in [0, 1]; called once per update.
    temperature : float
        tau of Eq. 14, > 0.
    learnable : array_like of bool, shape (N,), optional
        Prompts whose success rate training can change; the potential of the others is 0.
    sampling, quota : bool
        False: uniform prompts, equal quotas.
    knows : {'all', 'visited'}
        ``'visited'``: true rates of the prompts alone that had a group before; all others count with the
        mean potential and the mean sigma of those (of none: alike).
    """

    name = "oracle"
    has_exact_budget = True
    is_single_plan = True

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        true_success_rate: Callable[[], ArrayLike],
        temperature: float = 0.05,
        learnable: ArrayLike | None = None,
        sampling: bool = True,
        quota: bool = True,
        knows: str = "all",
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        if not callable(true_success_rate):
            fail(self.name, "true_success_rate", "callable without arguments", true_success_rate)
        self._true_success_rate = true_success_rate
        self.temperature = as_float(self.name, "temperature", temperature, 0.0, open_low=True)
        self.sampling = as_bool(self.name, "sampling", sampling)
        self.quota = as_bool(self.name, "quota", quota)
        self.knows = as_choice(self.name, "knows", knows, KNOWS)
        self._is_visited_N = np.zeros(self.num_prompts, dtype=np.uint8)
        self._learnable_N = np.ones(self.num_prompts)
        self._learnable_digest = "everyone"
        if learnable is not None:
            legal = f"{self.num_prompts} booleans"
            flag = as_array(self.name, "learnable", learnable, legal)
            if flag.dtype != np.bool_ or flag.shape != (self.num_prompts,):
                fail(self.name, "learnable", legal, learnable)
            self._learnable_N = flag.astype(np.float64)
            self._learnable_digest = fingerprint(self._learnable_N)
        self._rate_N = np.zeros(0)
        self._rate_step = 0

    def _prepare(self) -> None:
        """Ask for the true rates once per update."""
        if self._rate_N.size and self._rate_step == self.update_step:
            return
        self._rate_N = as_float_array(
            self.name,
            "true_success_rate()",
            self._true_success_rate(),
            length=self.num_prompts,
            low=0.0,
            high=1.0,
        )
        self._rate_step = self.update_step

    def sampling_distribution(self) -> FloatArray:
        """Chance per draw of every prompt, shape (N,)."""
        if not self.sampling:
            return dense_equal_law(self.num_prompts, self._is_retired_N).prob_S
        worth_N = self._known(potential(self._rate_N) * self._learnable_N)
        if self._is_retired_N is None:
            return sampling_distribution(worth_N, self.temperature)  # Eq. (14)
        prob_N = np.zeros(self.num_prompts)
        is_in_N = ~self._is_retired_N
        prob_N[is_in_N] = sampling_distribution(worth_N[is_in_N], self.temperature)
        return prob_N

    def gradient_std(self, prompt: IntArray) -> tuple[FloatArray, int]:
        """Sigma of these prompts (no variance is negative here); ones under ``quota=False``."""
        if not self.quota:
            return np.ones(prompt.size), 0
        return self._known(gradient_std_surrogate(self._rate_N) * self._learnable_N)[prompt], 0

    def _known(self, value_N: FloatArray) -> FloatArray:
        """Under ``knows='visited'`` with the mean of the visited prompts for all others."""
        if self.knows == "all":
            return value_N
        is_known_N = self._is_visited_N == 1
        guess = value_N[is_known_N].mean() if is_known_N.any() else 1.0
        return np.where(is_known_N, value_N, guess)

    def _draw(self) -> WeightedDraw:
        law = DenseLaw(self.sampling_distribution())
        return WeightedDraw(
            lambda slot: slot,
            law,
            lambda: dense_equal_law(self.num_prompts, self._is_retired_N),
            self.gradient_std,
        )

    def _draft(self, generator: np.random.Generator) -> Draft:
        return self._draw().batch(
            generator,
            self.batch_size,
            self.budget,
            min_quota=self.min_quota,
            max_quota=self.max_quota,
        )

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        return self._draw().one(generator)

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        """Nothing to advance: every plan is drawn afresh."""

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        self._is_visited_N[plan.prompt_B[at]] = 1

    def _extended(self, count: int) -> None:
        """The host is asked for the rates of the new prompts, too; it did not say who can learn."""
        if self._learnable_digest != "everyone":
            legal = "None in a pool that grows: it does not say whether new prompts can be learned"
            fail(f"{self.name}.extend", "learnable", legal, self._learnable_digest)
        self._learnable_N = np.ones(self.num_prompts)
        self._is_visited_N = np.append(self._is_visited_N, np.zeros(count, dtype=np.uint8))
        self._rate_N = np.zeros(0)

    def _retired(self, prompt: IntArray) -> None:
        """Nothing to do: retired prompts are left out when a plan is drawn."""

    def _config(self) -> dict[str, StateValue]:
        return {
            "temperature": self.temperature,
            "learnable": self._learnable_digest,
            "sampling": int(self.sampling),
            "quota": int(self.quota),
            "knows": self.knows,
        }

    def _rule_state(self) -> State:
        return {
            "rate_N": self._rate_N.copy(),
            "rate_step": self._rate_step,
            "visited_N": self._is_visited_N.copy(),
        }

    def _load_rule_state(self, state: SchedulerState) -> None:
        rate_N = state.floats("rate_N")
        if rate_N.size:
            as_float_array(
                "load_state_dict", "rate_N", rate_N, length=self.num_prompts, low=0.0, high=1.0
            )
        self._is_visited_N = state.counts("visited_N", self.num_prompts, 1).astype(np.uint8)
        self._rate_N = rate_N
        self._rate_step = state.integer("rate_step")
