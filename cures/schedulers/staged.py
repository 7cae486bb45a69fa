"""A hand-made curriculum: easy prompts first, by success rates known before training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import BoolArray, IntArray, InWords, as_float_array, as_int, fail
from cures.quota import allocate
from cures.records import Plan
from cures.schedulers.driver import Scheduler
from cures.schedulers.driver.checkpoint import SchedulerState, fingerprint
from cures.schedulers.driver.draft import Draft
from cures.schedulers.driver.randomness import ShuffledPasses
from cures.storage import State, StateValue


class Staged(Scheduler):
    """Prompts sorted by a given success rate, in equal stages of an equal share of the rollouts.

    Expected cost of an update: exactly ``budget`` rollouts.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`.
    prior_success_rate_N : array_like of float, shape (N,)
        Success rates in [0, 1] from elsewhere (another model, people). What they cost is not counted.
    total_rollouts : int
        Rollouts of the whole run; stage k trains the k-th share. Later rollouts stay in the last stage.
    num_stages : int
        Equal parts of the pool, each with at least ``batch_size`` prompts. Ties keep the id order.
    """

    name = "staged"
    has_exact_budget = True
    is_single_plan = True

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        prior_success_rate_N: ArrayLike,
        total_rollouts: int,
        num_stages: int = 3,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        rate_N = as_float_array(
            self.name,
            "prior_success_rate_N",
            prior_success_rate_N,
            length=num_prompts,
            low=0.0,
            high=1.0,
        )
        self.num_stages = as_int(self.name, "num_stages", num_stages, 1, num_prompts)
        if num_prompts // self.num_stages < self.batch_size:
            legal = f"at most num_prompts / num_stages = {num_prompts // self.num_stages}"
            fail(self.name, "batch_size", legal, batch_size)
        self.total_rollouts = as_int(self.name, "total_rollouts", total_rollouts, self.budget)
        self._rate_digest = fingerprint(rate_N)
        easy_first = np.argsort(-rate_N, kind="stable").astype(np.int64)
        self._parts = np.array_split(easy_first, self.num_stages)
        self._passes = [ShuffledPasses(part, self.seed) for part in self._parts]
        self._planned = 0

    @property
    def stage(self) -> int:
        """Stage of the next plan, 0 (easiest) ... num_stages - 1."""
        return min(self._planned * self.num_stages // self.total_rollouts, self.num_stages - 1)

    def _draft(self, generator: np.random.Generator) -> Draft:
        prompt_B = self._passes[self.stage].peek(self.batch_size)
        alike = np.ones(prompt_B.size)
        quota_B = allocate(alike, self.budget, min_quota=self.min_quota, max_quota=self.max_quota)
        chance = self.batch_size / len(self._passes[self.stage])
        return Draft.of(prompt_B, quota_B, prob_B=alike * chance)

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        prompt_B = self._passes[self.stage].peek(1)
        chance = np.array([1 / len(self._passes[self.stage])])
        return Draft.of(prompt_B, np.array([self.min_quota]), prob_B=chance, sigma=1.0)

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        size = 1 if is_streamed else self.batch_size
        self._passes[self.stage].advance(size, draft.prompt_B.size)
        self._planned += plan.num_rollouts

    def _still_in(self, prompt: IntArray) -> IntArray:
        return prompt if self._is_retired_N is None else prompt[~self._is_retired_N[prompt]]

    def _check_remaining(self, is_retired_N: BoolArray) -> None:
        smallest = min(int(np.count_nonzero(~is_retired_N[part])) for part in self._parts)
        if smallest < self.batch_size:
            legal = f"such that every stage keeps batch_size = {self.batch_size} prompts"
            fail(f"{self.name}.retire", "prompt", legal, InWords(f"{smallest} left in a stage"))

    def _extended(self, count: int) -> None:
        legal = "0: nobody said how easy new prompts are (prior_success_rate_N)"
        fail(f"{self.name}.extend", "count", legal, count)

    def _retired(self, prompt: IntArray) -> None:
        pairs = zip(self._passes, self._parts, strict=True)
        self._passes = [passes.over(self._still_in(part)) for passes, part in pairs]

    def _config(self) -> dict[str, StateValue]:
        return {
            "prior_success_rate_N": self._rate_digest,
            "total_rollouts": self.total_rollouts,
            "num_stages": self.num_stages,
        }

    def _rule_state(self) -> State:
        stages = {
            f"stage_{k}/{key}": value
            for k, passes in enumerate(self._passes)
            for key, value in passes.state_dict().items()
        }
        return {**stages, "planned": self._planned}

    def _load_rule_state(self, state: SchedulerState) -> None:
        self._passes = [
            ShuffledPasses(self._still_in(part), self.seed).loaded(state.section(f"stage_{k}"))
            for k, part in enumerate(self._parts)
        ]
        self._planned = state.integer("planned")
