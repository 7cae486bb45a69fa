r"""What a prompt can teach, against the bound of Eq. (11) on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sympy as sp
from scipy.special import expit, logit

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.policies import fisher, natural_norm_sq, pseudo_inverse, table_pseudo_inverse, weights
from theory.score_law import Array, ScoreLaw, as_array, softmax_law
from theory.search import to_boundary
from theory.symbols import delta, p, q
from theory.trust_region import divergence

false_positive, false_negative = sp.symbols("a b", positive=True)
steps = sp.Symbol("ell", integer=True, positive=True)  # steps of a chain
passed = sp.Symbol("Q", positive=True)  # chance to pass all steps so far
overlap = sp.Symbol("kappa", real=True)  # a_1 . a_2 / |a_1|^2
loading = sp.Symbol("L", positive=True)  # |a_1|

judged = false_positive + (1 - false_positive - false_negative) * p
kept = (1 - false_positive - false_negative) ** 2 * p * (1 - p)
repeated = steps**2 * q ** (steps - 1) * (1 - q) ** 2 / (1 - q**steps) ** 2


def products(rng: np.random.Generator, law: ScoreLaw, metric: sp.Matrix, size: int) -> Array:
    """``(r s)^T metric (r' s')`` of independent pairs of rollouts, shape (size,)."""
    answer_S_2 = law.draw(rng, [size, 2])
    vector = as_array(law.reward_K)[answer_S_2] * as_array(law.score_K_D)[answer_S_2]
    return np.asarray(np.einsum("sd,de,se->s", vector[:, 0], as_array(metric), vector[:, 1]))


def chain_law(pass_L: Sequence[Any], skill_L: Sequence[int]) -> ScoreLaw:
    """Steps that are passed one after the other until one fails; right iff none does.

    Step j uses skill ``skill_L[j]`` and is passed with chance ``pass_L[j] = logistic(skill)``; its score
    is 1 - chance if passed, -chance if failed. Answer k: the number of steps passed.
    """
    width = len(pass_L)
    pi, rows = [], []
    for done in range(width + 1):
        failed = 1 - pass_L[done] if done < width else sp.Integer(1)
        pi.append(sp.Mul(*pass_L[:done], failed))
        row = [sp.Integer(0)] * (max(skill_L) + 1)
        for j in range(min(done + 1, width)):
            row[skill_L[j]] += int(j < done) - pass_L[j]
        rows.append(row)
    return ScoreLaw(sp.Matrix(pi), sp.Matrix(rows), sp.Matrix([0] * width + [1]))


# --- 8.1: a noisy verifier


def _prove_noisy(f: Formulas) -> Iterator[Step]:
    a, b = false_positive, false_negative
    yield Step(
        r"Right answers are judged right with chance $1-b$, wrong ones with chance $a$. The rate "
        r"that training sees is",
        p * (1 - b) + (1 - p) * a,
        f["judged"],
    )
    yield Step(
        r"It depends on the parameters through $p$ alone: its gradient is $(1-a-b)\nabla p$, and "
        r"$\nabla p^\top F^+ \nabla p = p(1-p)$ for a table (1.3).",
        sp.diff(f["judged"], p) ** 2 * p * (1 - p),
        f["kept"],
        name=r"(1-a-b)^2\, \nabla p^\top F^{+} \nabla p",
    )
    yield Step(
        r"By total variance, the variance of the verdict is the signal plus the variance of the "
        r"verdict given the answer:",
        f["judged"] * (1 - f["judged"]),
        f["kept"] + f["lost"],
    )
    yield Step(
        "The share of the squared bound, signal over the variance of the verdict:",
        f["kept"] / (f["judged"] * (1 - f["judged"])),
        f["share"],
    )


def _enumerate_noisy(f: Formulas) -> Iterator[Exact]:
    law = softmax_law([2, 1, 3], right={0})
    for a, b in ((sp.Rational(1, 5), sp.Rational(1, 10)), (sp.Rational(1, 2), sp.Rational(1, 2))):
        value = {p: law.p, false_positive: a, false_negative: b}
        verdict = law.reward_K.applyfunc(lambda r, a=a, b=b: r * (1 - b) + (1 - r) * a)
        slope = law.score_K_D.T * sp.diag(*law.pi_K) * verdict
        natural = natural_norm_sq(slope, fisher(law.pi_K, law.score_K_D))
        rate = law.pi_K.dot(verdict)
        what = f"table of 3 answers, $p = 1/3$, $a = {sp.latex(a)}$, $b = {sp.latex(b)}$"
        yield Exact(f"{what}: rate", rate, f["judged"].subs(value))
        yield Exact(f"{what}: natural norm", natural, f["kept"].subs(value))
        yield Exact(f"{what}: share", natural / (rate * (1 - rate)), f["share"].subs(value))
        within = law.pi_K.dot(verdict.applyfunc(lambda v: v * (1 - v)))
        yield Exact(f"{what}: variance given the answer", within, f["lost"].subs(value))


def _sample_noisy(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    law, a, b, size = softmax_law([2, 1, 3], right={0}), 0.3, 0.1, 200_000
    answer = law.draw(rng, [size, 2])
    chance = np.where(as_array(law.reward_K).ravel()[answer] == 1.0, 1.0 - b, a)
    verdict = rng.random((size, 2)) < chance
    vector = verdict[..., None] * as_array(law.score_K_D)[answer]
    metric = as_array(pseudo_inverse(fisher(law.pi_K, law.score_K_D)))
    value = {p: law.p, false_positive: a, false_negative: b}
    yield Estimate.of(
        r"$(r s)^\top F^+ (r' s')$ of two rollouts, $r$ the verdict; $a = 0.3$, $b = 0.1$",
        np.einsum("sd,de,se->s", vector[:, 0], metric, vector[:, 1]),
        expected=float(f["kept"].subs(value)),
        control=float((judged * (1 - judged)).subs(value)),
        control_is="the bound",
    )


# --- 8.2: policies that reach the bound


def _prove_reached(f: Formulas) -> Iterator[Step]:
    weight = weights(3)
    law = softmax_law(weight, right={0})
    norm = (law.gradient.T * table_pseudo_inverse(law.pi_K) * law.gradient)[0]
    yield Step(
        r"Tables of any size and with any right set are in 1.3. Here 3 answers with $w_k = "
        r"e^{\theta_k}$, the first right: $g^\top F^+ g$ with the pseudo-inverse in closed form.",
        sp.factor(norm),
        sp.factor(f["norm"].subs(p, weight[0] / sum(weight))),
        name=r"g^\top F^{+} g",
    )
    yield Step(
        r"Item response, $p = \sigma(a \cdot \theta - b)$: $s = (r - p) a$, so that "
        r"$g = p(1-p) a$ and $F = p(1-p)\, a a^\top$; along $a$, with $|a| = L$,",
        (p * (1 - p) * loading) ** 2 / (p * (1 - p) * loading**2),
        f["norm"],
        name=r"\frac{\left(p (1-p) L\right)^2}{p (1-p) L^2}",
    )
    yield Step(
        r"Chain of distinct skills: a step of chance $q$, tried with chance $Q$ (all before it "
        r"passed), has $g_j = p(1-q)$ and $F_{jj} = Q q(1-q)$, and $F$ is diagonal. Its part of "
        r"$g^\top F^{-1} g$ is $p^2$ times the difference of $1/Q$ after and before the step.",
        (p * (1 - q)) ** 2 / (passed * q * (1 - q)),
        p**2 * (1 / (passed * q) - 1 / passed),
    )
    yield Step(
        "The sum over the steps telescopes, from $Q = 1$ to $Q = p$.", p**2 * (1 / p - 1), f["norm"]
    )


def _natural_share(law: ScoreLaw) -> sp.Expr:
    natural = natural_norm_sq(law.gradient, fisher(law.pi_K, law.score_K_D))
    return natural / (law.p * (1 - law.p))


def _enumerate_reached(f: Formulas) -> Iterator[Exact]:
    chances = [sp.Rational(1, 2), sp.Rational(2, 3), sp.Rational(4, 5)]
    laws = {
        "table of 5 answers, 2 right": softmax_law([1, 2, 3, 4, 5], right={1, 4}),
        r"item response, $a = (1, 2)$, $p = 3/4$": softmax_law(
            [3, 1], right={0}, features=sp.Matrix([[1, 2], [0, 0]])
        ),
        "chain of 3 skills, chances 1/2, 2/3, 4/5": chain_law(chances, [0, 1, 2]),
    }
    for what, law in laws.items():
        norm = natural_norm_sq(law.gradient, fisher(law.pi_K, law.score_K_D))
        yield Exact(what, norm, f["norm"].subs(p, law.p))
    chain = laws["chain of 3 skills, chances 1/2, 2/3, 4/5"]
    after = sp.Matrix([sp.Mul(*chances[j + 1 :]) for j in range(3)])
    martingale = chain.score_K_D * after + sp.ones(4, 1) * chain.p
    yield Exact(
        "the chain: answers whose reward is $p$ and the scores of the steps, each times the chance to "
        "pass all after it",
        sum(x == r for x, r in zip(martingale, chain.reward_K, strict=True)),
        4,
    )
    restricted = softmax_law([1, 1, 1], right={0}, features=sp.Matrix([0, 1, 3]))
    norm = natural_norm_sq(restricted.gradient, fisher(restricted.pi_K, restricted.score_K_D))
    yield Exact(
        "3 answers on one feature do not reach it", norm, f["norm"].subs(p, restricted.p), "<"
    )


def _sample_reached(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    chances = [sp.Rational(1, 2), sp.Rational(2, 3), sp.Rational(4, 5)]
    law = chain_law(chances, [0, 1, 2])
    metric = fisher(law.pi_K, law.score_K_D).inv()
    untried = law.p**2 * sp.Add(*((1 - x) / x for x in chances))
    yield Estimate.of(
        r"$(r s)^\top F^{-1} (r' s')$ of two rollouts of a chain of 3 skills",
        products(rng, law, metric, 200_000),
        expected=float(f["norm"].subs(p, law.p)),
        control=float(untried),
        control_is="as if every step were tried in every rollout",
    )


# --- 8.3: a chain that asks for one skill again and again


def _prove_repeated(f: Formulas) -> Iterator[Step]:
    slope = q * (1 - q) * sp.diff(q**steps, q)
    yield Step(
        r"$p = q^\ell$ with $q = \sigma(\theta)$, $dq/d\theta = q(1-q)$: the gradient is",
        slope,
        steps * q**steps * (1 - q),
        name=r"q (1-q) \frac{d}{dq} q^\ell",
    )
    information = q * (1 - q**steps)
    yield Step(
        r"Step $j$ adds $q^{j-1} q (1-q)$ to the Fisher information, the chance that it is tried "
        r"times the variance of its own score. By induction the sum is $q(1 - q^\ell)$: one more "
        r"step gives",
        information + q**steps * q * (1 - q),
        information.subs(steps, steps + 1),
    )
    yield Step(
        r"The natural norm $g^2/F$ as a share of $p(1-p)$:",
        slope**2 / (information * q**steps * (1 - q**steps)),
        f["share"],
    )
    power, other = sp.symbols("i j", integer=True, nonnegative=True)
    yield Step(
        r"It is less than 1 iff $\ell\, q^{(\ell-1)/2}$ is less than $(1 - q^\ell)/(1 - q) = 1 + q + "
        r"\dots + q^{\ell-1}$. There the terms of exponents $i$ and $j = \ell - 1 - i$ add up to "
        r"at least $2 q^{(\ell-1)/2}$, and to more if $i \ne j$:",
        q**power + q**other,
        2 * q ** ((power + other) / 2),
        certificate=(q ** (power / 2) - q ** (other / 2)) ** 2,
    )
    yield Step(r"For two steps it is", f["share"].subs(steps, 2), 4 * q / (1 + q) ** 2)


def _enumerate_repeated(f: Formulas) -> Iterator[Exact]:
    for size, chance in ((1, sp.Rational(1, 3)), (2, sp.Rational(1, 2)), (4, sp.Rational(2, 3))):
        law = chain_law([chance] * size, [0] * size)
        what = f"{size} steps on one skill, $q = {chance}$"
        yield Exact(what, _natural_share(law), f["share"].subs({steps: size, q: chance}))


def _sample_repeated(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    chance = sp.Rational(1, 2)
    law = chain_law([chance] * 4, [0] * 4)
    metric = fisher(law.pi_K, law.score_K_D).inv() / (law.p * (1 - law.p))
    yield Estimate.of(
        r"$(r s)(r' s')/F$ of two rollouts as a share of $p(1-p)$; 4 steps on one skill, $q = 1/2$",
        products(rng, law, metric, 200_000),
        expected=float(f["share"].subs({steps: 4, q: chance})),
        control=1.0,
        control_is="the bound reached",
    )


# --- 8.4: larger bound, smaller gain


def _prove_transfer(f: Formulas) -> Iterator[Step]:
    radius = sp.sqrt(2 * delta) / (loading * sp.sqrt(p * (1 - p)))
    yield Step(
        r"Two item-response prompts with loadings $a_1, a_2$, rates $p, q$; $L = |a_1|$. A step "
        r"of length $t$ along $a_1$ costs the first prompt a divergence of $p(1-p) L^2 t^2/2$, to "
        r"second order. It is $\delta$ for $t = \sqrt{2\delta}/(L \sqrt{p(1-p)})$:",
        p * (1 - p) * loading**2 * radius**2 / 2,
        delta,
        name=r"\tfrac12 p (1-p) L^2 t^2",
    )
    yield Step(
        r"That step raises $p$ by", p * (1 - p) * loading * radius, f["own"], name=r"p (1-p) L\, t"
    )
    other = q * (1 - q) * overlap * loading * radius
    yield Step(
        r"It raises $q$ by $q(1-q)\, a_2 \cdot a_1 t/L$. The mean of the two success rates gains",
        (f["own"] + other) / 2,
        f["gain"],
    )
    root = sp.Symbol("b", positive=True)  # sqrt(p (1 - p))
    yield Step(
        r"With $b = \sqrt{p(1-p)}$ for the potential, the gain is proportional to "
        r"$b + \kappa q(1-q)/b$, convex for $\kappa > 0$: its derivative is",
        sp.Derivative(root + overlap * q * (1 - q) / root, root),
        1 - f["turn"] / root**2,
    )


def _natural_step_gain(odds: int, rate_2: sp.Rational, radius: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Own and mean gain of a natural step, loadings (1, 0) and (1, 1), from the Fisher matrices."""
    first = softmax_law([odds, 1], right={0}, features=sp.Matrix([[1, 0], [0, 0]]))
    second = softmax_law([rate_2, 1 - rate_2], right={0}, features=sp.Matrix([[1, 1], [0, 0]]))
    direction = pseudo_inverse(fisher(first.pi_K, first.score_K_D)) * first.gradient
    step = direction * sp.sqrt(2 * radius / first.gradient.dot(direction))
    own = first.gradient.dot(step)
    return own, (own + second.gradient.dot(step)) / 2


