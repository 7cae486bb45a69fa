r"""Eq. 13-14: from the potentials of prompts to a distribution over them, and what its temperature does.

The potential of a prompt is :math:`u = \sqrt{p (1-p)}` (Eq. 11). Counterpart: :mod:`cures.sampling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.symbols import alpha, delta, p, potential, temperature

tau = temperature
Z, Z_half = sp.symbols("Z Z_{1/2}", positive=True)  # normalisers at tau and at tau / 2
rho, share_, u, mean_u, mean_u_half = sp.symbols(
    r"rho rho^* u \bar{u} \bar{u}_{1/2}", positive=True
)
lam = sp.Symbol("lambda", real=True)
pool = sp.Symbol("P", integer=True, positive=True)  # prompts in the pool
top, rest = sp.symbols(
    "K L", integer=True, positive=True
)  # prompts of the largest potential, others
gap = sp.Symbol("g", positive=True)  # by which the others' potential is smaller
size = sp.Symbol("S", positive=True)  # effective sample size that is asked for
u_3 = sp.symbols("u_1:4", positive=True)
w_3 = sp.symbols("w_1:4", positive=True)

# three prompts whose shares are rational: sqrt(p (1-p)) = 1/2, 2/5, 3/10, and exp(u / tau) = 32, 16, 8
RATE_3 = (sp.Rational(1, 2), sp.Rational(1, 5), sp.Rational(1, 10))
POTENTIAL_3 = (sp.Rational(1, 2), sp.Rational(2, 5), sp.Rational(3, 10))
TAU_3 = 1 / (10 * sp.log(2))
WEIGHT_3 = (32, 16, 8)


def _softmax(u_N: Sequence[sp.Expr], index: int, t: sp.Expr = tau) -> sp.Expr:
    return sp.exp(u_N[index] / t) / sp.Add(*(sp.exp(x / t) for x in u_N))


def _prime_logs(value: sp.Expr) -> sp.Expr:
    """Logarithms of rationals written in logarithms of primes."""
    return sp.expand(sp.expand_log(sp.sympify(value), force=True, factor=True))


def _gumbel_draws(score_N: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from softmax(score), by the maximum of score plus Gumbel noise: no softmax is computed."""
    return np.argmax(score_N + rng.gumbel(size=(draws, score_N.size)), axis=1)


# 3.1 -------------------------------------------------------------------------------------------


def _prove_softmax(f: Formulas) -> Iterator[Step]:
    term = rho * sp.sqrt(2 * delta) * potential - alpha * rho * sp.log(rho)
    stationary = sp.solve(sp.diff(term - lam * rho, rho), rho)[0]
    yield Step(
        r"One prompt's term of (13) is $\rho\sqrt{2\delta p(1-p)} - \alpha\rho\log\rho$. With a "
        r"multiplier $\lambda$ for $\sum\rho = 1$ its derivative vanishes at",
        stationary,
        sp.exp((sp.sqrt(2 * delta) * potential - lam) / alpha - 1),
    )
    yield Step(
        r"The constraint fixes $\lambda = \alpha(\log Z - 1)$ with $Z = \sum_x e^{u(x)/\tau}$: the same "
        r"number for all prompts. The condition $\rho \ge 0$ never binds, the exponential being positive.",
        stationary.subs(lam, alpha * (sp.log(Z) - 1)),
        f["share"].subs(tau, f["temperature"]),
    )
    yield Step(
        "The objective is strictly concave in every share, so this point is the only maximum.",
        -sp.diff(term, rho, 2),
        0,
        certificate=alpha / rho,
    )
    factor = sp.Symbol("c", positive=True)
    yield Step(
        r"A trust region $c^2$ times as large does what an entropy weight $c$ times smaller does.",
        f["temperature"].subs(delta, factor**2 * delta),
        f["temperature"].subs(alpha, alpha / factor),
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
            rf"$p = {sp.latex(rate)}$ beside the other two of $1/2, 1/5, 1/10$, $\alpha = 1/(10\log 2)$, "
            r"$\delta = 1/2$: best of all 120 distributions in steps of $1/14$",
            sp.Rational(count, 14),
            f["share"].subs({p: rate, tau: t, Z: sum(WEIGHT_3)}),
        )


