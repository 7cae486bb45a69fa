"""What the authors' repository does, which is not what the paper prints.

Each of the six points below is a test; ``cures`` differs in exactly these.

1. Prompts are drawn by exp( sqrt(p(1-p)) / (100 (a + 1)) ), a the right pilots: uniform to half a
   percent, slightly in favour of prompts with fewer right answers. There is no temperature.
2. The posterior never moves during training: the scores are those of the pilots for the whole subset.
3. The last term of Eq. 21 uses the difference of mean gradient *norms*, not of mean gradients.
4. Prompts with no or only right pilots get sigma = 0 and no rollouts for the whole subset.
5. Quotas are normalised over one worker's shard of the subset against the full budget, rounded one by
   one and multiplied by the rollouts per copy; a step's copies are padded up to a multiple of the
   number of GPUs on the largest. Sums are not preserved.
6. A step draws its prompts without replacement.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray, InWords, as_int, fail
from cures.gradient_std import gradient_std_released
from cures.potential import potential
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.driver.draft import Draft
from cures.schedulers.subsets import SubsetScheduler
from cures.schedulers.weighted import EqualLaw
from cures.storage import State, StateValue

_SCORE_SCALE = 100.0  # the constant written into the released sampler
_MAX_REDRAWS = 100  # batches without rollouts passed over in one plan before falling back


class CuresReleased(SubsetScheduler):
    """The released variant of CurES, kept to compare with (see the module's six points).

    Cost of a subset: ``pilots`` x its prompts, plus for every step ``rollouts_per_copy`` x the copies
    of the prompts drawn: about ``rollouts_per_copy`` x ``num_workers`` x ``batch_size`` / (prompts of
    the subset) x ``budget``, not ``budget``.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`. ``budget`` is what each worker normalises
        against. ``max_quota`` must be None.
    num_subsets, pilots, steps_per_subset, subset_N, train_pilots, use_moments
        See :class:`~cures.schedulers.subsets.SubsetScheduler`. Without moments all norms are 1.
    num_workers : int
        Shards of a subset, 8 as published; consecutive, the last takes the remainder.
    num_gpus : int
        A step's copies are padded to a multiple of it, 8 as published.
    rollouts_per_copy : int
        ``rollout.n`` of the published scripts, 4.

    Notes
    -----
    Deviations: a batch whose quotas are all 0 is redrawn (as there), but after 100 redraws every prompt
    gets one copy and ``counters["fallback_uniform"]`` is raised, where the original loops forever.
    Copies of a prompt share one group, as there. NaN variances, which the original would produce in a
    shard without any mixed prompt, give 0 copies.

    References
    ----------
    .. [1] ZexuSun/CurES on GitHub, commit eccf298: ``epic/epic_sampler.py``,
       ``epic/stage_0_init_difficulty_sample_size.py``, ``epic/epic_ray_trainer.py``.
    """

    name = "cures-released"
    needs_all_pilots = True
    is_piloted = False  # its plans are of any size, and lose what a limit cuts

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        num_workers: int = 8,
        num_gpus: int = 8,
        rollouts_per_copy: int = 4,
        **common: Any,
    ) -> None:
        self.num_workers = as_int(self.name, "num_workers", num_workers, 1)
        self.num_gpus = as_int(self.name, "num_gpus", num_gpus, 1)
        self.rollouts_per_copy = as_int(self.name, "rollouts_per_copy", rollouts_per_copy, 1)
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        if self.max_quota is not None:
            fail(self.name, "max_quota", "None (the released code has no bound)", self.max_quota)
        as_int(self.name, "rollouts_per_copy", rollouts_per_copy, self.min_quota)
        parts = self._subsets or [self.members]
        smallest = min(part.size for part in parts)
        as_int(self.name, "batch_size", batch_size, 1, smallest)
        as_int(self.name, "num_workers", num_workers, 1, smallest)

    def _start_visit(self) -> None:
        super()._start_visit()
        self._prob_S = np.zeros(0)
        self._copies_S = np.zeros(0, dtype=np.int64)

    def _prepare(self) -> None:
        super()._prepare()
        is_known = not self._has_pilots_left() and not self._has_open_pilots()
        if is_known and self._prob_S.size == 0:
            self._prob_S = self.sampling_distribution()
            self._copies_S = self.copies()

    def sampling_distribution(self) -> FloatArray:
        """Point 1, from the pilots alone (point 2), shape (S,)."""
        accepted_S = self._pilot_success_S
        mean_S = (accepted_S + 1.0) / (self._pilot_trial_S + 2.0)  # Beta(1, 1) prior
        score_S = np.exp(potential(mean_S) / (_SCORE_SCALE * (accepted_S + 1.0)))
        if self._is_out_S is not None:
            score_S[self._is_out_S] = 0.0
        prob_S: FloatArray = score_S / score_S.sum()
        return prob_S

    def gradient_std(self) -> FloatArray:
        """Points 3 and 4, shape (S,)."""
        rate_S = self._pilot_success_S / np.maximum(self._pilot_trial_S, 1)
        norms = [
            np.ones(self._size)
            if self._mean_of_moment(key) is None
            else np.nan_to_num(self._moment_S[key])
            for key in ("norm_correct", "norm_wrong", "sq_norm_correct", "sq_norm_wrong")
        ]
        sigma_S = gradient_std_released(rate_S, *norms)
        return sigma_S if self._is_out_S is None else np.where(self._is_out_S, 0.0, sigma_S)

    def copies(self) -> IntArray:
        """Point 5 before the multiplication: copies of every prompt of the subset, shape (S,)."""
        sigma_S = self.gradient_std()
        share = self._size // self.num_workers
        copies_S = np.zeros(self._size, dtype=np.int64)
        for worker in range(self.num_workers):
            stop = self._size if worker == self.num_workers - 1 else (worker + 1) * share
            shard = slice(worker * share, stop)
            total = sigma_S[shard].sum()
            if total > 0.0:
                copies_S[shard] = np.round(self.budget * sigma_S[shard] / total).astype(np.int64)
        return copies_S

    def pad(self, copies_B: IntArray) -> IntArray:
        """Raise the largest copies by one each until the sum is a multiple of ``num_gpus``."""
        missing = -int(copies_B.sum()) % self.num_gpus
        largest_first = np.argsort(copies_B, kind="stable")[::-1]
        padded = copies_B.copy()
        np.add.at(padded, np.resize(largest_first, missing), 1)
        return padded

    def _training_draft(self, generator: np.random.Generator) -> Draft:
        for _ in range(_MAX_REDRAWS):
            slot_B = generator.choice(self._size, self.batch_size, replace=False, p=self._prob_S)
            if self._copies_S[slot_B].any():
                copies_B = self.pad(self._copies_S[slot_B])
                return self._of(slot_B, copies_B, {})
        copies_B = np.ones(self.batch_size, dtype=np.int64)
        return self._of(slot_B, copies_B, {"fallback_uniform": 1})

    def _training_draft_one(self, generator: np.random.Generator) -> Draft:
        is_live = self._copies_S > 0
        if not is_live.any():
            slot_B = EqualLaw(self._size, self._is_out_S).draw(generator, 1)[0]
            return self._of(slot_B, np.ones(1, dtype=np.int64), {"fallback_uniform": 1})
        prob_S = np.where(is_live, self._prob_S, 0.0)
        slot_B = generator.choice(self.members.size, 1, p=prob_S / prob_S.sum())
        return self._of(slot_B, self._copies_S[slot_B], {})

    def _of(self, slot_B: IntArray, copies_B: IntArray, counts: dict[str, int]) -> Draft:
        is_live = copies_B > 0
        prompt_B = self._prompt_at(slot_B[is_live])
        return Draft.of(prompt_B, copies_B[is_live] * self.rollouts_per_copy, counts=counts)

    def _check_remaining(self, is_retired_N: BoolArray) -> None:
        parts = self._subsets or [self.members]
        smallest = min(int(np.count_nonzero(~is_retired_N[part])) for part in parts)
        if smallest < self.batch_size:
            legal = f"such that every subset keeps batch_size = {self.batch_size} prompts"
            fail(f"{self.name}.retire", "prompt", legal, InWords(f"{smallest} left in a subset"))

    def _extended(self, count: int) -> None:
        """Scores and copies are computed anew once the new pilots are in."""
        super()._extended(count)
        self._prob_S, self._copies_S = np.zeros(0), np.zeros(0, dtype=np.int64)

    def _retired(self, prompt: IntArray) -> None:
        super()._retired(prompt)
        self._prob_S, self._copies_S = np.zeros(0), np.zeros(0, dtype=np.int64)

    def _config(self) -> dict[str, StateValue]:
        return {
            **super()._config(),
            "num_workers": self.num_workers,
            "num_gpus": self.num_gpus,
            "rollouts_per_copy": self.rollouts_per_copy,
        }

    def _rule_state(self) -> State:
        frozen: State = {"prob_S": self._prob_S.copy(), "copies_S": self._copies_S.copy()}
        return {**super()._rule_state(), **frozen}

    def _load_rule_state(self, state: SchedulerState) -> None:
        super()._load_rule_state(state)
        # empty until the pilots are in
        size = self._size if state.floats("prob_S").size else 0
        self._prob_S = state.floats("prob_S", size, low=0.0)
        self._copies_S = state.ints("copies_S", size)
        total = float(self._prob_S.sum()) if size else 1.0
        if not abs(total - 1.0) < 1e-9:  # nor is NaN
            fail("load_state_dict", "prob_S", "probabilities that sum to 1", total)
