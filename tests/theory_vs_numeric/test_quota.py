"""Chapter 4 against `cures.quota`, the draws of `cures.sampling`, and enumeration of all draws."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

from cures import (
    allocate,
    allocate_by_value,
    draw_with_replacement,
    draw_without_replacement,
    expected_potential,
    expected_variance,
    inclusion_probability,
    round_to_total,
)
from tests.theory_vs_numeric.formulas import formula
from theory import duplicates, estimate_variance, integer_quota, quota, wrong_sigma
from theory.claims import numeric
from theory.duplicates import copies, pool
from theory.estimate_variance import between, mean_sigma, per_prompt, var_sigma
from theory.quota import sigma, total
from theory.splits import all_splits
from theory.symbols import alpha, beta, budget, m, n
from theory.wrong_sigma import noise, spread

within = numeric(formula(estimate_variance, "4.1", "within"), (sigma, m, n))
real_quota = numeric(formula(quota, "4.2", "quota"), (budget, sigma, total))
minimum = numeric(formula(quota, "4.2", "minimum"), (total, m, budget))
gain = numeric(formula(quota, "4.3", "gain"), (mean_sigma, var_sigma))
gain_beta = numeric(formula(quota, "4.3", "gain_beta"), (alpha, beta))
pair = (between, mean_sigma, var_sigma, m, budget)
total_variance = numeric(formula(estimate_variance, "4.4", "total"), pair)
saving = numeric(formula(estimate_variance, "4.4", "saving"), (var_sigma, m, budget))
overall_gain = numeric(
    formula(estimate_variance, "4.4", "gain"), (between, mean_sigma, var_sigma, per_prompt)
)
half_gone = numeric(formula(estimate_variance, "4.4", "half"), (mean_sigma, between))
marginal = numeric(formula(integer_quota, "4.5", "marginal"), (sigma, n))
threshold = numeric(formula(integer_quota, "4.5", "threshold"), n)
worst = numeric(formula(wrong_sigma, "4.6", "worst"), spread)
lognormal = numeric(formula(wrong_sigma, "4.6", "lognormal"), noise)
break_even = numeric(formula(wrong_sigma, "4.6", "break_even"), (mean_sigma, var_sigma))
merged = numeric(formula(duplicates, "4.7", "merged"), (copies, sigma))
distinct = numeric(formula(duplicates, "4.7", "distinct"), (pool, m))
apart = numeric(formula(duplicates, "4.7", "apart"), (between, pool, m))


def variance(sigma_B: np.ndarray, quota_B: np.ndarray) -> float:
    """Of estimate (16) given the drawn prompts: the sum over them of claim 4.1."""
    sigma_B = np.asarray(sigma_B, dtype=float)
    return float(within(sigma_B, sigma_B.size, np.asarray(quota_B)).sum())


def sigmas(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 1.0, size)


# -- claims 4.2 and 4.3 ------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_B", [(1, 2, 3), (5, 1, 1, 3), (7, 2), (4, 4, 4)])
@pytest.mark.parametrize("times", [3, 6, 1000])
def test_where_the_real_quotas_are_whole_the_library_finds_them(sigma_B: tuple, times: int):
    sigma_B = np.array(sigma_B)
    rollouts = times * int(sigma_B.sum())
    found = allocate(sigma_B, rollouts, min_quota=1)
    assert (found == real_quota(rollouts, sigma_B, sigma_B.sum())).all()
    least = minimum(sigma_B.sum(), sigma_B.size, rollouts)
    assert variance(sigma_B, found) == pytest.approx(least, rel=1e-12)
    equal = variance(sigma_B, np.full(sigma_B.size, rollouts / sigma_B.size))
    assert equal / least == pytest.approx(gain(sigma_B.mean(), sigma_B.var()), rel=1e-12)
    if len(set(sigma_B)) > 1:  # negative control: another exponent of sigma
        assert variance(sigma_B, allocate(sigma_B**2, rollouts, min_quota=1)) > least * 1.001


@pytest.mark.parametrize("seed", range(3))
def test_whole_quotas_reach_the_real_minimum_as_the_budget_grows(seed: int):
    sigma_B, rollouts = sigmas(50, seed), 10**9
    found = allocate(sigma_B, rollouts)
    # rounding moves a quota by less than 1, and the variance by (1 / n)^2 of itself: below 1e-14
    least = minimum(sigma_B.sum(), 50, rollouts)
    assert variance(sigma_B, found) == pytest.approx(least, rel=1e-12)
    assert np.abs(found - real_quota(rollouts, sigma_B, sigma_B.sum())).max() < 1.0
    assert least < variance(sigma_B, round_to_total(sigma_B**1.01, rollouts)) * (
        1 - 1e-6
    )  # control


@pytest.mark.parametrize(("a", "b"), list(product([0.3, 1.0, 2.5, 8.0, 30.0], repeat=2)))
def test_gain_for_a_beta_population_from_the_moments_of_the_library(a: float, b: float):
    ratio = expected_variance(a, b) / expected_potential(a, b) ** 2
    assert ratio == pytest.approx(gain_beta(a, b), rel=1e-12)
    plug_in = a * b / (a + b) ** 2 / expected_potential(a, b) ** 2  # negative control
    assert plug_in != pytest.approx(gain_beta(a, b), rel=1e-3)


# -- claim 4.4 ---------------------------------------------------------------------------------------

POOL = ((1, 0.0), (2, 1.5), (6, -1.0))  # sigma and mean gradient of three equally likely prompts


def enumerated(draws: int, rollouts: int, is_equal: bool) -> float:
    """Total variance of (16) over all draws from POOL, with the library's quotas or equal ones."""
    means, variances = [], []
    for draw in product(POOL, repeat=draws):
        sigma_B = np.array([s for s, _ in draw])
        equal_B = np.full(draws, rollouts / draws)
        quota_B = equal_B if is_equal else allocate(sigma_B, rollouts, min_quota=1)
        means.append(np.mean([g for _, g in draw]))
        variances.append(variance(sigma_B, quota_B))
    return float(np.var(means) + np.mean(variances))


