r"""Eq. 15-20: how many rollouts each drawn prompt should get.

The estimate (16) averages m prompts, prompt i over :math:`n_i` rollouts whose gradients have mean
:math:`g_i` and total variance :math:`\sigma_i^2` each; N is the sum of the quotas. Counterpart:
:mod:`cures.quota`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp
from scipy.optimize import minimize
from scipy.special import beta as beta_function

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step
from theory.outcomes import rational
from theory.splits import best_split, lowered_variance
from theory.symbols import alpha, beta, budget, m, n, p

sigma, total = sp.symbols("sigma s", positive=True)  # s: sum of the sigmas
mean_sigma, var_sigma = sp.symbols(r"\bar{\sigma} v", positive=True)  # over the drawn prompts
cv_sq = var_sigma / mean_sigma**2


# 4.2 -------------------------------------------------------------------------------------------


def _prove_optimum(f: Formulas) -> Iterator[Step]:
    price = sp.Symbol("lambda", positive=True)
    stationary = sigma / (m * sp.sqrt(price))
    yield Step(
        r"One prompt's term of the Lagrangian, $\sigma^2/(m^2 n) + \lambda n$, is stationary in $n$ at "
        r"$n = \sigma/(m\sqrt\lambda)$:",
        sp.Subs(sp.Derivative(sigma**2 / (m**2 * n) + price * n, n), n, stationary),
        0,
    )
    yield Step(
        r"These quotas add up to $s/(m\sqrt\lambda)$, hence to $N$ iff $\sqrt\lambda = s/(mN)$:",
        sp.Subs(stationary, price, (total / (m * budget)) ** 2),
        f["quota"],
    )
    yield Step(
        r"Each prompt then has the share $\sigma/s$ of the minimum,",
        sp.Subs(sigma**2 / (m**2 * n), n, f["quota"]),
        sigma / total * f["minimum"],
    )
    slope = sp.Symbol("c", positive=True)
    yield Step(
        r"and no quotas do better: for any $n, c > 0$ (with equality iff $n = \sigma/c$)",
        sigma**2 / n,
        2 * slope * sigma - slope**2 * n,
        certificate=(sigma - slope * n) ** 2 / n,
    )
    yield Step(
        r"and over the prompts $2c\sigma - c^2 n$ adds up to $2cs - c^2 N$, which at $c = s/N$ is $m^2$ "
        r"times the minimum:",
        sp.Subs(2 * slope * total - slope**2 * budget, slope, total / budget),
        m**2 * f["minimum"],
    )


def _enumerate_optimum(f: Formulas) -> Iterator[Exact]:
    for sigma_B, rollouts in (((1, 2, 3), 12), ((1, 1, 4), 12), ((2, 3), 10)):
        best = best_split(lowered_variance(sigma_B), rollouts, len(sigma_B), 1)
        yield Exact(
            rf"$\sigma = {sigma_B}$, $N = {rollouts}$: least variance of all splits",
            -rational(lowered_variance(sigma_B)(best)) / len(sigma_B) ** 2,
            f["minimum"].subs({total: sum(sigma_B), m: len(sigma_B), budget: rollouts}),
        )
        yield Exact(
            "its last quota",
            best[-1],
            f["quota"].subs({sigma: sigma_B[-1], total: sum(sigma_B), budget: rollouts}),
        )


def _sample_optimum(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    sigma_B, rollouts = rng.uniform(0.1, 1.0, 6), 48.0

    def variance(quota_B: np.ndarray) -> float:
        return float((sigma_B**2 / quota_B).sum()) / sigma_B.size**2

    def of_logits(theta_B: np.ndarray) -> float:
        share_B = np.exp(theta_B - theta_B.max())
        return variance(rollouts * share_B / share_B.sum())

    found = minimize(of_logits, np.zeros(6), method="BFGS", options={"gtol": 1e-12})
    at = {total: sigma_B.sum(), m: 6, budget: rollouts}
    by_formula = np.array([float(f["quota"].subs({**at, sigma: s})) for s in sigma_B])
    for what, claimed in (("minimum", f["minimum"].subs(at)), ("quotas", variance(by_formula))):
        yield Search(
            f"six random prompts, 48 rollouts, real quotas: variance, by the formula of the {what}",
            claimed=float(claimed),
            found=float(found.fun),
            control=variance(rollouts * sigma_B**2 / (sigma_B**2).sum()),
            control_is=r"quotas in proportion to $\sigma^2$",
            sense="min",
        )
    sigma_3 = np.array([1.0, 2.0, 3.0])
    at = {total: 6, m: 3, budget: 12}
    quota_3 = [int(f["quota"].subs({**at, sigma: int(s)})) for s in sigma_3]
    mean_S = sum(
        s * rng.normal(size=(100_000, k)).mean(axis=1)
        for s, k in zip(sigma_3, quota_3, strict=True)
    )
    yield Estimate.of(
        r"$\sigma = 1, 2, 3$, twelve rollouts by (20): squared error of (16)",
        np.asarray(mean_S / 3) ** 2,
        expected=float(f["minimum"].subs(at)),
        control=float((sigma_3**2 / 4).sum()) / 9,
        control_is="equal quotas",
    )


# 4.3 -------------------------------------------------------------------------------------------


def _prove_gain(f: Formulas) -> Iterator[Step]:
    squares = m * (mean_sigma**2 + var_sigma)
    yield Step(
        r"Equal quotas $N/m$ have the variance $\sum\sigma^2/(mN)$. With $\bar\sigma$ and $v$ the "
        r"mean and the variance of the $\sigma$ of the drawn prompts, divided by the minimum it is",
        (squares / (m * budget)) / ((m * mean_sigma) ** 2 / (m**2 * budget)),
        f["gain"],
    )
    root = sp.Rational(1, 2)
    moment = sp.gamma(alpha + root) * sp.gamma(beta + root) / sp.gamma(alpha + beta + 1)
    mean = moment / (sp.gamma(alpha) * sp.gamma(beta) / sp.gamma(alpha + beta))
    mean_square = alpha * beta / ((alpha + beta) * (alpha + beta + 1))
    yield Step(
        r"If $\sigma = \sqrt{p(1-p)}$ and $p$ is spread like Beta$(\alpha,\beta)$, then "
        r"$\mathbb{E}\,\sigma = B(\alpha+\frac12, \beta+\frac12)/B(\alpha,\beta)$ and "
        r"$\mathbb{E}\,\sigma^2/(\mathbb{E}\,\sigma)^2$ is",
        mean_square / mean**2,
        f["gain_beta"],
    )
    square = sp.Integral(p * (1 - p), (p, 0, 1))
    yield Step(
        "For uniformly spread success rates, by direct integration:",
        square / sp.Integral(sp.sqrt(p * (1 - p)), (p, 0, 1)) ** 2,
        sp.Subs(f["gain_beta"], (alpha, beta), (1, 1)),
    )


def _enumerate_gain(f: Formulas) -> Iterator[Exact]:
    for sigma_B in ((1, 2, 3), (1, 1, 7), (3, 4)):
        size = len(sigma_B)
        mean = sp.Rational(sum(sigma_B), size)
        square = sp.Rational(sum(s * s for s in sigma_B), size)
        yield Exact(
            rf"$\sigma = {sigma_B}$: variance of equal quotas over the minimum",
            sp.Rational(size * sum(s * s for s in sigma_B), sum(sigma_B) ** 2),
            f["gain"].subs({mean_sigma: mean, var_sigma: square - mean**2}),
        )
    angle = sp.Symbol("phi", positive=True)
    weight = 2 / sp.pi
    product_ = sp.sin(angle) * sp.cos(angle)
    bounds = (angle, 0, sp.pi / 2)
    yield Exact(
        r"Beta$(1/2, 1/2)$, that is $p = \sin^2\varphi$ with $\varphi$ uniform, by integration",
        weight * sp.integrate(product_**2, bounds) / (weight * sp.integrate(product_, bounds)) ** 2,
        f["gain_beta"].subs({alpha: sp.Rational(1, 2), beta: sp.Rational(1, 2)}),
    )


def _sample_gain(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    a, b = 0.6, 1.4
    rate_S = rng.beta(a, b, 40_000)
    mean = beta_function(a + 0.5, b + 0.5) / beta_function(a, b)
    yield Estimate.of(
        r"$\sigma^2/(\mathbb{E}\,\sigma)^2$, $p$ drawn from Beta$(.6, 1.4)$",
        rate_S * (1 - rate_S) / mean**2,
        expected=float(f["gain_beta"].subs({alpha: a, beta: b})),
        control=float(32 / (3 * np.pi**2)),
        control_is="gain for uniformly spread rates",
    )


CLAIMS = [
    Claim(
        number="4.2",
        source="Eq. (20)",
        title="Quotas in proportion to sigma, and the minimum",
        status=Status.PROVED,
        statement=r"""
