"""Randomness that is derived, not carried: a plan's generator follows from (seed, plan id, stream).

Nothing random is stored in a checkpoint, so a resumed run and an uninterrupted one draw alike.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from cures.checks import IntArray, fail
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.storage import State


class Stream(IntEnum):
    """What the random numbers of a scheduler (or of its shadow) are for; a number is never used anew."""

    PLAN = 0  # key: plan id
    PASS = 1  # key: number of the pass over the pool
    SUBSET = 2  # key: first id that is new; the partition into disjoint subsets
    CHUNK = 3  # key: number of the subset visit; the order of a chunk's prompts
    QUEUE = 4  # key: first id that is new; the order of the queue of `adaptive` at first
    ADVANCE = 5  # key: plan id; where in the queue of `adaptive` a prompt comes back
    LANDMARK = 6  # key: 0; which prompts are landmarks of `vip`
    CHANGE = 7  # key: position at which the set of a pass changed
    SHADOW_POOL = 100  # key: 0; the quantile of every prompt
    SHADOW_ROLLOUT = 101  # key: plan id; imagined rollouts
    SHADOW_TRAINING = 102  # key: batch; prompts of the imagined training


def derived_generator(seed: int, key: int, stream: Stream) -> np.random.Generator:
    """The generator of ``(seed, key, stream)``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key, stream)))


class ShuffledPasses:
    """Passes over a set of prompts in a fresh random order each, the data loader of plain GRPO.

    A take that does not fit into what is left of a pass starts the next one (as ``drop_last=True``
    does), so one take never holds a prompt twice. Permutations are derived from the seed; only the order
    of a pass during which the set changed has to be saved.

    Attributes
    ----------
    position : int
        Prompts passed over so far, in all passes.
    number : int
        Of the pass under way.
    start : int
        Position at which it began.
    """

    def __init__(self, members: IntArray, seed: int) -> None:
        self.position = self.number = self.start = 0
        self._members = members
        self._seed = seed
        self._changed_order: IntArray | None = None  # of a pass during which the set changed
        self._cached: tuple[int, IntArray] | None = None

    def __len__(self) -> int:
        return int(self._members.size)

    @property
    def left(self) -> int:
        """Prompts left of the pass under way, >= 1."""
        order = self._members if self._changed_order is None else self._changed_order
        return self.start + int(order.size) - self.position

    @property
    def has_wrapped(self) -> bool:
        """Whether any prompt of a second pass was passed over."""
        return self.number > 1 or (self.number == 1 and self.position > self.start)

    def peek(self, size: int) -> IntArray:
        """The next ``size`` distinct prompts; ``size`` is at most the number of members."""
        if size > self.left:
            return self._derived_order(self.number + 1)[:size].copy()
        offset = self.position - self.start
        return self._order()[offset : offset + size].copy()

    def advance(self, size: int, used: int) -> None:
        """Move past the first ``used`` prompts of ``peek(size)``."""
        self.move_to(self.position + used + (self.left if size > self.left else 0))

    def move_to(self, position: int) -> None:
        """Go on from a later position."""
        while position - self.position >= self.left:
            self.position += self.left
            self.start, self.number = self.position, self.number + 1
            self._changed_order = None
        self.position = position

    def over(self, members: IntArray) -> ShuffledPasses:
        """The passes once the set is another: who left is passed over, who joined comes in this pass."""
        rest = self._order()[self.position - self.start :]
        is_member = np.zeros(max(int(members.max()), int(self._members.max())) + 1, dtype=bool)
        is_member[members] = True
        rest = rest[is_member[rest]]
        is_member[self._members] = False
        joined = members[is_member[members]]
        if joined.size:
            generator = derived_generator(self._seed, self.position, Stream.CHANGE)
            rest = generator.permutation(np.concatenate([rest, joined]))
        passes = ShuffledPasses(members, self._seed)
        passes.position = passes.start = self.position
        passes.number = self.number if rest.size else self.number + 1
        passes._changed_order = rest if rest.size else None
        return passes

    def state_dict(self) -> State:
        """Plain values."""
        order = self._changed_order
        return {
            "position": self.position,
            "pass_number": self.number,
            "pass_start": self.start,
            "pass_order": np.zeros(0, dtype=np.int64) if order is None else order.copy(),
        }

    def loaded(self, state: SchedulerState) -> ShuffledPasses:
        """Passes over the same set in a saved state."""
        passes = ShuffledPasses(self._members, self._seed)
        passes.position = state.integer("position")
        passes.number = state.integer("pass_number")
        passes.start = state.integer("pass_start", passes.position)
        order = state.ints("pass_order")
        if order.size:
            if np.unique(order).size < order.size or not np.isin(order, self._members).all():
                fail("load_state_dict", "pass_order", "distinct prompts of the pool", order)
            passes._changed_order = order
        if passes.left < 1:
            fail("load_state_dict", "position", "within the pass", passes.position)
        return passes

    def _order(self) -> IntArray:
        if self._changed_order is not None:
            return self._changed_order
        return self._derived_order(self.number)

    def _derived_order(self, number: int) -> IntArray:
        if self._cached is None or self._cached[0] != number:
            generator = derived_generator(self._seed, number, Stream.PASS)
            self._cached = (number, generator.permutation(self._members))
        return self._cached[1]
