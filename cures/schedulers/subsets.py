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

from cures.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    InWords,
    as_bool,
    as_int,
    as_int_array,
    fail,
)
from cures.records import Moments, Outcome, Plan, Selection
from cures.sampling import order_free_sum
from cures.schedulers.driver import Scheduler
from cures.schedulers.driver.checkpoint import SchedulerState, fingerprint
from cures.schedulers.driver.draft import Draft
from cures.schedulers.driver.randomness import Stream, derived_generator
from cures.schedulers.weighted import WeightedDraw, dense_equal_law
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

    is_piloted = True
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
        self._subset_digest = "random" if subset_N is None else ""
        self._subsets = self._cut(subset_N)
        self._visit = 0
        self._first_plan = 0
        self._pilots_issued = 0
        self._partial_pilots = 0
        self._draws_issued = 0
        self._start_visit()

    def _cut(self, subset_N: ArrayLike | None) -> list[IntArray] | None:
        """Members of every subset, ascending; None: one subset, the whole pool."""
        if subset_N is None:
            if self.num_subsets == 1:
                return None
            order = derived_generator(self.seed, 0, Stream.SUBSET).permutation(self.num_prompts)
            parts = np.array_split(order.astype(np.int64), self.num_subsets)
            return [np.sort(part) for part in parts]
        label_N = as_int_array(
            self.name,
            "subset_N",
            subset_N,
            length=self.num_prompts,
            low=0,
            high=self.num_subsets - 1,
        )
        self._subset_digest = fingerprint(label_N)
        members = [np.flatnonzero(label_N == k).astype(np.int64) for k in range(self.num_subsets)]
        empty = [k for k, part in enumerate(members) if part.size == 0]
        if empty:
            fail(
                self.name,
                "subset_N",
                "without empty subsets",
                InWords(f"nothing in subset {empty[0]}"),
            )
        return members if self.num_subsets > 1 else None

    # -- hooks of a rule -----------------------------------------------------------------------------

    @abstractmethod
    def _training_draft(self, generator: np.random.Generator) -> Draft:
        """``batch_size`` draws of the current subset with their quotas."""

    @abstractmethod
    def _training_draft_one(self, generator: np.random.Generator) -> Draft:
        """One streamed draw of the current subset."""

    def _start_visit(self) -> None:
        """Forget everything estimated: a new subset begins."""
        self._pilot_success_S = np.zeros(self._size, dtype=self._pilot_dtype)
        self._pilot_trial_S = np.zeros(self._size, dtype=self._pilot_dtype)
        self._moment_S: dict[str, FloatArray] = {}  # empty: nobody measured any
        self._mean_moment: dict[str, float | None] = {}
        self._is_out_S = self._retired_members()

    def _skipped_draws(self) -> int:
        """Draws of the next step that need no rollouts at all and are passed over."""
        return 0

    # -- the frame -----------------------------------------------------------------------------------

    @property
    def members(self) -> IntArray:
        """Prompts of the current subset, ascending, retired ones included, shape (S,)."""
        if self._subsets is None:
            return np.arange(self.num_prompts, dtype=np.int64)
        return self._subsets[self._visit % self.num_subsets]

    # The whole pool as the one subset needs no array of members: it would cost 8 bytes a prompt, and
    # looking prompts up in it as much as all the rest of a step.

    @property
    def _member_S(self) -> IntArray | None:
        """Prompts of the current subset; None: the whole pool."""
        return None if self._subsets is None else self.members

    @property
    def _size(self) -> int:
        """Members of the current subset, S."""
        return self.num_prompts if self._subsets is None else int(self.members.size)

    @property
    def _active_size(self) -> int:
        """Members that are not retired."""
        out = 0 if self._is_out_S is None else int(np.count_nonzero(self._is_out_S))
        return self._size - out

    def _prompt_at(self, slot: IntArray) -> IntArray:
        """Prompts at these positions of the current subset."""
        return slot if self._subsets is None else self.members[slot]

    def _slot_of(self, prompt: IntArray) -> IntArray:
        """Positions of these prompts in the current subset."""
        return prompt if self._subsets is None else np.searchsorted(self.members, prompt)

    @property
    def _pilot_dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The smallest that counts pilots: there is a counter per member."""
        return np.dtype(np.min_scalar_type(self.pilots))

    def _retired_members(self) -> BoolArray | None:
        """Which members are retired, shape (S,); None: nobody is."""
        if self._is_retired_N is None:
            return None
        is_out_S = self._is_retired_N if self._subsets is None else self._is_retired_N[self.members]
        return is_out_S if is_out_S.any() else None

    def _has_pilots_left(self) -> bool:
        return self._pilots_issued < self._size

    def _pass_over_retired(self) -> None:
        """Move the next pilot to a member that is still there."""
        at = self._pilots_issued
        if self._is_out_S is None or at == self._size or not self._is_out_S[at]:
            return
        left = np.flatnonzero(~self._is_out_S[at:])
        self._pilots_issued = at + int(left[0]) if left.size else self._size
        self._partial_pilots = 0

    @property
    def _draws_per_visit(self) -> int:
        return self.steps_per_subset * self.batch_size

    def _prepare(self) -> None:
        self._pass_over_retired()
        if not self._has_pilots_left():
            self._draws_issued += self._skipped_draws()
        while self._draws_issued >= self._draws_per_visit or self._is_deserted():
            self._visit += 1
            self._first_plan = self._next_plan_id
            self._pilots_issued = 0
            self._draws_issued = 0
            self._stream = self._stream.restarted()
            self._start_visit()
            self._pass_over_retired()

    def _is_deserted(self) -> bool:
        """Whether every member of the current subset is retired."""
        return self._is_out_S is not None and bool(self._is_out_S.all())

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
        law = dense_equal_law(self._size, self._is_out_S)
        return WeightedDraw(self._prompt_at, law, lambda: law, lambda slot: (np.ones(slot.size), 0))

    def _pilot_draft(self, most: int) -> Draft | None:
        """The next pilots, at most ``most`` rollouts in one plan; None when all were issued."""
        start = self._pilots_issued
        slot_B = np.arange(start, min(start + max(most // self.pilots, 1), self._size))
        if slot_B.size == 0:
            return None
        if self._is_out_S is not None:
            slot_B = slot_B[~self._is_out_S[slot_B]]  # the first one is there
        prompt_B = self._prompt_at(slot_B)
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
            self._pilots_issued = int(self._slot_of(draft.prompt_B[-1:])[0]) + 1
            self._pilots_issued -= self._partial_pilots > 0
            self._pass_over_retired()
        else:
            self._draws_issued += 1 if is_streamed else self.batch_size

    def _is_relevant(self, plan: Plan) -> bool:
        """Everything estimated is reset at a new subset: plans from before tell nothing."""
        return plan.plan_id >= self._first_plan

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        is_here = plan.is_pilot_B[at]
        slot = self._slot_of(plan.prompt_B[at][is_here])
        success, trial = outcome.success_B[is_here], outcome.trial_B[is_here]
        if moments is not None:
            self._add_moments(slot, success, trial, moments.take(np.flatnonzero(is_here)))
        self._pilot_success_S[slot] = self._pilot_success_S[slot] + success
        self._pilot_trial_S[slot] = self._pilot_trial_S[slot] + trial

    def _add_moments(
        self, slot: IntArray, success: IntArray, trial: IntArray, moments: Moments
    ) -> None:
        """Average with what earlier pilots of the same prompt showed, by rollouts of the kind.

        The average of two unbiased differences is unbiased.
        """
        if not self._moment_S:
            self._moment_S = {key: np.full(self._size, np.nan) for key in MOMENTS}
        self._mean_moment = {}
        old_success = self._pilot_success_S[slot].astype(np.int64)
        old_trial = self._pilot_trial_S[slot].astype(np.int64)
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

    def _moments_or_mean(self, key: str, slot: IntArray) -> FloatArray | None:
        """A moment of these members; a missing one is the subset's mean, None if nobody has it."""
        mean = self._mean_of_moment(key)
        if mean is None:
            return None
        values = self._moment_S[key][slot]
        return np.where(np.isnan(values), mean, values)

    def _mean_of_moment(self, key: str) -> float | None:
        """Mean over the members that have it, kept until more moments come in."""
        if not self._moment_S:
            return None
        if key not in self._mean_moment:
            measured = self._moment_S[key][~np.isnan(self._moment_S[key])]
            mean = order_free_sum(measured) / measured.size if measured.size else None
            self._mean_moment[key] = mean
        return self._mean_moment[key]

    # -- a pool that changes -------------------------------------------------------------------------

    def _extended(self, count: int) -> None:
        if self._subset_digest != "random":
            legal = "None in a pool that grows: it does not say where new prompts belong"
            fail(f"{self.name}.extend", "subset_N", legal, self._subset_digest)
        before = self._size if self._subsets is not None else self.num_prompts - count
        if self._subsets is not None:
            self._subsets = self._dealt(count)
        new = np.zeros(self._size - before, dtype=self._pilot_dtype)
        self._pilot_success_S = np.concatenate([self._pilot_success_S, new])
        self._pilot_trial_S = np.concatenate([self._pilot_trial_S, new])
        unknown = np.full(new.size, np.nan)
        self._moment_S = {k: np.concatenate([v, unknown]) for k, v in self._moment_S.items()}
        self._is_out_S = self._retired_members()

    def _dealt(self, count: int) -> list[IntArray]:
        """The subsets with new prompts in them, as evenly as their number allows, at random."""
        assert self._subsets is not None
        first = self.num_prompts - count
        generator = derived_generator(self.seed, first, Stream.SUBSET)
        label = np.resize(generator.permutation(self.num_subsets), count)
        generator.shuffle(label)
        return [
            np.concatenate([members, first + np.flatnonzero(label == k)])
            for k, members in enumerate(self._subsets)
        ]

    def _retired(self, prompt: IntArray) -> None:
        self._is_out_S = self._retired_members()

    # -- state ---------------------------------------------------------------------------------------

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
        nothing = np.zeros(0)
        state.update({key: self._moment_S.get(key, nothing).copy() for key in MOMENTS})
        return state

    def _load_rule_state(self, state: SchedulerState) -> None:
        self._visit = state.integer("visit")
        self._first_plan = state.integer("first_plan", self._next_plan_id)
        size = self._size
        self._is_out_S = self._retired_members()
        self._pilots_issued = state.integer("pilots_issued", size)
        self._partial_pilots = state.integer("partial_pilots", self.pilots - 1)
        self._draws_issued = state.integer("draws_issued")
        self._pilot_trial_S = state.counts("pilot_trial_S", size, self.pilots)
        self._pilot_success_S = state.counts("pilot_success_S", size, self.pilots)
        lowest = {key: None if key == "sq_norm_difference" else 0.0 for key in MOMENTS}
        length = state.floats(MOMENTS[0]).size and size  # none: nobody measured any
        moments = {key: state.floats(key, length, lowest[key]) for key in MOMENTS}
        self._moment_S = moments if length else {}
        self._mean_moment = {}
