r"""Many prompts, one policy: the bound (12) under the constraint of (1), the average divergence.

A pool has a distribution :math:`\rho`; formulas are written for two prompts, of success rates p and
q and shares :math:`\rho` and :math:`1 - \rho`, or in the pool's averages. Counterpart of (10) and
(11) for one prompt: :mod:`theory.cramer_rao`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory import policies
from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.exact_problem import kl
from theory.rewards import drawn_improvements
from theory.search import Vector, largest
from theory.symbols import delta, p, potential, q, share
from theory.trust_region import exact_dataset_improvement, exact_improvement

mean_variance = sp.Symbol(r"\bar{v}", positive=True)  # E_rho[p (1-p)]
variation = sp.Symbol("kappa", nonnegative=True)  # coefficient of variation of sqrt(p (1-p))
alive = sp.Symbol("a", positive=True)  # share of prompts at p = 1/2, all others at 0 or 1


def average(expression: sp.Expr) -> sp.Expr:
    """A function of p, averaged over the two prompts."""
    return share * expression + (1 - share) * expression.subs(p, q)


ceiling = average(p * (1 - p))
improvement = sp.sqrt(2 * delta * mean_variance)
stated = sp.sqrt(2 * delta) * average(potential)  # Eq. (12)
corrected = improvement.subs(mean_variance, ceiling)
split = delta * p * (1 - p) / mean_variance
ratio = sp.sqrt(1 + variation**2)
ratio_alive = 1 / sp.sqrt(alive)


# -- 2.1 the ceiling -------------------------------------------------------------------------------


def _prove_ceiling(f: Formulas) -> Iterator[Step]:
    r, x = sp.symbols("r x")
    product = sp.symbols(r"b_1 b_2", real=True)  # E rx of either prompt
    square = sp.symbols(r"c_1 c_2", real=True)  # and E x^2
    norm = sp.Symbol("nu", positive=True)

    def residual(rate: sp.Expr, i: int) -> sp.Expr:
        moment = {
            (0, 0): 1,
            (1, 0): rate,
            (2, 0): rate,
            (0, 1): 0,
            (1, 1): product[i],
            (0, 2): square[i],
        }
        terms = sp.Poly((r - rate - x) ** 2, r, x).terms()
        return sp.Add(*(c * moment[k] for k, c in terms))

    yield Step(
        r"Take $x = a^\top s$ with $\bar F a = \bar g$, one $a$ for all prompts; there is one, as "
        r"in 1.2. On either of two prompts $\mathbb{E}\,x = 0$; with $b = \mathbb{E}\,r x$ and $c = "
        r"\mathbb{E}\,x^2$ there, the mean square of $r - p - x$ over prompts and answers is, by "
        r"$r^2 = r$,",
        share * residual(p, 0) + (1 - share) * residual(q, 1),
        f["ceiling"]
        - 2 * (share * product[0] + (1 - share) * product[1])
        + share * square[0]
        + (1 - share) * square[1],
        name=r"\mathbb{E}(r - p - x)^2",
    )
    a, b, d, g1, g2 = sp.symbols("F_11 F_12 F_22 g_1 g_2", real=True)
    fisher, g = sp.Matrix([[a, b], [b, d]]), sp.Matrix([g1, g2])
    c = fisher.inv() * g
    yield Step(
        r"Averaged over prompts, $\mathbb{E}\,r x = a^\top \bar g$ and $\mathbb{E}\,x^2 = "
        r"a^\top \bar F a$, and both are $\nu = \bar g^\top \bar F^{+} \bar g$; for two parameters,",
        sp.cancel((c.T * fisher * c)[0]),
        sp.cancel((g.T * fisher.inv() * g)[0]),
        name=r"a^\top \bar F a",
    )
    yield Step(
        r"So the mean square is the distance of $\nu$ from the ceiling, for any number of prompts. "
        r"It is not negative, and $0$ iff $x = r - p$ throughout; and if any mixture $y = b^\top s$ "
        r"equals $r - p$ throughout, it is such an $x$, for $\bar F b = \mathbb{E}\,s y = "
        r"\mathbb{E}\,s r = \bar g$.",
        f["ceiling"] - 2 * norm + norm,
        f["ceiling"] - norm,
        name=r"\mathbb{E}(r - p - x)^2",
    )
    yield Step(
        r"A table has parameters of its own for every prompt: $\bar F$ is block diagonal with blocks "
        r"$\rho F$, $\bar g$ has parts $\rho g$, so that $\nu$ is the mean of $p(1-p)$ (1.3). "
        r"Multiplied out for two prompts, one of three answers with chance $\pi_1$ of the right "
        r"one, one of two answers with $q_1$:",
        _table_norm(),
        f["ceiling"].subs({p: _pi(3)[0], q: _pi(2, "q")[0]}, simultaneous=True),
        name=r"\bar g^\top \bar F^{+} \bar g",
    )
    yield Step(
        r"A step of average divergence $\delta$ gains at most $\sqrt{2\delta\nu}$ to first order (1.1, "
        r"with $\bar F$ for $F$). Where the ceiling is attained this is",
        sp.Subs(sp.sqrt(2 * delta * norm), norm, mean_variance),
        f["improvement"],
    )


def _pi(size: int, name: str = "pi") -> sp.Matrix:
    """Chances of a prompt's answers that add up to 1."""
    free = sp.symbols(f"{name}_1:{size}", positive=True)
    return sp.Matrix([*free, 1 - sp.Add(*free)])


