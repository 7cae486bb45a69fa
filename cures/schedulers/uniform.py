"""Every prompt alike: plain GRPO or REINFORCE++, the baseline of every comparison."""

from __future__ import annotations

from typing import Any

import numpy as np

from cures.checks import IntArray, as_int
from cures.quota import allocate
from cures.records import Plan
from cures.schedulers.driver.draft import Draft
from cures.schedulers.passes import PassScheduler
from cures.storage import StateValue


class Uniform(PassScheduler):
    """Shuffled passes over the pool, ``budget / batch_size`` rollouts for every prompt.

    Expected cost of an update: exactly ``budget`` rollouts.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; ``batch_size <= num_prompts``.

    Examples
    --------
    >>> from cures.schedulers import make_scheduler
    >>> scheduler = make_scheduler("uniform", num_prompts=100, batch_size=4, budget=32, seed=0)
    >>> scheduler.propose().quota_B
    array([8, 8, 8, 8])
    """

    name = "uniform"
    has_exact_budget = True
    is_single_plan = True

    def __init__(
        self, num_prompts: int, batch_size: int, budget: int, seed: int = 0, **common: Any
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        as_int(self.name, "batch_size", batch_size, 1, num_prompts)

    def _quotas(self, prompt_B: IntArray) -> IntArray:
        """Split ``budget`` over these prompts; other rules than equal shares are subclasses."""
        alike = np.ones(prompt_B.size)
        return allocate(alike, self.budget, min_quota=self.min_quota, max_quota=self.max_quota)

    def _sigma(self, prompt_B: IntArray, generator: np.random.Generator) -> float:
        """What the quota of a single prompt is proportional to in streaming."""
        return 1.0

    def _draft(self, generator: np.random.Generator) -> Draft:
        prompt_B = self._passes.peek(self.batch_size)
        chance_B = np.full(prompt_B.size, self.batch_size / self.num_active)
        return Draft.of(prompt_B, self._quotas(prompt_B), prob_B=chance_B)

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        prompt_B = self._passes.peek(1)
        chance = np.array([1 / self.num_active])
        sigma = self._sigma(prompt_B, generator)
        return Draft.of(prompt_B, np.array([self.min_quota]), prob_B=chance, sigma=sigma)

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        size = 1 if is_streamed else self.batch_size
        self._passes.advance(size, draft.prompt_B.size)

    def _config(self) -> dict[str, StateValue]:
        return {}
