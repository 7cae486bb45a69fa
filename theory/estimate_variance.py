r"""Eq. 15-16: the variance of the estimate, within prompts and between them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.outcomes import rational
from theory.splits import best_split, lowered_variance
from theory.symbols import budget, m, n, p

sigma = sp.Symbol("sigma", positive=True)
between, mean_sigma, var_sigma = sp.symbols(r"b \bar{\sigma} v", positive=True)
per_prompt = sp.Symbol(r"\bar{n}", positive=True)  # mean quota N / m
g_1, g_2 = sp.symbols("g_1 g_2", real=True)
cv_sq = var_sigma / mean_sigma**2


# 4.1 -------------------------------------------------------------------------------------------


def _prove_variance(f: Formulas) -> Iterator[Step]:
    square = (n * (g_1**2 + sigma**2) + n * (n - 1) * g_1**2) / n**2
    yield Step(
        r"One coordinate of the mean of $n$ rollouts, each of mean $g_1$ and variance $\sigma^2$: "
        r"of the $n^2$ products, $n$ are squares and the others products of independent rollouts. Its "
        r"variance, times the prompt's $1/m^2$, is (the coordinates are added up)",
        (square - g_1**2) / m**2,
        f["within"],
    )
    s_1, s_2 = sp.symbols("sigma_1 sigma_2", positive=True)
    first = p * (g_1**2 + s_1**2 / n) + (1 - p) * (g_2**2 + s_2**2 / n)
    one_draw = first - (p * g_1 + (1 - p) * g_2) ** 2
    mean_square = p * s_1**2 + (1 - p) * s_2**2
    yield Step(
        r"One draw has the variance of its mean gradient plus the mean of the variances (here from "
        r"a pool of two prompts, taken with chances $p$ and $1-p$); $m$ independent draws divide "
        r"it by $m$.",
        one_draw / m,
        f["total"].subs({between: p * (1 - p) * (g_1 - g_2) ** 2, sigma: sp.sqrt(mean_square)}),
    )
    yield Step(
        "Stopping after a success, at most two rollouts: right at once (mean reward 1), right at the "
        "second (mean 1/2), or never (mean 0). The mean reward less $p$ is on average",
        p + (1 - p) * p * sp.Rational(1, 2) - p,
        f["bias"],
        name=r"p \cdot 1 + (1-p)\, p \cdot \tfrac12 - p",
    )


def _enumerate_variance(f: Formulas) -> Iterator[Exact]:
    # a rollout's gradient is centre + step or centre - step with chance 1/2: its sigma is the step
    for counts in ((1, 1), (2, 1), (1, 3)):
        steps, centres = (Fraction(1), Fraction(3)), (Fraction(0), Fraction(2))
        mean, square = _moments([(s, c, k) for s, c, k in zip(steps, centres, counts, strict=True)])
        yield Exact(
            rf"two prompts, $\sigma = 1, 3$, quotas {counts[0]} and {counts[1]}, all "
            rf"{2 ** sum(counts)} outcomes",
            rational(square - mean**2),
            sum(
                f["within"].subs({sigma: rational(s), m: 2, n: k})
                for s, k in zip(steps, counts, strict=True)
            ),
        )
    draws = list(product(((Fraction(1), Fraction(0)), (Fraction(3), Fraction(2))), repeat=2))
    moments = [_moments([(s, c, 2) for s, c in draw]) for draw in draws]
    mean = sum((x for x, _ in moments), Fraction()) / 4
    yield Exact(
        r"two draws from a pool with $\sigma = 1, 3$ and $g = 0, 2$, two rollouts each",
        rational(sum((x for _, x in moments), Fraction()) / 4 - mean**2),
        f["total"].subs({between: 1, sigma: sp.sqrt(5), m: 2, n: 2}),
    )
    rate = Fraction(1, 3)
    outcomes = {(1,): rate, (0, 1): (1 - rate) * rate, (0, 0): (1 - rate) ** 2}
    stopped = sum((c * Fraction(sum(r), len(r)) for r, c in outcomes.items()), Fraction())
    yield Exact(
        r"stopping at the first success of two, $p = 1/3$: mean reward",
        rational(stopped),
        sp.Rational(1, 3) + f["bias"].subs(p, sp.Rational(1, 3)),
    )


def _moments(prompts: list[tuple[Fraction, Fraction, int]]) -> tuple[Fraction, Fraction]:
    """Mean and mean square of estimate (16) over all outcomes; prompts are (step, centre, quota)."""
    rollouts = sum(k for _, _, k in prompts)
    mean = square = Fraction()
    for signs in product((-1, 1), repeat=rollouts):
        value, at = Fraction(), 0
        for step, centre, k in prompts:
            value += centre + step * Fraction(sum(signs[at : at + k]), k)
            at += k
        mean += value / len(prompts) / 2**rollouts
        square += (value / len(prompts)) ** 2 / 2**rollouts
    return mean, square


def _sample_variance(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    g_N, sigma_N = np.array([1.0, 0.0, -0.5]), np.array([0.5, 2.0, 1.0])
    draws, prompts, count = 20_000, 4, 3
    chosen = rng.integers(3, size=(draws, prompts))
    noise_S = rng.standard_normal((draws, prompts, count)).mean(axis=2) * sigma_N[chosen]
    error_S = (g_N[chosen] + noise_S).mean(axis=1) - g_N.mean()
    at = {between: g_N.var(), sigma: np.sqrt((sigma_N**2).mean()), m: prompts, n: count}
    yield Estimate.of(
        "squared error of (16), four draws from three prompts, three rollouts each",
        error_S**2,
        expected=float(f["total"].subs(at)),
        control=float(f["total"].subs({**at, between: 0.0})),
        control_is="without the part between prompts",
    )


# 4.4 -------------------------------------------------------------------------------------------


def _prove_between(f: Formulas) -> Iterator[Step]:
    square_of_sum = m * (mean_sigma**2 + var_sigma) + m * (m - 1) * mean_sigma**2
    yield Step(
        r"With quotas (20) the part within prompts is $s^2/(m^2 N)$ (4.2), and over $m$ "
        r"independent draws $\mathbb{E}\,s^2 = m(\bar\sigma^2 + v) + m(m-1)\bar\sigma^2$. Given "
        r"the draws, the mean of (16) is the mean of their $g_i$, whose variance is $b/m$; the two "
        r"parts add.",
        between / m + square_of_sum / (m**2 * budget),
        f["total"],
    )
    equal = between / m + (mean_sigma**2 + var_sigma) / budget
    yield Step(
        r"Equal quotas have $\sum\sigma^2/(mN)$ in place of $s^2/(m^2 N)$, in all "
        r"$b/m + (\bar\sigma^2 + v)/N$, which is more by",
        equal - f["total"],
        f["saving"],
    )
    ratio = (equal / f["total"]).subs(budget, per_prompt * m)
    yield Step(
        r"As the number of prompts grows with $\bar n = N/m$ rollouts for each, the ratio of the "
        r"two tends to",
        sp.Limit(sp.cancel(ratio), m, sp.oo),
        f["gain"],
    )
    yield Step(
        r"and half of the gain $v/\bar\sigma^2$ is left at $\bar n = \bar\sigma^2/b$:",
        sp.Subs(f["gain"] - 1, per_prompt, f["half"]),
        cv_sq / 2,
    )
    yield Step(
        r"One more draw at the same $N$ lowers the variance, the more the larger $b$:",
        f["total"],
        f["total"].subs(m, m + 1),
        certificate=(between + var_sigma / budget) / (m * (m + 1)),
    )


def _enumerate_between(f: Formulas) -> Iterator[Exact]:
    # sigma 1 or 3, g 0 or 2; four rollouts, and (20) is whole for every pair of draws
    prompts = ((Fraction(1), Fraction(0)), (Fraction(3), Fraction(2)))
    at = {between: 1, mean_sigma: 2, var_sigma: 1, m: 2, budget: 4}
    errors = {}
    for name in ("optimal", "equal"):
        mean = square = Fraction()
        for draw in product(prompts, repeat=2):
            whole = [int(4 * s / (draw[0][0] + draw[1][0])) for s, _ in draw]
            counts = whole if name == "optimal" else [2, 2]
            x, y = _moments([(s, c, k) for (s, c), k in zip(draw, counts, strict=True)])
            mean, square = mean + x / 4, square + y / 4
        errors[name] = rational(square - mean**2)
    yield Exact(
        r"two draws from a pool with $\sigma = 1, 3$, $g = 0, 2$, quotas (20) of four rollouts: "
        r"all outcomes",
        errors["optimal"],
        f["total"].subs(at),
    )
    yield Exact(
        "equal quotas lose, there", errors["equal"] - errors["optimal"], f["saving"].subs(at)
    )
    yield Exact(
        r"$\bar\sigma = 2$, $v = 1$, $b = 1$: ratio at $\bar n = \bar\sigma^2/b = 4$, from the "
        r"variances $1 + 5/4$ and $1 + 4/4$",
        sp.Rational(9, 8),
        f["gain"].subs({**at, per_prompt: f["half"].subs(at)}),
    )
    # whole quotas of one draw in ten with sigma 10, the others with sigma 1, and no part between
    chances, spent = {1: sp.Rational(9, 10), 10: sp.Rational(1, 10)}, sp.Integer(0)
    for sigma_B in product(chances, repeat=2):
        value = lowered_variance(sigma_B)
        least = -rational(value(best_split(value, 3, 2, 1))) / 4
        spent += least * sp.prod([chances[s] for s in sigma_B])
    mean = sum(s * c for s, c in chances.items())
    spread = sum(s**2 * c for s, c in chances.items()) - mean**2
    one_each = {between: 0, mean_sigma: mean, var_sigma: spread, m: 3, budget: 3}
    yield Exact(
        r"$\sigma = 10$ for one prompt in ten and $1$ for the others, $b = 0$: three rollouts on "
        r"two draws, best whole quotas, against one on each of three",
        spent,
        (f["total"] + f["saving"]).subs(one_each),
        relation="<",
    )


def _sample_between(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    g_N, sigma_N = np.array([0.3, 0.0, -0.3]), np.array([0.2, 1.0, 3.0])
    draws, prompts, rollouts = 40_000, 5, 20
    chosen = rng.integers(3, size=(draws, prompts))
    sigma_S_B = sigma_N[chosen]
    noise_S_B = rng.standard_normal((draws, prompts))
    optimal_S_B = rollouts * sigma_S_B / sigma_S_B.sum(axis=1, keepdims=True)
    equal_S_B = np.full((draws, prompts), rollouts / prompts)
    at = {between: g_N.var(), mean_sigma: sigma_N.mean(), var_sigma: sigma_N.var()}
    at |= {m: prompts, budget: rollouts}
    optimal = float(f["total"].subs(at))
    equal = optimal + float(f["saving"].subs(at))
    for what, quota_S_B, expected, control, control_is in (
        ("by (20)", optimal_S_B, optimal, equal, "equal quotas"),
        ("in equal parts", equal_S_B, equal, optimal, "quotas (20)"),
    ):
        group_S_B = g_N[chosen] + sigma_S_B / np.sqrt(quota_S_B) * noise_S_B
        yield Estimate.of(
            f"squared error, five draws from three prompts, 20 rollouts {what}",
            group_S_B.mean(axis=1) ** 2,
            expected=expected,
            control=control,
            control_is=control_is,
        )


CLAIMS = [
    Claim(
        number="4.1",
        source="Eq. (15), Eq. (16)",
        title="Variance of the estimate, with quotas fixed beforehand",
        status=Status.CONDITIONAL,
        statement=r"""
