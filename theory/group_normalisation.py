r"""Groups of n rollouts with advantages divided by the group's standard deviation, as GRPO does.

The standard deviation is the sample's (n - 1 in its denominator) and nothing is added to it; constant
groups have the advantage 0. Counterparts: ``cures.advantages``, ``cures.gradient_std_surrogate``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step, numeric
from theory.finite_groups import (
    FOUR,
    POLICIES,
    V_0,
    V_1,
    binomial_mean,
    k,
    mixed,
    values,
)
from theory.group_draws import Array, draw_gradients, gradient_of
from theory.outcomes import Rewards, centred, expectation, groups, rational
from theory.score_law import D
from theory.symbols import n, p

V = sp.Symbol("V", positive=True)  # spread of the scores where it is the same for both kinds

length = sp.sqrt(k * (n - k) * (n - 1)) / (n * sp.sqrt(n))  # of E[g-hat | k], over D
mean_square = (
    (n - 1)
    / n**2
    * ((n - 1) * p * (1 - p) * D**2 + (1 - p - (1 - p) ** n) * V_1 + (p - p**n) * V_0)
)


def factor_of(size: int, given_k: sp.Expr = length) -> sp.Expr:
    r"""Factor of :math:`\nabla p` in the mean GRPO gradient of a group of ``size``, in p."""
    return binomial_mean(size, given_k.subs(n, size), 1, size - 1) / (p * (1 - p))


def length_of_mean(size: int, rate_N: Array) -> Array:
    """Length of the mean GRPO gradient of a group of ``size``, over D; for figures and tests."""
    mean = binomial_mean(size, length.subs(n, size), 1, size - 1)
    return np.broadcast_to(numeric(mean, p)(rate_N), np.shape(rate_N))


def square_scale(rewards: Rewards) -> Fraction:
    """Square of GRPO's 1 / standard deviation of a mixed group."""
    right, size = sum(rewards), len(rewards)
    return Fraction(size * (size - 1), right * (size - right))


def _root_scale(right_S: Array, size: int) -> Array:
    """1 / standard deviation; anything finite for constant groups."""
    product_S = right_S * (size - right_S)
    scale_S: Array = np.sqrt(size * (size - 1) / np.where(product_S > 0, product_S, 1.0))
    return scale_S


# 6.4 -------------------------------------------------------------------------------------------


