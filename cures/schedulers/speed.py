"""SPEED-RL: screen with a few rollouts, continue only the mixed prompts, train on full batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cures.checks import BoolArray, IntArray, as_int, fail
from cures.records import Plan, Selection
from cures.schedulers.driver import COMPLETE
from cures.schedulers.driver.draft import Draft
from cures.schedulers.passes import PassScheduler
from cures.schedulers.refill import whole_group_size
from cures.storage import StateValue

ACCEPTED = 1  # screened and mixed, waits for its continuation
CONTINUING = 2  # the continuation is under way


class Speed(PassScheduler):
    r"""Screening and continuation fused in one plan, with a buffer of finished groups.

    A plan holds ``screening_batch`` new prompts with N_init rollouts each and N_cont rollouts for
    every prompt accepted before; a prompt is accepted iff its screening is mixed. As soon as m groups
    are finished the oldest m are trained on, all their rollouts; the rest waits.

    Expected cost: :math:`N_{init} / E[q_{N_{init}}] + N_{cont}` rollouts per trained prompt, with
    :math:`q_n = 1 - p^n - (1-p)^n`, once live groups are taken off.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; N_init + N_cont = budget / batch_size.
    screening_size : int
        N_init, at least 2 (one rollout is never mixed); 4 as published.
    screening_batch : int, optional
        New prompts per plan; default 4 x batch_size as published (64 for 16), at most num_prompts.
    max_plans_per_update : int
        Screening batches without a full batch of finished groups after which the update uses those
        there are.
    max_live_groups : int, optional
        Bound of the buffer; beyond it the oldest waiting groups are discarded. Default
        2 x (batch_size + screening_batch), which one plan at a time never reaches.

    Notes
    -----
    Deviations from the published code: the buffer is bounded (there the bound is asserted, never
    enforced), a partial batch is trained on (there the run dies after 50 plans), no prompts are
    skipped between updates (there every update throws one loader batch away), and pending groups are
    not rounded to the number of GPUs.

    References
    ----------
    .. [1] Zhang et al., "SPEED-RL", arXiv 2506.09016, Algorithm 1.
    """

    name = "speed"

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        screening_size: int = 4,
        screening_batch: int | None = None,
        max_plans_per_update: int = 10,
        max_live_groups: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        as_int(self.name, "batch_size", batch_size, 1, num_prompts)
        group_size = whole_group_size(self.name, batch_size, budget)
        fewest = max(2, self.min_quota)  # one rollout is never mixed
        if group_size <= fewest:
            legal = f"at least batch_size x {fewest + 1}: screening and one more rollout"
            fail(self.name, "budget", legal, budget)
        self.screening_size = as_int(
            self.name, "screening_size", screening_size, fewest, group_size - 1
        )
        self.continuation_size = group_size - self.screening_size
        if screening_batch is None:
            screening_batch = min(4 * self.batch_size, self.num_prompts)
        self.screening_batch = as_int(
            self.name, "screening_batch", screening_batch, 1, self.num_prompts
        )
        self.max_plans_per_update = as_int(
            self.name, "max_plans_per_update", max_plans_per_update, 1
        )
        if max_live_groups is None:
            max_live_groups = 2 * (self.batch_size + self.screening_batch)
        self.max_live_groups = as_int(self.name, "max_live_groups", max_live_groups, batch_size)

    @property
    def has_update_ready(self) -> bool:
        """Whether a full batch of finished groups waits."""
        return int(np.count_nonzero(self.live.stage == COMPLETE)) >= self.batch_size

    def _continue(self, draft: Draft, group: IntArray) -> Draft:
        quota = np.full(group.size, self.continuation_size, dtype=np.int64)
        return replace(draft, continued_C=group, continued_quota_C=quota)

    def _screen(self, size: int) -> Draft:
        prompt_B = self._passes.peek(size)
        return Draft.of(prompt_B, np.full(size, self.screening_size, dtype=np.int64))

    def _draft(self, generator: np.random.Generator) -> Draft:
        accepted = self._of_active(self.live.in_stage(ACCEPTED))
        return self._continue(self._screen(self.screening_batch), accepted)

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        accepted = self._of_active(self.live.in_stage(ACCEPTED))
        if accepted.size:
            return self._continue(Draft.nothing(), accepted[:1])
        return self._screen(1)

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        self.live.stage[self.live.rows(draft.continued_C)] = CONTINUING
        new = draft.prompt_B.size
        if new:
            size = 1 if is_streamed else self.screening_batch
            self._passes.advance(size, new)

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        rows = self.live.rows(plan.group_B)
        stage, success, trial = (
            self.live.stage[rows],
            self.live.success[rows],
            self.live.trial[rows],
        )
        is_screened = stage == 0
        is_mixed = (success > 0) & (success < trial)
        self.live.stage[rows[stage == CONTINUING]] = COMPLETE
        self.live.stage[rows[is_screened & is_mixed]] = ACCEPTED
        rejected = plan.group_B[is_screened & ~is_mixed]
        chosen = self._chosen()
        waiting = self.live.group[(self.live.stage == ACCEPTED) | (self.live.stage == COMPLETE)]
        waiting = np.setdiff1d(waiting, chosen, assume_unique=True)
        excess = max(waiting.size - self.max_live_groups, 0)
        self._books.count("buffer_overflow", excess)
        return self._select(chosen, np.concatenate([rejected, waiting[:excess]]))

    def _chosen(self) -> IntArray:
        """Finished groups to train on now: a full batch, or what there is after too many plans."""
        complete = self.live.in_stage(COMPLETE)
        if complete.size >= self.batch_size:
            return complete[: self.batch_size]
        if self._draws_since_update < self.max_plans_per_update * self.screening_batch:
            return complete[:0]
        self._books.count("partial_batch" if complete.size else "empty_batch")
        self._draws_since_update = 0
        return complete

    def _fewest_prompts(self) -> int:
        return max(self.batch_size, self.screening_batch)

    def _awaits_rollouts(self, stage: IntArray) -> BoolArray:
        return np.asarray(stage == ACCEPTED)

    def _config(self) -> dict[str, StateValue]:
        return {
            "screening_size": self.screening_size,
            "screening_batch": self.screening_batch,
            "max_plans_per_update": self.max_plans_per_update,
            "max_live_groups": self.max_live_groups,
        }
