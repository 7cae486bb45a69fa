r"""What training on a prompt does for the objective, :math:`g_i \cdot g`, from all rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.mean_distance import LAW_TWO
from theory.score_law import ScoreLaw, as_array, mean_and_variance, softmax_law
from theory.score_products import (
    LAW,
    along,
    distinct_mean,
    distinct_mean_of,
    gram,
    named,
    quadratic,
    spread_sq,
    variance_u,
)
from theory.symbols import m, n

# of prompt i among m; S is the covariance of what the others add to the mean gradient
others_along = named(r"g_{i}^{\top}Sg_{i}")
mixed_along = named(r"(g+g_{i}/m)^{\top}\Sigma_{i}(g+g_{i}/m)")
others_cross = named(r"\operatorname{Tr}\Sigma_{i}S")
own_spread = named(r"\operatorname{Tr}\Sigma_{i}")
own_square = named(r"\operatorname{Tr}\Sigma_{i}^{2}")

variance_transfer = (
    others_along + mixed_along / n + others_cross / n + 2 * own_square / (m**2 * n * (n - 1))
)


def _prove_transfer(f: Formulas) -> Iterator[Step]:
    g, h, e_1, e_2, w = sp.symbols("g_i h xi_1 xi_2 zeta", real=True)
    mean = g + (e_1 + e_2) / 2
    yield Step(
        r"One coordinate, $n = 2$: let $h + \zeta$ be what the other prompts add to the mean "
        r"gradient, $g = h + g_i/m$, and $\xi$ the deviations of $X$ for prompt $i$. The "
        r"estimator is $g_i \cdot g$ and four parts that do not correlate.",
        mean * (h + w) + (g + e_1) * (g + e_2) / m,
        g * (h + g / m)
        + g * w
        + (e_1 + e_2) / 2 * (h + 2 * g / m)
        + (e_1 + e_2) / 2 * w
        + e_1 * e_2 / m,
    )
    yield Step(
        r"Their variances, with $h + 2 g_i/m = g + g_i/m$ and $S = \operatorname{Var}\zeta$; the "
        r"last part is 8.5 with $g = 0$, over $m^2$.",
        others_along
        + n * mixed_along / n**2
        + n * others_cross / n**2
        + variance_u.subs({along: 0, spread_sq: own_square}) / m**2,
        f["variance"],
    )
    yield Step(
        r"With $\bar X_i \cdot \bar X$ in its place, squares of single rollouts come in: of the "
        r"$n^2$ products in $|\bar X_i|^2/m$, $n$ have the mean "
        r"$|g_i|^2 + \operatorname{Tr}\Sigma_i$.",
        n * own_spread / (n**2 * m),
        f["bias"],
    )


def _prompts() -> list[ScoreLaw]:
    """Two prompts of one policy on two features."""
    return [
        LAW,
        softmax_law([1, 1, 2], right={2}, features=sp.Matrix([[0, 1], [1, 1], [2, 0]])),
    ]


def _transfer_values(laws: list[ScoreLaw], size: int) -> dict[sp.Symbol, Any]:
    """The symbols of 8.8 for the first of the prompts, each with ``size`` rollouts."""
    count = len(laws)
    own, sigma = laws[0].gradient, laws[0].covariance
    whole = sum((law.gradient for law in laws), sp.zeros(own.rows, 1)) / count
    rest = sum((law.covariance for law in laws[1:]), sp.zeros(own.rows)) / (count**2 * size)
    return {
        others_along: quadratic(own, rest),
        mixed_along: quadratic(whole + own / count, sigma),
        others_cross: sp.trace(sigma * rest),
        own_spread: sp.trace(sigma),
        own_square: sp.trace(sigma**2),
        m: count,
        n: size,
        sp.Symbol("target"): own.dot(whole),
    }


def _enumerate_transfer(f: Formulas) -> Iterator[Exact]:
    laws, size = _prompts(), 2
    value = _transfer_values(laws, size)
    target = value[sp.Symbol("target")]
    first, second = (law.contribution_K_D for law in laws)
    between, within = first * second.T, gram(first)

    def rivals(own: Callable[[tuple[int, ...]], sp.Expr]) -> Callable[[tuple[int, ...]], sp.Expr]:
        def statistic(outcome: tuple[int, ...]) -> sp.Expr:
            ones, others = outcome[:size], outcome[size:]
            products = sp.Add(*(between[a, b] for a in ones for b in others)) / size**2
            return (products + own(ones)) / 2

        return statistic

    chances = [laws[0].pi_K] * size + [laws[1].pi_K] * size
    mean, variance = mean_and_variance(chances, rivals(lambda y: distinct_mean(within, y)))
    what = "2 prompts, 2 rollouts each"
    yield Exact(f"{what}: the mean is $g_i \\cdot g$", mean, target)
    yield Exact(f"{what}: the variance", variance, f["variance"].subs(value))
    plug_in, _ = mean_and_variance(
        chances, rivals(lambda y: sp.Add(*(within[a, b] for a in y for b in y)) / size**2)
    )
    yield Exact(
        f"{what}: bias of $\\bar X_i \\cdot \\bar X$", plug_in - target, f["bias"].subs(value)
    )


def _sample_transfer(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    laws, size, draws = [*_prompts(), LAW_TWO], 4, 60_000
    value = _transfer_values(laws, size)
    target = float(value[sp.Symbol("target")])
    vectors = [as_array(law.contribution_K_D)[law.draw(rng, [draws, size])] for law in laws]
    means = [vector.mean(axis=1) for vector in vectors]
    rest = sum(means[1:]) / len(laws)
    estimate = (means[0] * rest).sum(axis=1) + distinct_mean_of(vectors[0]) / len(laws)
    plug_in = (means[0] * (rest + means[0] / len(laws))).sum(axis=1)
    bias = float(f["bias"].subs(value))
    where = "3 prompts, 4 rollouts each"
    yield Estimate.of(f"products of different rollouts; {where}", estimate, target, target + bias,
                      "the plug-in's mean")  # fmt: skip
    yield Estimate.of(rf"$\bar X_i \cdot \bar X$; {where}", plug_in, target + bias, target,
                      r"$g_i \cdot g$")  # fmt: skip
    yield Estimate.of(
        f"squared deviation of the products; {where}",
        (estimate - target) ** 2,
        expected=float(f["variance"].subs(value)),
        control=float(f["variance"].subs({**value, mixed_along: 0})),
        control_is="without the part linear in the prompt's own noise",
    )


CLAIMS = [
    Claim(
        number="8.8",
        source="not in the paper",
        title="What a prompt does for the objective, estimated",
        status=Status.PROVED,
        statement=r"""Let the objective be the mean success rate of $m$ prompts,
$g = \frac1m \sum_k g_k$, with $n \ge 2$ rollouts of prompt $i$ and $n_k \ge 1$ of each other one;
$\bar X_k$ and $\Sigma_k$ are as in 8.5 for prompt $k$.
$\bar X_i \cdot \frac1m \sum_{k \ne i} \bar X_k$ plus $1/m$ of the estimate 8.5 of $|g_i|^2$ is an
unbiased estimate of $g_i \cdot g$. With $S = \frac1{m^2} \sum_{k \ne i} \Sigma_k/n_k$ its variance
is
$$<<variance>>.$$
$\bar X_i \cdot \bar X$, which multiplies rollouts of prompt $i$ with themselves, is too large by
$<<bias>>$.""",
        formulas={"variance": variance_transfer, "bias": own_spread / (m * n)},
        prove=_prove_transfer,
        enumerate=_enumerate_transfer,
        sample=_sample_transfer,
    ),
]
