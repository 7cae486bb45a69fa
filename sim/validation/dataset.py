"""Many prompts, one policy: natural-gradient steps of pools against Eq. (12) and its correction.

Claims 2.1 to 2.4. Eq. (1) bounds the divergence on average over the prompts; Eq. (12) is what follows
if every prompt has a trust region of its own. Tables reach the bounds, policies with shared parameters
stay below. Nothing is sampled.
"""

from __future__ import annotations

import numpy as np
import sympy as sp

from cures.checks import FloatArray
from sim.policy import FloatMatrix
from sim.validation.answers import answer_chances, divergence
from sim.validation.bound import LARGE_R, SMALL_R
from sim.validation.check import (
    Check,
    Result,
    Setting,
    largest_ratio,
    rate_of_decay,
    relative_error,
)
from sim.validation.expected import expected
from sim.validation.natural_step import Pool, alone
from sim.validation.small_policies import (
    even_table,
    random_chains,
    random_table,
    shared_table,
)
from theory.average_bound import alive, mean_variance
from theory.average_radius import lowest, mean_lean
from theory.search import largest
from theory.symbols import delta, p, q, share
from theory.trust_region import exact_dataset_improvement

SIZE = 12  # prompts of a pool
POOLS = 6  # for a single pool the next order may be zero by accident


def table_pool(generator: np.random.Generator, *, size: int = SIZE) -> Pool:
    """A table with success rates from both ends and the middle, unequal shares."""
    rate_N = np.clip(generator.beta(0.5, 0.5, size), 0.02, 0.98)
    policy, theta_D = random_table(rate_N, generator, answers=4)
    return Pool(policy, theta_D, generator.dirichlet(np.full(size, 3.0)))


def table_pools(generator: np.random.Generator) -> list[Pool]:
    """Several of them."""
    return [table_pool(generator) for _ in range(POOLS)]


def chain_pool(generator: np.random.Generator, *, size: int = SIZE) -> Pool:
    """Chains that share 8 skills."""
    rate_N = generator.uniform(0.05, 0.95, size)
    policy, theta_D = random_chains(rate_N, generator, skills=8)
    return Pool(policy, theta_D, generator.dirichlet(np.full(size, 3.0)))


def mean(
    pool: Pool, number: str, name: str, at: dict[sp.Symbol, FloatArray] | None = None
) -> FloatArray:
    """Average over the pool of a formula in p (and delta, which may be an array)."""
    values = expected(number, name, {p: pool.rate_N[:, None], **(at or {})})
    return np.asarray(pool.share_N @ values)


def variance(pool: Pool) -> float:
    """Mean of p (1 - p)."""
    return float(mean(pool, "1.2", "ceiling")[0])


def corrected(pool: Pool, radius_R: FloatArray) -> FloatArray:
    """The corrected bound, shape (R,)."""
    return expected("2.1", "improvement", {mean_variance: variance(pool), delta: radius_R})


def stated(pool: Pool, radius_R: FloatArray) -> FloatArray:
    """Eq. (12): the average of Eq. (11), shape (R,)."""
    return mean(pool, "1.8", "stated", {delta: radius_R})


def stretched(pool: Pool, radius_R: FloatArray) -> FloatArray:
    """Gain of the step that spends the radius on average, shape (R,)."""
    return np.array([float(pool.share_N @ pool.stretched(r)[0]) for r in radius_R])


def best(pool: Pool, radius_R: FloatArray) -> FloatArray:
    """The exact optimum, shape (R,)."""
    return np.array([exact_dataset_improvement(pool.rate_N, r, pool.share_N)[0] for r in radius_R])


def own_regions(pool: Pool, radius_R: FloatArray) -> FloatArray:
    """Average gain if every prompt spends the radius by itself, shape (R,)."""
    gain_R = np.zeros(radius_R.size)
    for i, weight in enumerate(pool.share_N.tolist()):
        one = alone(pool.policy, pool.theta_D, i)
        gain_R += weight * np.array([one.stretched(r)[0][i] for r in radius_R])
    return gain_R


# -- the natural norm ------------------------------------------------------------------------------


def _norm(setting: Setting) -> Result:
    found, right, wrong = [], [], []
    for _ in range(12):
        rate_2 = setting.generator.uniform(0.05, 0.95, 2)
        first = setting.generator.uniform(0.1, 0.9)
        feature_2_F = setting.generator.standard_normal((2, 3))
        for policy, theta_D in (
            random_chains(rate_2, setting.generator, skills=5),
            shared_table(rate_2, feature_2_F, setting.generator),
        ):
            pool = Pool(policy, theta_D, np.array([first, 1.0 - first]))
            ceiling = expected("2.1", "ceiling", {p: rate_2[0], q: rate_2[1], share: first})
            found.append(pool.natural_norm + _residual(pool))
            right.append(float(ceiling))
            wrong.append(float(ceiling) + _residual(pool))
    return relative_error(found, right, wrong)


