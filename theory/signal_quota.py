r"""Whole rollouts for the most signal: mixed groups, and the length of GRPO's mean estimate.

Counterparts: ``cures.prob_mixed``, ``cures.allocate_by_value``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp
from scipy.stats import binom

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.finite_groups import binomial_mean, is_mixed, k, mixed, next_mixed
from theory.group_normalisation import length
from theory.outcomes import expectation, rational
from theory.splits import Split, all_splits, best_split, greedy_split, largest_remainders
from theory.symbols import n, p

Array = np.ndarray[Any, np.dtype[Any]]
HALF = sp.Rational(1, 2)
LARGEST_GROUP = 31  # concavity was decided up to here: one group may get 32 rollouts


def _ell(size: str, right: str) -> sp.Symbol:
    """Length of the mean estimate over D given that ``right`` of ``size`` rollouts are right."""
    return sp.Symbol(rf"\ell_{{{size},\,{right}}}", nonnegative=True)


# second difference in n of GRPO's signal, on groups of n + 1 with k right: of n + 1, less twice that of
# the n without a random one, plus that of the n - 1 without two
lengths = {
    _ell(size, right): (n + more, k - fewer)
    for more, size in ((1, "n+1"), (0, "n"), (-1, "n-1"))
    for fewer, right in ((0, "k"), (1, "k-1"), (2, "k-2"))
}
kept = n + 1 - k
difference = (
    _ell("n+1", "k")
    - 2 * (k * _ell("n", "k-1") + kept * _ell("n", "k")) / (n + 1)
    + (
        k * (k - 1) * _ell("n-1", "k-2")
        + 2 * k * kept * _ell("n-1", "k-1")
        + kept * (kept - 1) * _ell("n-1", "k")
    )
    / (n * (n + 1))
)


def with_lengths(expression: sp.Expr, of_group: sp.Expr = length) -> sp.Expr:
    """The expression with the lengths written out."""
    return expression.subs(
        {
            symbol: of_group.subs({n: size, k: right}, simultaneous=True)
            for symbol, (size, right) in lengths.items()
        }
    )


coefficient = with_lengths(difference)


def signal(size: int) -> sp.Expr:
    """Length of the mean GRPO estimate of a group over D, as a function of p."""
    return binomial_mean(size, length.subs(n, size), 1, size - 1) if size > 1 else sp.Integer(0)


def best_by_tables(value_B_N: Sequence[Sequence[float]], total: int, low: int) -> float:
    """Largest sum of ``value[i][n_i]`` over all splits with quotas >= low, by dynamic programming."""
    best = {0: 0.0}
    for value_N in value_B_N:
        best = {
            used: max(
                best[used - count] + value_N[count]
                for count in range(low, used + 1)
                if used - count in best
            )
            for used in range(min(best) + low, total + 1)
        }
    return best[total]


def _proportional(rates: Sequence[float], total: int) -> Split:
    """Eq. (20) with sigma = sqrt(p (1 - p)), by largest remainders."""
    return largest_remainders([round(1e6 * np.sqrt(r * (1 - r))) for r in rates], total)


# 6.11 ------------------------------------------------------------------------------------------


def _prove_mixed(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"$P(n + 1) - P(n)$ for $n \ge 1$, with $P(1) = 0$:",
        mixed.subs(n, n + 1) - mixed,
        f["marginal"],
    )
    yield Step(
        "falls with $n$. By the argument of 4.5 greedy from one rollout each is optimal.",
        f["marginal"],
        f["marginal"].subs(n, n + 1),
        certificate=p**n * (1 - p) ** 2 + (1 - p) ** n * p**2,
    )
    yield Step(
        r"But from no rollout to one nothing is gained, $P(0) = P(1) = 0$, and from one to two this "
        r"much:",
        mixed.subs(n, 2),
        f["pair"],
    )


def _enumerate_mixed(f: Formulas) -> Iterator[Exact]:
    rates = (Fraction(1, 2), Fraction(1, 5), Fraction(1, 10))

    def value(split: Split, of: Sequence[Fraction] = rates) -> Fraction:
        return sum((_prob_mixed(r, size) for r, size in zip(of, split, strict=True)), Fraction())

    def marginal(i: int, size: int) -> Fraction:
        gain = f["marginal"].subs({p: rational(rates[i]), n: size})
        return Fraction(int(gain.p), int(gain.q))

    for total in (12, 17):
        greedy, best = greedy_split(marginal, total, [1] * 3), best_split(value, total, 3, 1)
        yield Exact(
            rf"$p = 1/2, 1/5, 1/10$, $N = {total}$: mixed groups of the best of all "
            rf"{sum(1 for _ in all_splits(total, 3, 1))} splits with at least 1, {best}, and of the "
            r"greedy one",
            rational(value(best)),
            rational(value(greedy)),
        )
    for rate in rates[1:]:
        both = expectation(rate, 2, lambda r: Fraction(is_mixed(r)))
        yield Exact(
            rf"$p = {sp.latex(rational(rate))}$: a pair is mixed",
            both,
            f["pair"].subs(p, rational(rate)),
        )
    # with quotas of 0 allowed: greedy by single rollouts, then by value per rollout with a pair first
    two = (Fraction(1, 10), Fraction(1, 2))
    single = greedy_split(
        lambda i, size: _prob_mixed(two[i], size + 1) - _prob_mixed(two[i], size), 3, [0, 0]
    )
    best = best_split(lambda s: value(s, two), 3, 2, 0)
    yield Exact(
        rf"$p = 1/10, 1/2$, $N = 3$: greedy from 0, {single}, and the best, {best}",
        rational(value(single, two)),
        rational(value(best, two)),
        "<",
    )
    near = (Fraction(1, 2), Fraction(2, 5))
    density, best = _by_density(near, 4), best_split(lambda s: value(s, near), 4, 2, 0)
    yield Exact(
        rf"$p = 1/2, 2/5$, $N = 4$: by value per rollout, {density}, and the best, {best}",
        rational(value(density, near)),
        rational(value(best, near)),
        "<",
    )
    far = (Fraction(1, 2), Fraction(1, 50))
    stated, best = (25, 7), best_split(lambda s: value(s, far), 32, 2, 1)
    yield Exact(
        r"$p = 1/2, 1/50$, $N = 32$: quotas (20) are whole, 25 and 7; the best are 7 and",
        best[1],
        25,
    )
    yield Exact(
        "mixed groups by (20), in whole percent of the most",
        round(100 * value(stated, far) / value(best, far)),
        82,
    )


def _prob_mixed(rate: Fraction, size: int) -> Fraction:
    return 1 - rate**size - (1 - rate) ** size if size > 1 else Fraction()


def _by_density(rates: Sequence[Fraction], total: int) -> Split:
    """Greedy by value per rollout, where a prompt's first purchase is a pair."""
    split = [0] * len(rates)
    while sum(split) < total:
        left = total - sum(split)
        offers = []
        for i, (rate, size) in enumerate(zip(rates, split, strict=True)):
            count = 1 if size else 2
            if count <= left:
                gain = _prob_mixed(rate, size + count) - _prob_mixed(rate, size)
                offers.append((gain / count, -i, count))
        _, index, count = max(offers)
        split[-index] += count
    return tuple(split)


