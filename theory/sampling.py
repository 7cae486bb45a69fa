r"""Eq. 13-14: from the potentials of prompts to a distribution over them.

The potential of a prompt is :math:`u = \sqrt{p (1-p)}` (Eq. 11). Counterpart: :mod:`cures.sampling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.symbols import alpha, delta, p, potential, temperature

Array = np.ndarray[Any, np.dtype[Any]]

tau = temperature
Z = sp.Symbol("Z", positive=True)  # sum of the weights exp(u / tau)
rho, share_, u = sp.symbols("rho rho^* u", positive=True)
lam = sp.Symbol("lambda", real=True)
u_2 = sp.symbols("u_1:3", positive=True)

# three prompts whose shares are rational: u = 1/2, 2/5, 3/10, and exp(u / tau) = 32, 16, 8
RATE_3 = (sp.Rational(1, 2), sp.Rational(1, 5), sp.Rational(1, 10))
POTENTIAL_3 = (sp.Rational(1, 2), sp.Rational(2, 5), sp.Rational(3, 10))
TAU_3 = 1 / (10 * sp.log(2))
WEIGHT_3 = (32, 16, 8)


def softmax_share(u_N: Sequence[sp.Expr], index: int, t: sp.Expr = tau) -> sp.Expr:
    """Eq. 14 for one prompt of a pool of given potentials."""
    return sp.exp(u_N[index] / t) / sp.Add(*(sp.exp(x / t) for x in u_N))


def _prime_logs(value: sp.Expr) -> sp.Expr:
    """Logarithms of rationals written in logarithms of primes."""
    return sp.expand(sp.expand_log(sp.sympify(value), force=True, factor=True))


def gumbel_draws(score_N: Array, draws: int, rng: np.random.Generator) -> Array:
    """Draws from softmax(score): the place of the maximum of score plus Gumbel noise."""
    return np.asarray(np.argmax(score_N + rng.gumbel(size=(draws, score_N.size)), axis=1))


# 3.1 -------------------------------------------------------------------------------------------


def _prove_softmax(f: Formulas) -> Iterator[Step]:
    term = rho * sp.sqrt(2 * delta) * u - alpha * rho * sp.log(rho)
    stationary = sp.exp((sp.sqrt(2 * delta) * u - lam) / alpha - 1)
    yield Step(
        r"One prompt's term of (13) is $\rho\sqrt{2\delta}\,u - \alpha\rho\log\rho$ with $u = "
        r"\sqrt{p(1-p)}$. With a multiplier $\lambda$ for $\sum\rho = 1$ its derivative vanishes at "
        r"$\rho = e^{(\sqrt{2\delta}\,u - \lambda)/\alpha - 1}$. The exponential is positive: the "
        r"condition $\rho \ge 0$ does not bind, and its multipliers are $0$.",
        sp.Subs(sp.Derivative(term - lam * rho, rho), rho, stationary),
        0,
    )
    yield Step(
        r"These add up to 1 iff $\lambda = \alpha(\log Z - 1)$ with $Z = \sum_x e^{u(x)/\tau}$, the "
        r"same number for all prompts:",
        sp.Subs(stationary, lam, alpha * (sp.log(Z) - 1)).subs(u, potential),
        f["share"].subs(tau, f["temperature"]),
    )
    yield Step(
        "The objective is a sum of strictly concave functions of the shares, and the constraint is "
        "linear, so this point is the only maximum.",
        -sp.Derivative(term, (rho, 2)),
        0,
        certificate=alpha / rho,
    )
    factor = sp.Symbol("c", positive=True)
    yield Step(
        r"A trust region $c^2$ times as large does what an entropy weight $c$ times smaller does.",
        sp.Subs(f["temperature"], delta, factor**2 * delta),
        sp.Subs(f["temperature"], alpha, alpha / factor),
    )


def _enumerate_softmax(f: Formulas) -> Iterator[Exact]:
    # exp(14 objective / alpha) is the rational 2^(sum k c) 14^14 / prod k^k for shares k / 14
    def score(k_3: tuple[int, ...]) -> sp.Rational:
        shifted = sp.Integer(2) ** sum(k * c for k, c in zip(k_3, (5, 4, 3), strict=True))
        return sp.Rational(shifted, sp.prod([sp.Integer(k) ** k for k in k_3]))

    grid = [(i, j, 14 - i - j) for i in range(15) for j in range(15 - i)]
    best = max(grid, key=score)
    t = f["temperature"].subs({alpha: TAU_3, delta: sp.Rational(1, 2)})
    for rate, count in zip(RATE_3, best, strict=True):
        yield Exact(
            rf"$p = {rate}$ in a pool of $p = 1/2, 1/5, 1/10$, $\alpha = 1/(10\log 2)$, "
            r"$\delta = 1/2$: best of all 120 distributions in steps of $1/14$",
            sp.Rational(count, 14),
            f["share"].subs({p: rate, tau: t, Z: sum(WEIGHT_3)}),
        )


def _sample_softmax(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate_N = rng.uniform(0.02, 0.98, 6)
    u_N, entropy_weight, radius = np.sqrt(rate_N * (1 - rate_N)), 0.01, 0.005
    t = float(f["temperature"].subs({alpha: entropy_weight, delta: radius}))

    def objective(rho_N: Array) -> float:
        return float(np.sqrt(2 * radius) * rho_N @ u_N - entropy_weight * rho_N @ np.log(rho_N))

    def loss(theta_N: Array) -> float:
        square_N = theta_N**2 + 1e-12
        return -1e2 * objective(square_N / square_N.sum())

    found = minimize(loss, np.ones(6), method="BFGS", options={"gtol": 1e-9})
    share_N = numeric(f["share"], (p, tau, Z))(rate_N, t, np.exp(u_N / t).sum())
    yield Search(
        r"objective (13) over distributions on 6 random prompts, $\alpha = 0.01$ and $\delta = 0.005$",
        claimed=objective(share_N),
        found=-float(found.fun) / 1e2,
        control=objective(u_N / u_N.sum()),
        control_is="shares proportional to the potential",
        sense="max",
    )
    u_3 = np.sqrt([0.25, 0.16, 0.0196])
    drawn = gumbel_draws(u_3 / t, 40_000, rng)
    share_of = numeric(f["share"], (p, tau, Z))
    yield Estimate.of(
        "share of $p = 1/2$ beside $0.2$ and $0.02$ at this temperature, by Gumbel maxima",
        (drawn == 0).astype(float),
        expected=float(share_of(0.5, t, np.exp(u_3 / t).sum())),
        control=float(0.5 / u_3.sum()),
        control_is="shares proportional to the potential",
    )


# 3.2 -------------------------------------------------------------------------------------------


def _prove_loss(f: Formulas) -> Iterator[Step]:
    gain = alpha * sp.log(share_ * Z)  # sqrt(2 delta) u of a prompt whose softmax share is share_
    yield Step(
        r"Since $\sqrt{2\delta}\,u = \alpha\log(\rho^* Z)$, the term of a prompt splits. Summed over "
        r"the pool, with $\sum\rho = 1$, the objective of any $\rho$ is the optimum minus the loss.",
        rho * gain - alpha * rho * sp.log(rho),
        rho * f["value"] - f["loss"],
    )
    yield Step(
        r"The loss, less $\alpha\rho$ (which adds up to a constant), is stationary at $\rho = \rho^*$",
        sp.Subs(sp.Derivative(f["loss"] - alpha * rho, rho), rho, share_),
        0,
    )
    yield Step(
        r"and strictly convex, so the loss in all is not negative, and zero only at $\rho^*$.",
        sp.Derivative(f["loss"], (rho, 2)),
        0,
        certificate=alpha / rho,
    )
    weights = [sp.exp(x / alpha) for x in u_2]
    mean = sp.Add(*(x * w for x, w in zip(u_2, weights, strict=True))) / sp.Add(*weights)
    yield Step(
        r"For two prompts of gains $u_1, u_2$ (more of them only lengthen the sums): as $\alpha$ grows "
        r"the optimum grows at the rate $\log Z$ minus the mean of $u/\alpha$ under $\rho^*$. This is "
        r"the mean of $-\log\rho^*$, the entropy: $\alpha$ is its price.",
        sp.Derivative(f["value"].subs(Z, sp.Add(*weights)), alpha),
        sp.log(sp.Add(*weights)) - mean / alpha,
    )


def _enumerate_loss(f: Formulas) -> Iterator[Exact]:
    shares = [sp.Rational(w, sum(WEIGHT_3)) for w in WEIGHT_3]
    for name, rho_3 in (
        ("uniform", [sp.Rational(1, 3)] * 3),
        ("(1/2, 1/4, 1/4)", [sp.Rational(1, 2), sp.Rational(1, 4), sp.Rational(1, 4)]),
    ):
        direct = sum(r * (sp.log(w) - sp.log(r)) for r, w in zip(rho_3, WEIGHT_3, strict=True))
        lost = sum(
            f["loss"].subs({alpha: 1, rho: r, share_: s})
            for r, s in zip(rho_3, shares, strict=True)
        )
        yield Exact(
            rf"{name} on three prompts of gains $5, 4, 3$ times $\log 2$, $\alpha = 1$",
            _prime_logs(direct),
            _prime_logs(f["value"].subs({alpha: 1, Z: sum(WEIGHT_3)}) - lost),
        )


def _sample_loss(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    gain_N, price = np.array([0.5, 0.4, 0.1, 0.02]), 0.1
    weight_N = np.exp(gain_N / price)
    best_N = weight_N / weight_N.sum()
    value = float(f["value"].subs({alpha: price, Z: float(weight_N.sum())}))
    lost = numeric(f["loss"], (alpha, rho, share_))
    rho_N = np.array([0.4, 0.3, 0.2, 0.1])
    drawn = rng.choice(4, 40_000, p=rho_N)
    yield Estimate.of(
        r"objective at $\rho = (0.4, 0.3, 0.2, 0.1)$, from draws",
        gain_N[drawn] - price * np.log(rho_N[drawn]),
        expected=value - float(lost(price, rho_N, best_N).sum()),
        control=value - float(lost(price, best_N, rho_N).sum()),
        control_is="divergence the other way round",
    )


CLAIMS = [
    Claim(
        number="3.1",
        source="Eq. (13), Eq. (14)",
        title="The entropy-regularised optimum is a softmax",
        status=Status.PROVED,
        statement=r"""
