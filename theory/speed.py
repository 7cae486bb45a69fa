r"""Filters on mixed groups in the language of Eq. (14) and (20): screening by pilots.

SPEED gives every prompt n pilots and, iff they are mixed, c rollouts more; the group of n + c is
trained on. DAPO gives every prompt a whole group and drops it unless it is mixed. Counterparts:
``cures.prob_mixed`` and the schedulers ``speed``, ``dapo`` and ``band``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from math import comb

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.finite_groups import is_mixed, mixed
from theory.outcomes import Rewards, expectation, rational
from theory.symbols import n, p, potential, q

half = sp.Rational(1, 2)
continued = sp.Symbol("c", integer=True, positive=True)  # rollouts after the screening, N_cont
low, high = sp.symbols("l h", integer=True, positive=True)  # band of right answers that is kept

unanimous = p**n + (1 - p) ** n
group = n + continued
screening_quota = n + continued * mixed


def band_odds(size: sp.Expr | int, first: sp.Expr | int, last: sp.Expr | int) -> sp.Expr:
    """Odds of the success rate with most groups of ``first`` to ``last`` right of ``size``."""
    ratio = sp.binomial(size - 1, first - 1) / sp.binomial(size - 1, last)
    return ratio ** (1 / sp.sympify(last - first + 1))


# 9.5 -------------------------------------------------------------------------------------------


def _prove_shape(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Among the trained a prompt counts in proportion to $P(n)$. Over uniform rates its mean "
        r"is, by integration,",
        sp.Integral(mixed, (p, 0, 1)),
        (n - 1) / (n + 1),
    )
    yield Step(
        "so that the density of the trained rates is",
        mixed * (n + 1) / (n - 1),
        f["density"],
        name=r"P(n)\, \frac{n+1}{n-1}",
    )
    yield Step(
        r"Two pilots and three give the same shape, $p(1-p)$, the square of the potential.",
        f["density"].subs(n, 2),
        6 * p * (1 - p),
    )
    yield Step(r"For three,", f["density"].subs(n, 3), 6 * p * (1 - p))
    yield Step(
        r"At $p = 1/2$ the logarithm of the shape, $\log P(n)$, is level, as $\sqrt{p(1-p)}/\tau$ "
        r"is;",
        sp.Subs(sp.Derivative(sp.log(mixed), p), p, half),
        0,
    )
    yield Step(
        r"their second derivatives agree there at the temperature",
        sp.diff(potential, p, 2).subs(p, half) / sp.diff(sp.log(mixed), p, 2).subs(p, half),
        f["temperature"],
        name=r"\left. \frac{\left(\sqrt{p (1-p)}\right)''}{\left(\log P(n)\right)''} \right|_{p = 1/2}",
    )
    yield Step(
        r"At that temperature (14) gives a prompt with $p \to 0$, relative to one with $p = 1/2$,",
        sp.exp(-half / f["temperature"]),
        f["floor"],
        name=r"e^{-1/(2\tau)}",
    )
    k, size = sp.symbols("k m", integer=True, positive=True)
    chance, before = (
        sp.binomial(s, j) * p**j * (1 - p) ** (s - j) for s, j in ((size, k), (size - 1, k - 1))
    )
    after = sp.binomial(size - 1, k) * p**k * (1 - p) ** (size - 1 - k)
    yield Step(
        r"A band: the chance $b_m(k)$ of $k$ right answers of $m$ changes with $p$ at the rate $m "
        r"(b_{m-1}(k-1) - b_{m-1}(k))$; here $m = 7$, $k = 3$.",
        sp.Derivative(chance.subs({k: 3, size: 7}), p),
        (size * (before - after)).subs({k: 3, size: 7}),
    )
    yield Step(
        r"Summed over the band $l \dots h$ of groups of $n$ only $b_{n-1}(l-1) = b_{n-1}(h)$ is "
        r"left; divided by $(1-p)^{n-1}$, with the odds $o = p/(1-p)$: $\binom{n-1}{l-1} = "
        r"\binom{n-1}{h} o^{h-l+1}$.",
        sp.binomial(n - 1, low - 1) / sp.binomial(n - 1, high),
        f["odds"] ** (high - low + 1),
        name="o^{h-l+1}",
    )


def _enumerate_shape(f: Formulas) -> Iterator[Exact]:
    rate = Fraction(2, 7)
    offset = sp.Symbol("e")
    for size in (2, 4, 5):
        # over uniform rates every number of right answers, 0 ... n, is equally likely
        share = expectation(rate, size, _mixed_one)
        yield Exact(
            rf"density at $p = 2/7$, {size} pilots",
            share * sp.Rational(size + 1, size - 1),
            f["density"].subs({p: rational(rate), n: size}),
        )
        ways = [sp.binomial(size, k) for k in range(size + 1)]
        near = sp.Poly(
            sum(
                w * (half + offset) ** k * (half - offset) ** (size - k)
                for k, w in enumerate(ways)
                if 0 < k < size
            ),
            offset,
        )
        level = -near.coeff_monomial(1) / near.coeff_monomial(offset**2)
        yield Exact(f"temperature from the powers of $p - 1/2$, {size} pilots", level,
                    f["temperature"].subs(n, size))  # fmt: skip
        yield Exact(
            f"logarithm of what (14) keeps at the ends, {size} pilots",
            -half / level,
            sp.log(f["floor"].subs(n, size)),
        )
    for size, first, last in ((5, 1, 1), (10, 1, 2), (5, 2, 3)):
        grid = [Fraction(i, 70) for i in range(1, 70)]
        best = max(grid, key=partial(_in_band, size=size, first=first, last=last))
        yield Exact(
            f"{first} to {last} right of {size}: odds of the rate kept most, in steps of 1/70",
            rational(best / (1 - best)),
            f["odds"].subs({n: size, low: first, high: last}),
        )


def _in_band(rate: Fraction, size: int, first: int, last: int) -> Fraction:
    """Chance that the number of right answers lies in a band."""
    chances = (comb(size, k) * rate**k * (1 - rate) ** (size - k) for k in range(first, last + 1))
    return sum(chances, Fraction())


def _sample_shape(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.random(100_000)
    right_S = rng.binomial(4, rate_S)
    trained_S = rate_S[(right_S > 0) & (right_S < 4)]
    moment = float(sp.integrate(sp.expand(f["density"].subs(n, 4) * (p - half) ** 2), (p, 0, 1)))
    yield Estimate.of(
        r"$(p - \frac12)^2$ of the trained, uniform rates, 4 pilots",
        (trained_S - 0.5) ** 2,
        expected=moment,
        control=1 / 20,
        control_is=r"a shape $p(1-p)$",
    )


# 9.6 -------------------------------------------------------------------------------------------


def _prove_cost(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"A prompt gets $n$ rollouts if its pilots agree and $n + c$ if not:",
        unanimous * n + mixed * group,
        f["quota"],
    )
    spent = n + continued * q
    yield Step(
        r"Per prompt screened there are $n + cq$ rollouts and $q$ trained prompts in the mean.",
        spent / q,
        f["cost"],
    )
    share = sp.Integral(mixed, (p, 0, 1))
    yield Step("For uniform rates:", n / share + continued, f["uniform"])
    more = sp.Symbol("s", positive=True)
    least = sp.Symbol("e", nonnegative=True)
    yield Step(
        r"With $n + c$ fixed and more pilots, from $n = 2 + e$ to $n + s$, this falls.",
        f["uniform"].subs(n, 2 + least),
        f["uniform"].subs({n: 2 + least + more, continued: continued - more}),
        certificate=2 * more / ((1 + least) * (1 + least + more)),
    )
    yield Step(
        r"Without a signal are the $n$ pilots of a prompt that is turned down, and no others;",
        (1 - q) * n / spent,
        f["idle"],
        name=r"\frac{(1-q)\, n}{n + c q}",
    )
    yield Step(
        r"with equal groups it is all $n + c$ of a unanimous group.",
        1 - mixed.subs(n, group),
        f["equal"],
        name="1 - P(n + c)",
    )


def _enumerate_cost(f: Formulas) -> Iterator[Exact]:
    pool = (Fraction(0), Fraction(1, 10), Fraction(1, 2))
    for size, rest in ((2, 3), (4, 2)):
        trained, spent, idle = (
            [expectation(rate, size, value) for rate in pool]
            for value in (
                _mixed_one,
                partial(_spent, later=rest),
                _without_signal,
            )
        )
        at = {n: size, continued: rest, q: sum(trained) / 3}
        where = f"{size} pilots and {rest} more"
        yield Exact(
            f"$p = 1/10$, {where}: rollouts",
            spent[1],
            f["quota"].subs({**at, p: sp.Rational(1, 10)}),
        )
        what = f"prompts of $p = 0, 1/10, 1/2$, {where}: rollouts per trained prompt"
        yield Exact(what, sum(spent) / sum(trained), f["cost"].subs(at))
        yield Exact(
            f"the same pool, {where}: share of rollouts without a signal",
            sum(idle) / sum(spent),
            f["idle"].subs(at),
        )
        alike = expectation(pool[1], size + rest, lambda r: Fraction(not is_mixed(r)))
        yield Exact(f"$p = 1/10$, equal groups of {size + rest}: share without a signal", alike,
                    f["equal"].subs({**at, p: sp.Rational(1, 10)}))  # fmt: skip
        # over uniform rates 0 ... n right answers are equally likely
        screened = sp.Rational(size + 1, size - 1)
        yield Exact(
            f"uniform rates, {where}: rollouts per trained prompt",
            screened * size + rest,
            f["uniform"].subs(at),
        )


def _mixed_one(rewards: Rewards) -> Fraction:
    return Fraction(is_mixed(rewards))


def _without_signal(rewards: Rewards) -> Fraction:
    return Fraction(0 if is_mixed(rewards) else len(rewards))


def _spent(rewards: Rewards, later: int) -> Fraction:
    """Rollouts of a prompt with these pilots."""
    return Fraction(len(rewards) + later * is_mixed(rewards))


def _sample_cost(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.random(200_000)
    right_S = rng.binomial(4, rate_S)
    screened_S = np.diff(np.flatnonzero((right_S > 0) & (right_S < 4)))  # per trained prompt
    yield Estimate.of(
        "rollouts per trained prompt, uniform rates, 4 pilots and 8 more",
        4.0 * screened_S + 8.0,
        expected=float(f["uniform"].subs({n: 4, continued: 8})),
        control=4 / float(mixed.subs({n: 4, p: half})) + 8,
        control_is="at the mean rate",
    )


CLAIMS = [
    Claim(
        number="9.5",
        source="not in the paper",
        title="SPEED's screening as a distribution over prompts, beside Eq. (14)",
        status=Status.PROVED,
        statement=r"""
