r"""What a group is worth: the best number of rollouts, and the best success rate.

Signal is the length of the mean estimate of a group, over :math:`D = |E[s|r=1] - E[s|r=0]|`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp
from scipy.optimize import minimize_scalar

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.finite_groups import V_0, V_1, binomial_mean, is_mixed, k, mixed, next_mixed
from theory.group_normalisation import length
from theory.group_variance import variance_rloo
from theory.outcomes import Rewards, expectation, rational
from theory.score_law import D
from theory.symbols import n, p

product = p * (1 - p)


# 6.7 -------------------------------------------------------------------------------------------


def _prove_size(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Two rollouts are mixed with chance $2p(1-p)$: per rollout",
        mixed.subs(n, 2) / 2,
        f["mixed"],
    )
    yield Step(
        r"A third adds as much as each of the two,", mixed.subs(n, 3) - mixed.subs(n, 2), f["mixed"]
    )
    yield Step(
        r"and each later one, from $n + 1$ to $n + 2$, adds less, by $p(1-p)P(n)$, which is positive "
        r"from $n = 2$ on:",
        f["mixed"] - next_mixed.subs(n, n + 1),
        f["mixed"] * mixed,
    )
    more = sp.Symbol("e", integer=True, nonnegative=True)
    yield Step(
        r"By 6.4 the signal of GRPO is at most $p(1-p)(n-1)/\sqrt n$, with equality for $n = 3$. "
        r"There, per rollout:",
        product * (2 / sp.sqrt(3)) / 3,
        f["grpo"],
        name=r"\frac{p (1-p)}{3} \cdot \frac{2}{\sqrt 3}",
    )
    bound = (n - 1) ** 2 / n**3  # square of (n - 1) / sqrt(n) / n
    yield Step(
        r"For $n \ge 3$, $n = 3 + e$, the bound is lower:",
        (f["grpo"] / product) ** 2,
        bound.subs(n, 3 + more),
        certificate=more**2 * (4 * more + 9) / (27 * (3 + more) ** 3),
    )
    yield Step(
        r"and for $n = 2$, squared,",
        (f["grpo"] / product) ** 2 - bound.subs(n, 2),
        sp.Rational(5, 216),
        name=r"\frac{4}{27} - \frac18",
    )
    yield Step(
        r"Stopping at the first mixed group takes $1/(p(1-p)) - 1$ rollouts (6.1) for one such group:",
        1 / (1 / product - 1),
        f["stopping"],
    )
    yield Step(
        r"Signal over noise, squared, of RLOO is $D^2/V$ times $p(1-p)(n-1)$ (6.6); per rollout, "
        r"growing with $n$:",
        (n - 1) * product / n,
        f["rloo"],
        name=r"p (1-p) (n-1) \cdot \frac1n",
    )


def _enumerate_size(f: Formulas) -> Iterator[Exact]:
    rate = Fraction(2, 7)
    at = {p: rational(rate)}
    shares = {
        size: expectation(rate, size, lambda r: Fraction(is_mixed(r), len(r)))
        for size in range(1, 8)
    }
    for size, share in shares.items():
        yield Exact(
            rf"$p = 2/7$, $n = {size}$: mixed groups per rollout",
            share,
            f["mixed"].subs(at),
            "=" if size in (2, 3) else "<",
        )
    for size in range(2, 8):
        signal = binomial_mean(size, length.subs(n, size), 1, size - 1).subs(at) / size
        what = rf"$p = 2/7$, $n = {size}$: signal of GRPO per rollout"
        yield Exact(what, signal, f["grpo"].subs(at), "=" if size == 3 else "<")
    for size in (2, 5):
        # one law of scores: the mean square of the weights A/n against the signal p (1-p)
        square = expectation(rate, size, _mean_square_weight)
        yield Exact(
            rf"$p = 2/7$, $n = {size}$: squared signal of RLOO over its noise, per rollout",
            rational(rate * (1 - rate)) ** 2 / square / size,
            f["rloo"].subs({**at, n: size}),
        )
    groups, used = _stopped(rate, 9)
    tail = rational(rate**9 / (1 - rate) + (1 - rate) ** 9 / rate)
    yield Exact(
        r"$p = 2/7$: rollouts per group that stops when mixed, at most 9, and the tail",
        used + tail,
        1 / f["stopping"].subs(at),
    )
    yield Exact(r"$p = 2/7$: mixed among the groups of at most 9", groups, mixed.subs({**at, n: 9}))


def _mean_square_weight(rewards: Rewards) -> Fraction:
    right, size = sum(rewards), len(rewards)
    return (
        sum((((r * size - right) / Fraction(size - 1)) ** 2 for r in rewards), Fraction()) / size**2
    )


def _stopped(rate: Fraction, most: int) -> tuple[sp.Expr, sp.Expr]:
    """Mixed groups and rollouts of a group that stops when mixed or at ``most`` rollouts."""
    sizes = range(2, most + 1)
    chance = {
        size: rate ** (size - 1) * (1 - rate) + (1 - rate) ** (size - 1) * rate for size in sizes
    }
    done = sum(chance.values(), Fraction())
    used = sum((size * x for size, x in chance.items()), Fraction()) + most * (1 - done)
    return rational(done), rational(used)


def _sample_size(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate, size = 0.15, 3
    right_S = rng.binomial(size, rate, size=100_000)
    is_mixed_S = (right_S > 0) & (right_S < size)
    yield Estimate.of(
        r"$p = .15$, $n = 3$: mixed groups per rollout",
        np.where(is_mixed_S, 1 / size, 0.0),
        expected=float(f["mixed"].subs(p, rate)),
        control=float(mixed.subs({p: rate, n: 8}) / 8),
        control_is="groups of 8",
    )
    yield Estimate.of(
        "signal of GRPO per rollout",
        np.sqrt(right_S * (size - right_S) * (size - 1.0) / size**3) / size,
        expected=float(f["grpo"].subs(p, rate)),
        control=float(product.subs(p, rate) / (2 * np.sqrt(2))),
        control_is="groups of 2",
    )


# 6.8 -------------------------------------------------------------------------------------------


def _prove_rate(f: Formulas) -> Iterator[Step]:
    a, b = sp.symbols("a b", positive=True)
    more = sp.Symbol("e", integer=True, nonnegative=True)
    yield Step(
        r"RLOO and Dr.GRPO: the signal is $p(1-p)$, times $(n-1)/n$.",
        sp.Rational(1, 4),
        product,
        certificate=(1 - 2 * p) ** 2 / 4,
    )
    yield Step(
        r"GRPO: the signal is an average of the points $\sqrt{k(n-k)}$ with binomial weights, a "
        r"Bernstein polynomial, concave in $p$ if the points are. With $a$, $b$ the products at $k "
        r"\mp 1$, that at $k$ is",
        ((k - 1) * (n - k + 1) + (k + 1) * (n - k - 1)) / 2 + 1,
        k * (n - k),
    )
    yield Step(
        r"so that $2\sqrt{k(n-k)} \ge \sqrt a + \sqrt b$; squared:",
        4 * ((a + b) / 2 + 1),
        (sp.sqrt(a) + sp.sqrt(b)) ** 2,
        certificate=4 + (sp.sqrt(a) - sp.sqrt(b)) ** 2,
    )
    yield Step(
        r"Concave and symmetric about $1/2$: largest there. Likewise $P(n)$, for its second "
        r"derivative is negative, with $n = 2 + e$",
        -sp.Derivative(mixed.subs(n, 2 + more), (p, 2)),
        (1 + more) * (2 + more) * (p**more + (1 - p) ** more),
    )
    first, last = (n - 1) * (V_1 + D**2) + V_0, (n - 1) * (V_0 + D**2) + V_1
    yield Step(
        r"Noise over signal, squared, of RLOO (6.3), times $n(n-1)D^2$, is $a/p + b/(1-p)$ less a "
        r"constant,",
        n * (n - 1) * variance_rloo / product**2,
        first / p + last / (1 - p) - (4 * n - 6) * D**2,
    )
    yield Step(
        r"with $a = (n-1)(V_1 + D^2) + V_0$, $b = (n-1)(V_0 + D^2) + V_1$. By Cauchy and Schwarz",
        a / p + b / (1 - p),
        (sp.sqrt(a) + sp.sqrt(b)) ** 2,
        certificate=((1 - p) * sp.sqrt(a) - p * sp.sqrt(b)) ** 2 / product,
    )
    yield Step(
        r"with equality at $p/(1-p) = \sqrt{a/b}$.",
        sp.sqrt(first / last),
        f["odds"],
        name=r"\frac{p}{1-p}",
    )
    yield Step(
        "The best signal over noise, squared:",
        n * (n - 1) * D**2 / ((sp.sqrt(first) + sp.sqrt(last)) ** 2 - (4 * n - 6) * D**2),
        f["best"],
    )
    yield Step(r"The odds are even for $n = 2$", sp.Subs(f["odds"], n, 2), 1)
    yield Step(r"and for equal spreads.", sp.Subs(f["odds"], V_1, V_0), 1)
    yield Step(
        r"Many rollouts: the squared odds tend to",
        sp.limit((f["odds"] ** 2), n, sp.oo),
        f["many"] ** 2,
        name=r"\lim_{n \to \infty} \frac{p^2}{(1-p)^2}",
    )
    near, further, angle = sp.symbols("c d theta", positive=True)
    far = near + further
    yield Step(
        r"GRPO with $V_1 = V_0$, small $D$ (6.6): $w^2/P = w \cdot \mathbb{E}[\sqrt{k(n-k)} \mid "
        r"\text{mixed}]$. With $\theta$ the logit of $p$, $k$ and $n-k$ at distance $c$ from $n/2$ have "
        r"together a weight in proportion to $\cosh c\theta$. From a pair to one further out by $d$ the "
        r"logarithm of the ratio grows with $\theta > 0$ at the rate",
        sp.diff(sp.log(sp.cosh(far * angle) / sp.cosh(near * angle)), angle),
        0,
        certificate=further * sp.tanh(far * angle)
        + near * sp.sinh(further * angle) / (sp.cosh(far * angle) * sp.cosh(near * angle)),
        name=r"\frac{\partial}{\partial \theta} \log \frac{\cosh (c+d)\theta}{\cosh c\theta}",
    )
    yield Step(
        r"so that weight moves outwards, to smaller $k(n-k)$, as $p$ leaves $1/2$ to either side: both "
        r"factors are largest at $1/2$. The product at distance $c$ is",
        (n / 2 - near) * (n / 2 + near),
        n**2 / 4 - near**2,
    )


def _enumerate_rate(f: Formulas) -> Iterator[Exact]:
    first, last = sp.Integer(36), sp.Integer(25)  # squares, so that the odds are rational
    spread_1, spread_0 = _spreads(first, last, 3)
    at = {V_1: spread_1, V_0: spread_0, D: 1, n: 3}
    ratio = (product * D) ** 2 / variance_rloo
    grid = [sp.Rational(i, 22) for i in range(1, 22)]
    best = max(grid, key=lambda x: ratio.subs({**at, p: x}))
    yield Exact(
        rf"$V_1 = {sp.latex(spread_1)}$, $V_0 = {sp.latex(spread_0)}$, $D = 1$, $n = 3$: best success "
        r"rate in steps of 1/22",
        best / (1 - best),
        f["odds"].subs(at),
    )
    yield Exact("squared signal over noise there", ratio.subs({**at, p: best}), f["best"].subs(at))
    yield Exact(
        r"$V_1 = 4$, $V_0 = 1$, $D^2 = 0$: many rollouts",
        2,
        f["many"].subs({V_1: 4, V_0: 1, D: 0}),
    )
    for size in (4, 7):
        signal = binomial_mean(size, length.subs(n, size), 1, size - 1)
        values = {x: signal.subs(p, x) for x in grid}
        yield Exact(
            rf"GRPO, $n = {size}$: success rate of most signal, in steps of 1/22",
            max(grid, key=lambda x: values[x]),
            sp.Rational(1, 2),
        )
        yield Exact(
            rf"GRPO, $n = {size}$, $V_1 = V_0$, small $D$: of most signal over noise",
            max(grid, key=lambda x: values[x] ** 2 / mixed.subs({n: size, p: x})),
            sp.Rational(1, 2),
        )


def _spreads(first: sp.Expr, last: sp.Expr, size: int) -> tuple[sp.Expr, sp.Expr]:
    """V_1, V_0 with D = 1 that give a and b."""
    equations = (
        (size - 1) * (V_1 + 1) + V_0 - first,
        (size - 1) * (V_0 + 1) + V_1 - last,
    )
    found = sp.solve(equations, (V_1, V_0))
    return found[V_1], found[V_0]


def _sample_rate(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    at = {V_1: rng.uniform(0.5, 1), V_0: rng.uniform(2, 3), D: rng.uniform(0.5, 1), n: 6}
    ratio = numeric(((product * D) ** 2 / variance_rloo).subs(at), p)
    found = minimize_scalar(lambda x: -float(ratio(x)), bounds=(0.01, 0.99), method="bounded")
    odds = float(f["odds"].subs(at))
    yield Search(
        r"random $V_1 < V_0$ and $D$, $n = 6$: signal over noise at the best odds",
        claimed=float(ratio(odds / (1 + odds))),
        found=-float(found.fun),
        control=float(ratio(0.5)),
        control_is="$p = 1/2$",
        sense="max",
    )
    yield Search(
        "the same prompts: the largest signal over noise",
        claimed=float(f["best"].subs(at)),
        found=-float(found.fun),
        control=float(ratio(0.5)),
        control_is="$p = 1/2$",
        sense="max",
    )
    at = {V_1: 0.25, V_0: 4, D: 1, n: 6}
    odds = float(f["odds"].subs(at))
    rate = odds / (1 + odds)
    right_S_J = rng.random((200_000, 6)) < rate
    normal_S_J = rng.normal(size=right_S_J.shape)
    score_S_J = np.where(right_S_J, 1 - rate + 0.5 * normal_S_J, -rate + 2.0 * normal_S_J)
    advantage_S_J = right_S_J - right_S_J.mean(axis=1, keepdims=True)
    rloo_S = (advantage_S_J * score_S_J).sum(axis=1) / 5
    plain = numeric(((product * D) ** 2 / variance_rloo).subs(at), p)
    yield Estimate.of(
        r"$V_1 = 1/4$, $V_0 = 4$, $D = 1$, $n = 6$ at the best odds: squared RLOO estimate over "
        r"$|\nabla p|^2$, less 1",
        (rloo_S / (rate * (1 - rate))) ** 2 - 1,
        expected=1 / float(f["best"].subs(at)),
        control=1 / float(plain(0.5)),
        control_is="$p = 1/2$",
    )


CLAIMS = [
    Claim(
        number="6.7",
        source="not in the paper",
        title="How many rollouts a prompt should get",
        status=Status.PROVED,
        statement=r"""
