r"""Groups that begin with mixed pilots: their bias, their signal, and when screening pays.

A prompt gets n pilots and, iff they are mixed, c rollouts more; all n + c are one group with one
baseline. Counterparts: the scheduler ``speed`` and ``cures.advantages``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.finite_groups import is_mixed, mixed, next_mixed
from theory.outcomes import Rewards, centred, expectation, rational
from theory.speed import continued, group, unanimous
from theory.symbols import n, p

more = sp.Symbol("e", integer=True, positive=True)  # n - 1
before = unanimous.subs(n, n - 1)
pull = 1 - continued * (n * before + (continued - 1) * unanimous) / (group * (group - 1))


# 9.7 -------------------------------------------------------------------------------------------


def _prove_bias(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Of $\mathbb{E}\,k = np$ the unanimous hold $n p^n$; the mixed the rest, with chance $P(n)$.",
        (n * p - n * p**n) / (n * mixed),
        p + f["lift"],
    )
    yield Step(
        r"It has the sign of $(1-p)^{n-1} - p^{n-1}$, that is of $1/2 - p$; with $n = 1 + e$:",
        (f["lift"] * mixed).subs(n, 1 + more),
        p * (1 - p) * ((1 - p) ** more - p**more),
    )
    yield Step(
        r"The excess of a prompt is the shortage of its mirror image: antisymmetric about 1/2.",
        f["lift"],
        -f["lift"].subs(p, 1 - p),
    )
    yield Step(
        r"The baseline is the mean of all $n + c$; a later rollout, of mean reward $p$, falls "
        r"short by",
        p - (n * (p + f["lift"]) + continued * p) / group,
        f["later"],
    )
    right, square = continued * p, continued * p * (1 - p) + (continued * p) ** 2
    lost = n * (continued - right) + continued * right - square
    yield Step(
        r"A group with $K$ right answers of $N = n + c$ has the expected gradient $K(N-K)/N$ "
        r"times $\mathbb{E}[s|r=1] - \mathbb{E}[s|r=0]$. With $n$ right pilots and $X$ right "
        r"answers after them, $K(N-K) = (n + X)(c - X)$, with the mean $T(p)$:",
        lost,
        continued * (1 - p) * (n + (continued - 1) * p),
        name=r"\mathbb{E}(n + X)(c - X)",
    )
    kept = p * (1 - p) * (group - 1) - (p**n * lost + (1 - p) ** n * lost.subs(p, 1 - p)) / group
    equal = p * (1 - p) * (group - 1)
    yield Step(
        r"Taking this, and its mirror image, from the mean $p(1-p)(N-1)$ over all groups (6.2) "
        r"leaves what screening keeps; with $n = 1 + e$, as a share of it,",
        kept.subs(n, 1 + more),
        (equal * f["pull"]).subs(n, 1 + more),
        name=r"p (1-p) (N-1) - \frac{p^n\, T(p) + (1-p)^n\, T(1-p)}{N}",
    )
    u_1, u_0 = sp.symbols("u_{n-1} u_n", positive=True)
    yield Step(
        r"The factor falls with $u_{n-1}$ and $u_n$, $u_k = p^k + (1-p)^k$, which grow from $p = 1/2$ "
        r"($u_1$ stays 1) to 1 at the ends, where it is",
        f["pull"].subs({before: u_1, unanimous: u_0}).subs({u_1: 1, u_0: 1}),
        f["ends"],
    )


def _enumerate_bias(f: Formulas) -> Iterator[Exact]:
    rate = Fraction(2, 7)
    for size, rest in ((2, 3), (3, 2), (4, 2)):
        at = {p: rational(rate), n: size, continued: rest}
        where = rf"$p = 2/7$, {size} pilots and {rest} more"
        accepted = expectation(rate, size, lambda r: Fraction(is_mixed(r)))
        right = expectation(rate, size, lambda r: Fraction(sum(r) * is_mixed(r), len(r)))
        what = f"{where}: mean of mixed pilots less $p$"
        yield Exact(what, right / accepted - rational(rate), f["lift"].subs(at))
        last = expectation(rate, size + rest, _if_screened(lambda r: centred(r)[-1], size))
        yield Exact(
            f"{where}: mean advantage of a later rollout", last / accepted, f["later"].subs(at)
        )
        kept = expectation(rate, size + rest, _if_screened(_square, size))
        whole = expectation(rate, size + rest, _square)
        yield Exact(f"{where}: share of the signal kept", kept / whole, f["pull"].subs(at))
    at = {n: 4, continued: 20, p: sp.Rational(1, 1000)}
    yield Exact(
        r"$p = 1/1000$, 4 pilots and 20 more: share of the signal kept, above its limit",
        f["pull"].subs(at),
        f["ends"].subs(at),
        ">",
    )


def _if_screened(
    value: Callable[[Rewards], Fraction], pilots: int
) -> Callable[[Rewards], Fraction]:
    """The value if the first ``pilots`` rewards are mixed, else 0."""
    return lambda rewards: value(rewards) * is_mixed(rewards[:pilots])


def _square(rewards: Rewards) -> Fraction:
    """Sum of the squared advantages, which is K (N - K) / N."""
    return sum((a * a for a in centred(rewards)), Fraction())


def _sample_bias(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    pilot_S, later_S = rng.binomial(4, 0.1, 100_000), rng.binomial(20, 0.1, 100_000)
    is_in_S = (pilot_S > 0) & (pilot_S < 4)
    at = {p: 0.1, n: 4, continued: 20}
    right_S = pilot_S + later_S
    yield Estimate.of(
        r"mean reward of a trained group, $p = 0.1$, 4 pilots and 20 more",
        right_S[is_in_S] / 24,
        expected=0.1 + float(f["lift"].subs(at)) * 4 / 24,
        control=0.1,
        control_is="$p$",
    )
    yield Estimate.of(
        "the same groups: advantage of the later rollouts",
        later_S[is_in_S] / 20 - right_S[is_in_S] / 24,
        expected=float(f["later"].subs(at)),
        control=0.0,
        control_is="no bias",
    )
    yield Estimate.of(
        "signal that screening keeps, $p = 0.1$, 4 pilots and 20 more",
        is_in_S * right_S * (24.0 - right_S) / 24 / (0.1 * 0.9 * 23),
        expected=float(f["pull"].subs(at)),
        control=float(mixed.subs(at)),
        control_is="the share of prompts that it keeps",
    )


# 9.8 -------------------------------------------------------------------------------------------


def _prove_pays(f: Formulas) -> Iterator[Step]:
    live = mixed * (1 - f["signal"])
    yield Step(
        r"$N = n + c$. Signal per rollout: with equal groups $x/N$, with screening $x\,w/(n + "
        r"c(1-d)P(n))$, where $w$ is the share that screening keeps (9.7). These are equal iff $N "
        r"w = n + c(1-d) P(n)$, at the share of dead prompts $d$; with $n = 1 + e$,",
        (group * pull).subs(n, 1 + more),
        (n + continued * live).subs(n, 1 + more),
    )
    room = mixed / (p * (1 - p)) - n * unanimous.subs(n, n - 2)
    yield Step(
        r"With $u_k = p^k + (1-p)^k$ and $B(n) = P(n)/(p(1-p)) - n\,u_{n-2}$ this $d$ is $1 - "
        r"p(1-p)B(n)/P(n)$ times its bound $1/(N-1)$. Both times $P(n)$, with $n = 2 + e$:",
        (mixed - room * p * (1 - p)).subs(n, 2 + more),
        (mixed * f["signal"] / f["most"]).subs(n, 2 + more),
        name=r"P(n) - p (1-p)\, B(n)",
    )
    yield Step(
        r"$B(n)$ grows with $n$, here from $2 + e$ to $3 + e$,",
        room.subs(n, 3 + more),
        room.subs(n, 2 + more),
        certificate=(2 + more) * (p**more * (1 - p) + (1 - p) ** more * p),
        name="B(3 + e) - B(2 + e)",
    )
    yield Step(r"from $B(3)$, which is", room.subs(n, 3), 0)
    yield Step(
        r"The bound is approached at the ends (here $n = 4$),",
        sp.limit(f["signal"].subs(n, 4), p, 0),
        f["most"].subs(n, 4),
        name=r"\lim_{p \to 0} d",
    )
    yield Step(
        r"and two pilots need twice as much at every $p$.",
        f["signal"].subs(n, 2),
        2 * f["most"].subs(n, 2),
    )
    whole = mixed.subs(n, group)
    yield Step(
        r"Rollouts per mixed group: $N/((1-d)P(N))$ for equal groups, $n/((1-d)P(n)) + c$ with "
        r"screening (9.6). They are equal at",
        n / mixed + continued * (1 - f["groups"]),
        group / whole,
        name=r"\frac{n}{P(n)} + c (1 - d)",
    )
    yield Step(
        r"This second $d$ is positive because $n u_n/P(n) = n/P(n) - n$ falls with $n$: with $P(n "
        r"+ 1) - P(n) = p(1-p)u_{n-1}$ (6.1)",
        n * unanimous / mixed - (n + 1) * unanimous.subs(n, n + 1) / mixed.subs(n, n + 1),
        (n * next_mixed - unanimous.subs(n, n + 1) * mixed) / (mixed * mixed.subs(n, n + 1)),
    )
    yield Step(
        r"and $P(n) = p(1-p)(u_0 + \dots + u_{n-2})$, where $u_0 = 2$, no other exceeds 1 and "
        r"$u_{n+1} < u_{n-1}$; with $n = 1 + e$,",
        unanimous.subs(n, more),
        unanimous.subs(n, 2 + more),
        certificate=p**more * (1 - p) * (1 + p) + (1 - p) ** more * p * (2 - p),
    )


def _enumerate_pays(f: Formulas) -> Iterator[Exact]:
    for rate, size, rest in (
        (Fraction(2, 7), 2, 3),
        (Fraction(2, 7), 4, 2),
        (Fraction(1, 10), 3, 3),
    ):
        at = {p: rational(rate), n: size, continued: rest}
        where = f"$p = {rate}$, {size} pilots and {rest} more"
        accepted = expectation(rate, size, lambda r: Fraction(is_mixed(r)))
        kept = expectation(rate, size + rest, _if_screened(_square, size))
        whole = expectation(rate, size + rest, _square)
        groups = expectation(rate, size + rest, lambda r: Fraction(is_mixed(r)))
        # kept / (n + c (1-d) accepted) = whole / N, and the same with groups for signal
        for name, worth, equal in (("signal", kept, whole), ("groups", accepted, groups)):
            live = (worth * (size + rest) / equal - size) / (rest * accepted)
            yield Exact(f"{where}: dead share, by {name}", 1 - live, f[name].subs(at))
        if size > 3:
            yield Exact(
                f"{where}: dead share, by signal, below its bound",
                f["signal"].subs(at),
                f["most"].subs(at),
                "<",
            )


def _sample_pays(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    at = {p: 0.1, n: 4, continued: 20}
    signal, groups = (float(f[name].subs(at)) for name in ("signal", "groups"))
    live, kept = float(mixed.subs(at)), float(pull.subs(at))
    for name, share, worth, other in (
        ("signal", signal, kept, groups),
        ("mixed groups", groups, live / float(mixed.subs({p: 0.1, n: 24})), 0.0),
    ):
        pilot_S = rng.binomial(4, np.where(rng.random(100_000) < share, 0.0, 0.1))
        spent_S = 4.0 + 20.0 * ((pilot_S > 0) & (pilot_S < 4))
        yield Estimate.of(
            f"$p = 0.1$, break-even by {name}: rollouts per prompt over 24 times the share kept",
            np.asarray(spent_S / (24 * worth), dtype=np.float64),
            expected=1.0,
            control=(4 + 20 * (1 - other) * live) / (24 * worth),
            control_is=f"a dead share of {other:.2f}",
        )


CLAIMS = [
    Claim(
        number="9.7",
        source="not in the paper",
        title="Training on the pilots that let a prompt in",
        status=Status.PROVED,
        statement=r"""
