"""Drift: exact success rates, the size of the walk, what it leaves alone, exact resumption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import chi2

from cures.records import Selection
from sim.drift import drift_step, shifted
from sim.host import SimHost
from sim.item_response import ItemResponse
from sim.populations import POLICIES, make_population
from sim.skills import Skills

POOL, HELD_OUT = 60, 10
EVERYONE = np.arange(POOL + HELD_OUT)


def nothing():
    """An update without rollouts: parameters stay, time passes."""
    return Selection(np.array([0]), np.array([1.0]))


def drifting(policy="item_response", name="drift"):
    population = make_population(name, policy, num_pool=POOL, num_held_out=HELD_OUT, seed=1)
    return replace(population, drift_sd=0.3)


@pytest.mark.parametrize("policy", ["item_response", "tabular"])
def test_the_logit_of_the_success_rate_moves_by_the_shift(policy):
    population = drifting(policy)
    shift = np.linspace(-2.0, 2.0, EVERYONE.size)
    before = population.policy.success_rate(population.theta_D, EVERYONE)
    after = shifted(population.policy, shift).success_rate(population.theta_D, EVERYONE)
    np.testing.assert_allclose(logit(after) - logit(before), shift, atol=1e-10)
    untouched = population.policy.success_rate(population.theta_D, EVERYONE)
    np.testing.assert_array_equal(untouched, before)  # a policy is a value


def test_every_link_of_a_chain_moves_by_the_shift():
    policy = Skills(np.array([[0, 1]]), np.array([2]), 2, np.array([0.25]))
    after = shifted(policy, np.array([0.5])).success_rate(np.array([1.0, -1.0]), np.array([0]))
    # links at 1 - .25 + .5 and -1 - .25 + .5, by hand; the control forgets the shift
    assert after[0] == pytest.approx(float(expit(1.25) * expit(-0.75)), rel=1e-12)
    assert after[0] != pytest.approx(float(expit(0.75) * expit(-1.25)), rel=1e-2)


def test_something_without_logits_is_refused():
    with pytest.raises(TypeError, match="shifted: policy must have logits to shift, got object"):
        shifted(object(), np.zeros(1))


def test_the_walk_has_its_standard_deviation():
    """Chi-square of 25 summed steps over the pool, 4-sigma levels; half the sd must be refused."""
    host = SimHost(drifting(), seed=4)
    start = logit(host.true_success_rate())
    for _ in range(25):
        host.update(nothing())
    moved = logit(host.true_success_rate()) - start
    statistic = float((moved**2).sum()) / (25 * 0.3**2)
    low, high = chi2.ppf([3.2e-5, 1 - 3.2e-5], POOL)
    assert low < statistic < high
    assert statistic * 4 > high  # control: as if the sd were .15


@pytest.mark.parametrize("policy", POLICIES)
def test_held_out_prompts_do_not_drift_and_dead_ones_stay_dead(policy):
    population = replace(drifting(policy, "dead"), drift_sd=0.3)
    host = SimHost(population, seed=2)
    held_out, rate = host.held_out_success(), host.true_success_rate()
    host.update(nothing())
    assert host.held_out_success() == held_out
    is_learnable = population.is_learnable_N
    now = host.true_success_rate()
    assert (now[is_learnable] != rate[is_learnable]).all()
    np.testing.assert_array_equal(now[~is_learnable], rate[~is_learnable])


def test_arms_of_a_seed_meet_the_same_steps_and_seeds_do_not():
    one, same, other = (SimHost(drifting(), seed=s) for s in (7, 7, 8))
    for host in (one, same, other):
        host.update(nothing())
    np.testing.assert_array_equal(one.true_success_rate(), same.true_success_rate())
    assert (one.true_success_rate() != other.true_success_rate()).all()
    steps = [drift_step(7, step, 50, 1.0) for step in (1, 2)]
    assert abs(np.corrcoef(steps)[0, 1]) < 4 / np.sqrt(50)  # two updates, two steps


def test_a_resumed_host_continues_the_walk_to_the_last_bit():
    whole = SimHost(drifting(), seed=3)
    for _ in range(3):
        whole.update(nothing())
    half = SimHost(drifting(), seed=3)
    half.update(nothing())
    resumed = SimHost(drifting(), seed=3)
    resumed.load_state_dict(half.state_dict())
    for _ in range(2):
        resumed.update(nothing())
    np.testing.assert_array_equal(resumed.true_success_rate(), whole.true_success_rate())


def test_without_drift_nothing_is_stored_and_nothing_moves():
    population = make_population("uniform", "item_response", num_pool=5, num_held_out=2)
    host = SimHost(population, seed=0)
    host.update(nothing())
    assert host.population is population
    assert "drift_N" not in host.state_dict()


def test_the_named_population_drifts_and_the_policy_is_shifted_in_place_of_none():
    assert make_population("drift", num_pool=5, num_held_out=2).drift_sd == 0.05
    assert make_population("uniform", num_pool=5, num_held_out=2).drift_sd == 0.0
    policy = ItemResponse(np.array([[1.0]]), np.array([0.0]))
    moved = shifted(policy, np.array([1.0]))
    assert moved.threshold_N.tolist() == [-1.0]
    assert policy.threshold_N.tolist() == [0.0]
