"""Chapter 7 against `cures.posterior` and `cures.beta_moments`: every count by its own route."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad
from scipy.linalg import solve_discrete_are
from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import binom

from cures import (
    BetaPosterior,
    expected_mixed,
    expected_potential,
    expected_variance,
    potential,
    prob_mixed,
)
from theory import beta_moments, forgetting, pilots, plug_in, posterior, wrong_side
from theory.claims import Claim, numeric
from theory.symbols import alpha, beta, n, p

COUNTS = [1e-3, 0.5, 1.0, 2.0, 7.5, 64.0, 1e4, 1e9]
PAIRS = list(product(COUNTS, COUNTS))


def formula(module: Any, number: str, name: str) -> sp.Expr:
    """What the claim of this number prints and proves."""
    claim: Claim = next(c for c in module.CLAIMS if c.number == number)
    return claim.formulas[name]


def precise(expression: sp.Expr, symbols: tuple[sp.Symbol, ...]) -> Callable[..., float]:
    """Evaluated with 60 digits: Gamma functions of 1e9 cancel in many more than 16."""
    function = sp.lambdify(symbols, expression, modules="mpmath")

    def evaluate(*values: float) -> float:
        with mpmath.workdps(60):
            return float(function(*(mpmath.mpf(v) for v in values)))

    return evaluate


# -- claims 7.1 and 7.2 -----------------------------------------------------------------------------


def test_updates_give_the_counts_mean_and_variance_of_the_claims():
    symbols = (alpha, beta, n, posterior.s)
    right, wrong, mean = (
        numeric(formula(posterior, "7.1", name), symbols) for name in ("right", "wrong", "mean")
    )
    variance = numeric(posterior.rate_variance, (alpha, beta))
    for a, b in ((1.0, 1.0), (0.5, 2.5), (3.0, 40.0)):
        for trials, success in ((4, 0), (4, 3), (1000, 999)):
            known = BetaPosterior(1, prior=(a, b))
            known.update([0], [success], [trials])
            given = (a, b, trials, success)
            assert known.alpha_beta()[0][0] == pytest.approx(right(*given), rel=1e-15)
            assert known.alpha_beta()[1][0] == pytest.approx(wrong(*given), rel=1e-15)
            assert known.mean()[0] == pytest.approx(mean(*given), rel=1e-14)
            spread = variance(right(*given), wrong(*given))
            assert known.variance()[0] == pytest.approx(spread, rel=1e-12)
            assert known.mean()[0] != pytest.approx(success / trials, rel=1e-6)  # control


@pytest.mark.parametrize(("a", "b", "trials"), [(1.0, 1.0, 4), (2.0, 5.0, 16), (0.5, 0.5, 64)])
def test_the_mean_is_a_martingale_and_the_variance_shrinks_by_what_it_moved(a, b, trials):
    evidence = numeric(formula(posterior, "7.1", "evidence"), (alpha, beta, n, posterior.s))
    expected = {
        name: numeric(formula(posterior, "7.2", name), (alpha, beta, n))(a, b, trials)
        for name in ("mean", "moved", "left")
    }
    success_N = np.arange(trials + 1)
    known = BetaPosterior(trials + 1, prior=(a, b))
    before = known.mean()[0], known.variance()[0]
    known.update(success_N, success_N, np.full(trials + 1, trials))
    mean, spread = known.mean(), known.variance()
    chance = evidence(a, b, trials, success_N)
    assert chance.sum() == pytest.approx(1.0, rel=1e-12)
    assert chance @ mean == pytest.approx(expected["mean"], rel=1e-12)
    assert expected["mean"] == pytest.approx(before[0], rel=1e-14)
    assert chance @ (mean - before[0]) ** 2 == pytest.approx(expected["moved"], rel=1e-12)
    assert chance @ spread == pytest.approx(expected["left"], rel=1e-12)
    assert expected["moved"] + expected["left"] == pytest.approx(before[1], rel=1e-12)
    # control: outcomes weighted as if the rate were known to be the mean
    wrong = binom.pmf(success_N, trials, before[0])
    assert wrong @ (mean - before[0]) ** 2 != pytest.approx(expected["moved"], rel=0.05)


# -- claims 7.3 and 7.4 -----------------------------------------------------------------------------


def test_expected_potential_from_tiny_to_huge_counts():
    exact = precise(formula(beta_moments, "7.3", "potential"), (alpha, beta))
    for a, b in PAIRS:
        assert float(expected_potential(a, b)) == pytest.approx(exact(a, b), rel=1e-12)
    # controls: log-beta functions lose digits at large counts; the mean plugged in is another number
    naive = np.exp(betaln(1e9 + 0.5, 1e4 + 0.5) - betaln(1e9, 1e4))
    assert naive != pytest.approx(exact(1e9, 1e4), rel=1e-12)
    assert float(potential(1 / 6)) != pytest.approx(exact(1.0, 5.0), rel=0.1)


def test_expected_potential_changes_by_the_factor_and_is_a_martingale():
    factor = numeric(formula(beta_moments, "7.3", "factor"), (alpha, beta))
    for a, b in PAIRS:
        now = float(expected_potential(a, b))
        right, wrong = float(expected_potential(a + 1, b)), float(expected_potential(a, b + 1))
        if max(a, b) < 1e8:  # beyond, a + 1/2 is rounded as much as the factor differs from 1
            assert right / now == pytest.approx(factor(a, b), rel=1e-12)
            assert wrong / now == pytest.approx(factor(b, a), rel=1e-12)
        assert (a * right + b * wrong) / (a + b) == pytest.approx(now, rel=1e-12)
    at_mean = [float(potential(m)) for m in (1 / 3, 2 / 4, 1 / 4)]  # control: Beta(1, 2)
    assert (at_mean[1] + 2 * at_mean[2]) / 3 != pytest.approx(at_mean[0], rel=0.01)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 33, 500])
def test_expected_chance_of_a_mixed_group(size: int):
    exact = precise(formula(beta_moments, "7.4", "mixed"), (alpha, beta, n))
    for a, b in PAIRS:
        assert float(expected_mixed(a, b, size)) == pytest.approx(
            exact(a, b, size), rel=1e-12, abs=0.0 if size > 1 else 1e-30
        )
    if size > 2:  # control: at the mean rate
        assert float(prob_mixed(0.25, size)) != pytest.approx(exact(1.0, 3.0, size), rel=0.003)


def test_expected_variance_of_a_reward():
    exact = precise(formula(beta_moments, "7.4", "variance"), (alpha, beta))
    direct = numeric(formula(beta_moments, "7.4", "variance"), (alpha, beta))
    for a, b in PAIRS:
        assert float(expected_variance(a, b)) == pytest.approx(exact(a, b), rel=1e-14)
        assert float(expected_variance(a, b)) == pytest.approx(float(direct(a, b)), rel=1e-12)
        assert float(expected_mixed(a, b, 2)) == pytest.approx(2 * exact(a, b), rel=1e-12)
    assert float(potential(0.25)) ** 2 != pytest.approx(exact(1.0, 3.0), rel=0.1)  # control


# -- claim 7.5 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.1, 0.5, 0.8])
def test_the_bias_of_four_pilots_is_that_of_the_library(rate: float):
    success_N = np.arange(5)
    chance = binom.pmf(success_N, 4, rate)
    known = BetaPosterior(5)
    known.update(success_N, success_N, np.full(5, 4))
    of_mean = chance @ potential(known.mean()) - float(potential(rate))
    of_frequency = chance @ potential(success_N / 4) - float(potential(rate))
    bias = {
        name: float(numeric(formula(plug_in, "7.5", name), p)(rate))
        for name in ("mean", "frequency")
    }
    assert of_mean == pytest.approx(bias["mean"], rel=1e-12, abs=1e-14)
    assert of_frequency == pytest.approx(bias["frequency"], rel=1e-12)
    assert of_mean != pytest.approx(bias["frequency"], rel=0.1)  # control: the other estimate


def test_the_posterior_expectation_has_no_bias_on_average_and_the_plug_in_the_formula_s():
    success_N = np.arange(5)  # equally likely if rates are uniform
    known = BetaPosterior(5)
    known.update(success_N, success_N, np.full(5, 4))
    truth = float(expected_potential(1.0, 1.0))
    assert np.mean(expected_potential(*known.alpha_beta())) == pytest.approx(truth, rel=1e-13)
    excess = float(formula(plug_in, "7.5", "average"))
    assert np.mean(potential(known.mean())) - truth == pytest.approx(excess, rel=1e-12)
    assert excess > 0.04  # control: that is not rounding


def test_the_leading_bias_is_approached():
    leading = numeric(formula(plug_in, "7.5", "leading"), (p, n))
    gaps = []
    for trials in (1000, 10_000):
        success_N = np.arange(trials + 1)
        bias = binom.pmf(success_N, trials, 0.3) @ potential(success_N / trials) - potential(0.3)
        gaps.append(float(bias / leading(0.3, trials)) - 1.0)
    assert gaps[0] / gaps[1] == pytest.approx(10.0, rel=0.05)  # what is left is O(1/n)


# -- claims 7.6 and 7.10: pilots that misjudge ------------------------------------------------------


def test_unanimous_pilots_are_the_groups_that_are_not_mixed():
    unanimous = numeric(formula(pilots, "7.6", "unanimous"), (p, n))
    for rate, size in product((0.01, 0.1, 0.5, 0.97), (2, 4, 16)):
        assert unanimous(rate, size) == pytest.approx(1 - float(prob_mixed(rate, size)), rel=1e-12)
    uniform = numeric(formula(pilots, "7.6", "uniform"), n)
    forgone = numeric(formula(pilots, "7.6", "forgone"), n)
    for size in (2, 4, 8, 16):
        assert uniform(size) == pytest.approx(1 - float(expected_mixed(1, 1, size)), rel=1e-12)
        # potential of the prompts with 0 or n right: 2 / (n + 1) of all, each of Beta(1, n + 1)
        lost = uniform(size) * expected_potential(1.0, size + 1.0) / expected_potential(1.0, 1.0)
        assert forgone(size) == pytest.approx(float(lost), rel=1e-12)
        # control: unanimous prompts hold less potential than their share
        assert forgone(size) < 0.95 * uniform(size)


def test_dead_prompts_among_the_unanimous():
    dead = numeric(formula(pilots, "7.6", "dead"), (pilots.dead_share, n))
    for share, size in product((0.05, 0.5), (4, 16)):
        live, _ = quad(lambda x, k=size: x**k + (1 - x) ** k, 0, 1, epsabs=1e-14)
        assert dead(share, size) == pytest.approx(share / (share + (1 - share) * live), rel=1e-12)
    assert dead(0.3, 4) > 0.5  # control: more than the share of the dead in the pool


def test_pilots_needed_to_see_a_right_answer():
    needed = numeric(formula(pilots, "7.6", "needed"), (p, pilots.miss))
    for rate, tolerated in product((0.01, 0.1, 0.4), (0.05, 0.001)):
        count = int(np.ceil(needed(rate, tolerated)))
        assert binom.pmf(0, count, rate) <= tolerated < binom.pmf(0, count - 1, rate)


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_a_vote_of_pilots_errs_as_often_as_claimed(k: int):
    k_symbol, size = wrong_side.majority, 2 * k - 1
    average = numeric(formula(wrong_side, "7.10", "average"), k_symbol)(k)
    tail, _ = quad(lambda x: binom.sf(k - 1, size, x), 0, 0.5, epsabs=1e-15, epsrel=1e-13)
    assert 2 * tail == pytest.approx(average, rel=1e-12)
    tied, _ = quad(
        lambda x: binom.sf(k, 2 * k, x) + 0.5 * binom.pmf(k, 2 * k, x), 0, 0.5,
        epsabs=1e-15, epsrel=1e-13,
    )  # fmt: skip
    assert 2 * tied == pytest.approx(average, rel=1e-12)
    growth = numeric(formula(wrong_side, "7.10", "growth"), (p, k_symbol))
    grown, _ = quad(lambda x: float(growth(x, k)), 0, 0.3, epsabs=1e-15, epsrel=1e-13)
    assert grown == pytest.approx(binom.sf(k - 1, size, 0.3), rel=1e-12)
    ceiling = numeric(formula(wrong_side, "7.10", "ceiling"), (p, k_symbol))
    assert binom.sf(k - 1, size, 0.3) <= ceiling(0.3, k)
    assert binom.sf(k - 2, size, 0.3) != pytest.approx(grown, rel=0.1)  # control: one vote fewer


def test_so_many_pilots_are_enough():
    enough = numeric(formula(wrong_side, "7.10", "enough"), (p, wrong_side.miss))
    for rate, tolerated in product((0.1, 0.4, 0.49), (0.1, 0.01)):
        size = int(np.ceil(enough(rate, tolerated)))
        size += 1 - size % 2
        assert binom.sf((size - 1) // 2, size, rate) <= tolerated
    assert binom.sf(3, 7, 0.4) > 0.05  # control: 7 are not, at p = 0.4


# -- claim 7.7: the value of one more pilot ---------------------------------------------------------


def test_the_value_of_one_more_pilot():
    value = numeric(formula(pilots, "7.7", "value"), (alpha, beta))
    variance = numeric(formula(pilots, "7.7", "variance"), (alpha, beta))
    for a, b in ((1.0, 1.5), (1.0, 5.0), (2.0, 6.0), (0.5, 30.0)):
        known = BetaPosterior(3, prior=(a, b))
        known.update([1, 2], [1, 0], [1, 1])  # untouched, a right pilot, a wrong one
        now, right, wrong = expected_potential(*known.alpha_beta())
        chance = known.mean()[0]
        gain = chance * max(right, now) + (1 - chance) * max(wrong, now) - now
        assert gain == pytest.approx(float(value(a, b)), rel=1e-12)
        other = 2.0 * now  # control: against a better alternative the pilot is worth nothing
        assert chance * max(right, other) + (1 - chance) * max(wrong, other) == other
        spread = known.variance()
        lost = spread[0] - chance * spread[1] - (1 - chance) * spread[2]
        assert lost == pytest.approx(float(variance(a, b)), rel=1e-12)


def test_even_counts_are_not_moved_by_one_more_pilot():
    for count in (0.5, 1.0, 7.0, 100.0):
        now, right, wrong = expected_potential([count, count + 1, count], [count, count, count + 1])
        assert right == pytest.approx(now, rel=1e-12)
        assert wrong == pytest.approx(now, rel=1e-12)
        both = float(expected_potential(count + 1, count + 1))  # control: two pilots do
        assert both > now * (1 + 1e-6)


# -- claims 7.8 and 7.9: forgetting -----------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.01, 0.2, 0.9])
def test_discounted_counts_settle_where_claimed(loss: float):
    size = 8
    count = float(numeric(formula(forgetting, "7.8", "count"), (n, forgetting.forget))(size, loss))
    prior = numeric(formula(forgetting, "7.8", "prior"), (alpha, beta, n, forgetting.forget))
    known = BetaPosterior(1, prior=(2.0, 3.0), forgetting=loss)
    for _ in range(int(40 / loss) if loss < 0.5 else 40):
        known.advance()
        known.update([0], [3], [size])
    success, failure = known.evidence()
    assert success[0] + failure[0] == pytest.approx(count, rel=1e-12)
    assert 5.0 / sum(x[0] for x in known.alpha_beta()) == pytest.approx(
        float(prior(2.0, 3.0, size, loss)), rel=1e-12
    )
    share = success[0] / (success[0] + failure[0])
    believed = numeric(formula(forgetting, "7.8", "believed"), (p, n, forgetting.forget))
    assert share * (1 - share) / (count + 1) == pytest.approx(
        float(believed(share, size, loss)), rel=1e-12
    )


@pytest.mark.parametrize("loss", [0.1, 0.5])
def test_variance_of_the_discounted_frequency_over_all_outcomes(loss: float):
    rate, updates, size = 0.3, 4, 3
    outcome_U = np.array(list(product(range(size + 1), repeat=updates)))
    chance = binom.pmf(outcome_U, size, rate).prod(axis=1)
    known = BetaPosterior(len(outcome_U), forgetting=loss)
    everyone = np.arange(len(outcome_U))
    for step in range(updates):
        known.advance()
        known.update(everyone, outcome_U[:, step], np.full(len(outcome_U), size))
    success, failure = known.evidence()
    frequency = success / (success + failure)
    symbols = (p, n, forgetting.forget, forgetting.updates)
    after = numeric(formula(forgetting, "7.8", "after"), symbols)
    assert chance @ frequency == pytest.approx(rate, rel=1e-12)  # no bias
    assert chance @ (frequency - rate) ** 2 == pytest.approx(
        float(after(rate, size, loss, updates)), rel=1e-12
    )
    steady = numeric(formula(forgetting, "7.8", "variance"), symbols[:3])(rate, size, loss)
    assert float(after(rate, size, loss, 2000)) == pytest.approx(float(steady), rel=1e-12)
    # control: the variance that the Beta law of these counts reports
    reported = rate * (1 - rate) / (success[0] + failure[0] + 1)
    assert chance @ (frequency - rate) ** 2 != pytest.approx(reported, rel=0.02)


@pytest.mark.parametrize("loss", [0.1, 0.4])
def test_lag_under_drift(loss: float):
    size, steps = 1000, 500
    known = BetaPosterior(1, forgetting=loss)
    for step in range(steps):
        known.advance()
        known.update([0], [300 + step], [size])  # the expected number, at a rate rising by 1/1000
    success, failure = known.evidence()
    behind = success[0] / (success[0] + failure[0]) - (300 + steps - 1) / size
    lag = numeric(formula(forgetting, "7.8", "lag"), (forgetting.drift, forgetting.forget))
    assert behind == pytest.approx(float(lag(1 / size, loss)), rel=1e-12)
    assert behind != pytest.approx(-1 / (size * loss), rel=0.05)  # control: one update older


@pytest.mark.parametrize("ratio", [0.001, 0.05, 2.0])
def test_the_best_forgetting_is_the_gain_of_the_riccati_equation(ratio: float):
    best = float(numeric(formula(forgetting, "7.9", "best"), forgetting.kappa)(ratio))
    one = np.ones((1, 1))
    predicted = float(solve_discrete_are(one, one, ratio * one, one)[0, 0])  # noise has variance 1
    assert best == pytest.approx(predicted / (predicted + 1.0), rel=1e-12)
    symbols = (p, n, forgetting.kappa, forgetting.forget)
    error = numeric(formula(forgetting, "7.9", "error"), symbols)
    least = float(numeric(formula(forgetting, "7.9", "least"), symbols[:3])(0.5, 4, ratio))
    assert float(error(0.5, 4, ratio, best)) == pytest.approx(least, rel=1e-12)
    assert least * 16 == pytest.approx(
        predicted / (predicted + 1.0), rel=1e-12
    )  # posterior variance
    for other in (0.7 * best, 0.5 * (1 + best)):  # controls
        assert float(error(0.5, 4, ratio, other)) > 1.001 * least
    slope = numeric(sp.diff(forgetting.tracking_error, forgetting.forget), symbols)
    zero = brentq(lambda x: float(slope(0.5, 4, ratio, x)), 1e-4, 0.999, xtol=1e-15, rtol=1e-14)
    assert zero == pytest.approx(best, rel=1e-10)
