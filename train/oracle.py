"""True success rates for scheduler 'oracle', measured with extra rollouts outside the budget.

The rollouts come from a generator of their own and are counted in the ledger under ``oracle``, so the
arm is a reference and no contender. Spoiled prompts have a rate that is known exactly and not measured.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cures.checks import BoolArray, FloatArray, fail
from cures.schedulers import Scheduler
from train.answers import answers
from train.config import Config
from train.evaluation import judged_share
from train.host import LanguageModelHost
from train.seeds import Stream, prompt_seeds
from train.tasks.protocol import Task


class SuccessProbe:
    """Callable that gives the pool's success rates, measured anew every ``oracle_every`` updates.

    The scheduler that calls it exists before the host, so the two are attached afterwards.
    """

    def __init__(self, config: Config, task: Task) -> None:
        self.config = config
        self.task = task
        self._host: LanguageModelHost | None = None
        self._scheduler: Scheduler | None = None
        self._rate_N: FloatArray | None = None
        self._measured_at = 0

    def attach(self, host: LanguageModelHost, scheduler: Scheduler) -> None:
        """Whose policy to measure, and in whose ledger to book the rollouts."""
        self._host, self._scheduler = host, scheduler

    def __call__(self) -> FloatArray:
        """Success rate of every pool prompt under the current or a recent policy, shape (N,)."""
        if self._host is None or self._scheduler is None:
            raise RuntimeError("SuccessProbe: called before attach")
        age = self._host.updates - self._measured_at
        if self._rate_N is None or age >= self.config.evaluation.oracle_every:
            self._rate_N = self._measure(self._host, self._scheduler)
            self._measured_at = self._host.updates
        return self._rate_N

    @property
    def learnable_N(self) -> BoolArray:
        """Prompts whose reward depends on what the model says, shape (N,)."""
        return np.isnan(self._known_N)

    @property
    def _known_N(self) -> FloatArray:
        known_N = self.task.known_success_rate_N
        return np.full(len(self.task.pool.prompts), np.nan) if known_N is None else known_N

    def _measure(self, host: LanguageModelHost, scheduler: Scheduler) -> FloatArray:
        samples, pool = self.config.evaluation.oracle_rollouts, self.task.pool
        rate_N = self._known_N.copy()
        open_P = np.flatnonzero(np.isnan(rate_N))
        seed_P = prompt_seeds(self.config.run.seed, Stream.ORACLE, host.updates, open_P.size)
        found = answers(
            host.engine,
            pool,
            open_P,
            np.full(open_P.size, samples),
            seed_P,
            self.task.decoding,
            version=host.updates,
            world=host.world,
        )
        # where every answer was lost, the earlier measurement stands, and one half before the first
        earlier = 0.5 if self._rate_N is None else self._rate_N[open_P]
        share_P = judged_share(found, samples)
        rate_N[open_P] = np.where(np.isnan(share_P), earlier, share_P)
        scheduler.ledger.add("oracle", "generated", open_P.size * samples)
        return rate_N

    def state_tensors(self) -> dict[str, Tensor]:
        """The last measurement, if there is one."""
        if self._rate_N is None:
            return {}
        return {
            "rate_N": torch.from_numpy(self._rate_N),
            "measured_at": torch.tensor(self._measured_at),
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state_tensors`."""
        size = len(self.task.pool.prompts)
        if tensors and tensors["rate_N"].shape != (size,):
            fail("SuccessProbe", "rate_N", f"of shape ({size},)", tuple(tensors["rate_N"].shape))
        self._rate_N = tensors["rate_N"].numpy() if tensors else None
        self._measured_at = int(tensors["measured_at"]) if tensors else 0
