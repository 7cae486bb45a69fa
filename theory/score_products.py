r"""Measuring the signal from products of different rollouts: U-statistics, their variance, how many rollouts.

:math:`X_j = (r_j - p) s_j` is the contribution of rollout j, with mean :math:`g = \nabla p` and covariance
:math:`\Sigma`. The square of the mean of the X counts the noise as signal; products of two different rollouts
do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.score_law import Array, ScoreLaw, as_array, mean_and_variance, softmax_law
from theory.symbols import m, n


def _scalar(name: str) -> sp.Symbol:
    return sp.Symbol(name, positive=True)


n_1, n_0 = sp.symbols("n_1 n_0", integer=True, positive=True)  # right and wrong rollouts
K = sp.Symbol("K", integer=True, positive=True)  # answers
z = sp.Symbol("z", positive=True)  # standard errors
slope_sq = _scalar(r"|g|^{2}")
spread = _scalar(r"\operatorname{Tr}\Sigma")
spread_sq = _scalar(r"\operatorname{Tr}\Sigma^{2}")
along = _scalar(r"g^{\top}\Sigma g")
# of the scores of right (1) and wrong (0) rollouts; d is the difference of their means
along_1, along_0 = _scalar(r"d^{\top}V_{1}d"), _scalar(r"d^{\top}V_{0}d")
spread_1, spread_0 = _scalar(r"\operatorname{Tr}V_{1}"), _scalar(r"\operatorname{Tr}V_{0}")
square_1, square_0 = _scalar(r"\operatorname{Tr}V_{1}^{2}"), _scalar(r"\operatorname{Tr}V_{0}^{2}")
cross = _scalar(r"\operatorname{Tr}V_{1}V_{0}")
# of prompt i among m; S is the covariance of what the others add to the mean gradient
others_along = _scalar(r"g_{i}^{\top}Sg_{i}")
mixed_along = _scalar(r"(g+g_{i}/m)^{\top}\Sigma_{i}(g+g_{i}/m)")
others_cross = _scalar(r"\operatorname{Tr}\Sigma_{i}S")
own_spread = _scalar(r"\operatorname{Tr}\Sigma_{i}")
own_square = _scalar(r"\operatorname{Tr}\Sigma_{i}^{2}")

variance_u = 4 * along / n + 2 * spread_sq / (n * (n - 1))
variance_two = (
    4 * (along_1 / n_1 + along_0 / n_0)
    + 2 * square_1 / (n_1 * (n_1 - 1))
    + 2 * square_0 / (n_0 * (n_0 - 1))
    + 4 * cross / (n_1 * n_0)
)
variance_transfer = (
    others_along + mixed_along / n + others_cross / n + 2 * own_square / (m**2 * n * (n - 1))
)
rollouts = (1 + sp.sqrt(1 + 8 * z**2 * spread_sq / slope_sq**2)) / 2

LAW = softmax_law([3, 1, 2], right={0}, features=sp.Matrix([[2, 0], [0, 1], [1, -1]]))


def gram(vector_K_D: sp.Matrix) -> sp.Matrix:
    """Inner products of the rows."""
    return vector_K_D * vector_K_D.T


def distinct_mean(gram_K_K: sp.Matrix, outcome: tuple[int, ...]) -> sp.Expr:
    """Mean product of two different rollouts."""
    size = len(outcome)
    pairs = sp.Add(
        *(gram_K_K[a, b] for j, a in enumerate(outcome) for k, b in enumerate(outcome) if j != k)
    )
    return pairs / (size * (size - 1))


def distinct_mean_of(vector_S_n_D: Array) -> Array:
    """The same for draws, shape (S,)."""
    size = vector_S_n_D.shape[1]
    total = (vector_S_n_D.sum(axis=1) ** 2).sum(axis=1)
    return np.asarray((total - (vector_S_n_D**2).sum(axis=(1, 2))) / (size * (size - 1)))


def quadratic(vector: sp.Matrix, matrix: sp.Matrix) -> sp.Expr:
    """``v^T A v``."""
    return (vector.T * matrix * vector)[0]


def _noise(law: ScoreLaw) -> dict[sp.Symbol, sp.Expr]:
    covariance = law.covariance
    return {
        slope_sq: law.gradient.dot(law.gradient),
        spread: sp.trace(covariance),
        spread_sq: sp.trace(covariance**2),
        along: quadratic(law.gradient, covariance),
    }


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
    value = _noise(LAW)
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
    value, size = _noise(LAW), 8
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
    yield Step(
        r"Let $R$ be the sum of the other rewards. In "
        r"$(r_1 - \bar r)(r_2 - \bar r)\, s_1 \cdot s_2$ only what holds both $r_1$ and $r_2$ has "
        r"a mean, $|g|^2$, because $E s = 0$ and $r^2 = r$. Its coefficient:",
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
            mean, _ = mean_and_variance(chances, lambda y, s=scale: _centred(LAW, y, s))
            what = f"$n = {size}$, {name.replace('_', ' ')}: mean as a share of $|\\nabla p|^2$"
            yield Exact(what, mean / slope, f[name].subs(n, size))
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


# --- 8.7: the difference of the mean scores


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


def _difference(law: ScoreLaw, outcome: tuple[int, ...], right: int) -> sp.Expr:
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


LAW_TWO = softmax_law(
    [1, 2, 1, 3], right={0, 1}, features=sp.Matrix([[2, 0], [0, 1], [1, -1], [0, 0]])
)


def _enumerate_two(f: Formulas) -> Iterator[Exact]:
    law, value = LAW_TWO, two_kinds(LAW_TWO)
    square = law.difference.dot(law.difference)
    for right, wrong in ((2, 2), (3, 2)):
        chances = [law.given(1)] * right + [law.given(0)] * wrong
        what = f"{right} right and {wrong} wrong rollouts"
        counts = {n_1: right, n_0: wrong}
        mean, variance = mean_and_variance(chances, lambda y, k=right: _difference(law, y, k))
        yield Exact(f"{what}: the mean is $D^2$", mean, square)
        yield Exact(f"{what}: the variance", variance, f["variance"].subs({**value, **counts}))
        plug_in, _ = mean_and_variance(chances, lambda y, k=right: _plug_in(law, y, k))
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


# --- 8.8: g_i . g


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
        softmax_law([3, 1, 2], right={0}, features=sp.Matrix([[2, 0], [0, 1], [1, -1]])),
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


# --- 8.9: a coin against a prompt that teaches


def _prove_coin(f: Formulas) -> Iterator[Step]:
    noise = variance_u.subs(along, 0)  # a coin has g = 0
    yield Step(
        r"On a coin $g = 0$, and by 8.5 the estimate has mean 0 and variance "
        r"$2\operatorname{Tr}\Sigma^2/(n(n-1))$. At the claimed $n$, $z$ standard deviations are",
        sp.simplify((z**2 * noise).subs(n, f["rollouts"])),
        slope_sq**2,
    )
    shift = sp.Symbol("c", positive=True)
    level = sp.Symbol("T", positive=True)
    spread_2 = level**2 / z**2  # variance, when the level is z standard deviations
    markov = (spread_2 + shift**2) / (level + shift) ** 2
    best = next(x for x in sp.solve(sp.diff(markov, shift), shift) if x.is_positive)
    yield Step(
        r"$P(U \ge T) \le E(U + c)^2/(T + c)^2$ for every $c > 0$; with $T$ of $z$ standard "
        r"deviations and the best $c$ (Cantelli)",
        sp.simplify(markov.subs(shift, best)),
        f["error"],
    )
    diagonal, off = 1 / K - 1 / K**2, -1 / K**2  # Fisher matrix of K equal answers
    coin_square = (K * diagonal**2 + K * (K - 1) * off**2) / 16
    yield Step(
        r"Table of $K$ equally likely answers. Fair coin: $\Sigma = F/4$ with "
        r"$F = I/K - \mathbf 1 \mathbf 1^\top/K^2$, so $\operatorname{Tr}\Sigma^2$ is",
        sp.factor(coin_square),
        (K - 1) / (16 * K**2),
    )
    slope = K * (1 / (2 * K)) ** 2
    yield Step(
        r"If instead half of the answers are right, $g_k = \pm 1/(2K)$: same success rate, same "
        r"scores, $|g|^2 = 1/(4K)$. Put in:",
        f["rollouts"].subs({spread_sq: coin_square, slope_sq: slope}),
        f["table"],
    )
    yield Step(
        r"There $F g = g/K$, so that with $\Sigma = F/4 - g g^\top$ the linear noise vanishes, "
        r"$g^\top \Sigma g = 0$, and $\operatorname{Tr}\Sigma^2$ is below that of the coin by",
        coin_square - (coin_square - 2 * slope / (4 * K) + slope**2),
        f["less"],
    )


def _coin_law(size: int) -> tuple[list[sp.Expr], sp.Matrix]:
    """Chances and contributions of answer and verdict together, K equal answers and a fair coin."""
    score = softmax_law([1] * size, right={0}).score_K_D
    return [sp.Rational(1, 2 * size)] * (2 * size), sp.Matrix.vstack(score / 2, -score / 2)


def _enumerate_coin(f: Formulas) -> Iterator[Exact]:
    for size, count in ((2, 5), (4, 3)):
        chances, vectors = _coin_law(size)
        products = gram(vectors)
        level = sp.Rational(1, 4 * size)
        mean, variance = mean_and_variance([chances] * count, lambda y: distinct_mean(products, y))  # noqa: B023
        errors = level / sp.sqrt(variance)
        what = f"coin on {size} answers, $n = {count}$"
        yield Exact(f"{what}: mean", mean, 0)
        yield Exact(f"{what}: rollouts for this many standard deviations", count,
                    f["table"].subs({K: size, z: errors}))  # fmt: skip
        alarm, _ = mean_and_variance(
            [chances] * count,
            lambda y: int(bool(distinct_mean(products, y) >= level)),  # noqa: B023
        )
        yield Exact(f"{what}: taken for a prompt that teaches, at most",
                    alarm, f["error"].subs(z, errors), "<=")  # fmt: skip
    real = softmax_law([1] * 4, right={0, 1})
    coin_square = sp.trace((sp.eye(4) / 4 - sp.ones(4, 4) / 16) ** 2) / 16
    yield Exact("4 answers: linear noise of the prompt that teaches", 0, _noise(real)[along])
    yield Exact(r"4 answers: $\operatorname{Tr}\Sigma^2$ below the coin's by",
                coin_square - _noise(real)[spread_sq], f["less"].subs(K, 4))  # fmt: skip


def _sample_coin(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    size, count, draws = 16, 17, 30_000
    table = np.eye(size) - 1.0 / size
    score = table[rng.integers(size, size=(draws, count))]
    coin = rng.choice([-0.5, 0.5], size=(draws, count, 1))
    share = distinct_mean_of(coin * score) * 4 * size  # of the |g|^2 of the prompt that teaches
    errors = sp.sqrt(sp.Rational(count * (count - 1), 2 * (size - 1)))  # z at which n is 17
    needed = f["table"].subs({K: size, z: errors})
    yield Estimate.of(
        "squared estimate over $|g|^4$, coin on 16 answers, $n = 17$",
        share**2,
        expected=float(2 * (size - 1) / (needed * (needed - 1))),
        control=float(1 / count),
        control_is="$1/n$",
    )


CLAIMS = [
    Claim(
        number="8.5",
        source="not in the paper",
        title="Squared gradient from products of different rollouts",
        status=Status.PROVED,
        statement=r"""