@pytest.mark.parametrize(("draws", "rollouts"), [(1, 7), (2, 840), (3, 360360)])
def test_total_variance_over_all_draws(draws: int, rollouts: int):
    # the budgets are multiples of every sum of `draws` sigmas, so that (20) is whole
    g_N, sigma_N = np.array([g for _, g in POOL]), np.array([s for s, _ in POOL])
    at = (g_N.var(), sigma_N.mean(), sigma_N.var(), draws, rollouts)
    optimal = enumerated(draws, rollouts, is_equal=False)
    assert optimal == pytest.approx(total_variance(*at), rel=1e-12)
    lost = saving(sigma_N.var(), draws, rollouts)
    equal = enumerated(draws, rollouts, is_equal=True)
    assert equal == pytest.approx(optimal + lost, rel=1e-12)
    within_only = total_variance(0.0, *at[1:])  # negative control: no part between prompts
    assert optimal != pytest.approx(within_only, rel=0.01)


@pytest.mark.parametrize("b", [0.01, 1.0, 20.0])
def test_half_of_the_gain_is_gone_where_noise_within_equals_spread_between(b: float):
    at = (b, 2.0, 1.3)
    left = overall_gain(*at, half_gone(2.0, b)) - 1
    assert left == pytest.approx((gain(2.0, 1.3) - 1) / 2, rel=1e-12)
    many = 10**9  # prompts: the limit of the ratio of the two variances
    rollouts = many * half_gone(2.0, b)
    optimal = total_variance(*at, many, rollouts)
    ratio = (optimal + saving(1.3, many, rollouts)) / optimal
    assert ratio - 1 == pytest.approx(left, rel=1e-8)
    assert overall_gain(*at, 2 * half_gone(2.0, b)) - 1 == pytest.approx(2 * left / 3, rel=1e-12)


# -- claim 4.5 ---------------------------------------------------------------------------------------


