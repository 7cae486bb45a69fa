r"""GVM's quota in the language of Eq. (20): another target, hence another sigma.

GVM follows the gradient of log p on right answers, the paper that of p. Norms of right scores are G
throughout, D is the distance of the mean scores of right and wrong answers, as in Eq. (21).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import sympy as sp
from scipy.optimize import minimize_scalar

from theory.beta_moments import half, moment, potential_by_fourier
from theory.claims import Claim, Estimate, Exact, Formulas, Relation, Search, Status, Step
from theory.policies import gradient, mean, softmax_probabilities, softmax_scores, success_rate
from theory.root_of_rate import mean_over_roots, x
from theory.symbols import alpha, beta, budget, n, p, q

norm, norm_q = sp.symbols("G G_q", positive=True)  # root mean square of right answers' scores
distance = sp.Symbol("D", nonnegative=True)  # |E[s|r=1] - E[s|r=0]|
regulariser = sp.Symbol("a", positive=True)
power = sp.Symbol("b", positive=True)
excess_power = sp.Symbol("c", positive=True)  # b - 1

gvm_weight = 1 / sp.sqrt(p + regulariser * p ** (1 - power))  # with G = 1
gvm_sigma = norm / sp.sqrt(p)
gvm_variance = norm**2 / p - (1 - p) ** 2 * distance**2
gvm_share = budget * (norm / sp.sqrt(p)) / (norm / sp.sqrt(p) + norm_q / sp.sqrt(q))

peak_rate = (regulariser * (power - 1)) ** (1 / power)
peak_weight = 1 / sp.sqrt(2 * sp.sqrt(regulariser))  # b = 2
least_effect = 1 / sp.sqrt(1 + regulariser * n**power)  # at the frequency 1/n

# over rates from Beta(alpha, beta)
gvm_price = moment(-half, 0) * moment(3 * half, 1) / moment(half, half) ** 2
uniform_price = moment(1, 1) / moment(half, half) ** 2
missed = (1 - p) ** n
uniform_missed = 1 / (n + 1)
missed_weight = sp.sqrt(sp.pi) * sp.gamma(n + 1) / (2 * sp.gamma(n + 3 * half))


def _prove_target(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"The rollout's contribution is $r s/p$. Wrong answers contribute nothing, right ones, of "
        r"chance $p$, $\lvert s\rvert^2/p^2$: in the mean square",
        p * norm**2 / p**2,
        f["sigma"] ** 2,
        name=r"p \cdot \frac{G^2}{p^2}",
    )
    gradient_sq = p**2 * (1 - p) ** 2 * distance**2
    yield Step(
        r"Its mean is $\mathbb{E}[r s]/p = \nabla p/p$, and $\lvert\nabla p\rvert^2 = p^2 (1-p)^2 "
        r"D^2$ is the last term of (21); so this is its variance.",
        f["sigma"] ** 2 - gradient_sq / p**2,
        f["variance"],
        name=r"\frac{G^2}{p} - \frac{|\nabla p|^2}{p^2}",
    )
    first = sp.Symbol("n_1", positive=True)
    total = f["sigma"] ** 2 / first + norm_q**2 / q / (budget - first)
    yield Step(
        r"Two prompts share $N$ rollouts: the derivative of $\sigma_1^2/n_1 + \sigma_2^2/(N - n_1)$ "
        r"vanishes at the claimed share,",
        sp.diff(total, first).subs(first, f["share"]),
        0,
    )
    yield Step(
        r"which is (20) for the two sigmas.",
        f["share"] * norm_q / sp.sqrt(q),
        (budget - f["share"]) * f["sigma"],
    )


def _enumerate_target(f: Formulas) -> Iterator[Exact]:
    for weights, right in (((1, 2, 3), {0}), ((2, 1, 1, 4), {1, 3})):
        pi_K = softmax_probabilities([sp.Integer(w) for w in weights])
        score = softmax_scores(pi_K)
        rate = success_rate(pi_K, right)
        rows = [score.row(k) / rate * int(k in right) for k in range(pi_K.rows)]
        centre = mean(pi_K, sp.Matrix.vstack(*rows))
        right_sq = sum(pi_K[k] * score.row(k).dot(score.row(k)) for k in right) / rate
        gap_sq = gradient(pi_K, score, right).norm() ** 2 / (rate * (1 - rate)) ** 2
        at = {p: rate, norm: sp.sqrt(right_sq), distance: sp.sqrt(gap_sq)}
        where = f"weights {weights}, right {sorted(right)}"
        yield Exact(
            f"mean square of $r s / p$, {where}",
            sum(pi_K[k] * rows[k].dot(rows[k]) for k in range(pi_K.rows)),
            f["sigma"].subs(at) ** 2,
        )
        two = sum(
            pi_K[j] * pi_K[k] * ((rows[j] + rows[k]) / 2 - centre.T).norm() ** 2
            for j, k in product(range(pi_K.rows), repeat=2)
        )
        yield Exact(
            f"variance of the mean of two rollouts, {where}", two, f["variance"].subs(at) / 2
        )


def _sample_target(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    at = {norm: 2, norm_q: 1, p: sp.Rational(1, 4), q: sp.Rational(4, 5), budget: 30}
    first, second = 4 / 0.25, 1 / 0.8

    def spread(share: float) -> float:
        return float(first / share + second / (30 - share))

    found = minimize_scalar(spread, bounds=(1, 29), method="bounded", options={"xatol": 1e-9})
    yield Search(
        r"$\sum \sigma_i^2/n_i$ over quotas, $G = 2, 1$, $p = 0.25, 0.8$, $N = 30$",
        claimed=spread(float(f["share"].subs(at))),
        found=float(found.fun),
        control=spread(30 * first / (first + second)),
        control_is="quotas in proportion to the variance",
        sense="min",
    )
    pi_K, right_K = np.array([0.1, 0.2, 0.7]), np.array([True, False, False])
    answer_S = rng.choice(3, 100_000, p=pi_K)
    part_S_K = (np.eye(3)[answer_S] - pi_K) * (right_K[answer_S] / 0.1)[:, None]
    right_sq = 0.9**2 + 0.2**2 + 0.7**2
    yield Estimate.of(
        r"$\lvert r s/p\rvert^2$, three answers of chance 0.1 (right), 0.2, 0.7",
        np.asarray((part_S_K**2).sum(axis=1)),
        expected=float((f["sigma"] ** 2).subs({p: sp.Rational(1, 10)}).subs(norm, right_sq**0.5)),
        control=right_sq,
        control_is="without the division by p",
    )


def _prove_regulariser(f: Formulas) -> Iterator[Step]:
    shift = {power: 1 + excess_power}
    inverse_sq = (1 / f["weight"] ** 2).subs(shift)
    yield Step(
        r"With $b = 1 + c$: the derivative of $w^{-2} = p + a p^{1-b}$ vanishes at the claimed rate.",
        sp.diff(inverse_sq, p).subs(p, f["peak"].subs(shift)),
        0,
    )
    yield Step(
        r"$w^{-2}$ is convex, so $w$ grows up to there and falls beyond.",
        sp.diff(inverse_sq, p, 2),
        0,
        certificate=regulariser * excess_power * (1 + excess_power) * p ** (-excess_power - 2),
    )
    published = {power: 2}
    yield Step(
        r"For the published $b = 2$, $p + a/p - 2\sqrt a = (\sqrt p - \sqrt{a/p})^2$: the height of the "
        r"peak,",
        (1 / f["weight"] ** 2).subs(published),
        1 / f["height"] ** 2,
        certificate=(sp.sqrt(p) - sp.sqrt(regulariser / p)) ** 2,
    )
    yield Step(
        r"attained at $p = \sqrt a$.",
        f["weight"].subs(published).subs(p, sp.sqrt(regulariser)),
        f["height"],
        name=r"\left(\sqrt a + \frac{a}{\sqrt a}\right)^{-1/2}",
    )
    yield Step(
        r"The rate of the peak is below 1, the largest success rate, iff $a c < 1$, for its power is",
        f["peak"].subs(shift) ** (1 + excess_power),
        regulariser * excess_power,
        name="p^{1 + c}",
    )
    yield Step(
        r"The smallest positive frequency of $n$ pilots is $1/n$; relative to $1/\sqrt p$ the "
        r"regulariser's effect there, which is the largest, is",
        f["weight"].subs(p, 1 / n) / sp.sqrt(n),
        f["effect"],
    )


def _enumerate_regulariser(f: Formulas) -> Iterator[Exact]:
    small = sp.Rational(1, 1000)
    at = {regulariser: small, power: 2}
    yield Exact(
        "effect at 8 pilots, $a = 1/1000$, $b = 2$, squared",
        (1 / sp.Rational(8)) / (sp.Rational(1, 8) + 8 * small),
        f["effect"].subs({**at, n: 8}) ** 2,
    )
    beyond: Relation = ">"
    below: Relation = "<"
    for pilots, relation in ((31, beyond), (32, below)):
        rate = sp.Rational(1, pilots)
        yield Exact(
            f"$1/{pilots}$ against the rate of the peak", rate, f["peak"].subs(at), relation
        )
        yield Exact(
            f"weight at $p = 1/{pilots}$ squared, against that at the peak",
            1 / (rate + small / rate),
            f["height"].subs(at) ** 2,
            "<",
        )
    yield Exact(
        "effect at 32 pilots, in whole percent", round(100 * f["effect"].subs({**at, n: 32})), 70
    )
    for shape, best in ((3, sp.Rational(1, 2)), (5, sp.Rational(1, 3))):
        size = best**shape / (shape - 1)
        yield Exact(
            f"peak for $b = {shape}$, $a = {size}$",
            best,
            f["peak"].subs({regulariser: size, power: shape}),
        )


def _sample_regulariser(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    def weight(rate: np.ndarray | float) -> np.ndarray | float:
        return (rate + 1e-3 / rate) ** -0.5

    found = float(np.max(weight(rng.random(400_000) ** 2)))
    yield Search(
        "largest weight over random rates, $a = 0.001$, $b = 2$",
        claimed=float(f["height"].subs({regulariser: sp.Rational(1, 1000)})),
        found=found,
        control=float(weight(1e-3)),
        control_is="at $p = a$",
        sense="max",
    )
    # rewards have the mean p, and a right answer is waited for 1 / p rollouts
    rate, size = 0.05, 400_000
    inverse_S = (rng.random(size) < rate) + 0.001 * rng.geometric(rate, size=size)
    at = {p: rate, regulariser: 0.001, power: 2}
    yield Estimate.of(
        "$w^{-2}$ at $p = 0.05$, $b = 2$: reward plus $a$ times the rollouts until a right one",
        inverse_S,
        expected=float(f["weight"].subs(at)) ** -2,
        control=rate,
        control_is="without the regulariser",
    )


def _prove_price(f: Formulas) -> Iterator[Step]:
    w, v = sp.symbols("w_1 w_2", positive=True)
    sigma, tau = sp.symbols("sigma_1 sigma_2", positive=True)
    quota = [budget * weight / (w + v) for weight in (w, v)]
    yield Step(
        r"Quotas in proportion to $w_i$ give $\sum_i \sigma_i^2/n_i = \frac1N \sum w_i \sum "
        r"\sigma_i^2/w_i$; here for two prompts.",
        sigma**2 / quota[0] + tau**2 / quota[1],
        (w + v) * (sigma**2 / w + tau**2 / v) / budget,
    )
    gap = (w + v) * (sigma**2 / w + tau**2 / v) - (sigma + tau) ** 2
    yield Step(
        r"The least value is $(\sum \sigma_i)^2/N$, for $w_i = \sigma_i$.",
        sp.expand(gap),
        0,
        certificate=(sigma * v - tau * w) ** 2 / (w * v),
    )
    yield Step(
        r"With many prompts sums become means: $\mathbb{E}\,w\, "
        r"\mathbb{E}[\sigma^2/w]/(\mathbb{E}\,\sigma)^2$ with $w = p^{-1/2}$, $\sigma^2 = p(1-p)$,",
        moment(-half, 0) * moment(3 * half, 1) / moment(half, half) ** 2,
        f["gvm"],
        name=r"\frac{\mathbb{E}\,w\, \mathbb{E}[\sigma^2/w]}{(\mathbb{E}\,\sigma)^2}",
    )
    yield Step(
        r"and with $w = 1$.",
        moment(1, 1) / moment(half, half) ** 2,
        f["uniform"],
        name=r"\frac{\mathbb{E}\,\sigma^2}{(\mathbb{E}\,\sigma)^2}",
    )
    root = sp.Integral(sp.sqrt(p) * sp.sqrt(1 - p), (p, 0, 1))
    yield Step(
        r"For uniform rates, by integration:",
        sp.Integral(1 / sp.sqrt(p), (p, 0, 1)) * sp.Integral(p ** (3 * half) * (1 - p), (p, 0, 1))
        / (sp.pi / 8) ** 2,
        f["gvm"].subs({alpha: 1, beta: 1}),
    )  # fmt: skip
    yield Step(r"where $\mathbb{E}\sqrt{p(1-p)}$ is", root, sp.pi / 8)


def _enumerate_price(f: Formulas) -> Iterator[Exact]:
    for a, b in ((1, 1), (2, 1), (1, 3)):
        values = (1 / x, x**3 * (1 - x**2), x**2 * (1 - x**2))
        weight, ratio, flat = (mean_over_roots(value, (a, b)) for value in values)
        best = potential_by_fourier((a, b)) ** 2
        at = {alpha: a, beta: b}
        yield Exact(
            f"GVM's quotas, rates from Beta({a}, {b}), $p = x^2$",
            weight * ratio / best,
            f["gvm"].subs(at),
        )
        yield Exact(f"equal quotas, rates from Beta({a}, {b})", flat / best, f["uniform"].subs(at))


def _sample_price(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    # Beta(2, 1): under uniform rates the weight has no variance
    first_S, second_S = np.sqrt(rng.random((2, 400_000)))
    at = {alpha: 2, beta: 1}
    best = float(moment(half, half).subs(at)) ** 2
    yield Estimate.of(
        r"$w(p)\, \sigma^2(p')/w(p')$ over $(\mathbb{E}\,\sigma)^2$, independent rates from "
        r"Beta(2, 1), GVM's $w$",
        second_S**1.5 * (1 - second_S) / np.sqrt(first_S) / best,
        expected=float(f["gvm"].subs(at)),
        control=float(uniform_price.subs(at)),
        control_is="equal quotas",
    )
    yield Estimate.of(
        r"$\sigma^2(p)$ over $(\mathbb{E}\,\sigma)^2$, rates from Beta(2, 1)",
        first_S * (1 - first_S) / best,
        expected=float(f["uniform"].subs(at)),
        control=1.0,
        control_is="as good as the best quotas",
    )


def _prove_missed(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"The first right answer comes at pilot $n + 1$ with chance $p (1-p)^n$, so much less "
        r"likely is it that all are wrong;",
        f["missed"] - f["missed"].subs(n, n + 1),
        p * (1 - p) ** n,
    )
    yield Step(r"a single pilot is wrong with chance", sp.Subs(f["missed"], n, 1), 1 - p)
    yield Step(
        r"Over uniform rates, by integration.",
        sp.Integral((1 - p) ** n, (p, 0, 1)),
        f["uniform"],
    )
    yield Step(
        r"The ideal weight $1/\sqrt p$ of the missed, $B(\frac12, n + 1)$, over that of all, 2.",
        sp.gamma(half) * sp.gamma(n + 1) / sp.gamma(n + 3 * half) / 2,
        f["weight"],
        name=r"\tfrac12 B(\tfrac12, n + 1)",
    )


def _enumerate_missed(f: Formulas) -> Iterator[Exact]:
    for pilots in (3, 8):
        at = {n: pilots}
        wrong = sp.Rational(9, 10) ** pilots  # the one outcome of 2^n without a right answer
        yield Exact(
            f"$p = 1/10$, {pilots} pilots: missed",
            wrong,
            f["missed"].subs({**at, p: sp.Rational(1, 10)}),
        )
        integral = sp.integrate(sp.expand((1 - p) ** pilots), (p, 0, 1))
        yield Exact(f"uniform rates, {pilots} pilots: missed", integral, f["uniform"].subs(at))
        weight = mean_over_roots((1 - x**2) ** pilots / x, (1, 1)) / 2  # E x^-1 = 2
        yield Exact(
            f"uniform rates, {pilots} pilots: share of the weight that is missed",
            weight,
            f["weight"].subs(at),
        )


def _sample_missed(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    # rates drawn in proportion to the weight 1 / sqrt(p): squares of uniform numbers
    is_missed_S = rng.binomial(8, rng.random(100_000) ** 2) == 0
    yield Estimate.of(
        "missed by 8 pilots, rates drawn in proportion to the ideal weight",
        is_missed_S.astype(np.float64),
        expected=float(f["weight"].subs(n, 8)),
        control=float(uniform_missed.subs(n, 8)),
        control_is="as many as of uniform rates",
    )
    is_missed_S = rng.binomial(8, rng.random(100_000)) == 0
    yield Estimate.of(
        "missed by 8 pilots, uniform rates",
        is_missed_S.astype(np.float64),
        expected=float(f["uniform"].subs(n, 8)),
        control=2 / 9,
        control_is="all right counted too",
    )


CLAIMS = [
    Claim(
        number="9.1",
        source="not in the paper",
        title="GVM's quota is Eq. (20) for the gradient of log p",
        status=Status.PROVED,
        statement=r"""Let $G^2 = \mathbb{E}[|s|^2 | r = 1]$ and $D = |\mathbb{E}[s | r=1] -