def _table_norm() -> sp.Expr:
    """``g^T F^+ g`` of a table for two prompts, by its blocks."""
    total = sp.Integer(0)
    for weight, pi in ((share, _pi(3)), (1 - share, _pi(2, "q"))):
        g = weight * policies.gradient(pi, policies.softmax_scores(pi), {0})
        inverse = policies.table_pseudo_inverse(pi) / weight
        total += weight * sp.factor((g.T * inverse * g)[0] / weight)
    return total


# two prompts of three answers each that share two parameters
_SHARE = sp.Rational(2, 5)
_SHARED = (
    (sp.Matrix([[1, 0], [0, 1], [-1, 1]]), (1, 2, 3), {0}),
    (sp.Matrix([[1, 1], [2, 0], [0, -1]]), (2, 1, 1), {1, 2}),
)


def _shared_model() -> tuple[
    sp.Expr, list[tuple[sp.Expr, sp.Matrix, sp.Matrix]], dict[sp.Symbol, sp.Expr]
]:
    """Natural norm; per prompt its share, chances and residuals r - p - x; the success rates."""
    parts = []
    for weight, (features, weight_K, right) in zip((_SHARE, 1 - _SHARE), _SHARED, strict=True):
        pi = policies.softmax_probabilities(weight_K)
        parts.append((weight, pi, policies.softmax_scores(pi, features), right))
    g = sum((w * policies.gradient(pi, s, right) for w, pi, s, right in parts), sp.zeros(2, 1))
    fisher = sum((w * policies.fisher(pi, s) for w, pi, s, _ in parts), sp.zeros(2, 2))
    c = fisher.LUsolve(g)
    rates = [policies.success_rate(pi, right) for _, pi, _, right in parts]
    residuals = [
        (w, pi, policies.reward(3, right) - rate * sp.ones(3, 1) - s * c)
        for (w, pi, s, right), rate in zip(parts, rates, strict=True)
    ]
    return policies.natural_norm_sq(g, fisher), residuals, {p: rates[0], q: rates[1], share: _SHARE}


