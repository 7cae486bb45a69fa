r"""The Beta posterior of a success rate: conjugacy, and what more rollouts do to it.

s right answers out of n turn Beta(alpha, beta) into Beta(alpha + s, beta + n - s). The claims about its
moments, the plugged-in potential, pilots and forgetting are in the modules of these names.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.beta_moments import beta_integral, mean_by_integration, moment
from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.symbols import alpha, beta, n, p

s = sp.Symbol("s", integer=True, nonnegative=True)  # right answers among n

success_count = alpha + s
failure_count = beta + n - s
posterior_mean = (alpha + s) / (alpha + beta + n)
rate_variance = alpha * beta / ((alpha + beta) ** 2 * (alpha + beta + 1))


def _prove_conjugacy(f: Formulas) -> Iterator[Step]:
    likelihood = sp.binomial(n, s) * p**s * (1 - p) ** (n - s)
    prior = p ** (alpha - 1) * (1 - p) ** (beta - 1) / beta_integral(alpha, beta)
    yield Step(
        r"The chance of $s$ right answers: likelihood times prior is again of this form, with the "
        r"exponents raised by $s$ and $n - s$; the ratio of two Beta integrals.",
        sp.binomial(n, s) * moment(s, n - s),
        f["evidence"],
        name=r"P(S = s)",
    )
    right, wrong = f["right"], f["wrong"]
    yield Step(
        r"Bayes' rule: likelihood times prior over evidence is the density of the Beta law with the "
        r"new counts.",
        likelihood * prior / f["evidence"],
        p ** (right - 1) * (1 - p) ** (wrong - 1) / beta_integral(right, wrong),
    )
    yield Step(
        r"Its mean is a ratio of two Beta integrals.",
        beta_integral(right + 1, wrong) / beta_integral(right, wrong),
        f["mean"],
    )
    weight = (alpha + beta) / (alpha + beta + n)
    yield Step(
        r"That is the prior mean and the frequency $s/n$, weighted by $\alpha + \beta$ and $n$.",
        weight * alpha / (alpha + beta) + (1 - weight) * s / n,
        f["mean"],
    )
    yield Step(
        r"The Beta integral, used above as a product of Gamma functions.",
        sp.Integral(p ** (alpha - 1) * (1 - p) ** (beta - 1), (p, 0, 1)),
        beta_integral(alpha, beta),
    )


def _enumerate_conjugacy(f: Formulas) -> Iterator[Exact]:
    for counts, trials in (((1, 1), 4), ((2, 3), 3)):
        at = {alpha: counts[0], beta: counts[1], n: trials}
        for success in range(trials + 1):
            likelihood = sp.binomial(trials, success) * p**success * (1 - p) ** (trials - success)
            evidence = mean_by_integration(likelihood, counts)
            where = rf"$s = {success}$ of {trials}, prior Beta({counts[0]}, {counts[1]})"
            yield Exact(f"chance of {where}", evidence, f["evidence"].subs({**at, s: success}))
            yield Exact(
                f"mean after {where}",
                mean_by_integration(p * likelihood, counts) / evidence,
                f["mean"].subs({**at, s: success}),
            )


def _sample_conjugacy(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.beta(2.0, 3.0, 200_000)
    success_S = rng.binomial(5, rate_S)
    at = {alpha: 2, beta: 3, n: 5, s: 1}
    yield Estimate.of(
        "rates of the prompts with 1 right of 5, prior Beta(2, 3)",
        rate_S[success_S == 1],
        expected=float(f["mean"].subs(at)),
        control=0.2,
        control_is="the frequency",
    )
    yield Estimate.of(
        "prompts with 1 right of 5, prior Beta(2, 3)",
        (success_S == 1).astype(np.float64),
        expected=float(f["evidence"].subs(at)),
        control=5 * 0.4 * 0.6**4,
        control_is="binomial at the prior mean",
    )


def _prove_martingale(f: Formulas) -> Iterator[Step]:
    total = alpha + beta + n
    mean, square, both = (
        alpha / (alpha + beta),
        alpha * (alpha + 1) / ((alpha + beta) * (alpha + beta + 1)),
        alpha * beta / ((alpha + beta) * (alpha + beta + 1)),
    )
    for words, powers, value in (
        (r"$\mathbb{E}\,p$", (1, 0), mean),
        (r"$\mathbb{E}\,p^2$", (2, 0), square),
        (r"$\mathbb{E}\,p(1-p)$", (1, 1), both),
    ):
        yield Step(rf"A ratio of two Beta integrals: {words}.", moment(*powers), value)
    yield Step(
        r"$\mathbb{E}\,S = n\,\mathbb{E}\,p$, so the posterior mean $(\alpha + S)/(\alpha + \beta "
        r"+ n)$ has the expectation",
        (alpha + n * mean) / total,
        f["mean"],
    )
    yield Step(
        r"$\mathrm{Var}\,S = n\,\mathbb{E}[p(1-p)] + n^2\,\mathrm{Var}\,p$; divided by $(\alpha + "
        r"\beta + n)^2$ it is the variance of the posterior mean.",
        (n * both + n**2 * (square - mean**2)) / total**2,
        f["moved"],
    )
    yield Step(
        r"What is left is the expected posterior variance: first by the law of total variance,",
        square - mean**2 - f["moved"],
        f["left"],
    )
    success_sq = n * both + n**2 * square
    product = alpha * (beta + n) + (beta + n - alpha) * n * mean - success_sq
    yield Step(
        r"then directly, from $\mathbb{E}[(\alpha + S)(\beta + n - S)]$ over "
        r"$(\alpha + \beta + n)^2 (\alpha + \beta + n + 1)$.",
        product / (total**2 * (total + 1)),
        f["left"],
    )


def _enumerate_martingale(f: Formulas) -> Iterator[Exact]:
    for counts, trials in (((1, 1), 4), ((1, 3), 5)):
        at = {alpha: counts[0], beta: counts[1], n: trials}
        chance, mean, square = [], [], []
        for success in range(trials + 1):
            likelihood = sp.binomial(trials, success) * p**success * (1 - p) ** (trials - success)
            evidence = mean_by_integration(likelihood, counts)
            chance.append(evidence)
            mean.append(mean_by_integration(p * likelihood, counts) / evidence)
            square.append(mean_by_integration(p**2 * likelihood, counts) / evidence)
        rows = list(zip(chance, mean, square, strict=True))
        centre = mean_by_integration(p, counts)
        where = rf"$n = {trials}$, prior Beta({counts[0]}, {counts[1]})"
        yield Exact(
            f"mean of the mean, {where}", sum(c * x for c, x, _ in rows), f["mean"].subs(at)
        )
        yield Exact(
            f"variance of the mean, {where}",
            sum(c * (x - centre) ** 2 for c, x, _ in rows),
            f["moved"].subs(at),
        )
        yield Exact(
            f"expected posterior variance, {where}",
            sum(c * (y - x**2) for c, x, y in rows),
            f["left"].subs(at),
        )


def _sample_martingale(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.beta(1.0, 3.0, 100_000)
    mean_S = np.asarray((1.0 + rng.binomial(4, rate_S)) / 8.0, dtype=np.float64)
    at = {alpha: 1, beta: 3, n: 4}
    yield Estimate.of(
        "posterior mean after 4 rollouts, prior Beta(1, 3)",
        mean_S,
        expected=float(f["mean"].subs(at)),
        control=(1 + 4 * 0.25) / 7,
        control_is="one pseudo-count too few",
    )
    yield Estimate.of(
        r"$(m - p)^2$ after 4 rollouts, prior Beta(1, 3)",
        (mean_S - rate_S) ** 2,
        expected=float(f["left"].subs(at)),
        control=float(rate_variance.subs(at)),
        control_is="nothing learned",
    )
    yield Estimate.of(
        r"$(m - \mathbb{E}\,p)^2$ after 4 rollouts, prior Beta(1, 3)",
        (mean_S - 0.25) ** 2,
        expected=float(f["moved"].subs(at)),
        control=3 / 64,
        control_is="variance of a frequency at the mean rate",
    )


CLAIMS = [
    Claim(
        number="7.1",
        source="Eq. (22)-(24)",
        title="Counts of right and wrong answers update a Beta law",
        status=Status.PROVED,
        statement=r"""Let $p \sim \mathrm{Beta}(\alpha, \beta)$ and let $s$ of $n$ independent
