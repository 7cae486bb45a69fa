"""Named populations: the stated law of initial success rates, exact shares of unlearnable prompts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, chisquare, kstest

from sim.population_file import EmpiricalLaw
from sim.populations import (
    CATEGORY_COUNT,
    CATEGORY_MEAN,
    LAWS,
    POLICIES,
    POPULATIONS,
    RATE_RANGE,
    make_population,
)
from sim.prompts import SHARED_SKILLS


def rates(population, ids):
    return population.success_rate(population.theta_D, ids)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", LAWS)
def test_initial_success_rates_follow_the_law(name, policy):
    """Kolmogorov-Smirnov on the prompts that the clip left alone; another law must be refused."""
    population = make_population(name, policy, num_pool=2000, num_held_out=300, seed=3)
    ids = np.append(np.flatnonzero(population.is_learnable_N), population.held_out_H)
    rate = rates(population, ids)
    (a, b), _ = LAWS[name]
    low, high = RATE_RANGE
    assert (rate >= low * (1 - 1e-9)).all()
    assert (rate <= high * (1 + 1e-9)).all()
    inside = rate[(rate > low * (1 + 1e-9)) & (rate < high * (1 - 1e-9))]
    law = beta(a, b)

    def cut_off(x):
        return (law.cdf(x) - law.cdf(low)) / (law.cdf(high) - law.cdf(low))

    assert kstest(inside, cut_off).pvalue > 6e-5  # 4 sigma
    assert kstest(inside, beta(a + 1, b + 1).cdf).pvalue < 6e-5


@pytest.mark.parametrize("policy", POLICIES)
def test_unlearnable_prompts_have_their_share_and_their_reward(policy):
    dead = make_population("dead", policy, num_pool=200, num_held_out=10)
    rate = rates(dead, np.arange(200))
    assert int((rate == 0.0).sum()) == 120  # 60 %
    assert int((rate == 1.0).sum()) == 50  # 25 %
    coins = make_population("coins", policy, num_pool=200, num_held_out=10)
    assert int((~coins.is_learnable_N).sum()) == 40  # 20 %
    # nothing the policy does moves them
    moved = coins.success_rate(coins.theta_D + 1.0, np.flatnonzero(~coins.is_learnable_N))
    assert (moved == 0.5).all()


@pytest.mark.parametrize("name", POPULATIONS)
def test_held_out_prompts_are_learnable_and_never_trained_on(name):
    population = make_population(name, num_pool=50, num_held_out=20)
    assert population.held_out_H.min() == 50
    assert np.isnan(population.fixed_rate_N[population.held_out_H]).all()
    expected = rates(population, population.held_out_H).mean()
    assert population.held_out_success(population.theta_D) == pytest.approx(expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_training_transfers_to_held_out_prompts(policy):
    population = make_population("uniform", policy, num_pool=500, num_held_out=100, seed=1)
    pool = np.arange(500)
    gradient = population.policy.success_gradient(population.theta_D, pool, np.full(500, 1 / 500))
    theta = population.theta_D + 3.0 * gradient / np.linalg.norm(gradient)
    assert (
        population.held_out_success(theta) > population.held_out_success(population.theta_D) + 0.01
    )


def test_a_population_follows_from_its_seed():
    one, same, other = (make_population("skills", num_pool=30, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(rates(one, np.arange(30)), rates(same, np.arange(30)))
    assert (rates(one, np.arange(30)) != rates(other, np.arange(30))).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "easy"}, r"make_population: name must be one of \['skills', 'uniform'"),
        ({"name": "dead", "policy": "llm"}, r"make_population: policy must be one of \['skills'"),
        ({"name": "skills", "policy": "tabular"}, "make_population: policy must be 'skills' for"),
        ({"name": "dead", "num_pool": 0}, r"make_population: num_pool must be an int in \[1, inf"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_population(**arguments)


# -- categories --------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_every_category_has_its_mean_success_rate(policy):
    """4 standard errors of a Beta law of count 4; the neighbour's mean must be refused once."""
    population = make_population("categories", policy, num_pool=4000, num_held_out=10, seed=5)
    rate, category_N = rates(population, np.arange(4000)), population.category_N[:4000]
    assert np.unique(category_N).tolist() == list(range(len(CATEGORY_MEAN)))
    off = []
    for k, mean in enumerate(CATEGORY_MEAN):
        own = rate[category_N == k]
        error = np.sqrt(mean * (1 - mean) / (CATEGORY_COUNT + 1) / own.size)
        assert abs(own.mean() - mean) < 4 * error
        off.append(abs(own.mean() - CATEGORY_MEAN[k - 1]) / error)
    assert min(off) > 4  # control


