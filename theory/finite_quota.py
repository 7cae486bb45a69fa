r"""Whole rollouts for prompts whose advantages come from their own group: the least variance.

Prompt i gets :math:`n_i` rollouts, the quotas add up to N, and the m group estimates are averaged.
Counterparts: ``cures.allocate``, ``cures.allocate_by_value``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step
from theory.finite_groups import mixed
from theory.group_normalisation import V
from theory.outcomes import Rewards, centred, expectation, rational
from theory.quota import sigma
from theory.search import largest
from theory.splits import Split, all_splits, best_split, greedy_split
from theory.symbols import budget, m, n, p

own = sp.Symbol("b", positive=True)  # p (1 - p) E|s|^2 + |grad p|^2, the baseline's noise of 6.3
root, total = sp.symbols("u U", positive=True)  # sqrt(p (1 - p)) of a prompt, and the sum of all
per_prompt = sp.Symbol(r"\bar{n}", positive=True)  # N / m
inverse = sp.Symbol("h", positive=True)  # mean of 1 / (n_i - 1) for the quotas of (20)
step_, more = (sp.Symbol(x, integer=True, nonnegative=True) for x in ("j", "e"))

variance_dr_grpo = p * (1 - p) * V * (n - 1) / n**2
variance_grpo = mixed * V * (n - 1) / n**2


# 6.9 -------------------------------------------------------------------------------------------


def _prove_rloo(f: Formulas) -> Iterator[Step]:
    variance = sigma**2 / n + own / (n * (n - 1))
    yield Step(
        r"By 6.3 a group has the variance $\sigma^2/n + b/(n(n-1))$. One more rollout takes off",
        variance - variance.subs(n, n + 1),
        f["marginal"],
    )
    yield Step(
        r"and the next one less, for $n = 2 + e$ and on. By the argument of 4.5, which uses nothing "
        r"else, greedy is optimal.",
        f["marginal"].subs(n, 2 + more),
        f["marginal"].subs(n, 3 + more),
        certificate=(2 * sigma**2 + 6 * own / (1 + more)) / ((2 + more) * (3 + more) * (4 + more)),
    )
    plain = variance.subs({sigma: root * sp.sqrt(V), own: root**2 * V})
    yield Step(
        r"If the scores of right and wrong answers follow one law of spread $V$, then $\sigma^2 = b = "
        r"u^2 V$ with $u^2 = p(1-p)$,",
        plain,
        root**2 * V / (n - 1),
    )
    price = sp.Symbol("lambda", positive=True)
    stationary = sp.solve(sp.diff(root**2 / (n - 1) + price**2 * (n - 1), n), n)
    yield Step(
        r"the problem of 4.2 for the quotas less one, which add up to $N - m$. Stationarity of "
        r"$u^2/(n-1) + \lambda^2(n-1)$, at $\lambda = U/(N - m)$:",
        max(stationary, key=lambda x: x.subs({root: 1, price: 1})).subs(
            price, total / (budget - m)
        ),
        f["quota"],
    )
    yield Step(
        r"Each prompt has the share $u/U$ of the minimum.",
        root**2 * V / (m**2 * (f["quota"] - 1)),
        root / total * f["minimum"],
        name=r"\frac{u^2 V}{m^2 (n_i - 1)}",
    )
    yield Step(
        r"Under (20) $u = n U/N$, and a prompt has $(U/N)^2$ times",
        n**2 / (n - 1),
        n + 1 + 1 / (n - 1),
    )
    summed = (total / budget) ** 2 * (budget + m + m * inverse) * V / m**2
    yield Step(
        r"in all, with $h$ the mean of $1/(n_i - 1)$ and $N = m \bar n$, over the minimum:",
        (summed / f["minimum"]).subs(budget, m * per_prompt),
        f["cost"],
    )


def _negative(first: Sequence[int], second: Sequence[int], split: Split) -> Fraction:
    """Minus the sum of sigma^2/n + b/(n(n-1))."""
    parts = zip(first, second, split, strict=True)
    return -sum((Fraction(a, k) + Fraction(b, k * (k - 1)) for a, b, k in parts), Fraction())


def _enumerate_rloo(f: Formulas) -> Iterator[Exact]:
    for first, second, rollouts in (((9, 4, 1), (2, 8, 3), 13), ((1, 1, 8), (1, 9, 1), 12)):

        def value(split: Split, a: Sequence[int] = first, b: Sequence[int] = second) -> Fraction:
            return _negative(a, b, split)

        def marginal(
            i: int, k: int, a: Sequence[int] = first, b: Sequence[int] = second
        ) -> Fraction:
            at = {sigma: sp.sqrt(a[i]), own: b[i], n: k}
            gain = f["marginal"].subs(at)
            return Fraction(int(gain.p), int(gain.q))

        greedy = greedy_split(marginal, rollouts, [2] * 3)
        yield Exact(
            rf"$\sigma^2 = {first}$, $b = {second}$, $N = {rollouts}$: variance of the best of all "
            rf"{sum(1 for _ in all_splits(rollouts, 3, 2))} splits, times 9, and of the greedy one",
            -rational(value(best_split(value, rollouts, 3, 2))),
            -rational(value(greedy)),
        )
    # p = 1/2 and 1/10, u = 5/10 and 3/10; variances from all outcomes of a group
    at = {total: sp.Rational(8, 10), m: 2, V: 1, budget: 10}
    table = {size: [_variance(rate, size) for rate in _RATES] for size in range(2, 13)}

    def of_rates(split: Split) -> Fraction:
        return -sum((table[k][i] for i, k in enumerate(split)), Fraction()) / 4

    best = best_split(of_rates, 10, 2, 2)
    where = r"$p = 1/2, 1/10$, one law of spread 1, $N = 10$, all outcomes of all splits"
    yield Exact(f"{where}: first quota", best[0], f["quota"].subs({**at, root: sp.Rational(1, 2)}))
    yield Exact(f"{where}: least variance", -rational(of_rates(best)), f["minimum"].subs(at))
    stated = (10, 6)  # (20) for N = 16, whole
    ratio = -rational(of_rates(stated)) / f["minimum"].subs({**at, budget: 16})
    mean = (sp.Rational(1, 9) + sp.Rational(1, 5)) / 2
    yield Exact(
        r"$N = 16$: variance of (20), that is 10 and 6, over the minimum",
        ratio,
        f["cost"].subs({per_prompt: 8, inverse: mean}),
    )


_RATES = (Fraction(1, 2), Fraction(1, 10))


def _variance(rate: Fraction, size: int) -> Fraction:
    """Mean square of the weights A/n of RLOO: the variance for scores of one law of spread 1."""
    stretch = Fraction(1, (size - 1) ** 2)
    square = expectation(rate, size, lambda r: _square(r) * stretch)
    return Fraction(int(square.p), int(square.q))


def _square(rewards: Rewards) -> Fraction:
    return sum((a * a for a in centred(rewards)), Fraction())


def _sample_rloo(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    draws, error_S = 60_000, 0.0
    for rate, size in ((0.5, 6), (0.1, 4)):
        reward_S_J = (rng.random((draws, size)) < rate).astype(np.float64)
        weight_S_J = (reward_S_J - reward_S_J.mean(axis=1, keepdims=True)) / (size - 1)
        error_S += (weight_S_J * rng.standard_normal((draws, size))).sum(axis=1) / 2
    at = {total: 0.8, m: 2, V: 1, budget: 10}
    yield Estimate.of(
        r"square of the RLOO estimate, $p = .5, .1$, quotas 6 and 4, scores without a signal",
        np.square(error_S),
        expected=float(f["minimum"].subs(at)),
        control=0.8**2 / (4 * 10),
        control_is="the minimum of 4.2",
    )
    root_B = rng.uniform(0.1, 0.5, 5)

    def value(quota_B: np.ndarray) -> float:
        return -float((root_B**2 / (quota_B - 1)).sum()) / 25

    rollouts = 40.0
    stated_B = rollouts * root_B / root_B.sum()
    at = {total: root_B.sum(), m: 5, V: 1, budget: rollouts}
    found, _ = largest(value, np.full(5, 8.0), inside=lambda x: x.min() - 1.01, total=rollouts)
    yield Search(
        "five random prompts, 40 rollouts, real quotas: variance",
        claimed=float(f["minimum"].subs(at)),
        found=-found,
        control=-value(stated_B),
        control_is="quotas (20)",
        sense="min",
    )


# 6.10 ------------------------------------------------------------------------------------------


def _prove_goal(f: Formulas) -> Iterator[Step]:
    values = [f["dr_grpo"].subs(n, n + shift) for shift in range(3)]
    yield Step(
        r"Dr.GRPO's variance is convex where its second difference is positive:",
        values[0] - 2 * values[1] + values[2],
        f["second"],
    )
    yield Step(
        r"for $n = 3 + e$ it is;",
        f["second"].subs(n, 3 + more),
        0,
        certificate=2
        * p
        * (1 - p)
        * V
        * (more**3 + 9 * more**2 + 23 * more + 13)
        / ((3 + more) * (4 + more) * (5 + more)) ** 2,
    )
    yield Step(
        "for $n = 2$ it is not, nor for $n = 1$:",
        sp.Subs(f["second"], n, 2),
        -p * (1 - p) * V / 144,
    )
    yield Step(
        r"GRPO's variance (6.5) even grows, from two rollouts to three, by",
        (f["grpo"].subs(n, 3) - f["grpo"].subs(n, 2)),
        f["rise"],
    )
    yield Step(
        r"What counts is noise against signal. The signal of Dr.GRPO is $(n-1)/n$ times that of RLOO; "
        r"scaled to the same signal the variance is the convex one of 6.9.",
        f["dr_grpo"] / ((n - 1) / n) ** 2,
        p * (1 - p) * V / (n - 1),
        name=r"\frac{n^2}{(n-1)^2} \cdot \frac{V p (1-p) (n-1)}{n^2}",
    )


def _enumerate_goal(f: Formulas) -> Iterator[Exact]:
    rates = [Fraction(1, 2), Fraction(3, 10), Fraction(1, 10)]

    def table(name: str, most: int) -> list[list[Fraction]]:
        found = [
            [f[name].subs({p: rational(r), V: 1, n: size}) for size in range(1, most + 1)]
            for r in rates
        ]
        return [[Fraction(int(x.p), int(x.q)) for x in row] for row in found]

    for name, scale in (("dr_grpo", False), ("grpo", True)):
        size, rate = 3, Fraction(3, 10)
        square = expectation(rate, size, lambda r, s=scale: _mean_square(r, s))  # type: ignore[misc]
        yield Exact(
            rf"{'GRPO' if scale else 'Dr.GRPO'}, $p = 3/10$, $n = 3$, one law of spread 1: all outcomes",
            square,
            f[name].subs({p: rational(rate), V: 1, n: size}),
        )
    of = table("dr_grpo", 12)

    def value(split: Split) -> Fraction:
        return -sum((of[i][k - 1] for i, k in enumerate(split)), Fraction())

    best = best_split(value, 10, 3, 2)
    greedy = greedy_split(lambda i, k: of[i][k - 1] - of[i][k], 10, [2] * 3)
    where = r"$p = 1/2, 3/10, 1/10$, $N = 10$"
    yield Exact(
        rf"Dr.GRPO, {where}: variance of the greedy split {greedy} from 2 and of the best, {best}",
        -rational(value(greedy)),
        -rational(value(best)),
        ">",
    )
    free = best_split(value, 10, 3, 1)
    yield Exact(
        rf"with groups of one allowed the best is {free}: rollouts in groups that have a signal",
        sum(k for k in free if k > 1),
        8,
    )
    of_grpo = table("grpo", 12)
    alone = best_split(
        lambda s: -sum((of_grpo[i][k - 1] for i, k in enumerate(s)), Fraction()), 10, 3, 1
    )
    yield Exact(
        rf"GRPO: the best split is {alone}, which has two groups of one",
        sum(k == 1 for k in alone),
        2,
    )


def _mean_square(rewards: Rewards, is_scaled: bool) -> Fraction:
    """Sum of (A/n)^2."""
    square, size = _square(rewards), len(rewards)
    if is_scaled:
        return Fraction((size - 1) if square else 0, size**2)
    return square / size**2


def _sample_goal(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    draws, rate = 100_000, 0.25
    for size in (2, 3):
        reward_S_J = (rng.random((draws, size)) < rate).astype(np.float64)
        centred_S_J = reward_S_J - reward_S_J.mean(axis=1, keepdims=True)
        score_S_J = rng.standard_normal((draws, size))
        std_S = np.maximum(reward_S_J.std(axis=1, ddof=1), 1e-9)
        at = {p: rate, V: 1, n: size}
        square_S = (centred_S_J * score_S_J).mean(axis=1) ** 2
        yield Estimate.of(
            rf"square of the Dr.GRPO estimate, $p = .25$, $n = {size}$, scores without a signal",
            square_S,
            expected=float(f["dr_grpo"].subs(at)),
            control=rate * (1 - rate) / size,
            control_is=r"$\sigma^2/n$",
        )
        expected = float(f["grpo"].subs(at))
        rise = float(f["rise"].subs(at))
        yield Estimate.of(
            "of the GRPO estimate",
            square_S / std_S**2,
            expected=expected,
            control=expected + (rise if size == 2 else -rise),
            control_is=f"that of {5 - size} rollouts",
        )


CLAIMS = [
    Claim(
        number="6.9",
        source="Eq. (20)",
        title="Quotas for RLOO",
        status=Status.FALSE,
        statement=r"""
