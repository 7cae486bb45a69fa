r"""Which scale of a group's advantages gives the least noise for its signal.

The advantages are :math:`A = c(k) (r - \bar r)`, where k of the n rollouts are right: c is constant for
RLOO and Dr.GRPO and :math:`1/\sqrt{k(n-k)}`, up to a constant, for GRPO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.finite_groups import THREE, V_0, V_1, binomial_mean, is_mixed, k, mixed, values
from theory.group_draws import Array
from theory.group_normalisation import V
from theory.outcomes import SmallPolicy, centred, expectation, groups, rational
from theory.score_law import D
from theory.search import largest
from theory.symbols import n, p

root = sp.Symbol("w", positive=True)  # E sqrt(k (n - k))


# 6.6 -------------------------------------------------------------------------------------------

power = k * (n - k) * D**2 + (n - k) * V_1 + k * V_0  # n^4 E|g-hat|^2 is E[c^2 k (n - k) power]
chance = sp.binomial(n, k) * p**k * (1 - p) ** (n - k)


def _best(f: Formulas, size: int) -> sp.Expr:
    return binomial_mean(size, f["term"].subs(n, size), 1, size - 1)


def _grpo(f: Formulas, size: int) -> sp.Expr:
    mean_root = binomial_mean(size, sp.sqrt(k * (size - k)), 1, size - 1)
    return f["grpo"].subs({n: size, root: mean_root})


def _prove_best(f: Formulas) -> Iterator[Step]:
    c, t, w, size = sp.symbols("c t w M", positive=True)
    weight_1, weight_0 = c * (n - k) / n**2, c * k / n**2  # |A| / n
    yield Step(
        r"Given $k$, $\mathbb{E}|\hat g|^2$ with $A = c(k)(r - \bar r)$ is, from the mean and the "
        r"spread of the weighted scores,",
        (k * weight_1) ** 2 * D**2 + k * weight_1**2 * V_1 + (n - k) * weight_0**2 * V_0,
        c**2 * k * (n - k) / f["scale"] / n**4,
    )
    yield Step(
        r"Write $w = k(n-k)$, $M = 1/c^*$. For any $c$",
        c**2 * w * size,
        2 * c * w - w / size,
        certificate=w * (c * size - 1) ** 2 / size,
    )
    a, b = sp.symbols("a b", positive=True)  # E[c w], E[w / M]
    yield Step(
        r"With $t c$ for $c$ and means taken, $a = \mathbb{E}[cw]$ and $b = \mathbb{E}[w/M]$: "
        r"$\mathbb{E}[c^2 w M] \ge (2ta - b)/t^2$, at $t = b/a$",
        ((2 * t * a - b) / t**2).subs(t, b / a),
        a**2 / b,
        name=r"\left. \frac{2 t a - b}{t^2} \right|_{t = b/a}",
    )
    yield Step(
        r"The ratio $|\mathbb{E}\,\hat g|^2/\mathbb{E}|\hat g|^2 = D^2 a^2/\mathbb{E}[c^2 w M]$ is "
        r"thus at most $D^2 b$. For $n = 3$, where mixed groups have $k = 1$ or 2:",
        D**2 * binomial_mean(3, (k * (3 - k) * f["scale"].subs(n, 3)), 1, 2),
        _best(f, 3),
    )
    yield Step(
        r"If $V_1 = V_0 = V$ and $n D^2 \ll V$, $M$ is $nV$, the same for all $k$ (RLOO), and the ratio",
        D**2 * n * (n - 1) * p * (1 - p) / (n * V),
        f["rloo"],
        name=r"\frac{D^2\, \mathbb{E}\,k (n-k)}{n V}",
    )
    yield Step(
        r"while GRPO, $c = 1/\sqrt w$, has $D^2(\mathbb{E}\sqrt w)^2/(nV\,P(n))$; here $n = 4$.",
        D**2 * binomial_mean(4, sp.sqrt(k * (4 - k)), 1, 3) ** 2 / (4 * V * mixed.subs(n, 4)),
        _grpo(f, 4),
        name=r"\frac{D^2 (\mathbb{E}\sqrt w)^2}{4 V\, P(4)}",
    )
    yield Step(
        r"By the same inequality GRPO never has more, and as much only where $w$ is constant over mixed "
        r"groups: for $n = 2$, $n = 3$,",
        _grpo(f, 3),
        f["rloo"].subs(n, 3),
    )
    yield Step(
        r"and not from $n = 4$ on, for $w$ grows from $k = 1$ to $k = 2$ by",
        (k * (n - k)).subs(k, 2) - (k * (n - k)).subs(k, 1),
        n - 3,
        name=r"2 (n-2) - (n-1)",
    )
    yield Step(
        r"For $n = 4$ it loses the share",
        sp.factor(1 - _grpo(f, 4) / f["rloo"].subs(n, 4)),
        p * (1 - p) * (2 - sp.sqrt(3)) ** 2 * (1 - 2 * p * (1 - p)) / (2 - p * (1 - p)),
    )


def _enumerate_best(f: Formulas) -> Iterator[Exact]:
    for size in (2, 3, 4):
        at = {**values(THREE), n: size}
        scale = {count: f["scale"].subs({**at, k: count}) for count in range(1, size)}
        ratio = _ratio(THREE, size, lambda right, s=scale: s[right])  # type: ignore[misc]
        yield Exact(
            rf"3 answers, $n = {size}$: $|\mathbb{{E}}\,\hat g|^2/\mathbb{{E}}|\hat g|^2$ with "
            rf"$c^*$ over all {3**size} "
            r"outcomes",
            ratio,
            _best(f, size).subs(at),
        )
        others = (lambda right: sp.Integer(1), lambda right: sp.Rational(1, right))
        for what, other in zip(("RLOO", "$c = 1/k$"), others, strict=True):
            yield Exact(
                f"the same with {what}", _ratio(THREE, size, other), _best(f, size).subs(at), "<="
            )
    # scores that do not know the reward, of square 1, beside a shift of the mean: D^2 -> 0
    rate = sp.Rational(1, 3)
    at = {p: rate, n: 4, V: 1, D: 1}
    mean_root = binomial_mean(4, sp.sqrt(k * (4 - k)), 1, 3).subs(p, rate)
    yield Exact(
        r"$p = 1/3$, $n = 4$, small $D^2$, in units of $D^2/V$: GRPO",
        sp.expand(mean_root**2)
        / (4 * expectation(Fraction(1, 3), 4, lambda r: Fraction(is_mixed(r)))),
        sp.expand(_grpo(f, 4).subs(at)),
    )
    yield Exact(
        "$p = 1/3$, $n = 4$, small $D^2$, in units of $D^2/V$: GRPO below RLOO",
        sp.expand(_grpo(f, 4).subs(at)),
        f["rloo"].subs(at),
        "<",
    )


def _ratio(policy: SmallPolicy, size: int, scale: Callable[[int], sp.Rational]) -> sp.Expr:
    """Squared length of the mean over the mean square of a group's estimate, by enumeration."""
    total = [sp.Integer(0)] * len(policy.score_K[0])
    square = sp.Integer(0)
    for group, weight in groups(policy.pi_K, size):
        rewards = tuple(int(a in policy.right) for a in group)
        if not is_mixed(rewards):
            continue
        factor_ = scale(sum(rewards))
        advantage = centred(rewards)
        vector = [
            sum(
                (x * policy.score_K[a][d] for x, a in zip(advantage, group, strict=True)),
                Fraction(),
            )
            for d in range(len(total))
        ]
        total = [
            x + rational(weight) * factor_ * rational(y) for x, y in zip(total, vector, strict=True)
        ]
        square += rational(weight) * factor_**2 * rational(sum((y * y for y in vector), Fraction()))
    return sum(x * x for x in total) / square


