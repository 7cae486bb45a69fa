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
    does), so one take never holds a prompt twice. The position is all there is to save; permutations
    are derived from the seed.
    """

    def __init__(self, members: IntArray, seed: int, position: int = 0) -> None:
        self.position = position
        self._members = members
        self._seed = seed
        self._cached: tuple[int, IntArray] | None = None

    def __len__(self) -> int:
        return int(self._members.size)

    def peek(self, size: int) -> IntArray:
        """The next ``size`` distinct prompts; ``size`` is at most the number of members."""
        number, offset = divmod(self._start(size), len(self))
        if self._cached is None or self._cached[0] != number:
            generator = derived_generator(self._seed, number, PASS_STREAM)
            self._cached = (number, generator.permutation(self._members))
        return self._cached[1][offset : offset + size].copy()

    def advance(self, size: int, used: int) -> None:
        """Move past the first ``used`` prompts of ``peek(size)``."""
        self.position = self._start(size) + used

    def at(self, position: int) -> ShuffledPasses:
        """The same passes at another position."""
        return ShuffledPasses(self._members, self._seed, position)

    def _start(self, size: int) -> int:
        left = -self.position % len(self) or len(self)
        return self.position + (left if size > left else 0)
