r"""What n pilots (the paper's N') tell: prompts misjudged, value of one more pilot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

from theory.beta_moments import (
    expected_potential,
    half,
    mean_by_integration,
    moment,
    potential_by_fourier,
)
from theory.claims import Claim, Estimate, Exact, Formulas, Relation, Status, Step
from theory.plug_in import binomial_chance
from theory.symbols import alpha, beta, n, p

dead_share = sp.Symbol("d", positive=True)  # prompts whose success rate is 0 or 1
miss = sp.Symbol("epsilon", positive=True)  # tolerated chance of a misjudgement

unanimous = p**n + (1 - p) ** n
uniform_unanimous = 2 / (n + 1)
forgone_potential = 8 * sp.gamma(n + 3 * half) / (sp.sqrt(sp.pi) * sp.gamma(n + 3))
dead_if_unanimous = dead_share / (dead_share + (1 - dead_share) * 2 / (n + 1))
pilots_needed = sp.log(miss) / sp.log(1 - p)

value_at_indifference = (
    expected_potential * (beta - alpha) / (2 * (alpha + beta) * (alpha + beta + 1))
)
variance_removed = alpha * beta / ((alpha + beta) ** 2 * (alpha + beta + 1) ** 2)


def _prove_unanimous(f: Formulas) -> Iterator[Step]:
    live = (1 - dead_share) * f["uniform"]
    yield Step(
        r"All right or all wrong; for two pilots, what is left of 1 beside one of each kind.",
        f["unanimous"].subs(n, 2),
        1 - binomial_chance(1, 2),
    )
    yield Step(
        r"One more pilot keeps them unanimous unless it disagrees.",
        f["unanimous"].subs(n, n + 1),
        f["unanimous"] - p**n * (1 - p) - (1 - p) ** n * p,
    )
    yield Step(
        r"Over uniform rates, two Beta integrals $B(n + 1, 1)$.",
        (moment(n, 0) + moment(0, n)).subs({alpha: 1, beta: 1}),
        f["uniform"],
    )
    lost = sp.gamma(n + 3 * half) * sp.gamma(3 * half) / sp.gamma(n + 3)
    yield Step(
        r"The potential of the unanimous over that of all, $B(\frac32, \frac32) = \pi/8$:",
        2 * lost * 8 / sp.pi,
        f["forgone"],
        name=r"\frac{2 B(n + \frac32, \frac32)}{B(\frac32, \frac32)}",
    )
    yield Step(
        r"Dead prompts are always unanimous: Bayes' rule.",
        dead_share / (dead_share + live),
        f["dead"],
    )
    yield Step(
        r"All $n$ pilots are wrong with chance $(1-p)^n$, which falls with $n$ and is "
        r"$\varepsilon$ at the number given.",
        sp.Subs((1 - p) ** n, n, f["needed"]),
        miss,
    )


def _enumerate_unanimous(f: Formulas) -> Iterator[Exact]:
    for rate, pilots in ((sp.Rational(1, 10), 4), (sp.Rational(1, 2), 3)):
        alike = sum(
            rate ** sum(o) * (1 - rate) ** (pilots - sum(o))
            for o in ([i >> k & 1 for k in range(pilots)] for i in range(2**pilots))
            if len(set(o)) == 1
        )
        yield Exact(
            f"$p = {rate}$, $n = {pilots}$: unanimous, over all outcomes",
            alike,
            f["unanimous"].subs({p: rate, n: pilots}),
        )
    share = mean_by_integration(p**4 + (1 - p) ** 4, (1, 1))
    yield Exact("uniform rates, $n = 4$: unanimous prompts", share, f["uniform"].subs(n, 4))
    lost = share * potential_by_fourier((1, 5)) / potential_by_fourier((1, 1))
    yield Exact(
        "uniform rates, $n = 4$: share of the potential in the unanimous",
        lost,
        f["forgone"].subs(n, 4),
    )
    yield Exact(
        "dead among the unanimous, 3 in 10 dead, $n = 4$",
        sp.Rational(3, 10) / (sp.Rational(3, 10) + sp.Rational(7, 10) * share),
        f["dead"].subs({dead_share: sp.Rational(3, 10), n: 4}),
    )
    few: Relation = ">"
    enough: Relation = "<="
    for pilots, relation in ((43, few), (44, enough)):
        yield Exact(
            rf"$p = 1/10$, $\varepsilon = 1/100$: {pilots} pilots "
            + ("miss too often" if relation == ">" else "are enough"),
            sp.Rational(9, 10) ** pilots,
            sp.Rational(1, 100),
            relation,
        )
        yield Exact(
            rf"$p = 1/10$, $\varepsilon = 1/100$: {pilots} against the real number of the formula",
            sp.Integer(pilots),
            f["needed"].subs({p: sp.Rational(1, 10), miss: sp.Rational(1, 100)}),
            "<" if relation == ">" else ">=",
        )


def _sample_unanimous(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    rate_S = rng.random(100_000)
    success_S = rng.binomial(4, rate_S)
    is_alike_S = (success_S == 0) | (success_S == 4)
    yield Estimate.of(
        "potential in unanimous prompts over the mean potential, uniform rates, 4 pilots",
        np.sqrt(rate_S * (1 - rate_S)) * is_alike_S / (np.pi / 8),
        expected=float(f["forgone"].subs(n, 4)),
        control=0.0,
        control_is="unanimous prompts are dead",
    )
    yield Estimate.of(
        "unanimous prompts, uniform rates, 4 pilots",
        is_alike_S.astype(np.float64),
        expected=float(f["uniform"].subs(n, 4)),
        control=1 / 8,
        control_is="at the mean rate",
    )


def _prove_value(f: Formulas) -> Iterator[Step]:
    rate, total = alpha / (alpha + beta), alpha + beta
    right, wrong = ((side + half) * total / (side * (total + 1)) for side in (alpha, beta))
    for kind, side, factor in (("right", alpha, right), ("wrong", beta, wrong)):
        yield Step(
            rf"What a {kind} pilot multiplies the expected potential $W$ by.",
            expected_potential.subs(side, side + 1) / expected_potential,
            factor,
        )
    yield Step(
        r"A right one raises it iff $\beta > \alpha$,",
        right - 1,
        (beta - alpha) / (2 * alpha * (total + 1)),
    )
    yield Step(
        r"and a wrong one then lowers it, so that the mean over both stays $W$.",
        rate * (right - 1),
        (1 - rate) * (1 - wrong),
    )
    yield Step(
        r"With the alternative worth $W$ too, a right pilot gains $W_+ - W$; after a wrong one we "
        r"change to the alternative and lose nothing. So $\mathbb{E}\,\max(W', W) - W$, in units "
        r"of $W$, is",
        rate * right + (1 - rate) - 1,
        f["value"] / expected_potential,
    )
    yield Step(
        r"At $\alpha = \beta$ neither answer moves it: both factors are", right.subs(beta, alpha), 1
    )
    yield Step(
        r"The expected posterior variance after one pilot is the share $(\alpha + \beta)/(\alpha + \beta"
        r" + 1)$ of what it was (7.2): what it loses.",
        (moment(2, 0) - moment(1, 0) ** 2) * (1 - (alpha + beta) / (alpha + beta + 1)),
        f["variance"],
    )


def _enumerate_value(f: Formulas) -> Iterator[Exact]:
    for a, b in ((1, 2), (1, 5), (2, 6)):
        now = potential_by_fourier((a, b))
        after = potential_by_fourier((a + 1, b)), potential_by_fourier((a, b + 1))
        chance = sp.Rational(a, a + b)
        at = {alpha: a, beta: b}
        where = rf"$\alpha, \beta = {a}, {b}$"
        for share in (sp.Integer(1), sp.Integer(2), half):  # of the alternative against W
            other = share * now
            best = chance * sp.Max(after[0], other) + (1 - chance) * sp.Max(after[1], other)
            gain = best - sp.Max(now, other)
            if share == 1:
                yield Exact(
                    f"gain when the alternative is worth $W$, {where}", gain, f["value"].subs(at)
                )
            else:
                yield Exact(f"gain when it is worth ${sp.latex(share)} W$, {where}", gain, 0)
        yield Exact(
            f"variance lost, {where}",
            _variance(a, b) - chance * _variance(a + 1, b) - (1 - chance) * _variance(a, b + 1),
            f["variance"].subs(at),
        )


def _variance(a: int, b: int) -> sp.Expr:
    return mean_by_integration(p**2, (a, b)) - mean_by_integration(p, (a, b)) ** 2


def _sample_value(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    at = {alpha: 1, beta: 5}
    alternative = float(expected_potential.subs(at))
    rate_S = rng.beta(1.0, 5.0, 100_000)
    is_right_S = rng.random(rate_S.size) < rate_S
    payoff_S = np.where(is_right_S, np.sqrt(rate_S * (1 - rate_S)), alternative)
    yield Estimate.of(
        "potential chosen with a fifth pilot after 0 right of 4, minus that without",
        payoff_S - alternative,
        expected=float(f["value"].subs(at)),
        control=0.0,
        control_is="a pilot is worth nothing",
    )
    mean_S = (1 + is_right_S) / 7
    yield Estimate.of(
        "squared error of the mean without the pilot minus that with it",
        (rate_S - 1 / 6) ** 2 - (rate_S - mean_S) ** 2,
        expected=float(f["variance"].subs(at)),
        control=float(_variance(1, 5)),
        control_is="all of the variance",
    )


CLAIMS = [
    Claim(
        number="7.6",
        source="Section 5, Algorithm 1",
        title="How often pilots misjudge a prompt",
        status=Status.PROVED,
        statement=r"""Call a prompt dead if its success rate is 0 or 1. The $n$ pilots of a prompt
