"""Prompts to train on: named laws of the initial success rate, built for each policy, from a seed.

A population is a policy, its initial parameters, a pool of training prompts (ids 0 ... N-1) and a
held-out set (ids N ...) drawn from the same law, learnable prompts only. Some laws hold
unlearnable prompts, whose reward does not depend on the answer: ``never`` (always 0), ``always``
(always 1), ``coin`` (a fair coin, as a broken verifier gives). Their answers have scores like any
other, so coin flips put noise into the gradient; nothing can be gained on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logit, logsumexp

from cures.checks import FloatArray, IntArray, as_choice, as_int, fail
from sim.item_response import ItemResponse
from sim.policy import Policy
from sim.skills import Skills, threshold_for_success_rate
from sim.tabular import Tabular

POLICIES = ("skills", "item_response", "tabular")
# Success rate of the learnable prompts: a Beta law, and the shares of never, always, coin.
LAWS: dict[str, tuple[tuple[float, float], tuple[float, float, float]]] = {
    "uniform": ((1.0, 1.0), (0.0, 0.0, 0.0)),
    "u_shaped": ((0.4, 0.4), (0.0, 0.0, 0.0)),
    "mostly_hard": ((0.5, 3.0), (0.0, 0.0, 0.0)),
    "mostly_easy": ((3.0, 0.5), (0.0, 0.0, 0.0)),
    "dead": ((1.0, 1.0), (0.60, 0.25, 0.0)),
    "coins": ((1.0, 1.0), (0.0, 0.0, 0.20)),
}
NATURAL = "skills"  # success rates follow from the skills; only for the skills policy
POPULATIONS = (NATURAL, *LAWS)
RATE_RANGE = (0.002, 0.998)  # clip: beyond it no arm sees a mixed group within these budgets


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Everything that arms of one seed share.

    Attributes
    ----------
    name : str
    policy : Policy
        Over pool and held-out prompts.
    theta_D : ndarray of float64
        Initial parameters.
    num_pool : int
        Training prompts are the ids 0 ... num_pool - 1.
    held_out_H : ndarray of int64
        Learnable prompts that are never trained on.
    fixed_rate_N : ndarray of float64
        Chance of reward 1 of an unlearnable prompt, whatever the answer; NaN: the answer decides.
    """

    name: str
    policy: Policy
    theta_D: FloatArray
    num_pool: int
    held_out_H: IntArray
    fixed_rate_N: FloatArray

    def success_rate(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatArray:
        """Exact chance of reward 1."""
        fixed = self.fixed_rate_N[prompt_B]
        return np.where(np.isnan(fixed), self.policy.success_rate(theta_D, prompt_B), fixed)

    def held_out_success(self, theta_D: FloatArray) -> float:
        """Exact mean success rate on the held-out set, the objective of a comparison."""
        return float(self.policy.success_rate(theta_D, self.held_out_H).mean())

    @property
    def is_learnable_N(self) -> np.ndarray:
        """Pool prompts whose reward depends on the answer."""
        return np.isnan(self.fixed_rate_N[: self.num_pool])


def make_population(
    name: str,
    policy: str = "skills",
    *,
    num_pool: int = 4000,
    num_held_out: int = 512,
    seed: int = 0,
) -> Population:
    """Build a named population.

    Parameters
    ----------
    name : str
        One of :data:`POPULATIONS`. ``skills`` is natural: success rates are products of skills and
        depend on chain length; it exists for the skills policy only.
    policy : {'skills', 'item_response', 'tabular'}
    num_pool, num_held_out : int
        Sizes, >= 1.
    seed : int

    Returns
    -------
    Population

    Examples
    --------
    >>> population = make_population("dead", num_pool=100, num_held_out=10)
    >>> int(population.is_learnable_N.sum())
    15
    """
    where = "make_population"
    as_choice(where, "name", name, POPULATIONS)
    as_choice(where, "policy", policy, POLICIES)
    if name == NATURAL and policy != "skills":
        fail(where, "policy", f"'skills' for population {NATURAL!r}", policy)
    pool = as_int(where, "num_pool", num_pool, 1)
    size = pool + as_int(where, "num_held_out", num_held_out, 1)
    generator = np.random.default_rng(as_int(where, "seed", seed, 0))
    fixed = np.full(size, np.nan)
    rate = None
    if name != NATURAL:
        (alpha, beta), shares = LAWS[name]
        rate = np.clip(generator.beta(alpha, beta, size), *RATE_RANGE)
        order, start = generator.permutation(pool), 0
        for share, value in zip(shares, (0.0, 1.0, 0.5), strict=True):
            stop = start + round(share * pool)
            fixed[order[start:stop]] = value
            start = stop
    build = {"skills": _skills, "item_response": _item_response, "tabular": _tabular}[policy]
    built, theta = build(size, rate, generator)
    return Population(name, built, theta, pool, np.arange(pool, size), fixed)


def _skills(
    size: int, rate: FloatArray | None, generator: np.random.Generator
) -> tuple[Policy, FloatArray]:
    """500 skills of unequal popularity and strength, rotated; chains of 1 to 8 steps."""
    num_skills, longest = 500, 8
    skill = generator.normal(0.8, 1.5, num_skills)
    popularity = 1.0 / np.arange(1, num_skills + 1) ** 0.7
    chain = generator.choice(num_skills, size=(size, longest), p=popularity / popularity.sum())
    length = generator.integers(1, longest + 1, size)
    if rate is None:
        threshold = np.zeros(size)
    else:
        threshold = threshold_for_success_rate(skill, chain, length, rate)
    rotation, _ = np.linalg.qr(generator.standard_normal((num_skills, num_skills)))
    policy = Skills(chain, length, num_skills, threshold, rotation)
    return policy, rotation.T @ skill


def _item_response(
    size: int, rate: FloatArray | None, generator: np.random.Generator
) -> tuple[Policy, FloatArray]:
    """32 abilities; loadings share a direction and scatter: prompts help and hinder each other."""
    assert rate is not None
    width = 32
    loading = (0.5 + generator.standard_normal((size, width))) / np.sqrt(width)
    theta = np.zeros(width)
    return ItemResponse(loading, loading @ theta - logit(rate)), theta


def _tabular(
    size: int, rate: FloatArray | None, generator: np.random.Generator
) -> tuple[Policy, FloatArray]:
    """Eight answers; which one or two are right is a linear rule of 16 features, to be learned."""
    assert rate is not None
    answers, width = 8, 16
    features = generator.standard_normal((size, width)) / np.sqrt(width)
    merit = features @ generator.standard_normal((width, answers))
    rank = np.argsort(np.argsort(-merit, axis=1), axis=1)
    right = rank < generator.integers(1, 3, size)[:, None]
    offset = generator.normal(0.0, 0.5, (size, answers))
    odds = logsumexp(np.where(right, offset, -np.inf), axis=1) - logsumexp(
        np.where(right, -np.inf, offset), axis=1
    )
    offset = offset + right * (logit(rate) - odds)[:, None]
    return Tabular(right, features, offset), np.zeros(width * answers)
