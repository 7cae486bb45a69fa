"""Formulas of finite groups against the functions of cures, to 1e-12."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
import sympy as sp

import cures
from cures.gradient_std import gradient_std_surrogate, gradient_variance
from cures.potential import prob_mixed
from cures.quota import allocate_by_value, round_to_total
from tests.theory_vs_numeric.formulas import formula
from theory import finite_groups, finite_quota, group_normalisation, group_variance, signal_quota
from theory.claims import numeric
from theory.finite_groups import FOUR, V_0, V_1, k, values
from theory.finite_quota import inverse, own, per_prompt, root, total
from theory.group_normalisation import V
from theory.quota import sigma
from theory.score_law import D
from theory.splits import best_split
from theory.symbols import budget, m, n, p

CLOSE = {"rtol": 1e-12, "atol": 1e-15}
RATE_N = np.array([1e-3, 0.02, 0.1, 0.3, 0.5, 0.77, 0.98])
SIZE_N = np.arange(2, 33)
MODULES = {"6.2": finite_groups, "6.5": group_normalisation}
GRID = [array.ravel() for array in np.meshgrid(RATE_N, SIZE_N)]


def all_outcomes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards of all groups of a size, one after another, and the group of each rollout."""
    reward = np.array(list(product((0, 1), repeat=size)), dtype=np.float64)
    return reward.ravel(), np.repeat(np.arange(2**size), size)


def group_chances(size: int, rate: float) -> np.ndarray:
    """Chance of each group of :func:`all_outcomes`."""
    right = all_outcomes(size)[0].reshape(-1, size).sum(axis=1)
    return rate**right * (1 - rate) ** (size - right)


# --- 6.1


def test_chance_of_a_mixed_group():
    exact = numeric(finite_groups.mixed, (p, n))
    # the plain formula cancels: 1e-12 of 1, not of the result
    np.testing.assert_allclose(exact(*GRID), prob_mixed(*GRID), rtol=0, atol=1e-12)


def test_marginal_chance_is_the_difference():
    exact = numeric(finite_groups.next_mixed, (p, n))
    difference = prob_mixed(GRID[0], GRID[1] + 1) - prob_mixed(*GRID)
    np.testing.assert_allclose(exact(*GRID), difference, rtol=0, atol=1e-12)


# --- advantages: mean squares over all outcomes


@pytest.mark.parametrize(
    ("estimator", "number", "name"),
    [("dr_grpo", "6.2", "square"), ("rloo", "6.2", "square_rloo"), ("grpo", "6.5", "square")],
)
@pytest.mark.parametrize("size", [2, 3, 6, 8])
def test_mean_square_of_the_advantages(estimator: str, number: str, name: str, size: int):
    exact = numeric(formula(MODULES[number], number, name), (p, n))
    advantage = cures.advantages(*all_outcomes(size), estimator=estimator, eps=1e-300)
    mean_G = (advantage.reshape(-1, size) ** 2).mean(axis=1)
    for rate in RATE_N:
        expected = exact(rate, size)
        np.testing.assert_allclose(group_chances(size, rate) @ mean_G, expected, **CLOSE)
        surrogate = gradient_std_surrogate(rate, estimator=estimator, n=size)
        np.testing.assert_allclose(surrogate**2, expected, rtol=1e-12, atol=1e-12)


def test_other_degrees_of_freedom_are_not_the_formula():
    # negative control: GRPO with the population's standard deviation has P(n), without (n - 1)/n
    exact = numeric(formula(group_normalisation, "6.5", "square"), (p, n))
    advantage = cures.advantages(*all_outcomes(3), eps=1e-300, ddof=0)
    square = group_chances(3, 0.3) @ (advantage.reshape(-1, 3) ** 2).mean(axis=1)
    assert square == pytest.approx(1.5 * exact(0.3, 3), rel=1e-12)


# --- mean and variance of a group's gradient over all groups of answers


def gradients(size: int, estimator: str) -> tuple[np.ndarray, np.ndarray]:
    """Estimate of every group of answers of the policy FOUR, shape (4^n, D), and its chance."""
    pi_K = np.array([float(x) for x in FOUR.pi_K])
    score_K_D = np.array([[float(x) for x in row] for row in FOUR.score_K])
    answer_G_J = np.array(list(product(range(pi_K.size), repeat=size)))
    reward_G_J = np.isin(answer_G_J, list(FOUR.right)).astype(np.float64)
    group_R = np.repeat(np.arange(len(answer_G_J)), size)
    advantage = cures.advantages(reward_G_J.ravel(), group_R, estimator=estimator, eps=1e-300)
    advantage_G_J = advantage.reshape(-1, size)
    estimate = np.einsum("gj,gjd->gd", advantage_G_J, score_K_D[answer_G_J]) / size
    return estimate, pi_K[answer_G_J].prod(axis=1)


