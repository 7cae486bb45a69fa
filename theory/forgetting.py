r"""Forgetting: what a posterior knows when the policy moves and old evidence is discounted.

At each update the evidence is multiplied by 1 - lambda, then n rollouts are added. The frequency of
right answers in the discounted evidence is an exponential moving average; all claims are about its
fixed point, without the prior, which pulls it towards its own mean with a weight given in the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import sympy as sp
from scipy.optimize import minimize_scalar

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step
from theory.decide import solution
from theory.symbols import alpha, beta, n, p

forget = sp.Symbol("lambda", positive=True)  # share of the evidence lost per update
updates = sp.Symbol("t", integer=True, positive=True)
drift = sp.Symbol("v", real=True)  # change of the success rate per update
kappa = sp.Symbol("kappa", positive=True)  # variance of the drift over that of the frequency of n

steady_count = n / forget
prior_weight = (alpha + beta) / (alpha + beta + n / forget)
variance_after = (
    p * (1 - p) * forget * (1 + (1 - forget) ** updates)
    / (n * (2 - forget) * (1 - (1 - forget) ** updates))
)  # fmt: skip
steady_variance = p * (1 - p) * forget / (n * (2 - forget))
believed_variance = p * (1 - p) * forget / (n + forget)
lag = -drift * (1 - forget) / forget

tracking_error = p * (1 - p) / n * (forget**2 + (1 - forget) ** 2 * kappa) / (forget * (2 - forget))
best_forgetting = (sp.sqrt(kappa**2 + 4 * kappa) - kappa) / 2
least_error = p * (1 - p) / n * (sp.sqrt(kappa**2 + 4 * kappa) - kappa) / 2


def _prove_steady(f: Formulas) -> Iterator[Step]:
    keep = 1 - forget
    variance, gap = sp.symbols("V b")
    total = sp.Symbol("T", positive=True)
    yield Step(
        r"The count is the fixed point of $T = (1 - \lambda) T + n$:",
        keep * sp.UnevaluatedExpr(f["count"]) + n,
        f["count"],
    )
    right = solution(variance - keep**2 * variance - n * p * (1 - p), variance)
    yield Step(
        r"The number of right answers has the variance $V = (1 - \lambda)^2 V + "
        r"n p (1 - p)$; over $T^2$:",
        right / f["count"] ** 2,
        f["variance"],
        name=r"\frac{V}{T^2}",
    )
    ratio = (1 - keep ** (2 * updates)) / (1 - keep**2) / ((1 - keep**updates) / forget) ** 2
    yield Step(
        r"After $t$ updates: $\sum_k (1-\lambda)^{2k}$ over $(\sum_k (1-\lambda)^k)^2$, $k < t$, times "
        r"$p(1-p)/n$.",
        ratio * p * (1 - p) / n,
        f["after"],
    )
    yield Step(
        r"It tends to the fixed point as $(1 - \lambda)^t \to 0$.",
        f["after"].subs(keep**updates, 0),
        f["variance"],
        name=r"\lim_{t \to \infty} \operatorname{Var} m",
    )
    yield Step(
        r"A Beta law of these counts, without prior, has the variance $m(1-m)/(T + 1)$, at $m = p$",
        p * (1 - p) / (f["count"] + 1),
        f["believed"],
    )
    yield Step(
        r"Over the true variance this is 2 less a share that grows with $\lambda$ and is 1 at "
        r"$\lambda = n/(n+1)$:",
        f["believed"] / f["variance"],
        2 - forget * (n + 2) / (n + forget),
    )
    yield Step(
        r"If $p$ grows by $v$ per update, the gap $b = \mathbb{E}\,m - p$ obeys $b = (1 - "
        r"\lambda)(b - v)$.",
        solution(gap - keep * (gap - drift), gap),
        f["lag"],
    )
    yield Step(
        r"The prior's share of all counts.",
        sp.Subs((alpha + beta) / (alpha + beta + total), total, f["count"]),
        f["prior"],
    )


def _enumerate_steady(f: Formulas) -> Iterator[Exact]:
    rate, loss = sp.Rational(1, 3), sp.Rational(1, 4)
    at = {p: rate, forget: loss, n: 2}
    for steps in (1, 3):
        first = second = sp.Integer(0)
        for answers in product((0, 1), repeat=2 * steps):
            chance = rate ** sum(answers) * (1 - rate) ** (2 * steps - sum(answers))
            count = success = sp.Integer(0)
            for k in range(steps):
                count = (1 - loss) * count + 2
                success = (1 - loss) * success + answers[2 * k] + answers[2 * k + 1]
            first += chance * success / count
            second += chance * (success / count) ** 2
        yield Exact(
            rf"variance after {steps} updates, $n = 2$, $p = 1/3$, $\lambda = 1/4$, all outcomes",
            second - first**2,
            f["after"].subs({**at, updates: steps}),
        )
    slope = sp.Rational(1, 100)
    count = f["count"].subs(at)
    gap = f["lag"].subs({**at, drift: slope})
    success = count * (rate + gap)
    for step in range(1, 6):
        count = (1 - loss) * count + 2
        success = (1 - loss) * success + 2 * (rate + step * slope)
    yield Exact(r"lag 5 updates later, $v = 1/100$", success / count - rate - 5 * slope, gap)
    yield Exact("count 5 updates later", count, f["count"].subs(at))
    yield Exact(
        "prior's share with two pseudo-counts",
        2 / (2 + count),
        f["prior"].subs({**at, alpha: 1, beta: 1}),
    )


def _sample_steady(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    loss, size, chains, steps = 0.2, 4, 20_000, 60
    at = {forget: sp.Rational(1, 5), n: size, p: sp.Rational(3, 10)}
    mean_S = _moving_average(rng, np.full(steps, 0.3), loss, size, chains)
    yield Estimate.of(
        r"$(m - p)^2$, $\lambda = 0.2$, $n = 4$, $p = 0.3$",
        (mean_S - 0.3) ** 2,
        expected=float(f["variance"].subs(at)),
        control=float(believed_variance.subs(at)),
        control_is="what the Beta law of these counts believes",
    )
    rate_U = 0.3 + 0.005 * np.arange(1 - steps, 1)
    mean_S = _moving_average(rng, np.maximum(rate_U, 0.0), loss, size, chains)
    yield Estimate.of(
        r"$m - p$ at $p = 0.3$, rising by $v = 0.005$ per update",
        mean_S - 0.3,
        expected=float(f["lag"].subs({**at, drift: sp.Rational(1, 200)})),
        control=-0.005 / loss,
        control_is="one update older",
    )


def _moving_average(
    rng: np.random.Generator, rate_U: np.ndarray, loss: float, size: int, chains: int
) -> np.ndarray:
    """Discounted frequency after the last update of many independent prompts."""
    count, success_S = 0.0, np.zeros(chains)
    for rate in rate_U:
        count = (1 - loss) * count + size
        success_S = (1 - loss) * success_S + rng.binomial(size, rate, chains)
    return success_S / count


def _prove_tracking(f: Formulas) -> Iterator[Step]:
    error = sp.Symbol("M")
    noise = p * (1 - p) / n
    fixed = sp.Eq(error, forget**2 * noise + (1 - forget) ** 2 * (error + kappa * noise))
    yield Step(
        r"The error is the share $\lambda$ of new noise and $1 - \lambda$ of the old error plus the "
        r"drift: fixed point of $M = \lambda^2 \frac{p(1-p)}{n} + (1-\lambda)^2 (M + \kappa "
        r"\frac{p(1-p)}{n})$.",
        solution(fixed, error),
        f["error"],
    )
    yield Step(
        r"Its derivative has the sign of $\lambda^2 - (1 - \lambda) \kappa$, which increases in "
        r"$\lambda$: one minimum.",
        sp.diff(f["error"], forget),
        2 * noise * (forget**2 - (1 - forget) * kappa) / (forget**2 * (2 - forget) ** 2),
    )
    yield Step(r"The claimed share is its positive zero,", f["best"] ** 2, (1 - f["best"]) * kappa)
    odds = sp.Symbol("o", positive=True)
    zero = {kappa: 1 / (odds * (1 + odds))}
    yield Step(
        r"the positive one: if $\lambda = 1/(1 + o)$ makes the derivative vanish, then $\kappa = "
        r"\lambda^2/(1 - \lambda) = 1/(o (1 + o))$, from which it is recovered.",
        sp.factor(f["best"].subs(zero), deep=True),
        1 / (1 + odds),
        name=r"\left. \frac{\sqrt{\kappa^2 + 4 \kappa} - \kappa}{2} \right|_{\kappa = 1/(o (1 + o))}",
    )
    at_zero = f["error"].subs(kappa, forget**2 / (1 - forget))
    yield Step(
        r"There the error is $\lambda$ times the variance of the newest frequency.",
        at_zero / forget * f["best"],
        f["least"],
    )


def _enumerate_tracking(f: Formulas) -> Iterator[Exact]:
    noise = sp.Rational(1, 16)  # p (1 - p) / n at p = 1/2, n = 4
    at = {p: sp.Rational(1, 2), n: 4}
    for ratio, share in (
        (sp.Rational(1, 2), sp.Rational(1, 2)),
        (sp.Rational(1, 12), sp.Rational(1, 4)),
    ):
        where = rf"$\kappa = {ratio}$"
        yield Exact(f"best forgetting, {where}", share, f["best"].subs(kappa, ratio))
        values = {**at, kappa: ratio}
        for loss in (share, sp.Rational(1, 3)):
            error = f["error"].subs({**values, forget: loss})
            stays = sum(
                (loss * x + (1 - loss) * (y + z)) ** 2
                for x, y, z in product(
                    *((-sp.sqrt(v), sp.sqrt(v)) for v in (noise, error, ratio * noise))
                )
            )
            yield Exact(
                rf"error one update later, {where}, $\lambda = {loss}$, all signs of the three parts",
                sp.expand(stays) / 8,
                error,
            )
        yield Exact(
            f"error at its best, {where}",
            f["error"].subs({**values, forget: share}),
            f["least"].subs(values),
        )
        yield Exact(
            rf"error at $\lambda = 1/3$, {where}",
            f["error"].subs({**values, forget: sp.Rational(1, 3)}),
            f["least"].subs(values),
            ">",
        )


def _sample_tracking(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    ratio = 0.05

    def error(loss: float) -> float:
        value = 1.0
        for _ in range(1000):
            value = loss**2 + (1 - loss) ** 2 * (value + ratio)
        return value

    found = minimize_scalar(error, bounds=(0.01, 0.9), method="bounded", options={"xatol": 1e-9})
    at = {kappa: sp.Rational(1, 20), p: sp.Rational(1, 2), n: 4}
    yield Search(
        r"error over $p(1-p)/n$, $\kappa = 0.05$, over $\lambda$",
        claimed=float(f["least"].subs(at)) * 16,
        found=float(found.fun),
        control=error(0.05),
        control_is=r"at $\lambda = \kappa$",
        sense="min",
    )
    loss, chains = float(f["best"].subs(at)), 40_000
    walk_S, mean_S = np.zeros(chains), np.zeros(chains)
    for _ in range(80):
        walk_S += np.sqrt(ratio / 16) * rng.standard_normal(chains)
        seen_S = walk_S + 0.25 * rng.choice([-1.0, 1.0], chains)
        mean_S = (1 - loss) * mean_S + loss * seen_S
    yield Estimate.of(
        r"squared error of the tracked rate, $\kappa = 0.05$, $p(1-p)/n = 1/16$",
        (mean_S - walk_S) ** 2,
        expected=float(f["least"].subs(at)),
        control=float(steady_variance.subs({**at, forget: loss})),
        control_is="without drift",
    )


CLAIMS = [
    Claim(
        number="7.8",
        source="not in the paper",
        title="Forgetting: steady-state variance, and lag under drift",
        status=Status.PROVED,
        statement=r"""Let evidence be multiplied by $1 - \lambda$ at each update, after which $n$