def _sample_best(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    size, at = 6, {p: 0.2, V_1: 1.0, V_0: 0.5, D: 1.5, n: 6}
    count_K = np.arange(1, size, dtype=np.float64)
    chance_K = np.array([float(chance.subs({**at, k: int(c)})) for c in count_K])
    product_K = count_K * (size - count_K)
    power_K = numeric(power.subs(at), k)(count_K)

    def ratio(scale_K: Array) -> float:
        mean = (chance_K * scale_K * product_K).sum()
        return float(1.5**2 * mean**2 / (chance_K * scale_K**2 * product_K * power_K).sum())

    start = rng.uniform(0.5, 1.5, size - 1)
    found, _ = largest(ratio, start)
    yield Search(
        r"$n = 6$, $p = .2$, $V_1 = 1$, $V_0 = 1/2$, $D = 3/2$: best scale for each $k$",
        claimed=float(_best(f, size).subs(at)),
        found=found,
        control=ratio(1 / np.sqrt(product_K)),
        control_is="GRPO",
        sense="max",
    )
    rate, many = 0.2, 5
    count_K = np.arange(1, many, dtype=np.float64)
    weight_K = np.array([float(chance.subs({p: rate, n: many, k: int(c)})) for c in count_K])

    def plain(scale_K: Array) -> float:
        mean = (weight_K * scale_K * count_K * (many - count_K)).sum()
        return float(mean**2 / (many * (weight_K * scale_K**2 * count_K * (many - count_K)).sum()))

    found, _ = largest(plain, start[: many - 1])
    plain_at = {p: rate, n: many, V: 1, D: 1}
    yield Search(
        r"$n = 5$, $p = .2$, small $D^2$: best scale for each $k$, in units of $D^2/V$",
        claimed=float(f["rloo"].subs(plain_at)),
        found=found,
        control=float(_grpo(f, many).subs(plain_at)),
        control_is="GRPO",
        sense="max",
    )
    right_S = rng.binomial(many, rate, size=400_000)
    yield Estimate.of(
        r"$n = 5$, $p = .2$: mean of $k(n-k)/n$, the ratio of RLOO in units of $D^2/V$",
        right_S * (many - right_S) / many,
        expected=float(f["rloo"].subs(plain_at)),
        control=float(_grpo(f, many).subs(plain_at)),
        control_is="GRPO",
    )


CLAIMS = [
    Claim(
        number="6.6",
        source="not in the paper",
        title="The best scale of a group's advantages",
        status=Status.PROVED,
        statement=r"""
Let $A = c(k)(r - \bar r)$ with any scale $c$ that depends on the number $k$ of right answers. The ratio
$|\mathbb{E}\,\hat g|^2/\mathbb{E}|\hat g|^2$, of which signal to noise is an increasing function,
is largest for
$$c^*(k) = <<scale>>,$$
where it is
$$\sum_{k=1}^{n-1} \binom{n}{k} p^k (1-p)^{n-k}\; <<term>>.$$
Where $V_1 = V_0 = V$ and $n D^2$ is small beside $V$ (long answers), $c^*$ is constant to leading order:
RLOO and Dr.GRPO have the best ratio, $<<rloo>>$, and GRPO has
$$<<grpo>>, \qquad w = \mathbb{E}\sqrt{k(n-k)},$$
as much for $n = 2, 3$ and less from $n = 4$ on.""",
        formulas={
            "scale": 1 / power,
            "term": D**2 * k * (n - k) / power,
            "rloo": (n - 1) * p * (1 - p) * D**2 / V,
            "grpo": D**2 * root**2 / (n * V * mixed),
        },
        prove=_prove_best,
        enumerate=_enumerate_best,
        sample=_sample_best,
    ),
]
