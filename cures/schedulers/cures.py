"""CurES as printed: Algorithm 1 of the paper."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, IntArray, as_bool, as_choice, as_float
from cures.gradient_std import gradient_std_surrogate, gradient_variance
from cures.posterior import BetaPosterior
from cures.potential import potential
from cures.records import Moments, Outcome, Plan
from cures.sampling import sampling_distribution
from cures.schedulers.driver.checkpoint import SchedulerState, fingerprint
from cures.schedulers.driver.draft import Draft
from cures.schedulers.subsets import SubsetScheduler
from cures.schedulers.weighted import DenseLaw, EqualLaw, Law, WeightedDraw, dense_equal_law
from cures.softmax_tree import SoftmaxTree
from cures.storage import State, StateValue

DRAWS = ("auto", "dense", "tree")
TREE_FROM = 2**16  # members of a subset


class Cures(SubsetScheduler):
    r"""Sample prompts from a softmax of :math:`\sqrt{p(1-p)}`, give quotas proportional to sigma.

    For each subset: ``pilots`` rollouts per prompt set Beta counts; then ``steps_per_subset`` times:
    draw ``batch_size`` prompts with replacement from Eq. 14 at the posterior mean, split ``budget``
    by Eq. 20, update the counts. Everything estimated is reset at the next subset.

    Cost of a subset: ``pilots`` x its prompts + ``steps_per_subset`` x ``budget``, exactly.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`. ``max_quota`` bounds one draw: a prompt drawn
        k times is one group with at most k x ``max_quota`` rollouts.
    num_subsets, pilots, steps_per_subset, subset_N, train_pilots, use_moments
        See :class:`~cures.schedulers.subsets.SubsetScheduler`; T = 15, N' = 4, M = 10 as published.
    temperature : float
        tau of Eq. 14, > 0. The paper does not state its value; 0.05 prefers p = 1/2 over p = 1/6 by
        exp((0.5 - 0.373) / 0.05), a factor of 13.
    prior : pair of float or of array_like
        Beta(alpha, beta) before the pilots, > 0. The paper does not state it; (1, 1).
    forgetting : float
        Share of the evidence forgotten per update, in [0, 1); 0 as printed.
    sampling : bool
        False draws uniformly from the subset: the quota-only ablation.
    quota : bool
        False gives every draw the same quota: the sampling-only ablation.
    draws : {'auto', 'dense', 'tree'}
        How Eq. 14 is drawn from. ``'dense'``, the reference: every probability at every step, O(pool).
        ``'tree'``: the same law from a sum tree (:mod:`cures.softmax_tree`), at a cost that follows the
        prompts touched; with the same seed the plans are others, because random numbers are used
        differently, and with ``forgetting`` the chances in ``Plan.prob_B`` are estimates (0.8 %).
        ``'auto'``: the tree from subsets of 65536 prompts on, decided when the scheduler is made.

    Notes
    -----
    Sigma is Eq. 21 with the pilots' gradient moments and p the posterior mean, where the host
    measured them (``use_moments``); a missing norm (no right or no wrong pilot) is the mean of that
    norm over the subset. Without moments sigma is :math:`\sqrt{p(1-p)}`. Negative variance
    estimates count as 0 and are counted in ``counters["negative_variance"]``.

    References
    ----------
    .. [1] Zeng, Sun et al., "CurES", ICLR 2026, arXiv 2510.01037, Algorithm 1.
    """

    name = "cures"
    has_exact_budget = True

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        temperature: float = 0.05,
        prior: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
        forgetting: float = 0.0,
        sampling: bool = True,
        quota: bool = True,
        draws: str = "auto",
        **common: Any,
    ) -> None:
        self.temperature = as_float(self.name, "temperature", temperature, 0.0, open_low=True)
        self.forgetting = as_float(self.name, "forgetting", forgetting, 0.0, 1.0, open_high=True)
        self.sampling = as_bool(self.name, "sampling", sampling)
        self.quota = as_bool(self.name, "quota", quota)
        self._draws = as_choice(self.name, "draws", draws, DRAWS)
        # private copies: a caller who edits an array later must not change the next subset's prior
        self._prior = copy.deepcopy(prior)
        super().__init__(num_prompts, batch_size, budget, seed, **common)

    def _new_posterior(self) -> BetaPosterior:
        return BetaPosterior(self.num_prompts, prior=self._prior, forgetting=self.forgetting)

    def _start_visit(self) -> None:
        super()._start_visit()
        if self._draws == "auto":
            self._draws = "tree" if self._size >= TREE_FROM else "dense"
        self.posterior: BetaPosterior = self._new_posterior()
        self._tree = self._new_tree()

    def _new_tree(
        self, built: int | None = None, reference: float | None = None
    ) -> SoftmaxTree | None:
        """The tree to draw from, none in the dense mode, of uniform draws and if all are retired."""
        if self._draws == "dense" or not self.sampling or self._is_deserted():
            return None
        return SoftmaxTree(
            self.posterior,
            self.temperature,
            self._member_S,
            is_out_S=self._is_out_S,
            built=built,
            reference=reference,
        )

    def success_rate(self) -> FloatArray:
        """Posterior mean success rate of every prompt of :attr:`members`, shape (S,)."""
        return self.posterior.mean(self._member_S)

    def sampling_distribution(self) -> FloatArray:
        """Chance per draw of every prompt of :attr:`members` (Eq. 14), shape (S,); O(S)."""
        if not self.sampling:
            return dense_equal_law(self._size, self._is_out_S).prob_S
        potential_S = potential(self.success_rate())
        if self._is_out_S is None:
            return sampling_distribution(potential_S, self.temperature)  # Eq. (14)
        prob_S = np.zeros(self._size)
        is_in_S = ~self._is_out_S
        prob_S[is_in_S] = sampling_distribution(potential_S[is_in_S], self.temperature)
        return prob_S

    def gradient_std(self, slot: IntArray) -> tuple[FloatArray, int]:
        """Sigma of the members at ``slot`` (Eq. 21), and how many variances were negative.

        Ones under ``quota=False``.
        """
        if not self.quota:
            return np.ones(slot.size), 0
        p = self.posterior.mean(self._prompt_at(slot))
        if not self.use_moments:
            return gradient_std_surrogate(p), 0
        correct = self._moments_or_mean("sq_norm_correct", slot)
        wrong = self._moments_or_mean("sq_norm_wrong", slot)
        difference = self._moments_or_mean("sq_norm_difference", slot)
        if correct is None or wrong is None or difference is None:
            return gradient_std_surrogate(p), 0
        variance = gradient_variance(p, correct, wrong, difference)  # Eq. (21)
        return np.sqrt(np.maximum(variance, 0.0)), int((variance < 0.0).sum())

    def _draw(self) -> WeightedDraw:
        return WeightedDraw(self._prompt_at, self._law(), self._equal_law, self.gradient_std)

    def _law(self) -> Law:
        if self._draws == "dense":
            return DenseLaw(self.sampling_distribution())
        return self._equal_law() if self._tree is None else self._tree

    def _equal_law(self) -> Law:
        if self._draws == "dense":
            return dense_equal_law(self._size, self._is_out_S)
        return EqualLaw(self._size, self._is_out_S)

    def _training_draft(self, generator: np.random.Generator) -> Draft:
        return self._draw().batch(
            generator,
            self.batch_size,
            self.budget,
            min_quota=self.min_quota,
            max_quota=self.max_quota,
        )

    def _training_draft_one(self, generator: np.random.Generator) -> Draft:
        return self._draw().one(generator)

    def _learn(self, plan: Plan, at: IntArray, outcome: Outcome, moments: Moments | None) -> None:
        super()._learn(plan, at, outcome, moments)
        # policy_step is not used: with forgetting, rollouts of an older policy count as fresh
        prompt_B = plan.prompt_B[at]
        self.posterior.update(prompt_B, outcome.success_B, outcome.trial_B)
        if self._tree is not None:
            self._tree.told(self._slot_of(prompt_B[outcome.trial_B > 0]))

    def _updated(self) -> None:
        self.posterior.advance()
        if self._tree is not None:
            self._tree.advanced()

    def _extended(self, count: int) -> None:
        super()._extended(count)
        posterior = copy.copy(self.posterior)
        posterior.extend(count)
        self.posterior, self._tree = posterior, None
        self._tree = self._new_tree()

    def _retired(self, prompt: IntArray) -> None:
        super()._retired(prompt)
        self._tree = self._new_tree()

    def _config(self) -> dict[str, StateValue]:
        alpha, beta = (np.asarray(part, dtype=np.float64) for part in self._prior)
        return {
            **super()._config(),
            "temperature": self.temperature,
            "prior": f"{fingerprint(alpha)} {fingerprint(beta)}",
            "forgetting": self.forgetting,
            "sampling": int(self.sampling),
            "quota": int(self.quota),
            "draws": self._draws,
        }

    def _rule_state(self) -> State:
        posterior = {f"posterior/{k}": v for k, v in self.posterior.state_dict().items()}
        tree = self._tree
        return {
            **super()._rule_state(),
            **posterior,
            "tree_built": 0 if tree is None else tree.built,
            "tree_reference": 0.0 if tree is None else tree.reference,
        }

    def _load_rule_state(self, state: SchedulerState) -> None:
        super()._load_rule_state(state)
        posterior = self._new_posterior()
        posterior.load_state_dict(state.section("posterior").flat)
        self.posterior = posterior
        built = state.integer("tree_built", posterior.step)
        self._tree = self._new_tree(built, state.real("tree_reference"))
