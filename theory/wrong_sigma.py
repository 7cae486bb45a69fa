r"""Eq. 20 with a guess in place of sigma: what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step
from theory.outcomes import rational
from theory.quota import cv_sq, mean_sigma, sigma, total, var_sigma
from theory.search import Vector, largest
from theory.symbols import budget, m, n

guess, sum_guess, cross = sp.symbols(r"\hat{\sigma} \hat{s} h", positive=True)
spread = sp.Symbol("M", positive=True)  # largest over smallest ratio of guess to truth
least = sp.Symbol("V", positive=True)  # the minimum of 4.2
noise = sp.Symbol("omega", positive=True)  # standard deviation of the log of that ratio


# 4.6 -------------------------------------------------------------------------------------------


def _prove_wrong_sigma(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Quotas $N\hat\sigma/\hat s$, with $\hat s = \sum\hat\sigma$, leave a prompt the variance",
        sp.Subs(sigma**2 / (m**2 * n), n, budget * guess / sum_guess),
        sum_guess * (sigma**2 / guess) / (m**2 * budget),
    )
    yield Step(
        r"With $h = \sum\sigma^2/\hat\sigma$ this adds up to $\hat s h/(m^2 N)$. Over the minimum "
        r"(4.2) it is the mean of $e = \hat\sigma/\sigma$ times the mean of $1/e$, both weighted "
        r"by $\sigma$:",
        sp.Subs(sum_guess * cross / (m**2 * budget * least), least, total**2 / (m**2 * budget)),
        (sum_guess / total) * (cross / total),
    )
    low, high = sp.symbols("a b", nonnegative=True)
    e = 1 + low
    yield Step(
        r"Scale $e$ into $[1, M]$, $e = 1 + a$, $M = 1 + a + b$: then $1/e \le (1 + M - e)/M$.",
        (1 + (e + high) - e) / (e + high),
        1 / e,
        certificate=low * high / (e * (e + high)),
    )
    mean = sp.Symbol(r"\bar{e}", positive=True)
    yield Step(
        r"So the product of the means is at most $\bar e(1 + M - \bar e)/M$, and this at most the worst "
        "case, reached by a guess that is $M$ times too large for half of the total $s$ and right "
        "for the rest.",
        f["worst"],
        mean * (1 + spread - mean) / spread,
        certificate=(1 + spread - 2 * mean) ** 2 / (4 * spread),
    )
    z = sp.Symbol("z", real=True)
    density = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    yield Step(
        r"If $\log e$ is normal with standard deviation $\omega$ (its mean cancels), independent of "
        r"$\sigma$, and the prompts are many, the two means are expectations, equal by symmetry:",
        sp.Integral(sp.exp(noise * z) * density, (z, -sp.oo, sp.oo)) ** 2,
        f["lognormal"],
    )
    yield Step(
        r"which eats up the whole gain over equal quotas (4.3) at",
        sp.Subs(f["lognormal"], noise, sp.sqrt(f["break_even"])),
        1 + cv_sq,
    )


def _enumerate_wrong_sigma(f: Formulas) -> Iterator[Exact]:
    # weights sigma / s of two prompts and errors 1 and M in steps: the largest product of means
    for ratio in (2, 4, 9):
        found = max(
            (a + (1 - a) * ratio) * (a + (1 - a) / Fraction(ratio))
            for a in (Fraction(i, 20) for i in range(21))
        )
        yield Exact(
            rf"errors between 1 and {ratio}: largest ratio over shares of $s$ in steps of 1/20",
            rational(found),
            f["worst"].subs(spread, ratio),
        )
    # errors exp(+-z) with equal chance have the ratio cosh(z)^2; many multiplied tend to log-normal
    steps = sp.Symbol("n", positive=True)
    yield Exact(
        r"$\omega = 1$: limit of many independent factors $e^{\pm 1/\sqrt n}$",
        sp.exp(sp.limit(2 * steps * sp.log(sp.cosh(1 / sp.sqrt(steps))), steps, sp.oo)),
        f["lognormal"].subs(noise, 1),
    )
    yield Exact(
        r"$\bar\sigma = 1$, $v = 1$: $\omega^2$ at which $e^{\omega^2} = 2$",
        sp.log(2),
        f["break_even"].subs({mean_sigma: 1, var_sigma: 1}),
    )


def _sample_wrong_sigma(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    width = 0.4
    z_S = width * rng.standard_normal((40_000, 2))
    yield Estimate.of(
        r"$e/e'$ of two independent errors of $\omega = 0.4$",
        np.exp(z_S[:, 0] - z_S[:, 1]),
        expected=float(f["lognormal"].subs(noise, width)),
        control=float(np.exp(width**2 / 2)),
        control_is="the mean of $e$ alone",
    )
    limit = 3.0
    sigma_B = np.array([0.5, 0.3, 0.2])  # one prompt against the two others is half of the sum

    def ratio(theta_B: Vector) -> float:
        e_B = np.exp((np.sin(theta_B) + 1) / 2 * np.log(limit))
        return float((sigma_B * e_B).sum() * (sigma_B / e_B).sum() / sigma_B.sum() ** 2)

    yield Search(
        r"three prompts with $\sigma = 5, 3, 2$, errors in $[1, 3]$: ratio to the minimum",
        claimed=float(f["worst"].subs(spread, limit)),
        found=max(largest(ratio, rng.uniform(-1.5, 1.5, 3))[0] for _ in range(12)),
        control=float(ratio(np.array([-np.pi / 2, np.pi / 2, -np.pi / 2]))),
        control_is="the error on the second prompt alone",
        sense="max",
    )


CLAIMS = [
    Claim(
        number="4.6",
        source="not in the paper",
        title="The cost of a wrong sigma",
        status=Status.PROVED,
        statement=r"""
Let all $\sigma > 0$. Real quotas in proportion to a guess $\hat\sigma > 0$ have
$\sum\hat\sigma\,\sum(\sigma^2/\hat\sigma)\,/\,s^2$ times the minimum. If the ratio
$\hat\sigma/\sigma$ varies at most by a factor $M$ between prompts this is at most
$$<<worst>>.$$
If it is log-normal, with standard deviation $\omega$ of its logarithm and independent of $\sigma$, the
factor tends to $<<lognormal>>$ as the number of prompts grows, and in that limit equal quotas are
better than those of the guess once $\omega^2$ exceeds $<<break_even>>$. For $\sigma =
\sqrt{p(1-p)}$ and uniformly spread rates that is at an error of 28 percent in $\sigma$.""",
        formulas={
            "worst": (1 + spread) ** 2 / (4 * spread),
            "lognormal": sp.exp(noise**2),
            "break_even": sp.log(1 + cv_sq),
        },
        prove=_prove_wrong_sigma,
        enumerate=_enumerate_wrong_sigma,
        sample=_sample_wrong_sigma,
    ),
]