def greedy(sigma_B: np.ndarray, rollouts: int, low_B: np.ndarray) -> np.ndarray:
    quota_B = low_B.copy()
    for _ in range(rollouts - int(low_B.sum())):
        quota_B[np.argmax(marginal(sigma_B, quota_B))] += 1
    return quota_B


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rollouts", [20, 57, 300])
def test_the_library_gives_what_the_greedy_rule_gives(seed: int, rollouts: int):
    sigma_B = sigmas(8, seed)
    low_B = np.random.default_rng(seed + 100).integers(1, 3, 8)
    expected = greedy(sigma_B, rollouts, low_B)
    assert (allocate(sigma_B, rollouts, min_quota=low_B) == expected).all()
    by_value = allocate_by_value(
        lambda n_B: marginal(sigma_B, n_B), rollouts, min_quota=low_B, max_quota=None
    )
    assert (by_value == expected).all()
    wrong = allocate_by_value(  # negative control: sigma in place of its square
        lambda n_B: marginal(np.sqrt(sigma_B), n_B), rollouts, min_quota=low_B, max_quota=None
    )
    assert variance(sigma_B, wrong) > variance(sigma_B, expected)


@pytest.mark.parametrize("seed", range(6))
def test_no_split_is_better_and_some_roundings_are_worse(seed: int):
    sigma_B, rollouts = sigmas(4, seed), 11
    found = variance(sigma_B, allocate(sigma_B, rollouts, min_quota=1))
    values = [variance(sigma_B, np.array(split)) for split in all_splits(rollouts, 4, 1)]
    assert found == pytest.approx(min(values), rel=1e-12)
    assert max(values) > found * 1.1  # negative control: the search space is not flat


def test_rounding_to_the_nearest_can_lose():
    sigma_B, rollouts = np.array([6.0, 2.0, 1.0]), 7
    best, rounded = allocate(sigma_B, rollouts, min_quota=1), round_to_total(sigma_B, rollouts)
    assert best.tolist() == [4, 2, 1]  # enumerated in claim 4.5
    assert rounded.tolist() == [5, 1, 1]
    assert variance(sigma_B, rounded) > variance(sigma_B, best)


def window(sigma_B: np.ndarray, quota_B: np.ndarray) -> tuple[float, float]:
    """Levels t at which each quota is the rounding of sigma t: they exist iff low <= high."""
    below_B = np.where(quota_B > 1, threshold(np.maximum(quota_B - 1, 1)), 0.0)
    return float((below_B / sigma_B).max()), float((threshold(quota_B) / sigma_B).min())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rollouts", [40, 333, 100_000])
def test_quotas_are_rounded_at_geometric_means(seed: int, rollouts: int):
    sigma_B = sigmas(12, seed)
    low, high = window(sigma_B, allocate(sigma_B, rollouts, min_quota=1))
    assert low <= high * (1 + 1e-12)
    moved = allocate(sigma_B, rollouts, min_quota=1)  # negative control: one rollout moved
    moved[np.argmax(moved)] -= 1
    moved[np.argmin(moved)] += 1
    low, high = window(sigma_B, moved)
    assert low > high


# -- claim 4.6 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [2, 3, 9, 40])
def test_worst_case_of_a_wrong_sigma(ratio: int):
    truth, guess = np.ones(2), np.array([ratio, 1.0])
    rollouts = 1000 * (ratio + 1)
    lost = variance(truth, allocate(guess, rollouts)) / minimum(2.0, 2, rollouts)
    assert lost == pytest.approx(worst(ratio), rel=1e-12)
    for seed in range(20):  # any other guess within the factor loses less
        rng = np.random.default_rng(seed)
        sigma_B = sigmas(6, seed)
        guess = sigma_B * ratio ** rng.uniform(0, 1, 6)
        quota_B = real_quota(1.0, guess, guess.sum())
        assert variance(sigma_B, quota_B) / minimum(sigma_B.sum(), 6, 1.0) < worst(ratio)
    assert lost > worst(ratio - 1)  # negative control: a smaller factor is no bound


@pytest.mark.parametrize("width", [0.05, 0.28, 1.0])
def test_log_normal_errors_by_quadrature(width: float):
    node, weight = hermegauss(60)
    mean = (weight * np.exp(width * node)).sum() / weight.sum()
    inverse = (weight * np.exp(-width * node)).sum() / weight.sum()
    assert mean * inverse == pytest.approx(lognormal(width), rel=1e-12)
    assert mean != pytest.approx(lognormal(width), rel=1e-4)  # negative control


