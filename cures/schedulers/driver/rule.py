"""What a method of the literature fills in: hooks that the driver calls.

A new scheduler needs :meth:`Rule._draft`, :meth:`Rule._issued` and the three hooks of its settings and
state; the others have a default. Where not all of a plan is trained on, it also overrides
:meth:`Scheduler._closed <cures.schedulers.driver.Scheduler._closed>`, a part of the protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from cures.checks import BoolArray, IntArray, InWords, fail
from cures.records import Moments, Outcome, Plan
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.driver.draft import Draft
from cures.storage import State, StateValue


class Rule(ABC):
    """The hooks of :class:`~cures.schedulers.driver.Scheduler`, in the order of a step."""

    name: ClassVar[str]

    def _prepare(self) -> None:  # noqa: B027  (optional hook)
        """Called before a draft: move to the next phase if this one is over."""

    @abstractmethod
    def _draft(self, generator: np.random.Generator) -> Draft:
        """What to roll out next. Must not change any state: the driver may still cut the draft."""

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        """The same for streaming: a draft of one group."""
        return self._draft(generator).first()

    @abstractmethod
    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        """The (possibly cut) plan goes out: advance queues and positions."""

    def _is_relevant(self, plan: Plan) -> bool:
        """Whether outcomes of this plan still tell the rule something."""
        return True

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:  # noqa: B027  (optional hook)
        """Evidence about ``plan.prompt_B[at]``: rows of ``outcome`` in the same order."""

    def _updated(self) -> None:  # noqa: B027  (optional hook)
        """An update was selected: advance what counts updates."""

    # A pool that changes. The first two replace attributes and never edit them in place, so that an
    # error leaves everything as it was.

    def _extended(self, count: int) -> None:
        """The last ``count`` of now ``num_prompts`` prompts are new; nothing is known about them.

        Must follow from the seed and the sizes of the pool alone: ``load_state_dict`` calls it again on
        a scheduler of the first size, before :meth:`_load_rule_state`.
        """
        legal = "0: this scheduler's pool cannot grow"
        fail(f"{self.name}.extend", "count", legal, count)

    def _retired(self, prompt: IntArray) -> None:
        """These prompts, marked in ``_is_retired_N`` by now, must never be planned again.

        Not called by ``load_state_dict``: :meth:`_load_rule_state` finds ``_is_retired_N`` as it was.
        """
        legal = "none: this scheduler's pool cannot shrink"
        fail(f"{self.name}.retire", "prompt", legal, prompt.tolist())

    def _fewest_prompts(self) -> int:
        """Prompts that cannot be done without."""
        return 1

    def _check_remaining(self, is_retired_N: BoolArray) -> None:
        """Refuse to retire so many."""
        left, fewest = int(np.count_nonzero(~is_retired_N)), self._fewest_prompts()
        if left < fewest:
            legal = f"such that {fewest} prompts stay"
            fail(f"{self.name}.retire", "prompt", legal, InWords(f"{left} left"))

    def _awaits_rollouts(self, stage: IntArray) -> BoolArray:
        """Whether live groups in these stages, in no open plan, wait to be continued or compared."""
        return np.zeros(stage.size, dtype=bool)

    # Checkpoints.

    @abstractmethod
    def _config(self) -> dict[str, StateValue]:
        """Settings of the rule that a checkpoint must agree with."""

    @abstractmethod
    def _rule_state(self) -> State:
        """State of the rule: arrays, ints, floats, strings."""

    @abstractmethod
    def _load_rule_state(self, state: SchedulerState) -> None:
        """Inverse of :meth:`_rule_state`; replaces attributes, never edits them in place."""
