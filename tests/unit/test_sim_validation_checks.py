"""Checks of the validation: bands, exact laws of answers, and numbers from the theory's claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
from scipy.stats import chi2, norm

from sim.item_response import ItemResponse
from sim.tabular import Tabular
from sim.validation import FAMILIES, check, small_policies
from sim.validation.answers import answer_chances, answer_law, divergence
from sim.validation.check import Result
from sim.validation.expected import expected, formula
from sim.validation.feature_laws import constant_norms, with_fillers
from sim.validation.natural_step import Pool, alone
from sim.validation.run import checks_of
from tests.tabular_cases import kl_of
from theory import finite_radius
from theory.symbols import delta, p
from theory.trust_region import exact_improvement

RATE_N = np.array([0.05, 0.3, 0.5, 0.9])


def policies():
    generator = np.random.default_rng(3)
    return {
        "table": small_policies.random_table(RATE_N, generator),
        "even table": small_policies.even_table(RATE_N, 2, 3),
        "shared table": small_policies.shared_table(
            RATE_N, generator.standard_normal((4, 2)), generator
        ),
        "chains": small_policies.random_chains(RATE_N, generator),
        "repeating chains": small_policies.repeating_chains(RATE_N, generator),
        "one chain": small_policies.one_chain(RATE_N, generator, 3),
        "item response": small_policies.item_response(RATE_N, generator),
    }


@pytest.mark.parametrize("name", policies())
def test_laws_of_answers_are_those_of_the_policy(name):
    policy, theta_D = policies()[name]
    for i, rate in enumerate(RATE_N.tolist()):
        law = answer_law(policy, theta_D, i)
        assert law.chance_K.sum() == pytest.approx(1.0, abs=1e-14)
        # the rates asked for, and the policy's own closed forms
        assert law.success_rate == pytest.approx(rate, rel=1e-11)
        own = policy.success_gradient(theta_D, np.array([i]), np.ones(1))
        np.testing.assert_allclose(law.gradient_D, own, rtol=1e-10, atol=1e-14)
        # scores have mean zero, and are derivatives of log chances
        np.testing.assert_allclose(law.chance_K @ law.score_K_D, 0.0, atol=1e-14)
        slope_K = np.zeros(law.chance_K.size)
        step = 1e-6
        for d in range(min(3, theta_D.size)):
            nudge_D = np.zeros(theta_D.size)
            nudge_D[d] = step
            high, low = (answer_chances(policy, theta_D + s * nudge_D, i) for s in (1, -1))
            slope_K = (np.log(high) - np.log(low)) / (2 * step)
            np.testing.assert_allclose(law.score_K_D[:, d], slope_K, atol=1e-8)


@pytest.mark.parametrize("name", policies())
def test_policies_generate_what_their_laws_say(name):
    policy, theta_D = policies()[name]
    law, size = answer_law(policy, theta_D, 1), 20_000
    answer_R = policy.generate(theta_D, np.full(size, 1), np.random.default_rng(5))
    count_K = np.bincount(answer_R, minlength=law.chance_K.size)
    limit = chi2.isf(2 * norm.sf(4), law.chance_K.size - 1)  # as likely as 4 standard errors
    distance = ((count_K - size * law.chance_K) ** 2 / (size * law.chance_K)).sum()
    assert distance < limit
    other_K = answer_law(policy, theta_D, 2).chance_K  # control: another success rate
    if other_K.size == count_K.size:
        assert ((count_K - size * other_K) ** 2 / (size * other_K)).sum() > limit


def test_divergence_equals_that_of_the_tabular_policy():
    policy, theta_D = policies()["table"]
    other_D = theta_D + np.random.default_rng(0).normal(0, 0.3, theta_D.size)
    by_policy = kl_of(policy, theta_D, other_D, np.arange(4))
    laws = [[answer_chances(policy, t, i) for t in (theta_D, other_D)] for i in range(4)]
    np.testing.assert_allclose([divergence(*pair) for pair in laws], by_policy, rtol=1e-12)
    # a step so small that log p - log q cancels: p x^2 / 2 to leading order, by hand
    assert divergence(np.array([0.5, 0.5]), np.array([0.5 + 1e-9, 0.5 - 1e-9])) == pytest.approx(
        2e-18, rel=1e-6
    )


def test_an_unknown_policy_is_refused_by_name():
    with pytest.raises(ValueError, match="answer_chances: policy must be one of sim's, got str"):
        answer_chances("x", np.zeros(1), 0)


def test_a_natural_gradient_step_of_one_logit_by_hand():
    # item response, loading 2, p = 1/2: g = 1/2, F = 1, so F^+ g = 1/2 and the natural norm is 1/4
    pool = alone(ItemResponse(np.array([[2.0]]), np.zeros(1)), np.zeros(1), 0)
    assert pool.natural_norm == pytest.approx(0.25, rel=1e-14)
    radius = 0.02  # the step adds sqrt(2 delta / (p (1-p))) = 0.4 to the logit
    gain_N, spent_N = pool.nominal(radius)
    new = 1.0 / (1.0 + math.exp(-0.4))
    assert gain_N[0] == pytest.approx(new - 0.5, rel=1e-13)
    assert spent_N[0] == pytest.approx(-0.5 * math.log(4.0 * new * (1.0 - new)), rel=1e-12)
    # stretched to the radius it reaches the exact optimum, which theory finds on its own
    gain_N, spent_N = pool.stretched(radius)
    assert spent_N[0] == pytest.approx(radius, rel=1e-12)
    assert gain_N[0] == pytest.approx(float(exact_improvement(0.5, radius)), rel=1e-11)


def test_a_pool_averages_its_prompts():
    policy, theta_D = policies()["chains"]
    share_N = np.array([0.1, 0.2, 0.3, 0.4])
    pool = Pool(policy, theta_D, share_N)
    own = policy.success_gradient(theta_D, np.arange(4), share_N)
    np.testing.assert_allclose(pool.gradient_D, own, rtol=1e-11)


def test_scores_of_given_norms():
    law = constant_norms(0.4, 2.2)
    np.testing.assert_allclose((law.score_K_D**2).sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(law.chance_K @ law.score_K_D, 0.0, atol=1e-15)
    assert float(law.difference_D @ law.difference_D) == pytest.approx(2.2, rel=1e-12)
    with pytest.raises(ValueError, match=r"constant_norms: rate must be in \[0.326, 0.674\]"):
        constant_norms(0.3, 2.2)


def test_fillers_are_tokens_of_a_table():
    law = with_fillers(0.3, 2)
    assert law.chance_K.size == 8
    assert law.success_rate == pytest.approx(0.3, rel=1e-14)
    np.testing.assert_allclose(law.chance_K @ law.score_K_D, 0.0, atol=1e-15)
    # a fair choice of two: score (1, -1) / 2, square 1/2 each
    noise = law.mean_given(True, (law.score_K_D[:, 2:] ** 2).sum(axis=1))
    assert float(noise) == pytest.approx(1.0, rel=1e-14)


# -- numbers from claims ---------------------------------------------------------------------------


def test_expected_values_are_the_claims_own_expressions(monkeypatch):
    # sqrt(2 x 0.005 x 0.25) by hand
    assert expected("1.8", "stated", {p: 0.5, delta: 0.005}) == pytest.approx(0.05, rel=1e-15)
    claim = next(c for c in finite_radius.CLAIMS if c.number == "1.8")
    assert formula("1.8", "stated") is claim.formulas["stated"]
    monkeypatch.setitem(claim.formulas, "stated", 3 * claim.formulas["stated"])
    assert expected("1.8", "stated", {p: 0.5, delta: 0.005}) == pytest.approx(0.15, rel=1e-15)


def test_expected_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="formula: 99.1 'x' must be a claim of the theory"):
        expected("99.1", "x", {})
    with pytest.raises(ValueError, match=r"formula: 1.8 'x' must be among \['stated'"):
        expected("1.8", "x", {})
    with pytest.raises(ValueError, match=r"expected: at must have \['p'\] for 1.8 'stated'"):
        expected("1.8", "stated", {delta: 0.1})


def test_every_check_names_formulas_that_exist_and_is_named_once():
    for family in FAMILIES:
        checks = checks_of(family)
        assert len({c.name for c in checks}) == len(checks)
        for one in checks:
            assert one.what
            assert one.control
            assert all(isinstance(formula(number, _any(number)), sp.Basic) for number in one.claims)


def _any(number):
    from theory.registry import all_claims

    return next(iter(next(c for c in all_claims() if c.number == number).formulas))


# -- statistics ------------------------------------------------------------------------------------


def test_bands_of_random_checks_have_one_chance_of_a_false_alarm():
    # 4 standard errors, two-sided; Bonferroni's correction is exact enough for 1000 values
    assert check.largest_z(0.0, 0.0, 1.0, 9.0).high == pytest.approx(4.0, rel=1e-12)
    many = check.largest_z(np.zeros(1000), 0.0, 1.0, 9.0)
    assert 1000 * 2 * norm.sf(many.high) == pytest.approx(2 * norm.sf(4.0), rel=1e-9)
    result = check.chi_square([10.0, 12.0, 8.0], [10.0] * 3, [5.0, 20.0, 5.0])
    tails = chi2(2).cdf(result.low) + chi2(2).sf(result.high)
    assert tails == pytest.approx(2 * norm.sf(4.0), rel=1e-9)
    assert result.value == pytest.approx((0 + 4 + 4) / 10)  # by hand


def test_a_band_that_cannot_reject_its_control_fails():
    assert check.largest_z(1.0, 1.0, 0.1, 2.0).holds
    weak = check.largest_z(1.0, 1.0, 0.1, 1.3)  # 3 standard errors away
    assert not weak.is_control_rejected
    assert not weak.holds
    assert not check.largest_z(1.0, 1.5, 0.1, 9.0).holds
    # draws that fit too well are not independent draws
    even = np.full(20, 100.0)
    assert not check.chi_square(even, even, even + np.resize([50.0, -50.0], 20)).holds


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_fails(value):
    result = Result("z", value, 0.0, 4.0, 9.0, 0.0, 0.0)
    assert not result.holds
    assert not Result("z", 1.0, 0.0, 4.0, value, 0.0, 0.0).is_control_rejected


def test_a_mean_without_spread_must_be_exact():
    assert check.largest_z([1.0, 2.0], [1.0, 2.0], [0.0, 0.1], [1.0, 4.0]).holds
    assert not check.largest_z([1.0, 2.0], [1.0 + 1e-6, 2.0], [0.0, 0.1], [1.0, 4.0]).holds
    # the noisy mean alone has to reject the control
    assert not check.largest_z([1.0, 2.0], [1.0, 2.0], [0.0, 0.1], [9.0, 2.1]).holds


def test_powers_of_the_radius():
    radius_R = np.logspace(-6, -2, 5)
    rest = np.array([3.0 * radius_R, 0.0 * radius_R])
    result = check.rate_of_decay(radius_R, rest, np.ones((2, 5)), 1.0)
    assert result.holds
    assert result.value == pytest.approx(1.0, abs=1e-12)
    assert not check.rate_of_decay(radius_R, rest, rest, 1.0).holds  # the control decays as well
    assert math.isnan(check.decay(radius_R, np.zeros((1, 5))))


def test_gains_have_to_reach_their_bound_and_not_to_pass_it():
    assert check.largest_ratio([0.5, 1.0], 1.0, 0.8, tightness=0.9).holds
    assert not check.largest_ratio([0.5, 0.8], 1.0, 0.7, tightness=0.9).holds  # a loose bound
    assert not check.largest_ratio([0.5, 1.1], 1.0, 0.8, tightness=0.9).holds


def test_counts_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="chi_square: expected must be >= 5 each, got 2"):
        check.chi_square([1, 9], [2, 8], [5, 5])


def test_even_tables_have_even_chances():
    policy, theta_D = small_policies.even_table(np.array([0.3]), 2, 3)
    assert isinstance(policy, Tabular)
    chance_K = answer_chances(policy, theta_D, 0)
    np.testing.assert_allclose(chance_K, [0.15, 0.15, 0.7 / 3, 0.7 / 3, 0.7 / 3], rtol=1e-12)