def test_break_even_for_uniform_rates():
    mean, square = expected_potential(1.0, 1.0), expected_variance(1.0, 1.0)
    width = np.sqrt(break_even(mean, square - mean**2))
    assert lognormal(width) == pytest.approx(gain_beta(1.0, 1.0), rel=1e-12)
    assert round(100 * width) == 28  # as the claim says


# -- claim 4.7 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_prompt_drawn_several_times_is_one_of_larger_sigma(times: int):
    single, other = 2.0, 3.0
    rollouts = 60 * int(times * single + other)
    parts = allocate([single] * times + [other], rollouts, min_quota=1)
    together = allocate([merged(times, single), other], rollouts, min_quota=1)
    assert together[0] == parts[:times].sum()
    split = (np.array([single] * times + [other]) ** 2 / parts).sum()
    joined = (np.array([merged(times, single), other]) ** 2 / together).sum()
    assert joined == pytest.approx(split, rel=1e-12)
    once = allocate([single, other], rollouts, min_quota=1)  # negative control: counted once
    assert once[0] != together[0]


@pytest.mark.parametrize("rollouts", [7, 10, 23])
def test_merging_never_loses_in_whole_rollouts(rollouts: int):
    parts = allocate([2.0, 2.0, 3.0], rollouts, min_quota=1)
    together = allocate([merged(2, 2.0), 3.0], rollouts, min_quota=1)
    apart_ = (np.array([2.0, 2.0, 3.0]) ** 2 / parts).sum()
    joined = (np.array([merged(2, 2.0), 3.0]) ** 2 / together).sum()
    assert joined <= apart_ * (1 + 1e-12)
    # one group of n is two of n / 2: there is something to win where n is odd
    assert (joined < apart_ * (1 - 1e-9)) == bool(together[0] % 2)


def band(draw_S: np.ndarray) -> tuple[float, float]:
    """Four standard errors about the mean."""
    error = 4 * draw_S.std(ddof=1) / np.sqrt(draw_S.size)
    return float(draw_S.mean() - error), float(draw_S.mean() + error)


def test_distinct_prompts_among_draws_of_the_library():
    rng, prob_N = np.random.default_rng(3), np.full(40, 1 / 40)
    seen_S = np.array([draw_with_replacement(prob_N, 30, rng)[0].size for _ in range(20_000)])
    low, high = band(seen_S)
    assert low < distinct(40, 30) < high
    assert not low < 40 * (1 - np.exp(-30 / 40)) < high  # negative control: Poisson


def test_part_between_prompts_without_replacement():
    rng = np.random.default_rng(4)
    g_N = rng.standard_normal(12)
    inclusion_N = inclusion_probability(np.full(12, 1 / 12), 8)
    means = [g_N[draw_without_replacement(inclusion_N, rng)].mean() for _ in range(5000)]
    low, high = band((np.array(means) - g_N.mean()) ** 2)
    assert low < apart(g_N.var(), 12, 8) < high
    assert not low < g_N.var() / 8 < high  # negative control: with replacement
    assert apart(g_N.var(), 12, 12) == 0.0


def test_more_prompts_at_the_same_budget_always_lower_the_variance():
    values = [total_variance(0.7, 2.0, 1.3, count, 64) for count in range(1, 65)]
    assert all(after < before for before, after in pairwise(values))


def test_more_prompts_can_be_worse_in_whole_rollouts():
    def within_prompts(draws: int) -> float:  # sigma 10 with chance 1/10, else 1, as in claim 4.4
        return sum(
            0.1 ** sigma_B.count(10) * 0.9 ** sigma_B.count(1)
            * variance(np.array(sigma_B), allocate(sigma_B, 3, min_quota=1))
            for sigma_B in product((1, 10), repeat=draws)
        )  # fmt: skip

    mean, square = 0.1 * 10 + 0.9, 0.1 * 100 + 0.9  # of sigma
    at = (0.0, mean, square - mean**2)
    one_each = total_variance(*at, 3, 3) + saving(at[2], 3, 3)
    assert within_prompts(3) == pytest.approx(one_each, rel=1e-12)
    assert within_prompts(2) < one_each * 0.9
    assert total_variance(*at, 2, 3) > total_variance(*at, 3, 3)  # control: real quotas
