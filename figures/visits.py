"""What a run saw of its prompts, visit by visit (``outcomes.jsonl``), replayed by `cures.response`.

A *visit* is all that came back of a prompt at one state of the policy: pilots and the rollouts after
them, and a group that got more rollouts, are one.

Axis suffix: ``_V`` visits, by ascending step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cures.checks import BoolArray, IntArray, as_int_array, fail
from cures.pool_posterior import PoolPosterior
from cures.response import MEMORY, Response
from cures.schedulers.adaptive import forgotten


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Visits of a run.

    Attributes
    ----------
    step_V : ndarray of int64, shape (V,)
        Updates that the policy had seen; ascending, prompts ascending within a step.
    prompt_V : ndarray of int64, shape (V,)
        Distinct within a step.
    success_V, trial_V : ndarray of int64, shape (V,)
        ``0 <= success <= trial``, ``trial >= 1``.
    """

    step_V: IntArray
    prompt_V: IntArray
    success_V: IntArray
    trial_V: IntArray

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], num_prompts: int) -> Visits:
        """Visits of these lines of ``outcomes.jsonl``.

        Raises
        ------
        ValueError
            If a line lacks a field, or holds what no host writes.

        Examples
        --------
        Four pilots and the twelve rollouts after them:

        >>> rows = [{"prompt": 2, "step": 0, "success": 1, "trial": 4},
        ...         {"prompt": 2, "step": 0, "success": 5, "trial": 12}]
        >>> seen = Visits.of(rows, 3)
        >>> seen.success_V.tolist(), seen.trial_V.tolist()
        ([6], [16])
        """
        where = "outcomes.jsonl"
        told = {}
        for name in ("step", "prompt", "success", "trial"):
            high = num_prompts - 1 if name == "prompt" else None
            values = np.array([row.get(name, -1) for row in rows] or np.zeros(0, np.int64))
            told[name] = as_int_array(where, name, values, low=int(name == "trial"), high=high)
        is_bad = told["success"] > told["trial"]
        if is_bad.any():
            fail(where, "success", "at most trial", int(told["success"][is_bad][0]))
        key, place = np.unique(
            told["step"] * num_prompts + told["prompt"], return_inverse=True
        )  # ascending
        sums = []
        for name in ("success", "trial"):
            sums.append(np.zeros(key.size, dtype=np.int64))
            np.add.at(sums[-1], place, told[name])
        step_V, prompt_V = np.divmod(key, num_prompts)
        return cls(step_V, prompt_V, *sums)

    def __len__(self) -> int:
        """Number of visits."""
        return int(self.step_V.size)

    @property
    def steps(self) -> int:
        """States of the policy that were sampled, up to the last visit."""
        return int(self.step_V[-1]) + 1 if len(self) else 0

    @property
    def is_mixed_V(self) -> BoolArray:
        """Visits with right and wrong answers, shape (V,)."""
        return (self.success_V > 0) & (self.success_V < self.trial_V)

    def start_of(self, step: int) -> int:
        """Visits before a step."""
        return int(np.searchsorted(self.step_V, step))

    def by_step(self) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
        """Prompts, successes and trials of every step up to the last visit, also of one without any."""
        for step in range(self.steps):
            now = slice(self.start_of(step), self.start_of(step + 1))
            yield self.prompt_V[now], self.success_V[now], self.trial_V[now]


def replay(
    seen: Visits, num_prompts: int, batch_size: int, *, memory: float = MEMORY
) -> Iterator[tuple[int, Response]]:
    """What :mod:`cures.response` believes after every update, as scheduler ``adaptive`` tells it.

    Parameters
    ----------
    seen : Visits
    num_prompts : int
        Of the pool.
    batch_size : int
        Prompts of an update; sets how fast the pool's prior forgets.
    memory : float
        See :meth:`cures.response.Response.told`.

    Yields
    ------
    tuple of int and Response
        Number of updates, from 1, and what is believed then: one object that goes on.
    """
    # choose_memory would change neither the prior, which keeps to `forgetting`, nor the ages
    posterior = PoolPosterior(
        num_prompts, visits_per_step=batch_size, forgetting=forgotten(num_prompts, batch_size)
    )
    response = Response(num_prompts)
    for updates, told in enumerate(seen.by_step(), start=1):
        prompt_B, _, _ = told
        if prompt_B.size:
            age = posterior.step - posterior.told_at(prompt_B)
            response.told(*told, prior=posterior.prior(), age_B=age, memory=memory)
            posterior.update(*told)
        posterior.advance()
        response.updated()
        yield updates, response
