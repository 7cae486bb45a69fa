r"""One prompt: the ceiling of Eq. (10) on the natural norm, and which policies attain it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp

from theory import policies
from theory.claims import Claim, Estimate, Exact, Formulas, Relation, Search, Status, Step, numeric
from theory.decide import solution
from theory.score_law import softmax_law
from theory.search import largest
from theory.symbols import p

between = sp.Symbol("B", positive=True)  # variance of a score between right and wrong answers
within = sp.Symbol("W", nonnegative=True)  # and among answers of one kind
separation = sp.Symbol("t", positive=True)  # p (1-p) D^T W^-1 D: B / W for one parameter
right_count, answer_count = sp.symbols("c K", positive=True, integer=True)

ceiling = p * (1 - p)  # Eq. (10)
restricted = p * (1 - p) * between / (between + within)
several = p * (1 - p) * separation / (1 + separation)
right_logit = 1 - right_count / answer_count


# -- 1.2 the ceiling -------------------------------------------------------------------------------


def _prove_ceiling(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"$r$ is $1$ with chance $p$, so that $\mathbb{E}(r-p)^2$ is",
        p * (1 - p) ** 2 + (1 - p) * (0 - p) ** 2,
        f["ceiling"],
    )
    a, b, d, g1, g2 = sp.symbols("F_11 F_12 F_22 g_1 g_2", real=True)
    fisher, g = sp.Matrix([[a, b], [b, d]]), sp.Matrix([g1, g2])
    c = fisher.inv() * g
    yield Step(
        r"Take $x = c^\top s$ with $c = F^{+} g$, a mixture of the scores. Then $F c = g$, since "
        r"$g$ lies in the range of $F$: if $F a = 0$ then $\mathbb{E}(a^\top s)^2 = 0$, so $a^\top "
        r"s = 0$ for every answer and $a^\top g = \mathbb{E}\,r\, a^\top s = 0$. Hence "
        r"$\mathbb{E}\,x^2 = c^\top F c = c^\top g = \nu$; for two parameters written out,",
        sp.cancel((c.T * fisher * c)[0]),
        sp.cancel((g.T * fisher.inv() * g)[0]),
        name=r"c^\top F c",
    )
    r, x, y = sp.symbols("r x y")
    product, square, norm = sp.symbols(r"\mathbb{E}xy \mathbb{E}y^{2} nu", real=True)
    # E ry = E xy: see the words of the next line
    moments = {(0, 0): 1, (1, 0): p, (2, 0): p, (0, 1): 0, (1, 1): product, (0, 2): square}
    apart = {(2, 0): norm, (1, 1): product, (0, 2): square}
    mean_square = f["ceiling"] - 2 * product + square
    yield Step(
        r"Let $y = b^\top s$ be any mixture of the scores. Its mean is $0$, and $\mathbb{E}\,ry = "
        r"b^\top g = b^\top F c = \mathbb{E}\,xy$. With $r^2 = r$, $\mathbb{E}(r - p - y)^2$ is",
        sp.Add(*(c * moments[k] for k, c in sp.Poly((r - p - y) ** 2, r, y).terms())),
        mean_square,
    )
    yield Step(
        r"which is $(p(1-p) - \nu) + \mathbb{E}(x - y)^2$. So $y = x$ leaves least, namely $p(1-p) "
        r"- \nu$, which is not negative; and some $y$ leaves nothing iff $\nu = p(1-p)$.",
        mean_square,
        p * (1 - p)
        - norm
        + sp.Add(*(c * apart[k] for k, c in sp.Poly((x - y) ** 2, x, y).terms())),
        name=r"p (1-p) - \nu + \mathbb{E}(x-y)^2",
    )


_FEATURES = sp.Matrix([[1, 0], [0, 2], [-1, 1], [2, 1], [0, -1]])  # five answers, two parameters
_WEIGHTS = (1, 2, 3, 1, 4)


def _model(right: tuple[int, ...]) -> tuple[sp.Matrix, sp.Matrix, sp.Matrix, sp.Expr]:
    """Chances, scores, F^+ g and natural norm of the restricted model above."""
    pi = policies.softmax_probabilities(_WEIGHTS)
    score = policies.softmax_scores(pi, _FEATURES)
    g, fisher = policies.gradient(pi, score, right), policies.fisher(pi, score)
    return pi, score, fisher.LUsolve(g), policies.natural_norm_sq(g, fisher)


def _enumerate_ceiling(f: Formulas) -> Iterator[Exact]:
    for right in ((0,), (1, 3), (0, 2, 4)):
        pi, score, c, norm = _model(right)
        rate = policies.success_rate(pi, right)
        rest = policies.reward(5, right) - rate * sp.ones(5, 1) - score * c
        residual = sum(pi[k] * rest[k] ** 2 for k in range(5))
        shown = ", ".join(str(k + 1) for k in right)
        yield Exact(
            rf"five answers, two parameters, right: {shown}; natural norm plus $\mathbb{{E}}(r-p-x)^2$",
            norm + residual,
            f["ceiling"].subs(p, rate),
        )
        yield Exact(
            "the natural norm alone, below the ceiling",
            norm,
            f["ceiling"].subs(p, rate),
            relation="<",
        )


def _sample_ceiling(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    right = (1, 3)
    pi, score, c, norm = _model(right)
    rate = policies.success_rate(pi, right)
    chance_K = np.array(pi, dtype=np.float64).ravel()
    answer_S = rng.choice(5, size=200_000, p=chance_K / chance_K.sum())
    rest_K = np.isin(np.arange(5), right) - float(rate) - np.array(score * c, dtype=float).ravel()
    top = float(f["ceiling"].subs(p, rate))
    yield Estimate.of(
        r"$\mathbb{E}(r-p-x)^2$ from sampled answers", rest_K[answer_S] ** 2,
        expected=top - float(norm), control=top, control_is="scores that explain nothing",
    )  # fmt: skip


# -- 1.3 a table attains it ------------------------------------------------------------------------


def _prove_table(f: Formulas) -> Iterator[Step]:
    weight = policies.weights(4)
    pi = policies.softmax_probabilities(weight)
    score = policies.softmax_scores(pi)
    fisher, inverse = policies.fisher(pi, score), policies.table_pseudo_inverse(pi)
    rate = policies.success_rate(pi, {0, 1})
    unit = fisher * policies.reward(4, {0, 1})
    for k, words in (
        (
            0,
            r"Four answers, the first two right, $\pi_k = w_k/\sum w$. $F r$ is the gradient of "
            r"$p$ in the logits, $\pi_k (r_k - p)$; here in that of a right answer",
        ),
        (3, "and in that of a wrong one."),
    ):
        yield Step(
            words,
            sp.factor(weight[k] * sp.diff(rate, weight[k])),
            sp.factor(unit[k]),
            name=rf"\frac{{\partial p}}{{\partial \theta_{k + 1}}}",
        )
    yield Step(
        r"So for every solution of $F x = g$, such as $x = r$, and any number of answers: "
        r"$g^\top F^{+} g = r^\top F r = \sum_k \pi_k r_k^2 - (\sum_k \pi_k r_k)^2$, and $r^2 = "
        r"r$. With logits $X\theta$, $X$ onto, $g$ and $F$ become $X^\top g$ and $X^\top F X$. A "
        r"$c$ with $X c = r$ exists and solves $X^\top F X c = X^\top g$, so that the norm is "
        r"$c^\top X^\top g = r^\top g$ again.",
        p - p**2,
        f["natural"],
    )
    for column, words in (
        (
            0,
            r"$F$ is singular: adding a number to all logits changes nothing. With $C = 1 - \mathbf 1 "
            r"\mathbf 1^\top/K$ the projector on vectors of sum $0$, $F^{+} = "
            r"C\,\mathrm{diag}(1/\pi)\,C$, for $F F^{+} = C$; here for four answers an entry on "
            r"the diagonal",
        ),
        (1, "and one beside it."),
    ):
        yield Step(
            words,
            sp.factor((fisher[0, :] * inverse[:, column])[0]),
            sp.Rational(3 if column == 0 else -1, 4),
            name=rf"\left(F F^{{+}}\right)_{{1 {column + 1}}}",
        )
    step = inverse * policies.gradient(pi, score, {0, 1})
    yield Step(
        r"The natural gradient is $F^{+} g = F^{+} F r = C r$: all right logits rise alike, here "
        r"(two right of four)",
        sp.cancel(step[0]),
        f["right_logit"].subs({right_count: 2, answer_count: 4}),
        name=r"\left(F^{+} g\right)_1 = 1 - \tfrac24",
    )
    chance = sp.symbols("pi_1:4", positive=True)
    pi = sp.Matrix([*chance, 1 - sp.Add(*chance)])
    for count, words in (
        (
            1,
            r"The same by multiplying out, four answers with one right; which ones is a matter of "
            r"names, and $\pi_4$ is what the others leave.",
        ),
        (2, "With two right."),
    ):
        yield Step(
            words,
            sp.factor(_norm_of_table(pi, range(count))),
            f["natural"].subs(p, policies.success_rate(pi, range(count))),
            name=r"g^\top F^{+} g",
        )


def _norm_of_table(pi: sp.Matrix, right: Collection[int]) -> sp.Expr:
    """``g^T F^+ g`` with the pseudo-inverse in closed form."""
    g = policies.gradient(pi, policies.softmax_scores(pi), right)
    return (g.T * policies.table_pseudo_inverse(pi) * g)[0]


def _enumerate_table(f: Formulas) -> Iterator[Exact]:
    for size in (2, 3, 4):
        few = (1, 2, 4, 5)[:size]
        pi = policies.softmax_probabilities(few)
        for count in range(1, size):
            yield Exact(
                f"chances in proportion to {few}, the first {count} right: natural norm, "
                "pseudo-inverse in closed form",
                _norm_of_table(pi, range(count)),
                f["natural"].subs(p, policies.success_rate(pi, range(count))),
            )
    for weight in ((1, 2, 3, 5, 7), (1, 1, 2, 9, 4, 3)):
        size = len(weight)
        pi = policies.softmax_probabilities(weight)
        score = policies.softmax_scores(pi)
        inverse = policies.pseudo_inverse(policies.fisher(pi, score))
        total, expected, first = sp.Integer(0), sp.Integer(0), sp.Integer(0)
        for count in range(1, size):
            for right in combinations(range(size), count):
                g = policies.gradient(pi, score, right)
                total += (g.T * inverse * g)[0]
                expected += f["natural"].subs(p, policies.success_rate(pi, right))
                first += (inverse * g)[right[0]]
        yield Exact(
            f"natural norm, summed over all {2**size - 2} sets of right answers, $K = {size}$",
            total,
            expected,
        )
        counts = [
            sp.binomial(size, c) * f["right_logit"].subs({right_count: c, answer_count: size})
            for c in range(1, size)
        ]
        yield Exact(
            f"step of the first right logit, summed over the same sets, $K = {size}$",
            first,
            sp.Add(*counts),
        )
    pi = policies.softmax_probabilities((1, 2, 4))
    onto = sp.Matrix([[1, 2, 0, -1], [0, 1, 1, 3], [2, 0, 1, 1]])
    score = policies.softmax_scores(pi, onto)
    yield Exact(
        "three answers, logits linear in four parameters: natural norm",
        policies.natural_norm_sq(policies.gradient(pi, score, {1}), policies.fisher(pi, score)),
        f["natural"].subs(p, pi[1]),
    )


def _sample_table(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    size = 12
    pi = rng.dirichlet(np.ones(size))
    right = np.arange(size) < 5
    rate = pi[right].sum()
    g, fisher = pi * (right - rate), np.diag(pi) - np.outer(pi, pi)

    def norm(c: np.ndarray[Any, Any]) -> float:
        return float((c @ g) ** 2 / (c @ fisher @ c))

    found, _ = largest(norm, g / np.abs(g).max())
    yield Search(
        r"a random table of twelve answers: best of $(c^\top g)^2 / c^\top F c$ over directions $c$",
        float(numeric(f["natural"], p)(rate)), found, norm(g), "the plain gradient",
        sense="max",
    )  # fmt: skip
    answer_S = rng.choice(size, size=100_000, p=pi)
    used_S = ((np.eye(size) - pi) @ np.linalg.pinv(fisher) @ g)[answer_S]
    yield Estimate.of(
        r"the same table: mean square of $s^\top F^+ g$ over sampled answers", used_S**2,
        expected=float(numeric(f["natural"], p)(rate)), control=norm(g),
        control_is="the plain gradient",
    )  # fmt: skip


# -- 1.4 a restricted model stays below ------------------------------------------------------------


def _prove_restricted(f: Formulas) -> Iterator[Step]:
    apart = sp.Symbol("D", real=True)
    right, wrong = (1 - p) * apart, -p * apart
    yield Step(
        r"Let $D$ be the mean score of right answers minus that of wrong ones. Scores have mean "
        r"$0$, so these two are $(1-p)D$ and $-pD$. One parameter: the variance between the kinds is",
        p * right**2 + (1 - p) * wrong**2,
        p * (1 - p) * apart**2,
        name="B",
    )
    yield Step(
        r"and $g = \mathbb{E}\,rs = p(1-p)D$ has the square $p(1-p)B$.",
        (p * right) ** 2,
        p * (1 - p) * (p * (1 - p) * apart**2),
        name="g^2",
    )
    total = sp.Symbol("F", positive=True)
    yield Step(
        r"So $\nu = g^2 / F$, where $F = \mathbb{E}\,s^2 = B + W$ by total variance.",
        (p * (1 - p) * between / total).subs(total, between + within),
        f["restricted"],
        name=r"\frac{g^2}{F}",
    )
    yield Step(
        r"It misses the ceiling by a share $W / (B + W)$, nothing iff $W = 0$.",
        p * (1 - p),
        f["restricted"],
        certificate=p * (1 - p) * within / (between + within),
    )
    scale = sp.Symbol("a", positive=True)
    yield Step(
        r"Several parameters: $F = p(1-p) D D^\top + W$, again by total variance, and $g = p(1-p)D$. "
        r"$F c = g$ is solved by $c = a W^{-1} D$, for which $F c = a(t + 1)D$, with $a = "
        r"p(1-p)/(1+t)$. So $\nu = g^\top c$ is",
        solution(scale * (separation + 1) - p * (1 - p), scale) * separation,
        f["several"],
        name="a t",
    )
    yield Step(
        r"and misses the ceiling by a share $1/(1+t)$.",
        p * (1 - p),
        f["several"],
        certificate=p * (1 - p) / (1 + separation),
    )


def _enumerate_restricted(f: Formulas) -> Iterator[Exact]:
    pi = policies.softmax_probabilities((1, 2, 3, 4))
    rate, right = sp.Rational(3, 10), (0, 1)
    cases: dict[str, tuple[tuple[int, ...], Relation]] = {
        "scores that differ among right answers": ((1, 3, 0, -2), "<"),
        "scores that only tell right from wrong": ((5, 5, 2, 2), "="),
    }
    for name, (feature, relation) in cases.items():
        score = policies.softmax_scores(pi, sp.Matrix(feature))
        norm = policies.natural_norm_sq(
            policies.gradient(pi, score, right), policies.fisher(pi, score)
        )
        parts = _parts(pi, score, right)
        yield Exact(f"{name}: natural norm", norm, f["restricted"].subs({p: rate, **parts}))
        yield Exact(f"{name}: against the ceiling", norm, rate * (1 - rate), relation=relation)
    for answers in ((1, 3), (0, 2, 4)):
        law = softmax_law(_WEIGHTS, answers, _FEATURES)
        inside = law.p * law.covariance_given(1) + (1 - law.p) * law.covariance_given(0)
        distance = (law.difference.T * inside.inv() * law.difference)[0]
        shown = ", ".join(str(k + 1) for k in answers)
        yield Exact(
            f"five answers, two parameters, right: {shown}; natural norm",
            _model(answers)[-1],
            f["several"].subs({p: law.p, separation: law.p * (1 - law.p) * distance}),
        )


def _parts(pi: sp.Matrix, score: sp.Matrix, right: tuple[int, ...]) -> dict[sp.Symbol, sp.Expr]:
    """Variance of a single score between the kinds and within them."""
    kinds = [list(right), [k for k in range(pi.rows) if k not in right]]
    shares = [sum(pi[k] for k in kind) for kind in kinds]
    means = [sum(pi[k] * score[k] for k in kind) / sum(pi[k] for k in kind) for kind in kinds]
    inside = sum(pi[k] * (score[k] - means[i]) ** 2 for i in range(2) for k in kinds[i])
    return {between: sum(shares[i] * means[i] ** 2 for i in range(2)), within: inside}


def _sample_restricted(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    pi = np.array([0.1, 0.15, 0.3, 0.2, 0.25])
    right = np.array([1.0, 1.0, 0.0, 0.0, 0.0])

    def norm(feature: np.ndarray[Any, Any]) -> float:
        score = feature - pi @ feature
        return float((pi @ (right * score)) ** 2 / (pi @ score**2))

    start = right + 0.5 * rng.normal(size=5)  # the norm ignores scale and shift: start not far off
    found, _ = largest(norm, start)
    yield Search(
        "the best single direction of logits for a prompt with $p = 1/4$",
        float(f["restricted"].subs({p: sp.Rational(1, 4), between: 1, within: 0})),
        found, norm(start), "the random direction it starts from", sense="max",
    )  # fmt: skip
    score = rng.normal(size=(5, 2))
    score -= pi @ score
    apart = score[:2].T @ pi[:2] / 0.25 - score[2:].T @ pi[2:] / 0.75
    rest = score - np.outer(right - 0.25, apart)  # from the mean of its kind
    t = 0.25 * 0.75 * apart @ np.linalg.solve((rest.T * pi) @ rest, apart)
    plain = score.T @ (pi * right)
    found, _ = largest(lambda c: norm(score @ c), plain)
    yield Search(
        "a random model of two parameters for that prompt: its best direction",
        float(f["several"].subs({p: sp.Rational(1, 4), separation: t})),
        found, norm(score @ plain), "the plain gradient", sense="max",
    )  # fmt: skip
    natural = np.linalg.solve((score.T * pi) @ score, plain)
    yield Estimate.of(
        "the same model: mean square of $s^\\top F^{-1} g$ over sampled answers",
        (score @ natural)[rng.choice(5, size=100_000, p=pi)] ** 2,
        expected=float(f["several"].subs({p: sp.Rational(1, 4), separation: t})),
        control=3 / 16, control_is="the ceiling",
    )  # fmt: skip


CLAIMS = [
    Claim(
        number="1.2",
        source="Eq. (10)",
        title="Cramér and Rao: the natural norm is at most Var r",
        status=Status.PROVED,
        statement=r"""For every policy that gives each of finitely many answers a positive,
