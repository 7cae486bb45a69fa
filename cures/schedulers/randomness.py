"""Randomness that is derived, not carried: a plan's generator follows from (seed, plan id, stream).

Nothing random is stored in a checkpoint, so a resumed run and an uninterrupted one draw alike.
"""

from __future__ import annotations

import numpy as np

from cures.checks import IntArray

PLAN_STREAM = 0  # key: plan id
PASS_STREAM = 1  # key: number of the pass over the pool
SUBSET_STREAM = 2  # key: 0; the partition into disjoint subsets
CHUNK_STREAM = 3  # key: number of the subset visit; the order of a chunk's prompts


def derived_generator(seed: int, key: int, stream: int) -> np.random.Generator:
    """The generator of ``(seed, key, stream)``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key, stream)))


class ShuffledPasses:
    """Passes over a set of prompts in a fresh random order each, the data loader of plain GRPO.

    A take that does not fit into what is left of a pass starts the next one (as ``drop_last=True``
    does), so one take never holds a prompt twice. The position is the caller's state; permutations
    are derived from the seed and only cached here.
    """

    def __init__(self, members: IntArray, seed: int, stream: int = PASS_STREAM) -> None:
        self._members = members
        self._seed = seed
        self._stream = stream
        self._cached: tuple[int, IntArray] | None = None

    def __len__(self) -> int:
        return int(self._members.size)

    def _order(self, number: int) -> IntArray:
        if self._cached is None or self._cached[0] != number:
            generator = derived_generator(self._seed, number, self._stream)
            self._cached = (number, generator.permutation(self._members))
        return self._cached[1]

    def take(self, position: int, size: int) -> tuple[IntArray, int]:
        """``size`` distinct prompts from ``position`` on, and the position of the first of them."""
        number, offset = divmod(position, len(self))
        if offset + size > len(self):
            number, offset = number + 1, 0
        return self._order(number)[offset : offset + size].copy(), number * len(self) + offset
