r"""Pilots as a vote: how often most of them are right although the prompt mostly fails, or the reverse.

Whoever sorts prompts by an estimated success rate, at one half or elsewhere, makes this error.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.beta_moments import half
from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.pilots import miss
from theory.plug_in import binomial_chance
from theory.symbols import p

majority = sp.Symbol("k", integer=True, positive=True)  # of 2k - 1 pilots
s = sp.Symbol("s", integer=True, positive=True)
size = sp.Symbol("n", integer=True, positive=True)

growth = majority * sp.binomial(2 * majority - 1, majority) * (p * (1 - p)) ** (majority - 1)
average = sp.binomial(2 * majority, majority) / 2 ** (2 * majority + 1)
ceiling = (4 * p * (1 - p)) ** (majority - half)
enough = 2 * sp.log(miss) / sp.log(4 * p * (1 - p))


def _chance(success: sp.Expr, trials: sp.Expr) -> sp.Expr:
    return sp.binomial(trials, success) * p**success * (1 - p) ** (trials - success)


def _prove_vote(f: Formulas) -> Iterator[Step]:
    odd = 2 * majority - 1
    yield Step(
        r"The chance of $s$ right of $n$ changes with $p$ at the rate $n$ times the difference of two "
        r"such chances at $n - 1$. Both over $p^s (1-p)^{n-s}$:",
        sp.combsimp(sp.expand(sp.diff(_chance(s, size), p) / (p**s * (1 - p) ** (size - s)))),
        size * (sp.binomial(size - 1, s - 1) / p - sp.binomial(size - 1, s) / (1 - p)),
    )
    yield Step(
        r"Summed over $s \ge k$ at $n = 2k - 1$ all but one of them cancel: the chance $P(S \ge k)$ "
        r"grows at the rate",
        odd * sp.binomial(odd - 1, majority - 1) * p ** (majority - 1) * (1 - p) ** (majority - 1),
        f["growth"],
    )
    x = sp.Symbol("x", positive=True)
    yield Step(
        r"Over uniform rates the chance of a wrong verdict is $2 \int_0^{1/2} P(S \ge k)\,dp$. As "
        r"$P(S \ge k) = \tfrac12$ at $p = \tfrac12$, by parts it is $\int_0^{1/2} (1 - 2p)$ times this "
        r"rate. With $x = p(1-p)$:",
        sp.Integral(f["growth"].subs(p * (1 - p), x), (x, 0, sp.Rational(1, 4))),
        f["average"],
    )
    yield Step(
        r"A tie among $2k$ pilots, decided by a coin, changes nothing: the last pilot makes a tie as "
        r"often out of $k$ right of $2k - 1$ as out of $k - 1$.",
        _chance(majority, odd) * (1 - p),
        _chance(majority - 1, odd) * p,
    )
    odds = (1 - p) / p
    yield Step(
        r"For one rate $p < \tfrac12$: $P(S \ge k) \le \mathbb{E}\,t^{S - n/2}$ for every $t \ge 1$; at "
        r"$t = (1-p)/p$ the square of one pilot's factor, $(1 - p + p t)^2/t$, is",
        (1 - p + p * sp.UnevaluatedExpr(odds)) ** 2 / odds,
        4 * p * (1 - p),
    )
    y = sp.Symbol("y", positive=True)
    yield Step(
        r"and $n$ pilots have its power $n/2$; with $y$ for $4p(1-p)$,",
        y ** (odd / 2),
        f["ceiling"].subs(p * (1 - p), y / 4),
        name="y^{n/2}",
    )
    yield Step(
        r"It falls with $n$ and is $\varepsilon$ at the number given: there",
        f["enough"] / 2 * sp.log(4 * p * (1 - p)),
        sp.log(miss),
        name=r"\tfrac{n}{2} \log(4 p (1-p))",
    )


def _tail(low: int, pilots: int) -> sp.Expr:
    return sp.Add(*(binomial_chance(k, pilots) for k in range(low, pilots + 1)))


def _enumerate_vote(f: Formulas) -> Iterator[Exact]:
    rate = sp.Rational(1, 3)
    for k in (1, 2, 3, 6):
        tail, pilots = _tail(k, 2 * k - 1), 2 * k - 1
        at = {majority: k}
        yield Exact(
            f"uniform rates, $n = {pilots}$, integrated term by term",
            2 * sp.integrate(sp.expand(tail), (p, 0, half)),
            f["average"].subs(at),
        )
        yield Exact(
            f"growth of the chance at $p = 1/3$, $n = {pilots}$",
            sp.diff(tail, p).subs(p, rate),
            f["growth"].subs({**at, p: rate}),
        )
        yield Exact(
            f"chance at $p = 1/3$, $n = {pilots}$, against its ceiling",
            tail.subs(p, rate),
            f["ceiling"].subs({**at, p: rate}),
            "<",
        )
    with_coin = _tail(3, 4) + binomial_chance(2, 4) / 2
    yield Exact(
        "uniform rates, $n = 4$, ties decided by a coin",
        2 * sp.integrate(sp.expand(with_coin), (p, 0, half)),
        f["average"].subs(majority, 2),
    )
    yield Exact(
        r"$p = 2/5$, $\varepsilon = 1/20$: pilots that are enough, 147, against the formula",
        147,
        f["enough"].subs({p: sp.Rational(2, 5), miss: sp.Rational(1, 20)}),
        ">",
    )
    yield Exact(
        r"$p = 2/5$, $\varepsilon = 1/20$: chance of a wrong verdict of 147 pilots",
        _tail_at(sp.Rational(2, 5), 74, 147),
        sp.Rational(1, 20),
        "<",
    )


def _tail_at(rate: sp.Rational, low: int, pilots: int) -> sp.Rational:
    wrong, scale = int(rate.q - rate.p), int(rate.q) ** pilots
    counts = (
        sp.binomial(pilots, k) * int(rate.p) ** k * wrong ** (pilots - k)
        for k in range(low, pilots + 1)
    )
    return sp.Rational(sum(counts), scale)


def _sample_vote(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.random(100_000)
    vote_S = rng.binomial(4, rate_S) + rng.choice([-0.5, 0.5], rate_S.size)
    yield Estimate.of(
        "verdicts of 4 pilots that are wrong, uniform rates, ties decided by a coin",
        ((vote_S > 2) != (rate_S > 0.5)).astype(np.float64),
        expected=float(f["average"].subs(majority, 2)),
        control=float(average.subs(majority, 1)),
        control_is="one pilot",
    )


CLAIMS = [
    Claim(
        number="7.10",
        source="not in the paper",
        title="How often pilots put a prompt on the wrong side",
        status=Status.PROVED,
        statement=r"""Let $n = 2k - 1$ pilots vote on whether $p$ is above or below $\tfrac12$. For
$p < \tfrac12$ the vote is wrong with probability $P(S \ge k)$, which grows with $p$ at the rate
$$<<growth>>$$
from $0$ to $\tfrac12$ and is at most
$$<<ceiling>>.$$
So $<<enough>>$ pilots, rounded up to an odd number, are enough for an error of at most
$\varepsilon$: 147 at $p = 0.4$, $\varepsilon = 0.05$. If rates are uniform, the share of prompts on
the wrong side is
$$<<average>>,$$
which falls only like $1/(2\sqrt{\pi k})$. With $2k$ pilots and ties decided by a coin it is the
same: 3/16 for 4 pilots as for 3.""",
        formulas={"growth": growth, "average": average, "ceiling": ceiling, "enough": enough},
        prove=_prove_vote,
        enumerate=_enumerate_vote,
        sample=_sample_vote,
    ),
]
