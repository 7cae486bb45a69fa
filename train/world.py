"""The processes that train together: who computes which pass, and how sums come together.

One process is the ordinary case, and everything here is then the identity. Under ``torchrun`` every
rank runs the same program with the same scheduler; ranks differ only in which rows they generate and
which passes they differentiate, and all of them see all results, so they plan the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class World:
    """Rank and number of processes.

    Attributes
    ----------
    rank : int
        In [0, size).
    size : int
        >= 1.
    """

    rank: int = 0
    size: int = 1

    def deal(self, items: Sequence[Item]) -> list[tuple[Item, bool]]:
        """The items of this rank, in rounds: every rank has as many, as collectives need it.

        Returns
        -------
        list of (item, is_real)
            Where items run out, an item of another rank stands in, with ``is_real`` False: it has to
            be computed for the sake of the others and must not count.

        Examples
        --------
        >>> World(1, 2).deal("abc"), World(0, 2).deal("abc"), World().deal("ab")
        ([('b', True), ('a', False)], [('a', True), ('c', True)], [('a', True), ('b', True)])
        """
        rounds = -(-len(items) // self.size)
        places = [turn * self.size + self.rank for turn in range(rounds)]
        return [(items[p], True) if p < len(items) else (items[0], False) for p in places]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over the ranks, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def gather_rows(self, mine: Tensor) -> list[Tensor]:
        """Every rank's rows, by rank; the numbers of rows may differ, their shapes may not."""
        if self.size == 1:
            return [mine]
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(counts, torch.tensor([len(mine)]))
        most = max(int(count) for count in counts)
        padded = mine.new_zeros((most, *mine.shape[1:]))
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded)
        return [part[: int(count)] for part, count in zip(parts, counts, strict=True)]
