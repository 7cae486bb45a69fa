r"""The distribution over prompts that the corrected bound of 2.2 implies, beside Eq. 14.

Counterpart of :mod:`theory.sampling`, with :math:`\sqrt{2\delta\,\mathbb{E}_\rho[p(1-p)]}` in the
place of :math:`\mathbb{E}_\rho\sqrt{2\delta p(1-p)}`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize
from scipy.special import softmax

from cures.checks import FloatArray, as_float, as_float_array, fail
from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.sampling import Array, Z, gumbel_draws, lam, rho
from theory.symbols import alpha, delta, p, potential, q, temperature

tau = temperature
spread = sp.Symbol("s", positive=True)  # sqrt(E_rho[p (1-p)])
variance_of_v = sp.Symbol("V", nonnegative=True)  # of p (1-p) under rho
v = sp.Symbol("v", positive=True)  # p (1-p)

share_formula = sp.exp(p * (1 - p) / (2 * tau * spread)) / Z
value = alpha * sp.log(Z) + sp.sqrt(2 * delta) * spread / 2
slope = -variance_of_v / (2 * tau * spread**2)
log_odds = (p * (1 - p) - q * (1 - q)) / (2 * tau * spread)
against = (potential + potential.subs(p, q)) / (2 * spread)
dead = sp.exp(-1 / (8 * tau * spread))


def average_trust_distribution(p_N: ArrayLike, temperature: float) -> tuple[FloatArray, float]:
    r"""Distribution over prompts that maximises the corrected bound plus entropy.

    Parameters
    ----------
    p_N : array_like of float, shape (N,)
        Success rates in [0, 1], not all of them 0 or 1.
    temperature : float
        :math:`\tau = \alpha / \sqrt{2\delta}`, in (0, inf).

    Returns
    -------
    prob_N : ndarray of float64, shape (N,)
        :math:`\rho \propto \exp(p(1-p) / (2 \tau s))`, sums to 1.
    spread : float
        :math:`s = \sqrt{\mathbb{E}_\rho[p(1-p)]}`, in (0, 1/2]; the only solution.

    Raises
    ------
    ValueError
        If a success rate or the temperature is out of range, or no prompt has a variance.

    Notes
    -----
    Claim 2.5. The equation for s is solved by root search: its left side grows, its right side does not.

    Examples
    --------
    >>> prob, spread = average_trust_distribution([0.5, 0.25, 0.0], 0.1)
    >>> prob.round(3), round(spread, 3)
    (array([0.632, 0.324, 0.044]), 0.468)
    """
    where = "average_trust_distribution"
    rate_N = as_float_array(where, "p_N", p_N, low=0.0, high=1.0)
    tau_ = as_float(where, "temperature", temperature, 0.0)
    if tau_ == 0.0:
        fail(where, "temperature", "in (0, inf)", temperature)
    variance_N = rate_N * (1.0 - rate_N)
    if not (variance_N > 0.0).any():
        fail(where, "p_N", "not all 0 or 1", p_N)

    def share_N(log_s: float) -> FloatArray:
        return np.asarray(softmax((variance_N - variance_N.max()) / (2.0 * tau_ * math.exp(log_s))))

    def excess(log_s: float) -> float:
        return log_s - 0.5 * math.log(float(share_N(log_s) @ variance_N))

    low, high = 0.5 * math.log(variance_N.mean()), 0.5 * math.log(variance_N.max())
    # every tilt raises the mean above that of the pool, and no mean exceeds the largest
    log_s = low if excess(low) >= 0.0 else high
    if excess(low) < 0.0 < excess(high):
        log_s = brentq(excess, low, high, xtol=1e-15, rtol=1e-15)
    return share_N(log_s), math.exp(log_s)


# -- 2.5 the optimum -------------------------------------------------------------------------------


def _prove_optimum(f: Formulas) -> Iterator[Step]:
    c = sp.Symbol("c", real=True)  # a change of the shares
    d = sp.Symbol("D", real=True)  # and what it does to the mean of v
    bound = sp.sqrt(2 * delta * (spread**2 + c * d))
    yield Step(
        r"Let $v = p(1-p)$ and $s^2 = \mathbb{E}_\rho[v]$. If the shares change in a direction "
        r"that changes $s^2$ at the rate $D$, the bound $\sqrt{2\delta s^2}$ has a second "
        r"derivative that is not positive: it is concave in $\rho$,",
        sp.Subs(-sp.Derivative(bound, (c, 2)), c, 0),
        0,
        certificate=sp.sqrt(2 * delta) * d**2 / (4 * spread**3),
    )
    price = sp.sqrt(2 * delta) * v / (2 * spread)  # derivative of the bound in a share
    term = -alpha * rho * sp.log(rho)
    stationary = sp.exp((price - lam) / alpha - 1)
    yield Step(
        r"and the entropy strictly, with an infinite slope at $\rho = 0$. So there is exactly one "
        r"maximum on the simplex, it has all $\rho > 0$, and it is where, with a multiplier for "
        r"$\sum\rho = 1$, all derivatives vanish: $\rho = e^{(\sqrt{2\delta}\,v/(2s) - "
        r"\lambda)/\alpha - 1}$.",
        price + sp.Subs(sp.Derivative(term, rho), rho, stationary) - lam,
        0,
    )
    yield Step(
        r"Normalised, with $\tau = \alpha/\sqrt{2\delta}$:",
        sp.Subs(stationary, lam, alpha * (sp.log(Z) - 1)).subs(
            {alpha: tau * sp.sqrt(2 * delta), v: p * (1 - p)}
        ),
        f["share"],
    )
    v_2, w_2 = sp.symbols("v_1:3", positive=True), sp.symbols("w_1:3", positive=True)
    mean, square = (
        sp.Add(*(w * x**k for w, x in zip(w_2, v_2, strict=True))) / sp.Add(*w_2) for k in (1, 2)
    )
    yield Step(
        r"The equation for $s$ has one solution: $s^2$ grows in $s$, $\mathbb{E}_\rho[v]$ does "
        r"not. For as $\beta = 1/(2\tau s)$ grows, a weight $w = e^{\beta v}$ grows at the rate $v "
        r"w$, and the mean of $v$ at the rate of its variance; for two prompts (more only lengthen "
        r"the sums)",
        sp.factor(sp.Add(*(x * w * sp.diff(mean, w) for w, x in zip(w_2, v_2, strict=True)))),
        sp.factor(square - mean**2),
        name=r"\frac{d}{d\beta} \mathbb{E}_\rho[v]",
    )
    yield Step(
        r"and in $s$, with $V$ for this variance, at the rate",
        variance_of_v * sp.Derivative(1 / (2 * tau * spread), spread),
        f["slope"],
    )
    entropy = sp.log(Z) - spread**2 / (2 * tau * spread)  # -E log rho, with E v = s^2
    yield Step(
        r"$H(\rho) = \log Z - \mathbb{E}_\rho[v]/(2\tau s) = \log Z - s/(2\tau)$, so the optimum is",
        sp.sqrt(2 * delta) * spread + alpha * entropy.subs(tau, alpha / sp.sqrt(2 * delta)),
        f["value"],
    )


# p = 1/2, 1/4 and 0 have p (1-p) = 4, 3 and 0 sixteenths; shares 16, 8, 1 of 25 solve the equation at
_RATE_3 = (sp.Rational(1, 2), sp.Rational(1, 4), sp.Integer(0))
_SPREAD_3 = sp.sqrt(sp.Rational(16 * 4 + 8 * 3, 25 * 16))
_TAU_3 = 1 / (32 * _SPREAD_3 * sp.log(2))  # 1 / (2 tau s) = 16 log 2


def _enumerate_optimum(f: Formulas) -> Iterator[Exact]:
    price, variance_3 = float(_TAU_3), (0.25, 0.1875, 0.0)

    def objective(
        k_3: tuple[int, int, int],
    ) -> float:  # of (13) with the corrected bound, 2 delta = 1
        share_3 = [k / 25 for k in k_3]
        bound = math.sqrt(sum(r * x for r, x in zip(share_3, variance_3, strict=True)))
        return bound - price * sum(r * math.log(r) for r in share_3 if r)

    grid = [(i, j, 25 - i - j) for i in range(26) for j in range(26 - i)]
    best = max(grid, key=objective)
    weight = [16, 8, 1]
    for rate, count in zip(_RATE_3, best, strict=True):
        yield Exact(
            rf"pool of $p = 1/2, 1/4, 0$, best of the 351 distributions in steps of $1/25$: share "
            rf"of $p = {rate}$",
            sp.Rational(count, 25),
            f["share"].subs({p: rate, tau: _TAU_3, spread: _SPREAD_3, Z: sum(weight)}),
        )
    bound = sp.sqrt(
        sum(sp.Rational(k, 25) * r * (1 - r) for k, r in zip(best, _RATE_3, strict=True))
    )
    entropy = -sum(sp.Rational(k, 25) * sp.log(sp.Rational(k, 25)) for k in best)
    yield Exact(
        r"objective of that distribution, $2\delta = 1$, $\alpha = \tau$, $1/(2\tau s) = 16\log 2$",
        sp.expand(sp.expand_log(bound + _TAU_3 * entropy, factor=True)),
        sp.expand(sp.expand_log(
            f["value"].subs({alpha: _TAU_3, delta: sp.Rational(1, 2), Z: 25, spread: _SPREAD_3}),
            factor=True,
        )),
    )  # fmt: skip
    # two prompts, v = 1/4 and 0, 1 / (2 tau s) = 8 log 2: weights 4 and 1, chance 4/5
    at = {
        spread: sp.Rational(1, 2),
        tau: 1 / (8 * sp.log(2)),
        variance_of_v: sp.Rational(4, 25) / 16,
    }
    x = sp.Symbol("x")
    mean = sp.Rational(1, 4) / (1 + sp.exp(-x / 4))
    tilt = 8 * sp.log(2)  # d tilt / ds = -tilt / s
    yield Exact(
        r"$p = 1/2$ and $0$, $s = 1/2$, $\tau = 1/(8\log 2)$: $d\,\mathbb{E}_\rho[p(1-p)]/ds$",
        sp.nsimplify(mean.diff(x).subs(x, tilt)) * -tilt / at[spread],
        f["slope"].subs(at),
    )


def _sample_optimum(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate_N, entropy_weight, radius = rng.uniform(0.0, 1.0, 6), 0.01, 0.02
    variance_N, scale = rate_N * (1 - rate_N), np.sqrt(2 * radius)

    def objective(rho_N: Array) -> float:
        return float(scale * np.sqrt(rho_N @ variance_N) - entropy_weight * rho_N @ np.log(rho_N))

    def loss(theta_N: Array) -> float:
        square_N = theta_N**2 + 1e-12
        return -1e2 * objective(square_N / square_N.sum())

    found = minimize(loss, np.ones(6), method="BFGS", options={"gtol": 1e-9})
    _, s = average_trust_distribution(rate_N, entropy_weight / scale)
    normaliser = float(np.exp(variance_N * scale / (2 * entropy_weight * s)).sum())
    claimed = numeric(f["value"], (alpha, delta, Z, spread))(entropy_weight, radius, normaliser, s)
    rival_N = softmax(np.sqrt(variance_N) * scale / entropy_weight)
    yield Search(
        r"corrected bound plus entropy, six random prompts, $\alpha = 0.01$, $\delta = 0.02$: over "
        r"all $\rho$",
        claimed=float(claimed), found=-float(found.fun) / 1e2, control=objective(rival_N),
        control_is="Eq. (14) at the same temperature", sense="max",
    )  # fmt: skip
    exponent_N = variance_N * scale / (2 * entropy_weight * s)
    drawn = gumbel_draws(exponent_N, 40_000, rng)
    log_share_N = exponent_N - np.log(normaliser)
    yield Estimate.of(
        r"the same objective from draws of the optimum by Gumbel maxima",
        scale * variance_N[drawn] / s - entropy_weight * log_share_N[drawn],
        expected=float(claimed), control=float(claimed) + scale * s / 2,
        control_is="its two parts taken as if the bound were linear",
    )  # fmt: skip


# -- 2.6 beside Eq. (14) ---------------------------------------------------------------------------


def _prove_beside(f: Formulas) -> Iterator[Step]:
    u_1, u_2 = potential, potential.subs(p, q)
    yield Step(
        r"The logarithm of the quotient of two shares of 2.5.",
        sp.expand_log(sp.log(share_formula / share_formula.subs(p, q)), force=True),
        f["log_odds"],
    )
    yield Step(
        r"That of (14) is $(u_1 - u_2)/\tau$ with $u = \sqrt{p(1-p)}$, and $u_1^2 - u_2^2 = "
        r"(u_1 - u_2)(u_1 + u_2)$:",
        (u_1 - u_2) / tau * f["against"],
        f["log_odds"],
    )
    yield Step(
        r"A dead prompt against one at $\tfrac12$, $p = 0$ and $q = \tfrac12$ in the odds:",
        sp.exp(log_odds.subs({p: 0, q: sp.Rational(1, 2)}, simultaneous=True)),
        f["dead"],
        name=r"\frac{\rho(0)}{\rho(\frac12)}",
    )
    yield Step(
        r"It grows with $s$, and is that of (14) at $s = \tfrac14$.",
        sp.Subs(f["dead"], spread, sp.Rational(1, 4)),
        sp.exp(-1 / (2 * tau)),
    )
    u = sp.Symbol("u", positive=True)
    yield Step(
        r"The slope of $\log\rho$ in $u$ is $1/\tau$ in (14) and here $u/s$ times that.",
        sp.Derivative(u**2 / (2 * tau * spread), u),
        u / spread / tau,
    )


def _enumerate_beside(f: Formulas) -> Iterator[Exact]:
    at = {tau: _TAU_3, spread: _SPREAD_3}
    # the shares 16, 8 and 1 of 25 found by enumeration in 2.5
    for (first, k_1), (second, k_2) in (
        ((_RATE_3[0], 16), (_RATE_3[1], 8)), ((_RATE_3[1], 8), (_RATE_3[2], 1)),
    ):  # fmt: skip
        yield Exact(
            rf"pool of 2.5, $p = {first}$ against ${second}$: log odds",
            sp.log(sp.Rational(k_1, k_2)),
            f["log_odds"].subs({p: first, q: second, **at}, simultaneous=True),
        )
        u_1, u_2 = (sp.sqrt(r * (1 - r)) for r in (first, second))
        yield Exact(
            rf"pool of 2.5, $p = {first}$ against ${second}$: log odds over those of (14)",
            sp.log(sp.Rational(k_1, k_2)) * _TAU_3 / (u_1 - u_2),
            f["against"].subs({p: first, q: second, **at}, simultaneous=True),
        )
    yield Exact(
        "pool of 2.5, $p = 0$ against $1/2$: odds",
        sp.Rational(1, 16),
        sp.nsimplify(sp.simplify(f["dead"].subs(at))),
    )
    yield Exact(
        r"the same odds, larger than those of (14) for $s > 1/4$",
        sp.Rational(1, 16), sp.exp(-1 / (2 * _TAU_3)), relation=">",
    )  # fmt: skip


def _sample_beside(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_N = np.array([0.5, 0.3, 0.05, 0.0])
    for heat in (0.15, 0.4):
        _, s = average_trust_distribution(rate_N, heat)
        drawn = gumbel_draws(rate_N * (1 - rate_N) / (2 * heat * s), 100_000, rng)
        is_first = (drawn == 0)[(drawn == 0) | (drawn == 3)]
        odds = 1.0 / float(numeric(f["dead"], (tau, spread))(heat, s))
        yield Estimate.of(
            rf"$p = 1/2$ among draws of $1/2$ and $0$, pool $0.5, 0.3, 0.05, 0$, $\tau = {heat}$",
            is_first.astype(float), expected=odds / (1 + odds),
            control=1 / (1 + math.exp(-0.5 / heat)), control_is="Eq. (14)",
        )  # fmt: skip


CLAIMS = [
    Claim(
        number="2.5",
        source="Eq. (13), with the corrected bound",
        title="What the corrected bound asks to sample",
        status=Status.PROVED,
        statement=r"""Let $\alpha, \delta > 0$. In a finite pool that is not all dead, the