def _prove_signal(f: Formulas) -> Iterator[Step]:
    q, pairs = 1 - p, n * (n - 1) * p * (1 - p)
    std_sq = k * (n - k) / (n * (n - 1))
    yield Step(
        r"With $k$ right of $n$, $\sum(r_j - \bar r)^2 = k(n-k)/n$, and $\hat g$ has the mean "
        r"$\frac{k}{n}(1 - \frac{k}{n})/\mathrm{std}$ times $d = \mathbb{E}[s|r=1] - "
        r"\mathbb{E}[s|r=0]$. Squared:",
        (k * (n - k) / n**2) ** 2 / std_sq,
        f["length"] ** 2,
        name=r"\ell_k^2",
    )
    yield Step(
        r"Average over $k$; $\nabla p = p(1-p)d$ because $\mathbb{E}\,s = 0$. Here $n = 4$, by hand:",
        sp.sqrt(12) / 16 * (sp.sqrt(3) * 4 * p * q * (p**2 + q**2) + 2 * 6 * p**2 * q**2) / (p * q),
        factor_of(4, f["length"]),
    )
    a, b = sp.symbols("a b", integer=True, nonnegative=True)
    yield Step(
        r"In a mixed group, $k = 1 + a$, $n - k = 1 + b$, $k(n-k) \ge n - 1$,",
        (1 + a) * (1 + b),
        1 + a + b,
        certificate=a * b,
    )
    yield Step(
        r"so $\sqrt{k(n-k)} \le k(n-k)/\sqrt{n-1}$, with equality for $n = 2, 3$. $\mathbb{E}\,k(n-k) = "
        r"n(n-1)p(1-p)$:",
        sp.sqrt(n * (n - 1)) / n**2 * pairs / sp.sqrt(n - 1) / (p * q),
        f["few"],
        name=r"\frac{n (n-1)}{n^{3/2}}",
    )
    yield Step(
        r"At small $p$ that is all there is: for $p \to 0$ the part of $k = 1$ in the factor, $n "
        r"(1-p)^{n-2} \ell_1$, has this limit, and the parts of $k \ge 2$ vanish like $p^{k-1}$.",
        n * f["length"].subs(k, 1),
        f["few"],
        name=r"\lim_{p \to 0} n (1-p)^{n-2}\, \ell_1",
    )
    x, y, t = sp.symbols("x y t", positive=True)
    yield Step(
        r"The root is concave: for $x = k(n-k)$ and $y = \mathbb{E}\,x$,",
        (x + y) / (2 * sp.sqrt(y)),
        sp.sqrt(x),
        certificate=(sp.sqrt(x) - sp.sqrt(y)) ** 2 / (2 * sp.sqrt(y)),
    )
    yield Step(
        r"so that $\mathbb{E}\sqrt{x} \le \sqrt{\mathbb{E}\,x}$ and the factor is at most",
        sp.powdenest(sp.sqrt(n * (n - 1)) / n**2 * sp.sqrt(n * (n - 1)) * sp.sqrt(p * q)) / (p * q),
        f["many"],
        name=r"\frac{\sqrt{n-1}\, \sqrt{n (n-1) p (1-p)}}{n^{3/2}\, p (1-p)}",
    )
    yield Step(
        r"From below, with $t = \sqrt{x/y}$:",
        t,
        1 + (t**2 - 1) / 2 - (t**2 - 1) ** 2 / 2,
        certificate=(t - 1) ** 2 * t * (t + 2) / 2,
    )
    square = (n - 1 + (n - 2) * (n - 3) * p * q) / pairs  # E x^2 over (E x)^2, counted as in 6.3
    yield Step(
        r"The mean of the right side is $1 - \frac12(\mathbb{E}\,x^2/(\mathbb{E}\,x)^2 - 1)$: the "
        r"factor is at least the last bound times 1 less",
        (square - 1) / 2,
        f["gap"],
    )
    yield Step(
        r"This vanishes for large $n$, so that the upper bound",
        sp.limit(f["many"], n, sp.oo),
        f["limit"],
        name=r"\lim_{n \to \infty} \frac{n-1}{n \sqrt{p (1-p)}}",
    )
    yield Step(
        r"and the lower one, with $x_n$ for this loss, have one limit.",
        sp.limit(f["many"] * (1 - f["gap"]), n, sp.oo),
        f["limit"],
        name=r"\lim_{n \to \infty} \frac{n-1}{n \sqrt{p (1-p)}} (1 - x_n)",
    )


def _enumerate_signal(f: Formulas) -> Iterator[Exact]:
    for what, policy in POLICIES.items():
        for size in (2, 3, 4):
            mean = sp.Integer(0)
            for group, weight in groups(policy.pi_K, size):
                rewards = tuple(int(a in policy.right) for a in group)
                if 0 < sum(rewards) < size:
                    along = sum(
                        (x * policy.score_K[a][0] for x, a in zip(centred(rewards), group, strict=True)),
                        Fraction(),
                    )  # fmt: skip
                    mean += rational(weight * along) * sp.sqrt(rational(square_scale(rewards)))
            gradient = sum(
                (policy.pi_K[a] * policy.score_K[a][0] for a in policy.right), Fraction()
            )
            at = {p: rational(policy.rate), n: size}
            yield Exact(
                rf"{what}, $n = {size}$: first coordinate of $\mathbb{{E}}\,\hat g$, all "
                rf"{len(policy.pi_K) ** size} outcomes",
                sp.expand(mean / size),
                sp.expand(factor_of(size, f["length"]).subs(at) * rational(gradient)),
            )
    at = {p: sp.Rational(1, 3), n: 6}
    exact = factor_of(6, f["length"]).subs(at)
    yield Exact("$p = 1/3$, $n = 6$: first upper bound", exact, f["few"].subs(at), "<")
    yield Exact("$p = 1/3$, $n = 6$: second upper bound", exact, f["many"].subs(at), "<")
    yield Exact(
        "$p = 1/3$, $n = 6$: lower bound", exact, (f["many"] * (1 - f["gap"])).subs(at), ">"
    )