def _sample_mixed(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate_B, total = np.append(rng.uniform(0.01, 0.06, 3), rng.uniform(0.3, 0.7, 3)), 60
    gain = sp.lambdify((p, n), f["marginal"])

    def marginal(i: int, size: int) -> Any:
        return gain(rate_B[i], size)

    size_N = np.arange(total + 1)
    value_B_N = [
        np.where(size_N > 1, 1 - r**size_N - (1 - r) ** size_N, 0.0).tolist() for r in rate_B
    ]
    greedy = greedy_split(marginal, total, [1] * 6)
    stated = _proportional(rate_B.tolist(), total)
    yield Search(
        "six random prompts, three of them rarely solved, 60 rollouts: mixed groups, greedy against "
        "dynamic programming",
        claimed=sum(value_B_N[i][size] for i, size in enumerate(greedy)),
        found=best_by_tables(value_B_N, total, 1),
        control=sum(value_B_N[i][size] for i, size in enumerate(stated)),
        control_is="quotas (20)",
        sense="max",
        tolerance=1e-12,
    )
    rates, few = (0.5, 0.02), 32

    def gained(i: int, size: int) -> Any:
        return f["marginal"].subs({p: rates[i], n: size})

    split = greedy_split(gained, few, [1, 1])
    right_S_B = rng.binomial(split, rates, size=(40_000, 2))
    yield Estimate.of(
        "$p = 1/2, 1/50$, $N = 32$, greedy: mixed groups",
        ((right_S_B > 0) & (right_S_B < split)).sum(axis=1).astype(np.float64),
        expected=float(sum(gained(i, j) for i in range(2) for j in range(1, split[i]))),
        control=float(sum(gained(i, j) for i, size in enumerate((25, 7)) for j in range(1, size))),
        control_is="quotas (20)",
    )


# 6.12 ------------------------------------------------------------------------------------------


def _prove_grpo(f: Formulas) -> Iterator[Step]:
    general = with_lengths(f["difference"], f["length"])
    for size in (2, 3):
        words = (
            r"A group of $n$ is a group of $n + 1$ without a random one. So the second difference of "
            r"the signal, $S(n+1) - 2S(n) + S(n-1)$, is the binomial mean of the differences in the "
            r"statement; where all of them are negative, it is. Here $n = 2$ (with $S(1) = 0$),"
        )
        yield Step(
            words if size == 2 else rf"and $n = {size}$.",
            signal(size + 1) - 2 * signal(size) + signal(size - 1),
            binomial_mean(size + 1, general.subs(n, size), 1, size),
        )
    few = p * (1 - p) * (n - 1) / sp.sqrt(n)
    yield Step(
        r"For $n = 2$ and 3 the signal is $p(1-p)(n-1)/\sqrt n$ (6.4): a pair has",
        few.subs(n, 2),
        f["pair"],
        name=r"\left. \frac{p (1-p) (n-1)}{\sqrt n} \right|_{n = 2}",
    )
    yield Step("and the third rollout adds", few.subs(n, 3) - few.subs(n, 2), f["third"])


def _enumerate_grpo(f: Formulas) -> Iterator[Exact]:
    general = with_lengths(f["difference"], f["length"])
    numbers = [
        general.subs({n: size, k: right})
        for size in range(2, LARGEST_GROUP + 1)
        for right in range(1, size + 1)
    ]
    yield Exact(
        rf"the largest of the {len(numbers)} differences for $n = 2..{LARGEST_GROUP}$",
        max(numbers, key=lambda x: float(x)),
        0,
        "<",
    )
    rate = sp.Rational(1, 5)
    for name, count in (("pair", 2), ("third", 3)):
        yield Exact(
            rf"$p = 1/5$: signal of {count} rollouts" + ("" if count == 2 else " less that of 2"),
            _by_outcomes(rate, count) - (_by_outcomes(rate, 2) if count == 3 else 0),
            f[name].subs(p, rate),
        )
    rates, total = [HALF, sp.Rational(1, 50)], 32
    value = _tabulated(rates, total)
    best = best_split(value, total, 2, 1)
    yield Exact(
        r"$p = 1/2, 1/50$, $N = 32$: first quota of the most signal; (20) gives 25, RLOO's 24, mixed "
        r"groups 7",
        best[0],
        16,
    )
    share = sum(signal(size).subs(p, r) for r, size in zip(rates, (25, 7), strict=True))
    most = sum(signal(size).subs(p, r) for r, size in zip(rates, best, strict=True))
    yield Exact(
        "signal by (20), in tenths of a percent of the most", round(1000 * share / most), 975
    )
    rates, total = [HALF, sp.Rational(1, 10), sp.Rational(1, 100)], 24
    value = _tabulated(rates, total)
    served, all_served = best_split(value, total, 3, 0), best_split(value, total, 3, 1)
    yield Exact(
        rf"$p = 1/2, 1/10, 1/100$, $N = 24$: the best split with at least 1 is {all_served}; if a "
        rf"prompt may get none it is {served}, whose last quota is",
        served[-1],
        0,
    )


def _by_outcomes(rate: sp.Rational, size: int) -> sp.Expr:
    """Mean over all outcomes of sqrt((n-1)/n) times the standard deviation k(n-k)/n^2 of 0/1 values."""
    total = sp.Integer(0)
    for code in range(2**size):
        right = code.bit_count()
        spread = sp.Rational(right, size) - sp.Rational(right, size) ** 2
        total += rate**right * (1 - rate) ** (size - right) * sp.sqrt(spread)
    return total * sp.sqrt(sp.Rational(size - 1, size))


def _tabulated(rates: Sequence[sp.Expr], total: int) -> Callable[[Split], Any]:
    of = [[0.0, *_signals(float(r), total)] for r in rates]
    return lambda split: sum(of[i][size] for i, size in enumerate(split))


def _signals(rate: float, most: int) -> list[float]:
    """Signal of groups of 1..most, by the binomial sum."""
    found = []
    chance_K = np.ones(1)
    for size in range(1, most + 1):
        chance_K = np.append(chance_K * (1 - rate), 0.0) + np.append(0.0, chance_K * rate)
        right_K = np.arange(size + 1)
        found.append(
            float((chance_K * np.sqrt(right_K * (size - right_K) * (size - 1.0) / size**3)).sum())
        )
    return found


def _sample_grpo(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate_B, total = np.append(rng.uniform(0.01, 0.06, 3), rng.uniform(0.3, 0.7, 3)), 40
    value_B_N = [[0.0, *_signals(r, total)] for r in rate_B]
    # the first two gains by the formulas, the later ones from the sums
    gain_B_N = [
        [*(float(f[name].subs(p, r)) for name in ("pair", "third")), *np.diff(value_N[3:])]
        for r, value_N in zip(rate_B, value_B_N, strict=True)
    ]

    def marginal(i: int, size: int) -> Any:
        return gain_B_N[i][size - 1]

    greedy = greedy_split(marginal, total, [1] * 6)
    stated = _proportional(rate_B.tolist(), total)
    yield Search(
        "six random prompts, three of them rarely solved, 40 rollouts: signal, greedy against dynamic "
        "programming",
        claimed=sum(sum(gain_B_N[i][: size - 1]) for i, size in enumerate(greedy)),
        found=best_by_tables(value_B_N, total, 1),
        control=sum(value_B_N[i][size] for i, size in enumerate(stated)),
        control_is="quotas (20)",
        sense="max",
        tolerance=1e-12,
    )
    rates, split = (0.5, 0.02), np.array([16, 16])  # of most signal, by enumeration
    right_S_B = rng.binomial(split, rates, size=(100_000, 2))
    long = numeric(f["length"], (n, k))
    right_K = np.arange(17)
    chance_B_K = binom.pmf(right_K, 16, np.array(rates)[:, None])
    at_20 = sum(_signals(rate, size)[-1] for rate, size in zip(rates, (25, 7), strict=True))
    yield Estimate.of(
        "$p = 1/2, 1/50$, $N = 32$, quotas 16 and 16: signal from drawn groups",
        np.sqrt(right_S_B * (split - right_S_B) * (split - 1) / split**3).sum(axis=1),
        expected=float((chance_B_K * long(16, right_K)).sum()),
        control=at_20,
        control_is="quotas (20)",
    )


CLAIMS = [
    Claim(
        number="6.11",
        source="not in the paper",
        title="Quotas for the most mixed groups",
        status=Status.CONDITIONAL,
        statement=r"""
The expected number of mixed groups $\sum_i P_i(n_i)$ is largest, among all splits of $N$ into whole
numbers, if one rollout after another goes to the prompt of the largest
$$<<marginal>>,$$
starting from one each. This points the other way than (20): at $p = 1/2$ and $1/50$ with $N = 32$
rollouts (20) gives 25 and 7, the optimum is 7 and 25, and (20) has 82 percent of its mixed groups.""",
        condition=r"""
Every prompt gets at least one rollout. If a prompt may get none, the first rollout is worth nothing and
a pair $<<pair>>$: no longer concave. Greedy from zero may lose most of the value, greedy by value per
rollout (with pairs as first purchase) may lose too, and the problem is a knapsack.""",
        formulas={"marginal": next_mixed, "pair": 2 * p * (1 - p)},
        prove=_prove_mixed,
        enumerate=_enumerate_mixed,
        sample=_sample_mixed,
    ),
    Claim(
        number="6.12",
        source="not in the paper",
        title="Quotas for the most signal of GRPO",
        status=Status.CONDITIONAL,
        statement=r"""
The signal $S(n)$ of GRPO (6.4, over $D$) is concave in $n$ from $n = 1$, where it is 0. Let
$\ell_{n,k} = <<length>>$. The second difference of $S$ at $n$ is the binomial mean over $k$, for groups
of $n + 1$, of
$$<<difference>>,$$
and all of these numbers are negative. Two rollouts have $<<pair>>$ and a third adds $<<third>>$. Hence
greedy from one rollout each is optimal for prompts that share $D$. At $p = 1/2$ and $1/50$ with $N
= 32$ it gives 16 and 16, half way between (20), 25 and 7, and the best for mixed groups, 7 and 25
(6.11); (20) has 97.5 percent of its signal.""",
        condition=rf"""
Groups of at most {LARGEST_GROUP + 1}, as far as these numbers are decided here (a test of the library
finds them negative in floating point up to 200), and at least one rollout for every prompt: with quotas
of 0 allowed the best may leave a prompt out.""",
        formulas={
            "length": length,
            "difference": difference,
            "pair": p * (1 - p) / sp.sqrt(2),
            "third": p * (1 - p) * (2 / sp.sqrt(3) - 1 / sp.sqrt(2)),
        },
        prove=_prove_grpo,
        enumerate=_enumerate_grpo,
        sample=_sample_grpo,
    ),
]
