r"""Eq. 20 in whole rollouts: the greedy split is optimal, rounding is not."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step
from theory.outcomes import rational
from theory.quota import sigma
from theory.splits import (
    all_splits,
    best_split,
    greedy_split,
    largest_remainders,
    lowered_variance,
)
from theory.symbols import n

Array = np.ndarray[Any, np.dtype[Any]]


# 4.5 -------------------------------------------------------------------------------------------


def _prove_integer(f: Formulas) -> Iterator[Step]:
    k = sp.Symbol("k", integer=True, positive=True)
    more = sp.Symbol("e", integer=True, nonnegative=True)
    slack = sp.Symbol("y", nonnegative=True)
    yield Step(
        r"One more rollout lowers $\sigma^2/n$ by", sigma**2 / n - sigma**2 / (n + 1), f["marginal"]
    )
    yield Step(
        r"and the rollout after that by less: the reductions of a prompt decrease.",
        f["marginal"],
        f["marginal"].subs(n, n + 1),
        certificate=2 * sigma**2 / (n * (n + 1) * (n + 2)),
    )
    price = f["marginal"] + slack
    yield Step(
        r"When greedy stops there is a price $\lambda$ that is at least what the next rollout "
        r"would save with any prompt, and at most what the last one has saved with any prompt above its "
        r"minimum. At this price a prompt of greedy quota $n$ loses by $1 + e$ rollouts more: with "
        r"$\lambda$ larger by $y$ than what its next rollout saves, $\sigma^2/n + \lambda n$ grows by",
        sigma**2 / (n + 1 + more) - sigma**2 / n + price * (1 + more),
        0,
        certificate=(1 + more) * (slack + sigma**2 * more / (n * (n + 1) * (n + 1 + more))),
    )
    last = f["marginal"].subs(n, n - 1)
    fewer = sigma**2 / k - sigma**2 / n - (last - slack) * (n - k)
    yield Step(
        r"and likewise by $1 + e$ rollouts fewer, down to $k$: with $\lambda$ smaller by $y$ than "
        r"what its last rollout saved, it grows by the following. Added up over the prompts $\lambda$ "
        r"cancels, since both splits sum to $N$: no split beats the greedy one.",
        fewer.subs(n, k + 1 + more),
        0,
        certificate=(1 + more) * (slack + sigma**2 * more / (k * (k + more) * (k + 1 + more))),
    )
    level = sp.Symbol("t", positive=True)
    yield Step(
        r"At the price $1/t^2$ a prompt goes from $n$ to $n + 1$ rollouts where $\sigma t$ reaches the "
        r"threshold, for there one more rollout saves exactly the price:",
        sp.Subs(f["marginal"], sigma, f["threshold"] / level),
        1 / level**2,
    )


def _enumerate_integer(f: Formulas) -> Iterator[Exact]:
    for sigma_B, rollouts in (((5, 3, 1), 9), ((7, 6, 2), 11), ((9, 4, 4, 1), 12)):

        def marginal(i: int, count: int, sigma_B: tuple[int, ...] = sigma_B) -> sp.Rational:
            return f["marginal"].subs({sigma: sigma_B[i], n: count})

        value = lowered_variance(sigma_B)
        best = best_split(value, rollouts, len(sigma_B), 1)
        greedy = greedy_split(marginal, rollouts, [1] * len(sigma_B))
        yield Exact(
            rf"$\sigma = {sigma_B}$, $N = {rollouts}$: $\sum\sigma^2/n$ of the best of all "
            rf"{sum(1 for _ in all_splits(rollouts, len(sigma_B), 1))} splits and of the greedy one",
            -rational(value(best)),
            -rational(value(greedy)),
        )
    sigma_B, rollouts = (6, 2, 1), 7
    value = lowered_variance(sigma_B)
    rounded = largest_remainders(sigma_B, rollouts)
    yield Exact(
        rf"$\sigma = {sigma_B}$, $N = {rollouts}$: $\sum\sigma^2/n$ of (20) with largest remainders, "
        rf"{rounded}, against the best, {best_split(value, rollouts, 3, 1)}",
        -rational(value(rounded)),
        -rational(value(best_split(value, rollouts, 3, 1))),
        relation=">",
    )
    yield Exact(
        r"$\sigma = (6, 2, 1)$, $N = 7$, every share rounded on its own: rollouts given",
        sum(round(Fraction(rollouts * s, sum(sigma_B))) for s in sigma_B),
        rollouts,
        relation=">",
    )
    yield Exact(
        r"$\sigma$ at which the second rollout, saving $\sigma^2(1 - 1/2)$, saves 1",
        sp.sqrt(1 / (sp.Integer(1) - sp.Rational(1, 2))),
        f["threshold"].subs(n, 1),
    )


def _sample_integer(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    sigma_B, rollouts = rng.uniform(0.2, 1.0, 5), 23
    quota_B = np.ones(5)
    for _ in range(rollouts - 5):
        pairs = zip(sigma_B, quota_B, strict=True)
        quota_B[
            np.argmax([float(f["marginal"].subs({sigma: s, n: int(k)})) for s, k in pairs])
        ] += 1

    def variance(count_B: Array) -> float:
        return float((sigma_B**2 / count_B).sum())

    # every split by a recursion on the prompts: the least for the first ones with k rollouts
    least = {k: sigma_B[0] ** 2 / k for k in range(1, rollouts)}
    for s in sigma_B[1:]:
        least = {
            k: min(least[j] + s**2 / (k - j) for j in range(1, k) if j in least)
            for k in range(min(least) + 1, rollouts + 1)
        }
    yield Search(
        "five random prompts, 23 rollouts: greedy against dynamic programming",
        claimed=variance(quota_B),
        found=float(least[rollouts]),
        control=variance(np.array([5, 5, 5, 4, 4])),
        control_is="equal quotas",
        sense="min",
        tolerance=1e-12,
    )
    sigma_B, quota_B = np.array([6.0, 2.0, 1.0]), np.ones(3)
    for _ in range(4):
        pairs = zip(sigma_B, quota_B, strict=True)
        quota_B[
            np.argmax([float(f["marginal"].subs({sigma: int(s), n: int(k)})) for s, k in pairs])
        ] += 1
    mean_S = sum(
        s * rng.normal(size=(200_000, int(k))).mean(axis=1)
        for s, k in zip(sigma_B, quota_B, strict=True)
    )
    yield Estimate.of(
        r"$\sigma = 6, 2, 1$, seven rollouts, greedy: squared error of the sum of means",
        np.asarray(mean_S) ** 2,
        expected=float((sigma_B**2 / np.array([4.0, 2.0, 1.0])).sum()),
        control=float((sigma_B**2 / np.array([3.0, 2.0, 2.0])).sum()),
        control_is="quotas 3, 2, 2",
    )


CLAIMS = [
    Claim(
        number="4.5",
        source="Eq. (20)",
        title="Whole rollouts: greedy is exactly optimal, rounding is not",
        status=Status.FALSE,
        statement=r"""
Rounded to whole numbers, as the released code does, (20) is the best way to spend $N$ whole
rollouts.""",
        correction=r"""
Fails because rounding (20) by largest remainders can lose variance, and rounding each share on its
own does not even keep the sum. Start every prompt at its minimum (at least one rollout, and no more
than $N$ in all) and give one rollout after another to the prompt where it lowers the variance most, by
$$<<marginal>>$$
(times $1/m^2$): the result is optimal among all splits of $N$ into whole numbers not below the
minima.

In closed form, ties aside, $n_i$ is the largest number with
$n_i(n_i - 1) \le (\sigma_i t)^2$, or the minimum if that is larger, for a common $t$: the real quota
$\sigma_i t$ is rounded at the geometric mean $<<threshold>>$ of its neighbours and not at a half.""",
        formulas={
            "marginal": sigma**2 / (n * (n + 1)),
            "threshold": sp.sqrt(n * (n + 1)),
        },
        prove=_prove_integer,
        enumerate=_enumerate_integer,
        sample=_sample_integer,
    ),
]