Mixed pilots, $n \ge 2$, have a mean reward that exceeds $p$ by
$$<<lift>>,$$
positive below $p = 1/2$, negative above. If the $c$ later rollouts share their baseline, the mean
of the group, a later rollout has the mean advantage
$$<<later>>$$
instead of 0, and a pilot $-c/n$ times as much: for hard prompts pilots are praised and later
rollouts blamed, whatever they say (0.29 and 0.10 as mean rewards, 4 + 20 rollouts at $p = 0.1$).
A posterior has to be fed every screening, not the trained groups. With advantages $r - \bar r$
the expected gradient, per prompt screened, stays parallel to $\nabla p$, but it is shorter than
that of an equal group of $n + c$ by the factor
$$<<pull>>,$$
which falls to $<<ends>>$ as $p \to 0$ or 1: the update follows another objective than the mean
success rate, one that cares less for prompts near the ends.""",
        formulas={
            "lift": (p * (1 - p) ** n - (1 - p) * p**n) / (1 - p**n - (1 - p) ** n),
            "later": -n * (p * (1 - p) ** n - (1 - p) * p**n) / (group * (1 - p**n - (1 - p) ** n)),
            "pull": pull,
            "ends": n / group,
        },
        prove=_prove_bias,
        enumerate=_enumerate_bias,
        sample=_sample_bias,
    ),
    Claim(
        number="9.8",
        source="not in the paper",
        title="When screening beats equal groups",
        status=Status.PROVED,
        statement=r"""