def exact_gradient() -> np.ndarray:
    score_K_D = np.array([[float(x) for x in row] for row in FOUR.score_K])
    chosen = sorted(FOUR.right)
    return np.array([float(FOUR.pi_K[a]) for a in chosen]) @ score_K_D[chosen]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_mean_gradient(size: int):
    factor = {
        "rloo": 1.0,
        "dr_grpo": float(formula(finite_groups, "6.2", "factor").subs(n, size)),
        "grpo": float(group_normalisation.factor_of(size).subs(p, float(FOUR.rate))),
    }
    for estimator, expected in factor.items():
        estimate, chance = gradients(size, estimator)
        np.testing.assert_allclose(chance @ estimate, expected * exact_gradient(), **CLOSE)


@pytest.mark.parametrize("size", [2, 3, 8, 20])
def test_factor_of_grpo_at_rare_success(size: int):
    few, limit = (
        float(formula(group_normalisation, "6.4", name).subs({n: size, p: 1e-9}))
        for name in ("few", "limit")
    )
    found = group_normalisation.length_of_mean(size, np.array([1e-9])) / 1e-9
    assert found[0] == pytest.approx(few, rel=1e-7)  # what is left is of order n p
    assert found[0] < 1e-3 * limit  # control: the limit of many rollouts


@pytest.mark.parametrize("size", [2, 3, 5])
def test_variance_of_the_gradient(size: int):
    at = {**values(FOUR), n: size}
    expression = {
        "rloo": group_variance.variance_rloo,
        "dr_grpo": group_variance.variance_dr_grpo,
        "grpo": group_normalisation.mean_square,  # less the squared mean, below
    }
    for estimator, expected_of in expression.items():
        estimate, chance = gradients(size, estimator)
        mean = chance @ estimate
        square = chance @ (estimate**2).sum(axis=1)
        expected = float(expected_of.subs(at))
        got = square if estimator == "grpo" else square - mean @ mean
        np.testing.assert_allclose(got, expected, **CLOSE)


def test_rloo_variance_is_eq_21_over_n_and_the_noise_of_the_baseline():
    value = {symbol: float(x) for symbol, x in values(FOUR).items()}
    rate, distance = value[p], value[D]
    square_1 = value[V_1] + (1 - rate) ** 2 * distance**2  # E[s|r=1] = (1-p) d
    square_0 = value[V_0] + rate**2 * distance**2
    single = gradient_variance(rate, square_1, square_0, distance**2)
    missed = numeric(formula(group_variance, "6.3", "missed").subs(value), n)
    full = numeric(group_variance.variance_rloo.subs(value), n)
    np.testing.assert_allclose(full(SIZE_N), single / SIZE_N + missed(SIZE_N), **CLOSE)


def test_surrogates_are_the_exact_variance_for_scores_of_one_law():
    at = {V_1: 1, V_0: 1, D: 0}
    expression = {
        "rloo": group_variance.variance_rloo,
        "dr_grpo": group_variance.variance_dr_grpo,
        "grpo": group_normalisation.mean_square,
    }
    for estimator, expected_of in expression.items():
        surrogate = gradient_std_surrogate(GRID[0], estimator=estimator, n=GRID[1])
        expected = numeric(sp.factor(expected_of.subs(at)), (p, n))(*GRID)
        np.testing.assert_allclose(surrogate**2 / GRID[1], expected, rtol=1e-12, atol=1e-12)


# --- quotas


def test_rloo_quota_of_equal_laws_is_allocate_on_one_rollout_less():
    # scores of one law: sum of u^2 / (n - 1), which is allocate's problem for n - 1
    rng = np.random.default_rng(6)
    marginal = numeric(formula(finite_quota, "6.9", "marginal").subs(own, sigma**2), (sigma, n))
    quota = numeric(formula(finite_quota, "6.9", "quota"), (budget, m, root, total))
    for _ in range(20):
        root_B = cures.potential(rng.uniform(0.01, 0.99, 7))
        greedy = allocate_by_value(
            lambda n_B, u=root_B: marginal(u, n_B), 60, min_quota=2, max_quota=None, num_groups=7
        )
        np.testing.assert_array_equal(greedy, 1 + cures.allocate(root_B, 53, min_quota=1))
        real = quota(60, 7, root_B, root_B.sum())
        assert real.sum() == pytest.approx(60, abs=1e-9)
        assert np.abs(greedy - real).max() < 1.5  # whole numbers stay near the real optimum


