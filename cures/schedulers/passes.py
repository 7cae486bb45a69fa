"""Prompts in shuffled passes over the pool: what the rules that take them from a data loader share."""

from __future__ import annotations

from typing import Any

from cures.checks import IntArray
from cures.schedulers.driver import Scheduler
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.driver.randomness import ShuffledPasses
from cures.storage import State


class PassScheduler(Scheduler):
    """A scheduler with :class:`~cures.schedulers.driver.randomness.ShuffledPasses` over its pool.

    In a pool that changes, new prompts come in the pass under way, and retired ones are passed over.
    """

    def __init__(
        self, num_prompts: int, batch_size: int, budget: int, seed: int = 0, **common: Any
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        self._passes = ShuffledPasses(self._pool.active(), self.seed)

    def _fewest_prompts(self) -> int:
        return self.batch_size

    def _extended(self, count: int) -> None:
        self._passes = self._passes.over(self._pool.active())

    def _retired(self, prompt: IntArray) -> None:
        self._passes = self._passes.over(self._pool.active())

    def _rule_state(self) -> State:
        return self._passes.state_dict()

    def _load_rule_state(self, state: SchedulerState) -> None:
        self._passes = ShuffledPasses(self._pool.active(), self.seed).loaded(state)
