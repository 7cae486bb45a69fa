r"""The share of a prompt's score variance that the reward explains, and what groups say of it.

Counterpart: :mod:`cures.explained_share`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.finite_groups import V_0, V_1, binomial_mean, k
from theory.mean_distance import distance_estimate
from theory.policies import fisher
from theory.score_law import G_0, G_1, Array, D, ScoreLaw, as_array, moments, softmax_law
from theory.score_products import LAW, slope
from theory.symbols import n, p

between = p * (1 - p) * D**2
total = p * G_1**2 + (1 - p) * G_0**2  # E|s|^2
TWO = softmax_law([1, 3], right={0})
THREE = ScoreLaw(LAW.pi_K, LAW.score_K_D, sp.Matrix([1, 1, 0]))


def coin_of(law: ScoreLaw) -> ScoreLaw:
    """The same answers, judged by a fair coin: answer and verdict together."""
    size = law.pi_K.rows
    return ScoreLaw(
        sp.Matrix.vstack(law.pi_K, law.pi_K) / 2,
        sp.Matrix.vstack(law.score_K_D, law.score_K_D),
        sp.Matrix([1] * size + [0] * size),
    )


def _prove_share(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Scores have mean 0: $p m_1 + (1-p) m_0 = 0$ for the mean scores $m_r$ of right and of wrong "
        r"answers. With $d = m_1 - m_0$, $|d| = D$, this is $m_1 = (1-p) d$, $m_0 = -p\,d$. What lies "
        r"between the two kinds is $p |m_1|^2 + (1-p) |m_0|^2$,",
        p * ((1 - p) * D) ** 2 + (1 - p) * (p * D) ** 2,
        f["between"],
    )
    yield Step(
        r"and since $\nabla p = \mathbb{E}[r s] = p\,m_1 = p(1-p)\,d$, it is",
        f["gradient"].subs(slope, p * (1 - p) * D),
        f["between"],
        name=r"\frac{|\nabla p|^2}{p(1-p)}",
    )
    yield Step(
        r"The rest of $\mathbb{E}|s|^2$ are the spreads $V_r$ of the scores of one kind, for the mean "
        r"square of a kind is $V_r + |m_r|^2$:",
        p * (V_1 + ((1 - p) * D) ** 2) + (1 - p) * (V_0 + (p * D) ** 2),
        f["between"],
        certificate=p * V_1 + (1 - p) * V_0,
        name=r"\mathbb{E}|s|^2 - p(1-p) D^2",
    )
    yield Step(
        r"The share is what lies between over $\mathbb{E}|s|^2 = p G_1^2 + (1-p) G_0^2$: 0 iff $D = 0$, "
        r"1 iff $V_1 = V_0 = 0$.",
        f["share"] * total,
        f["between"],
        name=r"R^2 \cdot \mathbb{E}|s|^2",
    )


def _prove_groups(f: Formulas) -> Iterator[Step]:
    size = 6
    given = f["given"].subs(n, size)
    yield Step(
        r"Given the rewards, scores of right answers are independent draws of one law and those of "
        r"wrong answers of another, so that $\hat D^2$ has the mean $D^2$ (8.7) whatever $k$. Over all "
        r"$k$, here of $n = 6$, the estimate would have the mean",
        binomial_mean(size, given),
        between,
        name=r"\mathbb{E}\,\frac{k(n-k)}{n(n-1)} D^2",
    )
    yield Step(
        r"The factor turns the chances of $k$ right of $n$ into those of $k - 1$ of $n - 2$, times "
        r"$p(1-p)$:",
        sp.binomial(n, k) * f["given"],
        sp.binomial(n - 2, k - 1) * D**2,
    )
    yield Step(
        r"so that the sum over $2 \le k \le n - 2$ lacks the two ends; for $n = 6$",
        binomial_mean(size, given, 2, size - 2),
        between * f["kept"].subs(n, size),
        name=r"\mathbb{E}\left[\frac{k(n-k)}{n(n-1)} D^2;\ 2 \le k \le n - 2\right]",
    )
    four = f["given"].subs({n: 4, k: 2}) / ((G_1**2 + G_0**2) / 2)
    yield Step(
        r"$n = 4$: $k = 2$ alone is measured, and there the mean of $|s|^2$ is $(G_1^2 + G_0^2)/2$.",
        four,
        f["four"],
        name=r"\frac{2 \cdot 2}{4 \cdot 3} D^2 \Big/ \frac{G_1^2 + G_0^2}{2}",
    )
    alike = {G_0: G_1}
    yield Step(
        r"Over the share itself, where $G_1 = G_0$:",
        f["four"].subs(alike) / (between / total).subs(alike),
        f["alike"],
        name=r"\frac{2 D^2}{3 \cdot 2 G_1^2} \Big/ \frac{p(1-p) D^2}{G_1^2}",
    )
    yield Step(
        "which is too large by a third at least:",
        f["alike"],
        sp.Rational(4, 3),
        certificate=(1 - 2 * p) ** 2 / (3 * p * (1 - p)),
    )
    answers = {G_1: (1 - p) * D, G_0: p * D}  # V_1 = V_0 = 0
    yield Step(
        r"One right and one wrong answer: $G_1 = (1-p) D$, $G_0 = p D$, the share is",
        (between / total).subs(answers),
        1,
        name=r"R^2",
    )
    yield Step("and groups of four say", f["four"].subs(answers), f["two"])


def _prove(f: Formulas) -> Iterator[Step]:
    yield from _prove_share(f)
    yield from _prove_groups(f)


@cache
def means_by_count(law: ScoreLaw, size: int) -> dict[int, tuple[sp.Expr, sp.Expr, sp.Expr]]:
    """For k right answers: chance, and the means of both estimates given k, over all groups."""
    square_K = [row.dot(row) for row in (law.score_K_D.row(a) for a in range(law.pi_K.rows))]
    sums = {right: sp.zeros(3, 1) for right in range(2, size - 1)}
    for group in product(range(law.pi_K.rows), repeat=size):
        right = sum(law.reward_K[a] for a in group)
        if right not in sums:
            continue
        ordered = tuple(sorted(group, key=lambda a: -law.reward_K[a]))
        scale = sp.Rational(right * (size - right), size * (size - 1))
        apart = scale * distance_estimate(law, ordered, right)
        whole = sum(square_K[a] for a in group) / size
        sums[right] += sp.Mul(*(law.pi_K[a] for a in group)) * sp.Matrix([1, apart, whole])
    return {right: (x[0], x[1] / x[0], x[2] / x[0]) for right, x in sums.items()}


def _enumerate(f: Formulas) -> Iterator[Exact]:
    at = moments(THREE)
    shown = "3 answers, $p = 2/3$"
    yield Exact(f"{shown}: between", f["gradient"].subs({slope: THREE.gradient.norm(), p: THREE.p}),
                f["between"].subs(at))  # fmt: skip
    within = THREE.p * THREE.covariance_given(1) + (1 - THREE.p) * THREE.covariance_given(0)
    yield Exact(f"{shown}: share", 1 - sp.trace(within) / sp.trace(fisher(THREE.pi_K, THREE.score_K_D)),
                f["share"].subs(at))  # fmt: skip
    yield Exact("2 answers, one of them right: share", 1, f["share"].subs(moments(TWO)))
    yield Exact("the same answers and a coin: share", 0, f["share"].subs(moments(coin_of(TWO))))
    for size in (4, 5):
        found = means_by_count(THREE, size)
        for right, (_, mean, _) in found.items():
            yield Exact(f"{shown}, $n = {size}$, $k = {right}$: mean estimate", mean,
                        f["given"].subs({**at, n: size, k: right}))  # fmt: skip
        yield Exact(f"{shown}, $n = {size}$: mean estimate, 0 where nothing is measured",
                    sp.Add(*(c * mean for c, mean, _ in found.values())),
                    (between * f["kept"]).subs({**at, n: size}))  # fmt: skip
    for what, law in ((shown, THREE), ("2 answers, $p = 1/4$", TWO)):
        _, apart, whole = means_by_count(law, 4)[2]
        yield Exact(f"{what}: what groups of four say", apart / whole, f["four"].subs(moments(law)))
    yield Exact("that of two answers", apart / whole, f["two"].subs(p, TWO.p))
    for right, (_, mean, _) in means_by_count(coin_of(TWO), 5).items():
        yield Exact(f"coin on 2 answers, $n = 5$, $k = {right}$: mean estimate", mean, 0)


def estimates(score_S_n_D: Array, is_right_S_n: Array) -> tuple[Array, Array]:
    """Both estimates of drawn groups, NaN where they say nothing, shape (S,)."""
    size = is_right_S_n.shape[1]
    norm_S_n = (score_S_n_D**2).sum(axis=2)
    own, sums, counts = 0.0, [], []
    for kind in (is_right_S_n, ~is_right_S_n):
        count, summed = kind.sum(axis=1), (score_S_n_D * kind[:, :, None]).sum(axis=1)
        pairs = np.where(count > 1, count * (count - 1.0), np.nan)
        own = own + ((summed**2).sum(axis=1) - (norm_S_n * kind).sum(axis=1)) / pairs
        sums.append(summed)
        counts.append(count)
    right, wrong = (np.where(count > 1, count, np.nan) for count in counts)
    distance = own - 2.0 * (sums[0] * sums[1]).sum(axis=1) / (right * wrong)
    return right * wrong / (size * (size - 1)) * distance, norm_S_n.mean(axis=1)


def _sample(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    law = softmax_law([3, 1, 2, 2], right={0, 2})
    at, score_K_D = moments(law), as_array(law.score_K_D)
    is_right_K = as_array(law.reward_K).ravel() > 0.0
    whole, size = float(between.subs(at)), 5
    answer = law.draw(rng, [60_000, size])
    apart, _ = estimates(score_K_D[answer], is_right_K[answer])
    yield Estimate.of(
        r"4 answers, $p = 5/8$, $n = 5$: estimate over $p(1-p) D^2$, 0 where nothing is measured",
        np.nan_to_num(apart) / whole,
        expected=float(f["kept"].subs({**at, n: size})),
        control=1.0,
        control_is="no group left out",
    )
    answer = law.draw(rng, [60_000, 4])
    apart, square = estimates(score_K_D[answer], is_right_K[answer])
    measured = np.isfinite(apart)
    yield Estimate.of(
        r"the same, $n = 4$: estimate over the mean of $|s|^2$, where measured",
        apart[measured] / square[measured].mean(),
        expected=float(f["four"].subs(at)),
        control=float(f["share"].subs(at)),
        control_is="the share",
    )
    answers, size = 16, 8
    table = np.eye(answers) - 1.0 / answers
    answer = rng.integers(answers, size=(20_000, size))
    apart, _ = estimates(table[answer], rng.random(answer.shape) < 0.5)
    yield Estimate.of(
        r"coin on 16 answers, $n = 8$: estimate over $\mathbb{E}|s|^2$",
        apart[np.isfinite(apart)] / (1.0 - 1.0 / answers),
        expected=float(f["share"].subs(D, 0)),
        control=1.0 / (size - 1),
        control_is="that of the squared distance of the sample means, $1/(n-1)$",
    )


CLAIMS = [
    Claim(
        number="8.10",
        source="not in the paper",
        title="The share of the score that the reward explains",
        status=Status.PROVED,
        statement=r"""The variance of the score is $\mathbb{E}|s|^2 = p G_1^2 + (1-p) G_0^2$, with
