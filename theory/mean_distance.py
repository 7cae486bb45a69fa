r"""The distance of the mean scores of right and wrong answers in Eq. (21), from pilots."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.score_law import ScoreLaw, mean_and_variance, softmax_law
from theory.score_products import (
    along,
    distinct_mean,
    distinct_mean_of,
    gram,
    named,
    quadratic,
    spread_sq,
    variance_u,
)
from theory.symbols import n

n_1, n_0 = sp.symbols("n_1 n_0", integer=True, positive=True)  # right and wrong rollouts
# of the scores of right (1) and wrong (0) rollouts; d is the difference of their means
along_1, along_0 = named(r"d^{\top}V_{1}d"), named(r"d^{\top}V_{0}d")
spread_1, spread_0 = named(r"\operatorname{Tr}V_{1}"), named(r"\operatorname{Tr}V_{0}")
square_1, square_0 = named(r"\operatorname{Tr}V_{1}^{2}"), named(r"\operatorname{Tr}V_{0}^{2}")
cross = named(r"\operatorname{Tr}V_{1}V_{0}")

variance_two = (
    4 * (along_1 / n_1 + along_0 / n_0)
    + 2 * square_1 / (n_1 * (n_1 - 1))
    + 2 * square_0 / (n_0 * (n_0 - 1))
    + 4 * cross / (n_1 * n_0)
)

LAW_TWO = softmax_law(
    [1, 2, 1, 3], right={0, 1}, features=sp.Matrix([[2, 0], [0, 1], [1, -1], [0, 0]])
)


def _prove_two(f: Formulas) -> Iterator[Step]:
    e_1, e_2, w_1, w_2, d = sp.symbols("xi_1 xi_2 eta_1 eta_2 d", real=True)
    mu = sp.Symbol("mu", real=True)
    right, wrong = [mu + d + e_1, mu + d + e_2], [mu + w_1, mu + w_2]
    yield Step(
        r"In one coordinate and with two rollouts of each kind: write $\xi, \eta$ for the "
        r"deviations of right and wrong scores from their means. The estimator is $d^2$ and four "
        r"parts, linear, two products of one kind, and one product of both.",
        right[0] * right[1] + wrong[0] * wrong[1] - sum(right) * sum(wrong) / 2,
        d**2 + d * (e_1 + e_2 - w_1 - w_2) + e_1 * e_2 + w_1 * w_2 - (e_1 + e_2) * (w_1 + w_2) / 2,
    )
    yield Step(
        r"The parts have mean zero, so the estimator has no bias, and do not correlate. Linear: "
        r"$4 (d^\top V_1 d/n_1 + d^\top V_0 d/n_0)$. One kind: 8.5 with $g = 0$. Both: $n_1 n_0$ "
        r"products of variance $\operatorname{Tr} V_1 V_0$, each times $2/(n_1 n_0)$.",
        4 * along_1 / n_1
        + 4 * along_0 / n_0
        + variance_u.subs({along: 0, spread_sq: square_1, n: n_1})
        + variance_u.subs({along: 0, spread_sq: square_0, n: n_0})
        + n_1 * n_0 * (2 / (n_1 * n_0)) ** 2 * cross,
        f["variance"],
    )
    yield Step(
        r"The plug-in adds the squares of the two mean deviations, "
        r"$n_r \operatorname{Tr} V_r / n_r^2$ each.",
        n_1 * spread_1 / n_1**2 + n_0 * spread_0 / n_0**2,
        f["bias"],
    )


def distance_estimate(law: ScoreLaw, outcome: tuple[int, ...], right: int) -> sp.Expr:
    """Estimate of the squared difference from scores, the first ``right`` of them of right rollouts."""
    products = gram(law.score_K_D)
    ones, zeros = outcome[:right], outcome[right:]
    between = sp.Add(*(products[a, b] for a in ones for b in zeros)) / (len(ones) * len(zeros))
    return distinct_mean(products, ones) + distinct_mean(products, zeros) - 2 * between


def two_kinds(law: ScoreLaw) -> dict[sp.Symbol, sp.Expr]:
    """The values of the symbols of 8.7 for a policy."""
    v_1, v_0, d = law.covariance_given(1), law.covariance_given(0), law.difference
    return {
        along_1: quadratic(d, v_1), along_0: quadratic(d, v_0),
        spread_1: sp.trace(v_1), spread_0: sp.trace(v_0),
        square_1: sp.trace(v_1**2), square_0: sp.trace(v_0**2), cross: sp.trace(v_1 * v_0),
    }  # fmt: skip


def _enumerate_two(f: Formulas) -> Iterator[Exact]:
    law, value = LAW_TWO, two_kinds(LAW_TWO)
    square = law.difference.dot(law.difference)
    for right, wrong in ((2, 2), (3, 2)):
        chances = [law.given(1)] * right + [law.given(0)] * wrong
        what = f"{right} right and {wrong} wrong rollouts"
        counts = {n_1: right, n_0: wrong}
        mean, variance = mean_and_variance(chances, partial(distance_estimate, law, right=right))
        yield Exact(f"{what}: the mean is $D^2$", mean, square)
        yield Exact(f"{what}: the variance", variance, f["variance"].subs({**value, **counts}))
        plug_in, _ = mean_and_variance(chances, partial(_plug_in, law, right=right))
        yield Exact(
            f"{what}: bias of the plug-in", plug_in - square, f["bias"].subs({**value, **counts})
        )
    wide = {spread_1: 90, spread_0: 90, n_1: 2, n_0: 2}  # 1000 coordinates of variance 0.09
    yield Exact("2 and 2 rollouts, 1000 coordinates of standard deviation 0.3, $D = 1$: plug-in",
                91, 1 + f["bias"].subs(wide))  # fmt: skip


def _plug_in(law: ScoreLaw, outcome: tuple[int, ...], right: int) -> sp.Expr:
    rows = [law.score_K_D.row(k) for k in outcome]
    wrong = len(outcome) - right
    gap = sum(rows[:right], sp.zeros(1, rows[0].cols)) / right
    gap -= sum(rows[right:], sp.zeros(1, rows[0].cols)) / wrong
    return gap.dot(gap)


def _sample_two(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    size, width = 4000, 1000
    noise = 0.3 * rng.normal(size=(2, size, 2, width))
    noise[0, :, :, 0] += 1.0  # D = 1 along the first coordinate
    ones, zeros = noise
    between = (ones.mean(axis=1) * zeros.mean(axis=1)).sum(axis=1)
    estimate = distinct_mean_of(ones) + distinct_mean_of(zeros) - 2.0 * between
    trace = {spread_1: 90, spread_0: 90, square_1: 8.1, square_0: 8.1, cross: 8.1}
    value = {**trace, along_1: 0.09, along_0: 0.09, n_1: 2, n_0: 2}
    plug_in = ((ones.mean(axis=1) - zeros.mean(axis=1)) ** 2).sum(axis=1)
    high = 1.0 + float(f["bias"].subs(value))
    where = "2 + 2 rollouts, 1000 coordinates, $D = 1$"
    yield Estimate.of(
        f"products of different rollouts; {where}", estimate, 1.0, high, "the plug-in's mean"
    )
    yield Estimate.of(f"the plug-in; {where}", plug_in, high, 1.0, "$D^2$")
    yield Estimate.of(
        f"squared deviation of the products; {where}",
        (estimate - 1.0) ** 2,
        expected=float(f["variance"].subs(value)),
        control=float(f["variance"].subs({**value, cross: 0})),
        control_is="without the cross term",
    )


CLAIMS = [
    Claim(
        number="8.7",
        source="Eq. (21)",
        title="Distance of the mean scores from pilots",
        status=Status.CONDITIONAL,
        statement=r"""The last term of (21) holds $D^2 = |d|^2$,
$d = \mathbb{E}[s \mid r=1] - \mathbb{E}[s \mid r=0]$. From $n_1$ right and $n_0$ wrong rollouts,
let $V_r$ be the covariance of $s$ given $r$. The means over pairs of *different* right rollouts and
of different wrong ones, less twice the mean over mixed pairs, estimate $D^2$ without bias, with
variance (given $n_1, n_0$)
$$<<variance>>.$$
The squared distance of the two sample means is too large by
$$<<bias>>.$$
With $2 + 2$ pilots, $D = 1$ and 1000 coordinates of standard deviation $0.3$ it is 91 on average.""",
        condition=r"""There are at least two right and two wrong rollouts. With fewer, $D^2$ cannot
be estimated without bias in this way, and the plug-in is unusable for a policy with many
parameters.""",
        formulas={"variance": variance_two, "bias": spread_1 / n_1 + spread_0 / n_0},
        prove=_prove_two,
        enumerate=_enumerate_two,
        sample=_sample_two,
    ),
]
