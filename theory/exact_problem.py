r"""One prompt, the problem itself: the most that a success rate can rise in a trust region.

``divergence`` is that of success rate p from success rate q. The largest q - p with divergence delta
is computed by :func:`theory.trust_region.exact_improvement`. Improvements here; for a loss of success
exchange p and 1 - p.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp
from scipy.optimize import brentq, minimize_scalar

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.rewards import drawn_improvements
from theory.search import Vector, largest, to_boundary
from theory.symbols import delta, p, q
from theory.trust_region import exact_improvement

divergence = p * sp.log(p / q) + (1 - p) * sp.log((1 - p) / (1 - q))
slope = (q - p) / (q * (1 - q))  # d divergence / d q
pinsker_floor = 2 * (q - p) ** 2
pinsker = sp.sqrt(delta / 2)


def kl(old: sp.Expr, new: sp.Expr) -> sp.Expr:
    """The divergence of one success rate from another."""
    return divergence.subs({p: old, q: new}, simultaneous=True)


# -- 1.5 the problem itself ------------------------------------------------------------------------


def _prove_exact(f: Formulas) -> Iterator[Step]:
    first, second = sp.symbols("u_1 u_2", positive=True)
    first_new, second_new = sp.symbols("v_1 v_2", positive=True)
    shares = ((first, first_new), (second, second_new))
    yield Step(
        r"A right answer of share $u_k$ among the right ones before the update and $v_k$ after it adds "
        r"$p u_k \log(p u_k / q v_k)$ to the divergence; here two that are all of their kind, "
        r"$u_1 + u_2 = 1$. The sum is $p \log(p/q)$ plus $p$ times the divergence of the shares; wrong "
        r"answers likewise, with $1-p$ and $1-q$. So the policy's divergence is that of the success "
        r"rates, plus $p$ times that of the shares among right answers, plus $1-p$ times that among "
        r"wrong ones.",
        sum(p * u * sp.log(p * u / (q * v)) for u, v in shares).subs(second, 1 - first),
        p * sp.log(p / q) + p * sum(u * sp.log(u / v) for u, v in shares).subs(second, 1 - first),
    )
    yield Step(
        r"What is left if the shares stay: both kinds together.",
        p * sp.log(p / q) + (1 - p) * sp.log((1 - p) / (1 - q)), f["divergence"],
        name=r"\mathrm{kl}(p, q)",
    )  # fmt: skip
    yield Step(r"The derivative in $q$.", sp.Derivative(f["divergence"], q), f["slope"])
    odds = sp.Symbol("x", positive=True)
    raised = p * (1 + odds) / (1 + p * odds)
    yield Step(
        r"It is positive for $q > p$, that is for $q = p(1+x)/(1+px)$ with $x > 0$, and negative "
        r"for $q < p$ (exchange right and wrong). So a larger improvement costs more, and more "
        r"than any $\delta$ as $q \to 1$. The divergence of two shares is $\mathrm{kl}(u_1, v_1)$, "
        r"hence least, namely $0$, only where they do not change; more answers are taken off one "
        r"by one. The best policy keeps the shares, and a table, which has every distribution, "
        r"contains it.",
        f["slope"].subs(q, raised),
        0,
        certificate=odds * (1 + p * odds) / (1 + odds),
    )


def _enumerate_exact(f: Formulas) -> Iterator[Exact]:
    old = [sp.Rational(x, 20) for x in (1, 3, 6, 10)]
    for new in ((8, 4, 18, 10), (1, 1, 23, 15), (4, 12, 9, 15)):  # the last keeps the shares
        new_K = [sp.Rational(x, 40) for x in new]
        rates = {p: old[0] + old[1], q: new_K[0] + new_K[1]}
        full = sum(a * sp.log(a / b) for a, b in zip(old, new_K, strict=True))
        kept = sum(
            weight * sum(a / weight * sp.log((a / weight) / (b / now)) for a, b in pairs)
            for weight, now, pairs in (
                (rates[p], rates[q], list(zip(old[:2], new_K[:2], strict=True))),
                (1 - rates[p], 1 - rates[q], list(zip(old[2:], new_K[2:], strict=True))),
            )
        )
        yield Exact(
            f"divergence of (1, 3, 6, 10)/20 from {new}/40 less those within the kinds",
            _in_primes(full - kept),
            _in_primes(f["divergence"].subs(rates)),
        )


def _in_primes(expression: sp.Expr) -> sp.Expr:
    """Logarithms of rationals as sums of logarithms of primes."""
    return sp.expand(sp.expand_log(expression, factor=True))


def _sample_exact(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    pi = np.array([0.08, 0.12, 0.3, 0.15, 0.35])
    right, rate, radius = np.arange(5) < 2, 0.2, 0.05
    spent = numeric(f["divergence"], (p, q))
    best = brentq(lambda x: float(spent(rate, x)) - radius, rate, 1.0 - 1e-9, xtol=1e-14) - rate

    def softmax(logit: Vector) -> Vector:
        weight = pi * np.exp(logit - logit.max())
        return np.asarray(weight / weight.sum())

    def room(logit: Vector) -> float:
        return float(radius - pi @ np.log(pi / softmax(logit)))

    def gain(logit: Vector) -> float:
        return float(softmax(logit)[right].sum() - rate)

    found, _ = largest(gain, 0.1 * rng.normal(size=5), inside=room)
    plain = pi * (right - rate)
    length = to_boundary(lambda t: room(t * plain), 100.0)
    yield Search(
        r"a table of five answers, $p = 0.2$, $\delta = 0.05$: all logits free", float(best),
        found, gain(length * plain), "the plain gradient, to the boundary", sense="max",
    )  # fmt: skip
    new = rate + best
    up, down = float(np.log(rate / new)), float(np.log((1 - rate) / (1 - new)))
    ratio_K = np.where(right, up, down)
    yield Estimate.of(
        "divergence at the optimum: mean log-ratio of the old chances of sampled answers to the new",
        ratio_K[rng.choice(5, size=100_000, p=pi)], expected=float(spent(rate, new)),
        control=float(spent(new, rate)), control_is="the other way round",
    )  # fmt: skip


# -- 1.6 without the success rate ------------------------------------------------------------------


def _prove_pinsker(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Both derivatives in $q$ have the factor $q - p$; the other is larger for the divergence than "
        r"for Pinsker's $2(q-p)^2$. Both functions vanish at $q = p$, so one lies above the other.",
        slope / (q - p),
        sp.cancel(sp.diff(f["floor"], q) / (q - p)),
        certificate=(1 - 2 * q) ** 2 / (q * (1 - q)),
    )
    yield Step(
        r"At an improvement by the bound $q - p = \sqrt{\delta/2}$ Pinsker's function is",
        f["floor"].subs(q, p + f["bound"]),
        delta,
        name="2 (q - p)^2",
    )
    e = sp.Symbol("e", positive=True)
    half = divergence.subs({p: sp.Rational(1, 2), q: sp.Rational(1, 2) + e})
    yield Step(
        r"The constant is the best one: at $p = \tfrac12$ it is what the quotient tends to,",
        sp.series(half, e, 0, 3).removeO().coeff(e, 2),
        sp.cancel(f["floor"].subs(q, p + e) / e**2),
        name=r"\lim_{e \to 0} \frac{\mathrm{kl}(\frac12, \frac12 + e)}{e^2}",
    )


def _enumerate_pinsker(f: Formulas) -> Iterator[Exact]:
    grid = [sp.Rational(k, 8) for k in range(1, 8)]
    worst = min(
        (sp.N(kl(x, y) - f["floor"].subs({p: x, q: y}), 30), x, y)
        for x in grid
        for y in grid
        if x != y
    )
    at = {p: worst[1], q: worst[2]}
    yield Exact(
        f"closest of 42 pairs of eighths, $p = {at[p]}$, $q = {at[q]}$: divergence and Pinsker's bound",
        kl(at[p], at[q]), f["floor"].subs(at), relation=">",
    )  # fmt: skip
    yield Exact(
        r"$p = 1/3$ raised by the bound of $\delta = 2/25$, which is $1/5$: divergence",
        kl(sp.Rational(1, 3), sp.Rational(1, 3) + f["bound"].subs(delta, sp.Rational(2, 25))),
        sp.Rational(2, 25), relation=">",
    )  # fmt: skip


def _sample_pinsker(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    radius = 1e-7
    found = minimize_scalar(
        lambda x: -float(exact_improvement(x, radius)), bounds=(0.05, 0.95), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    other = float(rng.uniform(0.1, 0.4))
    yield Search(
        r"$\delta = 10^{-7}$: the most that a prompt of any success rate can gain",
        float(numeric(f["bound"], delta)(radius)), -float(found.fun),
        float(exact_improvement(other, radius)), f"$p = {other:.3f}$", sense="max",
    )  # fmt: skip
    wide = 1e-4
    yield Estimate.of(
        r"$\delta = 10^{-4}$: mean reward of the best policy, less $p = 1/2$",
        drawn_improvements(rng, [0.5], exact_improvement([0.5], wide), [1.0], rollouts=10**7),
        expected=float(numeric(f["bound"], delta)(wide)),
        control=float(exact_improvement(other, wide)), control_is=f"$p = {other:.3f}$",
    )  # fmt: skip


CLAIMS = [
    Claim(
        number="1.5",
        source="Eq. (1) for one prompt; not in the paper",
        title="The exact problem is about success rates alone",
        status=Status.PROVED,
        statement=r"""For $0 < p, q < 1$ let $\mathrm{kl}(p, q) = <<divergence>>$. A policy that
changes a prompt's success rate from $p$ to $q$ diverges by at least $\mathrm{kl}(p, q)$. Equality
holds iff all right answers keep their relative chances and all wrong ones theirs, which a table can
do. In a trust region of radius $\delta > 0$ the best success rate is therefore the root $q > p$ of
$\mathrm{kl}(p, q) = \delta$, unique since
$$\frac{\partial\,\mathrm{kl}}{\partial q} = <<slope>>.$$""",
        formulas={"divergence": divergence, "slope": slope},
        prove=_prove_exact,
        enumerate=_enumerate_exact,
        sample=_sample_exact,
    ),
    Claim(
        number="1.6",
        source="not in the paper",
        title="Pinsker: a bound for all success rates at any radius",
        status=Status.PROVED,
        statement=r"""$\mathrm{kl}(p, q) \ge <<floor>>$. So whatever the policy, the prompt and the
radius, $|q - p| \le <<bound>>$, with the best possible constant: it is attained at $p = \tfrac12$
as $\delta \to 0$, where (11) says the same.""",
        formulas={"floor": pinsker_floor, "bound": pinsker},
        prove=_prove_pinsker,
        enumerate=_enumerate_pinsker,
        sample=_sample_pinsker,
    ),
]
