r"""Variance of the whole gradient estimate, Eq. (16), over many simulated updates.

Claims 4.1 to 4.4. Updates are made as a host makes them: the policy generates,
``cures.rollout_weights`` weighs, the policy sums weighted scores. The advantage is the true one, r - p,
as Eq. (16) has it. Quotas are those of Eq. (20), equal ones, those of GVM and random ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

import cures
from cures.checks import FloatArray, IntArray
from cures.schedulers.gvm import gvm_weight
from sim.policy import Policy
from sim.validation.answers import AnswerLaw, answer_law
from sim.validation.check import Check, Result, Setting, largest_z
from sim.validation.contributions import moments
from sim.validation.expected import expected
from sim.validation.sampling import shares
from sim.validation.small_policies import random_chains, shared_table
from theory.estimate_variance import between, mean_sigma, var_sigma
from theory.quota import sigma, total
from theory.symbols import budget, m, n

RULES = ("eq20", "uniform", "gvm", "random")
QUOTA_B = np.array([2, 3, 4, 5, 7, 9, 12, 15, 19, 24, 28, 32])  # wanted of Eq. (20): sum 160
FEWEST = 3000  # updates: quotas of Eq. (20) save little on chains, and that has to be seen
DRAWS = 16  # prompts drawn for an update
POOL = 24
ROLLOUTS = 16 * DRAWS
TAU = 0.3


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of one policy, their laws and their sigma of Eq. (21).

    Attributes
    ----------
    policy : Policy
    theta_D : ndarray of float64, shape (D,)
    law_N : list of AnswerLaw
    sigma_N : ndarray of float64, shape (N,)
        By claim 5.1.
    """

    policy: Policy
    theta_D: FloatArray
    law_N: list[AnswerLaw]
    sigma_N: FloatArray

    @classmethod
    def of(cls, policy: Policy, theta_D: FloatArray) -> Prompts:
        """All prompts of a policy."""
        law_N = [answer_law(policy, theta_D, i) for i in range(policy.num_prompts)]
        return cls(policy, theta_D, law_N, np.sqrt(expected("5.1", "variance", moments(law_N))))

    @cached_property
    def rate_N(self) -> FloatArray:
        """Success rates."""
        return np.array([law.success_rate for law in self.law_N])

    def estimate(
        self, prompt_B: IntArray, weight_B: FloatArray, quota_B: IntArray,
        generator: np.random.Generator,
    ) -> FloatArray:  # fmt: skip
        """One draw of the estimate (16), shape (D,)."""
        prompt_R = np.repeat(prompt_B, quota_B)
        answer_R = self.policy.generate(self.theta_D, prompt_R, generator)
        advantage_R = self.policy.is_right(prompt_R, answer_R) - self.rate_N[prompt_R]
        weight_R = cures.rollout_weights(weight_B, quota_B, aggregation="prompt")
        return self.policy.score_sum(self.theta_D, prompt_R, answer_R, weight_R * advantage_R)


def table_prompts(wanted_N: FloatArray, generator: np.random.Generator) -> Prompts:
    """Tables with shared weights whose sigma are in proportion to the wanted ones.

    The length of a prompt's features scales its scores, and so its sigma.
    """
    rate_N = generator.permutation(np.linspace(0.1, 0.9, wanted_N.size))
    feature_N_F = generator.standard_normal((wanted_N.size, 4))
    state = generator.bit_generator.state
    plain = Prompts.of(*shared_table(rate_N, feature_N_F, generator))
    generator.bit_generator.state = state  # the same offsets again
    scale_N = wanted_N / plain.sigma_N / wanted_N.mean()
    return Prompts.of(*shared_table(rate_N, feature_N_F * scale_N[:, None], generator))


def chain_prompts(generator: np.random.Generator) -> Prompts:
    """Chains that share skills, half of them near success rates 0 or 1."""
    ends, middle = np.array([0.005, 0.01, 0.02, 0.98, 0.99, 0.995]), np.linspace(0.3, 0.7, 6)
    rate_N = np.concatenate([ends, middle])
    return Prompts.of(*random_chains(rate_N, generator, skills=10))


