r"""What sampling prompts from rho does for the objective of the dataset, whose distribution is mu.

(12) and (13) speak of the success rate averaged over what is sampled. The dataset's own is
:math:`J = \mathbb{E}_\mu p`. Formulas for two prompts have the shares :math:`\mu, 1 - \mu` of the
dataset and :math:`\rho, 1 - \rho` of the sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import sympy as sp

from theory import policies
from theory.average_bound import average
from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.decide import solution
from theory.rewards import drawn_improvements
from theory.search import Vector, largest
from theory.symbols import delta, m, own_share, p, q, share

sampled_variance = sp.Symbol(r"\bar{v}_{\rho}", positive=True)  # E_rho[p (1-p)]
own_variance = sp.Symbol(r"\bar{v}_{\mu}", positive=True)  # E_mu[p (1-p)]
square_p, square_q = sp.symbols("G_p G_q", positive=True)  # |grad p|^2 of either prompt
moment_p, moment_q = sp.symbols("S_p S_q", positive=True)  # E|X|^2 of one draw of either prompt
mean_root = sp.Symbol(r"\bar{r}", positive=True)  # E_mu sqrt(S)
own_gradient = sp.Symbol(r"|\bar{g}|^2", nonnegative=True)  # of J

natural = own_variance * sp.sqrt(2 * delta / sampled_variance)
plain = (
    sp.sqrt(2 * delta)
    * (own_share * share * square_p + (1 - own_share) * (1 - share) * square_q)
    / sp.sqrt(share**2 * square_p + (1 - share) ** 2 * square_q)
)
best_share = (
    own_share
    * sp.sqrt(moment_p)
    / (own_share * sp.sqrt(moment_p) + (1 - own_share) * sp.sqrt(moment_q))
)
least_variance = (mean_root**2 - own_gradient) / m


# -- 2.7 the dataset's improvement -----------------------------------------------------------------


def _prove_own(f: Formulas) -> Iterator[Step]:
    step = sp.Symbol("t", positive=True)
    variance = p * (1 - p)
    yield Step(
        r"A table, $\rho > 0$ everywhere: $\bar F$ has blocks $\rho F$, the gradient of "
        r"$\mathbb{E}_\rho p$ parts $\rho g$, so that the natural step raises right logits against "
        r"wrong ones by one $t$, alike for all prompts. The average divergence, to second order, is",
        average((variance * step) ** 2 / (2 * variance)),
        average(variance) * step**2 / 2,
    )
    length = sp.sqrt(2 * delta / sampled_variance)
    yield Step(
        r"It is $\delta$ for $t = \sqrt{2\delta/\bar v_\rho}$. What was sampled gains $\bar v_\rho t = "
        r"\sqrt{2\delta\bar v_\rho}$; the dataset gains",
        own_variance * length,
        f["natural"],
        name=r"\bar v_\mu t",
    )
    yield Step(
        r"so that the two gains multiply to $2\delta\bar v_\mu$, whatever $\rho$: a sample of larger "
        r"bound makes a smaller gain.",
        f["natural"] * sp.sqrt(2 * delta * sampled_variance),
        2 * delta * own_variance,
        name=r"\bar v_\mu t \cdot \bar v_\rho t",
    )
    g_1, g_2 = sp.sqrt(square_p), sp.sqrt(square_q)
    own = (
        own_share * g_1,
        (1 - own_share) * g_2,
    )  # gradients of two prompts, parameters of their own
    drawn = (share * g_1, (1 - share) * g_2)
    length_sq = drawn[0] ** 2 + drawn[1] ** 2
    yield Step(
        r"Plain gradient of two prompts with parameters of their own, scaled to the length $|d|^2 = "
        r"2\delta$: the dataset gains",
        sp.sqrt(2 * delta) * (own[0] * drawn[0] + own[1] * drawn[1]) / sp.sqrt(length_sq),
        f["plain"],
        name=r"\nabla J \cdot d",
    )
    yield Step(
        r"In any metric $M$ that does not depend on $\rho$, $d^\top M d = 2\delta$, with $a = "
        r"M^{-1/2}\bar g_\mu$ and $b = M^{-1/2}\bar g_\rho$, the gain is $\sqrt{2\delta}\,a^\top "
        r"b/|b| \le \sqrt{2\delta}\,|a|$ (Cauchy and Schwarz), and $\rho = \mu$ attains this; for "
        r"the two prompts above, $|a|^2 |b|^2 - (a^\top b)^2$ is",
        (own[0] ** 2 + own[1] ** 2) * length_sq,
        (own[0] * drawn[0] + own[1] * drawn[1]) ** 2,
        certificate=square_p * square_q * (own_share - share) ** 2,
    )
    yield Step(
        r"and at $\rho = \mu$ the gain is $\sqrt{2\delta}\,|a|$, squared",
        f["plain"].subs(share, own_share) ** 2,
        2 * delta * (own[0] ** 2 + own[1] ** 2),
        name=r"\left(\nabla J \cdot d\right)^2",
    )


_POOL = (
    (sp.Matrix([1, 3]) / 4, {0}),  # p = 1/4
    (sp.Matrix([1, 2, 3]) / 6, {0, 1}),  # p = 1/2
)


def _gradients(weights: tuple[sp.Expr, sp.Expr]) -> sp.Matrix:
    """Gradient of the weighted success rate in all logits of the table ``_POOL``."""
    return sp.Matrix.vstack(
        *(
            w * policies.gradient(pi, policies.softmax_scores(pi), right)
            for w, (pi, right) in zip(weights, _POOL, strict=True)
        )
    )


def _enumerate_own(f: Formulas) -> Iterator[Exact]:
    own = _gradients((sp.Rational(1, 2), sp.Rational(1, 2)))
    own_v = sp.Rational(1, 2) * (sp.Rational(3, 16) + sp.Rational(1, 4))
    shown = r"table, $p = 1/4$ and $1/2$, $\mu = 1/2$, $\delta = 1/8$"
    for first in (sp.Rational(1, 3), sp.Rational(3, 4)):
        weights = (first, 1 - first)
        g = _gradients(weights)
        blocks = [
            w * policies.fisher(pi, policies.softmax_scores(pi))
            for w, (pi, _) in zip(weights, _POOL, strict=True)
        ]
        d = policies.pseudo_inverse(sp.diag(*blocks)) * g
        length = sp.sqrt(2 * sp.Rational(1, 8) / g.dot(d))
        sampled_v = first * sp.Rational(3, 16) + (1 - first) / 4
        yield Exact(
            rf"{shown}, $\rho = {first}$: the dataset's gain by the natural step",
            length * own.dot(d),
            f["natural"].subs(
                {own_variance: own_v, sampled_variance: sampled_v, delta: sp.Rational(1, 8)}
            ),
        )
        squares = [_gradients(w) for w in ((1, 0), (0, 1))]
        yield Exact(
            rf"{shown}, $\rho = {first}$: by the plain gradient",
            own.dot(g) / sp.sqrt(g.dot(g)) / 2,
            f["plain"].subs(
                {
                    own_share: sp.Rational(1, 2), share: first, delta: sp.Rational(1, 8),
                    square_p: squares[0].dot(squares[0]), square_q: squares[1].dot(squares[1]),
                }
            ),
        )  # fmt: skip


def _sample_own(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    g_2_D = rng.normal(size=(2, 6))
    g_2_D[0, 3:] = 0.0
    g_2_D[1, :3] = 0.0  # parameters of their own
    g_2_D[1] *= 3.0  # the second prompt has the larger gradient
    own_D = np.array([0.6, 0.4]) @ g_2_D

    def gain(first: float) -> float:
        d = first * g_2_D[0] + (1.0 - first) * g_2_D[1]
        return float(own_D @ d / np.linalg.norm(d) * 0.2)

    found, _ = largest(lambda x: gain(float(x[0])), np.array([0.2]))
    plain_of = numeric(f["plain"], (own_share, share, square_p, square_q, delta))
    square_2 = (g_2_D**2).sum(axis=1)
    yield Search(
        r"two prompts, $\mu = 0.6$, $\delta = 0.02$: gain of the dataset over all $\rho$",
        float(plain_of(0.6, 0.6, *square_2, 0.02)), found, gain(0.0),
        "only the prompt of the larger gradient", sense="max",
    )  # fmt: skip
    rate_N, own_N, rho_N, radius = (
        np.array([0.5, 0.1]),
        np.array([0.2, 0.8]),
        np.array([0.8, 0.2]),
        1e-6,
    )
    logit_N = np.log(rate_N / (1 - rate_N))
    sampled, objective = (float(x @ (rate_N * (1 - rate_N))) for x in (rho_N, own_N))
    new_N = 1 / (1 + np.exp(-logit_N - np.sqrt(2 * radius / sampled)))
    natural_of = numeric(f["natural"], (sampled_variance, own_variance, delta))
    yield Estimate.of(
        r"table, $p = 0.5$ and $0.1$, $\mu = 0.2$, $\rho = 0.8$, $\delta = 10^{-6}$: mean reward "
        r"over the dataset after the natural step, less the old one",
        drawn_improvements(rng, rate_N, new_N - rate_N, own_N, rollouts=10**8),
        expected=float(natural_of(sampled, objective, radius)),
        control=float(np.sqrt(2 * radius * sampled)), control_is="the gain on what is sampled",
    )  # fmt: skip


# -- 2.8 the least noisy sample --------------------------------------------------------------------


def _prove_noise(f: Formulas) -> Iterator[Step]:
    first = own_share**2 * moment_p / share
    second = (1 - own_share) ** 2 * moment_q / (1 - share)
    yield Step(
        r"The contribution $\frac{\mu}{\rho} X$ of a prompt drawn from $\rho$ has the mean $\sum \rho "
        r"\frac{\mu}{\rho} g = \bar g$ and the mean square $\sum \mu^2 S/\rho$, for two prompts",
        share * (own_share / share) ** 2 * moment_p
        + (1 - share) * ((1 - own_share) / (1 - share)) ** 2 * moment_q,
        first + second,
        name=r"\mathbb{E}\left|\frac{\mu}{\rho} X\right|^2",
    )
    root = own_share * sp.sqrt(moment_p) + (1 - own_share) * sp.sqrt(moment_q)
    excess = (
        own_share * sp.sqrt(moment_p) * (1 - share) - (1 - own_share) * sp.sqrt(moment_q) * share
    )
    yield Step(
        r"which is at least $(\sum \mu\sqrt S)^2$ (Cauchy and Schwarz).",
        first + second,
        root**2,
        certificate=excess**2 / (share * (1 - share)),
    )
    yield Step(
        r"Equality needs the bracket to vanish, which it does at $\rho \propto \mu\sqrt S$, here",
        solution(excess, share),
        f["share"],
        name=r"\rho",
    )
    yield Step(
        r"The mean of $m$ draws has the mean square $(m Q + m(m-1)|\bar g|^2)/m^2$ with $Q$ that "
        r"of one, for different draws are independent. Less $|\bar g|^2$, at the least $Q = \bar r^2$:",
        (m * mean_root**2 + m * (m - 1) * own_gradient) / m**2 - own_gradient,
        f["variance"],
    )
    norm = sp.Symbol("L", positive=True)
    alike = {
        moment_p: p * (1 - p) * norm,
        moment_q: q * (1 - q) * norm,
        own_share: sp.Rational(1, 2),
    }
    u_1, u_2 = sp.sqrt(p * (1 - p)), sp.sqrt(q * (1 - q))
    yield Step(
        r"If $X = (r-p)s$ with $|s|^2 = L$ on every answer, $S = L\,\mathbb{E}(r-p)^2 = L\,p(1-p)$, so "
        r"that for $\mu = \tfrac12$ the share is $u/(u + u')$ with $u = \sqrt{p(1-p)}$.",
        f["share"].subs(alike),
        u_1 / (u_1 + u_2),
    )


# contributions of two prompts: values and chances, first moments 1 and 2, second moments 4 and 9
_LAWS = (
    ((Fraction(-1), Fraction(5, 2)), (Fraction(3, 7), Fraction(4, 7))),
    ((Fraction(-3), Fraction(3)), (Fraction(1, 6), Fraction(5, 6))),
)


def _moments() -> list[tuple[Fraction, Fraction]]:
    return [
        (
            sum((c * x for x, c in zip(*law, strict=True)), Fraction()),
            sum((c * x * x for x, c in zip(*law, strict=True)), Fraction()),
        )
        for law in _LAWS
    ]


def _variance_of_mean(
    rho_2: tuple[Fraction, Fraction], mu_2: tuple[Fraction, Fraction]
) -> Fraction:
    """Variance of the mean of two weighted draws, over all pairs of prompts and contributions."""
    draws = [
        (r * c, x * w / r)
        for r, w, law in zip(rho_2, mu_2, _LAWS, strict=True)
        for x, c in zip(*law, strict=True)
    ]
    mean, square = Fraction(0), Fraction(0)
    for (c_1, x_1), (c_2, x_2) in product(draws, draws):
        value = (x_1 + x_2) / 2
        mean += c_1 * c_2 * value
        square += c_1 * c_2 * value * value
    return square - mean**2


def _enumerate_noise(f: Formulas) -> Iterator[Exact]:
    mu_2 = (Fraction(3, 5), Fraction(2, 5))
    (g_1, s_1), (g_2, s_2) = _moments()
    grid = [Fraction(k, 20) for k in range(1, 20)]
    best = min(grid, key=lambda r: _variance_of_mean((r, 1 - r), mu_2))
    at = {own_share: sp.Rational(3, 5), moment_p: sp.Rational(s_1), moment_q: sp.Rational(s_2)}
    yield Exact(
        r"$\mu = 3/5$, $S = 4$ and $9$, $m = 2$: $\rho$ of least variance, in steps of $1/20$",
        sp.Rational(best), f["share"].subs(at),
    )  # fmt: skip
    root = sp.Rational(3, 5) * sp.sqrt(at[moment_p]) + sp.Rational(2, 5) * sp.sqrt(at[moment_q])
    own = mu_2[0] * g_1 + mu_2[1] * g_2
    yield Exact(
        "that variance, over all pairs of draws and outcomes",
        sp.Rational(_variance_of_mean((best, 1 - best), mu_2)),
        f["variance"].subs({mean_root: root, own_gradient: sp.Rational(own**2), m: 2}),
    )
    yield Exact(
        r"variance for $\rho = \mu$, more than the least",
        sp.Rational(_variance_of_mean(mu_2, mu_2)),
        f["variance"].subs({mean_root: root, own_gradient: sp.Rational(own**2), m: 2}),
        relation=">",
    )


def _sample_noise(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_N, mu_N, draws = np.array([0.5, 0.9, 0.02, 0.3]), np.full(4, 0.25), 60_000
    # every prompt has a logit of its own, whose score is r - p; so X = (r - p)^2 in that parameter
    moment_N = rate_N * (1 - rate_N) ** 4 + (1 - rate_N) * rate_N**4
    gradient_N = rate_N * (1 - rate_N)
    own = float((mu_N**2 * gradient_N**2).sum())
    root_N = mu_N * np.sqrt(moment_N)
    size = 6

    def squared_error(rho_N: Vector) -> Vector:
        prompt = rng.choice(4, size=(draws, size), p=rho_N)
        right = rng.random((draws, size)) < rate_N[prompt]
        x = np.where(right, (1 - rate_N[prompt]) ** 2, rate_N[prompt] ** 2) * (mu_N / rho_N)[prompt]
        error = np.zeros(draws)
        for i in range(4):
            error += ((x * (prompt == i)).mean(axis=1) - mu_N[i] * gradient_N[i]) ** 2
        return error

    least = float(numeric(f["variance"], (mean_root, own_gradient, m))(root_N.sum(), own, size))
    plain_variance = (float((mu_N * moment_N).sum()) - own) / size
    yield Estimate.of(
        r"four prompts of two answers, $m = 6$: squared error under the best $\rho$",
        squared_error(root_N / root_N.sum()), expected=least, control=plain_variance,
        control_is=r"that of $\rho = \mu$",
    )  # fmt: skip
    yield Estimate.of(
        r"the same prompts: squared error under $\rho = \mu$", squared_error(mu_N),
        expected=plain_variance, control=least,
        control_is="the least",
    )  # fmt: skip


CLAIMS = [
    Claim(
        number="2.7",
        source="Eq. (13)",
        title="Improving what is sampled is not improving the dataset",
        status=Status.FALSE,
        statement=r"""The paper: of two distributions over prompts of one entropy, the one of larger