def _residual(pool: Pool) -> float:
    """Mean square of what the scores cannot explain of r - p."""
    total = 0.0
    for weight, law in zip(pool.share_N, pool.law_N, strict=True):
        rest_K = law.is_right_K - law.success_rate - law.score_K_D @ pool.direction_D
        total += float(weight * (law.chance_K @ rest_K**2))
    return total


# -- small radii -----------------------------------------------------------------------------------


def _leading(setting: Setting) -> Result:
    pools = table_pools(setting.generator)
    to_corrected, to_stated, own, next_order = [], [], [], []
    for pool in pools:
        gain_R = stretched(pool, SMALL_R)
        to_corrected.append(gain_R / corrected(pool, SMALL_R))
        to_stated.append(gain_R / stated(pool, SMALL_R))
        own.append(own_regions(pool, SMALL_R) / stated(pool, SMALL_R))
        lean = float(pool.share_N @ ((1 - 2 * pool.rate_N) * pool.rate_N * (1 - pool.rate_N)))
        at = {mean_lean: lean, mean_variance: variance(pool), delta: SMALL_R}
        next_order.append(expected("2.4", "ratio", at))
    rest = np.array(to_corrected) - np.array(next_order)
    return rate_of_decay(
        SMALL_R, rest, np.array(to_stated) - np.array(next_order), 1.0,
        arrays={"radius_R": SMALL_R, "corrected_P_R": np.array(to_corrected),
                "stated_P_R": np.array(to_stated), "own_P_R": np.array(own),
                "next_order_P_R": np.array(next_order)},
    )  # fmt: skip


def _own_regions(setting: Setting) -> Result:
    pools = table_pools(setting.generator)
    ratio_P_R = np.array([own_regions(pool, SMALL_R) / stated(pool, SMALL_R) for pool in pools])
    wrong_P_R = np.array([stretched(pool, SMALL_R) / stated(pool, SMALL_R) for pool in pools])
    return rate_of_decay(SMALL_R, ratio_P_R - 1.0, wrong_P_R - 1.0, 0.5)


def _split(setting: Setting) -> Result:
    spent, part = [], []
    for pool in table_pools(setting.generator):
        at = {p: pool.rate_N[:, None], delta: SMALL_R, mean_variance: variance(pool)}
        part.append(expected("2.3", "split", at) / SMALL_R)
        spent.append(np.array([pool.stretched(r)[1] for r in SMALL_R]).T / SMALL_R)
    spent_N_R = np.concatenate(spent)
    return rate_of_decay(SMALL_R, spent_N_R - np.concatenate(part), spent_N_R - 1.0, 0.5)


def _gap(setting: Setting) -> Result:
    def gaps(pools: list[Pool]) -> FloatMatrix:
        return np.array([1.0 - stretched(pool, SMALL_R) / best(pool, SMALL_R) for pool in pools])

    tables = table_pools(setting.generator)
    chains = [chain_pool(setting.generator) for _ in range(POOLS)]
    return rate_of_decay(SMALL_R, gaps(tables), gaps(chains), 1.0)


def _dead(setting: Setting) -> Result:
    """Prompts at 1/2 among prompts of which every answer is right, or none."""
    radius, size = 1e-6, 16
    found, right = [], []
    for live in (1, 2, 4, 8):
        policy, theta_D = even_table(np.full(size, 0.5), 2, 2)
        kind_N = np.arange(size)
        is_right_N_K = policy.is_right_N_K.copy()
        is_right_N_K[(kind_N >= live) & (kind_N % 2 == 0)] = True
        is_right_N_K[(kind_N >= live) & (kind_N % 2 == 1)] = False
        pool = Pool(type(policy)(is_right_N_K), theta_D, np.full(size, 1.0 / size))
        bound = float(stated(pool, np.array([radius]))[0])
        found.append(float(stretched(pool, np.array([radius]))[0]) / bound)
        right.append(float(expected("2.3", "alive", {alive: live / size})))
    return relative_error(found, right, 1.0, tolerance=1e-4)  # the next order is that of delta


# -- any radius ------------------------------------------------------------------------------------


