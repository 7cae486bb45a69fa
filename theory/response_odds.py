r"""Does a success rate stand still? The odds of one prompt, and the share of such prompts in a pool.

A visit is a group of n rollouts, s of them right. Two hypotheses predict it from what was seen before:
*steady* from all visits so far, beside a uniform prior; *moving* from counts alpha and beta, which may
be any function of the past. Counterpart: :mod:`cures.response`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import product
from math import comb, prod

import numpy as np
import sympy as sp
from scipy.special import betaln

from theory.beta_moments import beta_integral, mean_by_integration, moment
from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.outcomes import rational
from theory.posterior import CLAIMS as POSTERIOR
from theory.posterior import s
from theory.score_law import Array
from theory.search import largest
from theory.symbols import alpha, beta, n, p

# right and wrong rollouts of a prompt: of all visits, and of the first
right, wrong = sp.symbols("R W", integer=True, nonnegative=True)
right_1, wrong_1 = sp.symbols("R_1 W_1", integer=True, nonnegative=True)
visits = sp.Symbol("t", integer=True, nonnegative=True)  # after the first
level = sp.Symbol("k", positive=True)
floor = sp.Symbol("c", nonnegative=True)  # below which the odds are not let fall

odds = sp.Symbol("omega", positive=True)  # of steady against moving
w, w_new = sp.symbols("w w'", positive=True)  # share of steady prompts, before and after a step
count = sp.Symbol("M", positive=True)  # prompts and pseudo-counts
slope = sp.Symbol(r"\ell'", real=True)  # of the log-likelihood in w

prediction = moment(s, n - s)
steady = beta_integral(1 + right, 1 + wrong) / beta_integral(1 + right_1, 1 + wrong_1)
chance = w * odds / (w * odds + 1 - w)
gain = count * (w_new * sp.log(w_new / w) + (1 - w_new) * sp.log((1 - w_new) / (1 - w)))


# -- 7.11 the odds of a prompt -----------------------------------------------------------------------


def _prove_odds(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"By 7.1, over the $\binom{n}{s}$ orders of the same counts:",
        POSTERIOR[0].formulas["evidence"] / sp.binomial(n, s),
        f["prediction"],
        name=r"P(S = s) \Big/ \tbinom{n}{s}",
    )
    yield Step("After the first visit nothing is predicted yet:",
               f["steady"].subs({right: right_1, wrong: wrong_1}), 1,
               name=r"\text{product for } R = R_1,\ W = W_1")  # fmt: skip
    more = {right: right + s, wrong: wrong + n - s}
    yield Step(
        r"One more visit brings its prediction from the counts so far, and the Beta integral of these "
        r"counts cancels:",
        f["steady"] * f["prediction"].subs({alpha: 1 + right, beta: 1 + wrong}),
        f["steady"].subs(more, simultaneous=True),
    )
    u = sp.symbols("u_0:3", positive=True)  # of a sequence, by what is right in it
    yield Step(
        r"Let *moving* predict a sequence with $s$ right by $u_s$, whatever the past made of it. A "
        r"visit multiplies the odds by the quotient of both predictions, whose mean under *moving* is, "
        r"for $n = 2$, the sum of the other predictions, and that is",
        sum(
            sp.binomial(2, x) * u[x] * (f["prediction"].subs({n: 2, s: x}) / u[x]) for x in range(3)
        ),
        1,
        name=r"\sum_s \binom{n}{s} u_s \cdot \frac{\text{prediction}}{u_s}",
    )
    yield Step(
        r"So the odds, 1 at first, are a martingale. With a floor, $\max(c, x) \le c + x$: a visit adds "
        r"at most $c$ to their mean, which begins with",
        level * f["crossing"].subs(visits, 0),
        1,
        name=r"k \cdot \text{bound at } t = 0",
    )
    yield Step(
        r"and so do odds that stop where they first reach $k$. If they do, they are at least $k$ at the "
        r"end, else at least 0: the chance is at most their mean over $k$ (Markov), for every $t$, and "
        r"without a floor for all together (Ville).",
        level * (f["crossing"].subs(visits, visits + 1) - f["crossing"]),
        floor,
        name=r"k \cdot \left(\text{bound at } t + 1 - \text{bound at } t\right)",
    )


# visits of two rollouts, after which *moving* remembers one half
_PRIOR, _SIZE = (Fraction(1), Fraction(2)), 2
_Visits = tuple[int, ...]  # right answers at each


@cache
def _predicted(seen: tuple[int, int], counts: tuple[Fraction, Fraction]) -> Fraction:
    """Rollout by rollout: the share of its kind in the counts, which it then joins."""
    good, bad = (prod((x + i for i in range(k)), start=Fraction(1))
                 for x, k in zip(counts, seen, strict=True))  # fmt: skip
    return good * bad / prod((sum(counts) + i for i in range(sum(seen))), start=Fraction(1))


@cache
def _predictions(success: _Visits) -> list[tuple[Fraction, Fraction]]:
    """Of every visit, as a sequence of answers, by *steady* and by *moving*."""
    found, counts, moving = [], (Fraction(1), Fraction(1)), _PRIOR
    for good in success:
        bad = _SIZE - good
        found.append((_predicted((good, bad), counts), _predicted((good, bad), moving)))
        counts = counts[0] + good, counts[1] + bad
        moving = _PRIOR[0] + Fraction(good, 2), _PRIOR[1] + Fraction(bad, 2)
    return found


def _chances(success: _Visits) -> tuple[Fraction, Fraction]:
    """Of these counts under *steady* and under *moving*, in whatever order."""
    orders = prod(comb(_SIZE, good) for good in success)
    even, moving = (
        prod(x, start=Fraction(orders)) for x in zip(*_predictions(success), strict=True)
    )
    return even, moving


def _odds(success: _Visits, low: Fraction) -> list[Fraction]:
    """After every visit but the first, never below ``low``."""
    found = [Fraction(1)]
    for even, moving in _predictions(success)[1:]:
        found.append(max(low, found[-1] * even / moving))
    return found[1:]


@cache
def _odds_of_all(low: Fraction) -> list[tuple[Fraction, list[Fraction]]]:
    """Every sequence of five visits: its chance under *moving*, and its odds."""
    every = product(range(_SIZE + 1), repeat=5)
    return [(_chances(success)[1], _odds(success, low)) for success in every]


def _enumerate_odds(f: Formulas) -> Iterator[Exact]:
    for seen, counts in (((1, 1), (2, 3)), ((3, 0), (1, 2))):
        at = {n: sum(seen), s: seen[0], alpha: counts[0], beta: counts[1]}
        yield Exact(
            f"{seen[0]} right, {seen[1]} wrong, prior Beta({counts[0]}, {counts[1]})",
            mean_by_integration(p ** seen[0] * (1 - p) ** seen[1], counts),
            f["prediction"].subs(at),
        )
    for success in ((1, 2, 0, 1), (0, 2, 2, 2)):
        good = sum(success)
        yield Exact(
            f"visits of 2 rollouts, {', '.join(map(str, success))} right: product",
            rational(prod((even for even, _ in _predictions(success)[1:]), start=Fraction(1))),
            f["steady"].subs(
                {right: good, wrong: 8 - good, right_1: success[0], wrong_1: 2 - success[0]}
            ),
        )
    where = "five visits of 2 rollouts under *moving*, all 243 sequences"
    bound = f["crossing"]
    for after in range(1, 5):
        mean = sum((x * path[after - 1] for x, path in _odds_of_all(Fraction(0))), Fraction())
        yield Exact(f"{where}: mean odds after {after} more", rational(mean),
                    (level * bound).subs({floor: 0, visits: after}))  # fmt: skip
    for low, high in (
        (0, Fraction(3, 2)),
        (0, 2),
        (0, 8),
        (Fraction(1, 2), 4),
        (Fraction(1, 2), 8),
    ):
        reached = sum(
            (x for x, path in _odds_of_all(Fraction(low)) if max(path) >= high), Fraction()
        )
        at = {floor: sp.Rational(low), visits: 4, level: sp.Rational(high)}
        yield Exact(f"{where}: odds ever at least {high}, floor {low}", rational(reached),
                    bound.subs(at), "<=")  # fmt: skip
    low = Fraction(1, 2)
    mean = sum((x * path[-1] for x, path in _odds_of_all(low)), Fraction())
    yield Exact(rf"{where}: mean odds in the end, floor $1/2$", rational(mean),
                (level * bound).subs({floor: rational(low), visits: 4}), "<=")  # fmt: skip
    yield Exact(rf"{where}: the same, without the floor's part", rational(mean),
                (level * bound).subs({floor: 0, visits: 4}), ">")  # fmt: skip


def _log_odds(success_S_V: Array, prior: tuple[float, float], size: int) -> Array:
    """Of drawn sequences after each visit but the first; *moving* remembers one half, shape (S, V-1)."""
    before = success_S_V[:, :-1]
    seen, good = np.cumsum(before, axis=1), success_S_V[:, 1:]
    past = size * np.arange(1, success_S_V.shape[1])
    step = np.zeros(good.shape)
    for sign, a, b in (
        (1.0, 1.0 + seen, 1.0 + past - seen),
        (-1.0, prior[0] + before / 2, prior[1] + (size - before) / 2),
    ):
        step += sign * (betaln(a + good, b + size - good) - betaln(a, b))
    return np.cumsum(step, axis=1)


def _sample_odds(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    draws = 60_000
    rate = rng.beta(1.0, 1.0, draws)
    success = rng.binomial(4, rate[:, None], (draws, 3))
    chosen = success[:, 0] == 2
    one_by_one = comb(4, 3) * numeric(f["prediction"], (s, n, alpha, beta))(3, 4, 3, 3)
    yield Estimate.of(
        "steady prompts, 2 right of 4 at first: 3 right of 4 twice more",
        (success[chosen, 1:] == 3).all(axis=1).astype(np.float64),
        expected=comb(4, 3) ** 2
        * float(f["steady"].subs({right: 8, wrong: 4, right_1: 2, wrong_1: 2})),
        control=float(one_by_one) ** 2,
        control_is="nothing learned from the second visit",
    )
    size, prior = _SIZE, (float(_PRIOR[0]), float(_PRIOR[1]))
    success = np.zeros((draws, 3), dtype=np.int64)
    counts = np.broadcast_to(np.array(prior), (draws, 2))
    for visit in range(3):
        success[:, visit] = rng.binomial(size, rng.beta(counts[:, 0], counts[:, 1]))
        seen = np.stack([success[:, visit], size - success[:, visit]], axis=1)
        counts = np.array(prior) + seen / 2
    yield Estimate.of(
        "moving prompts, three visits of 2 rollouts: odds in the end",
        np.exp(_log_odds(success, prior, size)[:, -1]),
        expected=float((level * f["crossing"]).subs({floor: 0, visits: 2})),
        control=_mean_if_steady(3),
        control_is="that of steady prompts",
    )


def _mean_if_steady(visited: int) -> float:
    """Mean odds in the end of prompts that are steady, over all sequences."""
    every = product(range(_SIZE + 1), repeat=visited)
    return float(sum(_chances(success)[0] * _odds(success, Fraction(0))[-1] for success in every))


# -- 7.12 the share of steady prompts ----------------------------------------------------------------


def _prove_share(f: Formulas) -> Iterator[Step]:
    mixture = w * odds + 1 - w
    yield Step(
        r"Bayes: the share's odds times those of the prompt.",
        f["chance"] / (1 - f["chance"]),
        w / (1 - w) * odds,
        name=r"\frac{h}{1 - h}",
    )
    yield Step(
        r"Up to a factor that $w$ does not change, a prompt has the likelihood $w\omega + 1 - w$. Its "
        r"logarithm has the slope",
        sp.Derivative(sp.log(mixture), w),
        f["slope"],
        name=r"\frac{d}{dw} \log(w \omega + 1 - w)",
    )
    yield Step(
        r"which falls by its own square: the logarithm is concave, as $a\log w + b\log(1-w)$ is, and so "
        r"is the sum over prompts.",
        sp.Derivative(f["slope"], w),
        -(f["slope"] ** 2),
    )
    yield Step(r"A step moves uphill, for", f["chance"] - w, w * (1 - w) * f["slope"], name="h - w")
    pseudo, other = sp.symbols("a b", positive=True)
    odds_2 = sp.symbols("omega_1:3", positive=True)
    step = (sum(f["chance"].subs(odds, x) for x in odds_2) + pseudo) / (2 + pseudo + other) - w
    slopes = sum(f["slope"].subs(odds, x) for x in odds_2) + pseudo / w - other / (1 - w)
    yield Step(
        r"and the pseudo-counts pull the same way; for two prompts, $M = 2 + a + b$,",
        step,
        f["move"].subs({slope: slopes, count: 2 + pseudo + other}),
        name="w' - w",
    )
    up, down = w_new / w, (1 - w_new) / (1 - w)
    ratio = (w_new * odds + 1 - w_new) / mixture
    mean = f["chance"] * up + (1 - f["chance"]) * down
    yield Step(
        r"The likelihood of a prompt is multiplied by a mean of $w'/w$ and $(1-w')/(1-w)$:",
        ratio, mean,
        name=r"\frac{w' \omega + 1 - w'}{w \omega + 1 - w}",
    )  # fmt: skip
    yield Step(
        r"whose logarithm is at least the mean of the logarithms, by $\log x \le x - 1$ at either one "
        r"over the mean, whose excesses cancel (Jensen):",
        f["chance"] * (up / ratio - 1) + (1 - f["chance"]) * (down / ratio - 1),
        0,
        name=r"h \left(\frac{w'/w}{x} - 1\right) + (1-h) \left(\frac{(1-w')/(1-w)}{x} - 1\right)",
    )
    found, prompts = sp.symbols("H J", positive=True)  # sum of the chances; number of prompts
    sums = {found: count * w_new - pseudo, prompts: count - pseudo - other}
    yield Step(
        r"Added up, with $\sum h + a = M w'$ and $\sum (1-h) + b = M (1-w')$:",
        ((found + pseudo) * sp.log(up) + (prompts - found + other) * sp.log(down)).subs(sums),
        f["gain"],
        name=r"\left(\sum h + a\right) \log\frac{w'}{w} "
        r"+ \left(\sum (1-h) + b\right) \log\frac{1-w'}{1-w}",
    )
    yield Step(
        r"This is not negative, by $\log x \ge 1 - 1/x$, and 0 only for $w' = w$:",
        w_new * (1 - 1 / up) + (1 - w_new) * (1 - 1 / down),
        0,
        name=r"w' \left(1 - \frac{w}{w'}\right) + (1-w') \left(1 - \frac{1-w}{1-w'}\right)",
    )


_ODDS = (Fraction(3), Fraction(1, 2), Fraction(1, 4), Fraction(7, 2))
_PSEUDO = (1, 2)  # of steady and of moving


def _labelled(share: Fraction) -> tuple[Fraction, Fraction]:
    """Likelihood, and mean number of steady prompts, over all 16 ways to label four prompts."""
    likelihood, steadies = Fraction(0), Fraction(0)
    for labels in product((False, True), repeat=len(_ODDS)):
        pairs = zip(labels, _ODDS, strict=True)
        weight = prod((share * x if label else 1 - share for label, x in pairs), start=Fraction(1))
        likelihood += weight
        steadies += weight * sum(labels)
    return likelihood, steadies / likelihood


def _enumerate_share(f: Formulas) -> Iterator[Exact]:
    share, total = Fraction(1, 10), len(_ODDS) + sum(_PSEUDO)
    for step in range(1, 4):
        likelihood, steadies = _labelled(share)
        new = (steadies + _PSEUDO[0]) / total
        at = {w: rational(share), w_new: rational(new), count: total}
        where = f"four prompts, one and two pseudo-counts, step {step}"
        chances = sum(f["chance"].subs({**at, odds: rational(x)}) for x in _ODDS)
        yield Exact(f"{where}: steady prompts over all 16 labels", rational(steadies), chances)
        slopes = sum(f["slope"].subs({**at, odds: rational(x)}) for x in _ODDS)
        slopes += _PSEUDO[0] / at[w] - _PSEUDO[1] / (1 - at[w])
        yield Exact(f"{where}: move of the share", rational(new - share),
                    f["move"].subs({**at, slope: slopes}))  # fmt: skip
        ratio = _labelled(new)[0] / likelihood
        ratio *= (new / share) ** _PSEUDO[0] * ((1 - new) / (1 - share)) ** _PSEUDO[1]
        yield Exact(f"{where}: gain of the log-likelihood", sp.log(rational(ratio)),
                    f["gain"].subs(at), ">=")  # fmt: skip
        yield Exact(f"{where}: which is at least", f["gain"].subs(at), 0, ">")
        share = new


def _sample_share(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    # groups of 8 of prompts at 1/2 or of rates that are uniform: the odds of s right, by Bayes
    share, size, prompts = 0.3, 8, 40_000
    is_steady = rng.random(prompts) < share
    good = rng.binomial(size, np.where(is_steady, 0.5, rng.random(prompts)))
    odds_P = np.array([comb(size, x) * 0.5**size * (size + 1) for x in range(size + 1)])[good]
    chance_of = numeric(f["chance"], (w, odds))
    seen = good == 4
    yield Estimate.of(
        "3 in 10 prompts stay at 1/2, the rates of the others are uniform: steady ones of those with 4 "
        "right of 8",
        is_steady[seen].astype(np.float64),
        expected=float(chance_of(share, odds_P[seen][0])),
        control=share,
        control_is="their share",
    )
    slope_of = numeric(f["slope"], (w, odds))
    yield Estimate.of(
        "the same: slope of the log-likelihood per prompt at the true share",
        slope_of(share, odds_P),
        expected=0.0,
        control=float(slope_of(0.1, odds_P).mean()),
        control_is="at a share of 0.1",
    )
    few, pseudo, other = odds_P[:200], 1.0, 9.0
    move = numeric(f["move"], (w, slope, count))

    def likelihood(x: float) -> float:
        value = np.log1p(x * (few - 1.0)).sum() + pseudo * np.log(x) + other * np.log1p(-x)
        return float(value)

    at = 0.1
    for _ in range(400):
        slopes = float(slope_of(at, few).sum()) + pseudo / at - other / (1.0 - at)
        at += float(move(at, slopes, few.size + pseudo + other))
    best, _ = largest(lambda x: likelihood(1.0 / (1.0 + np.exp(-x[0]))), np.array([0.0]))
    yield Search(
        "200 of them, one and nine pseudo-counts: log-likelihood after 400 steps from 0.1",
        claimed=likelihood(at),
        found=best,
        control=likelihood(0.1),
        control_is="before the first",
        sense="max",
    )


CLAIMS = [
    Claim(
        number="7.11",
        source="not in the paper",
        title="Odds that a success rate stands still",
        status=Status.PROVED,
        statement=r"""A prompt is visited again and again. Under *steady* its rate is one draw of the
