"""Reinforce-Ada: rounds of rollouts until a prompt has enough right and wrong ones, n are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cures.checks import BoolArray, IntArray, as_bool, as_choice, as_int, fail
from cures.records import Plan, Selection
from cures.schedulers.driver.draft import Draft
from cures.schedulers.passes import PassScheduler
from cures.schedulers.refill import whole_group_size
from cures.storage import StateValue

VARIANTS = ("balanced", "positive-focused")


def has_enough_signal(
    success: IntArray, trial: IntArray, group_size: int, variant: str
) -> BoolArray:
    """Whether a prompt leaves after this round.

    Parameters
    ----------
    success, trial : ndarray of int64
        Right rollouts and rollouts so far.
    group_size : int
        n, rollouts to be trained on.
    variant : {"balanced", "positive-focused"}
        At least n // 2 right and n - n // 2 wrong ones; at least one right one.
    """
    if variant == "positive-focused":
        return np.asarray(success >= 1)
    right = group_size // 2
    return np.asarray((success >= right) & (trial - success >= group_size - right))


def down_sample(success: IntArray, trial: IntArray, group_size: int) -> IntArray:
    """How many right and wrong rollouts to keep: n // 2 right, the rest wrong, filled from either side.

    Returns
    -------
    ndarray of int64, shape (G, 2)
        Rows sum to ``min(group_size, trial)``.
    """
    wrong = trial - success
    right_kept = np.minimum(success, group_size // 2)
    wrong_kept = np.minimum(wrong, group_size - right_kept)
    right_kept = np.minimum(success, group_size - wrong_kept)
    return np.stack([right_kept, wrong_kept], axis=1)


class ReinforceAda(PassScheduler):
    r"""Successive elimination: M rollouts a round for every prompt that has not enough signal yet.

    A batch is m prompts of a shuffled pass. After a round a prompt leaves if it has n/2 right and n/2
    wrong rollouts (``balanced``), or one right one (``positive-focused``); after ``max_rounds`` rounds
    it leaves anyway. When all have left, the update takes n rollouts of each: the first n/2 right and
    n/2 wrong ones, where one side is short more of the other. The baseline is the mean reward of *all*
    rollouts of the prompt.

    Expected cost of an update: :math:`m\,M \sum_{k=0}^{K-1} E[1 - F_k(p)]` rollouts, K =
    ``max_rounds``, F_0 = 0 and F_k(p) the chance to leave within k rounds: balanced
    :math:`P(n/2 \le X \le kM - n/2)`, X = Binomial(kM, p); positive-focused :math:`1 - (1-p)^{kM}`.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; ``budget`` is what an update trains on, n =
        budget / batch_size rollouts per prompt.
    variant : {"balanced", "positive-focused"}
        When a prompt has enough signal; balanced as in the published script.
    round_size : int, optional
        M, at most ``max_quota``; default 2 n as published (8 for 4), or ``max_quota`` if that is less.
    max_rounds : int
        K; 4 as published.
    global_baseline : bool, optional
        Baseline over all rollouts of the prompt (``Selection.baseline_G``) instead of the estimator's
        own over those kept. Default True as in the published script, but False for ``estimator="grpo"``,
        which takes no baseline from outside; the published advantage, reward less baseline, is
        ``estimator="dr_grpo"``.

    Notes
    -----
    Source: the first version of the paper and its code. The third version's rules (quotas
    proportional to :math:`1/\sqrt p`; sampling until so many right ones) are not here.

    Deviations from the published code: no rollouts are added to fill up GPUs; rewards are 0 and 1
    (there: right above a threshold of .7); missing rollouts count for nothing, and a prompt of which
    nothing came back is selected without rollouts; a batch cut short by a limit is filled up by the
    next plan, so that an update always has m prompts. A host that opens several plans gets several
    batches at once; an update then takes the oldest m prompts that have left.

    References
    ----------
    .. [1] Xiong et al., "Reinforce-Ada: An Adaptive Sampling Framework for Reinforce-Style LLM
       Training", arXiv 2510.04996v1; repository RLHFlow/Reinforce-Ada.
    """

    name = "reinforce-ada"

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        variant: str = "balanced",
        round_size: int | None = None,
        max_rounds: int = 4,
        global_baseline: bool | None = None,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        as_int(self.name, "batch_size", batch_size, 1, num_prompts)
        self.group_size = whole_group_size(self.name, batch_size, budget)
        self.variant = as_choice(self.name, "variant", variant, VARIANTS)
        if round_size is None:
            round_size = min(2 * self.group_size, self.max_quota or 2 * self.group_size)
        self.round_size = as_int(
            self.name, "round_size", round_size, self.min_quota, self.max_quota
        )
        self.max_rounds = as_int(self.name, "max_rounds", max_rounds, 1)
        if global_baseline is None:
            global_baseline = self.estimator != "grpo"
        self.global_baseline = as_bool(self.name, "global_baseline", global_baseline)
        if self.global_baseline and self.estimator == "grpo":
            fail(self.name, "global_baseline", "False for estimator 'grpo'", global_baseline)

    # The stage of a group is the number of its finished rounds; max_rounds: it has left.

    def _left(self) -> IntArray:
        """Groups that wait for the update, oldest first."""
        return self.live.in_stage(self.max_rounds)

    def _unfinished(self) -> IntArray:
        """Groups that wait for another round: not left, and not in a plan under way."""
        active = self._of_active(self.live.group[self.live.stage < self.max_rounds])
        if not active.size or not self._open:
            return active
        under_way = np.concatenate([o.plan.group_B for o in self._open.values()])
        return np.setdiff1d(active, under_way, assume_unique=True)

    @property
    def has_update_ready(self) -> bool:
        """Whether a full batch of prompts has left (more than one batch was under way)."""
        return self._left().size >= self.batch_size

    def _draft(self, generator: np.random.Generator) -> Draft:
        unfinished = self._unfinished()
        if unfinished.size:
            return self._another_round(unfinished)
        return self._first_round(self.batch_size - self._left().size)

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        unfinished = self._unfinished()
        return self._another_round(unfinished[:1]) if unfinished.size else self._first_round(1)

    def _another_round(self, group_C: IntArray) -> Draft:
        quota_C = np.full(group_C.size, self.round_size, dtype=np.int64)
        return replace(Draft.nothing(), continued_C=group_C, continued_quota_C=quota_C)

    def _first_round(self, size: int) -> Draft:
        prompt_B = self._passes.peek(size)
        return Draft.of(prompt_B, np.full(prompt_B.size, self.round_size, dtype=np.int64))

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        new = draft.prompt_B.size
        if new:
            self._passes.advance(1 if is_streamed else self.batch_size - self._left().size, new)

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        rows = self.live.rows(plan.group_B)
        success, trial = self.live.success[rows], self.live.trial[rows]
        leaves = has_enough_signal(success, trial, self.group_size, self.variant)
        rounds = self.live.stage[rows] + 1
        self.live.stage[rows] = np.where(leaves, self.max_rounds, rounds)
        left = self._left()
        if left.size < self.batch_size:
            return Selection.empty()
        return self._down_sampled(left[: self.batch_size])

    def _down_sampled(self, group: IntArray) -> Selection:
        rows = self.live.rows(group)
        success, trial = self.live.success[rows], self.live.trial[rows]
        return Selection(
            group,
            self.live.weights(group),
            keep_G2=down_sample(success, trial, self.group_size),
            baseline_G=success / np.maximum(trial, 1) if self.global_baseline else None,
        )

    def _awaits_rollouts(self, stage: IntArray) -> BoolArray:
        return np.asarray(stage < self.max_rounds)

    def _config(self) -> dict[str, StateValue]:
        return {
            "variant": self.variant,
            "round_size": self.round_size,
            "max_rounds": self.max_rounds,
            "global_baseline": int(self.global_baseline),
        }