Quotas in proportion to the $\sigma_i$ of (21) are taken to minimise the variance also where the
advantages of a prompt come from the rewards of its own group.""",
        correction=r"""
Fails because the group's mean as baseline adds noise that (21) leaves out: with quotas (20) the variance
is larger than it need be. For RLOO a group has the variance $\sigma^2/n + b/(n(n-1))$, $n \ge 2$ (6.3,
$b = p(1-p)\mathbb{E}|s|^2 + |\nabla p|^2$). The next rollout takes off
$$<<marginal>>,$$
less each time, so that greedy from two rollouts each is optimal among all splits into whole numbers of
at least two.

Where right and wrong scores follow one law of spread $V$ the best real quotas $n_i > 1$ are, with $u =
\sqrt{p(1-p)}$, $U = \sum u$ and $N > m$,
$$n_i = <<quota>>:$$
one rollout for the baseline, and only the rest by (20). The minimum is $<<minimum>>$. Quotas by (20)
cost
$$<<cost>>$$
times as much, $\bar n = N/m$ and $h$ the mean of $1/(n_i - 1)$ under (20), if that gives everyone more
than 1: little where every quota is large, without limit as one of them falls to 1.""",
        formulas={
            "marginal": (sigma**2 + 2 * own / (n - 1)) / (n * (n + 1)),
            "quota": 1 + (budget - m) * root / total,
            "minimum": total**2 * V / (m**2 * (budget - m)),
            "cost": 1 + ((per_prompt - 1) * inverse - 1) / per_prompt**2,
        },
        prove=_prove_rloo,
        enumerate=_enumerate_rloo,
        sample=_sample_rloo,
    ),
    Claim(
        number="6.10",
        source="Eq. (15)",
        title="Least variance is the wrong goal for Dr.GRPO and GRPO",
        status=Status.FALSE,
        statement=r"""