(the paper's $N'$) with $0 < p < 1$ are unanimous, and the prompt looks dead, with probability
$<<unanimous>>$: 0.66 for 4 pilots at $p = 0.1$. If rates are uniform, $<<uniform>>$ of the prompts
look dead (two in five at 4 pilots), and with them goes the share
$$<<forgone>>$$
of all potential (21/64 at 4 pilots). If a share $d$ of the pool is truly dead and the other rates
are uniform, the unanimous are dead with probability $<<dead>>$. To miss the right answers of a
prompt with chance at most $\varepsilon$ takes $<<needed>>$ pilots, rounded up: 44 at $p = 0.1$,
$\varepsilon = 0.01$.""",
        formulas={
            "unanimous": unanimous,
            "uniform": uniform_unanimous,
            "forgone": forgone_potential,
            "dead": dead_if_unanimous,
            "needed": pilots_needed,
        },
        prove=_prove_unanimous,
        enumerate=_enumerate_unanimous,
        sample=_sample_unanimous,
    ),
    Claim(
        number="7.7",
        source="not in the paper",
        title="What one more pilot is worth",
        status=Status.PROVED,
        statement=r"""Let $p \sim \mathrm{Beta}(\alpha, \beta)$ with $\alpha \le \beta$, and let
another use of the rollouts be worth as much as the prompt's expected potential. Deciding after one
more pilot instead of now gains, on average,
$$<<value>>;$$
if $\alpha > \beta$, the same with $\alpha$ and $\beta$ exchanged. It is zero at $\alpha = \beta$,
where neither a right nor a wrong answer moves the expectation (7.3). It is zero too if the alternative
is worth more than the prompt after a right pilot, or less than the prompt after a wrong one: then the
pilot cannot change the decision. In squared error of the success rate one more pilot is worth
$$<<variance>>,$$
which falls like the inverse square of the number of pilots before it.""",
        formulas={"value": value_at_indifference, "variance": variance_removed},
        prove=_prove_value,
        enumerate=_enumerate_value,
        sample=_sample_value,
    ),
]
