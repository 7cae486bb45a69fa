r"""The squared gradient :math:`|\nabla p|^2` of a prompt, estimated with and without knowing p."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.policies import fisher
from theory.score_law import ScoreLaw, as_array, mean_and_variance
from theory.score_products import (
    LAW,
    along,
    distinct_mean,
    distinct_mean_of,
    gram,
    noise,
    quadratic,
    slope_sq,
    spread,
    spread_sq,
    variance_u,
)
from theory.symbols import n

# --- 8.5: |grad p|^2 with the success rate known


def _prove_square(f: Formulas) -> Iterator[Step]:
    g = sp.Matrix(sp.symbols("g_1 g_2", real=True))
    sigma = sp.Matrix(
        [[sp.Symbol("S_11"), sp.Symbol("S_12")], [sp.Symbol("S_12"), sp.Symbol("S_22")]]
    )
    moment = sigma + g * g.T
    yield Step(
        r"The variance of one product $X_1 \cdot X_2$ is $\operatorname{Tr} M^2 - |g|^4$ with "
        r"$M = \Sigma + g g^\top$. Here in two coordinates; in any number it is "
        r"$\operatorname{Tr}\Sigma^2 + 2 g^\top \Sigma g$.",
        sp.expand(sp.trace(moment**2) - g.dot(g) ** 2),
        sp.expand(sp.trace(sigma**2) + 2 * quadratic(g, sigma)),
    )
    pairs = n * (n - 1)
    yield Step(
        r"Of the pairs of pairs, $2n(n-1)$ have the same two rollouts, $4n(n-1)(n-2)$ share one, "
        r"the others share none and do not correlate. All are counted:",
        2 * pairs + 4 * pairs * (n - 2) + pairs * (n - 2) * (n - 3),
        sp.expand(pairs**2),
    )
    yield Step(
        r"Two products that share one rollout have covariance $g^\top \Sigma g$. Divided by "
        r"$(n(n-1))^2$:",
        (2 * pairs * (spread_sq + 2 * along) + 4 * pairs * (n - 2) * along) / pairs**2,
        f["variance"],
    )
    yield Step(
        r"The plug-in $|\bar X|^2$ has the $n$ squares in it, each of mean "
        r"$|g|^2 + \operatorname{Tr}\Sigma$: its bias is",
        (pairs * slope_sq + n * (slope_sq + spread)) / n**2 - slope_sq,
        f["bias"],
    )


def _enumerate_square(f: Formulas) -> Iterator[Exact]:
    products = gram(LAW.contribution_K_D)
    value = noise(LAW)
    for size in (2, 3, 4):
        chances = [LAW.pi_K] * size
        mean, variance = mean_and_variance(chances, lambda y: distinct_mean(products, y))
        yield Exact(f"$n = {size}$: the mean is $|\\nabla p|^2$", mean, value[slope_sq])
        yield Exact(f"$n = {size}$: the variance", variance, f["variance"].subs({**value, n: size}))
        plug_in, _ = mean_and_variance(
            chances, lambda y: sp.Add(*(products[a, b] for a in y for b in y)) / len(y) ** 2
        )
        yield Exact(
            f"$n = {size}$: bias of the plug-in",
            plug_in - value[slope_sq],
            f["bias"].subs({**value, n: size}),
        )


def _sample_square(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    value, size = noise(LAW), 8
    vector = as_array(LAW.contribution_K_D)[LAW.draw(rng, [100_000, size])]
    estimate = distinct_mean_of(vector)
    expected = float(value[slope_sq])
    bias = float(f["bias"].subs({**value, n: size}))
    plug_in = (vector.mean(axis=1) ** 2).sum(axis=1)
    yield Estimate.of("mean product of different rollouts, $n = 8$", estimate, expected,
                      expected + bias, "the mean of the plug-in")  # fmt: skip
    yield Estimate.of("the plug-in", plug_in, expected + bias, expected, r"$|\nabla p|^2$")
    yield Estimate.of(
        "squared deviation of the mean product, $n = 8$",
        (estimate - expected) ** 2,
        expected=float(f["variance"].subs({**value, n: size})),
        control=float((4 * along / n).subs({**value, n: size})),
        control_is=r"without the $\operatorname{Tr}\Sigma^2$ term",
    )


# --- 8.6: without knowing the success rate


def _prove_unknown(f: Formulas) -> Iterator[Step]:
    r_1, r_2, rest = sp.symbols("r_1 r_2 R", real=True)
    group_mean = (r_1 + r_2 + rest) / n
    both = sp.expand((r_1 - group_mean) * (r_2 - group_mean))
    both = sp.expand(both.subs({r_1**2: r_1, r_2**2: r_2}))
    base = sp.Symbol("b", real=True)
    yield Step(
        r"In $(r_1 - b)(r_2 - b)\, s_1 \cdot s_2$ only what holds both $r_1$ and $r_2$ has a mean, "
        r"$|g|^2$, because $\mathbb{E}\,s = 0$ and $b$ is fixed or independent of both rollouts. Its "
        r"coefficient is",
        sp.Derivative((r_1 - base) * (r_2 - base), r_1, r_2),
        1,
    )
    yield Step(
        r"With the group's mean for $b$, where $R$ is the sum of the other rewards and $r^2 = r$, it is",
        both.coeff(r_1, 1).coeff(r_2, 1),
        f["group_mean"],
    )
    yield Step(
        r"RLOO multiplies every advantage by $n/(n-1)$.",
        (n / (n - 1)) ** 2 * both.coeff(r_1, 1).coeff(r_2, 1),
        f["leave_one_out"],
    )


def _centred(law: ScoreLaw, outcome: tuple[int, ...], scale: sp.Expr) -> sp.Expr:
    """Mean product of different rollouts with group-mean advantages."""
    size = len(outcome)
    rewards = [law.reward_K[k] for k in outcome]
    middle = sp.Rational(sum(rewards), size)
    rows = [
        scale * (r - middle) * law.score_K_D.row(k) for r, k in zip(rewards, outcome, strict=True)
    ]
    return distinct_mean(gram(sp.Matrix.vstack(*rows)), tuple(range(size)))


def _pair_baseline(law: ScoreLaw, outcome: tuple[int, ...]) -> sp.Expr:
    """Mean over pairs, each with the mean reward of the rollouts outside the pair as baseline."""
    size, products = len(outcome), gram(law.score_K_D)
    rewards = [law.reward_K[k] for k in outcome]
    total = sp.Integer(0)
    for j, a in enumerate(outcome):
        for k, b in enumerate(outcome):
            if j != k:
                base = sp.Rational(sum(rewards) - rewards[j] - rewards[k], size - 2)
                total += (rewards[j] - base) * (rewards[k] - base) * products[a, b]
    return total / (size * (size - 1))


def _enumerate_unknown(f: Formulas) -> Iterator[Exact]:
    slope = LAW.gradient.dot(LAW.gradient)
    for size in (2, 3, 4):
        chances = [LAW.pi_K] * size
        for name, scale in (
            ("group_mean", sp.Integer(1)),
            ("leave_one_out", sp.Rational(size, size - 1)),
        ):
            mean, _ = mean_and_variance(chances, partial(_centred, LAW, scale=scale))
            what = f"$n = {size}$, {name.replace('_', ' ')}: mean as a share of $|\\nabla p|^2$"
            yield Exact(what, mean / slope, f[name].subs(n, size))
    plain = sp.diag(*LAW.reward_K) * LAW.score_K_D  # r s, no baseline at all
    mean, variance = mean_and_variance([LAW.pi_K] * 3, lambda y: distinct_mean(gram(plain), y))
    yield Exact("$n = 3$, no baseline: mean", mean, slope)
    sigma = fisher(LAW.pi_K, plain) - LAW.gradient * LAW.gradient.T
    at = {along: quadratic(LAW.gradient, sigma), spread_sq: sp.trace(sigma**2), n: 3}
    yield Exact("and variance, by 8.5", variance, variance_u.subs(at))
    mean, _ = mean_and_variance([LAW.pi_K] * 4, lambda y: _pair_baseline(LAW, y))
    yield Exact("$n = 4$, baseline from outside the pair: mean", mean, slope)


def _sample_unknown(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    size = 4
    answer = LAW.draw(rng, [200_000, size])
    reward = as_array(LAW.reward_K).ravel()[answer]
    advantage = reward - reward.mean(axis=1, keepdims=True)
    estimate = distinct_mean_of(advantage[..., None] * as_array(LAW.score_K_D)[answer])
    slope = float(LAW.gradient.dot(LAW.gradient))
    yield Estimate.of(
        r"mean product with group-mean advantages over $|\nabla p|^2$, $n = 4$",
        estimate / slope,
        expected=float(f["group_mean"].subs(n, size)),
        control=(size - 1) ** 2 / size**2,
        control_is=r"$(n-1)^2/n^2$, as if both advantages shrank on their own",
    )


CLAIMS = [
    Claim(
        number="8.5",
        source="not in the paper",
        title="Squared gradient from products of different rollouts",
        status=Status.PROVED,
        statement=r"""Let $X_j = (r_j - p) s_j$, $j = 1, \dots, n$, be the contributions of
