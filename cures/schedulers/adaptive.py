"""Ours: everyone has a share of the visits, smaller where a visit is likely to teach nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from cures.beta_moments import expected_mixed
from cures.checks import FloatArray, IntArray, as_bool, as_float, as_float_array, as_int
from cures.explained_share import between_and_total, learnable_share
from cures.fair_queue import FairQueue
from cures.pool_posterior import PoolPosterior
from cures.quota import allocate
from cures.records import Moments, Outcome, Plan
from cures.sampling import inclusion_probability, order_free_sum
from cures.schedulers.driver import Scheduler
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.schedulers.driver.draft import Draft
from cures.schedulers.driver.randomness import derived_generator
from cures.storage import State, StateValue

QUEUE_STREAM = 4  # key: 0; the order of the queue at first
ADVANCE_STREAM = 5  # key: plan id
MOST_FORGOTTEN = 0.1  # per update, for pools of a few batches
NOISE_CUT, FLOOR = 0.3, 0.05  # of the explained share, see learnable_share


class Adaptive(Scheduler):
    r"""Prompts in a fair queue, their shares the chance that a visit gives a gradient.

    The share of a prompt is

    .. math:: v_i = E\bigl[1 - p_i^n - (1-p_i)^n\bigr] \; \ell_i,

    the posterior chance that its group of n = budget / batch_size rollouts has both right and wrong
    answers, which is when an estimator with a group baseline learns from it at all; and, where gradient
    moments are measured, how much of its score the reward explains beside the rest of the pool
    (:mod:`cures.explained_share`), so that coins and mislabelled prompts are let go. The batch is
    taken from a fair queue (:mod:`cures.fair_queue`), every group has n rollouts, and all of them are
    trained on: no pilots, no temperature, nothing thrown away.

    Why not sqrt(p (1-p)): the chance of a mixed group is flat where the bound is steep (0.57 at
    p = 0.1 and 0.99 at p = 0.5 for n = 8, where the bound has 0.3 and 0.5 and its softmax at temperature
    0.05 a ratio of e^4). What cannot teach is avoided, and the rest is visited about alike.

    Expected cost of an update: exactly ``budget`` rollouts.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; ``batch_size <= num_prompts``.
    memory_passes : float
        Passes over the pool in which evidence fades to 1/e, > 0: the share lost per update is
        ``batch_size / (num_prompts * memory_passes)``, at most 0.1.
    use_moments : bool
        Ask the host for gradient moments.

    Notes
    -----
    A prompt that was always wrong keeps a small share, which grows as the evidence fades: it comes back
    when the policy has changed. The prior is the pool's own (:mod:`cures.pool_posterior`). What gradient
    moments say does not fade: a coin stays one.
    """

    name = "adaptive"
    has_exact_budget = True
    is_single_plan = True
    posterior: PoolPosterior

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        memory_passes: float = 1.0,
        use_moments: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        as_int(self.name, "batch_size", batch_size, 1, num_prompts)
        self.memory_passes = as_float(self.name, "memory_passes", memory_passes, 0.0, open_low=True)
        lost = self.batch_size / self.num_prompts / self.memory_passes
        self.forgetting = min(MOST_FORGOTTEN, lost)
        self.use_moments = as_bool(self.name, "use_moments", use_moments)
        self.group_size = max(2, self.budget // self.batch_size)
        self.posterior = self._new_posterior()
        self._chance_N = np.zeros(0)
        self._between_N = np.zeros(self.num_prompts if self.use_moments else 0)
        self._total_N = np.zeros(self._between_N.size)
        self._groups_N = np.zeros(self._between_N.size, dtype=np.int64)
        self._queue = FairQueue.shuffled(
            self.num_prompts, derived_generator(self.seed, 0, QUEUE_STREAM)
        )

    def _new_posterior(self) -> PoolPosterior:
        return PoolPosterior(
            self.num_prompts, visits_per_step=self.batch_size, forgetting=self.forgetting
        )

    def worth(self) -> FloatArray:
        """Share v of every prompt, not normalised, shape (N,), in (0, 1]."""
        alpha, beta = self.posterior.alpha_beta()
        worth_N = expected_mixed(alpha, beta, self.group_size)
        if self.use_moments:
            worth_N = worth_N * learnable_share(
                self._between_N, self._total_N, self._groups_N, cut=NOISE_CUT, floor=FLOOR
            )
        return np.maximum(worth_N, np.finfo(np.float64).tiny)

    def sampling_distribution(self) -> FloatArray:
        """Share of the visits of every prompt, shape (N,), with sum 1."""
        worth_N = self.worth()
        return np.asarray(worth_N / order_free_sum(worth_N))

    def _chance(self, size: int) -> FloatArray:
        """Chances of being in a plan of so many; kept for :meth:`_issued`, which comes next."""
        self._chance_N = inclusion_probability(self.sampling_distribution(), size)
        return self._chance_N

    def _draft(self, generator: np.random.Generator) -> Draft:
        chance_N = self._chance(self.batch_size)
        prompt_B = generator.permutation(self._queue.first(chance_N, self.batch_size))
        # a limit cuts the end, which must be anybody
        alike = np.ones(prompt_B.size)
        quota_B = allocate(alike, self.budget, min_quota=self.min_quota, max_quota=self.max_quota)
        return Draft.of(
            prompt_B, quota_B, prob_B=chance_N[prompt_B], wants_moments=self.use_moments
        )

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        chance_N = self._chance(1)
        prompt_B = self._queue.first(chance_N, 1)
        return Draft.of(
            prompt_B,
            np.array([self.min_quota]),
            prob_B=chance_N[prompt_B],
            wants_moments=self.use_moments,
            sigma=1.0,
        )

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        advance_B = derived_generator(self.seed, plan.plan_id, ADVANCE_STREAM).random(len(plan))
        # a plan that was cut pays out less, so it earns less
        earned_N = self._chance_N * (len(plan) / (1 if is_streamed else self.batch_size))
        self._queue = self._queue.after(earned_N, plan.prompt_B, advance_B)

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        prompt_B = plan.prompt_B[at]
        self.posterior.update(prompt_B, outcome.success_B, outcome.trial_B)
        if moments is None or not self.use_moments:
            return
        between_B, total_B = between_and_total(outcome.success_B, outcome.trial_B, moments)
        self._between_N, self._total_N = self._between_N.copy(), self._total_N.copy()
        self._groups_N = self._groups_N.copy()
        np.add.at(self._between_N, prompt_B, between_B)
        np.add.at(self._total_N, prompt_B, total_B)
        np.add.at(self._groups_N, prompt_B, total_B > 0.0)

    def _updated(self) -> None:
        self.posterior.advance()

    def _config(self) -> dict[str, StateValue]:
        return {"memory_passes": self.memory_passes, "use_moments": int(self.use_moments)}

    def _rule_state(self) -> State:
        posterior = {f"posterior/{k}": v for k, v in self.posterior.state_dict().items()}
        return {
            **posterior,
            "credit_N": self._queue.credit_N.copy(),
            "advance_N": self._queue.advance_N.copy(),
            "between_N": self._between_N.copy(),
            "total_N": self._total_N.copy(),
            "groups_N": self._groups_N.copy(),
        }

    def _load_rule_state(self, state: SchedulerState) -> None:
        posterior = self._new_posterior()
        posterior.load_state_dict(state.section("posterior").flat)
        self.posterior = posterior
        size = self._total_N.size

        def finite(key: str, length: int, low: float | None, high: float | None) -> FloatArray:
            value = state.floats(key, length)
            return as_float_array("load_state_dict", key, value, low=low, high=high)

        self._queue = FairQueue(
            finite("credit_N", self.num_prompts, None, None),
            finite("advance_N", self.num_prompts, 0.0, 1.0),
        )
        self._between_N = finite("between_N", size, None, None)
        self._total_N = finite("total_N", size, 0.0, None)
        self._groups_N = state.ints("groups_N", size)
