"""True success rates for scheduler 'oracle', measured with extra rollouts outside the budget.

The rollouts come from a generator of their own and are counted in the ledger under ``oracle``, so the
arm is a reference and no contender. Spoiled prompts have a rate that is known exactly and not measured.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cures.checks import FloatArray
from cures.ledger import Ledger
from train.config import Config
from train.evaluation import success_rate
from train.host import LanguageModelHost
from train.seeds import Stream, torch_generator
from train.tasks import ALWAYS, COIN, NATURAL, NEVER


class SuccessProbe:
    """Callable that gives the pool's success rates, measured anew every ``oracle_every`` updates.

    Attributes
    ----------
    ledger : Ledger or None
        Where the cost is booked: the scheduler's, once there is one.
    """

    def __init__(self, config: Config, host: LanguageModelHost) -> None:
        self.config = config
        self.host = host
        self.ledger: Ledger | None = None
        self._rate_N: FloatArray | None = None
        self._measured_at = 0

    def __call__(self) -> FloatArray:
        """Success rate of every pool prompt under the current or a recent policy, shape (N,)."""
        age = self.host.updates - self._measured_at
        if self._rate_N is None or age >= self.config.evaluation.oracle_every:
            self._rate_N = self._measure()
            self._measured_at = self.host.updates
        return self._rate_N

    def is_learnable(self) -> np.ndarray:
        """Prompts whose reward depends on what the model says, bool, shape (N,)."""
        return np.asarray(self.host.task.kind_N == NATURAL)

    def _measure(self) -> FloatArray:
        task, samples = self.host.task, self.config.evaluation.oracle_rollouts
        natural = np.flatnonzero(task.kind_N == NATURAL)
        rate_N = np.zeros(task.kind_N.size)
        rate_N[task.kind_N == NEVER] = 0.0
        rate_N[task.kind_N == ALWAYS] = 1.0
        rate_N[task.kind_N == COIN] = 0.5
        rate_N[natural] = success_rate(
            self.host.model,
            torch.from_numpy(task.prompt_N_L[natural]),
            task.answer_N_A[natural],
            samples=samples,
            max_new_tokens=task.max_new_tokens,
            rollout=self.config.rollout,
            generator=torch_generator(self.config.run.seed, Stream.ORACLE, self.host.updates),
        )
        if self.ledger is not None:
            self.ledger.add("oracle", "generated", natural.size * samples)
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
        self._rate_N = tensors["rate_N"].numpy() if tensors else None
        self._measured_at = int(tensors["measured_at"]) if tensors else 0
