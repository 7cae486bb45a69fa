r"""The shape of Eq. (21) in the success rate: when the quota is a bell, and when it has two humps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.policies import mean
from theory.score_law import G_0, G_1, D, ScoreLaw, as_array, moments, softmax_law, variance
from theory.symbols import p

G = sp.Symbol("G", positive=True)  # root mean square of |s|, right and wrong alike
L = sp.Symbol("L", positive=True)  # |grad logit p|
K_1, K_0 = sp.symbols("K_1 K_0", integer=True, positive=True)  # right and wrong answers
K = sp.Symbol("K", integer=True, positive=True)  # as many right as wrong ones
filler = sp.Symbol("h", positive=True)  # E|s|^2 of the tokens that do not matter
slack = sp.Symbol("x", nonnegative=True)
noise_0 = sp.Symbol("V_0", nonnegative=True)  # Tr Var(s | r=0)
u = sp.Symbol("u", positive=True)  # p (1 - p)

half = sp.Rational(1, 2)
even_norms = p * (1 - p) * G**2 - p**2 * (1 - p) ** 2 * D**2
two_answers = L**2 * p * (1 - p) * (1 - 2 * p) ** 2
table = p * (1 - p) * (1 + p * (4 * p - 3) / K_1 + (1 - p) * (1 - 4 * p) / K_0)
with_filler = p * (1 - p) * ((1 - 2 * p) ** 2 * L**2 + filler)


def hump(product: sp.Expr) -> sp.Expr:
    """The rate below 1/2 at which ``p (1 - p)`` has the given value."""
    return (1 - sp.sqrt(1 - 4 * product)) / 2


def highest(shape: sp.Expr, high: float = 1.0) -> float:
    """Largest value over rates in [1 - high, high], by a fine grid and a parabola at its best point."""
    f = numeric(shape, p)
    p_S = np.linspace(1.0 - high, high, 20_001)
    value_S = f(p_S) + np.zeros_like(p_S)
    i = int(np.clip(np.argmax(value_S), 1, p_S.size - 2))
    below, here, above = value_S[i - 1 : i + 2]
    return float(here - (above - below) ** 2 / (8.0 * (above - 2.0 * here + below)))


# --- 5.3: the condition


def _prove_bell(f: Formulas) -> Iterator[Step]:
    yield Step(r"(21) with $G_1 = G_0 = G$:", variance.subs({G_1: G, G_0: G}), f["even"])
    bracket = G**2 - 2 * p * (1 - p) * D**2
    yield Step(
        r"Its derivative in $p$, with $G$ and $D$ constant, is $(1-2p)$ times a bracket.",
        sp.diff(f["even"], p),
        (1 - 2 * p) * bracket,
    )
    yield Step(
        r"If $D^2 = 2G^2 - x$ with $x \ge 0$ the bracket is never negative: one bell, with its "
        r"top at $1/2$.",
        bracket.subs(D, sp.sqrt(f["threshold"] - slack)),
        0,
        certificate=(1 - 2 * p) ** 2 * G**2 + 2 * p * (1 - p) * slack,
    )
    yield Step(
        r"The second derivative at $1/2$ is positive as soon as $D^2$ exceeds the threshold: "
        r"$1/2$ is then a valley.",
        sp.diff(f["even"], p, 2).subs(p, half),
        D**2 - f["threshold"],
    )
    root = sp.solve(G**2 - 2 * u * D**2, u)[0]
    yield Step("The bracket vanishes on both sides of it, where $p(1-p)$ is", root, f["hump"])
    yield Step("The height there:", root * G**2 - root**2 * D**2, f["top"])


def _enumerate_bell(f: Formulas) -> Iterator[Exact]:
    # 2 right and 2 wrong answers, all as likely: scores have squared norm 3/4, and D^2 = 1
    law = softmax_law([1, 1, 1, 1], right={0, 1})
    value = {**moments(law), G: moments(law)[G_1]}
    yield Exact("table, 2 right, 2 wrong", sp.trace(law.covariance), f["even"].subs(value))
    steep = {G: 1, D: sp.sqrt(3)}
    at_hump = f["even"].subs(steep).subs(p, hump(f["hump"].subs(steep)))
    yield Exact("height of the hump, $D^2 = 3G^2$", at_hump, f["top"].subs(steep))
    yield Exact(
        "hump against valley, $D^2 = 3G^2$", f["even"].subs({**steep, p: half}), at_hump, "<"
    )
    flat = {G: 1, D: sp.sqrt(f["threshold"].subs(G, 1)), p: hump(sp.Rational(6, 25))}
    yield Exact("$D^2 = 2G^2$: less at $p = 2/5$ than at $1/2$", f["even"].subs(flat),
                f["even"].subs({**flat, p: half}), "<")  # fmt: skip


def _sample_bell(f: Formulas, rng: np.random.Generator) -> Iterator[Search]:
    ratio = float(rng.uniform(2.2, 3.8))
    value = {G: 1.0, D: ratio**0.5}
    yield Search(
        rf"largest $\sigma^2$ over $p$ at $D^2 = {ratio:.3f}\, G^2$, on a grid",
        claimed=float(f["top"].subs(value)),
        found=highest(even_norms.subs(value)),
        control=float(even_norms.subs({**value, p: 0.5})),
        control_is="the value at $p = 1/2$",
        sense="max",
    )


# --- 5.4: what D can be


def _prove_reach(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Let $p \ge 1/2$ (else exchange right and wrong). By 5.2 $|E[s \mid r=0]| = p D$, and "
        r"$G^2$ is its square plus $V_0 = \operatorname{Tr}\operatorname{Var}(s \mid r=0)$. Hence "
        r"$p D \le G$; at the ceiling nothing is left for $V_0$.",
        (p**2 * D**2 + noise_0).subs(D, f["ceiling"]),
        G**2,
        certificate=noise_0,
    )
    yield Step(
        r"The ceiling is reached: let all wrong answers have one score, of length $G$, and the "
        r"right ones a common part of length $(1-p) D$ against it. What is left of their $G^2$ "
        r"goes into directions that cancel; with $p = (1+x)/2$, $x \ge 0$, it is not negative.",
        (G**2 - ((1 - p) * f["ceiling"]) ** 2).subs(p, (1 + slack) / 2),
        0,
        certificate=4 * G**2 * slack / (1 + slack) ** 2,
    )
    yield Step("The ceiling is highest at $p = 1/2$:", f["ceiling"].subs(p, half), f["furthest"])
    yield Step(
        r"Solved for $p$: a given $D \ge G$ can be had up to the success rate",
        sp.solve(f["ceiling"] - D, p)[0],
        f["reach"],
    )
    ends, humps = G / D * (1 - G / D), G**2 / (2 * D**2)
    yield Step(
        r"The ends of the range have $p(1-p) = \frac GD (1 - \frac GD)$, the humps of 5.3 "
        r"$p(1-p) = G^2/(2D^2)$. The humps are inside iff the difference is positive:",
        humps - ends,
        G / D * (sp.Rational(3, 2) * f["reach"] - 1),
    )
    yield Step(
        r"which changes sign where $D^2$ is",
        sp.solve(humps - ends, D)[0] ** 2,
        f["last"],
    )


def _enumerate_reach(f: Formulas) -> Iterator[Exact]:
    star = ScoreLaw(  # three unit vectors at 120 degrees, one of them wrong: p = 2/3
        sp.ones(3, 1) / 3,
        sp.Matrix([[-1, 0], [half, sp.sqrt(3) / 2], [half, -sp.sqrt(3) / 2]]),
        sp.Matrix([0, 1, 1]),
    )
    value = {**moments(star), G: 1}
    yield Exact(
        "three unit scores at 120°, two right: mean score",
        0,
        mean(star.pi_K, star.score_K_D).norm(),
    )
    yield Exact("three unit scores at 120°, two right: $D$", value[D], f["ceiling"].subs(value))
    yield Exact("the rate up to which this $D$ can be had", value[p], f["reach"].subs(value))
    yield Exact(
        "this $D$ is also where the humps reach the ends", value[D] ** 2, f["last"].subs(G, 1)
    )
    two = moments(softmax_law([1, 1], right={0}))
    yield Exact("two answers, $p = 1/2$: $D$", two[D], f["furthest"].subs(G, two[G_1]))


def _sample_reach(f: Formulas, rng: np.random.Generator) -> Iterator[Search]:
    pi_K, right_K = np.array([0.4, 0.3, 0.2, 0.1]), np.array([True, True, False, False])

    def gap(flat: np.ndarray) -> float:
        score = flat.reshape(4, 2)
        means = [pi_K[k] @ score[k] / pi_K[k].sum() for k in (right_K, ~right_K)]
        return -float(((means[0] - means[1]) ** 2).sum())

    def constraints(flat: np.ndarray) -> np.ndarray:
        score = flat.reshape(4, 2)
        square = (score**2).sum(axis=1)
        norms = [pi_K[k] @ square[k] / pi_K[k].sum() - 1.0 for k in (right_K, ~right_K)]
        return np.concatenate([pi_K @ score, norms])

    runs = [
        minimize(gap, rng.normal(size=8), method="SLSQP", options={"ftol": 1e-13, "maxiter": 500},
                 constraints={"type": "eq", "fun": constraints})
        for _ in range(8)
    ]  # fmt: skip
    found = max(-run.fun for run in runs if np.abs(constraints(run.x)).max() < 1e-9)
    yield Search(
        r"$D^2$ over 4 scores in the plane, $p = 0.7$, $G = 1$ on both sides, mean zero; SLSQP",
        claimed=float(f["ceiling"].subs({p: 0.7, G: 1})) ** 2,
        found=found,
        control=1.0,
        control_is="$G^2$, all that is possible at every $p$ at once",
        sense="max",
    )


# --- 5.5: two answers


def _prove_two_answers(f: Formulas) -> Iterator[Step]:
    right, wrong = (1 - p) * (1 - p) * L, (-p) * (-p) * L
    yield Step(
        r"The scores are $(1-p)\nabla\operatorname{logit} p$ (right) and "
        r"$-p\nabla\operatorname{logit} p$ (wrong); times the advantages $1-p$ and $-p$ both "
        r"point along the gradient, whose length is",
        p * right + (1 - p) * wrong,
        p * (1 - p) * L,
    )
    yield Step(
        "Mean square minus squared mean:",
        p * right**2 + (1 - p) * wrong**2 - (p * (1 - p) * L) ** 2,
        f["variance"],
    )
    yield Step(
        r"At $p = 1/2$ right and wrong rollouts give the same contribution: one rollout tells it "
        r"all.",
        (right - f["variance"]).subs(p, half),
        wrong.subs(p, half),
    )
    yield Step(
        r"The derivative, $L = 1$, vanishes at $1/2$ and where $p(1-p)$ is $1/8$.",
        sp.diff(f["variance"].subs(L, 1), p),
        (1 - 2 * p) * (1 - p * (1 - p) / f["hump"]),
    )
    rate = hump(f["hump"])
    yield Step(r"There, at $p = (1 \mp 1/\sqrt 2)/2$:", f["variance"].subs(p, rate), f["top"])


def _enumerate_two_answers(f: Formulas) -> Iterator[Exact]:
    laws = {
        "table, $p = 1/4$": (softmax_law([1, 3], right={0}), sp.sqrt(2)),
        "features $(3, 4)$ and $0$, $p = 2/5$": (
            softmax_law([2, 3], right={0}, features=sp.Matrix([[3, 4], [0, 0]])),
            sp.Integer(5),
        ),
    }
    for what, (law, length) in laws.items():
        value = {p: law.p, L: length}
        yield Exact(what, sp.trace(law.covariance), f["variance"].subs(value))
    value = {p: half, L: sp.sqrt(2)}
    yield Exact(
        "table, $p = 1/2$: below the value at the hump",
        sp.trace(softmax_law([1, 1], right={0}).covariance),
        f["top"].subs(value),
        "<",
    )


def _sample_two_answers(f: Formulas, rng: np.random.Generator) -> Iterator[Search | Estimate]:
    law = softmax_law([1, 3], right={0})
    yield _half_squared_distance(
        "two answers, $p = 1/4$", law, rng, f["variance"].subs({p: law.p, L: sp.sqrt(2)}),
        (p * (1 - p)).subs(p, law.p) * 2, "the bell $p (1-p) L^2$"
    )  # fmt: skip
    yield Search(
        r"largest $\sigma^2$ over $p$, $L = 1$, on a grid",
        claimed=float(f["top"].subs(L, 1)),
        found=highest(two_answers.subs(L, 1)),
        control=float(two_answers.subs({L: 1, p: 0.25})),
        control_is="the value at $p = 1/4$",
        sense="max",
    )


def _half_squared_distance(
    what: str,
    law: ScoreLaw,
    rng: np.random.Generator,
    expected: sp.Expr,
    control: sp.Expr,
    name: str,
) -> Estimate:
    pairs = as_array(law.contribution_K_D)[law.draw(rng, [60_000, 2])]
    return Estimate.of(
        f"half the squared distance of two contributions; {what}",
        0.5 * ((pairs[:, 0] - pairs[:, 1]) ** 2).sum(axis=1),
        expected=float(expected),
        control=float(control),
        control_is=name,
    )


# --- 5.6: tokens that do not matter


def _prove_filler(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"Let $s = (s', s'')$ with $s''$ independent of $(s', r)$ and $E|s''|^2 = h$. The part "
        r"$A s''$ has mean zero and mean square $E[A^2]\, h = p(1-p) h$; $A s'$ is the case of "
        r"5.5.",
        two_answers + (p * (1 - p) ** 2 + (1 - p) * p**2) * filler,
        f["variance"],
    )
    bracket = L**2 + filler - 8 * p * (1 - p) * L**2
    yield Step("The derivative in $p$:", sp.diff(f["variance"], p), (1 - 2 * p) * bracket)
    yield Step(
        r"If $h = L^2 + x$ with $x \ge 0$ the bracket is never negative: one bell.",
        bracket.subs(filler, f["threshold"] + slack),
        0,
        certificate=2 * (1 - 2 * p) ** 2 * L**2 + slack,
    )
    yield Step(
        r"If $h$ is smaller, $1/2$ is a valley: the second derivative there is",
        sp.diff(f["variance"], p, 2).subs(p, half),
        2 * (f["threshold"] - filler),
    )


def _with_filler(decision: list[int], token: list[int]) -> ScoreLaw:
    """First of two answers right, and beside it a token whose choice does not matter."""
    size = len(decision), len(token)
    features = sp.Matrix(
        [
            [*sp.eye(size[0]).row(i), *sp.eye(size[1]).row(j)]
            for i in range(size[0])
            for j in range(size[1])
        ]
    )
    weight = [a * b for a in decision for b in token]
    return softmax_law(weight, right=range(size[1]), features=features)


def _enumerate_filler(f: Formulas) -> Iterator[Exact]:
    for what, decision, token in (
        ("$p = 1/4$, one filler token of chances 1/6, 2/6, 3/6", [1, 3], [1, 2, 3]),
        ("$p = 1/2$, one filler token of 4 equal choices", [1, 1], [1, 1, 1, 1]),
    ):
        law = _with_filler(decision, token)
        h = 1 - sum(sp.Rational(x, sum(token)) ** 2 for x in token)
        value = {p: law.p, L: sp.sqrt(2), filler: h}
        yield Exact(what, sp.trace(law.covariance), f["variance"].subs(value))
    tie = {L: 1, filler: f["threshold"].subs(L, 1)}
    yield Exact(
        "$h = L^2$: less at $p = 2/5$ than at $1/2$",
        f["variance"].subs({**tie, p: sp.Rational(2, 5)}),
        f["variance"].subs({**tie, p: half}),
        "<",
    )


def _sample_filler(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    # 12 filler tokens of two equal choices: each adds 1 - 1/4 - 1/4 = 1/2
    rate, tokens, size = 0.3, 12, 40_000
    reward = (rng.random(size) < rate).astype(np.float64)
    decision = np.sqrt(2.0) * (reward - rate)  # L = sqrt 2
    noise = rng.choice([-np.sqrt(0.5), np.sqrt(0.5)], size=(size, tokens))
    draw = (reward - rate)[:, None] * np.column_stack([decision, noise])
    pairs = draw.reshape(-1, 2, tokens + 1)
    value = {p: rate, L: 2**0.5, filler: tokens / 2}
    yield Estimate.of(
        "half the squared distance of two contributions; 12 filler tokens, $p = 0.3$",
        0.5 * ((pairs[:, 0] - pairs[:, 1]) ** 2).sum(axis=1),
        expected=float(f["variance"].subs(value)),
        control=float(two_answers.subs(value)),
        control_is="(21) of the deciding token alone",
    )


# --- 5.7: the table


def _prove_table(f: Formulas) -> Iterator[Step]:
    square = p**2 / K_1 + (1 - p) ** 2 / K_0  # sum of pi_k^2
    right, wrong = 1 - 2 * p / K_1 + square, 1 - 2 * (1 - p) / K_0 + square
    slope_sq = K_1 * (p / K_1 * (1 - p)) ** 2 + K_0 * ((1 - p) / K_0 * p) ** 2
    yield Step(
        r"The score of answer $k$ is $e_k - \pi$, of square $1 - 2\pi_k + \sum_j \pi_j^2$, and "
        r"$\partial p/\partial\theta_k = \pi_k (r_k - p)$. Hence "
        r"$D^2 = |\nabla p|^2 / (p(1-p))^2$ is",
        sp.cancel(slope_sq / (p * (1 - p)) ** 2),
        1 / K_1 + 1 / K_0,
    )
    yield Step(
        r"(21) with $G_1^2$, $G_0^2$ and $D^2$ put in:",
        variance.subs({G_1: sp.sqrt(right), G_0: sp.sqrt(wrong), D: sp.sqrt(1 / K_1 + 1 / K_0)}),
        f["table"],
    )
    yield Step("As many right as wrong answers:", f["table"].subs({K_1: K, K_0: K}), f["even"])
    yield Step(
        r"In $u = p(1-p)$ that is $u(1 + 1/K) - 8u^2/K$, with one maximum at $u = (K+1)/16$: a "
        r"bell iff this is not below $1/4$, that is $K \ge 3$. Likewise the second derivative in "
        r"$p$ at $1/2$:",
        sp.diff(f["even"], p, 2).subs(p, half),
        f["curvature"],
    )
    yield Step(
        r"One right answer and $K_0 \to \infty$ wrong ones:",
        sp.limit(f["table"].subs(K_1, 1), K_0, sp.oo),
        f["one_right"],
    )


def _even_table(right: int, wrong: int, rate: sp.Rational) -> ScoreLaw:
    weight = [rate / right] * right + [(1 - rate) / wrong] * wrong
    return softmax_law(weight, right=range(right))


def _enumerate_table(f: Formulas) -> Iterator[Exact]:
    for right, wrong, rate in (
        (2, 3, sp.Rational(1, 3)),
        (1, 4, sp.Rational(3, 4)),
        (3, 1, sp.Rational(1, 5)),
    ):
        law = _even_table(right, wrong, rate)
        value = {K_1: right, K_0: wrong, p: rate}
        yield Exact(
            f"{right} right, {wrong} wrong, $p = {rate}$",
            sp.trace(law.covariance),
            f["table"].subs(value),
        )
    quarter = sp.Rational(1, 4)
    for size, relation in ((2, ">"), (3, "<")):
        yield Exact(
            f"{size} right, {size} wrong: $p = 1/4$ against $p = 1/2$",
            sp.trace(_even_table(size, size, quarter).covariance),
            f["even"].subs({K: size, p: half}),
            relation,
        )
    yield Exact("curvature at 1/2 with 3 and 3 answers", 0, f["curvature"].subs(K, 3))
    yield Exact("one right answer among many: $p = 3/4$ against $p = 1/2$", f["one_right"].subs(p, 3 * quarter),
                f["one_right"].subs(p, half), ">")  # fmt: skip


def _sample_table(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate = sp.Rational(1, 4)
    yield _half_squared_distance(
        "3 right, 2 wrong, $p = 1/4$",
        _even_table(3, 2, rate),
        rng,
        f["table"].subs({K_1: 3, K_0: 2, p: rate}),
        f["table"].subs({K_1: 2, K_0: 3, p: rate}),
        "right and wrong exchanged",
    )


CLAIMS = [
    Claim(
        number="5.3",
        source="Eq. (21), Figure 4",
        title="When the variance is a bell in the success rate",
        status=Status.CONDITIONAL,
        statement=r"""
