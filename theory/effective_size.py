r"""Eq. 14: how many prompts share the mass, as a function of the temperature.

Counterpart: :func:`cures.effective_sample_size` and :func:`cures.temperature_for_effective_size`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.sampling import POTENTIAL_3, TAU_3, WEIGHT_3, Z, gumbel_draws, softmax_share, tau
from theory.temperature import gap, mean_u, rest, top

# Z_half: sum of the weights at half the temperature; mean_u and its like: under the sampling
Z_half, mean_u_half = sp.symbols(r"Z_{1/2} \bar{u}_{1/2}", positive=True)
size = sp.Symbol("S", positive=True)  # effective sample size that is asked for
u_3 = sp.symbols("u_1:4", positive=True)
w_3 = sp.symbols("w_1:4", positive=True)


# 3.4 -------------------------------------------------------------------------------------------


def _prove_effective_size(f: Formulas) -> Iterator[Step]:
    plain, squared = sp.Add(*w_3), sp.Add(*(w**2 for w in w_3))
    yield Step(
        r"With weights $w = e^{u/\tau}$, $Z = \sum w$ and $Z_{1/2} = \sum e^{u/(\tau/2)} = \sum w^2$. "
        r"For three prompts, $1/\sum\rho^2$ is",
        1 / sp.Add(*(sp.Pow(w / plain, 2, evaluate=False) for w in w_3)),
        f["size"].subs({Z: plain, Z_half: squared}),
    )
    u = sp.Symbol("u", positive=True)
    yield Step(
        r"One weight changes with the temperature like $-u w/\tau^2$, so that $Z$ has the derivative "
        r"$-Z\bar u/\tau^2$, and $Z_{1/2}$, with $2u$ in place of $u$, has "
        r"$-2 Z_{1/2}\bar u_{1/2}/\tau^2$.",
        sp.Derivative(sp.exp(u / tau), tau),
        -u * sp.exp(u / tau) / tau**2,
    )
    logarithm = sp.log(f["size"])
    yield Step(
        "By the chain rule, the logarithm of the size has the derivative",
        sp.Derivative(logarithm, Z) * (-Z * mean_u / tau**2)
        + sp.Derivative(logarithm, Z_half) * (-2 * Z_half * mean_u_half / tau**2),
        f["slope"],
    )
    pairs = [
        w_3[i] * w_3[j] * (w_3[i] - w_3[j]) * (u_3[i] - u_3[j])
        for i, j in combinations(range(3), 2)
    ]
    cold = sp.Add(*(w**2 * x for w, x in zip(w_3, u_3, strict=True)))
    warm = sp.Add(*(w * x for w, x in zip(w_3, u_3, strict=True)))
    yield Step(
        r"$Z Z_{1/2}(\bar u_{1/2} - \bar u)$ is a sum over pairs of prompts,",
        cold * plain - warm * squared,
        sp.Add(*pairs),
    )
    w, excess = sp.Symbol("w", positive=True), sp.Symbol("y", positive=True)
    pair = w * (1 + excess) * w * (w * (1 + excess) - w) * tau * sp.log(1 + excess)
    yield Step(
        r"and no pair is negative: weights $w$ and $w(1+y)$ belong to potentials that differ by "
        r"$\tau\log(1+y)$ the same way.",
        pair,
        0,
        certificate=w**3 * tau * excess * (1 + excess) * sp.log(1 + excess),
    )


def _enumerate_effective_size(f: Formulas) -> Iterator[Exact]:
    shares = [sp.Rational(w, sum(WEIGHT_3)) for w in WEIGHT_3]
    coincide = sum(shares[i] * shares[j] for i, j in product(range(3), repeat=2) if i == j)
    yield Exact(
        r"shares $4/7, 2/7, 1/7$: reciprocal of the chance that two draws coincide, over 9 pairs",
        1 / coincide,
        f["size"].subs({Z: sum(WEIGHT_3), Z_half: sum(w**2 for w in WEIGHT_3)}),
    )
    exact = 1 / sp.Add(*(softmax_share(POTENTIAL_3, i) ** 2 for i in range(3)))
    slope = (sp.diff(exact, tau) / exact).subs(tau, TAU_3)
    squares = [s**2 / coincide for s in shares]
    yield Exact(
        r"slope of its logarithm there, $\tau = 1/(10\log 2)$",
        sp.nsimplify(sp.simplify(slope / sp.log(2) ** 2)) * sp.log(2) ** 2,
        f["slope"].subs(
            {
                mean_u: sum(x * s for x, s in zip(POTENTIAL_3, shares, strict=True)),
                mean_u_half: sum(x * s for x, s in zip(POTENTIAL_3, squares, strict=True)),
                tau: TAU_3,
            }
        ),
    )


def _sample_effective_size(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    u_N = np.array([0.5, 0.45, 0.3, 0.2, 0.1, 0.0])
    first, second = (gumbel_draws(u_N / 0.2, 40_000, rng) for _ in range(2))
    effective = float(
        f["size"].subs({Z: float(np.exp(u_N / 0.2).sum()), Z_half: float(np.exp(u_N / 0.1).sum())})
    )
    yield Estimate.of(
        r"chance that two draws coincide, six prompts, $\tau = 0.2$, by Gumbel maxima",
        (first == second).astype(float),
        expected=1 / effective,
        control=1 / 6,
        control_is="six prompts alike",
    )


# 3.5 -------------------------------------------------------------------------------------------


def _prove_two_levels(f: Formulas) -> Iterator[Step]:
    x, root = sp.symbols("x R", positive=True)
    yield Step(
        r"$K$ shares are $1/(K + Lx)$ and $L$ shares $x/(K + Lx)$, with $x = e^{-g/\tau}$. So "
        r"$1/\sum\rho^2$ is",
        1 / (top * (1 / (top + rest * x)) ** 2 + rest * (x / (top + rest * x)) ** 2),
        f["size"].subs(gap, -tau * sp.log(x)),
    )
    yield Step(
        r"Asking for size $S$ is a quadratic equation in $x$:",
        size * (top + rest * x**2) - (top + rest * x) ** 2,
        rest * (size - rest) * x**2 - 2 * top * rest * x + top * (size - top),
    )
    radicand = top * rest * size * (top + rest - size)
    yield Step(
        r"A quarter of its discriminant, $R^2$, is positive for $K < S < K + L$:",
        (top * rest) ** 2 - rest * (size - rest) * top * (size - top),
        radicand,
    )
    solution = top * (size - top) / (root + top * rest)
    yield Step(
        r"One root is $x = K(S-K)/(R + KL)$: put into the equation and multiplied by $(R + KL)^2$, "
        r"it gives",
        sp.Subs(
            (rest * (size - rest) * x**2 - 2 * top * rest * x + top * (size - top))
            * (root + top * rest) ** 2,
            x,
            solution,
        ),
        top * (size - top) * (root**2 - radicand),
    )
    yield Step(
        r"that is, $0$. It lies between 0 and 1, since $S - K < L$; by 3.4 it is the only one "
        r"there. The temperature is $\tau = -g/\log x$:",
        sp.Subs(solution, root, sp.sqrt(radicand)),
        sp.exp(-gap / f["temperature"]),
    )


def _enumerate_two_levels(f: Formulas) -> Iterator[Exact]:
    for k, others, target in (
        (1, 1, sp.Rational(8, 5)),
        (1, 3, sp.Integer(3)),
        (2, 2, sp.Rational(16, 5)),
    ):
        t = f["temperature"].subs({top: k, rest: others, size: target, gap: sp.log(3)})
        weights = [sp.Integer(1)] * k + [sp.Rational(1, 3)] * others
        direct = sum(weights) ** 2 / sum(w**2 for w in weights)
        yield Exact(
            rf"$K = {k}$, $L = {others}$, $g = \tau\log 3$: $1/\sum\rho^2$",
            direct,
            f["size"].subs({top: k, rest: others, gap: sp.log(3), tau: 1}),
        )
        yield Exact(
            rf"$K = {k}$, $L = {others}$, $g = \log 3$: temperature of size ${direct}$",
            sp.Integer(1),
            sp.simplify(t),
        )


def _sample_two_levels(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    at = {top: 2, rest: 6, gap: 0.3, size: 4.0}
    t = float(f["temperature"].subs(at))
    u_N = np.array([0.5] * 2 + [0.2] * 6)
    for what, temperature, effective in (
        ("at the temperature of size 4", t, 4.0),
        (r"$\tau = 0.3$", 0.3, float(f["size"].subs({**at, tau: 0.3}))),
    ):
        first, second = (gumbel_draws(u_N / abs(temperature), 40_000, rng) for _ in range(2))
        yield Estimate.of(
            rf"chance that two draws coincide, $K = 2$, $L = 6$, $g = 0.3$, {what}",
            (first == second).astype(float),
            expected=1 / effective,
            control=1 / 8,
            control_is="eight prompts alike",
        )


CLAIMS = [
    Claim(
        number="3.4",
        source="Eq. (14)",
        title="The effective sample size grows with temperature",
        status=Status.PROVED,
        statement=r"""