def quotas_of(
    rule: str, prompts: Prompts, rollouts: int, generator: np.random.Generator
) -> IntArray:
    """Whole quotas of one rule, at least 1 each."""
    size = prompts.sigma_N.size
    if rule == "random":
        share_N = generator.dirichlet(np.full(size, 2.0))
        return 1 + generator.multinomial(rollouts - size, share_N)
    if rule == "gvm":
        norm_N = np.array([law.mean_norm(True) for law in prompts.law_N])
        weight_N = gvm_weight(prompts.rate_N, norm_N, 1e-3, 2.0)
    else:
        weight_N = prompts.sigma_N if rule == "eq20" else np.ones(size)
    return cures.allocate(weight_N, rollouts, min_quota=1)


def given_quotas(prompts: Prompts, quota_B: IntArray) -> float:
    """Claim 4.1: variance given the drawn prompts, summed over them."""
    at = {sigma: prompts.sigma_N, m: prompts.sigma_N.size, n: quota_B}
    return float(expected("4.1", "within", at).sum())


def minimum(sigma_B: FloatArray, size: int, rollouts: int) -> float:
    """Claim 4.2: (sum sigma)^2 / (m^2 N)."""
    return float(expected("4.2", "minimum", {total: sigma_B.sum(), m: size, budget: rollouts}))


def spread(estimate_U_D: FloatArray, centre_D: FloatArray) -> tuple[float, float]:
    """Mean squared distance from the exact mean, and its standard error."""
    square_U = ((estimate_U_D - centre_D) ** 2).sum(axis=1)
    return float(square_U.mean()), float(square_U.std(ddof=1) / np.sqrt(square_U.size))


def between_prompts(prompts: Prompts, share_N: FloatArray) -> float:
    """Total variance of the mean gradients under a distribution."""
    gradient_N_D = np.array([law.gradient_D for law in prompts.law_N])
    centre_D = share_N @ gradient_N_D
    return float(share_N @ ((gradient_N_D - centre_D) ** 2).sum(axis=1))


# -- given the drawn prompts -----------------------------------------------------------------------