Let a share $d$ of the pool be dead and the others have the success rate $p$; compare screening by
$n \ge 2$ pilots, $c$ more if mixed, with equal groups of $n + c$ at equal rollouts. The expected
sum of the squared advantages $r - \bar r$, to which the length of the expected update is
proportional (9.7), is larger with screening iff $d$ exceeds
$$<<signal>>.$$
For $n \ge 3$ this is at most $<<most>>$ at every $p$ (equal to it for $n = 3$), and exactly twice that
for $n = 2$. The number of mixed groups is larger iff $d$ exceeds
$$<<groups>>,$$
which is positive too. So if all prompts have one success rate, screening pays by neither count,
for any $n$, $c$ and $p$; with dead prompts beside them it does so soon by the first (0.04 for 4 +
20) and later by the second (0.28 at $p = 0.1$), since groups of 24 are rarely unanimous. Prompts
near the ends have the effect of dead ones: what pays for screening is the spread of the rates,
not their mean.""",
        formulas={
            "signal": n
            * (p ** (n - 1) * (1 - p) + (1 - p) ** (n - 1) * p)
            / ((group - 1) * (1 - p**n - (1 - p) ** n)),
            "most": 1 / (group - 1),
            "groups": 1
            - (group / (1 - p**group - (1 - p) ** group) - n / (1 - p**n - (1 - p) ** n))
            / continued,
        },
        prove=_prove_pays,
        enumerate=_enumerate_pays,
        sample=_sample_pays,
    ),
]