def _sample_softmax(f: Formulas, rng: np.random.Generator) -> Iterator[Search]:
    rate_N = rng.uniform(0.02, 0.98, 6)
    u_N, entropy_weight, radius = np.sqrt(rate_N * (1 - rate_N)), 0.01, 0.005
    t = float(f["temperature"].subs({alpha: entropy_weight, delta: radius}))

    def objective(rho_N: np.ndarray) -> float:
        return float(np.sqrt(2 * radius) * rho_N @ u_N - entropy_weight * rho_N @ np.log(rho_N))

    def loss(theta_N: np.ndarray) -> float:
        square_N = theta_N**2 + 1e-12
        return -1e2 * objective(square_N / square_N.sum())

    found = minimize(loss, np.ones(6), method="BFGS", options={"gtol": 1e-9})
    share_N = numeric(f["share"], (p, tau, Z))(rate_N, t, np.exp(u_N / t).sum())
    yield Search(
        r"objective (13) over distributions on 6 random prompts, $\alpha = .01$, $\delta = .005$",
        claimed=objective(share_N),
        found=-float(found.fun) / 1e2,
        control=objective(u_N / u_N.sum()),
        control_is="shares proportional to the potential",
        sense="max",
    )


# 3.2 -------------------------------------------------------------------------------------------


def _prove_loss(f: Formulas) -> Iterator[Step]:
    gain = alpha * sp.log(share_ * Z)  # sqrt(2 delta) u of a prompt whose softmax share is share_
    yield Step(
        r"Since $\sqrt{2\delta}\,u = \alpha\log(\rho^* Z)$, the term of a prompt splits. Summed over the "
        r"pool, with $\sum\rho = 1$, the objective of any $\rho$ is the optimum minus the loss.",
        rho * gain - alpha * rho * sp.log(rho),
        rho * f["value"] - f["loss"],
    )
    slope = sp.diff(f["loss"] - alpha * rho, rho)
    yield Step(
        r"The loss, less $\alpha\rho$ (which adds up to a constant), is stationary at $\rho = \rho^*$",
        slope.subs(rho, share_),
        0,
    )
    yield Step(
        r"and convex, so the loss is not negative, and zero only at $\rho^*$.",
        sp.diff(f["loss"], rho, 2),
        0,
        certificate=alpha / rho,
    )
    normaliser = sp.Add(*(sp.exp(x / alpha) for x in u_3))
    entropy = -sp.Add(
        *(_softmax(u_3, i, alpha) * sp.log(_softmax(u_3, i, alpha)) for i in range(3))
    )
    yield Step(
        r"For three prompts of gains $u_i$: the optimum grows with $\alpha$ at the rate of the entropy "
        r"of $\rho^*$, so that $\alpha$ is the price of entropy.",
        sp.expand(sp.diff(f["value"].subs(Z, normaliser), alpha)),
        sp.expand(sp.expand_log(entropy, force=True)),
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
        r"objective at $\rho = (.4, .3, .2, .1)$, from draws",
        gain_N[drawn] - price * np.log(rho_N[drawn]),
        expected=value - float(lost(price, rho_N, best_N).sum()),
        control=value - float(lost(price, best_N, rho_N).sum()),
        control_is="divergence the other way round",
    )


# 3.3 -------------------------------------------------------------------------------------------


def _prove_limits(f: Formulas) -> Iterator[Step]:
    x, y = sp.Symbol("x", positive=True), sp.Symbol("y", nonnegative=True)
    yield Step(
        r"$K$ prompts of the largest potential $u$ and $L$ of potential $u - g$: the best have together",
        top * sp.exp(u / tau) / (top * sp.exp(u / tau) + rest * sp.exp((u - gap) / tau)),
        f["best"],
    )
    yield Step(
        r"A pool whose other prompts lie further below has $L(x) \le L$ in place of $L$; the best have "
        "no less then.",
        top / (top + x),
        top / (top + x + y),
        certificate=top * y / ((top + x) * (top + x + y)),
    )
    yield Step(r"Cold limit: all mass on the best.", sp.limit(f["best"], tau, 0, "+"), 1)
    yield Step(
        r"Hot limit: every prompt alike.", sp.limit(f["best"], tau, sp.oo), top / (top + rest)
    )
    heat = sp.Symbol("beta", positive=True)
    first_order = _softmax(u_3, 0, 1 / heat)
    expansion = first_order.subs(heat, 0) + sp.diff(first_order, heat).subs(heat, 0) / tau
    yield Step(
        r"To first order in $1/\tau$, for a pool of three, prompt 1 has",
        expansion,
        f["hot"].subs({u: u_3[0], mean_u: sp.Add(*u_3) / 3, pool: 3}),
    )