\mathbb{E}[s | r=0]|$. A rollout contributes $r s/p$ to the gradient of $\log p$; its mean square is
the square of $<<sigma>>$, its variance is
$$<<variance>>.$$
Minimising the sum of the mean squares over $n_i$ with $\sum n_i = N$ gives GVM's $n_i \propto
G_i/\sqrt{p_i}$; between two prompts the first gets
$$<<share>>.$$
So GVM and CurES differ in the objective, $\log p$ against $p$, whose gradients differ by the factor
$1/p$; GVM further drops the square of the mean, which (21) keeps. (For $G$ its code takes the mean of
$|s|$ over the right pilots, not the root mean square.)""",
        formulas={"sigma": gvm_sigma, "variance": gvm_variance, "share": gvm_share},
        prove=_prove_target,
        enumerate=_enumerate_target,
        sample=_sample_target,
    ),
    Claim(
        number="9.2",
        source="not in the paper",
        title="GVM's regulariser bites from 32 pilots on",
        status=Status.PROVED,
        statement=r"""GVM's weight with $G = 1$,
$$<<weight>>,$$
$b > 1$, $0 < a < 1/(b - 1)$, grows from 0 up to $p = <<peak>>$ and falls from there. With the published
$b = 2$ its peak is $<<height>>$: 3.98 at $p = 0.032$ for $a = 0.001$. The success rate is estimated as
the frequency among $n$ pilots, whose smallest positive value is $1/n$; there, where it does most, the
regulariser multiplies $1/\sqrt p$ by $<<effect>>$. With the published $a$ and $b$ that is 0.97 for the
usual 8 pilots and 0.70 for 32, the first number of pilots at which a frequency lies below the peak.""",
        formulas={
            "weight": gvm_weight,
            "peak": peak_rate,
            "height": peak_weight,
            "effect": least_effect,
        },
        prove=_prove_regulariser,
        enumerate=_enumerate_regulariser,
        sample=_sample_regulariser,
    ),
    Claim(
        number="9.3",
        source="not in the paper",
        title="What GVM's quotas cost in the variance of Eq. (16)",
        status=Status.PROVED,
        statement=r"""Let scores have the same norm and $D = 0$, so that the paper's sigma is