The quotas should minimise the variance of the estimate, also for estimators that subtract the group's
mean or divide by its standard deviation.""",
        correction=r"""
Fails because with these estimators the length of the mean depends on the quota too, and a small
group has little variance because it has little signal. For scores of one law of
spread $V$, a group of Dr.GRPO has the variance $<<dr_grpo>>$ and one of GRPO
$$<<grpo>>:$$
nothing at $n = 1$, where there is no signal either.

GRPO's grows from $n = 2$ to $n = 3$, by $<<rise>>$;
Dr.GRPO's has the second difference
$$<<second>>,$$
which is positive from $n = 3$ only: greedy is optimal from three rollouts each, and loses from two at
$p = 1/2, 3/10, 1/10$, $N = 10$. Scaled to the same signal, Dr.GRPO is RLOO, and 6.9 holds for it; for
GRPO see 6.12.""",
        formulas={
            "dr_grpo": variance_dr_grpo,
            "grpo": variance_grpo,
            "rise": p * (1 - p) * V / 6,
            "second": 2
            * p
            * (1 - p)
            * V
            * (n**3 - 4 * n - 2)
            / (n**2 * (n + 1) ** 2 * (n + 2) ** 2),
        },
        prove=_prove_goal,
        enumerate=_enumerate_goal,
        sample=_sample_goal,
    ),
]
