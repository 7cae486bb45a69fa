"""Filtering after the fact: roll out, keep the informative groups, refill until a batch is full.

The base of ``dapo`` and ``band``. Every dropped rollout is in the ledger.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from cures.checks import BoolArray, IntArray, as_int, fail
from cures.records import Plan, Selection
from cures.schedulers.driver import COMPLETE
from cures.schedulers.driver.draft import Draft
from cures.schedulers.passes import PassScheduler
from cures.storage import StateValue


def whole_group_size(name: str, batch_size: int, budget: int) -> int:
    """Rollouts per prompt n of a method with equal groups: budget / batch_size, exactly."""
    if budget % batch_size:
        fail(name, "budget", f"a multiple of batch_size = {batch_size}", budget)
    return budget // batch_size


class RefillScheduler(PassScheduler):
    """Uniform prompts, n rollouts each; groups that fail :meth:`_keep` are dropped and replaced."""

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        max_plans_per_update: int = 10,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        as_int(self.name, "batch_size", batch_size, 1, num_prompts)
        self.group_size = whole_group_size(self.name, batch_size, budget)
        self.max_plans_per_update = as_int(
            self.name, "max_plans_per_update", max_plans_per_update, 1
        )

    @abstractmethod
    def _keep(self, success: IntArray, trial: IntArray) -> BoolArray:
        """Which groups are worth training on."""

    @abstractmethod
    def _refill_size(self) -> int:
        """Prompts of the next plan."""

    def _draft(self, generator: np.random.Generator) -> Draft:
        prompt_B = self._passes.peek(self._refill_size())
        return Draft.of(prompt_B, np.full(prompt_B.size, self.group_size, dtype=np.int64))

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        prompt_B = self._passes.peek(1)
        return Draft.of(prompt_B, np.array([self.group_size], dtype=np.int64))

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        size = 1 if is_streamed else self._refill_size()
        self._passes.advance(size, draft.prompt_B.size)

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        rows = self.live.rows(plan.group_B)
        is_kept = self._keep(self.live.success[rows], self.live.trial[rows])
        self.live.stage[rows[is_kept]] = COMPLETE
        dropped = plan.group_B[~is_kept]
        kept = self.live.in_stage(COMPLETE)
        if kept.size >= self.batch_size:
            surplus = kept[self.batch_size :]
            return self._select(kept[: self.batch_size], np.concatenate([dropped, surplus]))
        if self._draws_since_update < self.max_plans_per_update * self._full_refill():
            return Selection.empty(dropped)
        self._books.count("partial_batch" if kept.size else "empty_batch")
        self._draws_since_update = 0
        return self._select(kept, dropped)

    def _full_refill(self) -> int:
        """Prompts of a plan when nothing waits."""
        return self.batch_size

    def _fewest_prompts(self) -> int:
        return max(self.batch_size, self._full_refill())

    def _config(self) -> dict[str, StateValue]:
        return {"max_plans_per_update": self.max_plans_per_update}