distribution that maximises $\sqrt{2\delta\,\mathbb{E}_\rho[p(1-p)]} + \alpha H(\rho)$, $H$ the
entropy, is unique. A prompt of success rate $p$ has the share
$$<<share>>, \qquad s^2 = \mathbb{E}_\rho[p(1-p)], \quad \tau = \alpha/\sqrt{2\delta},$$
with $Z$ the sum of the numerators: a softmax of the reward variance, not of its root, whose
temperature depends on the distribution itself ($\tau$ is as in (14)). The equation for $s$ has one
solution, because at a trial $s$ the mean of $p(1-p)$ changes with $s$ at the rate
$$<<slope>> \le 0,$$
$V$ being the variance of $p(1-p)$ under that distribution. The maximum is $<<value>>$.""",
        formulas={"share": share_formula, "slope": slope, "value": value},
        prove=_prove_optimum,
        enumerate=_enumerate_optimum,
        sample=_sample_optimum,
    ),
    Claim(
        number="2.6",
        source="Eq. (14), with the corrected bound",
        title="How that differs from the softmax of the paper",
        status=Status.PROVED,
        statement=r"""Of two prompts of success rates $p$ and $q$ in the distribution of 2.5, the
log odds are
$$<<log_odds>>,$$
those of (14) at the same $\tau$ times
$$<<against>>.$$
Two prompts whose potentials $\sqrt{p(1-p)}$ lie above $s$ on average are told apart more sharply than by
(14), others less sharply; in a pool whose potentials differ little, the two distributions agree to first
order in the differences. The share of a dead prompt, over that of one at $p = \tfrac12$, is $<<dead>>$:
smaller than by (14), $e^{-1/(2\tau)}$, iff $s < \tfrac14$. If all live prompts have $p = \tfrac12$ this
means that less than a quarter of the draws are live: it takes a pool of few live prompts, and a
temperature at which dead ones are drawn nevertheless. In colder sampling (14) suppresses them more.""",
        formulas={"log_odds": log_odds, "against": against, "dead": dead},
        prove=_prove_beside,
        enumerate=_enumerate_beside,
        sample=_sample_beside,
    ),
]
