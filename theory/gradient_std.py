r"""Variance of one rollout's gradient, Eq. (21): what it is, its last term, what the code has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.decide import solution
from theory.policies import weights
from theory.score_law import (
    G_0,
    G_1,
    M_1,
    N_0,
    N_1,
    D,
    ScoreLaw,
    as_array,
    half_squared_distance,
    moments,
    softmax_law,
    variance,
)  # fmt: skip
from theory.symbols import p

L = sp.Symbol("L", positive=True)  # |grad logit p|
slope = sp.Symbol("g", positive=True)  # |grad p|
s_1, s_0 = sp.symbols("s_1 s_0", real=True)  # one coordinate of E[s | r]

released = (
    p * (1 - p) ** 2 * G_1**2 + p**2 * (1 - p) * G_0**2 - p**2 * (1 - p) ** 2 * (N_1 - N_0) ** 2
)


TABLE = softmax_law([1, 2, 3, 4], right={1, 2})
RESTRICTED = softmax_law(
    [3, 1, 2, 2, 4], right={0, 3}, features=sp.Matrix([[1, 0], [0, 2], [1, 1], [-1, 3], [2, -1]])
)
LAWS = {
    "table of 4 answers, 2 right": TABLE,
    "5 answers on 2 features, 2 right": RESTRICTED,
}


# --- 5.1: the whole of (21)


def _prove_variance(f: Formulas) -> Iterator[Step]:
    second = p * (1 - p) * ((1 - p) * G_1**2 + p * G_0**2)
    yield Step(
        r"The advantage $A = r - p$ is $1-p$ with chance $p$ and $-p$ with chance $1-p$. By total "
        r"expectation over $r$, $\mathbb{E}[A^2 |s|^2]$ is",
        p * (1 - p) ** 2 * G_1**2 + (1 - p) * p**2 * G_0**2,
        second,
    )
    yield Step(
        r"In each coordinate, with $s_r$ for that of $\mathbb{E}[s \mid r]$, the mean "
        r"$\mathbb{E}[A s]$ is",
        p * (1 - p) * s_1 + (1 - p) * (-p) * s_0,
        p * (1 - p) * (s_1 - s_0),
    )
    yield Step(
        r"Summed over the coordinates, the squares of the means give $p^2 (1-p)^2 D^2$, and "
        r"$\operatorname{Tr} \operatorname{Var}(A s) = \mathbb{E}[A^2 |s|^2] - |\mathbb{E}[A s]|^2$.",
        second - (p * (1 - p) * D) ** 2,
        f["variance"],
    )


def _enumerate_variance(f: Formulas) -> Iterator[Exact]:
    for what, law in LAWS.items():
        yield Exact(what, sp.trace(law.covariance), f["variance"].subs(moments(law)))


def _sample_variance(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    value = moments(RESTRICTED)
    draw_S_D = as_array(RESTRICTED.contribution_K_D)[RESTRICTED.draw(rng, [40_000])]
    pairs = draw_S_D.reshape(-1, 2, draw_S_D.shape[1])
    yield Estimate.of(
        "half the squared distance of two contributions; 5 answers on 2 features",
        0.5 * ((pairs[:, 0] - pairs[:, 1]) ** 2).sum(axis=1),
        expected=float(f["variance"].subs(value)),
        control=float(variance.subs({**value, D: 0})),
        control_is="(21) without its last term",
    )


# --- 5.2: the last term


def _prove_last_term(f: Formulas) -> Iterator[Step]:
    wrong = solution(p * s_1 + (1 - p) * s_0, s_0)
    yield Step(
        r"Scores have mean zero: $p \mathbb{E}[s \mid r=1] + (1-p) \mathbb{E}[s \mid r=0] = 0$. "
        r"Hence, in each coordinate, $s_0 = -p s_1 / (1-p)$ and $s_1 - s_0$ is",
        s_1 - wrong,
        f["difference"].subs(M_1, s_1),
    )
    yield Step(
        r"$\nabla p = \mathbb{E}[r s]$ has the length $p M_1$, and by the line above $M_1 = (1-p) "
        r"D$. So $|\nabla p|^2$ is the last term of (21).",
        sp.Subs((p * M_1) ** 2, M_1, (1 - p) * D),
        f["gradient_sq"],
    )
    yield Step(
        r"Put into (21), with $g = |\nabla p|$:",
        sp.Subs(variance, D, slope / (p * (1 - p))),
        f["short"],
    )
    weight = weights(2)
    law = softmax_law(weight, right={0})
    rate = weight[0] / sum(weight)
    yield Step(
        r"Seen once from the definition: a table of two answers, the first right, "
        r"$\partial/\partial\theta_j = w_j\, \partial/\partial w_j$ with $w_j = e^{\theta_j}$.",
        sp.Add(*((w * sp.Derivative(rate, w)) ** 2 for w in weight)),
        sp.factor(
            f["gradient_sq"].subs({p: rate, D: sp.sqrt((law.difference.T * law.difference)[0])})
        ),
    )


def _enumerate_last_term(f: Formulas) -> Iterator[Exact]:
    for what, law in LAWS.items():
        value = moments(law)
        yield Exact(f"{what}: $D$", value[D], f["difference"].subs(value))
        slope_sq = law.gradient.dot(law.gradient)
        yield Exact(rf"{what}: $|\mathbb{{E}}[r s]|^2$", slope_sq, f["gradient_sq"].subs(value))
        yield Exact(
            f"{what}: the variance",
            sp.trace(law.covariance),
            f["short"].subs({**value, slope: sp.sqrt(slope_sq)}),
        )


def _sample_last_term(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    value = moments(RESTRICTED)
    answer_S_2 = RESTRICTED.draw(rng, [200_000, 2])
    product = as_array(RESTRICTED.reward_K)[answer_S_2] * as_array(RESTRICTED.score_K_D)[answer_S_2]
    yield Estimate.of(
        r"product of $r s$ of two rollouts; 5 answers on 2 features",
        (product[:, 0] * product[:, 1]).sum(axis=1),
        expected=float(f["gradient_sq"].subs(value)),
        control=float((p * (1 - p) * D**2).subs(value)),
        control_is=r"$p (1-p) D^2$",
    )
    length = float(RESTRICTED.gradient.norm())
    yield half_squared_distance(
        "5 answers on 2 features",
        RESTRICTED,
        rng,
        f["short"].subs({**value, slope: length}),
        f["short"].subs({**value, slope: 0}),
        "without the squared gradient",
    )


# --- 5.8: the released code


def _prove_released(f: Formulas) -> Iterator[Step]:
    scalar_mean = p * (1 - p) * N_1 + (1 - p) * (-p) * N_0
    yield Step(
        r"Replace the vector $A s$ by the number $A |s|$: its mean is $p(1-p)(N_1 - N_0)$ and its "
        r"mean square that of $A s$. The released expression is its variance, and therefore never "
        r"negative.",
        p * (1 - p) ** 2 * G_1**2 + (1 - p) * p**2 * G_0**2 - scalar_mean**2,
        f["released"],
    )
    yield Step(
        r"Against (21), only the squared means differ: $|\mathbb{E}[A s]|^2$ is subtracted there, "
        r"$(\mathbb{E}[A |s|])^2$ here.",
        f["released"] - f["stated"],
        f["excess"],
    )
    right, wrong = (1 - p) * L, p * L  # norms of the scores of a two-answer policy
    two = {G_1: right, G_0: wrong, N_1: right, N_0: wrong}
    yield Step(
        r"With two answers the scores are $(1-p)\nabla\operatorname{logit} p$ and "
        r"$-p\nabla\operatorname{logit} p$: their norms differ by $(1-2p)L$, the vectors by $L$.",
        f["released"].subs(two),
        f["two_answers"],
    )
    yield Step(
        r"The truth for two answers, which vanishes at $p = 1/2$:",
        f["stated"].subs({**two, D: L}),
        p * (1 - p) * (1 - 2 * p) ** 2 * L**2,
    )


def _enumerate_released(f: Formulas) -> Iterator[Exact]:
    half = sp.Rational(1, 2)
    yield Exact(
        r"two answers, $p = 1/2$, $L^2 = 2$: the true variance is 0, the code has $1/8$",
        sp.trace(softmax_law([1, 1], right={0}).covariance),
        f["two_answers"].subs({p: half, L: sp.sqrt(2)}),
        "<",
    )
    top = {p: (1 - 1 / sp.sqrt(3)) / 2}  # where p (1 - p) = 1/6, the root of the derivative
    yield Exact(
        r"two answers: what the code has at $p = 1/2$, as a share of its largest value",
        sp.Rational(27, 32),
        (f["two_answers"].subs(p, half) / f["two_answers"].subs(top)),
    )
    for what, law in {
        r"right scores $\pm 1$, wrong scores $\pm 3$: less than the truth": _opposite([1, 3]),
        "two answers, $p = 2/3$": softmax_law([2, 1], right={0}, features=sp.Matrix([3, 0])),
    }.items():
        value = moments(law)
        scalar = [a * row for a, row in zip(_advantages(law), _norms(law), strict=True)]
        first = sum(x * y for x, y in zip(law.pi_K, scalar, strict=True))
        second = sum(x * y**2 for x, y in zip(law.pi_K, scalar, strict=True))
        yield Exact(f"{what}: variance of $|s|A$", second - first**2, f["released"].subs(value))
        yield Exact(
            f"{what}: excess over the truth",
            second - first**2 - sp.trace(law.covariance),
            f["excess"].subs(value),
        )


def _opposite(size: list[int]) -> ScoreLaw:
    """Two right answers with scores of opposite sign and two wrong ones, all as likely."""
    features = sp.Matrix([size[0], -size[0], size[1], -size[1]])
    return softmax_law([1, 1, 1, 1], right={0, 1}, features=features)


def _advantages(law: ScoreLaw) -> list[sp.Expr]:
    return [r - law.p for r in law.reward_K]


def _norms(law: ScoreLaw) -> list[sp.Expr]:
    return [law.score_K_D.row(k).norm() for k in range(law.pi_K.rows)]


def _sample_released(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    value = moments(TABLE)
    number_K = np.linalg.norm(as_array(TABLE.contribution_K_D), axis=1)
    number_K *= np.sign(as_array(TABLE.reward_K).ravel() - 0.5)
    pairs = number_K[TABLE.draw(rng, [60_000, 2])]
    yield Estimate.of(
        "half the squared distance of $|s|A$ of two rollouts; table of 4 answers",
        0.5 * (pairs[:, 0] - pairs[:, 1]) ** 2,
        expected=float(f["released"].subs(value)),
        control=float(variance.subs(value)),
        control_is="(21)",
    )


CLAIMS = [
    Claim(
        number="5.1",
        source="Eq. (21)",
        title="Variance of one rollout's gradient",
        status=Status.PROVED,
        statement=r"""