Let $\alpha, \delta > 0$, and let a finite pool of prompts have the success rates $p(x)$. The
distribution over the pool that maximises $\mathbb{E}_\rho\sqrt{2\delta p(1-p)} + \alpha H(\rho)$
exists, is unique, and gives a prompt of success rate $p$ the share
$$<<share>>, \qquad \tau = <<temperature>>,$$
with $Z$ the sum of the numerators over the pool. Entropy weight and trust region enter only
through $\tau$: if the trust region shrinks during training and $\alpha$ does not, sampling drifts
towards uniform. The paper states no value of $\tau$.""",
        formulas={
            "share": sp.exp(potential / tau) / Z,
            "temperature": alpha / sp.sqrt(2 * delta),
        },
        prove=_prove_softmax,
        enumerate=_enumerate_softmax,
        sample=_sample_softmax,
    ),
    Claim(
        number="3.2",
        source="Eq. (13)",
        title="What any other distribution loses",
        status=Status.PROVED,
        statement=r"""
The optimum of (13) is $<<value>>$, with $Z = \sum_x e^{\sqrt{2\delta p(1-p)}/\alpha}$. Any
distribution $\rho$ loses exactly $\alpha\,\mathrm{KL}(\rho\,\|\,\rho^*)$ against it, a sum over
prompts of
$$<<loss>>.$$
The optimum grows with $\alpha$ at the rate $H(\rho^*)$.""",
        formulas={"value": alpha * sp.log(Z), "loss": alpha * rho * sp.log(rho / share_)},
        prove=_prove_loss,
        enumerate=_enumerate_loss,
        sample=_sample_loss,
    ),
]
