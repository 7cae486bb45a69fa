r"""Which prompts come next, when every prompt has a share of the visits: a queue, not a lottery.

Independent draws at the same chances leave gaps: after as many draws as there are prompts, 37 % of a
uniform pool have not been seen. Here a clock goes on with every plan, and while it goes on by t a
prompt of share s earns s t of a visit. It is *due* when it has earned a whole one, and those that are
due first are next. A random *advance* in [0, 1), drawn anew at every visit, is added to what was earned
and shuffles the order. Visits stay within two of what the shares add up to if these are constant, within
about the logarithm of the pool's size if they change against the queue, and with equal shares the queue
is the shuffled pass of plain GRPO, without its borders.

Fair queueing of processes and packets works like this (virtual time and stride scheduling: Demers,
Keshav and Shenker 1989; Waldspurger and Weihl 1995).

Times are absolute, so nothing has to be done for a prompt that waits. Its share may change: what it has
earned stays, and the time when it is due moves. A plan costs what it visits and renews, not the pool: of
a large one the prompts that are due before a *horizon* are kept apart, enough for many plans, and found
anew when these have been used up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cures.checks import FloatArray, IntArray, as_float, as_float_array, fail
from cures.sampling import order_free_sum
from cures.storage import State

SMALL = 1 << 15  # pools up to this size have no horizon
AHEAD = 32  # plans for which there should be prompts before the horizon
SAMPLE = 1 << 14  # prompts of whom the horizon is a quantile
NEVER = 1e300


class FairQueue:
    """Where everyone stands. Changed in place, arrays as given: a copy would cost the pool.

    Parameters
    ----------
    due_N : ndarray of float64, shape (N,)
        When a prompt has earned its next visit, on the queue's own clock.
    advance_N, share_N : ndarray of float32, shape (N,)
        In [0, 1]; >= 0, and 0 for good.
    clock : float
    total : float, optional
        Sum of the shares, where that is known.

    Examples
    --------
    >>> queue = FairQueue(np.array([1.0, 0.5, 0.75]), np.zeros(3), np.ones(3))
    >>> queue.first(2)
    array([1, 2])
    >>> queue.visit(np.array([1]), np.array([0.25]), size=1)
    >>> queue.due_N.tolist()
    [1.0, 1.25, 0.75]
    """

    def __init__(
        self,
        due_N: FloatArray,
        advance_N: Any,
        share_N: Any,
        clock: float = 0.0,
        total: float | None = None,
    ) -> None:
        self.due_N = np.asarray(due_N, dtype=np.float64)
        self.advance_N = np.asarray(advance_N, dtype=np.float32)
        self.share_N = np.asarray(share_N, dtype=np.float32)
        self.clock = clock
        self.total = order_free_sum(self.share_N.astype(np.float64)) if total is None else total
        # all prompts that are due until then, and perhaps some that have just been visited
        is_small = self.due_N.size <= SMALL
        self._near = np.arange(self.due_N.size if is_small else 0)
        self._horizon = np.inf if is_small else -np.inf

    @classmethod
    def shuffled(cls, num_prompts: int, generator: np.random.Generator) -> FairQueue:
        """Nobody has been visited; equal shares, a random order."""
        advance_N = generator.random(num_prompts, dtype=np.float32)
        return cls(1.0 - advance_N.astype(np.float64), advance_N, np.ones(num_prompts))

    def renew(self, share: FloatArray, prompt_B: IntArray | None = None) -> None:
        """Give prompts other shares; what they have earned they keep. Twice the same changes nothing.

        Parameters
        ----------
        share : ndarray of float64, shape (B,) or (N,)
            Positive, or 0 for prompts that shall never come again.
        prompt_B : ndarray of int64, shape (B,), optional
            Distinct; default the whole pool.
        """
        at = slice(None) if prompt_B is None else prompt_B
        new = share.astype(np.float32)
        old, due = self.share_N[at], self.due_N[at]
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 are not looked at
            ratio = old.astype(np.float64) / new
            later = np.where(old == new, due, self.clock + (due - self.clock) * ratio)
        later[new == 0.0] = NEVER
        if prompt_B is None:
            self.total = order_free_sum(new.astype(np.float64))
        else:
            self.total += float((new.astype(np.float64) - old).sum())
        self._moved(due, later, prompt_B)
        self.share_N[at], self.due_N[at] = new, later

    def _moved(self, due: FloatArray, later: FloatArray, prompt_B: IntArray | None) -> None:
        """Keep the prompts before the horizon complete when ``due`` becomes ``later``."""
        if self._horizon == np.inf:
            return
        came = np.flatnonzero((due > self._horizon) & (later <= self._horizon))
        if came.size:
            near = self._near[self.due_N[self._near] <= self._horizon]  # none of them twice
            self._near = np.concatenate([near, came if prompt_B is None else prompt_B[came]])

    def first(self, size: int) -> IntArray:
        """The next ``size`` in [1, N] distinct prompts, the first one first."""
        if self._horizon < np.inf:
            self._near = self._near[self.due_N[self._near] <= self._horizon]
            if self._near.size < size or self._horizon < self.clock:
                self._look_ahead(size)
        prompt = self._near
        wait = self.due_N[prompt] - self.clock
        # who is late goes by what was earned: the longest wait at a small share is little
        wait = np.where(wait < 0.0, wait * self.share_N[prompt], wait)
        if prompt.size > size:
            is_first = wait <= np.partition(wait, size - 1)[size - 1]
            prompt, wait = prompt[is_first], wait[is_first]
        return prompt[np.lexsort((prompt, wait))[:size]].astype(np.int64)

    def _look_ahead(self, size: int) -> None:
        """Find the prompts of the next plans: O(N), once in about :data:`AHEAD` plans."""
        sample = self.due_N[:: -(-self.due_N.size // SAMPLE)]
        wanted = AHEAD * size
        while True:
            rank = -(-wanted * sample.size // self.due_N.size)
            if rank >= sample.size:
                horizon = float(self.due_N.max())
            else:
                horizon = max(self.clock, float(np.partition(sample, rank)[rank]))
            near = np.flatnonzero(self.due_N <= horizon)
            if near.size >= size:
                break
            wanted *= 2
        self._near, self._horizon = near, horizon

    def chance(self, prompt_B: IntArray, size: int) -> FloatArray:
        """What these prompts earn with a plan of ``size``, shape (B,)."""
        return self.share_N[prompt_B].astype(np.float64) * (size / self.total)

    def visit(self, prompt_B: IntArray, advance_B: FloatArray, *, size: int) -> None:
        """Book a plan of ``size`` prompts' worth: all earn their shares of it, these pay a visit.

        Parameters
        ----------
        prompt_B : ndarray of int64, shape (B,)
            Distinct.
        advance_B : ndarray of float64, shape (B,)
            Their new advances, in [0, 1).
        size : int
            A plan that was cut pays out less, so everybody earns less.
        """
        new = advance_B.astype(np.float32)
        paid = 1.0 + self.advance_N[prompt_B].astype(np.float64) - new
        self.due_N[prompt_B] += paid / self.share_N[prompt_B]
        self.advance_N[prompt_B] = new
        self.clock += size / self.total

    def extended(self, count: int, generator: np.random.Generator) -> FairQueue:
        """Another queue, with so many more prompts at its end, who wait as all did at first."""
        more = FairQueue.shuffled(count, generator)
        return FairQueue(
            np.concatenate([self.due_N, self.clock + more.due_N]),
            np.concatenate([self.advance_N, more.advance_N]),
            np.concatenate([self.share_N, more.share_N]),
            self.clock,
        )

    def without(self, prompt_B: IntArray) -> FairQueue:
        """Another queue, in which these prompts never come again."""
        left = FairQueue(
            self.due_N.copy(), self.advance_N.copy(), self.share_N.copy(), self.clock, self.total
        )
        left.renew(np.zeros(prompt_B.size), prompt_B)
        return left

    def debt(self) -> FloatArray:
        """Visits less what was earned, shape (N,)."""
        left_N = (self.due_N - self.clock) * self.share_N
        return np.asarray(left_N + self.advance_N - 1.0)

    def state_dict(self) -> State:
        """Flat arrays and floats, copies."""
        return {
            "due_N": self.due_N.copy(),
            "advance_N": self.advance_N.copy(),
            "share_N": self.share_N.copy(),
            "clock": self.clock,
            "total": self.total,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], num_prompts: int) -> FairQueue:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        ValueError
            Naming an entry that is missing or malformed.
        """
        where = "FairQueue.from_state"
        names = {"due_N", "advance_N", "share_N", "clock", "total"}
        if set(state) != names:
            fail(where, "state", f"a dict with keys {sorted(names)}", sorted(map(str, state)))

        def array(name: str, dtype: Any = np.float32, **legal: Any) -> FloatArray:
            given = state[name]
            return as_float_array(where, name, given, length=num_prompts, dtype=dtype, **legal)

        return cls(
            array("due_N", np.float64),
            array("advance_N", low=0.0, high=1.0),
            array("share_N", low=0.0),
            as_float(where, "clock", state["clock"], 0.0),
            as_float(where, "total", state["total"], 0.0),
        )
