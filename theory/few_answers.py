r"""Eq. (21) for a table of a few answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Relation, Status, Step
from theory.gradient_shape import half
from theory.score_law import ScoreLaw, half_squared_distance, softmax_law
from theory.symbols import p

K_1, K_0 = sp.symbols("K_1 K_0", integer=True, positive=True)  # right and wrong answers
K = sp.Symbol("K", integer=True, positive=True)  # as many right as wrong ones

table = p * (1 - p) * (1 + p * (4 * p - 3) / K_1 + (1 - p) * (1 - 4 * p) / K_0)


# --- 5.7: the table


def _prove_table(f: Formulas) -> Iterator[Step]:
    square = p**2 / K_1 + (1 - p) ** 2 / K_0  # sum of pi_k^2
    slope_sq = K_1 * (p / K_1 * (1 - p)) ** 2 + K_0 * ((1 - p) / K_0 * p) ** 2
    yield Step(
        r"$\partial p/\partial\theta_k = \pi_k (r_k - p)$, with $\pi_k = p/K_1$ for right and "
        r"$(1-p)/K_0$ for wrong answers. Hence (5.2) $D^2 = |\nabla p|^2 / (p(1-p))^2$ is",
        slope_sq / (p * (1 - p)) ** 2,
        1 / K_1 + 1 / K_0,
    )
    yield Step(
        r"The score of answer $k$ is $e_k - \pi$, of square $1 - 2\pi_k + \sum_j \pi_j^2$. The "
        r"first two terms of (21) are $p(1-p)$ times the mean of $G_1^2$ and $G_0^2$ with weights "
        r"$1-p$ and $p$,",
        (1 - p) * (1 - 2 * p / K_1 + square) + p * (1 - 2 * (1 - p) / K_0 + square),
        1 - 2 * p * (1 - p) / K_1 - 2 * p * (1 - p) / K_0 + square,
    )
    mean_square = 1 - 2 * p * (1 - p) * (1 / K_1 + 1 / K_0) + square
    yield Step(
        r"and (21) divided by $p(1-p)$ is this less $p(1-p)D^2$:",
        mean_square - p * (1 - p) * (1 / K_1 + 1 / K_0),
        f["table"] / (p * (1 - p)),
    )
    yield Step("As many right as wrong answers:", f["table"].subs({K_1: K, K_0: K}), f["even"])
    yield Step(
        r"In $u = p(1-p)$ that is $u(1 + 1/K) - 8u^2/K$, with one maximum at $u = (K+1)/16$: a "
        r"bell iff this is not below $1/4$, that is $K \ge 3$. Likewise the second derivative in "
        r"$p$ at $1/2$:",
        sp.Subs(sp.Derivative(f["even"], (p, 2)), p, half),
        f["curvature"],
    )
    yield Step(
        r"One right answer and $K_0 \to \infty$ wrong ones:",
        sp.Limit(f["table"].subs(K_1, 1), K_0, sp.oo),
        f["one_right"],
    )


def _even_table(right: int, wrong: int, rate: sp.Rational) -> ScoreLaw:
    weight = [rate / right] * right + [(1 - rate) / wrong] * wrong
    return softmax_law(weight, right=range(right))


def _enumerate_table(f: Formulas) -> Iterator[Exact]:
    for right, wrong, rate in (
        (2, 3, sp.Rational(1, 3)),
        (1, 4, sp.Rational(3, 4)),
        (3, 1, sp.Rational(1, 5)),
    ):
        law = _even_table(right, wrong, rate)
        value = {K_1: right, K_0: wrong, p: rate}
        yield Exact(
            f"{right} right, {wrong} wrong, $p = {rate}$",
            sp.trace(law.covariance),
            f["table"].subs(value),
        )
    quarter = sp.Rational(1, 4)
    sizes: tuple[tuple[int, Relation], ...] = ((2, ">"), (3, "<"))
    for size, relation in sizes:
        yield Exact(
            f"{size} right, {size} wrong: $p = 1/4$ against $p = 1/2$",
            sp.trace(_even_table(size, size, quarter).covariance),
            f["even"].subs({K: size, p: half}),
            relation,
        )
    yield Exact("curvature at 1/2 with 3 and 3 answers", 0, f["curvature"].subs(K, 3))
    slope = sp.diff(f["one_right"], p)
    sides: tuple[tuple[int, Relation], ...] = ((766, ">"), (767, "<"))
    for thousandths, relation in sides:
        rate = sp.Rational(thousandths, 1000)
        yield Exact(
            f"one right answer among many: slope at $p = 0.{thousandths}$",
            slope.subs(p, rate),
            0,
            relation,
        )
    yield Exact(
        "and stationary points in all",
        sp.Poly(slope, p).count_roots(0, 1),
        1,
    )


def _sample_table(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate = sp.Rational(1, 4)
    yield half_squared_distance(
        "3 right, 2 wrong, $p = 1/4$",
        _even_table(3, 2, rate),
        rng,
        f["table"].subs({K_1: 3, K_0: 2, p: rate}),
        f["table"].subs({K_1: 2, K_0: 3, p: rate}),
        "right and wrong exchanged",
    )


CLAIMS = [
    Claim(
        number="5.7",
        source="Eq. (21)",
        title="Softmax over a few answers: a bell from 3 + 3 on",
        status=Status.PROVED,
        statement=r"""
A table with $K_1$ right answers that share $p$ evenly and $K_0$ wrong ones that share $1-p$ evenly has
$$\sigma^2 = <<table>>.$$
With as many right as wrong ones, $K$ of each, it is
$$<<even>>,$$
with second derivative $<<curvature>>$ at $p = 1/2$: two humps for $K = 1$, with zero between them
(5.5), two humps for $K = 2$, a bell from $K = 3$ on. One right answer among ever more wrong ones
gives
$$<<one_right>>,$$
with one maximum, near $p = 0.767$ and not at $1/2$.""",
        formulas={
            "table": table,
            "even": p * (1 - p) * (1 + 1 / K - 8 * p * (1 - p) / K),
            "curvature": 6 / K - 2,
            "one_right": p * (1 - p) * (1 - 3 * p + 4 * p**2),
        },
        prove=_prove_table,
        enumerate=_enumerate_table,
        sample=_sample_table,
    ),
]
