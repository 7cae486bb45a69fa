r"""Eq. (21) where one token decides: two possible answers, and the tokens beside them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step
from theory.gradient_shape import half, highest, hump, slack
from theory.gradient_std import L
from theory.score_law import ScoreLaw, half_squared_distance, softmax_law
from theory.symbols import p

filler = sp.Symbol("h", positive=True)  # E|s|^2 of the tokens that do not matter

two_answers = L**2 * p * (1 - p) * (1 - 2 * p) ** 2
with_filler = p * (1 - p) * ((1 - 2 * p) ** 2 * L**2 + filler)


# --- 5.5: two answers


def _prove_two_answers(f: Formulas) -> Iterator[Step]:
    right, wrong = (1 - p) * (1 - p) * L, (-p) * (-p) * L
    yield Step(
        r"The scores are $(1-p)\nabla\operatorname{logit} p$ (right) and "
        r"$-p\nabla\operatorname{logit} p$ (wrong); times the advantages $1-p$ and $-p$ both "
        r"point along the gradient, whose length is",
        p * right + (1 - p) * wrong,
        p * (1 - p) * L,
    )
    yield Step(
        "Mean square minus squared mean:",
        p * right**2 + (1 - p) * wrong**2 - (p * (1 - p) * L) ** 2,
        f["variance"],
    )
    yield Step(
        r"At $p = 1/2$ this is zero: right and wrong rollouts give the same contribution, and one "
        r"rollout tells it all.",
        sp.Subs(right - wrong, p, half),
        0,
    )
    yield Step(
        r"The derivative, $L = 1$, vanishes at $1/2$ and where $p(1-p) = 1/8$.",
        sp.Derivative(f["variance"].subs(L, 1), p),
        (1 - 2 * p) * (1 - p * (1 - p) / f["hump"]),
    )
    yield Step(
        r"There, at $p = (1 \mp 1/\sqrt 2)/2$:",
        sp.Subs(f["variance"], p, hump(f["hump"])),
        f["top"],
    )


def _enumerate_two_answers(f: Formulas) -> Iterator[Exact]:
    laws = {
        "table, $p = 1/4$": (softmax_law([1, 3], right={0}), sp.sqrt(2)),
        "features $(3, 4)$ and $0$, $p = 2/5$": (
            softmax_law([2, 3], right={0}, features=sp.Matrix([[3, 4], [0, 0]])),
            sp.Integer(5),
        ),
    }
    for what, (law, length) in laws.items():
        value = {p: law.p, L: length}
        yield Exact(what, sp.trace(law.covariance), f["variance"].subs(value))
    value = {p: half, L: sp.sqrt(2)}
    yield Exact(
        "table, $p = 1/2$: below the value at the hump",
        sp.trace(softmax_law([1, 1], right={0}).covariance),
        f["top"].subs(value),
        "<",
    )


def _sample_two_answers(f: Formulas, rng: np.random.Generator) -> Iterator[Search | Estimate]:
    law = softmax_law([1, 3], right={0})
    yield half_squared_distance(
        "two answers, $p = 1/4$", law, rng, f["variance"].subs({p: law.p, L: sp.sqrt(2)}),
        (p * (1 - p)).subs(p, law.p) * 2, "the bell $p (1-p) L^2$"
    )  # fmt: skip
    yield Search(
        r"largest $\sigma^2$ over $p$, $L = 1$, on a grid",
        claimed=float(f["top"].subs(L, 1)),
        found=highest(two_answers.subs(L, 1)),
        control=float(two_answers.subs({L: 1, p: 0.25})),
        control_is="the value at $p = 1/4$",
        sense="max",
    )


# --- 5.6: tokens that do not matter


def _prove_filler(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Let $s = s' + s''$ with $s''$ independent of $(s', r)$, $\mathbb{E}\,s'' = 0$ and "
        r"$\mathbb{E}|s''|^2 = h$ (the two may share parameters or not). The part $A s''$ has mean "
        r"zero and mean square $\mathbb{E}[A^2]\, h = p(1-p) h$, and $\mathbb{E}[A^2 s' \cdot s''] "
        r"= \mathbb{E}[A^2 s'] \cdot \mathbb{E}\,s'' = 0$; $A s'$ is the case of 5.5. Scores of "
        r"the tokens of one answer are uncorrelated, for each has mean zero given the tokens "
        r"before it: their mean squares add up to $h$.",
        two_answers + (p * (1 - p) ** 2 + (1 - p) * p**2) * filler,
        f["variance"],
    )
    bracket = L**2 + filler - 8 * p * (1 - p) * L**2
    yield Step(
        "The derivative in $p$, $L$ and $h$ constant:",
        sp.Derivative(f["variance"], p),
        (1 - 2 * p) * bracket,
    )
    yield Step(
        r"If $h = L^2 + x$ with $x \ge 0$ the bracket is not negative, and zero at most at $1/2$: one "
        r"bell.",
        bracket.subs(filler, f["threshold"] + slack),
        0,
        certificate=2 * (1 - 2 * p) ** 2 * L**2 + slack,
    )
    yield Step(
        r"If $h$ is smaller, $1/2$ is a valley: the second derivative there is",
        sp.Subs(sp.Derivative(f["variance"], (p, 2)), p, half),
        2 * (f["threshold"] - filler),
    )


def _with_filler(decision: list[int], token: list[int]) -> ScoreLaw:
    """First of two answers right, and beside it a token whose choice does not matter."""
    size = len(decision), len(token)
    features = sp.Matrix(
        [
            [*sp.eye(size[0]).row(i), *sp.eye(size[1]).row(j)]
            for i in range(size[0])
            for j in range(size[1])
        ]
    )
    weight = [a * b for a in decision for b in token]
    return softmax_law(weight, right=range(size[1]), features=features)


def _enumerate_filler(f: Formulas) -> Iterator[Exact]:
    for what, decision, token in (
        ("$p = 1/4$, one filler token of chances 1/6, 2/6, 3/6", [1, 3], [1, 2, 3]),
        ("$p = 1/2$, one filler token of 4 equal choices", [1, 1], [1, 1, 1, 1]),
    ):
        law = _with_filler(decision, token)
        h = 1 - sum(sp.Rational(x, sum(token)) ** 2 for x in token)
        value = {p: law.p, L: sp.sqrt(2), filler: h}
        yield Exact(what, sp.trace(law.covariance), f["variance"].subs(value))
    tie = {L: 1, filler: f["threshold"].subs(L, 1)}
    yield Exact(
        "$h = L^2$: less at $p = 2/5$ than at $1/2$",
        f["variance"].subs({**tie, p: sp.Rational(2, 5)}),
        f["variance"].subs({**tie, p: half}),
        "<",
    )


def _sample_filler(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    # 12 filler tokens of two equal choices: each adds 1 - 1/4 - 1/4 = 1/2
    rate, tokens, size = 0.3, 12, 40_000
    reward = (rng.random(size) < rate).astype(np.float64)
    decision = np.sqrt(2.0) * (reward - rate)  # L = sqrt 2
    noise = rng.choice([-np.sqrt(0.5), np.sqrt(0.5)], size=(size, tokens))
    draw = (reward - rate)[:, None] * np.column_stack([decision, noise])
    pairs = draw.reshape(-1, 2, tokens + 1)
    value = {p: rate, L: 2**0.5, filler: tokens / 2}
    yield Estimate.of(
        "half the squared distance of two contributions; 12 filler tokens, $p = 0.3$",
        0.5 * ((pairs[:, 0] - pairs[:, 1]) ** 2).sum(axis=1),
        expected=float(f["variance"].subs(value)),
        control=float(two_answers.subs(value)),
        control_is="(21) of the deciding token alone",
    )


CLAIMS = [
    Claim(
        number="5.5",
        source="Eq. (21)",
        title="Two answers: no variance at one half",
        status=Status.PROVED,
        statement=r"""