rollouts with success rate $p$ are added. The count of evidence settles at $<<count>>$. With $p$
constant, the frequency $m$ of right answers in it is unbiased with variance
$$<<after>>$$
after $t$ updates, in the end $<<variance>>$. A Beta law of these counts reports $<<believed>>$
instead (at $m = p$): more if $\lambda < n/(n+1)$, and nearly twice as much if $\lambda$ is small.
Discounted counts understate what is known about a rate that stands still. If $p$ drifts by $v$ per
update, $m$ is off in the end by
$$<<lag>>$$
on average. The prior never fades below the weight
$$<<prior>>.$$
For a prompt visited at every $k$-th update only, all this holds at its visits with
$1 - (1 - \lambda)^k$ for $\lambda$ and the drift per visit for $v$.""",
        formulas={
            "count": steady_count,
            "after": variance_after,
            "variance": steady_variance,
            "believed": believed_variance,
            "lag": lag,
            "prior": prior_weight,
        },
        prove=_prove_steady,
        enumerate=_enumerate_steady,
        sample=_sample_steady,
    ),
    Claim(
        number="7.9",
        source="not in the paper",
        title="The best forgetting is the steady Kalman gain",
        status=Status.CONDITIONAL,
        condition=r"""The success rate moves by independent steps of mean 0, and the variance
$p(1-p)$ of an answer may be taken as constant meanwhile.""",
        statement=r"""Let $\kappa$ be the variance of the success rate's step per update divided by
$p(1-p)/n$, the variance of the frequency among the $n$ new rollouts. The mean squared error of the
discounted frequency settles at
$$<<error>>,$$
which is smallest for
$$\lambda = <<best>>,$$
about $\sqrt{\kappa}$ for slow drift, and then is
$$<<least>>.$$""",
        formulas={"error": tracking_error, "best": best_forgetting, "least": least_error},
        prove=_prove_tracking,
        enumerate=_enumerate_tracking,
        sample=_sample_tracking,
    ),
]
