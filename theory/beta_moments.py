r"""Expectations under a Beta law: the expected potential, variance of a reward, chance of a mixed group.

Everything rests on the Beta integral; :func:`moment` is its ratio for shifted exponents. The functions
that enumerate do without it: polynomials are integrated term by term, and the square root disappears
under :math:`p = \sin^2 t`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.symbols import alpha, beta, n, p, potential

half = sp.Rational(1, 2)


def beta_integral(x: sp.Expr, y: sp.Expr) -> sp.Expr:
    """``B(x, y)``, the integral of ``p^(x-1) (1-p)^(y-1)`` over (0, 1), in Gamma functions."""
    return sp.gamma(x) * sp.gamma(y) / sp.gamma(x + y)


def moment(right: sp.Expr | int, wrong: sp.Expr | int) -> sp.Expr:
    """``E p^right (1-p)^wrong`` for p ~ Beta(alpha, beta), as a ratio of Beta integrals."""
    return beta_integral(alpha + right, beta + wrong) / beta_integral(alpha, beta)


def mean_by_integration(polynomial: sp.Expr, counts: tuple[int, int]) -> sp.Rational:
    """Expectation of a polynomial in p under a Beta law with whole counts, term by term."""
    density = p ** (counts[0] - 1) * (1 - p) ** (counts[1] - 1)
    whole, mass = (
        sp.integrate(sp.expand(integrand), (p, 0, 1))
        for integrand in (polynomial * density, density)
    )
    return sp.Rational(whole / mass)


def potential_by_fourier(counts: tuple[int, int]) -> sp.Expr:
    r"""Expected potential under a Beta law with whole counts, a rational multiple of pi.

    With :math:`p = \sin^2 t` the integral is that of :math:`2 \sin^{2a} t \cos^{2b} t` over a quarter
    turn: a quarter of 2 pi times the constant Fourier coefficient.
    """
    z = sp.Symbol("z")
    sine_sq, cosine_sq = -((z**2 - 1) ** 2), (z**2 + 1) ** 2  # times (2z)^2, z = exp(i t)
    a, b = counts
    product = sp.Poly(sine_sq**a * cosine_sq**b, z)
    constant = product.coeff_monomial(z ** (2 * (a + b))) / sp.Integer(4) ** (a + b)
    mass = sp.integrate(sp.expand(p ** (a - 1) * (1 - p) ** (b - 1)), (p, 0, 1))
    return sp.pi * constant / mass


# Gamma(x + 1/2) / Gamma(x) for either count: the form in which `cures` computes it
expected_potential = (
    sp.gamma(alpha + half)
    * sp.gamma(beta + half)
    / (sp.gamma(alpha) * sp.gamma(beta) * (alpha + beta))
)
expected_variance = alpha * beta / ((alpha + beta) * (alpha + beta + 1))
expected_mixed = 1 - moment(n, 0) - moment(0, n)


def _prove_potential(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"The potential raises both exponents of the Beta density by $1/2$; the Beta integral.",
        sp.Integral(p ** (alpha - half) * (1 - p) ** (beta - half), (p, 0, 1)),
        beta_integral(alpha + half, beta + half),
    )
    yield Step(
        r"Divided by $B(\alpha, \beta)$, with $\Gamma(\alpha + \beta + 1) = (\alpha + \beta)"
        r"\Gamma(\alpha + \beta)$.",
        beta_integral(alpha + half, beta + half) / beta_integral(alpha, beta),
        f["potential"],
    )
    rate = alpha / (alpha + beta)
    grown = f["potential"].subs(alpha, alpha + 1)
    yield Step(
        r"With one more right answer in the counts it changes by a rational factor, so posteriors are "
        r"updated without any Gamma function.",
        grown / f["potential"],
        f["factor"],
    )
    yield Step(
        r"Averaged over the answer to one more rollout it stays what it is.",
        rate * f["factor"] * f["potential"]
        + (1 - rate)
        * f["factor"].subs({alpha: beta, beta: alpha}, simultaneous=True)
        * f["potential"],
        f["potential"],
    )


def _enumerate_potential(f: Formulas) -> Iterator[Exact]:
    for counts in ((1, 1), (1, 5), (3, 3), (4, 2)):
        yield Exact(
            rf"$\alpha, \beta = {counts[0]}, {counts[1]}$, by the Fourier coefficient",
            potential_by_fourier(counts),
            f["potential"].subs({alpha: counts[0], beta: counts[1]}),
        )
    yield Exact(
        r"$\alpha = \beta = 1/2$: the root cancels the density, the density integrates to $\pi$",
        1 / sp.integrate(1 / sp.sqrt(p * (1 - p)), (p, 0, 1)),
        f["potential"].subs({alpha: half, beta: half}),
    )
    yield Exact(
        r"factor at $\alpha, \beta = 2, 3$",
        potential_by_fourier((3, 3)) / potential_by_fourier((2, 3)),
        f["factor"].subs({alpha: 2, beta: 3}),
    )


def _sample_potential(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.beta(1.0, 5.0, 100_000)
    yield Estimate.of(
        r"$\sqrt{p(1-p)}$ after 0 right of 4, uniform prior",
        np.sqrt(rate_S * (1 - rate_S)),
        expected=float(f["potential"].subs({alpha: 1, beta: 5})),
        control=float(potential.subs(p, sp.Rational(1, 6))),
        control_is="at the posterior mean",
    )


def _prove_friends(f: Formulas) -> Iterator[Step]:
    yield Step(r"$p(1-p)$ raises both exponents by 1.", moment(1, 1), f["variance"])
    yield Step(
        r"$p^n$ and $(1-p)^n$ each raise one exponent by $n$.",
        1 - moment(n, 0) - moment(0, n),
        f["mixed"],
        name=r"1 - \mathbb{E}\,p^n - \mathbb{E}(1-p)^n",
    )
    yield Step(
        r"A group becomes mixed at rollout $n + 1$ iff the first $n$ agree and the last does not: "
        r"$\mathbb{E}[p^n (1-p) + (1-p)^n p]$. Summed from $n = 1$ on, this is the form without "
        r"cancellation.",
        moment(n, 1) + moment(1, n),
        f["mixed"].subs(n, n + 1) - f["mixed"],
    )
    yield Step(
        r"For uniform rates the chance is $(n-1)/(n+1)$.",
        sp.expand_func(f["mixed"].subs({alpha: 1, beta: 1})),
        (n - 1) / (n + 1),
    )
    yield Step(
        r"Two rollouts: $1 - p^2 - (1-p)^2 = 2 p (1-p)$.",
        f["mixed"].subs(n, 2),
        2 * f["variance"],
    )


def _enumerate_friends(f: Formulas) -> Iterator[Exact]:
    for counts in ((1, 1), (2, 5), (4, 1)):
        at = {alpha: counts[0], beta: counts[1]}
        where = rf"$\alpha, \beta = {counts[0]}, {counts[1]}$"
        yield Exact(
            rf"$\mathbb{{E}}\,p(1-p)$, {where}",
            mean_by_integration(p * (1 - p), counts),
            f["variance"].subs(at),
        )
        for size in (2, 5):
            mixed = sp.Add(
                *(sp.binomial(size, s) * p**s * (1 - p) ** (size - s) for s in range(1, size))
            )
            yield Exact(
                rf"$P(0 < S < {size})$, {where}",
                mean_by_integration(mixed, counts),
                f["mixed"].subs({**at, n: size}),
            )


def _sample_friends(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.beta(1.0, 3.0, 100_000)
    success_S = rng.binomial(8, rate_S)
    yield Estimate.of(
        "groups of 8 that are mixed, rates from Beta(1, 3)",
        ((success_S > 0) & (success_S < 8)).astype(np.float64),
        expected=float(f["mixed"].subs({alpha: 1, beta: 3, n: 8})),
        control=1 - 0.25**8 - 0.75**8,
        control_is="at the mean rate 1/4",
    )
    yield Estimate.of(
        r"$p(1-p)$, rates from Beta(1, 3)",
        rate_S * (1 - rate_S),
        expected=float(f["variance"].subs({alpha: 1, beta: 3})),
        control=3 / 16,
        control_is="at the mean rate 1/4",
    )


CLAIMS = [
    Claim(
        number="7.3",
        source="not in the paper",
        title="Expected potential under a Beta posterior, in closed form",
        status=Status.PROVED,
        statement=r"""If $p \sim \mathrm{Beta}(\alpha, \beta)$, the prompt's potential (11) has the
expectation
$$\mathbb{E}\sqrt{p(1-p)} = <<potential>>.$$
One more right answer multiplies it by $<<factor>>$, a wrong one by the same with $\alpha$ and
$\beta$ exchanged, and on average over the answer it does not change: it is a martingale, as the
mean is. The paper's $\sqrt{m(1-m)}$ at the posterior mean $m$ is not (claim 7.5).""",
        formulas={
            "potential": expected_potential,
            "factor": (alpha + half) * (alpha + beta) / (alpha * (alpha + beta + 1)),
        },
        prove=_prove_potential,
        enumerate=_enumerate_potential,
        sample=_sample_potential,
    ),
    Claim(
        number="7.4",
        source="not in the paper",
        title="Expected reward variance and chance of a mixed group",
        status=Status.PROVED,
        statement=r"""If $p \sim \mathrm{Beta}(\alpha, \beta)$, then
$$\mathbb{E}\,p(1-p) = <<variance>>,$$
and a group of $n$ rollouts holds both right and wrong answers with probability
$$<<mixed>>.$$""",
        formulas={"variance": expected_variance, "mixed": expected_mixed},
        prove=_prove_friends,
        enumerate=_enumerate_friends,
        sample=_sample_friends,
    ),
]
