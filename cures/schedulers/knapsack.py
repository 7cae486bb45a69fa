"""Knapsack RL: uniform prompts, quotas by the value of a rollout at the rate of the last visit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cures.checks import FloatArray, IntArray, as_float, fail
from cures.quota import allocate, allocate_by_value
from cures.records import Moments, Outcome, Plan
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.uniform import Uniform
from cures.storage import State, StateValue


def knapsack_marginal_value(p_B: FloatArray, n_B: IntArray) -> FloatArray:
    r"""What the (n+1)-th rollout adds to the value :math:`(1 - p^n - (1-p)^n)\, p (1-p)^2`.

    Parameters
    ----------
    p_B : ndarray of float, shape (B,)
        Success rates in [0, 1].
    n_B : ndarray of int, shape (B,)
        Rollouts so far, >= 1.

    Returns
    -------
    ndarray of float64, shape (B,)
        :math:`p (1-p)^2 [p^n (1-p) + (1-p)^n p]`, >= 0 and decreasing in n, so that handing out one
        rollout after another is exactly optimal.
    """
    q_B = 1.0 - p_B
    gain_B = p_B**n_B * q_B + q_B**n_B * p_B  # rise of the chance of a mixed group
    return np.asarray(p_B * q_B**2 * gain_B)


def estimated_cost(p_B: FloatArray, confidence: float) -> IntArray:
    r"""Rollouts that hold both kinds with about this confidence, rounded down.

    Parameters
    ----------
    p_B : ndarray of float, shape (B,)
        Success rates in (0, 1).
    confidence : float
        In [0, 1).

    Returns
    -------
    ndarray of int64, shape (B,)
        :math:`\lfloor \ln(1 - c) / \ln \max(p, 1 - p) \rfloor`: the rarer kind is absent from so many
        with probability 1 - c.
    """
    rollouts_B = math.log1p(-confidence) / np.log(np.maximum(p_B, 1.0 - p_B))
    return np.floor(rollouts_B).astype(np.int64)


class Knapsack(Uniform):
    r"""Shuffled passes over the pool; a batch's budget goes where a rollout is worth most.

    Value of n rollouts of a prompt with success rate p:
    :math:`(1 - p^n - (1-p)^n)\, p (1-p)^2`, the chance of a mixed group times the information gain of
    the paper, largest at p = 1/3. p is the share of right rollouts at the prompt's last visit, a pass
    ago; unseen prompts get the equal share (so the first pass is uniform), the others split the rest:

    1. everyone gets ``min_quota``;
    2. prompts with 0 < p < 1 get what maximises the sum of values, beyond the minimum no more in all
       than the sum of their :func:`estimated_cost` (if ``fallback_confidence`` is given);
    3. what is left goes in equal parts to prompts with p = 0, then to those with p = 1, then to those
       of step 2, as far as ``max_quota`` lets it.

    Expected cost of an update: exactly ``budget`` rollouts.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; ``batch_size <= num_prompts``, ``min_quota`` 2
        as published.
    max_quota : int, optional
        Most rollouts of a group; 128 as published.
    fallback_confidence : float, optional
        c of step 2, in [0, 1). None, the paper's text: step 2 has no limit, and step 3 only begins where
        the mixed prompts are full. An implementation that was read has 0.9, which may give most of the
        budget to solved prompts.

    Notes
    -----
    Deviations from the published code: step 2 maximises the sum of values as the paper writes it
    (there the dynamic programme counts a prompt that stays at the minimum as worth 0, not as worth
    what the minimum is worth); unseen prompts take no part in step 3 (there they count as p = 0 and
    get more); ``max_quota`` binds in step 3, too; a batch of mixed prompts only keeps what step 2
    would leave (there the run dies of a division by zero); a visit without a single rollout back
    leaves the rate as it was. A pass drops what is left of the pool after the last whole batch, so a
    few prompts stay unseen for longer than one pass. Streaming has no batch: a group's sigma is its
    quota in the company of ``batch_size`` - 1 random prompts.

    References
    ----------
    .. [1] Li et al., "Knapsack RL: Unlocking Exploration of LLMs via Optimizing Budget Allocation",
       ICML 2026, arXiv 2509.25849.
    """

    name = "knapsack"

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        max_quota: int | None = 128,
        fallback_confidence: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, max_quota=max_quota, **common)
        if fallback_confidence is not None:
            fallback_confidence = as_float(
                self.name, "fallback_confidence", fallback_confidence, 0.0, 1.0, open_high=True
            )
        self.fallback_confidence = fallback_confidence
        self._success_N = np.zeros(num_prompts, dtype=np.int64)  # of the last visit
        self._trial_N = np.zeros(num_prompts, dtype=np.int64)  # 0: never seen

    def _quotas(self, prompt_B: IntArray) -> IntArray:
        """Split ``budget`` over these prompts."""
        quota_B = super()._quotas(prompt_B)
        trial_B = self._trial_N[prompt_B]
        is_seen = trial_B > 0
        rate_K = self._success_N[prompt_B][is_seen] / trial_B[is_seen]
        quota_B[is_seen] = self._by_value(rate_K, int(quota_B[is_seen].sum()))
        return quota_B

    def _by_value(self, rate_K: FloatArray, total: int) -> IntArray:
        """Split ``total`` over prompts of known rates."""
        is_zero, is_one = rate_K == 0.0, rate_K == 1.0
        is_mixed = ~(is_zero | is_one)
        most = total if self.max_quota is None else self.max_quota
        room = {
            kind: int(members.sum()) * (most - self.min_quota)
            for kind, members in (("mixed", is_mixed), ("zero", is_zero), ("one", is_one))
        }
        left = total - self.min_quota * rate_K.size
        extra = {"mixed": min(left, room["mixed"], self._wanted(rate_K[is_mixed], left))}
        left -= extra["mixed"]
        for kind in ("zero", "one"):
            extra[kind] = min(left, room[kind])
            left -= extra[kind]
        extra["mixed"] += left
        quota_K = np.full(rate_K.size, self.min_quota, dtype=np.int64)
        quota_K[is_mixed] = allocate_by_value(
            lambda n_B: knapsack_marginal_value(rate_K[is_mixed], n_B),
            int(quota_K[is_mixed].sum()) + extra["mixed"],
            min_quota=self.min_quota,
            max_quota=self.max_quota,
            num_groups=int(is_mixed.sum()),
        )
        for kind, members in (("zero", is_zero), ("one", is_one)):
            quota_K[members] = allocate(
                np.ones(int(members.sum())),
                int(quota_K[members].sum()) + extra[kind],
                min_quota=self.min_quota,
                max_quota=self.max_quota,
            )
        return quota_K

    def _wanted(self, rate_M: FloatArray, left: int) -> int:
        """Most rollouts beyond the minimum that the mixed prompts take in step 2."""
        if self.fallback_confidence is None:
            return left
        cost_M = estimated_cost(rate_M, self.fallback_confidence)
        return int(np.minimum(cost_M, left if self.max_quota is None else self.max_quota).sum())

    def _sigma(self, prompt_B: IntArray, generator: np.random.Generator) -> float:
        company = generator.integers(self.num_prompts, size=self.batch_size - 1)
        return float(self._quotas(np.concatenate([prompt_B, company]))[0])

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        is_back = outcome.trial_B > 0
        prompt = plan.prompt_B[at][is_back]
        self._success_N[prompt] = outcome.success_B[is_back]
        self._trial_N[prompt] = outcome.trial_B[is_back]

    def _extended(self, count: int) -> None:
        super()._extended(count)
        unseen = np.zeros(count, dtype=np.int64)
        self._success_N = np.concatenate([self._success_N, unseen])
        self._trial_N = np.concatenate([self._trial_N, unseen])

    def _config(self) -> dict[str, StateValue]:
        return {"fallback_confidence": str(self.fallback_confidence)}

    def _rule_state(self) -> State:
        return {
            **super()._rule_state(),
            "success_N": self._success_N.copy(),
            "trial_N": self._trial_N.copy(),
        }

    def _load_rule_state(self, state: SchedulerState) -> None:
        trial_N = state.ints("trial_N", self.num_prompts)
        success_N = state.ints("success_N", self.num_prompts)
        if (success_N > trial_N).any():
            fail("load_state_dict", "success_N", "at most trial_N", success_N.tolist())
        self._success_N, self._trial_N = success_N, trial_N
        super()._load_rule_state(state)