$G_r^2 = \mathbb{E}[|s|^2 \mid r]$. Of it
$$<<between>> = <<gradient>>$$
lies between right and wrong answers, $D = |\mathbb{E}[s \mid r=1] - \mathbb{E}[s \mid r=0]|$. The
explained share
$$R^2 = <<share>>$$
is in $[0, 1]$: 0 exactly if $\nabla p = 0$, as for a coin, whatever $p(1-p)$ is; and 1 exactly if all
right answers have one score and all wrong ones another, as where one is right and one is wrong.

A group of $n$ with $k$ right answers, $2 \le k \le n - 2$, measures $D^2$ without bias (8.7), and
$\frac{k(n-k)}{n(n-1)} \hat D^2$ has, given $k$, the mean
$$<<given>>.$$
For a coin that is 0 for every $k$, so that no choice of groups by their counts makes a coin look
better. For other prompts the choice matters: with 0 in the place of what is not measured the mean of
the estimate is $p(1-p) D^2$ times $<<kept>>$. Divided by what the same groups have of $|s|^2$ it is for
$n = 4$
$$<<four>>$$
instead of $R^2$: $<<alike>>$ times as much where $G_1 = G_0$, which is at least $4/3$ and grows without
limit towards $p = 0$ and $1$; and $<<two>>$ for one right and one wrong answer, whose share is 1:
between $2/3$ and $4/3$. The quotient tells coins, and is no estimate of the share.""",
        formulas={
            "between": between,
            "gradient": slope**2 / (p * (1 - p)),
            "share": between / total,
            "given": k * (n - k) / (n * (n - 1)) * D**2,
            "kept": 1 - p ** (n - 2) - (1 - p) ** (n - 2),
            "four": 2 * D**2 / (3 * (G_1**2 + G_0**2)),
            "alike": 1 / (3 * p * (1 - p)),
            "two": 2 / (3 * (p**2 + (1 - p) ** 2)),
        },
        prove=_prove,
        enumerate=_enumerate,
        sample=_sample,
    ),
]
