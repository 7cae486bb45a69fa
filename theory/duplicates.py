r"""Prompts that are drawn more than once, and drawing without replacement."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.estimate_variance import between
from theory.outcomes import rational
from theory.quota import sigma, total
from theory.splits import best_split, lowered_variance
from theory.symbols import budget, m, n

copies = sp.Symbol("k", integer=True, positive=True)  # how often a prompt was drawn
pool = sp.Symbol("P", integer=True, positive=True)  # prompts in the pool


# 4.7 -------------------------------------------------------------------------------------------


def _prove_duplicates(f: Formulas) -> Iterator[Step]:
    part, x = sigma**2 / (m**2 * n), sp.Symbol("x", positive=True)
    yield Step(
        r"$k$ draws of a prompt, kept apart with $n/k$ rollouts each, have together the variance of a "
        r"prompt drawn once, with $n$ rollouts and another $\sigma$:",
        copies * sp.Subs(part, n, n / copies),
        sp.Subs(part, sigma, f["merged"]),
    )
    yield Step(
        r"and (20) gives the merged group what it gives its $k$ parts together.",
        sp.Subs(budget * sigma / total, sigma, f["merged"]),
        copies * (budget * sigma / total),
    )
    first, second, other = sp.symbols("a b y", positive=True)
    yield Step(
        r"Whole quotas can make the parts uneven, and merging then wins: a group of $\sigma = x$ "
        r"with $a$ rollouts and one of $\sigma = y$ with $b$, against one of $\sigma = x + y$ with "
        r"$a + b$; and so on, part by part.",
        x**2 / first + other**2 / second,
        (x + other) ** 2 / (first + second),
        certificate=(x * second - other * first) ** 2 / (first * second * (first + second)),
    )
    yield Step(
        r"Each of $P$ prompts is missed by all $m$ uniform draws with chance $x = (1 - 1/P)^m$, so the "
        "number of distinct ones is on average",
        sp.Subs(pool - pool * x, x, (1 - 1 / pool) ** m),
        f["distinct"],
    )
    yield Step(
        r"63 percent of a large pool at $m = P$:",
        sp.Limit(f["distinct"].subs(m, pool) / pool, pool, sp.oo),
        1 - sp.exp(-1),
    )
    covariance, c = -between / (pool - 1), sp.Symbol("c", real=True)
    yield Step(
        r"All $P$ prompts add up to a constant, of variance zero. So, without replacement, two "
        r"draws have the covariance $c = -b/(P-1)$:",
        sp.Subs(pool * between + pool * (pool - 1) * c, c, covariance),
        0,
    )
    yield Step(
        r"With $m$ variances and $m(m-1)$ covariances the part between prompts becomes",
        (m * between + m * (m - 1) * covariance) / m**2,
        f["apart"],
    )


def _enumerate_duplicates(f: Formulas) -> Iterator[Exact]:
    for prompts, draws in ((3, 2), (4, 4), (2, 5)):
        seen = [len(set(d)) for d in product(range(prompts), repeat=draws)]
        yield Exact(
            rf"$P = {prompts}$, $m = {draws}$: distinct prompts, mean over all {len(seen)} draws",
            sp.Rational(sum(seen), len(seen)),
            f["distinct"].subs({pool: prompts, m: draws}),
        )
    g_N, draws = (0, 1, 5, 2), 3
    means = [Fraction(sum(d), 3) for d in product(g_N, repeat=3) if len(set(d)) == 3]
    mean = sum(means, Fraction()) / len(means)
    variance = sum(((x - mean) ** 2 for x in means), Fraction()) / len(means)
    yield Exact(
        rf"$g = {g_N}$, three of them without replacement: variance of their mean, all 24 draws",
        rational(variance),
        f["apart"].subs({between: sp.Rational(14, 4), pool: 4, m: draws}),
    )
    # one prompt twice (sigma 3) and one once (sigma 2), 8 rollouts
    merged = int(f["merged"].subs({copies: 2, sigma: 3}))
    best = best_split(lowered_variance((merged, 2)), 8, 2, 1)
    apart = best_split(lowered_variance((3, 3, 2)), 8, 3, 1)
    yield Exact(
        r"$\sigma = 3$ drawn twice, $\sigma = 2$ once, $N = 8$: quota of the first, over all splits of "
        r"the parts, and of the merged prompts",
        apart[0] + apart[1],
        best[0],
    )
    yield Exact(
        r"$\sum\sigma^2/n$ of the parts and of the merged prompts",
        -rational(lowered_variance((3, 3, 2))(apart)),
        -rational(lowered_variance((merged, 2))(best)),
    )
    parts, joined = (
        -rational(lowered_variance(s)(best_split(lowered_variance(s), 7, len(s), 1)))
        for s in ((3, 3, 2), (merged, 2))
    )
    yield Exact(
        r"the same draws with $N = 7$: the parts have more variance than the merged prompts",
        parts,
        joined,
        relation=">",
    )


def _sample_duplicates(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    prompts, draws = 40, 30
    chosen = np.sort(rng.integers(prompts, size=(20_000, draws)), axis=1)
    yield Estimate.of(
        "distinct prompts among 30 draws from 40",
        1.0 + (np.diff(chosen, axis=1) > 0).sum(axis=1),
        expected=float(f["distinct"].subs({pool: prompts, m: draws})),
        control=prompts * (1 - np.exp(-draws / prompts)),
        control_is="Poisson approximation",
    )
    g_N = rng.standard_normal(10)
    order = rng.permuted(np.tile(g_N, (20_000, 1)), axis=1)[:, :6]
    yield Estimate.of(
        "squared error of the mean of 6 of 10 prompts, without replacement",
        (order.mean(axis=1) - g_N.mean()) ** 2,
        expected=float(f["apart"].subs({between: g_N.var(), pool: 10, m: 6})),
        control=float(g_N.var() / 6),
        control_is="with replacement",
    )


CLAIMS = [
    Claim(
        number="4.7",
        source="Algorithm 1 and Eq. (20)",
        title="Duplicates when prompts are drawn with replacement",
        status=Status.PROVED,
        statement=r"""
A prompt drawn $k$ times is best treated as one group of weight $k/m$: in the variance and in (20) it
counts like a prompt drawn once whose $\sigma$ is $<<merged>>$. With real quotas this gives the same
variance and the same rollouts as its $k$ draws kept apart, with whole ones never more variance. Of $P$
prompts, $m$ uniform draws show on average
$$<<distinct>>$$
distinct ones, 63 percent of a large pool at $m = P$. Drawing $m \le P$ of $P \ge 2$ prompts
uniformly without replacement lowers the part between prompts from $b/m$ to
$$<<apart>>,$$
which is nothing at $m = P$.""",
        formulas={
            "merged": copies * sigma,
            "distinct": pool * (1 - (1 - 1 / pool) ** m),
            "apart": between * (pool - m) / (m * (pool - 1)),
        },
        prove=_prove_duplicates,
        enumerate=_enumerate_duplicates,
        sample=_sample_duplicates,
    ),
]
