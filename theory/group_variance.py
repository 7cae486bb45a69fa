r"""Variance of a group's gradient when the group's mean is the baseline, RLOO and Dr.GRPO."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.finite_groups import (
    FOUR,
    POLICIES,
    V_0,
    V_1,
    S,
    binomial_mean,
    gradient,
    k,
    slope,
    values,
)
from theory.group_draws import draw_gradients, half_square_distance
from theory.outcomes import SmallPolicy, rational
from theory.score_law import D
from theory.symbols import n, p

# second moments that n rollouts see: (21) is p q (q V_1 + p V_0 + (1 - 4 p q) D^2) in these symbols
bracket = (
    (1 + (n - 2) * (1 - p)) * V_1
    + (1 + (n - 2) * p) * V_0
    + (n - 1 - (4 * n - 6) * p * (1 - p)) * D**2
)
variance_rloo = p * (1 - p) * bracket / (n * (n - 1))
variance_dr_grpo = p * (1 - p) * (n - 1) * bracket / n**3


# 6.3 -------------------------------------------------------------------------------------------


def _prove_variance(f: Formulas) -> Iterator[Step]:
    q = 1 - p
    pairs = n * (n - 1) * p * q  # mean of k (n - k): ordered pairs (right, wrong)
    right, wrong = (
        (n - 2) * p,
        (n - 2) * q,
    )  # each further distinct rollout: one less, times its chance
    first, second = pairs * (1 + wrong), pairs * (1 + right)
    both = pairs * (1 + right + wrong + (n - 2) * (n - 3) * p * q)
    yield Step(
        r"$\mathbb{E}[k(k-1)\cdots(n-k)(n-k-1)\cdots]$ counts ordered choices of right and of "
        r"wrong rollouts, all distinct: $n(n-1)\cdots$ times the chances. So one writes "
        r"$k^2(n-k)^2$ as $k(n-k)$ times",
        k * (n - k),
        1 + (k - 1) + (n - k - 1) + (k - 1) * (n - k - 1),
    )
    for power, counted, what in (
        (k * (n - k) ** 2, first, r"k(n-k)^2"),
        (k**2 * (n - k), second, r"k^2(n-k)"),
        (k**2 * (n - k) ** 2, both, r"k^2(n-k)^2"),
    ):
        yield Step(
            rf"$\mathbb{{E}}[{what}]$ so counted, for $n = 4$, against the binomial sum:",
            binomial_mean(4, power.subs(n, 4)),
            counted.subs(n, 4),
        )
    weight_1, weight_0 = (n - k) / (n * (n - 1)), k / (n * (n - 1))  # |A|/n of right and of wrong
    yield Step(
        r"RLOO gives each of $k$ right scores the weight $(n-k)/(n(n-1))$ and each wrong one "
        r"$-k/(n(n-1))$. Given $k$, $\hat g$ has the mean $\frac{k(n-k)}{n(n-1)} d$, "
        r"$d = \mathbb{E}[s|r=1] - \mathbb{E}[s|r=0]$: both weights add up to it,",
        k * weight_1,
        (n - k) * weight_0,
        name=r"k \cdot \frac{n-k}{n (n-1)} = (n-k) \cdot \frac{k}{n (n-1)}",
    )
    yield Step(
        "and the spread",
        k * weight_1**2 * V_1 + (n - k) * weight_0**2 * V_0,
        (k * (n - k) ** 2 * V_1 + k**2 * (n - k) * V_0) / (n * (n - 1)) ** 2,
    )
    mean_square = (first * V_1 + second * V_0 + both * D**2) / (n * (n - 1)) ** 2
    yield Step(
        r"Mean spread plus $\mathbb{E}[k^2(n-k)^2] D^2/(n(n-1))^2$, less $|\nabla p|^2 = "
        r"p^2(1-p)^2 D^2$:",
        mean_square - (p * q * D) ** 2,
        f["rloo"],
        name=r"\frac{V_1 \mathbb{E}[k (n-k)^2] + V_0 \mathbb{E}[k^2 (n-k)] "
        r"+ D^2 \mathbb{E}[k^2 (n-k)^2]}"
        r"{n^2 (n-1)^2} - D^2 p^2 (1-p)^2",
    )
    moments = {S: p * V_1 + q * V_0 + p * q * D**2, slope: p * q * D}
    single = p * q * (q * V_1 + p * V_0 + (1 - 4 * p * q) * D**2)
    square_1, square_0 = V_1 + q**2 * D**2, V_0 + p**2 * D**2
    yield Step(
        r"Scores have mean zero, so $\mathbb{E}[s|r=1] = (1-p)d$, $\mathbb{E}[s|r=0] = -p d$ and "
        r"(21) reads",
        p * q**2 * square_1 + p**2 * q * square_0 - (p * q * D) ** 2,
        single,
        name=r"\sigma^2",
    )
    yield Step(
        r"With $S = \mathbb{E}|s|^2 = pV_1 + (1-p)V_0 + p(1-p)D^2$ and $g = |\nabla p|$, RLOO less "
        r"$\sigma^2/n$:",
        f["rloo"] - single / n,
        f["missed"].subs(moments),
        name=r"\operatorname{Tr} \operatorname{Var} \hat g - \frac{\sigma^2}{n} = "
        r"\frac{S p (1-p) + g^2}{n (n-1)}",
    )
    yield Step(
        r"Dr.GRPO is $(n-1)/n$ times RLOO, as a vector.",
        f["dr_grpo"],
        ((n - 1) / n) ** 2 * f["rloo"],
        name=r"\operatorname{Tr} \operatorname{Var} \hat g",
    )


def _enumerate_variance(f: Formulas) -> Iterator[Exact]:
    for what, policy in POLICIES.items():
        for size in (2, 3, 4):
            at = {**values(policy), n: size}
            stretch = Fraction(size, size - 1)
            mean, square = policy.gradient_moments(size, lambda _: Fraction(1))
            centre = rational(sum((x * x for x in mean), Fraction()))
            shape = rf"{what}, $n = {size}$, all {len(policy.pi_K) ** size} outcomes"
            yield Exact(
                f"{shape}: variance of Dr.GRPO", rational(square) - centre, f["dr_grpo"].subs(at)
            )
            _, square = policy.gradient_moments(size, lambda _, s=stretch: s**2)  # type: ignore[misc]
            yield Exact(
                f"{shape}: variance of RLOO", rational(square) - at[slope] ** 2, f["rloo"].subs(at)
            )  # its mean is grad p, by 6.2
            single = rational(square) - at[slope] ** 2 - f["missed"].subs(at)
            yield Exact(
                rf"{shape}: RLOO less the noise of the baseline, $\sigma^2/n$",
                _single(policy) / size,
                single,
            )


def _single(policy: SmallPolicy) -> sp.Expr:
    """Variance of one rollout's gradient with the true advantage, from the definition."""
    square = sum(
        (
            chance
            * ((a in policy.right) - policy.rate) ** 2
            * sum((x * x for x in row), Fraction())
            for a, (chance, row) in enumerate(zip(policy.pi_K, policy.score_K, strict=True))
        ),
        Fraction(),
    )
    return rational(square) - sum(x * x for x in gradient(policy))


