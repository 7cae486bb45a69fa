"""A host whose policy never changes: every prompt keeps its success rate; only costs are of interest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cures.checks import FloatArray, as_float_array, as_int
from cures.records import Outcome, Plan, Selection


class FrozenHost:
    """Answers plans by Binomial draws at fixed success rates.

    Parameters
    ----------
    success_rate_N : array_like of float, shape (N,)
        In [0, 1].
    seed : int
        Root of the outcomes; the generator of a plan follows from (seed, plan id).
    estimator : str
        Passed through to the loop, which checks it against the scheduler's.

    Attributes
    ----------
    mixed : int
        Trained rollouts so far whose group has right and wrong ones.
    """

    def __init__(self, success_rate_N: FloatArray, *, seed: int, estimator: str = "grpo") -> None:
        self.success_rate_N = as_float_array(
            "FrozenHost", "success_rate_N", success_rate_N, low=0.0, high=1.0
        )
        self.seed = as_int("FrozenHost", "seed", seed, 0)
        self.estimator = estimator
        self.mixed = 0
        self._success = np.zeros(1024, dtype=np.int64)  # by group id: ids are 0, 1, 2, ...
        self._trial = np.zeros(1024, dtype=np.int64)

    def true_success_rate(self) -> FloatArray:
        """What the ``oracle`` scheduler is told."""
        return self.success_rate_N

    def rollout(self, plan: Plan) -> Outcome:
        """Draw the right answers of every group."""
        root = np.random.SeedSequence(self.seed, spawn_key=(plan.plan_id,))
        rate_B = self.success_rate_N[plan.prompt_B]
        success_B = np.random.default_rng(root).binomial(plan.quota_B, rate_B)
        self._grow(int(plan.group_B.max()) + 1)
        self._success[plan.group_B] += success_B
        self._trial[plan.group_B] += plan.quota_B
        return Outcome.of(plan, success_B)

    def update(self, selection: Selection) -> Mapping[str, float]:
        """Count the trained rollouts that have an advantage; the policy stays what it is."""
        right_G = self._success[selection.group_G]
        wrong_G = self._trial[selection.group_G] - right_G
        if selection.keep_G2 is not None:
            right_G = np.minimum(right_G, selection.keep_G2[:, 0])
            wrong_G = np.minimum(wrong_G, selection.keep_G2[:, 1])
        is_mixed = (right_G > 0) & (wrong_G > 0)
        self.mixed += int((right_G + wrong_G)[is_mixed].sum())
        return {}

    def discard(self, selection: Selection) -> None:
        """Nothing is stored but counts."""

    def _grow(self, size: int) -> None:
        if size > self._trial.size:
            longer = np.zeros(max(size, 2 * self._trial.size) - self._trial.size, dtype=np.int64)
            self._success = np.concatenate([self._success, longer])
            self._trial = np.concatenate([self._trial, longer])
