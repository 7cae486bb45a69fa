r"""Groups of n rollouts with the group's mean as baseline: what of Eq. (15), (21) is left of them.

A prompt of success rate p gets n rollouts; k of them are right. Its estimate is
:math:`\hat g = \frac1n \sum_j A_j s_j`, where A depends on all rewards of the group. Counterparts:
``cures.prob_mixed``, ``cures.advantages``, ``cures.gradient_std_surrogate``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.group_draws import draw_gradients, gradient_of
from theory.outcomes import Rewards, SmallPolicy, centred, expectation, rational
from theory.score_law import D
from theory.symbols import n, p

V_1, V_0 = sp.symbols("V_1 V_0", positive=True)  # spread of the scores given the reward
S = sp.Symbol("S", positive=True)  # E|s|^2
slope = sp.Symbol("g", positive=True)  # |grad p|
k = sp.Symbol("k", integer=True, positive=True)  # right answers of a group

mixed = 1 - p**n - (1 - p) ** n
next_mixed = p**n * (1 - p) + (1 - p) ** n * p

THREE = SmallPolicy.of([1, 2, 3], frozenset({1}))  # p = 1/3
FOUR = SmallPolicy.of([1, 1, 2, 4], frozenset({0, 2}))  # p = 3/8
POLICIES = {r"3 answers, $p = 1/3$": THREE, r"4 answers, $p = 3/8$": FOUR}


def values(policy: SmallPolicy) -> dict[sp.Symbol, sp.Expr]:
    """The symbols of this chapter for a policy."""
    moment = {name: rational(x) for name, x in policy.moments().items()}
    rate = rational(policy.rate)
    spread = rate * moment["spread_right"] + (1 - rate) * moment["spread_wrong"]
    return {
        p: rate,
        V_1: moment["spread_right"],
        V_0: moment["spread_wrong"],
        D: sp.sqrt(moment["sq_difference"]),
        S: spread + rate * (1 - rate) * moment["sq_difference"],
        slope: rate * (1 - rate) * sp.sqrt(moment["sq_difference"]),
    }


def binomial_mean(size: int, value: sp.Expr, low: int = 0, high: int | None = None) -> sp.Expr:
    """Mean of an expression in k over the right answers of ``size`` rollouts, k from low to high."""
    last = size if high is None else high
    chance = sp.binomial(size, k) * p**k * (1 - p) ** (size - k)
    return sp.Add(*((chance * value).subs(k, count) for count in range(low, last + 1)))


def is_mixed(rewards: Rewards) -> bool:
    """Whether a group has right and wrong answers."""
    return 0 < sum(rewards) < len(rewards)


# 6.1 -------------------------------------------------------------------------------------------


def _prove_mixed(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"The chance that $k$ of the $n$ are right, $k$ from 1 to $n - 1$, added up; here $n = 5$.",
        binomial_mean(5, sp.Integer(1), 1, 4),
        f["mixed"].subs(n, 5),
    )
    yield Step(
        r"One more rollout mends a group of right ones with a wrong one, or the other way round:",
        f["mixed"].subs(n, n + 1) - f["mixed"],
        f["next"],
    )
    yield Step(
        r"and mends fewer of them each time: $n \mapsto P$ is concave from $n = 1$ on, where it is 0.",
        f["next"],
        f["next"].subs(n, n + 1),
        certificate=p**n * (1 - p) ** 2 + (1 - p) ** n * p**2,
    )
    ratio = sp.Symbol("x", positive=True)
    series = ratio / (1 - ratio)  # x + x^2 + ..., by (1 - x) times it
    yield Step(
        r"If one rolls out until the group is mixed, the number $T$ of rollouts exceeds $n$ with "
        r"chance 1 for $n = 0$ and $p^n + (1-p)^n$ after that. Two geometric series:",
        1 + series.subs(ratio, p) + series.subs(ratio, 1 - p),
        f["until"],
    )


def _enumerate_mixed(f: Formulas) -> Iterator[Exact]:
    rate = Fraction(2, 7)
    for size in range(1, 7):
        yield Exact(
            rf"$p = 2/7$, $n = {size}$: mixed among all {2**size} outcomes",
            expectation(rate, size, lambda r: Fraction(is_mixed(r))),
            f["mixed"].subs({p: rational(rate), n: size}),
        )
    at = {p: rational(rate), n: 4}
    gained = expectation(rate, 5, lambda r: Fraction(is_mixed(r) and not is_mixed(r[:4])))
    yield Exact(r"$p = 2/7$: mixed at the fifth rollout and not before", gained, f["next"].subs(at))
    capped = expectation(rate, 8, lambda r: Fraction(_first_mixed(r)))
    tail = rate**8 / (1 - rate) + (1 - rate) ** 8 / rate
    yield Exact(
        r"$p = 2/7$: mean of $\min(T, 8)$ over all 256 outcomes",
        capped,
        f["until"].subs(at) - rational(tail),
    )


def _first_mixed(rewards: Rewards) -> int:
    """Rollouts until the group is mixed; all of them if it never is."""
    sizes = range(1, len(rewards) + 1)
    return next((size for size in sizes if is_mixed(rewards[:size])), len(rewards))


def _sample_mixed(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    right_S = rng.binomial(4, 0.3, size=400_000)
    yield Estimate.of(
        r"$p = .3$, $n = 4$: mixed groups",
        ((right_S > 0) & (right_S < 4)).astype(np.float64),
        expected=float(f["mixed"].subs({p: 0.3, n: 4})),
        control=1 - 0.7**4,
        control_is="without the groups of right answers only",
    )
    first_S = rng.random(100_000) < 0.2
    until_S = 1.0 + rng.geometric(np.where(first_S, 0.8, 0.2))
    yield Estimate.of(
        r"$p = .2$: rollouts until the group is mixed",
        np.asarray(until_S, dtype=np.float64),
        expected=float(f["until"].subs(p, 0.2)),
        control=1 / (0.2 * 0.8),
        control_is="$1/(p(1-p))$",
    )


# 6.2 -------------------------------------------------------------------------------------------


def _prove_group_mean(f: Formulas) -> Iterator[Step]:
    reward, average = sp.symbols(r"r_j \bar{r}", real=True)
    own, other = 1 - 1 / n, 1 / n
    yield Step(
        r"$r_j - \bar r$ holds $r_j$ with the factor $1 - 1/n$ and each of the $n - 1$ others with "
        r"$-1/n$; rewards are independent, of variance $p(1-p)$.",
        p * (1 - p) * (own**2 + (n - 1) * other**2),
        f["square"],
    )
    own_part, score_mean = sp.symbols("x m_s", real=True)  # E[r s] = grad p, E[s] = 0
    yield Step(
        r"One coordinate, with $x = \mathbb{E}[r s]$ that of $\nabla p$ and $m_s = \mathbb{E}\,s$: "
        r"$r_j s_j$ has the mean $x$, and $r_i s_j$ of another rollout has $p\, m_s$, which is 0.",
        (own * own_part - (n - 1) * other * p * score_mean).subs(score_mean, 0),
        f["factor"] * own_part,
    )
    yield Step(
        r"The mean of the *other* $n - 1$ rewards as baseline (RLOO) only stretches the advantage:",
        reward - (n * average - reward) / (n - 1),
        (reward - average) / f["factor"],
    )
    yield Step(
        "so that the bias is gone and the mean square is",
        f["square"] / f["factor"] ** 2,
        f["square_rloo"],
        name=r"\frac{n^2}{(n-1)^2}\, \mathbb{E}(r_j - \bar r)^2",
    )


def _enumerate_group_mean(f: Formulas) -> Iterator[Exact]:
    rate = Fraction(3, 8)
    for size in (2, 3, 5):
        at = {p: rational(rate), n: size}
        square = expectation(
            rate, size, lambda r: sum((a * a for a in centred(r)), Fraction()) / len(r)
        )
        yield Exact(rf"$p = 3/8$, $n = {size}$: mean of $A^2$", square, f["square"].subs(at))
        square = expectation(rate, size, _mean_square_left_out)
        yield Exact("left out of its own mean", square, f["square_rloo"].subs(at))
    for what, policy in POLICIES.items():
        for size in (1, 2, 3):
            mean, _ = policy.gradient_moments(size, lambda _: Fraction(1))
            yield Exact(
                rf"{what}, $n = {size}$: first coordinate of $\mathbb{{E}}\,\hat g$",
                rational(mean[0]),
                f["factor"].subs(n, size) * gradient(policy)[0],
            )


def _mean_square_left_out(rewards: Rewards) -> Fraction:
    total, others = sum(rewards), len(rewards) - 1
    return sum(((r - Fraction(total - r, others)) ** 2 for r in rewards), Fraction()) / len(rewards)


def gradient(policy: SmallPolicy) -> list[sp.Expr]:
    """``E[r s]``."""
    return [
        rational(sum((policy.pi_K[a] * policy.score_K[a][d] for a in policy.right), Fraction()))
        for d in range(len(policy.score_K[0]))
    ]


def _sample_group_mean(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    reward_S_J = (rng.random((50_000, 3)) < 0.3).astype(np.float64)
    centred_S_J = reward_S_J - reward_S_J.mean(axis=1, keepdims=True)
    at = {p: 0.3, n: 3}
    yield Estimate.of(
        r"mean $A^2$ of a group, $p = .3$, $n = 3$",
        (centred_S_J**2).mean(axis=1),
        expected=float(f["square"].subs(at)),
        control=0.3 * 0.7,
        control_is="$p(1-p)$, as for the true advantage",
    )
    yield Estimate.of(
        "mean $A^2$ with the mean of the others, $p = .3$, $n = 3$",
        ((1.5 * centred_S_J) ** 2).mean(axis=1),
        expected=float(f["square_rloo"].subs(at)),
        control=0.3 * 0.7,
        control_is="$p(1-p)$",
    )
    gradient_D = gradient_of(FOUR)
    along_S = draw_gradients(FOUR, rng, 50_000, 3, lambda _: 1.0) @ gradient_D
    yield Estimate.of(
        r"$\hat g \cdot \nabla p / |\nabla p|^2$, 4 answers, $n = 3$",
        along_S / (gradient_D @ gradient_D),
        expected=float(f["factor"].subs(n, 3)),
        control=1.0,
        control_is="no bias",
    )


CLAIMS = [
    Claim(
        number="6.1",
        source="not in the paper",
        title="Groups without a signal",
        status=Status.PROVED,
        statement=r"""