The paper shows quotas that are bell-shaped in the success rate with the top at $1/2$. Let right and
wrong answers have the same mean square $G^2$ of the score, and let $G$ and $D$ not depend on $p$
(in a range of $p$ that is symmetric about $1/2$). Then
$$\sigma^2 = <<even>>$$
is one bell iff $D^2 \le <<threshold>>$. Otherwise $1/2$ is a valley between two humps of height
$<<top>>$ at $p(1-p) = <<hump>>$.""",
        condition=r"""
$D^2 \le <<threshold>>$: the mean score of right answers and that of wrong ones are close to each
other compared with the scores themselves.""",
        formulas={
            "even": even_norms,
            "threshold": 2 * G**2,
            "hump": G**2 / (2 * D**2),
            "top": G**4 / (4 * D**2),
        },
        prove=_prove_bell,
        enumerate=_enumerate_bell,
        sample=_sample_bell,
    ),
    Claim(
        number="5.4",
        source="not in the paper",
        title="How far apart the mean scores can be",
        status=Status.PROVED,
        statement=r"""
Because $E s = 0$, $G$ and $D$ of 5.3 are not free. At a success rate $p \ge 1/2$ the largest
possible $D$ is $<<ceiling>>$ (below $1/2$ the same with $1-p$), hence never more than
$<<furthest>>$. If $G$ and $D$ are the same at *every* $p$, then $D \le G$, and $\sigma^2$ is a
bell. A larger constant $D$ is possible only for $p$ between $1 - <<reach>>$ and $<<reach>>$. In
that range the two humps are seen for $2 G^2 < D^2 < <<last>>$; for $<<last>> \le D^2 \le 4 G^2$ the
variance only falls from the ends of the range to the middle.""",
        formulas={
            "ceiling": G / p,
            "furthest": 2 * G,
            "reach": G / D,
            "last": sp.Rational(9, 4) * G**2,
        },
        prove=_prove_reach,
        enumerate=_enumerate_reach,
        sample=_sample_reach,
    ),
    Claim(
        number="5.5",
        source="Eq. (21)",
        title="Two answers: no variance at one half",
        status=Status.PROVED,
        statement=r"""
