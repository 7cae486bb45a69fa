"""The processes that train together: who computes which pass, and how sums come together.

One process is the ordinary case, and everything here is then the identity. Under ``torchrun`` every
rank runs the same program with the same scheduler; ranks differ only in which rows they generate and
which passes they differentiate, and all of them see all results, so they plan the same batches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from cures.checks import fail

Item = TypeVar("Item")
PATIENCE = timedelta(hours=6)  # a rank may verify or save for long while the others wait


@dataclass(frozen=True, slots=True)
class World:
    """Rank and number of processes.

    Attributes
    ----------
    rank : int
        In [0, size).
    size : int
        >= 1.
    local_rank : int
        Among the processes of this machine: the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            distributed.barrier()

    def any(self, is_true: bool) -> bool:
        """Whether it is true somewhere."""
        found = torch.tensor([float(is_true)])
        self.add_up([found])
        return bool(found.item() > 0.0)

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


@contextmanager
def joined_world() -> Iterator[World]:
    """The world that ``torchrun`` made; of one process without it.

    Yields
    ------
    World

    Raises
    ------
    ValueError
        If the environment says half of what ``torchrun`` says, or something else.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    given = [name for name in names if name in os.environ]
    if not given or os.environ.get("WORLD_SIZE") == "1":
        yield World()
        return
    if len(given) != len(names):
        fail("train", "environment", f"with all of {list(names)}, as torchrun sets", given)
    rank, size, local_rank = (_number(name) for name in names)
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield World(rank, size, local_rank)
    finally:
        distributed.destroy_process_group()


def _number(name: str) -> int:
    """A variable of the environment."""
    text = os.environ[name]
    if not text.isdecimal():
        fail("train", f"${name}", "a whole number >= 0, as torchrun sets", text)
    return int(text)
