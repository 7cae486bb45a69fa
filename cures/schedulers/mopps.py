"""MoPPS: guess success rates by Thompson draws, roll out the prompts nearest to a target rate."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, IntArray, as_choice, as_float, as_int
from cures.posterior import BetaPosterior, Prior
from cures.quota import allocate
from cures.records import Moments, Outcome, Plan
from cures.schedulers.driver.checkpoint import SchedulerState, fingerprint
from cures.schedulers.driver.draft import Draft
from cures.schedulers.passes import PassScheduler
from cures.storage import State, StateValue

VARIANTS = ("nearest", "threshold")


class VisitDiscountedPosterior(BetaPosterior):
    r"""Beta counts whose evidence ages when its prompt is visited, and only then.

    A visit with s right of t turns :math:`\alpha` into
    :math:`\lambda \alpha + (1 - \lambda) \alpha_0 + s` and :math:`\beta` into
    :math:`\lambda \beta + (1 - \lambda) \beta_0 + t - s`: the prior stays whole, the evidence beyond
    it is multiplied by :math:`\lambda`.

    Parameters
    ----------
    num_prompts, prior
        See :class:`~cures.posterior.BetaPosterior`.
    discount : float
        :math:`1 - \lambda`, share of the older evidence lost at a visit, in [0, 1).
    """

    def __init__(self, num_prompts: int, *, prior: Prior, discount: float) -> None:
        super().__init__(num_prompts, prior=prior)
        self._discount = as_float(
            "VisitDiscountedPosterior", "discount", discount, 0.0, 1.0, open_high=True
        )

    def update(self, prompt_B: ArrayLike, success_B: ArrayLike, trial_B: ArrayLike) -> None:
        """Discount what was known of these prompts, then add evidence; ids as in the base class.

        A prompt given several times is one visit.
        """
        success, failure = self.evidence(prompt_B)
        super().update(prompt_B, success_B, trial_B)  # refuses bad input before anything changes
        visited = np.asarray(prompt_B, dtype=np.int64)
        self._success_N[visited] -= self._discount * success
        self._failure_N[visited] -= self._discount * failure


def nearest(draw_C: FloatArray, size: int, target: float) -> IntArray:
    r"""Positions of the ``size`` draws of smallest :math:`(g - \gamma)^2`, nearest first.

    Parameters
    ----------
    draw_C : ndarray of float, shape (C,)
        Thompson draws g in [0, 1], C >= ``size``.
    size : int
        Prompts to choose, >= 1.
    target : float
        :math:`\gamma`.

    Returns
    -------
    ndarray of int64, shape (size,)
        Ties go to the earlier candidate.
    """
    distance_C = np.abs(draw_C - target)  # orders like the published square
    return np.argsort(distance_C, kind="stable")[:size].astype(np.int64)


def within(
    draw_C: FloatArray,
    size: int,
    target: float,
    low: float,
    high: float,
    generator: np.random.Generator,
) -> IntArray:
    """Positions of ``size`` random draws in [low, high]; the nearest to the target if too few lie there.

    Parameters
    ----------
    draw_C, size, target
        See :func:`nearest`.
    low, high : float
        Inclusive band.
    generator : numpy.random.Generator
    """
    inside = np.flatnonzero((draw_C >= low) & (draw_C <= high))
    if inside.size < size:
        return nearest(draw_C, size, target)
    return generator.permutation(inside)[:size].astype(np.int64)


class Mopps(PassScheduler):
    r"""Model predictive prompt selection: the batch whose guessed success rates are nearest to 1/2.

    Of ``candidates_per_prompt`` x m candidates (a shuffled pass over the pool), each with a draw
    :math:`g_i \sim \mathrm{Beta}(\alpha_i, \beta_i)`, roll out the m of smallest
    :math:`(g_i - \gamma)^2`, n = budget / m each, and update their counts,
    :math:`\alpha \leftarrow \lambda \alpha + (1 - \lambda) \alpha_0 + s`, likewise
    :math:`\beta` with the wrong answers. No rollouts are spent on choosing.

    Expected cost of an update: exactly ``budget`` rollouts.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; ``batch_size <= num_prompts``.
    candidates_per_prompt : int
        Candidates per prompt of the batch, >= 1; 16 as published for MATH (8 for Countdown and
        Geometry3K), at most the whole pool.
    target_success_rate : float
        :math:`\gamma` in [0, 1]; 0.5 as published.
    variant : {"nearest", "threshold"}
        "threshold": a random batch among candidates with a draw in [``threshold_low``,
        ``threshold_high``], the nearest ones if there are fewer than m.
    threshold_low, threshold_high : float
        0.3 and 0.7 as published; without effect on "nearest".
    forgetting : float
        :math:`1 - \lambda` in [0, 1), share of a prompt's older evidence lost when it is visited again
        (not at every update); 0 as published for MATH (0.5 for Countdown and Geometry3K).
    prior : pair of float or of array_like
        Beta counts before any evidence, > 0; (1, 1) as published. Counts from an offline model go
        here; what they cost is the caller's to count.

    Notes
    -----
    Deviations from the published code: with one rollout per prompt, which ``min_quota`` has to allow,
    counts stay counts (there an operator precedence sets both to 8); a prompt whose rollouts were all
    lost was not visited; a remainder of budget / m goes to the prompts nearest to the target, one
    each; the length of an epoch is not multiplied by the ratio of candidates to prompts, because
    rollouts and not epochs end a run. A streamed group is chosen among ``candidates_per_prompt``
    candidates of its own, not m groups among m times as many. Unvisited prompts keep stale counts at
    full confidence, as there.

    References
    ----------
    .. [1] Qu et al., "Can Prompt Difficulty be Online Predicted for Accelerating RL Finetuning of
       Reasoning Models?", KDD 2026, arXiv 2507.04632.
    """

    name = "mopps"
    has_exact_budget = True
    is_single_plan = True

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        candidates_per_prompt: int = 16,
        target_success_rate: float = 0.5,
        variant: str = "nearest",
        threshold_low: float = 0.3,
        threshold_high: float = 0.7,
        forgetting: float = 0.0,
        prior: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        where = self.name
        as_int(where, "batch_size", batch_size, 1, num_prompts)
        self.candidates_per_prompt = as_int(
            where, "candidates_per_prompt", candidates_per_prompt, 1
        )
        self.target_success_rate = as_float(
            where, "target_success_rate", target_success_rate, 0.0, 1.0
        )
        self.variant = as_choice(where, "variant", variant, VARIANTS)
        self.threshold_low = as_float(where, "threshold_low", threshold_low, 0.0, 1.0)
        self.threshold_high = as_float(
            where, "threshold_high", threshold_high, self.threshold_low, 1.0
        )
        self.forgetting = as_float(where, "forgetting", forgetting, 0.0, 1.0, open_high=True)
        self._prior = copy.deepcopy(prior)  # a caller may edit an array later
        self.posterior: BetaPosterior = self._new_posterior()

    def _new_posterior(self) -> BetaPosterior:
        return VisitDiscountedPosterior(
            self.num_prompts, prior=self._prior, discount=self.forgetting
        )

    def _num_candidates(self, size: int) -> int:
        return min(self.candidates_per_prompt * size, self.num_active)

    def _choose(self, size: int, generator: np.random.Generator) -> IntArray:
        """Thompson draws for the next candidates, and the ``size`` prompts that they speak for."""
        candidate_C = self._passes.peek(self._num_candidates(size))
        draw_C = generator.beta(*self.posterior.alpha_beta(candidate_C))
        target = self.target_success_rate
        if self.variant == "nearest":
            return candidate_C[nearest(draw_C, size, target)]
        low, high = self.threshold_low, self.threshold_high
        return candidate_C[within(draw_C, size, target, low, high, generator)]

    def _draft(self, generator: np.random.Generator) -> Draft:
        prompt_B = self._choose(self.batch_size, generator)
        alike = np.ones(prompt_B.size)
        quota_B = allocate(alike, self.budget, min_quota=self.min_quota, max_quota=self.max_quota)
        return Draft.of(prompt_B, quota_B)

    def _draft_one(self, generator: np.random.Generator) -> Draft:
        return Draft.of(self._choose(1, generator), np.array([self.min_quota]), sigma=1.0)

    def _issued(self, plan: Plan, draft: Draft, is_streamed: bool) -> None:
        size = self._num_candidates(1 if is_streamed else self.batch_size)
        self._passes.advance(size, size)  # candidates that were passed over are gone, too

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        is_seen = outcome.trial_B > 0
        self.posterior.update(
            plan.prompt_B[at][is_seen], outcome.success_B[is_seen], outcome.trial_B[is_seen]
        )

    def _extended(self, count: int) -> None:
        super()._extended(count)
        self.posterior = copy.copy(self.posterior)
        self.posterior.extend(count)

    def _config(self) -> dict[str, StateValue]:
        alpha, beta = (np.asarray(part, dtype=np.float64) for part in self._prior)
        return {
            "candidates_per_prompt": self.candidates_per_prompt,
            "target_success_rate": self.target_success_rate,
            "variant": self.variant,
            "threshold_low": self.threshold_low,
            "threshold_high": self.threshold_high,
            "forgetting": self.forgetting,
            "prior": f"{fingerprint(alpha)} {fingerprint(beta)}",
        }

    def _rule_state(self) -> State:
        posterior = {f"posterior/{k}": v for k, v in self.posterior.state_dict().items()}
        return {**super()._rule_state(), **posterior}

    def _load_rule_state(self, state: SchedulerState) -> None:
        posterior = self._new_posterior()
        posterior.load_state_dict(state.section("posterior").flat)
        self.posterior = posterior
        super()._load_rule_state(state)
