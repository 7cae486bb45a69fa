"""Named populations: the stated law of initial success rates, exact shares of unlearnable prompts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, kstest

from sim.populations import LAWS, POLICIES, POPULATIONS, RATE_RANGE, make_population


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