SPEED trains on a prompt iff its $n \ge 2$ pilots are mixed, so among the prompts trained on one
of success rate $p$ counts in proportion to $P(n) = 1 - p^n - (1-p)^n$, as if (14) had the
potential $\log P(n)$ and the temperature 1. If the rates of the pool are uniform, those of the
trained have the density
$$<<density>>.$$
Two or three pilots select in proportion to $p(1-p)$; with many the shape is flat but for the
ends, and a dead prompt is never trained on. At $p = 1/2$ the shape agrees to second order with
(14) at
$$\tau = <<temperature>>,$$
1/4 for two and for three pilots, 0.29 for 4, 1.13 for 8. At the ends they differ: SPEED's falls
to 0 like $np$, whereas (14) keeps $<<floor>>$ of its height (0.18 for 4 pilots). DAPO has the
same shape with whole groups for pilots; keeping groups with $l$ to $h$ right answers of $n$, $1
\le l \le h < n$, favours the odds
$$\frac{p}{1-p} = <<odds>>.$$""",
        formulas={
            "density": (n + 1) / (n - 1) * mixed,
            "temperature": (2**n - 2) / (4 * n * (n - 1)),
            "floor": sp.exp(-2 * n * (n - 1) / (2**n - 2)),
            "odds": band_odds(n, low, high),
        },
        prove=_prove_shape,
        enumerate=_enumerate_shape,
        sample=_sample_shape,
    ),
    Claim(
        number="9.6",
        source="not in the paper",
        title="What SPEED's screening costs, and what it spares",
        status=Status.PROVED,
        statement=r"""
With $n$ pilots and $c$ rollouts after them if they are mixed, a prompt of success rate $p$ gets
on average
$$<<quota>>$$
rollouts: a quota that lies between $n$ for the dead and $n + c$, is decided by the pilots and not
by a model of $\sigma$, and has the shape of 9.5 above its floor. If $q$ is the mean of $P(n)$
over the pool, a prompt that is trained on costs $<<cost>>$ rollouts, those spent on others
included; over uniform rates
$$<<uniform>>,$$
which for a given size $n + c$ of the group falls with $n$, down to equal groups. The share of
rollouts without a signal is
$$<<idle>>,$$
all of them pilots, against the mean over the pool of $<<equal>>$ with equal groups of $n + c$.""",
        formulas={
            "quota": screening_quota,
            "cost": n / q + continued,
            "uniform": n * (n + 1) / (n - 1) + continued,
            "idle": n * (1 - q) / (n + continued * q),
            "equal": p**group + (1 - p) ** group,
        },
        prove=_prove_cost,
        enumerate=_enumerate_cost,
        sample=_sample_cost,
    ),
]