$\sqrt{p(1-p)}$, and let the success rates of many prompts be drawn from
$\mathrm{Beta}(\alpha, \beta)$, $\alpha > 1/2$. Then quotas in proportion to $1/\sqrt p$ multiply the
least variance of (16) by
$$<<gvm>>,$$
equal quotas by
$$<<uniform>>.$$
For uniform rates these are $512/(35 \pi^2) = 1.48$ and $32/(3 \pi^2) = 1.08$: for the paper's gradient
GVM's quotas are worse than equal ones, since they are largest where no answer is right and do not
vanish where all are. Conversely the paper's quotas have no finite price for GVM's gradient:
$\mathbb{E}[\frac1p / \sqrt{p(1-p)}]$ diverges for uniform rates. A quota is right for one objective.""",
        formulas={"gvm": gvm_price, "uniform": uniform_price},
        prove=_prove_price,
        enumerate=_enumerate_price,
        sample=_sample_price,
    ),
    Claim(
        number="9.4",
        source="not in the paper",
        title="Whom GVM's pilots pass over",
        status=Status.PROVED,
        statement=r"""Without a right answer among its $n$ pilots a prompt gets no rollouts until
the next pilots. That happens with probability $<<missed>>$ (0.43 for 8 pilots at $p = 0.1$). If
rates are uniform, it happens to $<<uniform>>$ of the prompts, and these hold the share
$$<<weight>>$$
of the total weight $1/\sqrt p$: 0.30 for 8 pilots. The pilots discard what the rule values most.""",
        formulas={"missed": missed, "uniform": uniform_missed, "weight": missed_weight},
        prove=_prove_missed,
        enumerate=_enumerate_missed,
        sample=_sample_missed,
    ),
]
