"""One prompt: exact natural-gradient steps of tables and chains of skills against Eq. (11).

Claims 1.1 to 1.8, 8.2 and 8.3. Nothing is sampled: success rates, Fisher matrices and divergences are
sums over answers. What holds for small radii only is checked by the power of the radius at which the
rest vanishes, what holds at any radius against the exact optimum.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from cures.checks import FloatArray
from sim.policy import Policy
from sim.validation.check import (
    Check,
    Result,
    Setting,
    decay,
    largest_ratio,
    rate_in_words,
    rate_of_decay,
    relative_error,
)
from sim.validation.expected import expected
from sim.validation.natural_step import Pool, alone
from sim.validation.small_policies import (
    one_skill_chains,
    random_chains,
    random_table,
    repeating_chains,
)
from theory.cramer_rao import separation
from theory.signal import steps as chain_length
from theory.symbols import delta, p, q
from theory.trust_region import exact_improvement

RATE_P = np.linspace(0.02, 0.98, 25)
at_rate = partial(rate_in_words, RATE_P)
SMALL_R = np.logspace(-7, -4, 7)  # below, rounding shows in divergences; above, the next order
LARGE_R = np.array([1e-3, 1e-2, 0.1, 0.5, 1.0])


def pools(built: tuple[Policy, FloatArray]) -> list[Pool]:
    """One pool per prompt."""
    policy, theta_D = built
    return [alone(policy, theta_D, i) for i in range(policy.num_prompts)]


def nominal(pool_P: list[Pool], radius_R: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gain and divergence of the step of Eq. (8), shapes (P, R)."""
    both = [[_own(pool, pool.nominal(r)) for r in radius_R] for pool in pool_P]
    gain_P_R, spent_P_R = np.moveaxis(np.array(both), 2, 0)
    return gain_P_R, spent_P_R


def stretched(pool_P: list[Pool], radius_R: FloatArray) -> FloatArray:
    """Gain of the step that spends the radius, shape (P, R)."""
    return np.array([[_own(pool, pool.stretched(r))[0] for r in radius_R] for pool in pool_P])


def _own(pool: Pool, both: tuple[FloatArray, FloatArray]) -> tuple[float, float]:
    return float(pool.share_N @ both[0]), float(pool.share_N @ both[1])


def formula(number: str, name: str, radius_R: FloatArray) -> FloatArray:
    """A formula in p and delta on the grid of success rates, shape (P, R)."""
    return expected(number, name, {p: RATE_P[:, None], delta: radius_R})


# -- the natural norm ------------------------------------------------------------------------------


def _norm(setting: Setting) -> Result:
    kinds = random_table(RATE_P, setting.generator), random_chains(RATE_P, setting.generator)
    found = [pool for built in kinds for pool in pools(built)]
    ceilings = [expected("1.3", "natural", {p: RATE_P}), expected("8.2", "norm", {p: RATE_P})]
    return relative_error(
        [pool.natural_norm for pool in found],
        np.concatenate(ceilings),
        [float(pool.gradient_D @ pool.gradient_D) for pool in found],
        where=at_rate,
    )


def _repeated_skill(setting: Setting) -> Result:
    rate, longest = 0.6, 5
    found = pools(one_skill_chains(rate, longest))
    length_P = np.arange(1, longest + 1)
    success_P = np.array([pool.rate_N[i] for i, pool in enumerate(found)])
    ceiling_P = expected("8.2", "norm", {p: success_P})
    share_P = expected("8.3", "share", {q: rate, chain_length: length_P})
    return relative_error(
        np.array([pool.natural_norm for pool in found]) / ceiling_P, share_P, 1.0,
        where=lambda i: f"chain of {i + 1}",
    )  # fmt: skip


def _restricted(setting: Setting) -> Result:
    found = pools(repeating_chains(RATE_P, setting.generator))
    ratio = []
    for i, pool in enumerate(found):
        law, rate = pool.law_N[i], pool.rate_N[i]
        second = law.score_K_D - np.where(
            law.is_right_K[:, None],
            law.mean_given(True, law.score_K_D),
            law.mean_given(False, law.score_K_D),
        )
        inside_D_D = second.T @ (law.chance_K[:, None] * second)
        apart_D = law.difference_D
        ratio.append(rate * (1 - rate) * apart_D @ np.linalg.solve(inside_D_D, apart_D))
    return relative_error(
        [pool.natural_norm for pool in found],
        expected("1.4", "several", {p: RATE_P, separation: np.array(ratio)}),
        expected("1.2", "ceiling", {p: RATE_P}),
        tolerance=1e-8,  # two inverses
        where=at_rate,
    )


