"""GVM: uniform prompts, quotas from accept rate and gradient norm of pilots, set once per chunk."""

from __future__ import annotations

from typing import Any

import numpy as np

from cures.checks import FloatArray, IntArray, as_float
from cures.quota import allocate, round_to_total
from cures.records import Plan
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.driver.draft import Draft
from cures.schedulers.driver.randomness import Stream, derived_generator
from cures.schedulers.subsets import SubsetScheduler
from cures.storage import State, StateValue


def gvm_weight(
    success_rate: FloatArray, norm_correct: FloatArray | float, alpha: float, beta: float
) -> FloatArray:
    r"""Quota weight :math:`G / \sqrt{p + \alpha\, p^{1-\beta}}`; 0 where p = 0.

    Parameters
    ----------
    success_rate : ndarray of float, shape (S,)
        Share of right pilots, in [0, 1].
    norm_correct : ndarray of float, shape (S,), or float
        G, mean gradient norm over right pilots, >= 0.
    alpha, beta : float
        Regulariser; .001 and 2 as published.
    """
    is_live = success_rate > 0.0
    p = np.where(is_live, success_rate, 1.0)
    return np.where(is_live, norm_correct / np.sqrt(p + alpha * p ** (1.0 - beta)), 0.0)


class Gvm(SubsetScheduler):
    r"""Pilots on a chunk of prompts, then ``steps_per_subset`` batches with quotas fixed for the chunk.

    The chunk is a shuffled pass over the subset, repeated or cut to ``steps_per_subset`` x
    ``batch_size`` visits; its ``steps_per_subset`` x ``budget`` rollouts are split over the whole chunk
    in proportion to :func:`gvm_weight`, so single plans vary in size. Prompts without a right pilot
    get nothing. What a host's limit cuts from a plan, its highest ids first, is not generated later.

    Cost of a subset: ``pilots`` x its prompts + ``steps_per_subset`` x ``budget``, exactly (less only
    where ``max_quota`` x live visits cannot hold it, or a host's limit cuts).

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`. ``min_quota=1`` is the published rounding
        (groups of one included, whose GRPO advantage is 0).
    num_subsets, pilots, steps_per_subset, subset_N, train_pilots, use_moments
        See :class:`~cures.schedulers.subsets.SubsetScheduler`; N' = 8, M = 10 as published. Without
        moments G = 1.
    alpha, beta : float
        Regulariser of the weight, alpha >= 0; .001 and 2 as published.

    Notes
    -----
    Deviations from the published pipeline: ``min_quota`` 2 by default; a chunk without any right pilot
    is trained uniformly and counted (``fallback_uniform``); a batch whose quotas are all 0 is passed
    over, as there.

    References
    ----------
    .. [1] Yao et al., "Optimizing Chain-of-Thought Reasoners via Gradient Variance Minimization",
       arXiv 2505.02391, Proposition 1.
    """

    name = "gvm"
    needs_all_pilots = True

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        pilots: int = 8,
        alpha: float = 1e-3,
        beta: float = 2.0,
        **common: Any,
    ) -> None:
        self.alpha = as_float(self.name, "alpha", alpha, 0.0)
        self.beta = as_float(self.name, "beta", beta, -10.0, 10.0)  # p^(1-beta) stays a number
        super().__init__(num_prompts, batch_size, budget, seed, pilots=pilots, **common)

    def _start_visit(self) -> None:
        super()._start_visit()
        self._chunk_prompt = np.zeros(0, dtype=np.int64)
        self._chunk_quota = np.zeros(0, dtype=np.int64)

    def _prepare(self) -> None:
        super()._prepare()
        is_known = not self._has_pilots_left() and not self._has_open_pilots()
        if is_known and self._chunk_prompt.size == 0:
            self._fix_quotas()
            super()._prepare()  # quotas of 0 may end the subset at once

    def _fix_quotas(self) -> None:
        """Order and quotas of the visits that are left of the chunk, once, when the pilots are in."""
        generator = derived_generator(self.seed, self._visit, Stream.CHUNK)
        order = generator.permutation(self._size)
        if self._is_out_S is not None:
            order = order[~self._is_out_S[order]]
        slot = np.resize(order, self._draws_per_visit)
        rate_S = self._pilot_success_S / np.maximum(self._pilot_trial_S, 1)
        norm_S = self._moments_or_mean("norm_correct", np.arange(self._size))
        weight = gvm_weight(rate_S, 1.0 if norm_S is None else norm_S, self.alpha, self.beta)[slot]
        weight[: self._draws_issued] = 0.0
        if not weight.any():
            self._books.count("fallback_uniform")
            weight[self._draws_issued :] = 1.0
        left = self._draws_per_visit - self._draws_issued
        self._chunk_prompt = self._prompt_at(slot)
        self._chunk_quota = self._chunk_quotas(weight, left * self.budget // self.batch_size)

    def _chunk_quotas(self, weight: FloatArray, total: int) -> IntArray:
        if self.min_quota == 1 and self.max_quota is None:
            return round_to_total(weight, total)
        is_live = weight > 0.0
        if self.max_quota is not None and total > self.max_quota * int(is_live.sum()):
            total = self.max_quota * int(is_live.sum())
            self._books.count("budget_cut_by_max_quota")
        quota = np.zeros(weight.size, dtype=np.int64)
        quota[is_live] = allocate(
            weight[is_live], total, min_quota=self.min_quota, max_quota=self.max_quota
        )
        return quota

    def _skipped_draws(self) -> int:
        """Batches (or, after streaming, draws) without a single rollout are passed over."""
        start = self._draws_issued
        if self._chunk_quota.size == 0:  # pilots are still under way
            return 0
        if self._chunk_quota[start : start + self.batch_size].any():
            return 0
        left = self._chunk_quota[start:]
        live = np.flatnonzero(left)
        if live.size == 0:
            return int(left.size)
        return int(live[0] // self.batch_size * self.batch_size)

    def _visits(self, size: int, chance: float) -> Draft:
        at = slice(self._draws_issued, self._draws_issued + size)
        is_live = self._chunk_quota[at] > 0
        prompt_B, index = np.unique(self._chunk_prompt[at][is_live], return_inverse=True)
        quota_B = np.bincount(index, weights=self._chunk_quota[at][is_live]).astype(np.int64)
        prob_B = np.full(prompt_B.size, chance)
        return Draft.of(prompt_B, quota_B, draw_B=np.bincount(index), prob_B=prob_B)

    def _training_draft(self, generator: np.random.Generator) -> Draft:
        return self._visits(self.batch_size, min(1.0, self.batch_size / self._active_size))

    def _training_draft_one(self, generator: np.random.Generator) -> Draft:
        return self._visits(self._idle_visits() + 1, 1 / self._active_size)

    def _idle_visits(self) -> int:
        """Visits without rollouts before the next one with some."""
        start, window = self._draws_issued, self.batch_size  # _prepare saw to it that one is there
        while not self._chunk_quota[start : start + window].any():
            window *= 2
        return int(np.argmax(self._chunk_quota[start : start + window] > 0))

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        if is_streamed and not draft.is_pilot and self._chunk_quota.size:
            self._draws_issued += self._idle_visits()
        super()._issued(plan, draft, is_streamed)

    def _extended(self, count: int) -> None:
        """Quotas are fixed anew for the visits that are left once the new pilots are in."""
        super()._extended(count)
        self._chunk_prompt = self._chunk_quota = np.zeros(0, dtype=np.int64)

    def _retired(self, prompt: IntArray) -> None:
        """What retired prompts would have got of this chunk goes to the others."""
        super()._retired(prompt)
        self._chunk_prompt = self._chunk_quota = np.zeros(0, dtype=np.int64)

    def _config(self) -> dict[str, StateValue]:
        return {**super()._config(), "alpha": self.alpha, "beta": self.beta}

    def _rule_state(self) -> State:
        chunk: State = {
            "chunk_prompt": self._chunk_prompt.copy(),
            "chunk_quota": self._chunk_quota.copy(),
        }
        return {**super()._rule_state(), **chunk}

    def _load_rule_state(self, state: SchedulerState) -> None:
        super()._load_rule_state(state)
        self._chunk_prompt = state.ints("chunk_prompt", high=self.num_prompts - 1)
        self._chunk_quota = state.ints("chunk_quota", self._chunk_prompt.size)