bound (12) is the better one to train on.""",
        correction=r"""Fails because the bound under $\rho$ is about the prompts that $\rho$ prefers, and
not about the objective $J = \mathbb{E}_\mu p$, with $\mu$ the distribution of the dataset. To first
order the exact natural step of a table for $\rho > 0$, of average divergence $\delta$ under $\rho$,
raises $J$ by
$$<<natural>>, \qquad \bar v_\rho = \mathbb{E}_\rho[p(1-p)],\ \bar v_\mu = \mathbb{E}_\mu[p(1-p)],$$
which is *smaller* the larger the bound $\sqrt{2\delta\bar v_\rho}$ on what was sampled.

In this the trust region itself depends on $\rho$: what is sampled more pays more divergence. In any
metric that does not depend on $\rho$, a step along the exact gradient of $\mathbb{E}_\rho p$ raises
$J$ to first order no more than one of the same length along the gradient of $J$, that is, than $\rho =
\mu$. For the plain gradient, $|d|^2 = 2\delta$, and two prompts with parameters of their own, $G =
|\nabla p|^2$, the gain is
$$<<plain>>.$$
In a fixed metric a single step with exact gradients thus gains nothing from sampling other prompts than
the dataset's. What sampling can win is less noise (2.8), an optimiser's step that is not along the
gradient, and gains that show only after many steps.""",
        formulas={"natural": natural, "plain": plain},
        prove=_prove_own,
        enumerate=_enumerate_own,
        sample=_sample_own,
    ),
    Claim(
        number="2.8",
        source="not in the paper",
        title="The sample that estimates the dataset's gradient best",
        status=Status.PROVED,
        statement=r"""Let $\mu, \rho > 0$. Draw $m \ge 1$ prompts from $\rho$, with new rollouts for
each draw, all independent, and weigh each contribution $X$ by $\mu/\rho$; $X$ has the mean $g =
\nabla p$ and the mean square $S = \mathbb{E}|X|^2 > 0$ of its prompt. The mean of the $m$ weighted
contributions estimates $\bar g = \nabla J$, $J = \mathbb{E}_\mu p$, without bias. The trace of its
variance is least, namely
$$<<variance>>, \qquad \bar r = \mathbb{E}_\mu\sqrt{S},$$
for $\rho \propto \mu\sqrt S$; of two prompts the first then has the share
$$<<share>>.$$
If all scores have the same norm, one rollout with the true advantage has $S$ in proportion to
$p(1-p)$, and $\rho \propto \mu\sqrt{p(1-p)}$: the potential of (11) itself, without temperature,
and with the weight $\mu/\rho$ that (16) lacks. Equal weights and (14) follow the gradient of
$\mathbb{E}_\rho p$ instead.""",
        formulas={"variance": least_variance, "share": best_share},
        prove=_prove_noise,
        enumerate=_enumerate_noise,
        sample=_sample_noise,
    ),
]
