"""Sigma of Eq. 21, its surrogates and the released variant, against exact enumeration."""

import warnings
from fractions import Fraction
from math import comb

import numpy as np
import pytest

from cures.gradient_std import (
    NegativeVarianceWarning,
    gradient_std,
    gradient_std_released,
    gradient_std_surrogate,
    gradient_variance,
)


def softmax_world(logits, is_right):
    """A softmax policy over finitely many answers: probabilities, scores, rewards."""
    prob = np.exp(logits) / np.exp(logits).sum()
    score = np.eye(len(logits)) - prob  # row y: grad of log pi(y) with respect to the logits
    return prob, score, np.asarray(is_right, dtype=float)


def moments(prob, score, reward):
    """p, E[|s|^2 | r], |E[s|1] - E[s|0]|^2 by summing over all answers."""
    p = prob @ reward
    right, wrong = prob * reward / p, prob * (1 - reward) / (1 - p)
    square = (score**2).sum(axis=1)
    difference = right @ score - wrong @ score
    return p, right @ square, wrong @ square, difference @ difference


def enumerated_variance(prob, score, advantage):
    """Trace of the covariance of advantage * score, by summing over all answers."""
    gradient = advantage[:, None] * score
    mean = prob @ gradient
    return prob @ ((gradient - mean) ** 2).sum(axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_variance_equals_enumeration_over_all_answers_of_a_softmax_policy(seed):
    generator = np.random.default_rng(seed)
    world = softmax_world(generator.normal(size=6), [1, 0, 1, 0, 0, 1])
    p, correct, wrong, difference = moments(*world)
    expected = enumerated_variance(world[0], world[1], world[2] - p)  # A = r - p
    assert gradient_variance(p, correct, wrong, difference) == pytest.approx(expected, rel=1e-12)
    assert gradient_std(p, correct, wrong, difference) == pytest.approx(expected**0.5, rel=1e-12)


def test_negative_control_other_baselines_do_not_satisfy_the_formula():
    world = softmax_world(np.array([0.3, -1.0, 0.8, 0.1]), [1, 0, 0, 1])
    p, correct, wrong, difference = moments(*world)
    plain_reward = enumerated_variance(world[0], world[1], world[2])
    assert gradient_variance(p, correct, wrong, difference) != pytest.approx(plain_reward, rel=0.01)
    right = gradient_variance(p, correct, wrong, difference)
    assert gradient_variance(p, wrong, correct, difference) != pytest.approx(right, rel=0.01)


def test_two_answers_only_have_sigma_zero_at_one_half():
    # With two answers sigma^2 is proportional to p (1-p) (1-2p)^2.
    world = softmax_world(np.zeros(2), [1, 0])
    assert gradient_variance(*moments(*world)) == pytest.approx(0.0, abs=1e-16)


def test_negative_variances_warn_once_with_their_number():
    p, one = [0.5, 0.5, 0.2], [1.0, 1.0, 1.0]
    difference = [5.0, 9.0, 0.0]  # .25 - D / 16 < 0 for D > 4
    assert (gradient_variance(p, one, one, difference) < 0).tolist() == [True, True, False]
    with pytest.warns(NegativeVarianceWarning) as caught:
        sigma = gradient_std(p, one, one, difference)
    assert len(caught) == 1
    assert caught[0].message.count == 2
    assert "2 of 3" in str(caught[0].message)
    assert caught[0].filename == __file__  # points at the caller
    np.testing.assert_allclose(sigma, [0.0, 0.0, 0.4])  # sqrt(.2 * .8)


def test_negative_estimate_of_the_difference_is_legal_and_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # .25 * (1 + .25 * 4) = .5
        assert gradient_std(0.5, 1.0, 1.0, -4.0) == pytest.approx(0.5**0.5)


def enumerated_mean_square(p: Fraction, n: int, squared_advantage) -> float:
    """E[A^2] of one rollout: sum over the number k of right answers in a group of n."""
    total = Fraction(0)
    for k in range(n + 1):
        weight = comb(n, k) * p**k * (1 - p) ** (n - k)
        right, wrong = squared_advantage(k, n)
        total += weight * (Fraction(k, n) * right + Fraction(n - k, n) * wrong)
    return float(total)


def rloo(k, n):  # reward minus the mean of the n - 1 others
    return (1 - Fraction(k - 1, n - 1)) ** 2, Fraction(k, n - 1) ** 2


def dr_grpo(k, n):  # reward minus the group mean
    return (1 - Fraction(k, n)) ** 2, Fraction(k, n) ** 2


def grpo(k, n):  # the same, divided by the sample standard deviation; nothing in a uniform group
    if k in (0, n):
        return Fraction(0), Fraction(0)
    mean = Fraction(k, n)
    variance = (k * (1 - mean) ** 2 + (n - k) * mean**2) / (n - 1)
    return (1 - mean) ** 2 / variance, mean**2 / variance


RULES = {"rloo": rloo, "dr_grpo": dr_grpo, "grpo": grpo}


@pytest.mark.parametrize("n", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("p", [Fraction(0), Fraction(1, 50), Fraction(1, 3), Fraction(1, 2)])
@pytest.mark.parametrize("estimator", RULES)
def test_surrogate_equals_enumeration_over_binomial_outcomes(estimator, p, n):
    expected = enumerated_mean_square(p, n, RULES[estimator])
    sigma = gradient_std_surrogate(float(p), estimator=estimator, n=n)
    assert sigma**2 == pytest.approx(expected, rel=1e-13, abs=0)


def test_negative_control_estimators_are_told_apart_by_the_enumeration():
    for name in RULES:
        for other in RULES:
            sigma = gradient_std_surrogate(0.25, estimator=name, n=4)
            expected = enumerated_mean_square(Fraction(1, 4), 4, RULES[other])
            is_equal = bool(np.isclose(float(sigma) ** 2, expected, rtol=1e-6, atol=0.0))
            assert is_equal is (name == other)


def test_surrogate_of_the_true_advantage_is_the_potential_and_broadcasts_over_n():
    np.testing.assert_allclose(gradient_std_surrogate([0.1, 0.2, 0.5]), [0.3, 0.4, 0.5])
    sigma = gradient_std_surrogate(0.5, estimator="dr_grpo", n=[2, 4])
    np.testing.assert_allclose(sigma**2, [0.125, 0.1875])  # (1/4) (n-1)/n


def test_surrogate_refuses_unknown_estimators_and_bad_group_sizes():
    with pytest.raises(ValueError, match=r"estimator must be one of \['rloo', 'dr_grpo', 'grpo'\]"):
        gradient_std_surrogate(0.5, estimator="ppo", n=4)
    with pytest.raises(ValueError, match="n must be an int >= 2 for estimator 'grpo', got None"):
        gradient_std_surrogate(0.5, estimator="grpo")
    with pytest.raises(ValueError, match="n must be None when estimator is None, got 4"):
        gradient_std_surrogate(0.5, n=4)
    with pytest.raises(ValueError, match=r"n must be in \[2, inf\), got '?1"):
        gradient_std_surrogate(0.5, estimator="rloo", n=1)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((1.5, 1.0, 1.0, 0.0), "p"),
        ((0.5, -1.0, 1.0, 0.0), "sq_norm_correct"),
        ((0.5, 1.0, np.nan, 0.0), "sq_norm_wrong"),
        ((0.5, 1.0, 1.0, np.inf), "sq_norm_difference"),
    ],
)
def test_variance_names_the_bad_argument(arguments, name):
    with pytest.raises(ValueError, match=f"gradient_variance: {name} must be"):
        gradient_variance(*arguments)


