r"""Plugging an estimated success rate into the potential: the bias at 4 pilots."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.beta_moments import expected_potential, half
from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.symbols import alpha, beta, n, p, potential

_root = sp.sqrt
_x = p * (1 - p)
frequency_bias = _root(3) * _x + (3 - 2 * _root(3)) * _x**2 - potential
mean_bias = (
    _root(5) / 6
    + (4 * _root(2) - 2 * _root(5)) / 3 * _x
    + (9 + _root(5) - 8 * _root(2)) / 3 * _x**2
    - potential
)
average_excess = (2 * _root(5) + 4 * _root(2) + 3) / 30 - sp.pi / 8
leading_bias = -1 / (8 * n * potential)


def binomial_chance(success: int, trials: int) -> sp.Expr:
    """Chance of so many right answers."""
    return sp.binomial(trials, success) * p**success * (1 - p) ** (trials - success)


def _plug_in(prior: int) -> sp.Expr:
    """Expected plugged-in potential at rate p after 4 pilots, ``prior`` pseudo-counts a side."""
    total = 4 + 2 * prior
    return sp.Add(
        *(
            binomial_chance(k, 4) * sp.sqrt((k + prior) * (total - k - prior)) / total
            for k in range(5)
        )
    )


def _prove_bias(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"The frequency $S/4$ plugged in, over $S = 1, 2, 3$, minus the potential.",
        _plug_in(0) - potential,
        f["frequency"],
    )
    yield Step(
        r"Its square is on average $\frac34 p(1-p)$; by Jensen's inequality at least the share $1 - "
        r"\sqrt{3/4} = 0.13$ of the potential is missing.",
        sp.Add(*(binomial_chance(k, 4) * sp.Rational(k * (4 - k), 16) for k in range(5))),
        sp.Rational(3, 4) * p * (1 - p),
    )
    yield Step(
        r"The posterior mean $(S+1)/6$ plugged in, over $S = 0, ..., 4$, minus the potential.",
        _plug_in(1) - potential,
        f["mean"],
    )
    yield Step(
        r"Uniform rates make $S$ uniform on $0, ..., 4$; the true potential averages $\pi/8$.",
        sp.UnevaluatedExpr(sp.Add(*(sp.sqrt((k + 1) * (5 - k)) for k in range(5)))) / 30
        - expected_potential.subs({alpha: 1, beta: 1}),
        f["average"],
    )
    yield Step(
        r"For many pilots and $p$ fixed, half the second derivative of the potential times "
        r"$\mathrm{Var}(S/n) = p(1-p)/n$ is the leading term of the frequency's bias (Taylor).",
        sp.diff(potential, p, 2) / 2 * p * (1 - p) / n,
        f["leading"],
    )


def _enumerate_bias(f: Formulas) -> Iterator[Exact]:
    outcomes = [[i >> k & 1 for k in range(4)] for i in range(16)]
    for rate in (sp.Rational(1, 50), sp.Rational(1, 10), half):
        for name, prior in (("frequency", 0), ("mean", 1)):
            mean = sum(
                rate ** sum(o) * (1 - rate) ** (4 - sum(o))
                * sp.sqrt((sum(o) + prior) * (4 - sum(o) + prior)) / (4 + 2 * prior)
                for o in outcomes
            )  # fmt: skip
            yield Exact(
                f"bias with the {'frequency' if prior == 0 else 'posterior mean'}, $p = {rate}$, "
                "all 16 outcomes",
                mean - sp.sqrt(rate * (1 - rate)),
                f[name].subs(p, rate),
            )
    yield Exact(
        "the posterior mean's excess near 0 has the sign opposite to that at 1/2",
        f["mean"].subs(p, sp.Rational(1, 50)) * f["mean"].subs(p, half),
        0,
        "<",
    )


def _sample_bias(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.random(100_000)
    mean_S = (rng.binomial(4, rate_S) + 1.0) / 6.0
    yield Estimate.of(
        "plugged-in minus true potential, uniform rates, posterior mean of 4 pilots",
        np.sqrt(mean_S * (1 - mean_S)) - np.sqrt(rate_S * (1 - rate_S)),
        expected=float(f["average"]),
        control=0.0,
        control_is="no bias",
    )
    share_S = rng.binomial(4, 0.1, 100_000) / 4.0
    yield Estimate.of(
        "frequency of 4 pilots plugged in, minus the potential, at $p = 0.1$",
        np.sqrt(share_S * (1 - share_S)) - 0.3,
        expected=float(f["frequency"].subs(p, sp.Rational(1, 10))),
        control=float(leading_bias.subs({p: sp.Rational(1, 10), n: 4})),
        control_is="leading term in $1/n$",
    )


CLAIMS = [
    Claim(
        number="7.5",
        source="Eq. (24) in Eq. (13)",
        title="Four pilots give a biased potential",
        status=Status.PROVED,
        statement=r"""After 4 pilots the estimated success rate is plugged into $\sqrt{p(1-p)}$.
With the frequency $S/4$ the bias at success rate $p$ is
$$<<frequency>>,$$
so that at least 13 % of the potential is missing at every $p$, and half of it at $p = 0.1$. With
the posterior mean $(S+1)/6$ it is
$$<<mean>>,$$
large and positive near 0 and 1 (a dead prompt keeps $\sqrt5/6 = 0.37$ of the possible $0.5$) and
negative in the middle ($-0.03$ at $p = \frac12$), so that the differences which the sampling
distribution lives on are flattened. Averaged over uniform rates it overstates by
$<<average>> \approx 0.045$, where the posterior expectation of 7.3 has no bias. With $n$ pilots the
frequency's bias is $<<leading>>$ to leading order, as $n \to \infty$ at fixed $p$. It takes more pilots
the nearer $p$ is to 0 or 1: where $p(1-p) < 1/(8n)$ this exceeds the potential itself, which is the
most that can be missing.""",
        formulas={
            "frequency": frequency_bias,
            "mean": mean_bias,
            "average": average_excess,
            "leading": leading_bias,
        },
        prove=_prove_bias,
        enumerate=_enumerate_bias,
        sample=_sample_bias,
    ),
]
