r"""Eq. 14: what the temperature of sampling does, from cold to hot.

Counterpart: :mod:`cures.sampling`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from theory.claims import Claim, Estimate, Exact, Formulas, Relation, Search, Status, Step
from theory.sampling import POTENTIAL_3, Array, gumbel_draws, softmax_share, tau, u

pool = sp.Symbol("P", integer=True, positive=True)  # prompts in the pool
top, rest = sp.symbols("K L", integer=True, positive=True)  # prompts of largest potential, others
gap = sp.Symbol("g", positive=True)  # by which the others' potential is smaller
mean_u = sp.Symbol(r"\bar{u}", positive=True)  # over the pool


# 3.3 -------------------------------------------------------------------------------------------


def _prove_limits(f: Formulas) -> Iterator[Step]:
    x, y = sp.Symbol("x", positive=True), sp.Symbol("y", nonnegative=True)
    yield Step(
        r"$K$ prompts of the largest potential $u$ and $L$ of potential $u - g$: the best have together",
        top * sp.exp(u / tau) / (top * sp.exp(u / tau) + rest * sp.exp((u - gap) / tau)),
        f["best"],
    )
    yield Step(
        r"A pool whose other prompts lie further below has $L(x) \le L$ in place of $L$; the best have "
        "no less then.",
        top / (top + x),
        top / (top + x + y),
        certificate=top * y / ((top + x) * (top + x + y)),
    )
    yield Step("Cold limit: all mass on the best.", sp.Limit(f["best"], tau, 0, "+"), 1)
    yield Step(
        "Hot limit: every prompt alike.", sp.Limit(f["best"], tau, sp.oo), top / (top + rest)
    )
    heat = sp.Symbol("beta", nonnegative=True)
    share = sp.exp(heat * u) / (pool * (1 + heat * mean_u))
    yield Step(
        r"Let $\beta = 1/\tau$. The weights $e^{\beta u}$ of the pool add up to $P(1 + \beta\bar u) + "
        r"O(\beta^2)$, so that a share has at $\beta = 0$ the value $1/P$ and the derivative",
        sp.Subs(sp.Derivative(share, heat), heat, 0),
        (u - mean_u) / pool,
    )
    yield Step("To first order it is", 1 / pool + (u - mean_u) / pool / tau, f["hot"])


def _enumerate_limits(f: Formulas) -> Iterator[Exact]:
    for k, others in ((1, 3), (2, 5), (4, 1)):
        weights = [sp.Integer(1)] * k + [sp.Rational(1, 8)] * others
        yield Exact(
            rf"$K = {k}$, $L = {others}$, $g = 3\tau\log 2$",
            sum(weights[:k]) / sum(weights),
            f["best"].subs({top: k, rest: others, gap: 3 * sp.log(2), tau: 1}),
        )
    heat = sp.Symbol("beta", positive=True)
    for i in range(3):
        # the difference to 1/3, times tau, as tau grows
        exact = sp.limit(
            (softmax_share(POTENTIAL_3, i, 1 / heat) - sp.Rational(1, 3)) / heat, heat, 0
        )
        yield Exact(
            rf"$\tau(\rho - 1/3)$ as $\tau\to\infty$, $u = {POTENTIAL_3[i]}$ in a pool of "
            "$u = 1/2, 2/5, 3/10$",
            exact,
            f["hot"].subs({u: POTENTIAL_3[i], mean_u: sp.Rational(2, 5), pool: 3, tau: 1})
            - sp.Rational(1, 3),
        )


def _sample_limits(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    u_N = np.array([0.5, 0.5, 0.3, 0.3, 0.3])
    drawn = gumbel_draws(u_N / 0.1, 40_000, rng)
    yield Estimate.of(
        r"share of the best, $K = 2$, $L = 3$, $g = 0.2$, $\tau = 0.1$, by Gumbel maxima",
        (drawn < 2).astype(float),
        expected=float(f["best"].subs({top: 2, rest: 3, gap: 0.2, tau: 0.1})),
        control=1 / (1 + 1.5 * np.exp(-1.0)),
        control_is="half the gap",
    )
    drawn = gumbel_draws(np.array([0.5, 0.0]) / 2.0, 100_000, rng)
    yield Estimate.of(
        r"share of potential 0.5 beside potential 0, $\tau = 2$",
        (drawn == 0).astype(float),
        expected=float(f["hot"].subs({u: 0.5, mean_u: 0.25, pool: 2, tau: 2.0})),
        control=0.5,
        control_is="uniform",
    )


# 3.6 -------------------------------------------------------------------------------------------


def _prove_floor(f: Formulas) -> Iterator[Step]:
    x, w, share, mean = sp.symbols("x w a omega", positive=True)
    coldest = sp.exp(-1 / (2 * tau))
    yield Step(
        r"Scale the weights so that $u = 1/2$ has $w = 1$; since $0 \le u \le 1/2$ they lie between "
        r"$x = e^{-1/(2\tau)}$ and 1, and so the following product is not negative:",
        (w - x) * (1 - w),
        (1 + x) * w - x - w**2,
    )
    yield Step(
        r"With $\omega$ the mean weight over the pool, $\overline{w^2} \le (1 + x)\omega - x$, "
        r"which is positive since $\omega \ge x$, and the size is $P\omega^2/\overline{w^2}$. This "
        r"ratio is at least $4x/(1+x)^2$, because",
        (1 + x) ** 2 * mean**2 / (4 * x),
        (1 + x) * mean - x,
        certificate=((1 + x) * mean - 2 * x) ** 2 / (4 * x),
    )
    yield Step(
        r"and at $x = e^{-1/(2\tau)}$ the floor is",
        sp.Subs(4 * x / (1 + x) ** 2, x, coldest),
        f["floor"].rewrite(sp.exp),
    )
    yield Step(
        r"A share $a = x/(1+x)$ of prompts at $p = 1/2$, the others at $p = 0$ or $1$, attains it, "
        r"and no other pool: equality above needs all $w$ at $x$ or $1$ and $\omega = 2x/(1+x)$.",
        sp.Subs((share + (1 - share) * x) ** 2 / (share + (1 - share) * x**2), share, x / (1 + x)),
        4 * x / (1 + x) ** 2,
    )
    yield Step(
        r"In terms of the temperature this share is",
        sp.Subs(x / (1 + x), x, coldest),
        f["worst"],
    )
    z = sp.Symbol("z", positive=True)
    yield Step(
        r"With $y = 1/(4\tau)$ the floor $1/\cosh^2 y$ is one half where $\sinh y = 1$ (and $y > 0$), "
        r"in terms of $z = e^y$ where",
        sp.Subs((z - 1 / z) / 2, z, sp.exp(1 / (4 * f["half"]))),
        1,
    )
    yield Step(
        "and indeed",
        sp.Subs(f["floor"].rewrite(sp.exp), tau, f["half"]),
        sp.Rational(1, 2),
    )


def _enumerate_floor(f: Formulas) -> Iterator[Exact]:
    # tau = 1 / (4 log 2): potentials 1/2, 1/4 and 0 have weights 1, 1/2 and 1/4
    weights = (sp.Integer(1), sp.Rational(1, 2), sp.Rational(1, 4))
    sizes = {w_5: sum(w_5) ** 2 / sum(w**2 for w in w_5) / 5 for w_5 in product(weights, repeat=5)}
    worst = min(sizes, key=lambda w_5: sizes[w_5])
    at = {tau: 1 / (4 * sp.log(2))}
    yield Exact(
        r"$\tau = 1/(4\log 2)$: least size over all $3^5$ pools of five with potentials in "
        r"$\{0, 1/4, 1/2\}$, per prompt",
        sizes[worst],
        sp.nsimplify(f["floor"].rewrite(sp.exp).subs(at)),
    )
    yield Exact(
        r"share of prompts at $p = 1/2$ in that pool",
        sp.Rational(worst.count(weights[0]), 5),
        sp.simplify(f["worst"].subs(at)),
    )
    rounded: tuple[tuple[int, Relation], ...] = ((2835, "<"), (2845, ">"))
    for ten_thousandths, relation in rounded:
        yield Exact(
            r"the temperature at which half of the worst pool counts, to three digits",
            sp.Rational(ten_thousandths, 10_000),
            f["half"],
            relation,
        )
    yield Exact(
        r"the released code has $\tau \ge 100$: at least this share of any pool counts",
        1 - sp.Rational(1, 160_000),
        f["floor"].subs(tau, 100),
        relation="<",
    )


def _sample_floor(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    t = 1 / (2 * np.log(9))  # the worst pool of ten has one prompt at 1/2

    def share(potential_N: Array) -> float:
        w_N = np.exp(potential_N / t)
        return float(w_N.mean() ** 2 / (w_N**2).mean())

    starts = [0.5 * rng.random(10) ** 6 for _ in range(12)]  # mostly low: few end up high
    bounds = [(0.0, 0.5)] * 10
    runs = [minimize(share, x, method="L-BFGS-B", bounds=bounds) for x in starts]
    yield Search(
        r"share of ten prompts that counts, over all their potentials in $[0, 1/2]$, "
        r"$\tau = 1/(2\log 9)$",
        claimed=float(f["floor"].subs(tau, t)),
        found=min(float(run.fun) for run in runs),
        control=share(np.array([0.5] * 5 + [0.0] * 5)),
        control_is=r"half of the prompts at $p = 1/2$",
        sense="min",
    )
    first, second = (gumbel_draws(np.array([0.5] + [0.0] * 9) / t, 40_000, rng) for _ in range(2))
    yield Estimate.of(
        "chance that two draws coincide, one of ten prompts at $p = 1/2$, by Gumbel maxima",
        (first == second).astype(float),
        expected=1 / (10 * float(f["floor"].subs(tau, t))),
        control=1 / 10,
        control_is="ten prompts alike",
    )


CLAIMS = [
    Claim(
        number="3.3",
        source="Eq. (14)",
        title="Cold and hot sampling",
        status=Status.PROVED,
        statement=r"""