def _within(setting: Setting, kind: str, rule: str) -> Result:
    if kind == "table":
        prompts = table_prompts(QUOTA_B.astype(np.float64), setting.common("given tables"))
    else:
        prompts = chain_prompts(setting.common("given chains"))
    size, rollouts = prompts.sigma_N.size, int(QUOTA_B.sum())
    quota_B = quotas_of(rule, prompts, rollouts, setting.generator)
    prompt_B, weight_B = np.arange(size), np.full(size, 1.0 / size)
    updates = max(FEWEST, setting.draws // rollouts)
    estimate_U_D = np.array(
        [prompts.estimate(prompt_B, weight_B, quota_B, setting.generator) for _ in range(updates)]
    )
    centre_D = prompts.policy.success_gradient(prompts.theta_D, prompt_B, weight_B)
    mean, error = spread(estimate_U_D, centre_D)
    least, here = minimum(prompts.sigma_N, size, rollouts), given_quotas(prompts, quota_B)
    # the table is made so that Eq. (20) asks for whole rollouts and the minimum is reached
    right = least if (rule, kind) == ("eq20", "table") else here
    equal_B = quotas_of("uniform", prompts, rollouts, setting.generator)
    control = given_quotas(prompts, equal_B) if rule == "eq20" else least
    between_part = between_prompts(prompts, weight_B) / size
    return largest_z(
        mean, right, error, control, where=lambda _: f"{here / least - 1:.1%} above the minimum",
        arrays={"mean": np.array([mean]), "error": np.array([error]), "expected": np.array([right]),
                "minimum": np.array([least]), "between": np.array([between_part]),
                "quota_B": quota_B, "sigma_B": prompts.sigma_N},
    )  # fmt: skip


# -- with the draw of the prompts ------------------------------------------------------------------


def _drawn(setting: Setting, rule: str) -> Result:
    common = setting.common("drawn tables")
    prompts = table_prompts(common.permutation(np.linspace(0.2, 2.0, POOL) ** 2), common)
    share_N = shares(prompts.rate_N, TAU)
    gradient_N_D = np.array([law.gradient_D for law in prompts.law_N])
    updates = max(FEWEST, setting.draws // ROLLOUTS)
    estimates, given, rounding = [], [], []
    for _ in range(updates):
        prompt_B, draw_B = cures.draw_with_replacement(share_N, DRAWS, setting.generator)
        sigma_B = draw_B * prompts.sigma_N[prompt_B]
        weight_B = sigma_B if rule == "eq20" else draw_B.astype(np.float64)
        quota_B = cures.allocate(weight_B, ROLLOUTS, min_quota=1)
        whole = expected("4.1", "within", {sigma: sigma_B, m: DRAWS, n: quota_B}).sum()
        rounding.append(float(whole) - minimum(sigma_B, DRAWS, ROLLOUTS))
        estimates.append(prompts.estimate(prompt_B, draw_B / DRAWS, quota_B, setting.generator))
        given.append(draw_B / DRAWS @ gradient_N_D[prompt_B])
    centre_D = prompts.policy.success_gradient(prompts.theta_D, np.arange(POOL), share_N)
    estimate_U_D, given_U_D = np.array(estimates), np.array(given)
    parts = [
        spread(estimate_U_D, centre_D),
        spread(estimate_U_D, given_U_D),
        spread(given_U_D, centre_D),
    ]
    mean_3, error_3 = np.array(parts).T
    best_3, equal_3 = by_claim("4.4", prompts, share_N), by_claim("4.1", prompts, share_N)
    if rule == "eq20":  # claim 4.4 is about real quotas: what whole ones cost on these draws
        best_3 += np.array([1, 1, 0]) * np.mean(rounding)
    right_3, wrong_3 = (best_3, equal_3) if rule == "eq20" else (equal_3, best_3)
    return largest_z(
        mean_3, right_3, error_3, wrong_3,
        where=lambda i: ("in all", "within prompts", "between prompts")[i],
        arrays={"mean_3": mean_3, "error_3": error_3, "expected_3": right_3},
    )  # fmt: skip


def by_claim(number: str, prompts: Prompts, share_N: FloatArray) -> FloatArray:
    """Total variance of (16), its part within and its part between prompts, shape (3,)."""
    part = between_prompts(prompts, share_N)
    centre, square = float(share_N @ prompts.sigma_N), float(share_N @ prompts.sigma_N**2)
    if number == "4.1":
        at = {sigma: square**0.5, m: DRAWS, n: ROLLOUTS // DRAWS}
    else:
        at = {mean_sigma: centre, var_sigma: square - centre**2, m: DRAWS, budget: ROLLOUTS}
    whole, inside = (float(expected(number, "total", {**at, between: b})) for b in (part, 0.0))
    return np.array([whole, inside, whole - inside])


WORDS = {
    "eq20": "quotas of Eq. (20)",
    "uniform": "equal quotas",
    "gvm": "quotas of GVM",
    "random": "random quotas",
}
CHECKS = (
    *(
        Check(
            f"{kind}-{rule}",
            ("4.2", "5.1") if (kind, rule) == ("table", "eq20") else ("4.1", "5.1"),
            f"{'tables' if kind == 'table' else 'chains'}, given prompts, {WORDS[rule]}: "
            "measured variance",
            "equal quotas" if rule == "eq20" else "the minimum (4.2)",
            partial(_within, kind=kind, rule=rule),
            is_random=True,
        )
        for kind in ("table", "chain")
        for rule in RULES
    ),
    *(
        Check(
            f"drawn-{rule}",
            ("4.1" if rule == "uniform" else "4.4", "5.1", "3.1"),
            f"tables, {DRAWS} drawn prompts, {WORDS[rule]}: measured variance in all, within and "
            "between prompts",
            WORDS["eq20" if rule == "uniform" else "uniform"],
            partial(_drawn, rule=rule),
            is_random=True,
        )
        for rule in ("uniform", "eq20")
    ),
)
