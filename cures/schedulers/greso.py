"""GRESO: prompts whose last visits had no spread of rewards are skipped before they are rolled out."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray, as_float, as_int
from cures.records import Moments, Outcome, Plan, Selection
from cures.schedulers.driver import COMPLETE
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.driver.draft import Draft
from cures.schedulers.driver.randomness import Stream, derived_generator
from cures.schedulers.refill import RefillScheduler
from cures.storage import State, StateValue

EASY_SHARE = 1 / 3  # of the target; the rest is for hard prompts
STEP = 0.01  # of p_easy and p_hard, at every update
LOWEST, HIGHEST = 0.05, 0.95  # of p_easy and p_hard
MARGIN = 1.25  # by which a refill is larger than the estimate


def skip_probability(streak: IntArray, base: float, min_keep: float) -> FloatArray:
    r"""Chance :math:`1 - \max(p^z, \epsilon)` that a prompt is passed over.

    Parameters
    ----------
    streak : ndarray of int64
        z, how many visits in a row, up to the last, were all right (or all wrong); 0 is never skipped.
    base : float
        p, in (0, 1].
    min_keep : float
        Smallest chance to be rolled out, in (0, 1].
    """
    return 1.0 - np.maximum(np.power(base, streak.astype(np.float64)), min_keep)


class Greso(RefillScheduler):
    r"""Shuffled passes that skip by history, n rollouts each, refilled until m mixed groups are there.

    A prompt whose last z visits were all right (all wrong) is skipped with chance
    :math:`1 - \max(p_{easy}^z, .01)` (:math:`p_{hard}^z`). From the second pass on every update moves
    each p by .01 within [.05, .95]: down (skip more) if the share of such groups among those rolled
    out for the update reached its target, else up. The targets are 1/3 and 2/3 of
    ``target_zero_variance``.

    The first plan of an update has R = ``sampling_batch`` prompts. If it leaves r groups to find, the
    next has :math:`s = \lfloor 1.25\, r / a \rfloor` prompts, a the share of mixed groups in the plan
    just finished; at most R, at least F = ``min_sampling_batch``. Where s <= R this refill is the last:
    the update then uses what is there, full or not.

    Expected cost of an update without history, where a group is mixed with chance q: :math:`n\, C(m)`
    rollouts with :math:`C(r) = R + E[c(K, r - K);\ K < r]`, K = Binomial(R, q), and :math:`c(K, r) =
    \max(s, F)` if s = 1.25 r R / K <= R, else C(r). Later q is that of the prompts not skipped.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; group size n = budget / batch_size.
    p_easy, p_hard : float
        Where the two adaptive numbers start, in [.05, .95]; .5 as published.
    target_zero_variance : float
        Share of groups without a spread that is aimed at, in [0, 1]; .25 as published.
    min_keep : float
        Smallest chance to be rolled out, in (0, 1]; .01 as published.
    sampling_batch, min_sampling_batch : int, optional
        R and F; default 1.5 and .25 x batch_size as published (384 and 64 for 256), at most num_prompts.
    max_plans_per_update : int
        Full refills after which the update uses what is there.

    Notes
    -----
    Deviations from the published code. With rewards 0 and 1 "all right" and "all wrong" are exact
    (there: mean reward >= .98, and <= .11 because of a format reward of .1, which asks for a right
    format as well in the adaptive share). A visit of which nothing came back tells nothing. A plan has
    as many prompts as asked (there: whatever loader batches of 32 add up to, rounded to the number of
    GPUs), and a prompt comes once in a plan, across the end of a pass too. A plan without a mixed
    group is followed by one of R prompts (there: a division by zero), one whose last refill leaves no
    mixed group at all by a new start (there: an empty batch). At most ``max_plans_per_update`` plans
    go into one update (there: no bound). Streamed prompts are refilled one by one, with no last refill.

    References
    ----------
    .. [1] Zheng et al., "Act Only When It Pays: Efficient RL for LLM Reasoning via Selective Rollouts",
       arXiv 2506.02177; repository Infini-AI-Lab/GRESO.
    """

    name = "greso"

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        p_easy: float = 0.5,
        p_hard: float = 0.5,
        target_zero_variance: float = 0.25,
        min_keep: float = 0.01,
        sampling_batch: int | None = None,
        min_sampling_batch: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        self.p_easy = as_float(self.name, "p_easy", p_easy, LOWEST, HIGHEST)
        self.p_hard = as_float(self.name, "p_hard", p_hard, LOWEST, HIGHEST)
        self._start = (self.p_easy, self.p_hard)
        self.target_zero_variance = as_float(
            self.name, "target_zero_variance", target_zero_variance, 0.0, 1.0
        )
        self.min_keep = as_float(self.name, "min_keep", min_keep, 0.0, 1.0, open_low=True)
        if sampling_batch is None:
            sampling_batch = min(-(-3 * self.batch_size // 2), self.num_prompts)
        self.sampling_batch = as_int(
            self.name, "sampling_batch", sampling_batch, 1, self.num_prompts
        )
        if min_sampling_batch is None:
            min_sampling_batch = min(max(self.batch_size // 4, 1), self.sampling_batch)
        self.min_sampling_batch = as_int(
            self.name, "min_sampling_batch", min_sampling_batch, 1, self.sampling_batch
        )
        self._easy_streak_N = np.zeros(self.num_prompts, dtype=np.int64)
        self._hard_streak_N = np.zeros(self.num_prompts, dtype=np.int64)
        self._seen = self._easy_seen = self._hard_seen = 0  # groups since the last update
        self._last_size = self._last_kept = 0  # of the plan just finished; 0 after an update
        self._last_refill = 0  # 1 + id of the plan after which the update is due; 0: none

    def skip_probability(self, prompt: IntArray) -> FloatArray:
        """Chance that each of these prompts is passed over when its turn comes."""
        easy = skip_probability(self._easy_streak_N[prompt], self.p_easy, self.min_keep)
        hard = skip_probability(self._hard_streak_N[prompt], self.p_hard, self.min_keep)
        return np.maximum(easy, hard)  # at most one of the streaks is positive

    # -- what to roll out ----------------------------------------------------------------------------

    def _walk(self, generator: np.random.Generator, size: int) -> tuple[IntArray, IntArray]:
        """The next prompts that are not skipped, and where they stand, counted over all passes.

        At most ``size``, at least one, all different; no further than through the pass after this.
        """
        self._passes.peek(1)  # the copy has the permutation, and so has the next walk
        passes = copy(self._passes)
        end = passes.position + passes.left + len(passes)
        prompt_W = np.zeros(0, dtype=np.int64)
        position_W = prompt_W
        while prompt_W.size < size and (passes.position < end or not prompt_W.size):
            window = min(passes.left, 4 * size)
            position = passes.position + np.arange(window, dtype=np.int64)
            prompt = passes.peek(window)
            passes.advance(window, window)
            is_kept = generator.random(window) >= self.skip_probability(prompt)
            is_kept &= ~np.isin(prompt, prompt_W)  # seen in the pass before
            prompt_W = np.concatenate([prompt_W, prompt[is_kept]])
            position_W = np.concatenate([position_W, position[is_kept]])
        return prompt_W[:size], position_W[:size]

    def _draft(self, generator: np.random.Generator) -> Draft:
        return self._groups(self._walk(generator, self._refill_size())[0])

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        return self._groups(self._walk(generator, 1)[0])

    def _groups(self, prompt_B: IntArray) -> Draft:
        return Draft.of(prompt_B, np.full(prompt_B.size, self.group_size, dtype=np.int64))

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        generator = derived_generator(self.seed, plan.plan_id, Stream.PLAN)
        size = 1 if is_streamed else self._refill_size()
        _, position_W = self._walk(generator, size)  # the same walk: a cut plan has its beginning
        before = self._passes.position
        self._passes.move_to(int(position_W[len(plan) - 1]) + 1)
        self._books.count("skipped", self._passes.position - before - len(plan))
        if not is_streamed and 0 < self._estimated_refill() <= self.sampling_batch:
            self._last_refill = plan.plan_id + 1

    def _estimated_refill(self) -> int:
        """Prompts that should do, by the plan just finished; 0 if there is none, or it kept nothing."""
        if not self._last_kept:
            return 0
        missing = self.batch_size - int(np.count_nonzero(self.live.stage == COMPLETE))
        return int(MARGIN * max(missing, 1) * self._last_size / self._last_kept)

    def _refill_size(self) -> int:
        estimate = self._estimated_refill() or self.sampling_batch
        return min(max(estimate, self.min_sampling_batch), self.sampling_batch)

    def _full_refill(self) -> int:
        return self.sampling_batch

    # -- what came back ------------------------------------------------------------------------------

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        is_seen = outcome.trial_B > 0
        prompt = plan.prompt_B[at][is_seen]
        success, trial = outcome.success_B[is_seen], outcome.trial_B[is_seen]
        for streak_N, is_kind in (
            (self._easy_streak_N, success == trial),
            (self._hard_streak_N, success == 0),
        ):
            streak_N[prompt] = np.where(is_kind, streak_N[prompt] + 1, 0)
        self._seen += prompt.size
        self._easy_seen += int(np.count_nonzero(success == trial))
        self._hard_seen += int(np.count_nonzero(success == 0))

    def _keep(self, success: IntArray, trial: IntArray) -> BoolArray:
        return (success > 0) & (success < trial)

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        rows = self.live.rows(plan.group_B)
        is_kept = self._keep(self.live.success[rows], self.live.trial[rows])
        if not is_streamed:
            self._last_size, self._last_kept = len(plan), int(np.count_nonzero(is_kept))
        selection = super()._closed(plan, is_streamed)
        if selection.is_update or self._last_refill != plan.plan_id + 1:
            return selection
        self._last_refill = 0
        kept = self.live.in_stage(COMPLETE)
        self._books.count("partial_batch" if kept.size else "empty_batch")
        return self._select(kept, selection.discard_G)

    def _updated(self) -> None:
        if self._seen and self._passes.has_wrapped:  # not in the first pass
            target = self.target_zero_variance
            is_easy_enough = self._easy_seen >= EASY_SHARE * target * self._seen
            is_hard_enough = self._hard_seen >= (1.0 - EASY_SHARE) * target * self._seen
            self.p_easy = _moved(self.p_easy, is_easy_enough)
            self.p_hard = _moved(self.p_hard, is_hard_enough)
        self._seen = self._easy_seen = self._hard_seen = 0
        self._last_size = self._last_kept = self._last_refill = 0

    def _extended(self, count: int) -> None:
        super()._extended(count)
        none = np.zeros(count, dtype=np.int64)
        self._easy_streak_N = np.concatenate([self._easy_streak_N, none])
        self._hard_streak_N = np.concatenate([self._hard_streak_N, none])

    # -- state ---------------------------------------------------------------------------------------

    def _config(self) -> dict[str, StateValue]:
        return {
            **super()._config(),
            "p_easy": self._start[0],
            "p_hard": self._start[1],
            "target_zero_variance": self.target_zero_variance,
            "min_keep": self.min_keep,
            "sampling_batch": self.sampling_batch,
            "min_sampling_batch": self.min_sampling_batch,
        }

    def _rule_state(self) -> State:
        return {
            **super()._rule_state(),
            "easy_streak_N": self._easy_streak_N.copy(),
            "hard_streak_N": self._hard_streak_N.copy(),
            "now_easy": self.p_easy,
            "now_hard": self.p_hard,
            "seen": self._seen,
            "easy_seen": self._easy_seen,
            "hard_seen": self._hard_seen,
            "last_size": self._last_size,
            "last_kept": self._last_kept,
            "last_refill": self._last_refill,
        }

    def _load_rule_state(self, state: SchedulerState) -> None:
        super()._load_rule_state(state)
        self._easy_streak_N = state.ints("easy_streak_N", self.num_prompts)
        self._hard_streak_N = state.ints("hard_streak_N", self.num_prompts)
        where = "load_state_dict"
        self.p_easy = as_float(where, "now_easy", state.real("now_easy"), LOWEST, HIGHEST)
        self.p_hard = as_float(where, "now_hard", state.real("now_hard"), LOWEST, HIGHEST)
        self._seen = state.integer("seen")
        self._easy_seen = state.integer("easy_seen", self._seen)
        self._hard_seen = state.integer("hard_seen", self._seen)
        self._last_size = state.integer("last_size")
        self._last_kept = state.integer("last_kept", self._last_size)
        self._last_refill = state.integer("last_refill", self._next_plan_id)


def _moved(p: float, is_above: bool) -> float:
    """One step down if the target is reached, else one up."""
    return max(p - STEP, LOWEST) if is_above else min(p + STEP, HIGHEST)
