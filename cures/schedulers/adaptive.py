"""Ours: everyone has a share of the visits, smaller where a visit is likely to teach nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.beta_moments import expected_mixed, expected_potential
from cures.checks import (
    FloatArray,
    IntArray,
    as_bool,
    as_choice,
    as_float,
    as_float_array,
    as_int,
    as_int_array,
    fail,
)
from cures.explained_share import between_and_total, learnable_share
from cures.fair_queue import FairQueue
from cures.pool_posterior import PoolPosterior
from cures.posterior import BetaPosterior
from cures.quota import allocate
from cures.records import Moments, Outcome, Plan, Selection
from cures.response import Response
from cures.sampling import draw_without_replacement, inclusion_probability, order_free_sum
from cures.schedulers.driver import Scheduler
from cures.schedulers.driver.checkpoint import SchedulerState, fingerprint
from cures.schedulers.driver.draft import Draft
from cures.schedulers.driver.randomness import Stream, derived_generator
from cures.soft_threshold import soft_threshold
from cures.storage import State, StateValue

MOST_PASSES = 1e6  # nothing fades
MOST_FORGOTTEN = 0.1  # per update, for pools of a few batches
NOISE_CUT, FLOOR = 0.3, 0.05  # of the explained share, see learnable_share; of the response
WORTHS, BASELINES = ("threshold", "mixed", "potential"), ("group", "posterior")
SCALE = (0.5, 2.0)  # of the step
LEAST = 1e-30  # of a share
RENEWED = 8192  # prompts of a large pool whose shares are renewed at every update


def forgotten(num_prompts: int, batch_size: int, memory_passes: float = 2.0) -> float:
    """Share of the evidence lost per update, see ``memory_passes`` of :class:`Adaptive`."""
    return min(MOST_FORGOTTEN, batch_size / num_prompts / memory_passes)


class Adaptive(Scheduler):
    r"""Prompts in a fair queue, their shares the chance that a visit gives a gradient.

    The share of a prompt is

    .. math:: v_i = h\bigl(E\bigl[1 - p_i^n - (1-p_i)^n\bigr]\bigr) \; \ell_i,

    a soft threshold h (:mod:`cures.soft_threshold`) of the posterior chance that its group of
    n = budget / batch_size rollouts has both right and wrong answers, which is when an estimator with a
    group baseline learns from it at all; and how much there is to learn, so that coins and mislabelled
    prompts are let go: whether its success rate responds to training (:mod:`cures.response`) and, where
    gradient moments are measured, how much of its score the reward explains beside the rest of the pool
    (:mod:`cures.explained_share`), the less of the two. The batch is taken from a fair queue
    (:mod:`cures.fair_queue`), every group has n rollouts, and all of them are trained on: no pilots, no
    temperature, nothing thrown away.

    Why not sqrt(p (1-p)): it is steep where a group is likely to be mixed and flat where it is not.
    Shares are 0.87 at p = 0.1 and 0.97 at p = 0.5 (n = 8), where the bound has 0.3 and 0.5 and its
    softmax at temperature 0.05 a ratio of e^4; and 0.02 at p = 0.01, where the bound has 0.1. What
    cannot teach is avoided, and the rest is visited about alike.

    Expected cost of an update: exactly ``budget`` rollouts.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; ``batch_size <= num_prompts``.
    memory_passes : float
        Passes over the pool in which evidence fades to 1/e, in (0, 1e6]: the share lost per update is
        ``batch_size / (num_prompts * memory_passes)``, at most 0.1; to begin with, under
        ``choose_memory``. Passes over the pool as it is at first: ``extend`` changes neither this nor
        the memories that are compared.
    threshold : float
        Chance of a mixed group at which a prompt has half of the largest share, > 0.
    rest : int
        Updates from one visit of a prompt to the next that nobody goes below on average, >= 1; no more
        than uniform sampling has, to which pools of up to ``rest`` batches come down.
    use_moments : bool
        Ask the host for gradient moments.
    category_N : array_like of int, shape (N,), optional
        Prompts of one category, in [0, C), share what is seen of any of them.
    importance_weights : bool
        Keep the objective of the data set, the mean success rate of its prompts: groups are drawn with
        their chances pi_i instead of queued, and weigh 1 / (N pi_i) instead of 1 / m. The gradient is
        then without bias, up to the estimator's own (1 - 1/n under ``dr_grpo``), for one step on the
        policy that answered. All groups must have one size: ``budget`` a multiple of ``batch_size``;
        the group that a limit cuts in two is a smaller one, and what is lost altogether is missing from
        the sum. Not for streams.
    step_scaling : bool
        Advise a step of sqrt(k / mean k so far), within [0.5, 2], k mixed groups in the batch.
    baseline : {'group', 'posterior'}
        ``'posterior'``: what is subtracted from the rewards of a group is its prompt's posterior mean
        when the group was planned, as in SPO (Xu and Ding 2025), so that groups of one kind teach, too.
        Not for ``estimator='grpo'``.
    choose_memory, response, pool_prior, queue : bool
        Without one of the parts, to see what it does: evidence fades as ``memory_passes`` says for
        ever; nobody's rate is judged; Beta(1, 1) for all, a fixed memory; independent draws.
    worth : {'threshold', 'mixed', 'potential'}
        ``'mixed'``: shares in proportion to the chance of a mixed group; ``'potential'``: to
        E sqrt(p (1-p)), the paper's bound, without its softmax.

    Notes
    -----
    Why rest: a prompt has nothing new to say before the policy has moved, and the few prompts of a small
    pool that still teach would be asked at every update (LOG.md has what happened without).

    Of pools of more than 8192 prompts, shares are renewed when a prompt is visited and in turn, 8192 at
    every update, so that a step costs what it touches; up to there all are, at every step. Where fewer
    prompts teach than ``rest`` updates visit, all are renewed in any pool. With ``queue=False`` or
    ``importance_weights`` a step looks at the whole pool.

    A prompt that was always wrong keeps a small share, which grows as the evidence fades: it comes back
    when the policy has changed. The prior is the pool's own (:mod:`cures.pool_posterior`). What gradient
    moments say does not fade: a coin stays one.
    """

    name = "adaptive"
    has_exact_budget = True
    is_single_plan = True
    posterior: BetaPosterior

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        memory_passes: float = 2.0,
        threshold: float = 0.3,
        rest: int = 4,
        use_moments: bool = False,
        category_N: ArrayLike | None = None,
        importance_weights: bool = False,
        step_scaling: bool = False,
        baseline: str = "group",
        choose_memory: bool = True,
        response: bool = True,
        pool_prior: bool = True,
        queue: bool = True,
        worth: str = "threshold",
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        as_int(self.name, "batch_size", batch_size, 1, num_prompts)
        self.memory_passes = as_float(
            self.name, "memory_passes", memory_passes, 0.0, MOST_PASSES, open_low=True
        )
        self.forgetting = forgotten(self.num_prompts, self.batch_size, self.memory_passes)
        self.threshold = as_float(self.name, "threshold", threshold, 0.0, open_low=True)
        self.rest = as_int(self.name, "rest", rest, 1)
        self.use_moments = as_bool(self.name, "use_moments", use_moments)
        self.importance_weights = as_bool(self.name, "importance_weights", importance_weights)
        self.step_scaling = as_bool(self.name, "step_scaling", step_scaling)
        self.baseline = as_choice(self.name, "baseline", baseline, BASELINES)
        if self.baseline == "posterior" and self.estimator == "grpo":
            fail(self.name, "baseline", "'group' under estimator 'grpo'", baseline)
        self.choose_memory = as_bool(self.name, "choose_memory", choose_memory)
        self.uses_response = as_bool(self.name, "response", response)
        self.pool_prior = as_bool(self.name, "pool_prior", pool_prior)
        self.is_queued = as_bool(self.name, "queue", queue) and not self.importance_weights
        self.worth_by = as_choice(self.name, "worth", worth, WORTHS)
        if self.importance_weights and self.budget % self.batch_size:
            legal = f"a multiple of batch_size ({batch_size}) under importance_weights"
            fail(self.name, "budget", legal, budget)
        self._category_N: IntArray | None = None
        if category_N is not None:
            if not self.pool_prior:
                fail(self.name, "category_N", "None without pool_prior", category_N)
            self._category_N = as_int_array(
                self.name, "category_N", category_N, length=num_prompts, low=0
            )
        self.group_size = max(2, self.budget // self.batch_size)
        self.posterior = self._new_posterior()
        self._response = Response(self.num_prompts if self.uses_response else 0)
        self._mean_mixed = 0.0  # none yet
        # of live groups, as things were when they were planned: baseline, and weight
        self._planned_group = np.zeros(0, dtype=np.int64)
        self._planned_2_L = np.zeros((2, 0))
        self._between_N = np.zeros(self.num_prompts if self.use_moments else 0)
        self._total_N = np.zeros(self._between_N.size)
        self._moment_sums = np.zeros(3)  # over the pool: of both, and of measured groups
        self._told = np.zeros(0, dtype=np.int64)  # of a large pool: since the last update
        self._queue = FairQueue.shuffled(
            self.num_prompts if self.is_queued else 0,
            derived_generator(self.seed, 0, Stream.QUEUE),
        )
        if self._is_large:
            self._renew(np.arange(self.num_prompts))

    def _new_posterior(self) -> BetaPosterior:
        if not self.pool_prior:
            return BetaPosterior(self.num_prompts, forgetting=self.forgetting)
        return PoolPosterior(
            self.num_prompts,
            visits_per_step=self.batch_size,
            forgetting=self.forgetting,
            choose_memory=self.choose_memory,
            category_N=self._category_N,
        )

    def worth(self, prompt_B: IntArray | None = None) -> FloatArray:
        """Share v of prompts, not normalised, in (0, 1]; default the whole pool, 0 for retired ones."""
        alpha, beta = self.posterior.alpha_beta(prompt_B)
        if self.worth_by == "potential":
            worth = expected_potential(alpha, beta)
        else:
            worth = expected_mixed(alpha, beta, self.group_size)
        if self.worth_by == "threshold":
            worth = soft_threshold(worth, self.threshold)
        worth = np.maximum(worth * self.learnable(prompt_B), LEAST)
        if self._is_retired_N is not None:
            worth[self._is_retired_N if prompt_B is None else self._is_retired_N[prompt_B]] = 0.0
        return np.asarray(worth)

    def learnable(self, prompt_B: IntArray | None = None) -> FloatArray:
        """How much there is to learn, in (0, 1]; default from the whole pool. 1: nothing against it."""
        found = np.ones(self.num_prompts if prompt_B is None else prompt_B.size)
        if self.uses_response:
            found = self._response.weight(FLOOR, prompt_B)
        if self.use_moments:
            at = slice(None) if prompt_B is None else prompt_B
            between, total, groups = self._moment_sums.tolist()
            explained = learnable_share(
                self._between_N[at],
                self._total_N[at],
                (between, total, int(groups)),
                cut=NOISE_CUT,
                floor=FLOOR,
            )
            found = np.minimum(found, explained)
        return found

    def sampling_distribution(self) -> FloatArray:
        """Share of the visits of every prompt, shape (N,), with sum 1; O(N)."""
        worth_N = self.worth()
        return np.asarray(worth_N / order_free_sum(worth_N))

    @property
    def _together(self) -> int:
        """Visits in as many updates as there lie between two of a prompt."""
        return self.batch_size * self.rest

    @property
    def _is_large(self) -> bool:
        return self.is_queued and self.num_prompts > RENEWED

    def _take(self, generator: np.random.Generator, size: int) -> tuple[IntArray, FloatArray]:
        """Distinct prompts of the next plan, and their chances of being in it.

        In the queue the chance of a prompt is its share of the visits in the long run; when its turn
        comes follows from the past.
        """
        if self.is_queued:
            prompt_B = self._queue.first(size)
            return prompt_B, self._queue.chance(prompt_B, size)
        chance_N = self._rested() * (size / self._together)
        prompt_B = draw_without_replacement(chance_N, generator)
        return prompt_B, chance_N[prompt_B]

    def _rested(self, worth_N: FloatArray | None = None) -> FloatArray:
        """Visits of every prompt in ``rest`` updates: in proportion to the shares, at most one; O(N)."""
        if self._together >= self.num_active:
            visits_N = np.full(self.num_prompts, self._together / self.num_active)
            if self._is_retired_N is not None:
                visits_N[self._is_retired_N] = 0.0
            return visits_N
        worth_N = self.worth() if worth_N is None else worth_N
        return inclusion_probability(worth_N / order_free_sum(worth_N), self._together)

    def _renew(self, prompt_B: IntArray) -> None:
        """Give these prompts of a large pool the shares that are theirs now."""
        self._queue.renew(self.worth(prompt_B), prompt_B)
        # shares are at most 1, so ``rest`` binds nobody while they add up to that many visits
        if self._queue.total < self._together:
            worth_N = self.worth()
            self._queue.renew(self._rested(worth_N) * (order_free_sum(worth_N) / self._together))

    def _prepare(self) -> None:
        if self.is_queued and not self._is_large:
            self._queue.renew(self._rested() / self.rest)

    def _draft(self, generator: np.random.Generator) -> Draft:
        prompt_B, chance_B = self._take(generator, self.batch_size)
        # a limit cuts the end, which must be anybody
        order = generator.permutation(prompt_B.size)
        alike = np.ones(prompt_B.size)
        quota_B = allocate(alike, self.budget, min_quota=self.min_quota, max_quota=self.max_quota)
        return Draft.of(
            prompt_B[order], quota_B, prob_B=chance_B[order], wants_moments=self.use_moments
        )

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        if self.importance_weights:
            legal = "False for streams: their updates have no fixed chances"
            fail(self.name, "importance_weights", legal, True)
        prompt_B, chance_B = self._take(generator, 1)
        return Draft.of(
            prompt_B,
            np.array([self.min_quota]),
            prob_B=chance_B,
            wants_moments=self.use_moments,
            sigma=1.0,
        )

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        if self._keeps_planned:
            self._keep_planned(plan)
        if not self.is_queued:
            return
        advance_B = derived_generator(self.seed, plan.plan_id, Stream.ADVANCE).random(len(plan))
        self._queue.visit(plan.prompt_B, advance_B, size=len(plan))

    @property
    def _keeps_planned(self) -> bool:
        return self.baseline == "posterior" or self.importance_weights

    def _keep_planned(self, plan: Plan) -> None:
        """What must not hang on what is seen, or on who is retired, before the groups are trained on."""
        is_live = np.isin(self._planned_group, self.live.group)
        # a plan that was cut holds anyone's groups with so much less chance
        chance_B = plan.prob_B * (len(plan) / self.batch_size)
        weight_B = 1.0 / (self.num_active * chance_B)
        new_2_B = np.stack([self.posterior.mean(plan.prompt_B), weight_B])
        self._planned_group = np.concatenate([self._planned_group[is_live], plan.group_B])
        self._planned_2_L = np.concatenate([self._planned_2_L[:, is_live], new_2_B], axis=1)

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        prompt_B = plan.prompt_B[at]
        if self.uses_response:
            self._response.told(
                prompt_B,
                outcome.success_B,
                outcome.trial_B,
                prior=self.posterior.prior_of(prompt_B),
                age_B=self.posterior.step - self.posterior.told_at(prompt_B),
            )
        self.posterior.update(prompt_B, outcome.success_B, outcome.trial_B)
        if self._is_large:
            self._told = np.concatenate([self._told, prompt_B])
        if moments is None or not self.use_moments:
            return
        between_B, total_B = between_and_total(outcome.success_B, outcome.trial_B, moments)
        np.add.at(self._between_N, prompt_B, between_B)
        np.add.at(self._total_N, prompt_B, total_B)
        sums = order_free_sum(between_B), order_free_sum(total_B), np.count_nonzero(total_B)
        self._moment_sums = self._moment_sums + np.array(sums)

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        selection = super()._closed(plan, is_streamed)
        if not selection.is_update:
            return selection
        at_G = np.searchsorted(self._planned_group, selection.group_G)
        if self.importance_weights:
            selection = replace(selection, weight_G=self._planned_2_L[1, at_G])
        if self.baseline == "posterior":
            selection = replace(selection, baseline_G=self._planned_2_L[0, at_G])
        if self.step_scaling:
            selection = replace(selection, step_scale=self._step_scale(selection.group_G))
        return selection

    def _step_scale(self, group_G: IntArray) -> float:
        """Noise of a mean over k mixed groups goes with 1/sqrt(k): so does what is advised."""
        row = self.live.rows(group_G)
        right, trial = self.live.success[row], self.live.trial[row]
        mixed = float(((right > 0) & (right < trial)).sum())
        self._mean_mixed += (mixed - self._mean_mixed) / (self.update_step + 1)
        usual = self._mean_mixed
        return float(np.clip(np.sqrt(mixed / usual), *SCALE)) if usual else 1.0

    def _updated(self) -> None:
        self.posterior.advance()
        if self.uses_response:
            self._response.updated()
        if self._is_large:
            first = self.posterior.step * RENEWED % self.num_prompts
            turn = np.arange(first, first + RENEWED) % self.num_prompts
            told = np.unique(self._told)
            is_else = (told - first) % self.num_prompts >= RENEWED
            self._renew(np.concatenate([turn, told[is_else]]))
            self._told = self._told[:0]

    def _extended(self, count: int) -> None:
        first = self.num_prompts - count
        posterior = copy.copy(self.posterior)
        posterior.extend(count)
        self.posterior, none = posterior, np.zeros(count)
        if self.uses_response:
            self._response = self._response.extended(count)
        if self.use_moments:
            self._between_N = np.concatenate([self._between_N, none])
            self._total_N = np.concatenate([self._total_N, none])
        if not self.is_queued:
            return
        was_large = first > RENEWED
        self._queue = self._queue.extended(count, derived_generator(self.seed, first, Stream.QUEUE))
        if self._is_large:
            self._renew(np.arange(first if was_large else 0, self.num_prompts))

    def _retired(self, prompt: IntArray) -> None:
        if self.is_queued:
            self._queue = self._queue.without(prompt)
        if self._is_large:
            self._renew(prompt)

    def _fewest_prompts(self) -> int:
        return self.batch_size

    def _config(self) -> dict[str, StateValue]:
        category = "none" if self._category_N is None else fingerprint(self._category_N)
        switches = {
            name: int(getattr(self, name))
            for name in (
                "use_moments",
                "importance_weights",
                "step_scaling",
                "choose_memory",
                "pool_prior",
            )
        }
        return {
            "memory_passes": self.memory_passes,
            "threshold": self.threshold,
            "rest": self.rest,
            "worth": self.worth_by,
            "category_N": category,
            "baseline": self.baseline,
            "response": int(self.uses_response),
            "queue": int(self.is_queued),
            **switches,
        }

    def _rule_state(self) -> State:
        parts = {
            "posterior": self.posterior.state_dict(),
            "response": self._response.state_dict(),
            "queue": self._queue.state_dict(),
        }
        return {
            **{
                f"{name}/{key}": value
                for name, part in parts.items()
                for key, value in part.items()
            },
            "mean_mixed": self._mean_mixed,
            "planned_group": self._planned_group.copy(),
            "planned_mean": self._planned_2_L[0].copy(),
            "planned_weight": self._planned_2_L[1].copy(),
            "between_N": self._between_N.copy(),
            "total_N": self._total_N.copy(),
            "moment_sums": self._moment_sums.copy(),
            "told": self._told.copy(),
        }

    def _load_rule_state(self, state: SchedulerState) -> None:
        posterior = self._new_posterior()
        posterior.load_state_dict(state.section("posterior").flat)
        response = Response.from_state(state.section("response").flat, self._response.trial_N.size)

        def finite(key: str, length: int, low: float | None, high: float | None) -> FloatArray:
            value = state.floats(key, length)
            return as_float_array("load_state_dict", key, value, low=low, high=high)

        queue = FairQueue.from_state(state.section("queue").flat, self._queue.due_N.size)
        group = state.ints("planned_group")
        if (np.diff(group) <= 0).any():
            fail("load_state_dict", "planned_group", "strictly increasing", group)
        if self._keeps_planned and not np.isin(self.live.group, group).all():
            fail("load_state_dict", "planned_group", "with every live group", group)
        planned = finite("planned_mean", group.size, 0.0, 1.0)
        weight = finite("planned_weight", group.size, 0.0, None)
        size = self._total_N.size
        self._between_N = finite("between_N", size, None, None)
        self._total_N = finite("total_N", size, 0.0, None)
        self._moment_sums = finite("moment_sums", 3, None, None)
        between, total, groups = self._moment_sums.tolist()
        is_none = total == 0.0
        if (
            total < 0.0
            or groups < 0.0
            or groups % 1.0
            or (groups == 0.0) != is_none
            or (is_none and between != 0.0)
        ):
            fail("load_state_dict", "moment_sums", "sums over measured groups", self._moment_sums)
        self._told = state.ints("told", high=self.num_prompts - 1)
        self._mean_mixed = state.real("mean_mixed", 0.0)
        self._planned_group, self._planned_2_L = group, np.stack([planned, weight])
        self.posterior, self._response, self._queue = posterior, response, queue