Let the score depend on the reward only, as with two possible answers or in item response theory,
and $L = |\nabla \operatorname{logit} p|$. Then (21) is
$$\sigma^2 = <<variance>>,$$
zero at $p = 1/2$, where (14) samples most. If $L$ does not depend on $p$ it is largest, $<<top>>$,
where $p(1-p) = <<hump>>$, that is at $p \approx 0.146$ and $0.854$.""",
        formulas={
            "variance": two_answers,
            "hump": sp.Rational(1, 8),
            "top": L**2 / 16,
        },
        prove=_prove_two_answers,
        enumerate=_enumerate_two_answers,
        sample=_sample_two_answers,
    ),
    Claim(
        number="5.6",
        source="not in the paper",
        title="The bell is made by tokens that do not matter",
        status=Status.PROVED,
        statement=r"""
Let one token decide the reward as in 5.5, and let the score of all other tokens together, of mean
square $h$, be independent of that token. Then
$$\sigma^2 = <<variance>>,$$
which, if $L$ and $h$ do not depend on $p$, is one bell iff $h \ge <<threshold>>$. Each further token
adds its own part to $h$, so that in a long answer, $h \gg L^2$, $\sigma^2 \approx p(1-p)\, h$: the
quota (20) follows the bell because of noise that carries nothing about the reward, and leaves the
middle as that noise vanishes.""",
        formulas={"variance": with_filler, "threshold": L**2},
        prove=_prove_filler,
        enumerate=_enumerate_filler,
        sample=_sample_filler,
    ),
]
