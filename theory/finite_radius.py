r"""One prompt at a radius that is not infinitesimal: what becomes of Eq. (11).

The exact optimum is that of :mod:`theory.exact_problem`. Improvements here; for a loss of success
exchange p and 1 - p.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Relation, Search, Status, Step, numeric
from theory.decide import solution
from theory.exact_problem import divergence, kl
from theory.rewards import drawn_improvements
from theory.search import largest
from theory.symbols import delta, p, potential, q
from theory.trust_region import divergence as divergence_of
from theory.trust_region import exact_improvement

lean = 1 - 2 * p  # positive for success rates below 1/2
small = sp.Symbol("h", positive=True)  # sqrt(2 delta / (p (1-p))), the nominal step in logits

stated = sp.sqrt(2 * delta) * potential  # Eq. (11)
corrected = 2 * lean * delta / 3 + sp.sqrt(
    2 * delta * p * (1 - p) + (2 * lean * delta / 3) ** 2
)  # at any radius
_nominal = sp.sqrt(2 * delta / (p * (1 - p)))
exact_ratio = 1 + lean * _nominal / 3
step_ratio = 1 + lean * _nominal / 2
step_divergence = 1 + lean * _nominal / 3


# -- 1.7 leading order -----------------------------------------------------------------------------


@cache  # sympy takes its time
def _expansion(expression: sp.Expr, x: sp.Symbol, order: int) -> sp.Expr:
    """Taylor polynomial at 0, up to below the given order."""
    return sp.series(expression, x, 0, order).removeO()


def _prove_order(f: Formulas) -> Iterator[Step]:
    e, first = sp.symbols("e a", real=True)
    variance = p * (1 - p)
    radius = {delta: variance * small**2 / 2}
    series = _expansion(divergence.subs(q, p + e), e, 4)
    taylor = e**2 / (2 * variance) - lean * e**3 / (3 * variance**2)
    yield Step(r"To third order in $e$, $\mathrm{kl}(p, p+e)$ is", sp.factor(series), taylor)
    # e = sqrt(2 delta p (1-p)) (1 + a h), delta = p (1-p) h^2 / 2
    ansatz = sp.expand(taylor.subs(e, variance * small * (1 + first * small)))
    coefficient = solution(sp.factor(ansatz.coeff(small, 3)), first)
    yield Step(
        r"With $h = \sqrt{2\delta/(p(1-p))}$ and $e = \sqrt{2\delta p(1-p)}\,(1 + a h)$, the divergence "
        r"is $\delta + O(h^4)$ iff its third-order term vanishes, which gives $1 + a h$.",
        1 + coefficient * small,
        sp.powdenest(f["exact"].subs(radius), force=True),
    )
    new = p * sp.exp(small) / (1 - p + p * sp.exp(small))
    raised = _expansion(new - p, small, 3)
    yield Step(
        r"The natural-gradient step adds $h$ to the logit. Its improvement, as a multiple of (11).",
        sp.factor(raised / (variance * small)),
        sp.powdenest(f["step"].subs(radius), force=True),
    )
    spent = sp.log(1 + p * (sp.exp(small) - 1)) - p * small
    yield Step(
        r"Its divergence, as a multiple of $\delta$.",
        sp.factor(_expansion(spent, small, 4) / (variance * small**2 / 2)),
        sp.powdenest(f["spent"].subs(radius), force=True),
    )
    yield Step(
        r"All three tend to $1$; so (11) holds to leading order, for all policies by 1.2 and 1.5.",
        sp.Limit(f["exact"] + f["step"] + f["spent"], delta, 0),
        3,
    )


_WITHIN: dict[int, Relation] = {-1: "<", 1: ">"}  # what is left is less than h^2 either way


def _enumerate_order(f: Formulas) -> Iterator[Exact]:
    rate, h = sp.Rational(1, 5), sp.Rational(1, 100)
    variance, more = rate * (1 - rate), sp.exp(h) - 1
    at = {p: rate, delta: variance * h**2 / 2}
    gained = variance * more / (1 + rate * more)  # the step: h is added to the logit
    for sign, relation in _WITHIN.items():
        bound = {name: formula.subs(at) + sign * h**2 for name, formula in f.items()}
        shown = f"${'+' if sign > 0 else '-'} h^2$"
        yield Exact(
            rf"$p = 1/5$, $h = 1/100$: divergence at an improvement by the expansion {shown}",
            kl(rate, rate + variance * h * bound["exact"]), at[delta], relation=relation,
        )  # fmt: skip
        yield Exact(
            rf"$p = 1/5$, $h = 1/100$: the step's improvement over (11), against its expansion {shown}",
            bound["step"], gained / (variance * h), relation=relation,
        )  # fmt: skip
        yield Exact(
            rf"$p = 1/5$, $h = 1/100$: the step's divergence over $\delta$, against its expansion "
            rf"{shown}",
            bound["spent"], kl(rate, rate + gained) / at[delta], relation=relation,
        )  # fmt: skip


def _sample_order(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate, radius = float(rng.uniform(0.05, 0.3)), 1e-9
    h = np.sqrt(2.0 * radius / (rate * (1.0 - rate)))
    bound = rate * (1.0 - rate) * h
    gained = rate * (1.0 - rate) * np.expm1(h) / (1.0 + rate * np.expm1(h))
    found = {
        "exact": (float(exact_improvement(rate, radius)) / bound, "the exact optimum over (11)"),
        "step": (gained / bound, "the natural-gradient step over (11)"),
        "spent": (
            float(divergence_of([rate], [gained])[0]) / radius,
            r"the step's divergence over $\delta$",
        ),
    }
    for name, (value, words) in found.items():
        yield Search(
            rf"$p = {rate:.3f}$, $\delta = 10^{{-9}}$: {words}",
            float(numeric(f[name], (p, delta))(rate, radius)), float(value), 1.0, "leading order",
            sense="max", tolerance=1e-7,
        )  # fmt: skip
    rate, radius = 0.1, 1e-5
    bound = np.sqrt(2.0 * radius * rate * (1.0 - rate))
    rise_S = drawn_improvements(
        rng, [rate], exact_improvement([rate], radius), [1.0], rollouts=10**9
    )
    yield Estimate.of(
        r"$p = 0.1$, $\delta = 10^{-5}$: mean reward at the exact optimum, less $p$, over (11)",
        rise_S / bound, expected=float(numeric(f["exact"], (p, delta))(rate, radius)), control=1.0,
        control_is="leading order",
    )  # fmt: skip


# -- 1.8 any radius --------------------------------------------------------------------------------


def _prove_any_radius(f: Formulas) -> Iterator[Step]:
    variance = p * (1 - p)
    e = sp.Symbol("e", positive=True)
    yield Step(
        r"(11) is where the second-order divergence $e^2/(2p(1-p))$ equals $\delta$.",
        sp.UnevaluatedExpr(f["stated"]) ** 2 / (2 * variance),
        delta,
    )
    a, x = sp.symbols("a x", positive=True)
    above = {p: (1 + a) / (2 + a)}
    raised = (p + (1 - p) * x / (1 + x)).subs(above)
    yield Step(
        r"Case $p \ge \tfrac12$, written $p = (1+a)/(2+a)$, and $q = p + (1-p)x/(1+x) > p$: the "
        r"variance falls on the way, $q(1-q) \le p(1-p)$, so that $\mathrm{kl}' = (q-p)/(q(1-q))$ is at "
        r"least $(q-p)/(p(1-p))$, $\mathrm{kl} \ge e^2/(2p(1-p))$, and (11) holds at every radius.",
        variance.subs(above),
        sp.factor(raised * (1 - raised)),
        certificate=sp.factor(variance.subs(above) - raised * (1 - raised)),
    )
    yield Step(
        r"The denominator $p(1-p) + \tfrac23(1-2p)e$ of the next line is linear in $e$ and "
        r"positive at $e = 0$ and at the largest improvement $e = 1-p$:",
        variance + 2 * lean * (1 - p) / 3,
        0,
        certificate=(1 - p) * (2 - p) / 3,
    )
    tangent = q * (1 - p) ** 2 + p**2 * (1 - q)
    yield Step(
        r"Any $p$: the variance lies below its tangent, $q(1-q) \le p(1-p) + (1-2p)(q-p)$.",
        variance + lean * (q - p),
        q * (1 - q),
        certificate=(q - p) ** 2,
    )
    low = e**2 / (2 * (variance + 2 * lean * e / 3))
    at = sp.diff(low, e).subs(e, q - p) / (q - p)
    yield Step(
        r"So $\mathrm{kl}'/(q-p) \ge 1/(p(1-p) + (1-2p)(q-p))$, and this is at least as large as the "
        r"same quotient for $e^2/(2(p(1-p) + \tfrac23(1-2p)e))$, $e = q - p$. Both functions vanish "
        r"at $e = 0$.",
        1 / tangent,
        sp.factor(at),
        certificate=lean**2
        * (q - p) ** 2
        / (9 * tangent * (variance + 2 * lean * (q - p) / 3) ** 2),
    )
    yield Step(
        r"Hence $\mathrm{kl} \le \delta$ implies $e^2 \le 2\delta(p(1-p) + \tfrac23(1-2p)e)$; the "
        r"corrected bound is the positive root of the equation.",
        f["corrected"] ** 2,
        2 * delta * (variance + 2 * lean * f["corrected"] / 3),
    )


def _enumerate_any_radius(f: Formulas) -> Iterator[Exact]:
    at = {p: sp.Rational(1, 100), delta: sp.Rational(1, 10)}
    reached = sp.Rational(12, 100)
    yield Exact(
        r"$p = 1/100$ raised to $12/100$: divergence against $\delta = 1/10$",
        kl(at[p], reached), at[delta], relation="<",
    )  # fmt: skip
    yield Exact(
        r"$p = 1/100$ raised to $12/100$: improvement against (11) at $\delta = 1/10$",
        reached - at[p],
        f["stated"].subs(at),
        relation=">",
    )
    for rate in (sp.Rational(1, 100), sp.Rational(3, 10), sp.Rational(9, 10)):
        here = {p: rate, delta: at[delta] / 10}
        yield Exact(
            rf"$p = {rate}$, $\delta = 1/100$: divergence at the corrected bound",
            kl(rate, rate + f["corrected"].subs(here)), here[delta], relation=">",
        )  # fmt: skip
        yield Exact(
            rf"$p = {rate}$, $\delta = 1/100$: divergence at (11)",
            kl(rate, rate + f["stated"].subs(here)), here[delta],
            relation="<" if rate < sp.Rational(1, 2) else ">",
        )  # fmt: skip


def _sample_any_radius(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate, radius = 0.01, 0.1
    over = numeric(f["stated"], (p, delta))
    found, _ = largest(
        lambda x: float(1.0 / (1.0 + np.exp(-x[0]))), np.array([-4.0]),
        inside=lambda x: radius - _bernoulli(rate, x[0]),
    )  # fmt: skip
    yield Search(
        r"$\delta = 0.1$, $p = 0.01$: (11) is violated", float(exact_improvement(rate, radius)),
        found - rate, float(over(rate, radius)), "Eq. (11)", sense="max",
    )  # fmt: skip
    rate = float(rng.uniform(0.02, 0.2))
    yield Search(
        rf"$\delta = 10^{{-10}}$, $p = {rate:.3f}$: the corrected bound is attained to second order",
        float(numeric(f["corrected"], (p, delta))(rate, 1e-10)), float(exact_improvement(rate, 1e-10)),
        float(over(rate, 1e-10)), "Eq. (11)", sense="max",
    )  # fmt: skip
    rate, radius = 0.05, 1e-5
    yield Estimate.of(
        r"$p = 0.05$, $\delta = 10^{-5}$: mean reward at the exact optimum, less $p$",
        drawn_improvements(
            rng, [rate], exact_improvement([rate], radius), [1.0], rollouts=10**9
        ),
        expected=float(numeric(f["corrected"], (p, delta))(rate, radius)),
        control=float(over(rate, radius)), control_is="Eq. (11)",
    )  # fmt: skip


def _bernoulli(rate: float, logit: float) -> float:
    """Divergence of a success rate from that of a logit."""
    return float(
        rate * (np.log(rate) + np.logaddexp(0.0, -logit))
        + (1.0 - rate) * (np.log1p(-rate) + np.logaddexp(0.0, logit))
    )


CLAIMS = [
    Claim(
        number="1.7",
        source="Eq. (11)",
        title="The bound on one prompt, to leading order",
        status=Status.CONDITIONAL,
        condition=r"""$\delta \to 0$ at a fixed $p$, $0 < p < 1$. The relative error is of the order
