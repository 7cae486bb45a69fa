r"""How many rollouts tell a coin, whose reward ignores the answer, from a prompt that teaches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.score_law import mean_and_variance, softmax_law
from theory.score_products import (
    along,
    distinct_mean,
    distinct_mean_of,
    gram,
    named,
    noise,
    slope_sq,
    spread_sq,
    variance_u,
)
from theory.symbols import n

K = sp.Symbol("K", integer=True, positive=True)  # answers
z = named("z")  # standard errors

rollouts = (1 + sp.sqrt(1 + 8 * z**2 * spread_sq / slope_sq**2)) / 2


def _prove_coin(f: Formulas) -> Iterator[Step]:
    coin = variance_u.subs(along, 0)  # a coin has g = 0
    yield Step(
        r"On a coin $g = 0$, and by 8.5 the estimate has mean 0 and variance "
        r"$2\operatorname{Tr}\Sigma^2/(n(n-1))$. At the claimed $n$, $z$ standard deviations, "
        r"squared, are",
        sp.simplify((z**2 * coin).subs(n, f["rollouts"])),
        slope_sq**2,
        name=r"z^2\, \frac{2 \mathrm{Tr}\Sigma^2}{n (n-1)}",
    )
    shift = sp.Symbol("c", positive=True)
    level = sp.Symbol("T", positive=True)
    spread_2 = level**2 / z**2  # variance, when the level is z standard deviations
    markov = (spread_2 + shift**2) / (level + shift) ** 2
    best = next(x for x in sp.solve(sp.diff(markov, shift), shift) if x.is_positive)
    yield Step(
        r"$P(U \ge T) \le \mathbb{E}(U + c)^2/(T + c)^2$ for every $c > 0$; with $T$ of $z$ standard "
        r"deviations and the best $c$ (Cantelli)",
        sp.simplify(markov.subs(shift, best)),
        f["error"],
        name=r"\min_c \frac{T^2/z^2 + c^2}{(T + c)^2}",
    )
    diagonal, off = 1 / K - 1 / K**2, -1 / K**2  # Fisher matrix of K equal answers
    coin_square = (K * diagonal**2 + K * (K - 1) * off**2) / 16
    yield Step(
        r"Table of $K$ equally likely answers. Fair coin: $\Sigma = F/4$ with "
        r"$F = I/K - \mathbf 1 \mathbf 1^\top/K^2$, so $\operatorname{Tr}\Sigma^2$ is",
        sp.factor(coin_square),
        (K - 1) / (16 * K**2),
        name=r"\mathrm{Tr}\Sigma^2 = \tfrac{1}{16} \mathrm{Tr} F^2",
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
        name=r"\tfrac{1}{16} \mathrm{Tr} F^2 - \mathrm{Tr}\Sigma^2",
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
    yield Exact("4 answers: linear noise of the prompt that teaches", 0, noise(real)[along])
    yield Exact(r"4 answers: $\operatorname{Tr}\Sigma^2$ below the coin's by",
                coin_square - noise(real)[spread_sq], f["less"].subs(K, 4))  # fmt: skip


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
        number="8.9",
        source="not in the paper",
        title="Rollouts that tell a coin from a prompt that teaches",
        status=Status.PROVED,
        statement=r"""A coin and a prompt that teaches may have the same success rate: no number of
rewards tells them apart. The estimate 8.5 does. On a coin it is zero on average, and $|g|^2$ of the
other prompt lies $z$ of its standard deviations away for
$$n = <<rollouts>>$$
rollouts, $\Sigma$ being that of the coin. A coin then reaches $|g|^2$ with chance at most
$<<error>>$, whatever the law. For a table of $K$ equally likely answers, $K$ even, a fair coin
against half of the answers right, $n$ is
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