Let all $\sigma_i > 0$. Among all positive real quotas with sum $N$, the variance given the drawn
prompts (4.1) is least at $n_i = <<quota>>$, with $s = \sum_j\sigma_j$, and only there. The minimum is
$$<<minimum>>.$$""",
        formulas={"quota": budget * sigma / total, "minimum": total**2 / (m**2 * budget)},
        prove=_prove_optimum,
        enumerate=_enumerate_optimum,
        sample=_sample_optimum,
    ),
    Claim(
        number="4.3",
        source="Eq. (20)",
        title="Gain over equal quotas",
        status=Status.PROVED,
        statement=r"""
Given the drawn prompts, equal quotas $N/m$ have $<<gain>>$ times the minimum (4.2), one plus the squared
coefficient of variation of $\sigma$ over the drawn prompts ($\bar\sigma$ its mean, $v$ its variance).
For many prompts with $\sigma = \sqrt{p(1-p)}$ and $p$ spread like Beta$(\alpha, \beta)$ this tends to
$$<<gain_beta>>.$$
Uniformly spread rates give $32/(3\pi^2) \approx 1.081$: equal quotas cost eight percent there, and
that is all (20) can gain. Beta$(1/2, 1/2)$ gives $\pi^2/8 \approx 1.234$.""",
        formulas={
            "gain": 1 + cv_sq,
            "gain_beta": alpha
            * beta
            * (alpha + beta)
            * (sp.gamma(alpha) * sp.gamma(beta)) ** 2
            / (alpha + beta + 1)
            / (sp.gamma(alpha + sp.Rational(1, 2)) * sp.gamma(beta + sp.Rational(1, 2))) ** 2,
        },
        prove=_prove_gain,
        enumerate=_enumerate_gain,
        sample=_sample_gain,
    ),
]