The effective number of prompts that share the mass, $1/\sum\rho^2$, is the reciprocal of the chance
that two independent draws coincide. It equals
$$<<size>>,$$
with $Z$ and $Z_{1/2}$ the normalisers at $\tau$ and at $\tau/2$, and its logarithm has the slope
$$<<slope>>$$
in $\tau$, with $\bar u$ and $\bar u_{1/2}$ the mean potentials under sampling at $\tau$ and at
$\tau/2$. The slope is positive unless all potentials are equal, so every size strictly between the
number of best prompts (cold) and the size of the pool (hot) belongs to exactly one temperature.""",
        formulas={"size": Z**2 / Z_half, "slope": 2 * (mean_u_half - mean_u) / tau**2},
        prove=_prove_effective_size,
        enumerate=_enumerate_effective_size,
        sample=_sample_effective_size,
    ),
    Claim(
        number="3.5",
        source="not in the paper",
        title="Two levels of potential: size and temperature",
        status=Status.PROVED,
        statement=r"""
With $K$ prompts of the largest potential and $L$ prompts that lie $g > 0$ below it, the effective
sample size is
$$<<size>>$$
and the temperature at which it equals $S$, $K < S < K + L$, is
$$<<temperature>>.$$""",
        formulas={
            "size": (top + rest * sp.exp(-gap / tau)) ** 2 / (top + rest * sp.exp(-2 * gap / tau)),
            "temperature": gap
            / sp.log(
                (sp.sqrt(top * rest * size * (top + rest - size)) + top * rest)
                / (top * (size - top))
            ),
        },
        prove=_prove_two_levels,
        enumerate=_enumerate_two_levels,
        sample=_sample_two_levels,
    ),
]