Let $X_j = (r_j - p) s_j$, $j = 1..n$, be the contributions of independent rollouts, of mean
$g = \nabla p$ and covariance $\Sigma$; $\operatorname{Tr}\Sigma$ is the $\sigma^2$ of (21). The
mean of $X_j \cdot X_k$ over $j \ne k$ is an unbiased estimate of $|\nabla p|^2$ with variance
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
        statement=r"""
8.5 needs $p$. Any baseline that does not depend on the two rollouts of a pair may stand in for it,
such as the mean reward of the other $n - 2$: no bias. With group-mean advantages $r_j - \bar r$
(Dr.GRPO) the mean of the products of different rollouts is $|\nabla p|^2$ times
$$<<group_mean>>,$$
whatever the policy and $p$, and with leave-one-out advantages (RLOO) times $<<leave_one_out>>$.
Divide by the factor and the bias is gone, also for $n = 2$.""",
        formulas={
            "group_mean": ((n - 1) ** 2 + 1) / n**2,
            "leave_one_out": ((n - 1) ** 2 + 1) / (n - 1) ** 2,
        },
        prove=_prove_unknown,
        enumerate=_enumerate_unknown,
        sample=_sample_unknown,
    ),
    Claim(
        number="8.7",
        source="Eq. (21)",
        title="Distance of the mean scores from pilots",
        status=Status.CONDITIONAL,
        statement=r"""
The last term of (21) holds $D^2 = |d|^2$, $d = E[s \mid r=1] - E[s \mid r=0]$. From $n_1$ right and
$n_0$ wrong rollouts, let $V_r$ be the covariance of $s$ given $r$. The means over pairs of
*different* right rollouts and of different wrong ones, less twice the mean over mixed pairs,
estimate $D^2$ without bias, with variance (given $n_1, n_0$)
$$<<variance>>.$$
The squared distance of the two sample means is too large by
$$<<bias>>.$$
With $2 + 2$ pilots, $D = 1$ and 1000 coordinates of standard deviation $0.3$ it is 91 on average.""",
        condition=r"""
At least two right and two wrong rollouts. With fewer, $D^2$ cannot be estimated without bias in
this way, and the plug-in is unusable for a policy with many parameters.""",
        formulas={"variance": variance_two, "bias": spread_1 / n_1 + spread_0 / n_0},
        prove=_prove_two,
        enumerate=_enumerate_two,
        sample=_sample_two,
    ),
    Claim(
        number="8.8",
        source="not in the paper",
        title="What a prompt does for the objective, estimated",
        status=Status.PROVED,
        statement=r"""
Let the objective be the mean success rate of $m$ prompts, $g = \frac1m \sum_k g_k$, with $n$
rollouts of prompt $i$ and any number of each other one.
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
    Claim(
        number="8.9",
        source="not in the paper",
        title="Rollouts that tell a coin from a prompt that teaches",
        status=Status.PROVED,
        statement=r"""
A coin and a prompt that teaches may have the same success rate: no number of rewards tells them
apart. The estimate 8.5 does. On a coin it is zero on average, and $|g|^2$ of the other prompt lies
$z$ of its standard deviations away for
$$n = <<rollouts>>$$
rollouts, $\Sigma$ being that of the coin. A coin then reaches $|g|^2$ with chance at most
$<<error>>$, whatever the law. For $K$ equally likely answers, a fair coin against half of the
answers right, $n$ is
$$<<table>>,$$
about $z\sqrt{2K}$: more answers, more rollouts, but only as the root. The prompt that teaches is
not noisier: it has $g^\top \Sigma g = 0$ and a $\operatorname{Tr}\Sigma^2$ that is smaller by
$<<less>>$, so that a threshold half way errs either way with chance at most $4/(4 + z^2)$.""",
        formulas={
            "rollouts": rollouts,
            "error": 1 / (1 + z**2),
            "table": (1 + sp.sqrt(1 + 8 * z**2 * (K - 1))) / 2,
            "less": 1 / (16 * K**2),
        },
        prove=_prove_coin,
        enumerate=_enumerate_coin,
        sample=_sample_coin,
    ),
]