def _enumerate_transfer(f: Formulas) -> Iterator[Exact]:
    half, small = sp.Rational(1, 2), sp.Rational(1, 800)
    gains = []
    for odds in (1, 9):  # p = 1/2 and p = 9/10
        rate = sp.Rational(odds, odds + 1)
        value = {p: rate, q: half, delta: small, overlap: 1}
        own, gain = _natural_step_gain(odds, half, small)
        yield Exact(f"own gain at $p = {rate}$", own, f["own"].subs(value))
        yield Exact(f"mean gain at $p = {rate}$", gain, f["gain"].subs(value))
        gains.append((own, gain))
    yield Exact(
        "own gain, which is the bound: smaller at $p = 9/10$ than at $1/2$",
        gains[1][0],
        gains[0][0],
        "<",
    )
    yield Exact("mean gain: larger at $p = 9/10$ than at $1/2$", gains[1][1], gains[0][1], ">")
    against = {p: half, q: half, overlap: -1, delta: small}
    yield Exact(r"$\kappa = -1$, $p = q = 1/2$, where the bound is largest: mean gain",
                0, f["gain"].subs(against))  # fmt: skip


def _sample_transfer(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_2, radius = np.array([0.9, 0.5]), 1 / 800
    loading_2_2 = np.array([[1.0, 0.0], [1.0, 1.0]])
    # a step along the first loading; its length by bisection of the divergence, at a tiny radius
    tiny = radius / 1e6
    longest = to_boundary(
        lambda t: float(tiny - divergence([0.9], [expit(logit(0.9) + t) - 0.9])[0]), 1.0
    )
    step = loading_2_2[0] * longest * np.sqrt(radius / tiny)
    # score-function estimate of the slope of both rates along it
    reward_S_2 = (rng.random((100_000, 2)) < rate_2).astype(np.float64)
    slope_S = (reward_S_2 * (reward_S_2 - rate_2) * (loading_2_2 @ step)).mean(axis=1)
    value = {p: rate_2[0], q: rate_2[1], delta: radius, overlap: 1}
    yield Estimate.of(
        r"slope of the mean success rate along the natural step $d$, from $r\,s \cdot d$ of one rollout "
        r"per prompt; $p = 0.9$, $q = 0.5$",
        slope_S,
        expected=float(f["gain"].subs(value)),
        control=float(f["own"].subs(value)),
        control_is="the bound (11)",
    )


CLAIMS = [
    Claim(
        number="8.1",
        source="Eq. (11)",
        title="A noisy verifier: the bound stays, the signal goes",
        status=Status.CONDITIONAL,
        statement=r"""(13) takes $\sqrt{p(1-p)}$ for what a prompt can teach. Let the verdict be
wrong: positive for a wrong answer with chance $a$, negative for a right one with chance $b$,
whatever the answer is otherwise. The success rate that is seen is $<<judged>>$. Of the variance of
the verdict a table can use $g^\top F^+ g = <<kept>>$; the rest, $<<lost>>$, is noise. The share of
the squared bound that is signal is
$$<<share>>.$$
If $a + b = 1$ the verdict is a coin: the share is zero, while the bound is at its largest for a
fair one.""",
        condition=r"""The verdict is sure, $a = b = 0$, and the policy can tell right answers from
wrong ones (8.2): then the bound measures the signal.""",
        formulas={
            "judged": judged,
            "kept": kept,
            "lost": p * false_negative * (1 - false_negative)
            + (1 - p) * false_positive * (1 - false_positive),
            "share": kept / (judged * (1 - judged)),
        },
        prove=_prove_noisy,
        enumerate=_enumerate_noisy,
        sample=_sample_noisy,
    ),
    Claim(
        number="8.2",
        source="Eq. (11)",
        title="Tables, item response and chains of skills reach the bound",
        status=Status.PROVED,
        statement=r"""For a softmax table with any right set, for item response prompts, and for a
chain of distinct skills that stops at the first failure,
$$g^\top F^+ g = <<norm>>,$$
all of the bound. For the chain this is so because $r - p$ is the sum of the scores of the steps that
are tried, each times the chance to pass all steps after it (a martingale). With a verdict that is sure,
the bound is then the signal.""",
        formulas={"norm": p * (1 - p)},
        prove=_prove_reached,
        enumerate=_enumerate_reached,
        sample=_sample_reached,
    ),
    Claim(
        number="8.3",
        source="not in the paper",
        title="A chain that uses one skill again and again",
        status=Status.PROVED,
        statement=r"""If all $\ell$ steps of a chain use the same skill, passed with chance $q$, the
policy cannot credit a success to the step that earned it, and the signal is a share
$$<<share>>$$
of the bound: 1 for $\ell = 1$ and below it otherwise, about $\ell^2 q^{\ell-1}$ for small $q$.""",
        formulas={"share": repeated},
        prove=_prove_repeated,
        enumerate=_enumerate_repeated,
        sample=_sample_repeated,
    ),
    Claim(
        number="8.4",
        source="Eq. (13)",
        title="A larger bound is not a larger improvement",
        status=Status.FALSE,
        statement=r"""(13) prefers prompts in the order of their bounds $<<own>>$, as if the
objective improved in this order.""",
        correction=r"""Fails because what a prompt does for the others does not grow with its own
bound. To first order the improvement of the dataset's mean success rate by a step
along $g_i$ is $g_i \cdot g$ times its length over $|g_i|$, where $g$ is the gradient of the mean. Of two
item-response prompts with success rates $p$, $q$ and loadings $a_1$, $a_2$ let the first be trained on,
by the natural step of divergence $\delta$, which goes along $g_1$. With $\kappa = a_1 \cdot
a_2/|a_1|^2$ the mean gains
$$<<gain>>:$$
the size of the part that transfers *falls* with the potential of the prompt that is trained on. For
$\kappa > 0$ the gain is smallest where $p(1-p) = <<turn>>$, or, if that exceeds $1/4$, at $p = 1/2$,
where the bound is largest; for $\kappa < 0$ it can be zero or a loss there.""",
        formulas={
            "own": sp.sqrt(2 * delta * p * (1 - p)),
            "gain": sp.sqrt(2 * delta)
            * (sp.sqrt(p * (1 - p)) + overlap * q * (1 - q) / sp.sqrt(p * (1 - p)))
            / 2,
            "turn": overlap * q * (1 - q),
        },
        prove=_prove_transfer,
        enumerate=_enumerate_transfer,
        sample=_sample_transfer,
    ),
]