$n \ge 2$ independent rollouts, of mean $g = \nabla p$ and covariance $\Sigma$;
$\operatorname{Tr}\Sigma$ is the $\sigma^2$ of (21). The mean of $X_j \cdot X_k$ over $j \ne k$ is
an unbiased estimate of $|\nabla p|^2$ with variance
$$<<variance>>.$$
The plug-in $|\bar X|^2$ is too large by $<<bias>>$ on average: on a coin that is all there is.""",
        formulas={"variance": variance_u, "bias": spread / n},
        prove=_prove_square,
        enumerate=_enumerate_square,
        sample=_sample_square,
    ),
    Claim(
        number="8.6",
        source="not in the paper",
        title="The squared gradient without knowing the success rate",
        status=Status.PROVED,
        statement=r"""8.5 needs $p$. With any fixed number in its place, such as 0, there is no bias
either, and the formulas of 8.5 hold with the covariance $\Sigma$ of the new contributions. Nor is there
a bias with a baseline that does not depend on the two rollouts of a pair, such as the mean reward of the
other $n - 2$. With group-mean advantages $r_j - \bar r$ (Dr.GRPO) the mean of the products of different
rollouts is $|\nabla p|^2$ times
$$<<group_mean>>,$$
whatever the policy and $p$, and with leave-one-out advantages (RLOO) times $<<leave_one_out>>$.
Divide by the factor and the bias is gone, for every $n \ge 2$.""",
        formulas={
            "group_mean": ((n - 1) ** 2 + 1) / n**2,
            "leave_one_out": ((n - 1) ** 2 + 1) / (n - 1) ** 2,
        },
        prove=_prove_unknown,
        enumerate=_enumerate_unknown,
        sample=_sample_unknown,
    ),
]