def test_cost_of_eq_20_for_rloo():
    cost = numeric(formula(finite_quota, "6.9", "cost"), (per_prompt, inverse))
    root_B = np.sqrt(np.array([0.5, 0.2, 0.1, 0.02]) * np.array([0.5, 0.8, 0.9, 0.98]))
    for rollouts in (16, 40, 400):
        stated_B = rollouts * root_B / root_B.sum()
        best_B = 1 + (rollouts - 4) * root_B / root_B.sum()
        ratio = (root_B**2 / (stated_B - 1)).sum() / (root_B**2 / (best_B - 1)).sum()
        assert cost(rollouts / 4, (1 / (stated_B - 1)).mean()) == pytest.approx(ratio, rel=1e-12)


def test_library_splits_for_mixed_groups_as_proved():
    rate_B = np.array([0.5, 0.2, 0.1, 0.02])
    marginal = numeric(finite_groups.next_mixed, (p, n))
    for rollouts in (8, 13, 20):
        found = allocate_by_value(
            lambda n_B: marginal(rate_B, n_B), rollouts, min_quota=1, max_quota=None, num_groups=4
        )
        best = best_split(lambda split: prob_mixed(rate_B, split).sum(), rollouts, 4, 1)
        got, most = prob_mixed(rate_B, found).sum(), prob_mixed(rate_B, best).sum()
        assert got == pytest.approx(most, rel=1e-12)


def test_library_refuses_dr_grpo_from_two_and_takes_it_from_three():
    rate_B = np.array([0.5, 0.3, 0.1])
    variance = formula(finite_quota, "6.10", "dr_grpo").subs(V, 1)
    marginal = numeric(variance - variance.subs(n, n + 1), (p, n))

    def split(rollouts: int, low: int) -> np.ndarray:
        return allocate_by_value(
            lambda n_B: marginal(rate_B, n_B), rollouts, min_quota=low, max_quota=None, num_groups=3
        )

    with pytest.raises(ValueError, match="concave value"):
        split(10, 2)
    value = numeric(variance, (p, n))
    best = best_split(lambda s: -value(rate_B, np.array(s)).sum(), 15, 3, 3)
    found = split(15, 3)
    assert value(rate_B, found).sum() == pytest.approx(
        value(rate_B, np.array(best)).sum(), rel=1e-12
    )


def test_grpo_signal_of_the_library_and_its_split():
    rate_B = np.array([0.5, 0.02])
    signal_N_B = np.array(
        [group_normalisation.length_of_mean(size, rate_B) for size in range(1, 33)]
    )
    marginal_N_B = np.diff(signal_N_B, axis=0)
    found = allocate_by_value(
        lambda n_B: marginal_N_B[n_B - 1, [0, 1]], 32, min_quota=1, max_quota=None, num_groups=2
    )
    assert found.tolist() == [16, 16]  # claim 6.12, by enumeration
    # the paper's rule and its rounding, on the same prompts
    stated = round_to_total(cures.potential(rate_B), 32)
    assert stated.tolist() == [25, 7]  # sqrt(p (1 - p)) = 25/50 and 7/50
    # mean of A s over D from the library's advantages, all outcomes: |A r| sums to the signal
    for size in (2, 5, 8):
        reward, group = all_outcomes(size)
        advantage = cures.advantages(reward, group, eps=1e-300)
        of_right_G = (advantage * reward).reshape(-1, size).sum(axis=1) / size
        for rate, expected in zip(rate_B, signal_N_B[size - 1], strict=True):
            np.testing.assert_allclose(group_chances(size, rate) @ of_right_G, expected, **CLOSE)


def test_coefficients_of_grpo_are_negative_up_to_200():
    # floating point: relative rounding 1e-15 of terms of size 1 against coefficients above 1e-8
    exact = numeric(signal_quota.coefficient, (n, k))
    worst = -np.inf
    for size in range(3, 201):
        right = np.arange(2, size, dtype=np.float64)  # at the ends a term is 0 times a root of -1
        worst = max(worst, float(exact(float(size), right).max()))
    assert worst < -1e-8
    ends = [
        float(signal_quota.coefficient.subs({n: size, k: right}))
        for size in (2, 3, 25, 200)
        for right in (1, size)
    ]
    assert max(ends) < -1e-8


def test_second_difference_is_that_of_the_coefficients():
    # the binomial mean of the coefficients, 1/2 and 30 rollouts, against differences of the signal
    size, rate = 30, 0.5
    signal = [
        float(group_normalisation.length_of_mean(s, np.array([rate]))[0]) for s in (29, 30, 31)
    ]
    mean = sum(
        comb(size + 1, right) * rate ** (size + 1)
        * float(signal_quota.coefficient.subs({n: size, k: right}))
        for right in range(1, size + 1)
    )  # fmt: skip
    assert mean == pytest.approx(signal[2] - 2 * signal[1] + signal[0], abs=1e-12)