A prompt of success rate $p$, $0 < p < 1$ here and below, gets a group of $n$ rollouts. If all of them
are right or all are wrong, every estimator that subtracts the group's mean gives them the advantage 0.
A group is mixed with chance
$$P(n) = <<mixed>>, \qquad n \ge 1.$$
One more rollout adds $<<next>>$, which falls with $n$. Rolling out until the group is mixed takes
$$<<until>>$$
rollouts on average.""",
        formulas={"mixed": mixed, "next": next_mixed, "until": 1 / (p * (1 - p)) - 1},
        prove=_prove_mixed,
        enumerate=_enumerate_mixed,
        sample=_sample_mixed,
    ),
    Claim(
        number="6.2",
        source="not in the paper",
        title="The group's mean as baseline: bias and size",
        status=Status.PROVED,
        statement=r"""
A group's estimate of $\nabla p$ is $\hat g = \frac1n \sum_j A_j s_j$, the scores $s_j$ weighted by
advantages. With $A_j = r_j - \bar r$, the group's own mean subtracted (Dr.GRPO), $\mathbb{E}\,A_j^2
= <<square>>$ and
$$\mathbb{E}\,\hat g = <<factor>>\, \nabla p:$$
the estimate is too short, and the more so the smaller the group; with quotas that differ, prompts
with small groups count less. Leaving a rollout out of its own baseline (RLOO, $n \ge 2$) multiplies the
advantages by $n/(n-1)$: no bias, and $\mathbb{E}\,A_j^2 = <<square_rloo>>$.""",
        formulas={
            "square": p * (1 - p) * (n - 1) / n,
            "factor": (n - 1) / n,
            "square_rloo": p * (1 - p) * n / (n - 1),
        },
        prove=_prove_group_mean,
        enumerate=_enumerate_group_mean,
        sample=_sample_group_mean,
    ),
]
