r"""The shape of Eq. (21) in the success rate: when the quota is a bell, and when it has two humps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.policies import mean
from theory.score_law import (
    G_0,
    G_1,
    Array,
    D,
    ScoreLaw,
    half_squared_distance,
    moments,
    softmax_law,
    variance,
)
from theory.symbols import p

G = sp.Symbol("G", positive=True)  # root mean square of |s|, right and wrong alike
slack = sp.Symbol("x", nonnegative=True)
noise_0 = sp.Symbol("V_0", nonnegative=True)  # Tr Var(s | r=0)
u = sp.Symbol("u", positive=True)  # p (1 - p)

half = sp.Rational(1, 2)
even_norms = p * (1 - p) * G**2 - p**2 * (1 - p) ** 2 * D**2


def hump(product: sp.Expr) -> sp.Expr:
    """The rate below 1/2 at which ``p (1 - p)`` has the given value."""
    return (1 - sp.sqrt(1 - 4 * product)) / 2


def highest(shape: sp.Expr, high: float = 1.0) -> float:
    """Largest value over rates in [1 - high, high], by a fine grid and a parabola at its best point."""
    f = numeric(shape, p)
    p_S = np.linspace(1.0 - high, high, 20_001)
    value_S = f(p_S) + np.zeros_like(p_S)
    i = int(np.clip(np.argmax(value_S), 1, p_S.size - 2))
    below, here, above = value_S[i - 1 : i + 2]
    return float(here - (above - below) ** 2 / (8.0 * (above - 2.0 * here + below)))


# --- 5.3: the condition


def _prove_bell(f: Formulas) -> Iterator[Step]:
    yield Step(r"(21) with $G_1 = G_0 = G$:", variance.subs({G_1: G, G_0: G}), f["even"])
    bracket = G**2 - 2 * p * (1 - p) * D**2
    yield Step(
        r"Its derivative in $p$, with $G$ and $D$ constant, is $(1-2p)$ times a bracket.",
        sp.Derivative(f["even"], p),
        (1 - 2 * p) * bracket,
    )
    yield Step(
        r"If $D^2 = 2G^2 - x$ with $x \ge 0$ the bracket is not negative, and zero at most at $1/2$: "
        r"one bell, with its top there.",
        bracket.subs(D, sp.sqrt(f["threshold"] - slack)),
        0,
        certificate=(1 - 2 * p) ** 2 * G**2 + 2 * p * (1 - p) * slack,
    )
    yield Step(
        r"The second derivative at $1/2$ is positive as soon as $D^2$ exceeds the threshold: "
        r"$1/2$ is then a valley.",
        sp.Subs(sp.Derivative(f["even"], (p, 2)), p, half),
        D**2 - f["threshold"],
    )
    yield Step(
        r"With $u = p(1-p)$ the bracket vanishes, on both sides of the valley, at $u = G^2/(2D^2)$:",
        sp.Subs(G**2 - 2 * u * D**2, u, f["hump"]),
        0,
    )
    yield Step("The height there:", sp.Subs(u * G**2 - u**2 * D**2, u, f["hump"]), f["top"])


def _enumerate_bell(f: Formulas) -> Iterator[Exact]:
    # 2 right and 2 wrong answers, all as likely: scores have squared norm 3/4, and D^2 = 1
    law = softmax_law([1, 1, 1, 1], right={0, 1})
    value = {**moments(law), G: moments(law)[G_1]}
    yield Exact("table, 2 right, 2 wrong", sp.trace(law.covariance), f["even"].subs(value))
    steep = {G: 1, D: sp.sqrt(3)}
    at_hump = f["even"].subs(steep).subs(p, hump(f["hump"].subs(steep)))
    yield Exact("height of the hump, $D^2 = 3G^2$", at_hump, f["top"].subs(steep))
    yield Exact(
        "hump against valley, $D^2 = 3G^2$", f["even"].subs({**steep, p: half}), at_hump, "<"
    )
    flat = {G: 1, D: sp.sqrt(f["threshold"].subs(G, 1)), p: hump(sp.Rational(6, 25))}
    yield Exact("$D^2 = 2G^2$: less at $p = 2/5$ than at $1/2$", f["even"].subs(flat),
                f["even"].subs({**flat, p: half}), "<")  # fmt: skip


def _sample_bell(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    law = softmax_law([1, 1, 1, 1], right={0, 1})
    value = {**moments(law), G: moments(law)[G_1]}
    yield half_squared_distance(
        "table, 2 right, 2 wrong, all as likely", law, rng, f["even"].subs(value),
        (p * (1 - p) * G**2).subs(value), "without the last term",
    )  # fmt: skip
    ratio = float(rng.uniform(2.2, 3.8))
    value = {G: 1.0, D: ratio**0.5}
    yield Search(
        rf"largest $\sigma^2$ over $p$ at $D^2 = {ratio:.3f}\, G^2$, on a grid",
        claimed=float(f["top"].subs(value)),
        found=highest(even_norms.subs(value)),
        control=float(even_norms.subs({**value, p: 0.5})),
        control_is="the value at $p = 1/2$",
        sense="max",
    )


# --- 5.4: what D can be


def _prove_reach(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Let $p \ge 1/2$ (else exchange right and wrong). By 5.2 $|\mathbb{E}[s \mid r=0]| = p D$, and "
        r"$G^2$ is its square plus $V_0 = \operatorname{Tr}\operatorname{Var}(s \mid r=0)$. Hence "
        r"$p D \le G$, with $D$ at the ceiling iff $V_0 = 0$.",
        sp.Subs(p**2 * D**2 + noise_0, D, f["ceiling"]),
        G**2,
        certificate=noise_0,
    )
    yield Step(
        r"The ceiling is reached: let all wrong answers have one score, of length $G$, and the "
        r"right ones a common part of length $(1-p) D$ against it. What is left of their $G^2$ "
        r"goes into directions that cancel; with $p = (1+x)/2$, $x \ge 0$, it is not negative.",
        (G**2 - ((1 - p) * f["ceiling"]) ** 2).subs(p, (1 + slack) / 2),
        0,
        certificate=4 * G**2 * slack / (1 + slack) ** 2,
    )
    yield Step(
        r"The ceiling falls as $p$ grows from $1/2$, where it is",
        f["ceiling"].subs(p, half),
        f["furthest"],
        name=r"\left. \frac{G}{p} \right|_{p = 1/2}",
    )
    yield Step(
        r"A given $D \ge G$ can be had up to the success rate where the ceiling has come down to it:",
        sp.Subs(f["ceiling"], p, f["reach"]),
        D,
    )
    ends, humps = G / D * (1 - G / D), G**2 / (2 * D**2)
    yield Step(
        r"The ends of the range have $p(1-p) = \frac GD (1 - \frac GD)$, the humps of 5.3 "
        r"$p(1-p) = G^2/(2D^2)$. The humps are inside iff the difference is positive:",
        humps - ends,
        G / D * (sp.Rational(3, 2) * f["reach"] - 1),
    )
    yield Step(
        r"which, as $D$ grows, changes sign from plus to minus where $D^2 = \frac94 G^2$:",
        sp.Subs(humps - ends, D, sp.sqrt(f["last"])),
        0,
    )


def _enumerate_reach(f: Formulas) -> Iterator[Exact]:
    star = ScoreLaw(  # three unit vectors at 120 degrees, one of them wrong: p = 2/3
        sp.ones(3, 1) / 3,
        sp.Matrix([[-1, 0], [half, sp.sqrt(3) / 2], [half, -sp.sqrt(3) / 2]]),
        sp.Matrix([0, 1, 1]),
    )
    value = {**moments(star), G: 1}
    yield Exact(
        "three unit scores at 120°, two right: mean score",
        0,
        mean(star.pi_K, star.score_K_D).norm(),
    )
    yield Exact("three unit scores at 120°, two right: $D$", value[D], f["ceiling"].subs(value))
    yield Exact("the rate up to which this $D$ can be had", value[p], f["reach"].subs(value))
    yield Exact(
        "this $D$ is also where the humps reach the ends", value[D] ** 2, f["last"].subs(G, 1)
    )
    two = moments(softmax_law([1, 1], right={0}))
    yield Exact("two answers, $p = 1/2$: $D$", two[D], f["furthest"].subs(G, two[G_1]))


def _sample_reach(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    pi_K, right_K = np.array([0.4, 0.3, 0.2, 0.1]), np.array([True, True, False, False])

    def gap(flat: Array) -> float:
        score = flat.reshape(4, 2)
        means = [pi_K[k] @ score[k] / pi_K[k].sum() for k in (right_K, ~right_K)]
        return -float(((means[0] - means[1]) ** 2).sum())

    def constraints(flat: Array) -> Array:
        score = flat.reshape(4, 2)
        square = (score**2).sum(axis=1)
        norms = [pi_K[k] @ square[k] / pi_K[k].sum() - 1.0 for k in (right_K, ~right_K)]
        return np.concatenate([pi_K @ score, norms])

    equal: Any = {"type": "eq", "fun": constraints}
    options: Any = {"ftol": 1e-13, "maxiter": 500}
    starts = [rng.normal(size=8) for _ in range(8)]
    runs = [minimize(gap, x, method="SLSQP", options=options, constraints=equal) for x in starts]
    found = max(-float(run.fun) for run in runs if np.abs(constraints(run.x)).max() < 1e-9)
    yield Search(
        r"$D^2$ over 4 scores in the plane, $p = 0.7$, $G = 1$ on both sides, mean zero; SLSQP",
        claimed=float(f["ceiling"].subs({p: 0.7, G: 1})) ** 2,
        found=found,
        control=1.0,
        control_is="$G^2$, all that is possible at every $p$ at once",
        sense="max",
    )
    # wrong scores all alike, right ones as far from them as E s = 0 lets them be; two rollouts of each
    side_S_2 = rng.choice([-1.0, 1.0], size=(40_000, 2)) * (1 - (3 / 7) ** 2) ** 0.5
    yield Estimate.of(
        "$p = 0.7$, $G = 1$, the attaining scores: product of the differences of two pairs",
        (3 / 7 + 1) ** 2 + side_S_2.prod(axis=1),
        expected=float(f["ceiling"].subs({p: 0.7, G: 1})) ** 2,
        control=1.0,
        control_is="$G^2$",
    )


CLAIMS = [
    Claim(
        number="5.3",
        source="Eq. (21), Figure 4",
        title="When the variance is a bell in the success rate",
        status=Status.CONDITIONAL,
        statement=r"""