# -- small radii -----------------------------------------------------------------------------------


def _leading(setting: Setting) -> Result:
    table = nominal(pools(random_table(RATE_P, setting.generator)), SMALL_R)[0]
    chain = nominal(pools(random_chains(RATE_P, setting.generator)), SMALL_R)[0]
    bound = formula("1.8", "stated", SMALL_R)
    order = decay(SMALL_R, formula("1.7", "step", SMALL_R) - 1.0)
    ratios = np.concatenate([table / bound, chain / bound])
    unrooted = np.concatenate([table, chain]) / np.tile(expected("1.2", "ceiling", {
        p: RATE_P})[:, None] * np.sqrt(2.0 * SMALL_R), (2, 1))  # fmt: skip
    return rate_of_decay(
        SMALL_R, ratios - 1.0, unrooted - 1.0, order,
        arrays={"rate_P": RATE_P, "radius_R": SMALL_R, "table_P_R": table / bound,
                "chain_P_R": chain / bound, "next_order_P_R": formula("1.7", "step", SMALL_R)},
    )  # fmt: skip


def _step(setting: Setting) -> Result:
    gain = nominal(pools(random_table(RATE_P, setting.generator)), SMALL_R)[0]
    ratio = gain / formula("1.8", "stated", SMALL_R)
    return rate_of_decay(SMALL_R, ratio - formula("1.7", "step", SMALL_R), ratio - 1.0, 1.0)


def _spent(setting: Setting) -> Result:
    spent = nominal(pools(random_table(RATE_P, setting.generator)), SMALL_R)[1]
    ratio = spent / SMALL_R
    return rate_of_decay(SMALL_R, ratio - formula("1.7", "spent", SMALL_R), ratio - 1.0, 1.0)


def _next_order(setting: Setting) -> Result:
    gain = stretched(pools(random_table(RATE_P, setting.generator)), SMALL_R)
    ratio = gain / formula("1.8", "stated", SMALL_R)
    wrong = formula("1.7", "step", SMALL_R)
    return rate_of_decay(SMALL_R, ratio - formula("1.7", "exact", SMALL_R), ratio - wrong, 1.0)


def _chain_gap(setting: Setting) -> Result:
    best = exact_improvement(RATE_P[:, None], SMALL_R)
    chain = stretched(pools(random_chains(RATE_P, setting.generator)), SMALL_R)
    repeating = stretched(pools(repeating_chains(RATE_P, setting.generator)), SMALL_R)
    return rate_of_decay(SMALL_R, 1.0 - chain / best, 1.0 - repeating / best, 1.0)


# -- any radius ------------------------------------------------------------------------------------


def _shares(setting: Setting) -> Result:
    """Divergence of the answers over that of the success rates, after steps of either gradient."""

    def ratio(pool: Pool, i: int, direction_D: FloatArray) -> float:
        gain_N, spent_N = pool.after(direction_D / np.abs(direction_D).max())
        at = {p: pool.rate_N[i], q: pool.rate_N[i] + gain_N[i]}
        return float(spent_N[i] / expected("1.5", "divergence", at))

    found = list(enumerate(pools(random_table(RATE_P, setting.generator))))
    natural_P = [ratio(pool, i, pool.direction_D) for i, pool in found]
    plain_P = [ratio(pool, i, pool.gradient_D) for i, pool in found]
    return relative_error(natural_P, 1.0, plain_P, where=at_rate)


def _optimum(setting: Setting) -> Result:
    gain = stretched(pools(random_table(RATE_P, setting.generator)), LARGE_R)
    chain = stretched(pools(random_chains(RATE_P, setting.generator)), LARGE_R)
    stated = formula("1.8", "stated", LARGE_R)
    return relative_error(
        gain,
        exact_improvement(RATE_P[:, None], LARGE_R),
        stated,
        tolerance=1e-8,  # of a root search
        where=lambda i: f"p = {RATE_P[i // LARGE_R.size]:.2f}, "
        f"delta = {LARGE_R[i % LARGE_R.size]:g}",
        arrays={"rate_P": RATE_P, "radius_R": LARGE_R, "table_P_R": gain, "chain_P_R": chain,
                "stated_P_R": stated, "exact_P_R": exact_improvement(RATE_P[:, None], LARGE_R)},
    )  # fmt: skip