def _enumerate_ceiling(f: Formulas) -> Iterator[Exact]:
    norm, residuals, at = _shared_model()
    rest = sum(w * (pi.T * x.applyfunc(lambda v: v**2))[0] for w, pi, x in residuals)
    yield Exact(
        r"two prompts, two shared parameters, $\rho = 2/5$: natural norm plus $\mathbb{E}(r-p-x)^2$",
        norm + rest,
        f["ceiling"].subs(at),
    )
    yield Exact(
        "the natural norm alone, below the ceiling", norm, f["ceiling"].subs(at), relation="<"
    )
    pi_3, pi_2 = sp.Matrix([1, 2, 3]) / 6, sp.Matrix([1, 3]) / 4
    blocks = [
        (_SHARE, pi_3, policies.softmax_scores(pi_3), {0, 1}),
        (1 - _SHARE, pi_2, policies.softmax_scores(pi_2), {0}),
    ]
    fisher = sp.diag(*(w * policies.fisher(pi, s) for w, pi, s, _ in blocks))
    g = sp.Matrix.vstack(*(w * policies.gradient(pi, s, right) for w, pi, s, right in blocks))
    found = policies.natural_norm_sq(g, fisher)
    at = {p: sp.Rational(1, 2), q: sp.Rational(1, 4), share: _SHARE}
    yield Exact(
        r"a table, $p = 1/2$ and $1/4$, $\rho = 2/5$: natural norm", found, f["ceiling"].subs(at)
    )
    yield Exact(
        r"the table's largest gain to first order, $\delta = 1/200$",
        sp.sqrt(found) / 10,
        f["improvement"].subs({mean_variance: f["ceiling"].subs(at), delta: sp.Rational(1, 200)}),
    )