@pytest.mark.parametrize("policy", POLICIES)
def test_training_moves_the_own_category_most(policy):
    """One exact step on the learnable prompts of one category, half of them; the others are read."""
    population = make_population("categories", policy, num_pool=1500, num_held_out=10, seed=2)
    category_N, ids = population.category_N[:1500], np.arange(1500)
    theta = population.theta_D
    gain = np.zeros((8, 8))
    for k in range(8):
        trained = ids[category_N == k][::2]
        weight = np.full(trained.size, 1.0)
        gradient = population.policy.success_gradient(theta, trained, weight)
        moved = theta + 0.5 * gradient / np.linalg.norm(gradient)
        change = population.policy.success_rate(moved, ids) - rates(population, ids)
        rest = np.setdiff1d(ids, trained)
        gain[k] = [change[rest[category_N[rest] == j]].mean() for j in range(8)]
    own = np.diag(gain)
    assert (own > 0).all()
    assert own.mean() > 1.5 * gain[~np.eye(8, dtype=bool)].mean()


def test_skills_of_a_category_are_its_own_or_everyones():
    population = make_population("categories", num_pool=400, num_held_out=10)
    chain, category = population.policy.chain_N_L, population.category_N[:, None]
    block = np.where(chain < SHARED_SKILLS, -1, (chain - SHARED_SKILLS) // 50)
    is_step = np.arange(8) < population.policy.length_N[:, None]
    assert ((block == -1) | (block == category))[is_step].all()
    share = (block >= 0)[is_step].mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(is_step.sum())
    assert make_population("uniform", num_pool=5, num_held_out=1).category_N is None


# -- empirical ---------------------------------------------------------------------------------------


def law_of(**changes):
    given = {"name": "m", "success_rate_K": [0.1, 0.5, 0.9], "weight_K": [0.6, 0.3, 0.1]}
    return EmpiricalLaw(**(given | changes))


@pytest.mark.parametrize("policy", POLICIES)
def test_prompts_are_drawn_from_the_mixture(policy):
    """Chi-square at 4 sigma; the uniform mixture must be refused."""
    population = make_population(law_of(), policy, num_pool=1500, num_held_out=100, seed=6)
    rate = rates(population, np.arange(1600))
    count = [(np.abs(rate - p) < 1e-9).sum() for p in (0.1, 0.5, 0.9)]
    assert sum(count) == 1600
    assert chisquare(count, 1600 * np.array([0.6, 0.3, 0.1])).pvalue > 6e-5
    assert chisquare(count).pvalue < 6e-5
    other = make_population(law_of(), policy, num_pool=1500, num_held_out=100, seed=7)
    assert (rates(other, np.arange(1600)) != rate).any()  # a seed draws its own prompts


def test_a_law_brings_its_policy_its_dead_prompts_and_its_drift():
    law = law_of(never=0.2, always=0.1, coin=0.05, drift_sd=0.03, policy="tabular")
    population = make_population(law, num_pool=200, num_held_out=20)
    assert population.name == "m"
    assert type(population.policy).__name__ == "Tabular"
    assert population.drift_sd == 0.03
    fixed = population.fixed_rate_N
    assert [int((fixed == value).sum()) for value in (0.0, 1.0, 0.5)] == [40, 20, 10]
    assert np.isnan(fixed[population.held_out_H]).all()


@pytest.mark.parametrize(
    ("transfer", "expected"), [(None, 0.2), (0.0, 0.0), (0.7, 0.7), (1.0, 1.0)]
)
def test_transfer_is_the_mean_cosine_of_two_loadings(transfer, expected):
    """None is .25 / 1.25. The mean of 500 loadings has sd 1 / sqrt(500 * 32) along (1, ..., 1), hence
    4 sd of the ratio are at most 4 * 2 * .625 * .0079 / 1.25 = .032 (at transfer .5)."""
    population = make_population(law_of(transfer=transfer), num_pool=490, num_held_out=10)
    loading = population.policy.loading_N_D
    product = loading @ loading.T
    between = product[~np.eye(500, dtype=bool)].mean() / np.diag(product).mean()
    assert between == pytest.approx(expected, abs=0.032)


def test_transfer_needs_the_policy_that_has_it():
    with pytest.raises(ValueError, match="make_population: policy must be 'item_response' for a"):
        make_population(law_of(transfer=0.5), "tabular")
