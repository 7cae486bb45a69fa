"""Prompts to train on: laws of the initial success rate, built for each policy, from a seed.

A population is a policy, its initial parameters, a pool of training prompts (ids 0 ... N-1) and a
held-out set (ids N ...) drawn from the same law, learnable prompts only. Some laws hold
unlearnable prompts, whose reward does not depend on the answer: ``never`` (always 0), ``always``
(always 1), ``coin`` (a fair coin, as a broken verifier gives). Their answers have scores like any
other, so coin flips put noise into the gradient; nothing can be gained on them.

A law has a name here (:data:`LAWS` and two more), or was estimated of a real model
(:class:`sim.population_file.EmpiricalLaw`); then every seed draws its prompts from the mixture. How
each policy turns success rates into parameters is in :mod:`sim.prompts`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray, as_choice, as_int, fail
from sim.drift import shifted
from sim.policy import Policy
from sim.population_file import POLICIES, EmpiricalLaw
from sim.prompts import build_prompts

__all__ = ["LAWS", "NATURAL", "POLICIES", "POPULATIONS", "Population", "make_population"]

# Success rate of the learnable prompts: a Beta law, and the shares of never, always, coin.
LAWS: dict[str, tuple[tuple[float, float], tuple[float, float, float]]] = {
    "uniform": ((1.0, 1.0), (0.0, 0.0, 0.0)),
    "u_shaped": ((0.4, 0.4), (0.0, 0.0, 0.0)),
    "mostly_hard": ((0.5, 3.0), (0.0, 0.0, 0.0)),
    "mostly_easy": ((3.0, 0.5), (0.0, 0.0, 0.0)),
    "dead": ((1.0, 1.0), (0.60, 0.25, 0.0)),
    "coins": ((1.0, 1.0), (0.0, 0.0, 0.20)),
    "drift": ((1.0, 1.0), (0.0, 0.0, 0.0)),
}
DRIFT_SD = {"drift": 0.05}  # per update: one logit after 400 updates
NATURAL = "skills"  # success rates follow from the skills; only for the skills policy
CATEGORIES = "categories"
CATEGORY_MEAN = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)  # mean success rate of each category
CATEGORY_COUNT = 4.0  # alpha + beta of its Beta law
POPULATIONS = (NATURAL, *LAWS, CATEGORIES)
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
    drift_sd : float, >= 0
        Of the random walk of pool logits, per update (:mod:`sim.drift`).
    category_N : ndarray of int64, optional
        Category of every prompt, held-out ones included; ``None``: the population has none.
    """

    name: str
    policy: Policy
    theta_D: FloatArray
    num_pool: int
    held_out_H: IntArray
    fixed_rate_N: FloatArray
    drift_sd: float = 0.0
    category_N: IntArray | None = None

    def success_rate(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatArray:
        """Exact chance of reward 1."""
        fixed = self.fixed_rate_N[prompt_B]
        return np.where(np.isnan(fixed), self.policy.success_rate(theta_D, prompt_B), fixed)

    def held_out_success(self, theta_D: FloatArray) -> float:
        """Exact mean success rate on the held-out set, the objective of a comparison."""
        return float(self.policy.success_rate(theta_D, self.held_out_H).mean())

    @property
    def is_learnable_N(self) -> BoolArray:
        """Pool prompts whose reward depends on the answer."""
        return np.isnan(self.fixed_rate_N[: self.num_pool])

    def drifted(self, logit_N: FloatArray) -> Population:
        """This population with pool logits moved by ``logit_N``, shape (num_pool,)."""
        still = np.zeros(self.held_out_H.size)
        policy = shifted(self.policy, np.concatenate([logit_N, still]))
        return replace(self, policy=policy)


def make_population(
    name: str | EmpiricalLaw,
    policy: str | None = None,
    *,
    num_pool: int = 4000,
    num_held_out: int = 512,
    seed: int = 0,
) -> Population:
    """Build a population.

    Parameters
    ----------
    name : str or EmpiricalLaw
        One of :data:`POPULATIONS`, or a law from a population file. ``skills`` is natural: success
        rates are products of skills and depend on chain length; it exists for the skills policy
        only. ``categories`` has eight categories with success rates and skills of their own.
    policy : {'skills', 'item_response', 'tabular'}, optional
        ``None``: that of the population file; ``'skills'`` for a named population.
    num_pool, num_held_out : int
        Sizes, >= 1.
    seed : int

    Returns
    -------
    Population

    Raises
    ------
    ValueError
        If an argument is out of its range, or the law needs another policy.

    Examples
    --------
    >>> population = make_population("dead", num_pool=100, num_held_out=10)
    >>> int(population.is_learnable_N.sum())
    15
    """
    where = "make_population"
    law = name if isinstance(name, EmpiricalLaw) else None
    policy = check_policy(where, name, policy)
    pool = as_int(where, "num_pool", num_pool, 1)
    size = pool + as_int(where, "num_held_out", num_held_out, 1)
    generator = np.random.default_rng(as_int(where, "seed", seed, 0))
    rate = category = None
    shares = (0.0, 0.0, 0.0)
    if law is not None:
        shares = (law.never, law.always, law.coin)
        rate = generator.choice(law.success_rate_K, size, p=law.weight_K)
    elif name == CATEGORIES:
        category = generator.integers(0, len(CATEGORY_MEAN), size)
        mean = np.array(CATEGORY_MEAN)[category]
        rate = generator.beta(CATEGORY_COUNT * mean, CATEGORY_COUNT * (1.0 - mean))
    elif name != NATURAL:
        (alpha, beta), shares = LAWS[str(name)]
        rate = generator.beta(alpha, beta, size)
    fixed = np.full(size, np.nan)
    if rate is not None:
        rate = np.clip(rate, *RATE_RANGE)
        fixed[:pool] = _fixed_rates(shares, pool, generator)
    built, theta = build_prompts(
        policy,
        size,
        rate,
        generator,
        category_N=category,
        transfer=None if law is None else law.transfer,
    )
    return Population(
        name=str(name) if law is None else law.name,
        policy=built,
        theta_D=theta,
        num_pool=pool,
        held_out_H=np.arange(pool, size),
        fixed_rate_N=fixed,
        drift_sd=DRIFT_SD.get(str(name), 0.0) if law is None else law.drift_sd,
        category_N=category,
    )


def check_policy(where: str, name: object, policy: object, *, parameter: str = "name") -> str:
    """The policy of a population, given or by default; refuses a pair that cannot be built."""
    law = name if isinstance(name, EmpiricalLaw) else None
    if law is None:
        as_choice(where, parameter, name, POPULATIONS)
    if policy is None:
        policy = "skills" if law is None else law.policy
    chosen = as_choice(where, "policy", policy, POLICIES)
    if name == NATURAL and chosen != "skills":
        fail(where, "policy", f"'skills' for population {NATURAL!r}", policy)
    if law is not None and law.transfer is not None and chosen != "item_response":
        fail(where, "policy", "'item_response' for a population file with transfer", policy)
    return chosen


def _fixed_rates(
    shares: tuple[float, float, float], pool: int, generator: np.random.Generator
) -> FloatArray:
    """Exact shares of never, always and coin at random places; NaN elsewhere."""
    fixed = np.full(pool, np.nan)
    order, start = generator.permutation(pool), 0
    for share, value in zip(shares, (0.0, 1.0, 0.5), strict=True):
        stop = start + round(share * pool)
        fixed[order[start:stop]] = value
        start = stop
    return fixed