of $\sqrt{2\delta/(p(1-p))}$, so $\delta$ has to be small against $p(1-p)$, not against $1$.""",
        statement=r"""To leading order in $\delta$, no policy improves a prompt by more than
$\sqrt{2\delta p(1-p)}$. The next order, for a table: the exact optimum is this times
$$<<exact>> + O(\delta);$$ one natural-gradient step, of the length in 1.1, changes the success rate by
this times
$$<<step>> + O(\delta),$$ and its divergence is $\delta$ times $$<<spent>> + O(\delta).$$ For $p <
\tfrac12$ and small $\delta$ the step thus leaves the trust region and gains more than the bound.""",
        formulas={"exact": exact_ratio, "step": step_ratio, "spent": step_divergence},
        prove=_prove_order,
        enumerate=_enumerate_order,
        sample=_sample_order,
    ),
    Claim(
        number="1.8",
        source="Eq. (11)",
        title="The bound on one prompt, at a given radius",
        status=Status.FALSE,
        statement=r"""The paper: in a trust region of radius $\delta$ the success rate of a prompt
changes by at most $<<stated>>$.""",
        correction=r"""Fails for $p < \tfrac12$ and small $\delta$, because it takes the divergence
only to second order. At $p = 0.01$, $\delta = 0.1$ it allows an improvement by $0.0445$,
while $0.1179$ is possible. It holds for improvements at every radius iff $p \ge \tfrac12$ (for
losses of success iff $p \le \tfrac12$). What holds for every policy, every $p$ and every $\delta$
is
$$q - p \le <<corrected>>,$$
which agrees with the exact optimum to second order (1.7); a loss obeys it with $1-p$ for $p$.""",
        formulas={"stated": stated, "corrected": corrected},
        prove=_prove_any_radius,
        enumerate=_enumerate_any_radius,
        sample=_sample_any_radius,
    ),
]
