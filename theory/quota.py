r"""Eq. 15-20: how many rollouts each drawn prompt should get.

The estimate (16) averages m prompts, prompt i over :math:`n_i` rollouts whose gradients have mean
:math:`g_i` and total variance :math:`\sigma_i^2` each; N is the sum of the quotas. Counterpart:
:mod:`cures.quota`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import sympy as sp
from scipy.optimize import minimize
from scipy.special import beta as beta_function

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step
from theory.outcomes import rational
from theory.splits import all_splits, best_split, greedy_split, largest_remainders
from theory.symbols import alpha, beta, budget, m, n, p

sigma, total, guess = sp.symbols(r"sigma s \hat{\sigma}", positive=True)  # s: sum of the sigmas
between, mean_sigma, var_sigma = sp.symbols(r"b \bar{\sigma} v", positive=True)
per_prompt = sp.Symbol(r"\bar{n}", positive=True)  # mean quota N / m
spread = sp.Symbol("M", positive=True)  # largest over smallest ratio of guess to truth
noise = sp.Symbol("omega", positive=True)  # standard deviation of the log of that ratio
copies = sp.Symbol("k", integer=True, positive=True)  # how often a prompt was drawn
pool = sp.Symbol("P", integer=True, positive=True)  # prompts in the pool
g_1, g_2 = sp.symbols("g_1 g_2", real=True)
cv_sq = var_sigma / mean_sigma**2


# 4.1 -------------------------------------------------------------------------------------------


def _prove_variance(f: Formulas) -> Iterator[Step]:
    square = (n * (g_1**2 + sigma**2) + n * (n - 1) * g_1**2) / n**2
    yield Step(
        r"The mean of $n$ rollouts of gradient mean $g_1$: of the $n^2$ products, $n$ are squares and the "
        r"others products of independent rollouts. Its variance, times the prompt's $1/m^2$, is",
        (square - g_1**2) / m**2,
        f["within"],
    )
    s_1, s_2 = sp.symbols("sigma_1 sigma_2", positive=True)
    first = p * (g_1**2 + s_1**2 / n) + (1 - p) * (g_2**2 + s_2**2 / n)
    one_draw = first - (p * g_1 + (1 - p) * g_2) ** 2
    mean_square = p * s_1**2 + (1 - p) * s_2**2
    yield Step(
        r"One draw from a pool of two prompts, taken with chances $p$ and $1-p$, has the variance of its "
        r"mean gradient plus the mean of the variances; $m$ independent draws divide it by $m$.",
        one_draw / m,
        f["total"].subs({between: p * (1 - p) * (g_1 - g_2) ** 2, sigma: sp.sqrt(mean_square)}),
    )
    yield Step(
        "Stopping after a success, at most two rollouts: right at once, right at the second (mean 1/2), or "
        "never. The mean reward less $p$ is on average",
        p * 1 + (1 - p) * p * sp.Rational(1, 2) + (1 - p) ** 2 * 0 - p,
        f["bias"],
    )


def _enumerate_variance(f: Formulas) -> Iterator[Exact]:
    # a rollout's gradient is centre + step or centre - step with chance 1/2: its sigma is the step
    for counts in ((1, 1), (2, 1), (1, 3)):
        steps, centres = (Fraction(1), Fraction(3)), (Fraction(0), Fraction(2))
        mean, square = _moments([(s, c, k) for s, c, k in zip(steps, centres, counts, strict=True)])
        yield Exact(
            rf"two prompts, $\sigma = 1, 3$, quotas {counts[0]} and {counts[1]}, all "
            rf"{2 ** sum(counts)} outcomes",
            rational(square - mean**2),
            sum(
                f["within"].subs({sigma: rational(s), m: 2, n: k})
                for s, k in zip(steps, counts, strict=True)
            ),
        )
    draws = list(product(((Fraction(1), Fraction(0)), (Fraction(3), Fraction(2))), repeat=2))
    moments = [_moments([(s, c, 2) for s, c in draw]) for draw in draws]
    mean = sum(x for x, _ in moments) / 4
    yield Exact(
        r"two draws from a pool with $\sigma = 1, 3$ and $g = 0, 2$, two rollouts each",
        rational(sum(x for _, x in moments) / 4 - mean**2),
        f["total"].subs({between: 1, sigma: sp.sqrt(5), m: 2, n: 2}),
    )
    rate = Fraction(1, 3)
    outcomes = {(1,): rate, (0, 1): (1 - rate) * rate, (0, 0): (1 - rate) ** 2}
    stopped = sum(c * Fraction(sum(r), len(r)) for r, c in outcomes.items())
    yield Exact(
        r"stopping at the first success of two, $p = 1/3$: mean reward",
        rational(stopped),
        sp.Rational(1, 3) + f["bias"].subs(p, sp.Rational(1, 3)),
    )


def _moments(prompts: list[tuple[Fraction, Fraction, int]]) -> tuple[Fraction, Fraction]:
    """Mean and mean square of estimate (16) over all outcomes; prompts are (step, centre, quota)."""
    rollouts = sum(k for _, _, k in prompts)
    mean = square = Fraction()
    for signs in product((-1, 1), repeat=rollouts):
        value, at = Fraction(), 0
        for step, centre, k in prompts:
            value += centre + step * Fraction(sum(signs[at : at + k]), k)
            at += k
        mean += value / len(prompts) / 2**rollouts
        square += (value / len(prompts)) ** 2 / 2**rollouts
    return mean, square


def _sample_variance(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    g_N, sigma_N, draws, prompts, count = (
        np.array([1.0, 0.0, -0.5]),
        np.array([0.5, 2, 1]),
        20_000,
        4,
        3,
    )
    chosen = rng.integers(3, size=(draws, prompts))
    noise_S = rng.standard_normal((draws, prompts, count)).mean(axis=2) * sigma_N[chosen]
    error_S = (g_N[chosen] + noise_S).mean(axis=1) - g_N.mean()
    at = {between: g_N.var(), sigma: np.sqrt((sigma_N**2).mean()), m: prompts, n: count}
    yield Estimate.of(
        "squared error of (16), four draws from three prompts, three rollouts each",
        error_S**2,
        expected=float(f["total"].subs(at)),
        control=float(f["total"].subs({**at, between: 0.0})),
        control_is="without the part between prompts",
    )


# 4.2 -------------------------------------------------------------------------------------------


def _prove_optimum(f: Formulas) -> Iterator[Step]:
    price = sp.Symbol("lambda", positive=True)
    stationary = sp.solve(sp.diff(sigma**2 / (m**2 * n) + price * n, n), n)[0]
    yield Step(
        r"Stationarity of $\sigma^2/(m^2 n) + \lambda n$ in each quota.",
        stationary,
        sigma / (m * sp.sqrt(price)),
    )
    yield Step(
        r"The quotas add up to $N$ iff $\sqrt\lambda = s/(mN)$.",
        stationary.subs(price, (total / (m * budget)) ** 2),
        f["quota"],
    )
    yield Step(
        r"Each prompt then has the share $\sigma/s$ of the variance $s^2/(m^2 N)$,",
        sigma**2 / (m**2 * f["quota"]),
        sigma / total * f["minimum"],
    )
    slope = sp.Symbol("c", positive=True)
    yield Step(
        r"and no quotas do better: for any $n$ and any $c > 0$, $\sigma^2/n \ge 2c\sigma - c^2 n$,",
        sigma**2 / n,
        2 * slope * sigma - slope**2 * n,
        certificate=(sigma - slope * n) ** 2 / n,
    )
    yield Step(
        r"which at $c = s/N$ adds up over the prompts to $m^2$ times the minimum.",
        (2 * slope * total - slope**2 * budget).subs(slope, total / budget),
        m**2 * f["minimum"],
    )


def _enumerate_optimum(f: Formulas) -> Iterator[Exact]:
    for sigma_B, rollouts in (((1, 2, 3), 12), ((1, 1, 4), 12), ((2, 3), 10)):
        best = best_split(_negative_variance(sigma_B), rollouts, len(sigma_B), 1)
        yield Exact(
            rf"$\sigma = {sigma_B}$, $N = {rollouts}$: least variance of all splits",
            -rational(_negative_variance(sigma_B)(best)) / len(sigma_B) ** 2,
            f["minimum"].subs({total: sum(sigma_B), m: len(sigma_B), budget: rollouts}),
        )
        yield Exact(
            "its last quota",
            best[-1],
            f["quota"].subs({sigma: sigma_B[-1], total: sum(sigma_B), budget: rollouts}),
        )


def _negative_variance(sigma_B: tuple[int, ...]):  # type: ignore[no-untyped-def]
    return lambda split: (
        -sum((Fraction(s * s, k) for s, k in zip(sigma_B, split, strict=True)), Fraction())
    )


def _sample_optimum(f: Formulas, rng: np.random.Generator) -> Iterator[Search]:
    sigma_B, rollouts = rng.uniform(0.1, 1.0, 6), 48.0

    def variance(quota_B: np.ndarray) -> float:
        return float((sigma_B**2 / quota_B).sum()) / sigma_B.size**2

    def of_logits(theta_B: np.ndarray) -> float:
        share_B = np.exp(theta_B - theta_B.max())
        return variance(rollouts * share_B / share_B.sum())

    found = minimize(of_logits, np.zeros(6), method="BFGS", options={"gtol": 1e-12})
    yield Search(
        "six random prompts, 48 rollouts, real quotas: variance",
        claimed=float(f["minimum"].subs({total: sigma_B.sum(), m: 6, budget: rollouts})),
        found=float(found.fun),
        control=variance(rollouts * sigma_B**2 / (sigma_B**2).sum()),
        control_is=r"quotas in proportion to $\sigma^2$",
        sense="min",
    )


# 4.3 -------------------------------------------------------------------------------------------


def _prove_gain(f: Formulas) -> Iterator[Step]:
    squares = m * (mean_sigma**2 + var_sigma)
    yield Step(
        r"Equal quotas $N/m$ have the variance $\sum\sigma^2/(mN)$. With $\bar\sigma$ and $v$ the mean and "
        r"the variance of the $\sigma$ of the drawn prompts, divided by the minimum it is",
        (squares / (m * budget)) / ((m * mean_sigma) ** 2 / (m**2 * budget)),
        f["gain"],
    )
    moment = sp.gamma(alpha + sp.Rational(1, 2)) * sp.gamma(beta + sp.Rational(1, 2)) / sp.gamma(alpha + beta + 1)  # fmt: skip
    mean = moment / (sp.gamma(alpha) * sp.gamma(beta) / sp.gamma(alpha + beta))
    mean_square = alpha * beta / ((alpha + beta) * (alpha + beta + 1))
    yield Step(
        r"If $\sigma = \sqrt{p(1-p)}$ and $p$ is spread like Beta$(\alpha,\beta)$, then "
        r"$E\sigma = B(\alpha+\frac12, \beta+\frac12)/B(\alpha,\beta)$ and $E\sigma^2/(E\sigma)^2$ is",
        mean_square / mean**2,
        f["gain_beta"],
    )
    flat = sp.integrate(p * (1 - p), (p, 0, 1)) / sp.integrate(sp.sqrt(p * (1 - p)), (p, 0, 1)) ** 2
    yield Step(
        "For uniformly spread success rates, by direct integration:",
        flat,
        f["gain_beta"].subs({alpha: 1, beta: 1}),
    )


def _enumerate_gain(f: Formulas) -> Iterator[Exact]:
    for sigma_B in ((1, 2, 3), (0, 0, 1), (3, 4)):
        size = len(sigma_B)
        mean = sp.Rational(sum(sigma_B), size)
        square = sp.Rational(sum(s * s for s in sigma_B), size)
        yield Exact(
            rf"$\sigma = {sigma_B}$: variance of equal quotas over the minimum",
            sp.Rational(size * sum(s * s for s in sigma_B), sum(sigma_B) ** 2),
            f["gain"].subs({mean_sigma: mean, var_sigma: square - mean**2}),
        )
    angle = sp.Symbol("phi", positive=True)
    weight = 2 / sp.pi
    product_ = sp.sin(angle) * sp.cos(angle)
    bounds = (angle, 0, sp.pi / 2)
    yield Exact(
        r"Beta$(1/2, 1/2)$, that is $p = \sin^2\varphi$ with $\varphi$ uniform, by integration",
        weight * sp.integrate(product_**2, bounds) / (weight * sp.integrate(product_, bounds)) ** 2,
        f["gain_beta"].subs({alpha: sp.Rational(1, 2), beta: sp.Rational(1, 2)}),
    )


def _sample_gain(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    a, b = 0.6, 1.4
    rate_S = rng.beta(a, b, 40_000)
    mean = beta_function(a + 0.5, b + 0.5) / beta_function(a, b)
    yield Estimate.of(
        r"$\sigma^2/(E\sigma)^2$, $p$ drawn from Beta$(.6, 1.4)$",
        rate_S * (1 - rate_S) / mean**2,
        expected=float(f["gain_beta"].subs({alpha: a, beta: b})),
        control=float(32 / (3 * np.pi**2)),
        control_is="gain for uniformly spread rates",
    )


# 4.4 -------------------------------------------------------------------------------------------


def _prove_between(f: Formulas) -> Iterator[Step]:
    square_of_sum = m * (mean_sigma**2 + var_sigma) + m * (m - 1) * mean_sigma**2
    yield Step(
        r"Over $m$ independent draws $E s^2 = m(\bar\sigma^2 + v) + m(m-1)\bar\sigma^2$, now with $\bar\sigma$ "
        r"and $v$ of the sampling distribution. Given the draws, the mean of (16) is the mean of their "
        r"$g_i$, whose variance is $b/m$; the two parts add.",
        between / m + square_of_sum / (m**2 * budget),
        f["total"],
    )
    equal = between / m + (mean_sigma**2 + var_sigma) / budget
    yield Step("Equal quotas against (20):", equal - f["total"], f["saving"])
    ratio = (equal / f["total"]).subs(budget, per_prompt * m)
    yield Step(
        r"As the number of prompts grows with $\bar n = N/m$ rollouts for each, the ratio of the two tends to",
        sp.limit(sp.cancel(ratio), m, sp.oo),
        f["gain"],
    )
    yield Step(
        r"and half of the gain $v/\bar\sigma^2$ is left at",
        f["gain"].subs(per_prompt, f["half"]) - 1,
        cv_sq / 2,
    )


def _enumerate_between(f: Formulas) -> Iterator[Exact]:
    # sigma 1 or 3, g 0 or 2; four rollouts, and (20) is whole for every pair of draws
    prompts = ((Fraction(1), Fraction(0)), (Fraction(3), Fraction(2)))
    at = {between: 1, mean_sigma: 2, var_sigma: 1, m: 2, budget: 4}
    errors = {}
    for name in ("optimal", "equal"):
        mean = square = Fraction()
        for draw in product(prompts, repeat=2):
            whole = [int(4 * s / (draw[0][0] + draw[1][0])) for s, _ in draw]
            counts = whole if name == "optimal" else [2, 2]
            x, y = _moments([(s, c, k) for (s, c), k in zip(draw, counts, strict=True)])
            mean, square = mean + x / 4, square + y / 4
        errors[name] = rational(square - mean**2)
    yield Exact(
        r"two draws from a pool with $\sigma = 1, 3$, $g = 0, 2$, quotas (20) of four rollouts: all outcomes",
        errors["optimal"],
        f["total"].subs(at),
    )
    yield Exact(
        "equal quotas lose, there", errors["equal"] - errors["optimal"], f["saving"].subs(at)
    )
    yield Exact(
        r"$\bar\sigma = 2$, $v = 1$, $b = 1$: ratio at $\bar n = \bar\sigma^2/b = 4$, from the variances "
        r"$1 + 5/4$ and $1 + 4/4$",
        sp.Rational(9, 8),
        f["gain"].subs({**at, per_prompt: f["half"].subs(at)}),
    )


def _sample_between(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    g_N, sigma_N, draws, prompts, rollouts = (
        np.array([0.3, 0.0, -0.3]),
        np.array([0.2, 1, 3]),
        40_000,
        5,
        20,
    )
    chosen = rng.integers(3, size=(draws, prompts))
    sigma_S_B = sigma_N[chosen]
    quota_S_B = rollouts * sigma_S_B / sigma_S_B.sum(axis=1, keepdims=True)
    group_S_B = g_N[chosen] + sigma_S_B / np.sqrt(quota_S_B) * rng.standard_normal((draws, prompts))
    at = {between: g_N.var(), mean_sigma: sigma_N.mean(), var_sigma: sigma_N.var(), m: prompts, budget: rollouts}  # fmt: skip
    expected = float(f["total"].subs(at))
    yield Estimate.of(
        "squared error, five draws from three prompts, 20 rollouts by (20)",
        group_S_B.mean(axis=1) ** 2,
        expected=expected,
        control=expected + float(f["saving"].subs(at)),
        control_is="equal quotas",
    )


# 4.5 -------------------------------------------------------------------------------------------


def _prove_integer(f: Formulas) -> Iterator[Step]:
    k, step, more = (sp.Symbol(x, integer=True, positive=True) for x in ("k", "d", "e"))
    slack = sp.Symbol("y", nonnegative=True)
    yield Step(
        r"One more rollout lowers $\sigma^2/n$ by", sigma**2 / n - sigma**2 / (n + 1), f["marginal"]
    )
    yield Step(
        "and by less and less.",
        f["marginal"],
        f["marginal"].subs(n, n + 1),
        certificate=2 * sigma**2 / (n * (n + 1) * (n + 2)),
    )
    price = f["marginal"] + slack
    yield Step(
        r"When greedy stops there is a price $\lambda$ between the next reduction of every prompt and its "
        r"last one. A prompt with $d = 1 + e$ rollouts more than greedy gives it, $\lambda = $ next "
        r"reduction $+ y$, has at least as large a $\sigma^2/n + \lambda n$:",
        (sigma**2 / (n + step) - sigma**2 / n + price * step).subs(step, 1 + more),
        0,
        certificate=(1 + more) * (slack + sigma**2 * more / (n * (n + 1) * (n + 1 + more))),
    )
    last = f["marginal"].subs(n, n - 1)
    fewer = sigma**2 / k - sigma**2 / n - (last - slack) * (n - k)
    yield Step(
        r"and so has one with $k = n - 1 - e$, $\lambda = $ last reduction $- y$. Added up, $\lambda$ "
        r"cancels because both splits sum to $N$: no split beats the greedy one.",
        fewer.subs(n, k + 1 + more),
        0,
        certificate=(1 + more) * (slack + sigma**2 * more / (k * (k + more) * (k + 1 + more))),
    )
    level = sp.Symbol("t", positive=True)
    yield Step(
        r"At the price $1/t^2$ a prompt goes from $n$ to $n + 1$ rollouts where its marginal value reaches it.",
        sp.solve(f["marginal"] - 1 / level**2, sigma)[0] * level,
        f["threshold"],
    )


def _enumerate_integer(f: Formulas) -> Iterator[Exact]:
    for sigma_B, rollouts in (((5, 3, 1), 9), ((7, 6, 2), 11), ((9, 4, 4, 1), 12)):

        def marginal(i: int, count: int, sigma_B: tuple[int, ...] = sigma_B) -> sp.Rational:
            return f["marginal"].subs({sigma: sigma_B[i], n: count})

        value = _negative_variance(sigma_B)
        best = best_split(value, rollouts, len(sigma_B), 1)
        greedy = greedy_split(marginal, rollouts, [1] * len(sigma_B))
        yield Exact(
            rf"$\sigma = {sigma_B}$, $N = {rollouts}$: $\sum\sigma^2/n$ of the best of all "
            rf"{sum(1 for _ in all_splits(rollouts, len(sigma_B), 1))} splits and of the greedy one",
            -rational(value(best)),
            -rational(value(greedy)),
        )
    sigma_B, rollouts = (6, 2, 1), 7
    value = _negative_variance(sigma_B)
    rounded = largest_remainders(sigma_B, rollouts)
    yield Exact(
        rf"$\sigma = {sigma_B}$, $N = {rollouts}$: $\sum\sigma^2/n$ of (20) with largest remainders, "
        rf"{rounded}, against the best, {best_split(value, rollouts, 3, 1)}",
        -rational(value(rounded)),
        -rational(value(best_split(value, rollouts, 3, 1))),
        relation=">",
    )
    yield Exact(
        r"from 1 to 2 rollouts, squared: the root of $1/1 - 1/2 = 1/y$",
        1 / (sp.Integer(1) - sp.Rational(1, 2)),
        (f["threshold"] ** 2).subs(n, 1),
    )


def _sample_integer(f: Formulas, rng: np.random.Generator) -> Iterator[Search]:
    sigma_B, rollouts = rng.uniform(0.2, 1.0, 5), 23
    quota_B = np.ones(5)
    for _ in range(rollouts - 5):
        gain = [float(f["marginal"].subs({sigma: s, n: int(k)})) for s, k in zip(sigma_B, quota_B, strict=True)]  # fmt: skip
        quota_B[int(np.argmax(gain))] += 1

    def variance(count_B: np.ndarray) -> float:
        return float((sigma_B**2 / count_B).sum())

    # every split by a recursion on the prompts: the least for the first ones with k rollouts
    least = {k: sigma_B[0] ** 2 / k for k in range(1, rollouts)}
    for s in sigma_B[1:]:
        least = {
            k: min(least[j] + s**2 / (k - j) for j in range(1, k) if j in least)
            for k in range(min(least) + 1, rollouts + 1)
        }
    yield Search(
        "five random prompts, 23 rollouts: greedy against dynamic programming",
        claimed=variance(quota_B),
        found=float(least[rollouts]),
        control=variance(np.array([5, 5, 5, 4, 4])),
        control_is="equal quotas",
        sense="min",
        tolerance=1e-12,
    )


# 4.6 -------------------------------------------------------------------------------------------


def _prove_wrong_sigma(f: Formulas) -> Iterator[Step]:
    sum_guess, cross = sp.symbols(r"\hat{s} h", positive=True)
    yield Step(
        r"Quotas in proportion to $\hat\sigma$ leave a prompt the variance",
        sigma**2 / (m**2 * (budget * guess / sum_guess)),
        sum_guess * (sigma**2 / guess) / (m**2 * budget),
    )
    yield Step(
        r"With $\hat s = \sum\hat\sigma$ and $h = \sum\sigma^2/\hat\sigma$, over the minimum this is "
        r"$\hat s h/s^2$: the mean of $e = \hat\sigma/\sigma$ times the mean of $1/e$, both weighted by "
        r"$\sigma$. Where equal quotas are the guess, $\hat\sigma = 1$, it is $m\sum\sigma^2/s^2$ again.",
        (sum_guess * cross / (m**2 * budget)) / (total**2 / (m**2 * budget)),
        sum_guess * cross / total**2,
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
        "case, reached by a guess that is $M$ times too large for half of the total $s$ and right for the rest.",
        f["worst"],
        mean * (1 + spread - mean) / spread,
        certificate=(1 + spread - 2 * mean) ** 2 / (4 * spread),
    )
    log_e = sp.Symbol("z", real=True)
    density = sp.exp(-(log_e**2) / (2 * noise**2)) / (sp.sqrt(2 * sp.pi) * noise)
    mean_e = sp.integrate(sp.exp(log_e) * density, (log_e, -sp.oo, sp.oo))
    mean_inverse = sp.integrate(sp.exp(-log_e) * density, (log_e, -sp.oo, sp.oo))
    yield Step(
        r"If $\log e$ is normal with standard deviation $\omega$, independent of $\sigma$, and the prompts "
        "are many, the means are expectations:",
        sp.simplify(mean_e) * sp.simplify(mean_inverse),
        f["lognormal"],
    )
    yield Step(
        r"which eats up the whole gain $1 + v/\bar\sigma^2$ over equal quotas at",
        f["lognormal"].subs(noise, sp.sqrt(f["break_even"])),
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
    # errors exp(+-z) with equal chance have the ratio cosh(z)^2; n of them multiplied tend to the normal law
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
        r"$e/e'$ for independent errors of $\omega = .4$",
        np.exp(z_S[:, 0] - z_S[:, 1]),
        expected=float(f["lognormal"].subs(noise, width)),
        control=float(np.exp(width**2 / 2)),
        control_is="the mean of $e$ alone",
    )
    sigma_B, limit = rng.uniform(0.5, 1.0, 6), 3.0

    def ratio(theta_B: np.ndarray) -> float:
        e_B = np.exp((np.sin(theta_B) + 1) / 2 * np.log(limit))
        return float((sigma_B * e_B).sum() * (sigma_B / e_B).sum() / sigma_B.sum() ** 2)

    share = np.array([0.5, 0.3, 0.2])  # of s; splits into halves
    sigma_B = share
    starts = [rng.uniform(-1.5, 1.5, 3) for _ in range(12)]
    found = max(-minimize(lambda t: -ratio(t), s, method="BFGS").fun for s in starts)
    yield Search(
        r"three prompts with $\sigma = 5, 3, 2$, errors in $[1, 3]$: ratio to the minimum",
        claimed=float(f["worst"].subs(spread, limit)),
        found=float(found),
        control=1 + np.var([1.0, limit]) / np.mean([1.0, limit]) ** 2 / 2,
        control_is="half of the squared coefficient of variation",
        sense="max",
    )


# 4.7 -------------------------------------------------------------------------------------------


def _prove_duplicates(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"$k$ draws of a prompt, kept apart with $n/k$ rollouts each, have the variance of one group of $n$ "
        "with the weight $k/m$,",
        copies * sigma**2 / (m**2 * n / copies),
        (copies / m) ** 2 * sigma**2 / n,
    )
    yield Step(
        r"which is that of a prompt drawn once with",
        f["merged"] ** 2 / (m**2 * n),
        copies * copies * sigma**2 / (m**2 * n),
    )
    yield Step(
        r"and (20) gives the merged group what it gives its $k$ parts together.",
        budget * f["merged"] / total,
        copies * (budget * sigma / total),
    )
    chance = (1 - 1 / pool) ** m
    yield Step(
        r"Each of $P$ prompts is missed by all $m$ uniform draws with chance $(1 - 1/P)^m$, so the number of "
        "distinct ones is on average",
        pool * (1 - chance),
        f["distinct"],
    )
    # covariance of two draws without replacement: the P values, centred, add up to zero
    yield Step(
        r"Without replacement two draws have the covariance $-b/(P-1)$, since all $P$ add up to a constant: "
        r"the part between prompts, $b/m$ with replacement, becomes",
        between / m + sp.Rational(1) * m * (m - 1) / m**2 * (-between / (pool - 1)),
        f["apart"],
    )


def _enumerate_duplicates(f: Formulas) -> Iterator[Exact]:
    for prompts, draws in ((3, 2), (4, 4), (2, 5)):
        seen = [len(set(d)) for d in product(range(prompts), repeat=draws)]
        yield Exact(
            rf"$P = {prompts}$, $m = {draws}$: distinct prompts, mean over all {len(seen)} draws",
            sp.Rational(sum(seen), len(seen)),
            f["distinct"].subs({pool: prompts, m: draws}),
        )
    g_N, draws = (0, 1, 5, 2), 3
    means = [Fraction(sum(d), 3) for d in product(g_N, repeat=3) if len(set(d)) == 3]
    mean = sum(means) / len(means)
    variance = sum((x - mean) ** 2 for x in means) / len(means)
    yield Exact(
        rf"$g = {g_N}$, three of them without replacement: variance of their mean, all 24 draws",
        rational(variance),
        f["apart"].subs({between: sp.Rational(14, 4), pool: 4, m: draws}),
    )
    # one prompt twice (sigma 3) and one once (sigma 2): sigma (6, 2) with 8 rollouts
    best = best_split(_negative_variance((6, 2)), 8, 2, 1)
    apart = best_split(_negative_variance((3, 3, 2)), 8, 3, 1)
    yield Exact(
        r"$\sigma = 3$ drawn twice, $\sigma = 2$ once, $N = 8$: quota of the merged prompt, by all splits of the parts",
        apart[0] + apart[1],
        best_split(_negative_variance((int(f["merged"].subs({copies: 2, sigma: 3})), 2)), 8, 2, 1)[
            0
        ],
    )
    yield Exact(
        r"$\sum\sigma^2/n$ of the parts and of the merged prompts",
        -rational(_negative_variance((3, 3, 2))(apart)),
        -rational(_negative_variance((6, 2))(best)),
    )


def _sample_duplicates(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    prompts, draws = 40, 30
    chosen = np.sort(rng.integers(prompts, size=(20_000, draws)), axis=1)
    yield Estimate.of(
        "distinct prompts among 30 draws from 40",
        1.0 + (np.diff(chosen, axis=1) > 0).sum(axis=1),
        expected=float(f["distinct"].subs({pool: prompts, m: draws})),
        control=prompts * (1 - np.exp(-draws / prompts)),
        control_is="Poisson approximation",
    )
    g_N = rng.standard_normal(10)
    order = rng.permuted(np.tile(g_N, (20_000, 1)), axis=1)[:, :6]
    yield Estimate.of(
        "squared error of the mean of 6 of 10 prompts, without replacement",
        (order.mean(axis=1) - g_N.mean()) ** 2,
        expected=float(f["apart"].subs({between: g_N.var(), pool: 10, m: 6})),
        control=float(g_N.var() / 6),
        control_is="with replacement",
    )


CLAIMS = [
    Claim(
        number="4.1",
        source="Eq. (15), Eq. (16)",
        title="Variance of the estimate, with quotas fixed beforehand",
        status=Status.CONDITIONAL,
        statement=r"Given the drawn prompts, the total variance of estimate (16) is the sum over them of "
        r"$<<within>>$, $\sigma^2$ the variance of one rollout's gradient. If the prompts are $m$ "
        r"independent draws and every draw gets $n$ rollouts, it is $$<<total>>$$ in all, with $b$ the "
        r"variance of the prompts' mean gradients under the sampling distribution and $\sigma^2$ averaged "
        r"under it. Quotas do not touch $b/m$.",
        condition=r"Each quota is fixed before the rollouts it counts are seen, and the advantage of a "
        r"rollout does not depend on the others (known $p$, no group mean). A prompt that stops after its "
        r"first success, with at most two rollouts, has a mean reward that is too large by $<<bias>>$.",
        formulas={
            "within": sigma**2 / (m**2 * n),
            "total": (between + sigma**2 / n) / m,
            "bias": p * (1 - p) / 2,
        },
        prove=_prove_variance,
        enumerate=_enumerate_variance,
        sample=_sample_variance,
    ),
    Claim(
        number="4.2",
        source="Eq. (20)",
        title="Quotas in proportion to sigma, and the minimum",
        status=Status.PROVED,
        statement=r"Among all positive real quotas with sum $N$, the variance given the drawn prompts is "
        r"least at $n_i = <<quota>>$, with $s = \sum_j\sigma_j$, and only there. The minimum is "
        r"$$<<minimum>>.$$",
        formulas={"quota": budget * sigma / total, "minimum": total**2 / (m**2 * budget)},
        prove=_prove_optimum,
        enumerate=_enumerate_optimum,
        sample=_sample_optimum,
    ),
    Claim(
        number="4.3",
        source="Eq. (20)",
        title="Gain over equal quotas",
        status=Status.PROVED,
        statement=r"Given the drawn prompts, equal quotas have $<<gain>>$ times the minimum, one plus the "
        r"squared coefficient of variation of $\sigma$ over the drawn prompts. For many prompts with "
        r"$\sigma = \sqrt{p(1-p)}$ and $p$ spread like Beta$(\alpha, \beta)$ this is $$<<gain_beta>>.$$ "
        r"Uniformly spread rates give $32/(3\pi^2) \approx 1.081$: all that (20) can gain there is eight "
        r"percent. Beta$(1/2, 1/2)$ gives $\pi^2/8 \approx 1.234$.",
        formulas={
            "gain": 1 + cv_sq,
            "gain_beta": alpha
            * beta
            * (alpha + beta)
            * (sp.gamma(alpha) * sp.gamma(beta)) ** 2
            / (alpha + beta + 1)
            / (sp.gamma(alpha + sp.Rational(1, 2)) * sp.gamma(beta + sp.Rational(1, 2))) ** 2,
        },
        prove=_prove_gain,
        enumerate=_enumerate_gain,
        sample=_sample_gain,
    ),
    Claim(
        number="4.4",
        source="not in the paper",
        title="The part between prompts, and where quotas stop mattering",
        status=Status.PROVED,
        statement=r"Over $m$ independent draws with quotas (20), the total variance of (16) is $$<<total>>,$$ "
        r"$\bar\sigma$ and $v$ the mean and the variance of $\sigma$ under the sampling distribution. Equal "
        r"quotas add $<<saving>>$. With $\bar n = N/m$ rollouts per prompt and many prompts, the ratio of "
        r"the two is $$<<gain>>,$$ of which half is gone at $\bar n = <<half>>$: once a group's own noise "
        r"$\bar\sigma^2/\bar n$ is below the difference $b$ between prompts, it no longer matters how the "
        r"rollouts are split. At a fixed $N$ the variance falls with $m$, so that more prompts with "
        r"fewer rollouts each are always better, for an advantage that needs no group.",
        formulas={
            "total": between / m + mean_sigma**2 / budget + var_sigma / (m * budget),
            "saving": var_sigma * (m - 1) / (m * budget),
            "gain": 1 + cv_sq / (1 + per_prompt * between / mean_sigma**2),
            "half": mean_sigma**2 / between,
        },
        prove=_prove_between,
        enumerate=_enumerate_between,
        sample=_sample_between,
    ),
    Claim(
        number="4.5",
        source="Eq. (20)",
        title="Whole rollouts: greedy is exactly optimal, rounding is not",
        status=Status.FALSE,
        statement=r"Quotas are whole numbers, and (20) is not: rounded, as in the released code, it is "
        r"taken to be optimal.",
        correction=r"Start every prompt at its minimum and give one rollout after another to the prompt "
        r"where it lowers the variance most, by $$<<marginal>>$$ (times $1/m^2$): the result is optimal "
        r"among all splits into whole numbers. In closed form $n_i$ is the largest number with "
        r"$n_i(n_i - 1) \le (\sigma_i t)^2$ for a common $t$: the real quota $\sigma_i t$ is rounded at the "
        r"geometric mean $<<threshold>>$ of its neighbours and not at a half. Rounding (20) by largest "
        r"remainders can lose.",
        formulas={
            "marginal": sigma**2 / (n * (n + 1)),
            "threshold": sp.sqrt(n * (n + 1)),
        },
        prove=_prove_integer,
        enumerate=_enumerate_integer,
        sample=_sample_integer,
    ),
    Claim(
        number="4.6",
        source="not in the paper",
        title="The cost of a wrong sigma",
        status=Status.PROVED,
        statement=r"Quotas in proportion to a guess $\hat\sigma$ multiply the minimum by "
        r"$\sum\hat\sigma\,\sum(\sigma^2/\hat\sigma)\,/\,s^2$. If the ratio $\hat\sigma/\sigma$ varies at "
        r"most by a factor $M$ between prompts this is at most $$<<worst>>.$$ If it is log-normal, with "
        r"standard deviation $\omega$ of its logarithm and independent of $\sigma$, the factor tends to "
        r"$<<lognormal>>$ with the number of prompts, and equal quotas are better than (20) once "
        r"$\omega^2$ exceeds $<<break_even>>$. For $\sigma = \sqrt{p(1-p)}$ and uniformly spread rates that "
        r"is at an error of 28 percent in $\sigma$.",
        formulas={
            "worst": (1 + spread) ** 2 / (4 * spread),
            "lognormal": sp.exp(noise**2),
            "break_even": sp.log(1 + cv_sq),
        },
        prove=_prove_wrong_sigma,
        enumerate=_enumerate_wrong_sigma,
        sample=_sample_wrong_sigma,
    ),
    Claim(
        number="4.7",
        source="Algorithm 1 and Eq. (20)",
        title="Duplicates when prompts are drawn with replacement",
        status=Status.PROVED,
        statement=r"A prompt drawn $k$ times is one group with $\sigma$ replaced by $<<merged>>$ and the "
        r"weight $k/m$: same variance, same quota as its $k$ parts together. Of $P$ prompts, $m$ uniform "
        r"draws show on average $$<<distinct>>$$ distinct ones, 63 percent of them at $m = P$. Drawing "
        r"uniformly without replacement lowers the part between prompts from $b/m$ to $$<<apart>>,$$ "
        r"which is nothing at $m = P$.",
        formulas={
            "merged": copies * sigma,
            "distinct": pool * (1 - (1 - 1 / pool) ** m),
            "apart": between * (pool - m) / (m * (pool - 1)),
        },
        prove=_prove_duplicates,
        enumerate=_enumerate_duplicates,
        sample=_sample_duplicates,
    ),
]