def _sample_ceiling(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    norm, residuals, at = _shared_model()
    is_first_S = rng.random(200_000) < float(_SHARE)
    square_S = np.empty(is_first_S.size)
    for chosen_S, (_, pi, rest) in zip((is_first_S, ~is_first_S), residuals, strict=True):
        chance_K = np.array(pi, dtype=np.float64).ravel()
        answer = rng.choice(3, size=int(chosen_S.sum()), p=chance_K / chance_K.sum())
        square_S[chosen_S] = np.array(rest, dtype=np.float64).ravel()[answer] ** 2
    top = float(f["ceiling"].subs(at))
    yield Estimate.of(
        "mean square of $r - p - x$ from sampled prompts and answers", square_S,
        expected=top - float(norm), control=top, control_is="scores that explain nothing",
    )  # fmt: skip


# -- 2.2 Eq. (12) as it stands ---------------------------------------------------------------------


def _prove_dataset(f: Formulas) -> Iterator[Step]:
    step = sp.Symbol("t", positive=True)
    variance = p * (1 - p)
    yield Step(
        r"Let a table add $t$ to the logit of every prompt: $e = p(1-p)\,t$ to first order. The "
        r"divergence is $e^2/(2p(1-p))$ to second order (1.7), and averages to",
        average((variance * step) ** 2 / (2 * variance)),
        ceiling * step**2 / 2,
    )
    yield Step(
        r"It is $\delta$ for $t^2 = 2\delta/\mathbb{E}_\rho[p(1-p)]$. The success rates then rise on "
        r"average by $\mathbb{E}_\rho[p(1-p)]\,t$, squared",
        sp.cancel(average(variance * step) ** 2 / step**2 * (2 * delta / ceiling)),
        f["corrected"] ** 2,
        name=r"\left(\mathbb{E}_\rho[p(1-p)]\right)^2 t^2",
    )
    yield Step(
        r"No policy gains more to leading order (2.4). This is at least (12), by Jensen's "
        r"inequality: the difference of the squares is $2\delta$ times the variance of "
        r"$\sqrt{p(1-p)}$ under $\rho$, for two prompts",
        f["corrected"] ** 2,
        sp.UnevaluatedExpr(f["stated"]) ** 2,
        certificate=2 * delta * share * (1 - share) * (potential - potential.subs(p, q)) ** 2,
    )


_RARE = {p: sp.Rational(1, 2), q: sp.Rational(1, 50), share: sp.Rational(1, 2)}


def _enumerate_dataset(f: Formulas) -> Iterator[Exact]:
    raised = (sp.Rational(96, 10_000), sp.Rational(78, 100_000))
    radius = sp.Rational(1, 10_000)
    spent = sum(kl(_RARE[s], _RARE[s] + e) for s, e in zip((p, q), raised, strict=True)) / 2
    yield Exact(
        r"$p = 1/2$ and $1/50$ raised by $0.0096$ and $0.00078$: average divergence against "
        r"$\delta = 10^{-4}$",
        spent, radius, relation="<",
    )  # fmt: skip
    yield Exact(
        r"average improvement by these steps, against (12)",
        sum(raised) / 2, f["stated"].subs({**_RARE, delta: radius}), relation=">",
    )  # fmt: skip
    # p = 1/2, 1/5 have the potentials 1/2, 2/5
    at = {
        p: sp.Rational(1, 2),
        q: sp.Rational(1, 5),
        share: sp.Rational(1, 3),
        delta: sp.Rational(1, 2),
    }
    yield Exact(
        r"$p = 1/2, 1/5, 1/5$ with one third each, $\delta = 1/2$: (12)",
        (sp.Rational(1, 2) + 2 * sp.Rational(2, 5)) / 3,
        f["stated"].subs(at),
    )
    yield Exact(
        r"the corrected bound for the same prompts, squared",
        (sp.Rational(1, 4) + 2 * sp.Rational(4, 25)) / 3,
        f["corrected"].subs(at) ** 2,
    )


def _sample_dataset(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate_N, prob_N = np.array([0.5, 0.02]), np.array([0.5, 0.5])
    over = numeric(f["stated"], (p, q, share, delta))
    logit_N = np.log(rate_N / (1.0 - rate_N))

    def new_rate(step_N: Vector) -> Vector:
        return np.asarray(1.0 / (1.0 + np.exp(-(logit_N + step_N))))

    def room(step_N: Vector) -> float:
        new_N = new_rate(step_N)
        spent_N = rate_N * np.log(rate_N / new_N) + (1 - rate_N) * np.log(
            (1 - rate_N) / (1 - new_N)
        )
        return float(1e4 * (1e-4 - prob_N @ spent_N))

    found, _ = largest(lambda x: float(1e3 * prob_N @ (new_rate(x) - rate_N)), np.zeros(2) + 0.01,
                       inside=room)  # fmt: skip
    yield Search(
        r"$p = 0.5$ and $0.02$, $\delta = 10^{-4}$: exact optimum; (12) is violated",
        exact_dataset_improvement(rate_N, 1e-4, prob_N)[0], found / 1e3,
        float(over(0.5, 0.02, 0.5, 1e-4)), "Eq. (12)", sense="max",
    )  # fmt: skip
    first, second = (float(x) for x in rng.uniform(0.05, 0.95, 2))
    radius = 1e-13
    best, _ = exact_dataset_improvement([first, second], radius, [0.3, 0.7])
    yield Search(
        rf"$p = {first:.3f}$ and ${second:.3f}$, $\rho = 0.3$, $\delta = 10^{{-13}}$: exact optimum, "
        "attained by the corrected bound",
        float(numeric(f["corrected"], (p, q, share, delta))(first, second, 0.3, radius)), best,
        float(over(first, second, 0.3, radius)), "Eq. (12)", sense="max", tolerance=3e-6,
    )  # fmt: skip
    _, rise_N = exact_dataset_improvement(rate_N, 1e-4, prob_N)
    yield Estimate.of(
        r"$p = 0.5$ and $0.02$, $\delta = 10^{-4}$: mean reward at the exact optimum, less the old one",
        drawn_improvements(rng, rate_N, rise_N, prob_N, rollouts=10**6),
        expected=float(numeric(f["corrected"], (p, q, share, delta))(0.5, 0.02, 0.5, 1e-4)),
        control=float(over(0.5, 0.02, 0.5, 1e-4)), control_is="Eq. (12)",
    )  # fmt: skip


# -- 2.3 when Eq. (12) holds -----------------------------------------------------------------------


def _prove_split(f: Formulas) -> Iterator[Step]:
    radius = sp.Symbol("delta_x", positive=True)
    price = sp.Symbol("lambda", positive=True)
    yield Step(
        r"A prompt of divergence $\delta_x$ gains at most $\sqrt{2\delta_x p(1-p)}$ to leading order "
        r"(1.7). With $\delta_x = \delta$ for all, these average to (12).",
        average(sp.sqrt(2 * radius) * potential).subs(radius, delta),
        stated,
    )
    gain = sp.sqrt(2 * radius) * potential
    best = p * (1 - p) / (2 * price**2)
    yield Step(
        r"If only the average of $\delta_x$ is bounded: with a price $\lambda$ per unit, the gain less "
        r"the price is stationary at $\delta_x = p(1-p)/(2\lambda^2)$,",
        sp.Subs(sp.Derivative(gain, radius), radius, best),
        price,
    )
    yield Step(
        r"and concave in $\delta_x$, so this is the maximum.",
        -sp.Derivative(gain, (radius, 2)),
        0,
        certificate=potential / (2 * radius) ** sp.Rational(3, 2),
    )
    yield Step(
        r"At any price the sum of gain less price is then largest, and so is the gain among all "
        r"splits of the same average. The average is $\delta$ for $\lambda^2 = "
        r"\mathbb{E}_\rho[p(1-p)]/(2\delta)$:",
        sp.Subs(best, price, sp.sqrt(mean_variance / (2 * delta))),
        f["split"],
    )
    mean = sp.Symbol(r"\bar{u}", positive=True)
    yield Step(
        r"$\bar v = \bar u^2 (1 + \kappa^2)$ with $\bar u$ the mean and $\kappa$ the coefficient of "
        r"variation of $\sqrt{p(1-p)}$, so the ratio of the two bounds is",
        improvement.subs(mean_variance, mean**2 * (1 + variation**2)) / (sp.sqrt(2 * delta) * mean),
        f["ratio"],
        name=r"\frac{\sqrt{2 \delta \bar v}}{\sqrt{2 \delta}\, \bar u}",
    )
    top = sp.Rational(1, 4)
    yield Step(
        r"A share $a$ at $p = \tfrac12$, the rest at $0$ or $1$: $\bar v = a/4$ and $\bar u = a/2$.",
        sp.sqrt(alive * top) / (alive * sp.sqrt(top)),
        f["alive"],
        name=r"\frac{\sqrt{a/4}}{a/2}",
    )


def _enumerate_split(f: Formulas) -> Iterator[Exact]:
    # p = 1/2, 1/5, 1/10 have p (1-p) = 25, 16, 9 hundredths
    rates = (sp.Rational(1, 2), sp.Rational(1, 5), sp.Rational(1, 10))
    units = [(i, j, 50 - i - j) for i in range(51) for j in range(51 - i)]
    best = max(units, key=lambda k_3: 5 * k_3[0] ** 0.5 + 4 * k_3[1] ** 0.5 + 3 * k_3[2] ** 0.5)
    for rate, unit in zip(rates, best, strict=True):
        yield Exact(
            rf"$p = 1/2, 1/5, 1/10$, one third each; best of the 1326 splits of $3\delta$ into "
            rf"fiftieths: divergence over $\delta$ at $p = {rate}$",
            sp.Rational(3 * unit, 50),
            f["split"].subs({p: rate, delta: 1, mean_variance: sp.Rational(50, 300)}),
        )
    # potentials 1/2 and 3/10: mean 2/5, standard deviation 1/10
    yield Exact(
        r"$p = 1/2$ and $1/10$, half each: ratio of the bounds, squared",
        (sp.Rational(25, 100) + sp.Rational(9, 100)) / 2 / sp.Rational(4, 10) ** 2,
        f["ratio"].subs(variation, sp.Rational(1, 4)) ** 2,
    )
    yield Exact(
        "one prompt of nine at $1/2$, eight dead: ratio of the bounds",
        sp.sqrt(sp.Rational(1, 9) / 4) / sp.Rational(1, 18),
        f["alive"].subs(alive, sp.Rational(1, 9)),
    )


def _sample_split(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    rate_N, prob_N = rng.uniform(0.02, 0.98, 5), rng.dirichlet(np.full(5, 3.0))
    variance_N = rate_N * (1.0 - rate_N)

    def gain(radius_N: Vector) -> float:
        return float(prob_N @ np.sqrt(2.0 * np.maximum(radius_N, 0.0) * variance_N))

    found, _ = largest(gain, np.ones(5), inside=lambda x: 1.0 - float(prob_N @ x))
    part_N = numeric(f["split"], (p, delta, mean_variance))(rate_N, 1.0, prob_N @ variance_N)
    yield Search(
        r"five prompts, $\delta = 1$: first-order gain over all splits of the divergence",
        gain(part_N), found, gain(np.ones(5)), "the same divergence for all: (12)", sense="max",
    )  # fmt: skip
    rate_N, prob_N, radius = np.array([0.5, 0.5, 0.0, 1.0]), np.full(4, 0.25), 1e-6
    part_N = numeric(f["split"], (p, delta, mean_variance))(rate_N[:2], radius, 1 / 8)
    rise_N = np.append(exact_improvement(rate_N[:2], part_N), [0.0, 0.0])
    alone = float(np.sqrt(2 * radius * 0.25)) / 2  # (12)
    yield Estimate.of(
        r"half of the prompts dead, half at $p = 1/2$: mean reward by the best split, over (12)",
        drawn_improvements(rng, rate_N, rise_N, prob_N, rollouts=10**8) / alone,
        expected=float(f["alive"].subs(alive, sp.Rational(1, 2))), control=1.0,
        control_is="the same divergence for all",
    )  # fmt: skip


CLAIMS = [
    Claim(
        number="2.1",
        source="not in the paper",
        title="The natural norm of a pool is at most the mean variance",
        status=Status.PROVED,
        statement=r"""Let prompts of positive shares $\rho$ share the parameters of one policy that is
as in 1.2, and let $\bar g$ and $\bar F$ be the means under $\rho$ of the gradients of $p$ and of the
Fisher matrices. Then $\nu = \bar g^\top \bar F^{+} \bar g$ is at most $\mathbb{E}_\rho[p(1-p)]$; for two
prompts this is
$$<<ceiling>>.$$
Equality holds iff one mixture of the scores, the same for all prompts, equals $r - p$ on every answer of
every prompt, as in tables. Hence, with $\bar v = \mathbb{E}_\rho[p(1-p)]$, a step of average divergence
$\delta$ improves the average success rate, to leading order, by at most
$$<<improvement>>.$$""",
        formulas={"ceiling": ceiling, "improvement": improvement},
        prove=_prove_ceiling,
        enumerate=_enumerate_ceiling,
        sample=_sample_ceiling,
    ),
    Claim(
        number="2.2",
        source="Eq. (12)",
        title="The bound on a dataset",
        status=Status.FALSE,
        statement=r"""The paper: if the divergence is at most $\delta$ on average over $\rho$, as
(1) asks, the average success rate changes by at most $\mathbb{E}_\rho\sqrt{2\delta p(1-p)}$, to
leading order; for two prompts by at most
$$<<stated>>.$$""",
        correction=r"""Fails unless all prompts have the same $p(1-p)$, because (11), which (12)
averages, gives every prompt a trust region of its own. Under the average constraint of (1) the
bound is, to leading order, $\sqrt{2\delta\,\mathbb{E}_\rho[p(1-p)]}$, which is larger; for two prompts
$$<<corrected>>,$$
and tables attain it.

At $p = 0.5$ and $0.02$, half each, $\delta = 10^{-4}$: (12) allows $4.525 \cdot 10^{-3}$, the exact
optimum is $5.197 \cdot 10^{-3}$, the corrected bound $5.192 \cdot 10^{-3}$; the rest is of higher
order (2.4).""",
        formulas={"stated": stated, "corrected": corrected},
        prove=_prove_dataset,
        enumerate=_enumerate_dataset,
        sample=_sample_dataset,
    ),
    Claim(
        number="2.3",
        source="Eq. (12)",
        title="A trust region for every prompt",
        status=Status.CONDITIONAL,
        condition=r"""The divergence of *every* prompt is at most $\delta$, not only their average, and
$\delta \to 0$ in a fixed pool.""",
        statement=r"""(12) is the largest average improvement to leading order, and tables attain it. It
is what the average constraint leaves if divergence is handed out equally. The best use of an average
divergence $\delta$ gives a prompt
$$<<split>>, \qquad \bar v = \mathbb{E}_\rho[p(1-p)],$$
in proportion to its reward variance, none to dead prompts. In a pool that is not all dead this gains
$$<<ratio>>$$
times as much as (12), with $\kappa$ the coefficient of variation of $\sqrt{p(1-p)}$ under $\rho$;
if a share $a > 0$ of the prompts has $p = \tfrac12$ and the others are dead, $<<alive>>$ times as
much.""",
        formulas={"split": split, "ratio": ratio, "alive": ratio_alive},
        prove=_prove_split,
        enumerate=_enumerate_split,
        sample=_sample_split,
    ),
]