Given the drawn prompts, the total variance $\operatorname{Tr}\operatorname{Var}$ of estimate (16),
at the policy that made the rollouts, is the sum over the prompts of $<<within>>$, with $\sigma^2$ the
total variance of one rollout's gradient and $n$ the prompt's quota. If the prompts are $m$ independent
draws and every draw gets $n$ rollouts, it is in all
$$<<total>>,$$
with $b$ the total variance of the prompts' mean gradients under the sampling distribution and
$\sigma^2$ averaged under it. Quotas do not touch $b/m$.""",
        condition=r"""Rollouts are independent, each quota is fixed before the rollouts it counts are
seen, and the advantage of a rollout does not depend on the others (known $p$, no group mean). To see
that the quota has to be fixed: a prompt that stops after its first success, with at most two rollouts,
has a mean reward that is too large by $<<bias>>$.""",
        formulas={
            "within": sigma**2 / (m**2 * n),
            "total": (between + sigma**2 / n) / m,
            "bias": p * (1 - p) / 2,
        },
        prove=_prove_variance,
        enumerate=_enumerate_variance,
        sample=_sample_variance,
    ),
    Claim(
        number="4.4",
        source="not in the paper",
        title="The part between prompts, and where quotas stop mattering",
        status=Status.PROVED,
        statement=r"""
