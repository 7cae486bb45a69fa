"""Subset after subset: pilots on every prompt, then a number of steps; the frame of Algorithm 1.

The base of ``cures``, ``cures-released`` and ``gvm``. The phase is decided when a plan is issued, from
what was observed until then, so that several plans may be open.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, IntArray, as_bool, as_int, as_int_array, fail
from cures.records import Moments, Outcome, Plan, Selection
from cures.sampling import order_free_sum
from cures.schedulers.driver import Scheduler
from cures.schedulers.driver.checkpoint import SchedulerState, fingerprint
from cures.schedulers.driver.draft import Draft
from cures.schedulers.driver.randomness import SUBSET_STREAM, derived_generator
from cures.schedulers.weighted import WeightedDraw
from cures.storage import State, StateValue

MOMENTS = (
    "sq_norm_correct",
    "sq_norm_wrong",
    "sq_norm_difference",
    "norm_correct",
    "norm_wrong",
)


class SubsetScheduler(Scheduler):
    """Disjoint subsets in turn; after the last one, the first again with everything reset.

    Cost of a subset: ``pilots`` x its prompts + ``steps_per_subset`` x ``budget`` rollouts.

    Parameters
    ----------
    num_subsets : int, optional
        T, the number of disjoint parts of the pool (never a temperature); default 15 as published,
        at most one per prompt.
    pilots : int
        N', rollouts per prompt of a subset before its first step.
    steps_per_subset : int
        M, updates per subset.
    subset_N : array_like of int, shape (N,), optional
        Subset of every prompt; default a random partition into equal parts, derived from the seed.
    train_pilots : bool
        Whether pilot groups are also trained on (one update per pilot plan).
    use_moments : bool
        Ask the host for gradient moments of the pilots.
    """

    needs_all_pilots: ClassVar[bool] = False  # whether what pilots say is frozen when they are in

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        num_subsets: int | None = None,
        pilots: int = 4,
        steps_per_subset: int = 10,
        subset_N: ArrayLike | None = None,
        train_pilots: bool = False,
        use_moments: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        if num_subsets is None:
            num_subsets = min(15, self.num_prompts)
        self.num_subsets = as_int(self.name, "num_subsets", num_subsets, 1, num_prompts)
        self.pilots = as_int(self.name, "pilots", pilots, 1)
        self.steps_per_subset = as_int(self.name, "steps_per_subset", steps_per_subset, 1)
        self.train_pilots = as_bool(self.name, "train_pilots", train_pilots)
        self.use_moments = as_bool(self.name, "use_moments", use_moments)
        self._subsets, self._subset_digest = self._cut(subset_N)
        self._visit = 0
        self._first_plan = 0
        self._pilots_issued = 0
        self._partial_pilots = 0
        self._draws_issued = 0
        self._start_visit()

    def _cut(self, subset_N: ArrayLike | None) -> tuple[list[IntArray], str]:
        """Members of every subset, ascending."""
        if subset_N is None:
            order = derived_generator(self.seed, 0, SUBSET_STREAM).permutation(self.num_prompts)
            parts = np.array_split(order.astype(np.int64), self.num_subsets)
            return [np.sort(part) for part in parts], "random"
        label_N = as_int_array(
            self.name,
            "subset_N",
            subset_N,
            length=self.num_prompts,
            low=0,
            high=self.num_subsets - 1,
        )
        members = [np.flatnonzero(label_N == k).astype(np.int64) for k in range(self.num_subsets)]
        empty = [k for k, part in enumerate(members) if part.size == 0]
        if empty:
            fail(self.name, "subset_N", "without empty subsets", f"nothing in subset {empty[0]}")
        return members, fingerprint(label_N)

    # -- hooks of a rule -----------------------------------------------------------------------------

    @abstractmethod
    def _training_draft(self, generator: np.random.Generator) -> Draft:
        """``batch_size`` draws of the current subset with their quotas."""

    @abstractmethod
    def _training_draft_one(self, generator: np.random.Generator) -> Draft:
        """One streamed draw of the current subset."""

    def _start_visit(self) -> None:
        """Forget everything estimated: a new subset begins."""
        size = self.members.size
        self._pilot_success_S = np.zeros(size, dtype=np.int64)
        self._pilot_trial_S = np.zeros(size, dtype=np.int64)
        self._moment_S = {key: np.full(size, np.nan) for key in MOMENTS}

    def _skipped_draws(self) -> int:
        """Draws of the next step that need no rollouts at all and are passed over."""
        return 0

    # -- the frame -----------------------------------------------------------------------------------

    @property
    def members(self) -> IntArray:
        """Prompts of the current subset, ascending."""
        return self._subsets[self._visit % self.num_subsets]

    @property
    def _draws_per_visit(self) -> int:
        return self.steps_per_subset * self.batch_size

    def _prepare(self) -> None:
        if self._pilots_issued == self.members.size:
            self._draws_issued += self._skipped_draws()
        if self._draws_issued >= self._draws_per_visit:
            self._visit += 1
            self._first_plan = self._next_plan_id
            self._pilots_issued = 0
            self._draws_issued = 0
            self._stream = self._stream.restarted()
            self._start_visit()

    def _draft(self, generator: np.random.Generator) -> Draft:
        pilots = self._pilot_draft(self.budget)
        if pilots is not None:
            return pilots
        if self._has_open_pilots():
            draft = self._blind_draw().batch(
                generator,
                self.batch_size,
                self.budget,
                min_quota=self.min_quota,
                max_quota=self.max_quota,
            )
            return replace(draft, counts={"drawn_before_pilots": 1})
        return self._training_draft(generator)

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        pilots = self._pilot_draft(self.pilots)
        if pilots is not None:
            return pilots
        if self._has_open_pilots():
            draft = self._blind_draw().one(generator)
            return replace(draft, counts={"drawn_before_pilots": 1})
        return self._training_draft_one(generator)

    def _has_open_pilots(self) -> bool:
        """Whether the rule cannot go on without pilots that are still under way."""
        return self.needs_all_pilots and any(
            plan_id >= self._first_plan and bool(open_plan.plan.is_pilot_B.any())
            for plan_id, open_plan in self._open.items()
        )

    def _blind_draw(self) -> WeightedDraw:
        """Uniform draws with equal quotas: a host asked for more before the pilots came back."""
        share = np.full(self.members.size, 1.0 / self.members.size)
        return WeightedDraw(self.members, share, lambda slot: (np.ones(slot.size), 0))

    def _pilot_draft(self, most: int) -> Draft | None:
        """The next pilots, at most ``most`` rollouts in one plan; None when all were issued."""
        start = self._pilots_issued
        prompt_B = self.members[start : start + max(most // self.pilots, 1)]
        if prompt_B.size == 0:
            return None
        quota_B = np.full(prompt_B.size, self.pilots, dtype=np.int64)
        quota_B[0] -= self._partial_pilots
        everyone = np.ones(prompt_B.size)
        return Draft.of(
            prompt_B, quota_B, prob_B=everyone, is_pilot=True, wants_moments=self.use_moments
        )

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        if draft.is_pilot:
            # a prompt whose pilots were cut by a limit gets the rest with the next plan
            last = int(draft.quota_B[-1]) + (self._partial_pilots if len(plan) == 1 else 0)
            self._partial_pilots = last % self.pilots
            self._pilots_issued += draft.prompt_B.size - (self._partial_pilots > 0)
        else:
            self._draws_issued += 1 if is_streamed else self.batch_size

    def _is_relevant(self, plan: Plan) -> bool:
        """Everything estimated is reset at a new subset: plans from before tell nothing."""
        return plan.plan_id >= self._first_plan

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        is_here = plan.is_pilot_B[at]
        slot = np.searchsorted(self.members, plan.prompt_B[at][is_here])
        success, trial = outcome.success_B[is_here], outcome.trial_B[is_here]
        if moments is not None:
            self._add_moments(slot, success, trial, moments.take(np.flatnonzero(is_here)))
        self._pilot_success_S[slot] += success
        self._pilot_trial_S[slot] += trial

    def _add_moments(
        self, slot: IntArray, success: IntArray, trial: IntArray, moments: Moments
    ) -> None:
        """Average with what earlier pilots of the same prompt showed, by rollouts of the kind.

        The average of two unbiased differences is unbiased.
        """
        old_success, old_trial = self._pilot_success_S[slot], self._pilot_trial_S[slot]
        weights = {
            "correct": (old_success, success),
            "wrong": (old_trial - old_success, trial - success),
            "difference": (old_trial, trial),
        }
        for key in MOMENTS:
            old, new = self._moment_S[key][slot], getattr(moments, key)
            before, now = weights[key.rpartition("_")[2]]
            both = (before * old + now * new) / np.maximum(before + now, 1)
            self._moment_S[key][slot] = np.where(
                np.isnan(old), new, np.where(np.isnan(new), old, both)
            )

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        if plan.is_pilot_B.all() and not self.train_pilots:
            return Selection.empty(plan.group_B)
        return super()._closed(plan, is_streamed)

    def _moments_or_mean(self, key: str) -> FloatArray | None:
        """A moment per member; a missing one is the subset's mean, None if nobody has it."""
        values = self._moment_S[key]
        is_missing = np.isnan(values)
        if is_missing.all():
            return None
        measured = values[~is_missing]
        return np.where(is_missing, order_free_sum(measured) / measured.size, values)

    def _config(self) -> dict[str, StateValue]:
        return {
            "num_subsets": self.num_subsets,
            "pilots": self.pilots,
            "steps_per_subset": self.steps_per_subset,
            "subset_N": self._subset_digest,
            "train_pilots": int(self.train_pilots),
            "use_moments": int(self.use_moments),
        }

    def _rule_state(self) -> State:
        state: State = {
            "visit": self._visit,
            "first_plan": self._first_plan,
            "pilots_issued": self._pilots_issued,
            "partial_pilots": self._partial_pilots,
            "draws_issued": self._draws_issued,
            "pilot_success_S": self._pilot_success_S.copy(),
            "pilot_trial_S": self._pilot_trial_S.copy(),
        }
        state.update({key: values.copy() for key, values in self._moment_S.items()})
        return state

    def _load_rule_state(self, state: SchedulerState) -> None:
        self._visit = state.integer("visit")
        self._first_plan = state.integer("first_plan", self._next_plan_id)
        size = self.members.size
        self._pilots_issued = state.integer("pilots_issued", size)
        self._partial_pilots = state.integer("partial_pilots", self.pilots - 1)
        self._draws_issued = state.integer("draws_issued")
        self._pilot_trial_S = state.ints("pilot_trial_S", size, self.pilots)
        self._pilot_success_S = state.ints("pilot_success_S", size, self.pilots)
        lowest = {key: None if key == "sq_norm_difference" else 0.0 for key in MOMENTS}
        self._moment_S = {key: state.floats(key, size, lowest[key]) for key in MOMENTS}