def _all_gains(setting: Setting, radius_R: FloatArray) -> FloatArray:
    """Gains of tables, chains and chains that repeat a skill, shape (3 P, R)."""
    kinds = (random_table, random_chains, repeating_chains)
    return np.concatenate([stretched(pools(k(RATE_P, setting.generator)), radius_R) for k in kinds])


def _never_above(setting: Setting) -> Result:
    return largest_ratio(
        _all_gains(setting, LARGE_R),
        np.tile(exact_improvement(RATE_P[:, None], LARGE_R), (3, 1)),
        np.tile(formula("1.8", "stated", LARGE_R), (3, 1)),
        tightness=1.0 - 1e-8,
    )


def _any_radius(setting: Setting) -> Result:
    radius_R = np.concatenate([SMALL_R, LARGE_R])
    return largest_ratio(
        _all_gains(setting, radius_R),
        np.tile(formula("1.8", "corrected", radius_R), (3, 1)),
        np.tile(formula("1.8", "stated", radius_R), (3, 1)),
        tightness=0.999,
    )


def _pinsker(setting: Setting) -> Result:
    radius_R = np.concatenate([SMALL_R, LARGE_R])
    return largest_ratio(
        _all_gains(setting, radius_R),
        expected("1.6", "bound", {delta: radius_R}),
        expected("1.8", "stated", {p: 0.25, delta: radius_R}),
        tightness=0.99,
    )


CHECKS = (
    Check(
        "norm", ("1.3", "8.2"),
        "natural norm of the gradient, tables and chains of distinct skills, against p(1-p)",
        "the plain norm of the gradient", _norm,
    ),
    Check(
        "repeated-skill", ("8.3", "8.2"),
        "natural norm over p(1-p), chains on one skill", "the whole bound", _repeated_skill,
    ),
    Check(
        "restricted", ("1.4",),
        "natural norm of chains that use a skill twice, from the spread within right and wrong",
        "the ceiling p(1-p)", _restricted,
    ),
    Check(
        "leading", ("1.7", "1.8", "1.1"),
        "tables and chains: gain of one step over Eq. (11), less 1, vanishes with the root of delta",
        "Eq. (11) without the root of p(1-p)", _leading,
    ),
    Check(
        "step", ("1.7", "1.1"),
        "table: what the next order leaves of that ratio vanishes with delta",
        "leading order only", _step,
    ),
    Check(
        "spent", ("1.7", "1.1"),
        "table: what the next order leaves of the step's divergence over delta vanishes with delta",
        "leading order only", _spent,
    ),
    Check(
        "next-order", ("1.7",),
        "table: same for the step stretched to a divergence of delta, the exact optimum",
        "the next order of the step that is not stretched", _next_order,
    ),
    Check(
        "chain-gap", ("1.5", "8.2"),
        "chains: distance of the stretched step from the exact optimum vanishes with delta",
        "chains that use a skill twice", _chain_gap,
    ),
    Check(
        "divergence", ("1.5",),
        "table: divergence of all answers after a step, over that of the success rates",
        "a plain-gradient step", _shares,
    ),
    Check(
        "optimum", ("1.5",),
        "table, delta up to 1: gain of the stretched step against the exact optimum",
        "Eq. (11)", _optimum,
    ),
    Check(
        "never-above", ("1.5",),
        "tables and chains: largest gain over the exact optimum, delta up to 1",
        "Eq. (11), which is exceeded", _never_above,
    ),
    Check(
        "any-radius", ("1.8",),
        "tables and chains: largest gain over the corrected bound, any delta",
        "Eq. (11), which is exceeded", _any_radius,
    ),
    Check(
        "pinsker", ("1.6",),
        "tables and chains: largest gain over Pinsker's bound, any delta",
        "Eq. (11) of p = 1/4 for all", _pinsker,
    ),
)  # fmt: skip