def _sample_variance(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    size = 3
    at = {**values(FOUR), n: size}
    draw_S_D = draw_gradients(FOUR, rng, 80_000, size, lambda _: 1.0)
    expected = {name: float(f[name].subs(at)) for name in ("rloo", "dr_grpo", "missed")}
    yield Estimate.of(
        "half the squared distance of two RLOO estimates, 4 answers, $n = 3$",
        half_square_distance(draw_S_D * size / (size - 1)),
        expected=expected["rloo"],
        control=expected["rloo"] - expected["missed"],
        control_is=r"$\sigma^2/n$ of (15)",
    )
    yield Estimate.of(
        "half the squared distance of two Dr.GRPO estimates, 4 answers, $n = 3$",
        half_square_distance(draw_S_D),
        expected=expected["dr_grpo"],
        control=expected["rloo"],
        control_is="that of RLOO",
    )


CLAIMS = [
    Claim(
        number="6.3",
        source="not in the paper",
        title="Variance of a group's gradient, baseline included",
        status=Status.PROVED,
        statement=r"""
(15) and (21) assume $A = r - p$, hence $\sigma^2/n$ for a group of $n$. Let $V_r$ be the mean squared
distance of $s$ from $\mathbb{E}[s|r]$, $D = |\mathbb{E}[s|r=1] - \mathbb{E}[s|r=0]|$, $S =
\mathbb{E}|s|^2$ and $g = |\nabla p|$. For RLOO and $n \ge 2$ the variance
$\operatorname{Tr}\operatorname{Var}\hat g$ is
$$<<rloo>>,$$
which is $\sigma^2/n$ plus
$$<<missed>>:$$
the noise of the baseline. Where right and wrong scores follow one law it is $\sigma^2/n$ over $n - 1$:
as large as all that (15) knows of at $n = 2$, a seventh of it at $n = 8$. For Dr.GRPO it is
$$<<dr_grpo>>,$$
smaller only because $\hat g$ is shorter (6.2): length over standard deviation is the same.""",
        formulas={
            "rloo": variance_rloo,
            "missed": (p * (1 - p) * S + slope**2) / (n * (n - 1)),
            "dr_grpo": variance_dr_grpo,
        },
        prove=_prove_variance,
        enumerate=_enumerate_variance,
        sample=_sample_variance,
    ),
]