Let the score depend on the reward only, as with two possible answers or in item response theory,
and $L = |\nabla \operatorname{logit} p|$. Then (21) is
$$\sigma^2 = <<variance>>,$$
zero at $p = 1/2$, where (14) samples most, and largest, $<<top>>$, where $p(1-p) = <<hump>>$, that
is at $p \approx 0.146$ and $0.854$.""",
        formulas={
            "variance": two_answers,
            "hump": sp.Rational(1, 8),
            "top": L**2 / 16,
        },
        prove=_prove_two_answers,
        enumerate=_enumerate_two_answers,
        sample=_sample_two_answers,
    ),
    Claim(
        number="5.6",
        source="not in the paper",
        title="The bell is made by tokens that do not matter",
        status=Status.PROVED,
        statement=r"""
Let one token decide as in 5.5 and let the others, independent of it, leave the reward alone; $h$ is
the mean square of their score. Then
$$\sigma^2 = <<variance>>,$$
one bell iff $h \ge <<threshold>>$. Each further token adds its own part to $h$, so that in a long
answer $\sigma^2 \approx p(1-p)\, h$: the quota (20) follows the bell because of noise that carries
nothing about the reward, and vanishes from the middle as that noise does.""",
        formulas={"variance": with_filler, "threshold": L**2},
        prove=_prove_filler,
        enumerate=_enumerate_filler,
        sample=_sample_filler,
    ),
    Claim(
        number="5.7",
        source="Eq. (21)",
        title="Softmax over a few answers: a bell from six on",
        status=Status.PROVED,
        statement=r"""
A table with $K_1$ right answers that share $p$ evenly and $K_0$ wrong ones that share $1-p$ has
$$\sigma^2 = <<table>>.$$
With as many right as wrong ones, $K$ of each, it is $<<even>>$, with second derivative
$<<curvature>>$ at $p = 1/2$: zero and two humps for $K = 1$ (5.5), two humps for $K = 2$, a bell
from $K = 3$ on. One right answer among ever more wrong ones gives $<<one_right>>$, whose top is
near $p = 0.74$, not at $1/2$.""",
        formulas={
            "table": table,
            "even": p * (1 - p) * (1 + 1 / K - 8 * p * (1 - p) / K),
            "curvature": 6 / K - 2,
            "one_right": p * (1 - p) * (1 - 3 * p + 4 * p**2),
        },
        prove=_prove_table,
        enumerate=_enumerate_table,
        sample=_sample_table,
    ),
]
