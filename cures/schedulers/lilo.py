"""LILO: measure p(1-p) of candidates with extra rollouts, train on the most learnable ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray, as_bool, as_int, fail
from cures.records import Plan, Selection
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.driver.draft import Draft
from cures.schedulers.passes import PassScheduler
from cures.schedulers.refill import whole_group_size
from cures.storage import State, StateValue

MEASURED = 1  # stage of a pilot group that is back and waits for the rest of its round


def learnability(success_C: IntArray, trial_C: IntArray) -> FloatArray:
    r"""Variance :math:`\hat p (1 - \hat p)` of the observed rewards.

    Parameters
    ----------
    success_C, trial_C : ndarray of int64, shape (C,)
        Right rollouts and rollouts that came back, ``0 <= success <= trial``.

    Returns
    -------
    ndarray of float64, shape (C,)
        In [0, 1/4]; 0 for a candidate of which nothing came back.
    """
    p = success_C / np.maximum(trial_C, 1)
    return np.asarray(p * (1.0 - p))


class Lilo(PassScheduler):
    r"""Rounds of C candidates with N' pilots each; the m of largest learnability are the batch.

    Candidates come from a shuffled pass over the pool. When the C-th of a round is back, the m with
    the largest :math:`\hat p (1 - \hat p)` are rolled out anew, n = budget / m each, and trained on;
    pilots are booked as pilots and discarded. Ties go to the candidate that comes first in the
    (random) order of the pass. Nothing is remembered of earlier rounds.

    Cost of an update: C x ``pilots`` + ``budget`` rollouts, exactly, C = min(``candidates_per_prompt``
    x m, N): five times the budget by default and with n = 8. With ``train_pilots`` C x ``pilots``.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; ``batch_size <= num_prompts``, group size
        n = budget / batch_size, whole.
    pilots : int
        N', rollouts per candidate; 8 as published. With 1 every learnability is 0 and all candidates
        tie.
    candidates_per_prompt : int
        Candidates per prompt of the batch, >= 1; 4 as published (8 late in training on GSM8K), at
        most the whole pool.
    train_pilots : bool
        True: the pilots of the chosen m are the groups trained on, and nothing is rolled out anew;
        ``pilots`` has to be budget / batch_size.

    Notes
    -----
    The numbers 8 and 4 come from a summary of the paper's sixth version, not from the paper itself,
    and so does what is unknown: whether its runs train on the pilots. By default they are extra
    rollouts, as in the first version.

    Deviations: no buffer of questions that fills a part of several batches (first version) and no
    repeated draws until a whole batch is learnable; like the top-m rule itself, a round with fewer
    than m learnable candidates fills up with others, and one without any trains on its first m, which
    is a uniform draw, and is counted (``fallback_uniform``). Several plans under way overlap rounds: a
    round then is the C pilot groups that came back first. Streaming measures one candidate and trains
    one group per plan, same rounds.

    References
    ----------
    .. [1] Foster et al., "Learning to Reason at the Frontier of Learnability", NeurIPS 2025,
       arXiv 2502.12272, Algorithm 2.
    """

    name = "lilo"

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        pilots: int = 8,
        candidates_per_prompt: int = 4,
        train_pilots: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        as_int(self.name, "batch_size", batch_size, 1, num_prompts)
        self.group_size = whole_group_size(self.name, batch_size, budget)
        self.pilots = as_int(self.name, "pilots", pilots, 1)
        self.candidates_per_prompt = as_int(
            self.name, "candidates_per_prompt", candidates_per_prompt, 1
        )
        self.train_pilots = as_bool(self.name, "train_pilots", train_pilots)
        if self.train_pilots and self.pilots != self.group_size:
            legal = f"budget / batch_size = {self.group_size} when pilots are trained on"
            fail(self.name, "pilots", legal, pilots)
        self._chosen = np.zeros(0, dtype=np.int64)  # prompts that wait to be rolled out

    @property
    def num_candidates(self) -> int:
        """Candidates of a round, C."""
        return min(self.candidates_per_prompt * self.batch_size, self.num_active)

    def _missing(self) -> int:
        """Candidates that the round under way (or the next one) still lacks."""
        return self.num_candidates - int(self.live.is_pilot.sum()) % self.num_candidates

    def _draft(self, generator: np.random.Generator) -> Draft:
        if self._chosen.size:
            return self._train(self.batch_size)
        return self._measure(self._missing())

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        return self._train(1) if self._chosen.size else self._measure(1)

    def _train(self, size: int) -> Draft:
        # overlapping rounds may choose a prompt twice: one group, drawn twice
        prompt_B, first, draw_B = np.unique(
            self._chosen[:size], return_index=True, return_counts=True
        )
        order = np.argsort(first)  # most learnable first: a cut loses the least learnable
        draw_B = draw_B[order].astype(np.int64)
        return Draft.of(prompt_B[order], draw_B * self.group_size, draw_B=draw_B)

    def _measure(self, size: int) -> Draft:
        prompt_B = self._passes.peek(size)
        quota_B = np.full(size, self.pilots, dtype=np.int64)
        return Draft.of(prompt_B, quota_B, is_pilot=True)

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        used = draft.prompt_B.size
        if draft.is_pilot:
            # what was asked for: what is used and, with these groups live, what still lacks
            size = used if is_streamed else self._missing() % self.num_candidates + used
            self._passes.advance(size, used)
        else:
            kept = ~np.isin(self._chosen, draft.prompt_B)
            kept[(1 if is_streamed else self.batch_size) :] = True
            self._chosen = self._chosen[kept]

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        if not plan.is_pilot_B.all():
            return super()._closed(plan, is_streamed)
        self.live.stage[self.live.rows(plan.group_B)] = MEASURED
        measured = self._of_active(self.live.in_stage(MEASURED))
        if measured.size < self.num_candidates:
            return Selection.empty()
        return self._choose(measured[: self.num_candidates])

    def _choose(self, group_C: IntArray) -> Selection:
        """End a round: its most learnable prompts are queued, or its groups trained on."""
        rows = self.live.rows(group_C)
        worth_C = learnability(self.live.success[rows], self.live.trial[rows])
        if not worth_C.any():
            self._books.count("fallback_uniform")
        best = np.argsort(-worth_C, kind="stable")[: self.batch_size]
        if self.train_pilots:
            return self._select(np.sort(group_C[best]), np.delete(group_C, best))
        self._chosen = np.concatenate([self._chosen, self.live.prompt[rows[best]]])
        return Selection.empty(group_C)

    def _awaits_rollouts(self, stage: IntArray) -> BoolArray:
        return np.asarray(stage == MEASURED)

    def _retired(self, prompt: IntArray) -> None:
        """A round loses its candidates, a batch those that were chosen."""
        super()._retired(prompt)
        self._chosen = self._chosen[~np.isin(self._chosen, prompt)]

    def _config(self) -> dict[str, StateValue]:
        return {
            "pilots": self.pilots,
            "candidates_per_prompt": self.candidates_per_prompt,
            "train_pilots": int(self.train_pilots),
        }

    def _rule_state(self) -> State:
        return {**super()._rule_state(), "chosen": self._chosen.copy()}

    def _load_rule_state(self, state: SchedulerState) -> None:
        super()._load_rule_state(state)
        self._chosen = state.ints("chosen", high=self.num_prompts - 1)