Let $s = \nabla \log \pi(y|x)$, $A = r - p$ with the true success rate $p$, and write
$G_r^2 = \mathbb{E}[|s|^2 \mid r]$, finite, and $D = |\mathbb{E}[s \mid r=1] - \mathbb{E}[s \mid
r=0]|$, with $0 < p < 1$. Then $\sigma^2 = \operatorname{Tr} \operatorname{Var}(A s)$ is
$$<<variance>>.$$
Neither $\mathbb{E}\,s = 0$ nor a form of the policy is used. The advantage must be the true one:
with the group's own mean or standard deviation in it the variance is another (chapter 6).""",
        formulas={"variance": variance},
        prove=_prove_variance,
        enumerate=_enumerate_variance,
        sample=_sample_variance,
    ),
    Claim(
        number="5.2",
        source="not in the paper",
        title="The last term of (21) is the squared gradient",
        status=Status.PROVED,
        statement=r"""
In the setting of 5.1, one of the two conditional means determines the other, because scores have mean
zero. With
$M_1 = |\mathbb{E}[s \mid r=1]|$,
$$D = <<difference>>, \qquad |\nabla p|^2 = <<gradient_sq>>,$$
so that with $g = |\nabla p|$ the variance is
$$\sigma^2 = <<short>>.$$
What (21) subtracts is what training is after: the term that tells a prompt that teaches from one
that does not (chapter 8) is measured on the way to the quota.""",
        formulas={
            "difference": M_1 / (1 - p),
            "gradient_sq": p**2 * (1 - p) ** 2 * D**2,
            "short": p * (1 - p) ** 2 * G_1**2 + p**2 * (1 - p) * G_0**2 - slope**2,
        },
        prove=_prove_last_term,
        enumerate=_enumerate_last_term,
        sample=_sample_last_term,
    ),
    Claim(
        number="5.8",
        source="Eq. (21), released code",
        title="The released code computes another variance",
        status=Status.FALSE,
        statement=r"""
The code released with the paper takes for the last term of (21) the squared difference of the *mean
norms* $N_r = \mathbb{E}[|s| \mid r]$, as if $\sigma^2$, which is
$$<<stated>>,$$
were
$$<<released>>.$$""",
        correction=r"""
The released expression is the variance of the number $A|s|$, not of the vector $A s$. It exceeds
(21) by $<<excess>>$, which can have either sign. For a policy with two answers it gives
$<<two_answers>>$: at $p = 1/2$, where the true variance vanishes (5.5), still $27/32$ of its largest
value for an $L$ that does not depend on $p$. (The code also takes $s$ in the embedding matrix only.)""",
        formulas={
            "stated": variance,
            "released": released,
            "excess": p**2 * (1 - p) ** 2 * (D**2 - (N_1 - N_0) ** 2),
            "two_answers": p * (1 - p) * (1 - 2 * p * (1 - p)) ** 2 * L**2,
        },
        prove=_prove_released,
        enumerate=_enumerate_released,
        sample=_sample_released,
    ),
]