rollouts be right. Then the posterior is the Beta law with counts $<<right>>$ and $<<wrong>>$, and
its mean is $<<mean>>$. Seen before the rollouts, $s$ right answers have probability
$$<<evidence>>.$$""",
        formulas={
            "right": success_count,
            "wrong": failure_count,
            "mean": posterior_mean,
            "evidence": sp.binomial(n, s)
            * beta_integral(alpha + s, beta + n - s)
            / beta_integral(alpha, beta),
        },
        prove=_prove_conjugacy,
        enumerate=_enumerate_conjugacy,
        sample=_sample_conjugacy,
    ),
    Claim(
        number="7.2",
        source="Eq. (24)",
        title="The posterior mean is a martingale",
        status=Status.PROVED,
        statement=r"""Let $p \sim \mathrm{Beta}(\alpha, \beta)$. As long as the policy stands still,
$n$ more rollouts leave the posterior mean where it is on average, at $<<mean>>$. They move it with
variance
$$<<moved>>,$$
which is what the expected posterior variance loses; it becomes
$$<<left>>.$$
A share $(\alpha + \beta)/(\alpha + \beta + n)$ of the uncertainty survives: after 4 pilots on a
uniform prior, one third.""",
        formulas={
            "mean": alpha / (alpha + beta),
            "moved": rate_variance * n / (alpha + beta + n),
            "left": rate_variance * (alpha + beta) / (alpha + beta + n),
        },
        prove=_prove_martingale,
        enumerate=_enumerate_martingale,
        sample=_sample_martingale,
    ),
]