def _sample_signal(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    size, gradient_D = 5, gradient_of(FOUR)
    draw_S_D = draw_gradients(FOUR, rng, 80_000, size, lambda right: _root_scale(right, size))
    at = {p: rational(FOUR.rate), n: size}
    yield Estimate.of(
        r"$\hat g \cdot \nabla p / |\nabla p|^2$, 4 answers, $n = 5$",
        draw_S_D @ gradient_D / (gradient_D @ gradient_D),
        expected=float(factor_of(size, f["length"]).subs(at)),
        control=float(f["limit"].subs(at)),
        control_is="the limit of many rollouts",
    )


# 6.5 -------------------------------------------------------------------------------------------


def _prove_square(f: Formulas) -> Iterator[Step]:
    square_1 = ((n - k) / n) ** 2 * n * (n - 1) / (k * (n - k))  # A^2 of a right rollout
    square_0 = (k / n) ** 2 * n * (n - 1) / (k * (n - k))
    yield Step(
        r"In a mixed group the mean of $A^2$ does not depend on $k$,",
        (k * square_1 + (n - k) * square_0) / n,
        (n - 1) / n,
    )
    size = 4
    yield Step(
        r"and others have none: $\mathbb{E}\,A^2$, here for $n = 4$ from the binomial distribution.",
        binomial_mean(size, sp.Rational(size - 1, size), 1, size - 1),
        f["square"].subs(n, size),
    )
    given_k = k * square_1 / n**2 * V_1 + (n - k) * square_0 / n**2 * V_0
    yield Step(
        r"Given $k$, $\hat g$ has the spread",
        given_k,
        (n - 1) * ((n - k) * V_1 + k * V_0) / n**3,
    )
    squared_mean = k * (n - k) * (n - 1) / n**3 * D**2
    right = n * p - n * p**n  # E k over mixed groups: all, less n where all are right
    wrong = n * (1 - p) - n * (1 - p) ** n
    yield Step(
        r"and a mean of squared length $k(n-k)(n-1)D^2/n^3$. Over mixed groups $\mathbb{E}\,k = np "
        r"- np^n$, and likewise for $n - k$; $\mathbb{E}\,k(n-k) = n(n-1)p(1-p)$ as ever:",
        (n - 1) * (wrong * V_1 + right * V_0) / n**3
        + squared_mean.subs(k * (n - k), n * (n - 1) * p * (1 - p)),
        f["mean_square"],
    )
    yield Step(
        "The same from the binomial distribution, $n = 4$:",
        binomial_mean(size, (given_k + squared_mean).subs(n, size), 1, size - 1),
        f["mean_square"].subs(n, size),
    )
    yield Step(
        r"Where right and wrong scores have one mean and one spread $V$, this is "
        r"$\mathbb{E}\,A^2\, V/n$:",
        f["mean_square"].subs({V_1: V, V_0: V, D: 0}),
        f["square"] * V / n,
    )


def _enumerate_square(f: Formulas) -> Iterator[Exact]:
    for size in (2, 3, 5):
        at = {p: sp.Rational(2, 7), n: size}
        exact = expectation(Fraction(2, 7), size, _mean_square_advantage)
        yield Exact(rf"$p = 2/7$, $n = {size}$: mean of $A^2$", exact, f["square"].subs(at))
    for what, policy in POLICIES.items():
        for size in (2, 3, 4):
            _, square = policy.gradient_moments(size, square_scale)
            yield Exact(
                rf"{what}, $n = {size}$: $\mathbb{{E}}|\hat g|^2$ over all "
                rf"{len(policy.pi_K) ** size} outcomes",
                rational(square),
                f["mean_square"].subs({**values(policy), n: size}),
            )


def _mean_square_advantage(rewards: Rewards) -> Fraction:
    if len(set(rewards)) == 1:
        return Fraction()
    return sum((a * a for a in centred(rewards)), Fraction()) * square_scale(rewards) / len(rewards)


def _sample_square(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    size = 4
    at = {**values(FOUR), n: size}
    draw_S_D = draw_gradients(FOUR, rng, 40_000, size, lambda right: _root_scale(right, size))
    expected = float(f["mean_square"].subs(at))
    yield Estimate.of(
        r"$|\hat g|^2$, 4 answers, $n = 4$",
        (draw_S_D**2).sum(axis=1),
        expected=expected,
        control=expected / float(mixed.subs(at)),
        control_is="as if every group were mixed",
    )
    right_S = rng.binomial(8, 0.1, size=50_000)
    yield Estimate.of(
        r"mean $A^2$ of a group, $p = .1$, $n = 8$",
        np.where((right_S > 0) & (right_S < 8), 7 / 8, 0.0),
        expected=float(f["square"].subs({p: 0.1, n: 8})),
        control=7 / 8,
        control_is="flat in $p$",
    )


CLAIMS = [
    Claim(
        number="6.4",
        source="not in the paper",
        title="What GRPO's division does to the gradient",
        status=Status.PROVED,
        statement=r"""
Let $n \ge 2$ and $A = (r - \bar r)/\mathrm{std}$, the standard deviation being the sample's, with
$A = 0$ in constant groups, and let $\ell_k = <<length>>$. Then
$$\mathbb{E}\,\hat g = \sum_{k=1}^{n-1} \binom{n}{k} p^k (1-p)^{n-k} \ell_k \; d, \qquad
\nabla p = p(1-p)\, d,$$
with $d = \mathbb{E}[s|r=1] - \mathbb{E}[s|r=0]$. The factor of $\nabla p$ is at most $<<few>>$,
with equality for $n = 2$ and 3, and at most
$$<<many>>,$$
and at least the latter times one less
$$<<gap>>.$$
For many rollouts the factor tends to $<<limit>>$, which is the natural reading of GRPO and is far off
where $p(1-p)\,n$ is not large: for $p \to 0$ the factor does not grow beyond all bounds but tends to
$<<few>>$.""",
        formulas={
            "length": length,
            "few": (n - 1) / sp.sqrt(n),
            "many": (n - 1) / (n * sp.sqrt(p * (1 - p))),
            "gap": (n - 1 - (4 * n - 6) * p * (1 - p)) / (2 * n * (n - 1) * p * (1 - p)),
            "limit": 1 / sp.sqrt(p * (1 - p)),
        },
        prove=_prove_signal,
        enumerate=_enumerate_signal,
        sample=_sample_signal,
    ),
    Claim(
        number="6.5",
        source="not in the paper",
        title="Size and variance of GRPO's gradient",
        status=Status.PROVED,
        statement=r"""
GRPO's advantages have $\mathbb{E}\,A_j^2 = <<square>>$, with $P(n) = 1 - p^n - (1-p)^n$ (6.1): flat
in $p$ but for the groups without a signal, and no bell. The mean square $\mathbb{E}|\hat g|^2$ is
$$<<mean_square>>,$$
and the variance is this less $|\mathbb{E}\,\hat g|^2$ (6.4). Where right and wrong scores follow
one law of spread $V$ it is $\mathbb{E}\,A_j^2\, V/n$, so that the root of $\mathbb{E}\,A_j^2$ takes
the place of $\sigma$.""",
        formulas={"square": (n - 1) * mixed / n, "mean_square": mean_square},
        prove=_prove_square,
        enumerate=_enumerate_square,
        sample=_sample_square,
    ),
]