The paper shows quotas that are bell-shaped in the success rate with the top at $1/2$. Let right and
wrong answers have the same mean square $G^2$ of the score, and let $G$ and $D$ not depend on $p$ in
a range of success rates that is symmetric about $1/2$. Then
$$\sigma^2 = <<even>>$$
is in this range one bell, that is, it grows up to $p = 1/2$ and falls from there on, iff
$D^2 \le <<threshold>>$. Otherwise $1/2$ is a valley; if the range reaches far enough (5.4), the
valley lies between two humps of height $<<top>>$ at $p(1-p) = <<hump>>$.""",
        condition=r"""
$D^2 \le <<threshold>>$, that is, the mean score of right answers and that of wrong ones are close to
each other compared with the scores themselves.""",
        formulas={
            "even": even_norms,
            "threshold": 2 * G**2,
            "hump": G**2 / (2 * D**2),
            "top": G**4 / (4 * D**2),
        },
        prove=_prove_bell,
        enumerate=_enumerate_bell,
        sample=_sample_bell,
    ),
    Claim(
        number="5.4",
        source="not in the paper",
        title="How far apart the mean scores can be",
        status=Status.PROVED,
        statement=r"""
Because $\mathbb{E}\,s = 0$, $G$ and $D$ of 5.3 are not free. At a success rate $p \ge 1/2$ the largest
possible $D$ is $<<ceiling>>$ (below $1/2$ the same with $1-p$), hence never more than
$<<furthest>>$. If $G$ and $D$ are the same at *every* $p$, then $D \le G$, and $\sigma^2$ is a
bell. A larger constant $D$ is possible only for $p$ between $1 - <<reach>>$ and $<<reach>>$. In
that range the two humps are seen for $2 G^2 < D^2 < <<last>>$; for $<<last>> \le D^2 < 4 G^2$ the
variance only falls from the ends of the range to the middle.""",
        formulas={
            "ceiling": G / p,
            "furthest": 2 * G,
            "reach": G / D,
            "last": sp.Rational(9, 4) * G**2,
        },
        prove=_prove_reach,
        enumerate=_enumerate_reach,
        sample=_sample_reach,
    ),
]
