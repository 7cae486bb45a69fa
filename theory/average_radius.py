r"""Many prompts at a radius that is not infinitesimal: what becomes of the corrected bound of 2.2.

Counterpart of :mod:`theory.finite_radius`. The exact optimum is computed by
:func:`theory.trust_region.exact_dataset_improvement`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from theory.average_bound import mean_variance
from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.decide import solution
from theory.exact_problem import kl
from theory.finite_radius import corrected as corrected_of_one
from theory.finite_radius import exact_ratio as ratio_of_one
from theory.finite_radius import lean
from theory.rewards import drawn_improvements
from theory.symbols import delta, p, share
from theory.trust_region import exact_dataset_improvement

lowest = sp.Symbol("ell", nonnegative=True)  # largest 1 - 2p of the pool, at least 0
mean_lean = sp.Symbol("k", real=True)  # E_rho[(1 - 2p) p (1-p)]

any_radius = 2 * lowest * delta / 3 + sp.sqrt(
    2 * delta * mean_variance + (2 * lowest * delta / 3) ** 2
)
exact_ratio = 1 + mean_lean / (3 * mean_variance) * sp.sqrt(2 * delta / mean_variance)


# -- 2.4 any radius --------------------------------------------------------------------------------


def _prove_radius(f: Formulas) -> Iterator[Step]:
    e_1, e_2, w_1, w_2 = sp.symbols("e_1 e_2 w_1 w_2", positive=True)
    yield Step(
        r"A fall of a success rate, undone, lowers the divergence and raises the average: let all rises "
        r"$e = q - p \ge 0$. Those of prompts at $p = 1$ are $0$; for the others 1.8 has "
        r"$\mathrm{kl} \ge e^2/(2w)$ with $w = p(1-p) + \tfrac23(1-2p)e$, which is positive unless "
        r"$e = 0$ at $p = 0$. Averages obey $(\mathbb{E}\,e)^2 \le "
        r"\mathbb{E}[e^2/w]\,\mathbb{E}\,w$ (Cauchy and Schwarz; here for two prompts).",
        (share * e_1**2 / w_1 + (1 - share) * e_2**2 / w_2) * (share * w_1 + (1 - share) * w_2),
        (share * e_1 + (1 - share) * e_2) ** 2,
        certificate=share * (1 - share) * (e_1 * w_2 - e_2 * w_1) ** 2 / (w_1 * w_2),
    )
    yield Step(
        r"The first factor is at most $2\delta$, the second at most $\bar v + \tfrac23 \ell\, "
        r"\mathbb{E}\,e$. So $\mathbb{E}\,e$ is at most the positive root of",
        f["any"] ** 2,
        2 * delta * (mean_variance + 2 * lowest * f["any"] / 3),
    )
    s = sp.Symbol("s", positive=True)  # improvement per unit of price
    variance = p * (1 - p)
    rise = variance * s + lean * variance * s**2
    yield Step(
        r"The exact optimum satisfies $e = s\, q(1-q)$ with $q = p + e$ and one $s$ for all prompts "
        r"(derivative of the divergence, 1.5). To second order in $s$ the solution is $e = p(1-p)s + "
        r"(1-2p)p(1-p)s^2$, for at this $e$, to that order, the right side is",
        sp.collect(sp.series(s * (p + rise) * (1 - p - rise), s, 0, 3).removeO(), s, sp.factor),
        rise,
        name=r"s\, q (1 - q)",
    )
    taylor = rise**2 / (2 * variance) - lean * rise**3 / (3 * variance**2)
    yield Step(
        r"Its divergence, by the series of 1.7, to third order.",
        sp.collect(sp.expand(sp.series(taylor, s, 0, 4).removeO()), s, sp.factor),
        variance * s**2 / 2 + 2 * lean * variance * s**3 / 3,
        name=r"\mathrm{kl}(p, p + e)",
    )
    t, b = sp.symbols("t b", positive=True)
    spent = mean_variance * s**2 / 2 + 2 * mean_lean * s**3 / 3
    order = sp.expand(spent.subs(s, t * (1 - b * t))).coeff(t, 3)
    found = solution(order, b)
    gained = sp.expand((mean_variance * s + mean_lean * s**2).subs(s, t * (1 - found * t)))
    yield Step(
        r"On average, with $k$ as above, the divergence is $\delta$ to third order for $s = t - b t^2$, "
        r"$t = \sqrt{2\delta/\bar v}$, and",
        found,
        2 * mean_lean / (3 * mean_variance),
        name="b",
    )
    yield Step(
        r"The improvement over $\bar v t$, which is the corrected bound, to first order in $t$.",
        sp.expand((gained.coeff(t, 1) + gained.coeff(t, 2) * t) / mean_variance).subs(
            t, sp.sqrt(2 * delta / mean_variance)
        ),
        f["ratio"],
        name=r"\frac{\bar v s + k s^2}{\bar v t}",
    )


def _enumerate_radius(f: Formulas) -> Iterator[Exact]:
    rate = sp.Rational(1, 5)
    at = {mean_variance: rate * (1 - rate), delta: sp.Rational(1, 50)}
    yield Exact(
        r"prompts all at $p = 1/5$, $\delta = 1/50$: the bound 1.8 on one of them, and this one",
        corrected_of_one.subs({p: rate, delta: at[delta]}),
        f["any"].subs({**at, lowest: lean.subs(p, rate)}),
    )
    yield Exact(
        "the same prompts: the next order by 1.7 of one of them, and by this claim",
        ratio_of_one.subs({p: rate, delta: at[delta]}),
        f["ratio"].subs({**at, mean_lean: (lean * p * (1 - p)).subs(p, rate)}),
    )
    rates = (sp.Rational(1, 100), sp.Rational(1, 2))
    raised = (sp.Rational(11, 100), sp.Rational(20, 100))
    radius = sp.Rational(1, 11)
    pool = {mean_variance: sum(r * (1 - r) for r in rates) / 2, delta: radius}
    yield Exact(
        r"$p = 1/100$ and $1/2$ raised by $0.11$ and $0.2$: average divergence, below $\delta = 1/11$",
        sum(kl(r, r + e) for r, e in zip(rates, raised, strict=True)) / 2,
        radius, relation="<",
    )  # fmt: skip
    yield Exact(
        r"average improvement by these steps, below the bound for $\delta = 1/11$",
        sum(raised) / 2, f["any"].subs({**pool, lowest: 1 - 2 * rates[0]}), relation="<",
    )  # fmt: skip
    yield from _enumerate_series(f)


def _enumerate_series(f: Formulas) -> Iterator[Exact]:
    """The next order, from power series in rationals with the terms up to s^3 of every prompt."""
    pool = (
        (Fraction(1, 5), Fraction(1, 2)),
        (Fraction(1, 2), Fraction(1, 4)),
        (Fraction(9, 10), Fraction(1, 4)),
    )
    divergence = [Fraction(0)] * 4
    improvement = [Fraction(0)] * 3
    for rate, weight in pool:
        v = rate * (1 - rate)
        # e = s q (1-q), iterated from e = 0: coefficients of s and s^2
        e = (Fraction(0), v, (1 - 2 * rate) * v)
        # kl(p, p+e) = sum_k e^k (p (-1/p)^k + (1-p) (1/(1-p))^k) / k
        c_2, c_3 = ((rate * (-1 / rate) ** k + (1 - rate) ** (1 - k)) / k for k in (2, 3))
        divergence[2] += weight * c_2 * e[1] ** 2
        divergence[3] += weight * (c_2 * 2 * e[1] * e[2] + c_3 * e[1] ** 3)
        improvement[1] += weight * e[1]
        improvement[2] += weight * e[2]
    # s = t + b t^2 keeps the divergence at divergence[2] t^2
    b = -divergence[3] / (2 * divergence[2])
    next_order = (improvement[2] + improvement[1] * b) / improvement[1]
    mean = sum(w * r * (1 - r) for r, w in pool)
    leaning = sum(w * (1 - 2 * r) * r * (1 - r) for r, w in pool)
    t = sp.Rational(1, 10)  # sqrt(2 delta / v)
    yield Exact(
        r"$p = 1/5, 1/2, 9/10$ with shares $1/2, 1/4, 1/4$, $\delta = \bar v/200$: next order from "
        r"power series",
        1 + sp.Rational(next_order) * t,
        f["ratio"].subs(
            {
                mean_variance: sp.Rational(mean),
                mean_lean: sp.Rational(leaning),
                delta: sp.Rational(mean) * t**2 / 2,
            }
        ),
    )


def _sample_radius(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate_N, prob_N, radius = rng.uniform(0.02, 0.4, 6), rng.dirichlet(np.full(6, 3.0)), 1e-9
    variance = float(prob_N @ (rate_N * (1.0 - rate_N)))
    leaning = float(prob_N @ ((1.0 - 2.0 * rate_N) * rate_N * (1.0 - rate_N)))
    leading = np.sqrt(2.0 * radius * variance)
    yield Search(
        r"six prompts with $p < 0.4$, $\delta = 10^{-9}$: exact optimum over the corrected bound of 2.2",
        float(numeric(f["ratio"], (mean_variance, mean_lean, delta))(variance, leaning, radius)),
        exact_dataset_improvement(rate_N, radius, prob_N)[0] / leading,
        1.0, "leading order", sense="max", tolerance=1e-7,
    )  # fmt: skip
    rate = float(rate_N[0])
    yield Search(
        rf"prompts all at $p = {rate:.3f}$, $\delta = 10^{{-10}}$: this bound is attained to "
        rf"second order",
        float(
            numeric(f["any"], (mean_variance, lowest, delta))(rate * (1 - rate), 1 - 2 * rate, 1e-10)
        ),
        exact_dataset_improvement([rate, rate], 1e-10, [0.5, 0.5])[0],
        float(np.sqrt(2e-10 * rate * (1 - rate))), "leading order", sense="max",
    )  # fmt: skip
    rate_N, prob_N, radius = np.array([0.05, 0.2]), np.array([0.5, 0.5]), 1e-5
    variance = float(prob_N @ (rate_N * (1.0 - rate_N)))
    leaning = float(prob_N @ ((1.0 - 2.0 * rate_N) * rate_N * (1.0 - rate_N)))
    _, rise_N = exact_dataset_improvement(rate_N, radius, prob_N)
    rise_S = drawn_improvements(rng, rate_N, rise_N, prob_N, rollouts=10**9)
    yield Estimate.of(
        r"$p = 0.05$ and $0.2$, $\delta = 10^{-5}$: mean reward at the exact optimum, less the old one, "
        r"over the corrected bound of 2.2",
        rise_S / np.sqrt(2.0 * radius * variance),
        expected=float(
            numeric(f["ratio"], (mean_variance, mean_lean, delta))(variance, leaning, radius)
        ),
        control=1.0, control_is="leading order",
    )  # fmt: skip


CLAIMS = [
    Claim(
        number="2.4",
        source="not in the paper",
        title="The bound on a dataset, at a given radius",
        status=Status.PROVED,
        statement=r"""Let the divergence be at most $\delta$ on average over $\rho$, $\bar v =
\mathbb{E}_\rho[p(1-p)]$, and $\ell \ge 0$ at least the largest $1 - 2p$ of the pool. Whatever the policy
and $\delta$, the average success rate rises by at most
$$<<any>>.$$
Dead prompts are allowed. If no $p$ is below $\tfrac12$ this is the corrected bound of 2.2, which then
holds at every radius. In a fixed pool with $\bar v > 0$, as $\delta \to 0$, the exact optimum, which
tables attain, is $\sqrt{2\delta\bar v}$ times
$$<<ratio>> + O(\delta), \qquad k = \mathbb{E}_\rho[(1-2p)\,p(1-p)].$$""",
        formulas={"any": any_radius, "ratio": exact_ratio},
        prove=_prove_radius,
        enumerate=_enumerate_radius,
        sample=_sample_radius,
    ),
]