In the setting of 4.1, over $m$ independent draws with all $\sigma > 0$ and real quotas (20), the total
variance of (16) is
$$<<total>>,$$
with $\bar\sigma$ and $v$ the mean and the variance of $\sigma$, and $b > 0$ the total variance of the
mean gradients, under the sampling distribution. Equal quotas add $<<saving>>$. With $\bar n = N/m$
rollouts per prompt and many prompts, equal quotas have
$$<<gain>>$$
times the variance of (20). Half of the gain over 1 is gone at $\bar n = <<half>>$: once a group's own
noise $\bar\sigma^2/\bar n$ is well below the variance $b$ between prompts, it hardly matters how the
rollouts are split. At a fixed $N$ the variance falls with $m$: for an advantage that needs no group,
more draws with fewer rollouts each are always better. (With whole quotas this can fail near $m = N$,
if large $\sigma$ are rare and $b$ is small.)""",
        formulas={
            "total": between / m + mean_sigma**2 / budget + var_sigma / (m * budget),
            "saving": var_sigma * (m - 1) / (m * budget),
            "gain": 1 + cv_sq / (1 + per_prompt * between / mean_sigma**2),
            "half": mean_sigma**2 / between,
        },
        prove=_prove_between,
        enumerate=_enumerate_between,
        sample=_sample_between,
    ),
]