It depends on what is counted, not on $p$. Mixed groups per rollout, $P(n)/n$, are at most
$$<<mixed>>,$$
reached by $n = 2$ and $n = 3$ alike and by no other $n$. The signal of GRPO (6.4) per rollout is at most
$$<<grpo>> \cdot D,$$
reached at $n = 3$ only. Groups that stop as soon as they are mixed beat every fixed size: $<<stopping>>$
mixed groups per rollout. But signal over noise does not care for the number of groups: where $V_1 = V_0
= V$ and $n D^2 \ll V$, its square is, for RLOO and per rollout, $D^2/V$ times
$$<<rloo>>,$$
which grows with $n$: the baseline costs one rollout per group.""",
        formulas={
            "mixed": p * (1 - p),
            "grpo": 2 * p * (1 - p) / (3 * sp.sqrt(3)),
            "stopping": p * (1 - p) / (1 - p * (1 - p)),
            "rloo": p * (1 - p) * (n - 1) / n,
        },
        prove=_prove_size,
        enumerate=_enumerate_size,
        sample=_sample_size,
    ),
    Claim(
        number="6.8",
        source="not in the paper",
        title="Which success rate is worth most",
        status=Status.PROVED,
        statement=r"""
For prompts that share $D$, the signal of a group of $n$ is largest at $p = 1/2$, for every $n \ge 2$ and
every estimator (over $D$ it is $p(1-p)$ for RLOO, $p(1-p)(n-1)/n$ for Dr.GRPO and that of 6.4 for GRPO),
and so is the chance $P(n)$ of a mixed group. Signal over noise is not: for prompts that also share the
spreads $V_1$, $V_0$ of the scores of right and of wrong answers, it is largest for RLOO and Dr.GRPO at
the odds
$$\frac{p}{1-p} = <<odds>>,$$
where its square is
$$<<best>>.$$
At $n = 2$ or with $V_1 = V_0$ this is $p = 1/2$; for many rollouts the odds tend to $<<many>>$: if
right answers resemble each other more than wrong ones do, the best prompts are those that fail more
often than not. For GRPO with $V_1 = V_0$ and $nD^2$ small beside it (6.6) $p = 1/2$ is best too.""",
        formulas={
            "odds": sp.sqrt(((n - 1) * (V_1 + D**2) + V_0) / ((n - 1) * (V_0 + D**2) + V_1)),
            "best": n
            * (n - 1)
            * D**2
            / (
                n * (V_1 + V_0)
                + 2 * D**2 * (2 - n)
                + 2 * sp.sqrt((n - 1) * (V_1 + D**2) + V_0) * sp.sqrt((n - 1) * (V_0 + D**2) + V_1)
            ),
            "many": sp.sqrt((V_1 + D**2) / (V_0 + D**2)),
        },
        prove=_prove_rate,
        enumerate=_enumerate_rate,
        sample=_sample_rate,
    ),
]