def _enumerate_limits(f: Formulas) -> Iterator[Exact]:
    for k, others in ((1, 3), (2, 5), (4, 1)):
        weights = [sp.Integer(1)] * k + [sp.Rational(1, 8)] * others
        yield Exact(
            rf"$K = {k}$, $L = {others}$, $g = 3\tau\log 2$",
            sum(weights[:k]) / sum(weights),
            f["best"].subs({top: k, rest: others, gap: 3 * sp.log(2), tau: 1}),
        )
    heat = sp.Symbol("beta", positive=True)
    for i in range(3):
        # the difference to 1/3, times tau, as tau grows
        exact = sp.limit((_softmax(POTENTIAL_3, i, 1 / heat) - sp.Rational(1, 3)) / heat, heat, 0)
        yield Exact(
            rf"$\tau(\rho - 1/3)$ as $\tau\to\infty$, potential ${sp.latex(POTENTIAL_3[i])}$ in a pool "
            "with the two others of $1/2, 2/5, 3/10$",
            exact,
            f["hot"].subs({u: POTENTIAL_3[i], mean_u: sp.Rational(2, 5), pool: 3, tau: 1})
            - sp.Rational(1, 3),
        )


def _sample_limits(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    u_N = np.array([0.5, 0.5, 0.3, 0.3, 0.3])
    drawn = _gumbel_draws(u_N / 0.1, 40_000, rng)
    yield Estimate.of(
        r"share of the best, $K = 2$, $L = 3$, $g = .2$, $\tau = .1$, by Gumbel maxima",
        (drawn < 2).astype(float),
        expected=float(f["best"].subs({top: 2, rest: 3, gap: 0.2, tau: 0.1})),
        control=1 / (1 + 1.5 * np.exp(-1.0)),
        control_is="half the gap",
    )
    drawn = _gumbel_draws(np.array([0.5, 0.0]) / 2.0, 100_000, rng)
    yield Estimate.of(
        r"share of potential .5 beside potential 0, $\tau = 2$",
        (drawn == 0).astype(float),
        expected=float(f["hot"].subs({u: 0.5, mean_u: 0.25, pool: 2, tau: 2.0})),
        control=0.5,
        control_is="uniform",
    )


# 3.4 -------------------------------------------------------------------------------------------


def _prove_effective_size(f: Formulas) -> Iterator[Step]:
    at = {
        Z: sp.Add(*(sp.exp(x / tau) for x in u_3)),
        Z_half: sp.Add(*(sp.exp(2 * x / tau) for x in u_3)),
    }
    yield Step(
        r"Squaring a share squares its weight, and $w^2 = e^{u/(\tau/2)}$. For three prompts, "
        r"$1/\sum\rho^2$ is",
        1 / sp.Add(*(_softmax(u_3, i) ** 2 for i in range(3))),
        f["size"].subs(at),
    )
    means = {
        mean_u: sp.Add(*(x * _softmax(u_3, i) for i, x in enumerate(u_3))),
        mean_u_half: sp.Add(*(x * _softmax(u_3, i, tau / 2) for i, x in enumerate(u_3))),
    }
    yield Step(
        "The logarithm of the size has the derivative",
        sp.diff(sp.log(f["size"].subs(at)), tau),
        f["slope"].subs(means),
    )
    pairs = [
        w_3[i] * w_3[j] * (w_3[i] - w_3[j]) * (u_3[i] - u_3[j])
        for i, j in combinations(range(3), 2)
    ]
    plain, squared = sp.Add(*w_3), sp.Add(*(w**2 for w in w_3))
    cold = sp.Add(*(w**2 * x for w, x in zip(w_3, u_3, strict=True))) / squared
    warm = sp.Add(*(w * x for w, x in zip(w_3, u_3, strict=True))) / plain
    yield Step(
        r"With weights $w = e^{u/\tau}$, $\bar u_{1/2} - \bar u$ is a sum over pairs,",
        cold - warm,
        sp.Add(*pairs) / (plain * squared),
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
    exact = 1 / sp.Add(*(_softmax(POTENTIAL_3, i) ** 2 for i in range(3)))
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
    first, second = (_gumbel_draws(u_N / 0.2, 40_000, rng) for _ in range(2))
    effective = float(
        f["size"].subs({Z: float(np.exp(u_N / 0.2).sum()), Z_half: float(np.exp(u_N / 0.1).sum())})
    )
    yield Estimate.of(
        r"chance that two draws coincide, six prompts, $\tau = .2$, by Gumbel maxima",
        (first == second).astype(float),
        expected=1 / effective,
        control=1 / 6,
        control_is="six prompts alike",
    )


# 3.5 -------------------------------------------------------------------------------------------


def _prove_two_levels(f: Formulas) -> Iterator[Step]:
    weight = sp.exp(-gap / tau)
    shares = top * (1 / (top + rest * weight)) ** 2 + rest * (weight / (top + rest * weight)) ** 2
    yield Step(
        r"$K$ shares $1/(K + Lx)$ and $L$ shares $x/(K + Lx)$, $x = e^{-g/\tau}$: $1/\sum\rho^2$ is",
        1 / shares,
        f["size"],
    )
    x, root = sp.symbols("x R", positive=True)
    quadratic = size * (top + rest * x**2) - (top + rest * x) ** 2
    claimed = sp.exp(-gap / f["temperature"])
    solution = top * (size - top) / (root + top * rest)
    radicand = top * rest * size * (top + rest - size)
    yield Step(
        r"Asking for size $S$ is a quadratic equation in $x$. With $R^2 = K L S (K + L - S)$, it holds at "
        r"$x = K(S-K)/(R + KL)$:",
        sp.rem(sp.numer(sp.together(quadratic.subs(x, solution))), root**2 - radicand, root),
        0,
    )
    yield Step(
        r"and the temperature is $\tau = -g/\log x$.",
        claimed,
        solution.subs(root, sp.sqrt(radicand)),
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
            rf"$K = {k}$, $L = {others}$, $g = \log 3$: the temperature of size ${sp.latex(direct)}$",
            sp.Integer(1),
            sp.simplify(t),
        )


def _sample_two_levels(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    at = {top: 2, rest: 6, gap: 0.3, size: 4.0}
    t = float(f["temperature"].subs(at))
    u_N = np.array([0.5] * 2 + [0.2] * 6)
    first, second = (_gumbel_draws(u_N / abs(t), 40_000, rng) for _ in range(2))
    yield Estimate.of(
        r"chance that two draws coincide, $K = 2$, $L = 6$, $g = .3$, at the temperature of size 4",
        (first == second).astype(float),
        expected=1 / float(f["size"].subs({**at, tau: t})),
        control=1 / 8,
        control_is="eight prompts alike",
    )


# 3.6 -------------------------------------------------------------------------------------------


def _prove_floor(f: Formulas) -> Iterator[Step]:
    x, above, below, mean = sp.symbols("x a b omega", positive=True)
    w = x + above  # 1 - w = below
    yield Step(
        r"Scale the weights so that the largest is at most 1; since $0 \le u \le 1/2$ none is below "
        r"$x = e^{-1/(2\tau)}$. For each, $(w - x)(1 - w) \ge 0$, that is $w^2 \le (1 + x) w - x$; "
        r"with $w = x + a$ and $1 = w + b$:",
        ((1 + x) * w - x - w**2).subs(x, 1 - above - below),
        0,
        certificate=above * below,
    )
    yield Step(
        r"On average, with $\omega$ the mean weight, $\overline{w^2} \le (1 + x)\omega - x$, and the size "
        r"is $P\omega^2/\overline{w^2}$. It is smallest where the parabola touches:",
        (1 + x) ** 2 * mean**2 / (4 * x),
        (1 + x) * mean - x,
        certificate=((1 + x) * mean - 2 * x) ** 2 / (4 * x),
    )
    yield Step(
        r"so the share of the pool that counts is at least $4x/(1+x)^2$,",
        (4 * x / (1 + x) ** 2).subs(x, sp.exp(-1 / (2 * tau))),
        f["floor"].rewrite(sp.exp),
    )
    two_levels = (above + (1 - above) * x) ** 2 / (above + (1 - above) * x**2)
    yield Step(
        r"and a share $a$ of prompts at $p = 1/2$, the others at $p = 0$ or $1$, attains it.",
        two_levels.subs(above, f["worst"]).subs(x, sp.exp(-1 / (2 * tau))),
        f["floor"].rewrite(sp.exp),
    )
    doubled = 2 * sp.sqrt(2)  # e^y + e^-y where the floor 1 / cosh^2 y is a half
    yield Step(
        r"With $y = 1/(4\tau)$ this is $1/2$ where $e^y + e^{-y} = 2\sqrt 2$, so that $e^y = 1 + \sqrt 2$.",
        sp.exp(1 / (4 * f["half"])),
        (doubled + sp.sqrt(doubled**2 - 4)) / 2,
    )


def _enumerate_floor(f: Formulas) -> Iterator[Exact]:
    # tau = 1 / (4 log 2): potentials 1/2, 1/4 and 0 have weights 1, 1/2 and 1/4
    weights = (sp.Integer(1), sp.Rational(1, 2), sp.Rational(1, 4))
    sizes = {w_5: sum(w_5) ** 2 / sum(w**2 for w in w_5) / 5 for w_5 in product(weights, repeat=5)}
    worst = min(sizes, key=lambda w_5: sizes[w_5])
    at = {tau: 1 / (4 * sp.log(2))}
    yield Exact(
        r"$\tau = 1/(4\log 2)$: least size over all $3^5$ pools of five with potentials in "
        r"$\{0, 1/4, 1/2\}$, per prompt",
        sizes[worst],
        sp.nsimplify(f["floor"].rewrite(sp.exp).subs(at)),
    )
    yield Exact(
        r"share of prompts at $p = 1/2$ in that pool",
        sp.Rational(worst.count(weights[0]), 5),
        sp.simplify(f["worst"].subs(at)),
    )
    yield Exact(
        r"the released code has $\tau \ge 100$: at least this share of any pool counts",
        1 - sp.Rational(1, 160_000),
        f["floor"].subs(tau, 100),
        relation="<",
    )


def _sample_floor(f: Formulas, rng: np.random.Generator) -> Iterator[Search]:
    t = 0.1
    below = float(f["floor"].subs(tau, t))

    def share(share_of_top: float) -> float:
        x = np.exp(-1 / (2 * t))
        return float((share_of_top + (1 - share_of_top) * x) ** 2 / (share_of_top + (1 - share_of_top) * x**2))  # fmt: skip

    def size_of(theta_N: np.ndarray) -> float:
        w_N = np.exp(0.25 * (1 + np.sin(theta_N)) / t)  # potentials in [0, 1/2]
        return float(mass_N @ w_N) ** 2 / float(mass_N @ w_N**2)

    worst = float(f["worst"].subs(tau, t))
    mass_N = np.array([worst, *np.full(4, (1 - worst) / 4)])
    starts = [rng.uniform(-1.5, 1.5, 5) for _ in range(12)]
    found = min(minimize(size_of, s, method="BFGS").fun for s in starts)
    yield Search(
        r"size per prompt, over potentials, with mass $a$ on one and $(1-a)/4$ on each of four, $\tau = .1$",
        claimed=below,
        found=float(found),
        control=share(0.5),
        control_is="half of the prompts at 1/2",
        sense="min",
    )


CLAIMS = [
    Claim(
        number="3.1",
        source="Eq. (13), Eq. (14)",
        title="The entropy-regularised optimum is a softmax",
        status=Status.PROVED,
        statement=r"The distribution over prompts that maximises "
        r"$E_\rho\sqrt{2\delta p(1-p)} + \alpha H(\rho)$ gives a prompt of success rate $p$ the share "
        r"$$<<share>>$$ with $Z$ the sum of the numerators over the pool and $\tau = <<temperature>>$. "
        r"Entropy weight and trust region enter only through $\tau$: if the trust region shrinks during "
        r"training and $\alpha$ does not, sampling drifts towards uniform. The paper states no value "
        r"of $\tau$.",
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
        statement=r"The optimum of (13) is $<<value>>$, with $Z = \sum_x e^{\sqrt{2\delta p(1-p)}/\alpha}$. "
        r"Any distribution $\rho$ loses exactly $\alpha\,\mathrm{KL}(\rho\,\|\,\rho^*)$ against it, a sum "
        r"over prompts of $<<loss>>$. The optimum grows with $\alpha$ at the rate $H(\rho^*)$.",
        formulas={"value": alpha * sp.log(Z), "loss": alpha * rho * sp.log(rho / share_)},
        prove=_prove_loss,
        enumerate=_enumerate_loss,
        sample=_sample_loss,
    ),
    Claim(
        number="3.3",
        source="Eq. (14)",
        title="Cold and hot sampling",
        status=Status.PROVED,
        statement=r"If $K$ prompts have the largest potential and the other $L$ lie at least $g$ below it, "
        r"the best have together a share of at least $$<<best>>,$$ with equality if all others lie "
        r"exactly $g$ below. It tends to 1 as $\tau\to 0$ and to $K/(K+L)$ as $\tau\to\infty$. In a "
        r"pool of $P$ prompts of mean potential $\bar u$ a share is $$<<hot>>$$ up to terms of order "
        r"$\tau^{-2}$.",
        formulas={
            "best": top / (top + rest * sp.exp(-gap / tau)),
            "hot": (1 + (u - mean_u) / tau) / pool,
        },
        prove=_prove_limits,
        enumerate=_enumerate_limits,
        sample=_sample_limits,
    ),
    Claim(
        number="3.4",
        source="Eq. (14)",
        title="The effective sample size grows with temperature",
        status=Status.PROVED,
        statement=r"The number of prompts that share the mass, $1/\sum\rho^2$, the reciprocal of the chance "
        r"that two draws coincide, is $<<size>>$ with $Z$ and $Z_{1/2}$ the normalisers at $\tau$ and at "
        r"$\tau/2$. Its logarithm has the slope $$<<slope>>,$$ $\bar u$ and $\bar u_{1/2}$ being the mean "
        r"potentials under sampling at $\tau$ and at $\tau/2$. The slope is positive unless all potentials "
        r"are equal, so every size between the number of best prompts and the size of the pool belongs "
        r"to exactly one temperature.",
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
        statement=r"With $K$ prompts of the largest potential and $L$ prompts $g$ below it, the effective "
        r"sample size is $$<<size>>$$ and the temperature at which it equals $S$, $K < S < K + L$, is "
        r"$$<<temperature>>.$$",
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
    Claim(
        number="3.6",
        source="Eq. (14)",
        title="A temperature far above 1/4 does nothing",
        status=Status.PROVED,
        statement=r"Potentials lie in $[0, 1/2]$, so whatever the pool, the effective sample size is at least "
        r"the share $$<<floor>>$$ of it. The worst pool has a share $<<worst>>$ of its prompts at "
        r"$p = 1/2$ and the others at $p = 0$ or $1$. At least half of every pool counts as long as "
        r"$\tau \ge <<half>> \approx 0.284$; selection that matters needs colder sampling. The released "
        r"code divides the potential by at least 100: more than 99.999 percent of any pool counts, which "
        r"is uniform sampling.",
        formulas={
            "floor": sp.sech(1 / (4 * tau)) ** 2,
            "worst": 1 / (1 + sp.exp(1 / (2 * tau))),
            "half": 1 / (4 * sp.log(1 + sp.sqrt(2))),
        },
        prove=_prove_floor,
        enumerate=_enumerate_floor,
        sample=_sample_floor,
    ),
]