differentiable chance, and every set of right ones, $g^\top F^{+} g \le <<ceiling>>$. The difference
is the mean square of what the scores cannot explain of $r - p$ (its residual after projection on
their span), so that equality holds iff $r - p$ is a linear combination of the scores.""",
        formulas={"ceiling": ceiling},
        prove=_prove_ceiling,
        enumerate=_enumerate_ceiling,
        sample=_sample_ceiling,
    ),
    Claim(
        number="1.3",
        source="Eq. (10)-(11); equality is not in the paper",
        title="A tabular softmax attains the ceiling, whatever is right",
        status=Status.PROVED,
        statement=r"""For a softmax over $K$ answers with a logit each, and any set of $c$ right
ones, $g^\top F^{+} g = <<natural>>$, with the pseudo-inverse of the singular Fisher matrix
$\mathrm{diag}(\pi) - \pi \pi^\top$. The same holds if the logits are a linear function of
parameters that takes all values in $\mathbb{R}^K$, such as a prompt's features times a weight per
answer. In the table the natural gradient raises each right logit by $<<right_logit>>$ (times the
step size) and lowers each wrong one by $c/K$: how likely an answer is plays no role.""",
        formulas={"natural": ceiling, "right_logit": right_logit},
        prove=_prove_table,
        enumerate=_enumerate_table,
        sample=_sample_table,
    ),
    Claim(
        number="1.4",
        source="not in the paper",
        title="How far a restricted model stays below the ceiling",
        status=Status.PROVED,
        statement=r"""Let $0 < p < 1$, and let the policy have one parameter on this prompt. Split
the variance of its score, not $0$, into $B$ between right and wrong answers and $W$ within each
kind. Then
$$g^\top F^{+} g = <<restricted>>,$$
strictly below $p(1-p)$ unless all right answers have one score and all wrong ones another
($W = 0$). With several parameters let $D$ be the difference of the mean scores of right and wrong
answers and $W$ the covariance matrix within the kinds. If $W$ is invertible and
$t = p(1-p) D^\top W^{-1} D$, then
$$g^\top F^{+} g = <<several>>,$$
always strictly below. Eq. (11) is then too large by the factor $\sqrt{1 + W/B}$ or
$\sqrt{1 + 1/t}$ (infinite if the mean scores agree), however small $\delta$ is.""",
        formulas={"restricted": restricted, "several": several},
        prove=_prove_restricted,
        enumerate=_enumerate_restricted,
        sample=_sample_restricted,
    ),
]