uniform law; under *moving* the next visit is predicted by a Beta law whose counts $\alpha, \beta$ may
be any function of the past, such as the last visit, faded, beside a pool's prior. Either predicts a
sequence of $n$ answers with $s$ right by
$$<<prediction>>,$$
with $\alpha = 1 + R$, $\beta = 1 + W$ under *steady* after $R$ right and $W$ wrong rollouts. From the
second visit on these predictions multiply to a function of all counts and those of the first visit:
$$<<steady>>.$$
The odds, the product of quotients of both predictions, are 1 at first, and under *moving* a martingale.
Whatever the past makes of groups' sizes and of who is visited when, a prompt that *moving* predicts
rightly has odds that *ever* reach $k$ with chance at most $1/k$. If the odds are not let fall below
$c$, they reach it within $t$ more visits with chance at most
$$<<crossing>>.$$""",
        formulas={
            "prediction": prediction,
            "steady": steady,
            "crossing": (1 + floor * visits) / level,
        },
        prove=_prove_odds,
        enumerate=_enumerate_odds,
        sample=_sample_odds,
    ),
    Claim(
        number="7.12",
        source="not in the paper",
        title="The share of steady prompts, by EM",
        status=Status.PROVED,
        statement=r"""Prompts with the odds $\omega$ of 7.11 are independent, each steady with chance
$w$; $a$ steady and $b$ moving ones are imagined beside them, $M$ in all. A prompt is then steady with
chance
$$h = <<chance>>.$$
As long as the odds stand still, the log-likelihood $\ell = \sum\log(w\omega + 1 - w) + a\log w +
b\log(1-w)$ is concave in $w$, with the slope $<<slope>>$ of each prompt. A step of EM, $w' = (\sum h +
a)/M$, moves the share uphill, by
$$w' - w = <<move>>,$$
and raises $\ell$ by at least
$$<<gain>>,$$
$M$ times the divergence of $w$ from $w'$. So no step lowers $\ell$, nor does one that is cut off at the
ends of an interval that holds $w$, by concavity; and where a step stands still is the maximum.""",
        formulas={
            "chance": chance,
            "slope": (odds - 1) / (w * odds + 1 - w),
            "move": w * (1 - w) * slope / count,
            "gain": gain,
        },
        prove=_prove_share,
        enumerate=_enumerate_share,
        sample=_sample_share,
    ),
]