def test_released_variant_uses_the_difference_of_mean_norms():
    # p = 1/4, |s| means 2 and 1, |s|^2 means 5 and 2:
    # (1/4)(9/16) 5 + (1/16)(3/4) 2 - (1/16)(9/16) (2 - 1)^2 = 195/256
    sigma = gradient_std_released(0.25, 2.0, 1.0, 5.0, 2.0)
    assert sigma**2 == pytest.approx(195 / 256, rel=1e-14)


def test_released_variant_differs_from_eq_21_when_scores_point_in_different_directions():
    # Right and wrong scores of equal length, at right angles: the norms agree, the means do not.
    released = gradient_std_released(0.5, 1.0, 1.0, 1.0, 1.0)
    assert released == pytest.approx(0.5)
    assert gradient_std(0.5, 1.0, 1.0, 2.0) == pytest.approx(0.125**0.5)


def test_released_variant_gives_zero_where_all_rollouts_agree():
    nan = np.nan
    sigma = gradient_std_released(
        [0.0, 1.0, 0.5], [nan, 1.0, 1.0], [1.0, nan, 1.0], [nan, 1.0, 1.0], [1.0, nan, 1.0]
    )
    np.testing.assert_allclose(sigma, [0.0, 0.0, 0.5])
    with pytest.raises(ValueError, match="norm_wrong must be a number wherever 0 < p < 1"):
        gradient_std_released([0.5], [1.0], [nan], [1.0], [1.0])


def test_released_variant_warns_for_impossible_moments():
    # The mean of squares 0 cannot lie below the square of the mean norm 10.
    with pytest.warns(NegativeVarianceWarning, match="1 of 1"):
        assert gradient_std_released([0.5], [10.0], [0.0], [0.0], [0.0]).tolist() == [0.0]