def _search(setting: Setting) -> Result:
    """The best step of a table of two prompts, found by an optimiser that knows no formula."""
    rate_N, radius = np.array([0.5, 0.02]), 1e-4
    policy, theta_D = random_table(rate_N, setting.generator, answers=3, right=1)
    share_N = np.array([0.5, 0.5])
    old = [answer_chances(policy, theta_D, i) for i in range(2)]
    right_K = policy.is_right_N_K[0]

    def new(step_D: FloatArray) -> list[FloatArray]:
        return [answer_chances(policy, theta_D + 0.1 * step_D, i) for i in range(2)]

    def gain(step_D: FloatArray) -> float:
        return float(share_N @ [(y - x) @ right_K for x, y in zip(old, new(step_D), strict=True)])

    def room(step_D: FloatArray) -> float:
        spent = share_N @ [divergence(x, y) for x, y in zip(old, new(step_D), strict=True)]
        return float(1.0 - spent / radius)

    found, _ = largest(lambda step_D: 1e3 * gain(step_D), np.zeros(theta_D.size), inside=room)
    at = {p: rate_N[0], q: rate_N[1], share: 0.5, delta: radius}
    return relative_error(
        found / 1e3,
        exact_dataset_improvement(rate_N, radius, share_N)[0],
        expected("2.2", "stated", at),
        tolerance=1e-5,  # of an optimiser with gradients by differences
    )


def _any_radius(setting: Setting) -> Result:
    found, any_S, leading_S = [], [], []
    radius_R = np.concatenate([SMALL_R, LARGE_R])
    low = random_table(np.full(4, 0.05), setting.generator)
    pools = [table_pool(setting.generator), chain_pool(setting.generator),
             Pool(*low, np.full(4, 0.25))]  # fmt: skip
    for pool in pools:
        found.append(stretched(pool, radius_R))
        at = {
            lowest: max(0.0, float((1.0 - 2.0 * pool.rate_N).max())),
            mean_variance: variance(pool),
            delta: radius_R,
        }
        any_S.append(expected("2.4", "any", at))
        leading_S.append(corrected(pool, radius_R))
    return largest_ratio(found, any_S, leading_S, tightness=0.99)


def _never_above(setting: Setting) -> Result:
    pools = [table_pool(setting.generator), chain_pool(setting.generator)]
    return largest_ratio(
        [stretched(pool, LARGE_R) for pool in pools],
        [best(pool, LARGE_R) for pool in pools],
        [stated(pool, LARGE_R) for pool in pools],
        tightness=0.99,
        arrays={"radius_R": LARGE_R, "gain_R": stretched(pools[0], LARGE_R),
                "chain_R": stretched(pools[1], LARGE_R), "best_R": best(pools[0], LARGE_R),
                "chain_best_R": best(pools[1], LARGE_R), "stated_R": stated(pools[0], LARGE_R),
                "corrected_R": corrected(pools[0], LARGE_R)},
    )  # fmt: skip


CHECKS = (
    Check(
        "norm", ("2.1",),
        "natural norm of two prompts with shared parameters, plus what their scores cannot explain",
        "the unexplained part counted twice", _norm,
    ),
    Check(
        "leading", ("2.1", "2.4"),
        "table: gain over the corrected bound, less the next order, vanishes with delta",
        "Eq. (12)", _leading,
    ),
    Check(
        "own-regions", ("2.3",),
        "table, a trust region for every prompt: gain over Eq. (12), less 1, vanishes with the root",
        "one trust region on average", _own_regions,
    ),
    Check(
        "split", ("2.3",),
        "table: divergence of each prompt over delta, less its part, vanishes with the root",
        "equal parts", _split,
    ),
    Check(
        "gap", ("2.2", "2.4"),
        "table: distance of the stretched step from the exact optimum vanishes with delta",
        "chains with shared skills", _gap,
    ),
    Check(
        "dead-prompts", ("2.3",),
        "1, 2, 4, 8 live prompts among 16: gain over Eq. (12)",
        "Eq. (12)", _dead,
    ),
    Check(
        "search", ("2.2",),
        "p = 0.5 and 0.02: best gain that an optimiser finds, against the exact optimum",
        "Eq. (12)", _search,
    ),
    Check(
        "any-radius", ("2.4",),
        "tables and chains: largest gain over the bound for any radius",
        "the corrected bound, which is exceeded", _any_radius,
    ),
    Check(
        "never-above", ("2.2",),
        "table and chains, delta up to 1: largest gain over the exact optimum",
        "Eq. (12), which is exceeded", _never_above,
    ),
)  # fmt: skip