If $K$ prompts have the largest potential and the other $L$ lie at least $g$ below it, the best have
together a share of at least
$$<<best>>,$$
with equality if all others lie exactly $g$ below. It tends to 1 as $\tau\to 0$. As $\tau\to\infty$
all prompts become alike: in a pool of $P$ prompts of mean potential $\bar u$ a prompt of potential
$u$ has the share
$$<<hot>> + O(\tau^{-2}).$$""",
        formulas={
            "best": top / (top + rest * sp.exp(-gap / tau)),
            "hot": (1 + (u - mean_u) / tau) / pool,
        },
        prove=_prove_limits,
        enumerate=_enumerate_limits,
        sample=_sample_limits,
    ),
    Claim(
        number="3.6",
        source="Eq. (14)",
        title="A temperature far above 1/4 does nothing",
        status=Status.PROVED,
        statement=r"""
Potentials lie in $[0, 1/2]$, so whatever the pool, the effective sample size $1/\sum\rho^2$ is at
least the share
$$<<floor>>$$
of it. A pool attains this iff a share $<<worst>>$ of its prompts has $p = 1/2$ and the others $p = 0$
or $1$. At least half of every pool counts as long as $\tau \ge <<half>> \approx 0.284$; selection
that matters needs colder sampling. The released code divides the potential of every prompt by at
least 100, so that its weights have at most the spread of those at $\tau = 100$: more than 99.999
percent of any pool counts, which is uniform sampling.""",
        formulas={
            "floor": sp.sech(1 / (4 * tau)) ** 2,
            "worst": 1 / (1 + sp.exp(1 / (2 * tau))),
            "half": 1 / (4 * sp.log(1 + sp.sqrt(2))),
        },
        prove=_prove_floor,
        enumerate=_enumerate_floor,
        sample=_sample_floor,
    ),
]
