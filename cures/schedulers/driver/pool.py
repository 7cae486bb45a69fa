"""The prompts of a scheduler: how many there are, and which of them were retired."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from cures.checks import BoolArray, IntArray, fail, is_distinct
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.storage import State

MAX_PROMPTS = 2**40  # beyond any pool; a typo should not ask for terabytes


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Ids 0 ... N-1, some of them retired for good. A value: what changes it returns another one.

    Attributes
    ----------
    sizes : tuple of int
        N at first and after every extension.
    is_retired_N : ndarray of bool, shape (N,), optional
        None: nobody is.
    num_retired : int

    Examples
    --------
    >>> pool = Pool((4,)).extended(2).without(np.array([0, 5]), "retire")
    >>> pool.num_prompts, pool.active().tolist()
    (6, [1, 2, 3, 4])
    """

    sizes: tuple[int, ...]
    is_retired_N: BoolArray | None = None
    num_retired: int = field(init=False)

    def __post_init__(self) -> None:
        retired = self.is_retired_N
        count = 0 if retired is None else int(np.count_nonzero(retired))
        object.__setattr__(self, "num_retired", count)

    @property
    def num_prompts(self) -> int:
        """N, retired ones included."""
        return self.sizes[-1]

    @property
    def num_active(self) -> int:
        """Prompts that are not retired."""
        return self.num_prompts - self.num_retired

    def active(self) -> IntArray:
        """Ids of the prompts that are not retired, ascending; O(N)."""
        everyone = np.arange(self.num_prompts, dtype=np.int64)
        return everyone if self.is_retired_N is None else everyone[~self.is_retired_N]

    def extended(self, count: int) -> Pool:
        """With so many more prompts at the end."""
        retired = self.is_retired_N
        if retired is not None:
            retired = np.concatenate([retired, np.zeros(count, dtype=bool)])
        return Pool((*self.sizes, self.num_prompts + count), retired)

    def without(self, prompt_K: IntArray, where: str) -> Pool:
        """With these retired, too; refused if one is there twice or was retired before."""
        is_retired_N = np.zeros(self.num_prompts, dtype=bool)
        if self.is_retired_N is not None:
            is_retired_N |= self.is_retired_N
        if not is_distinct(prompt_K) or is_retired_N[prompt_K].any():
            again_K = np.ones(prompt_K.size, dtype=bool)
            again_K[np.unique(prompt_K, return_index=True)[1]] = False
            first = prompt_K[again_K | is_retired_N[prompt_K]][0]
            fail(where, "prompt", "distinct prompts of the pool, none retired", first)
        if not prompt_K.size:
            return self
        is_retired_N[prompt_K] = True
        return Pool(self.sizes, is_retired_N)

    def state_dict(self) -> State:
        """Sizes, and the retired ids in ascending order."""
        none = np.zeros(0, dtype=np.int64)
        retired = none if self.is_retired_N is None else np.flatnonzero(self.is_retired_N)
        return {"sizes": np.array(self.sizes), "retired": retired.astype(np.int64)}

    @classmethod
    def from_state(cls, state: SchedulerState, own: Pool) -> Pool:
        """Inverse of :meth:`state_dict`, for a pool that has grown from the sizes of ``own``."""
        sizes, known = tuple(state.ints("sizes", high=MAX_PROMPTS).tolist()), own.sizes
        if sizes[: len(known)] != known or any(a >= b for a, b in pairwise(sizes)):
            fail("load_state_dict", "sizes", f"growing sizes that begin with {known}", sizes)
        retired = state.ints("retired", high=sizes[-1] - 1)
        if (np.diff(retired) <= 0).any():
            fail("load_state_dict", "retired", "strictly increasing", retired.tolist())
        if not retired.size:
            return cls(sizes)
        is_retired_N = np.zeros(sizes[-1], dtype=bool)
        is_retired_N[retired] = True
        return cls(sizes, is_retired_N)
