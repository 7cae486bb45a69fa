"""Advantages on ragged groups and the weight of each rollout in the loss."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cures import advantages, rollout_weights
from cures.advantage import ESTIMATORS

REWARD = [1, 0, 0, 1, 1, 1, 0, 0, 1]
GROUP = [5, 5, 5, 2, 2, 9, 7, 7, 7]  # sizes 3, 2 (all right), 1, 3


def by_group(reward, group):
    return {g: [r for r, h in zip(reward, group, strict=True) if h == g] for g in set(group)}


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("eps", [1e-6, 1e-4])
def test_grpo_against_the_statistics_module(ddof, eps):
    rewards = by_group(REWARD, GROUP)
    got = advantages(REWARD, GROUP, estimator="grpo", ddof=ddof, eps=eps)
    for r, g, a in zip(REWARD, GROUP, got, strict=True):
        values = rewards[g]
        std = 0.0
        if len(values) > 1:  # a singleton has no spread and, its mean being itself, advantage 0
            std = (statistics.stdev if ddof else statistics.pstdev)(values)
        assert a == pytest.approx((r - statistics.fmean(values)) / (std + eps), rel=1e-12)


def test_rloo_is_the_reward_minus_the_mean_of_the_others():
    got = advantages(REWARD, GROUP, estimator="rloo")
    for i, (r, g) in enumerate(zip(REWARD, GROUP, strict=True)):
        others = [REWARD[j] for j in range(len(REWARD)) if GROUP[j] == g and j != i]
        assert got[i] == pytest.approx(r - statistics.fmean(others) if others else 0.0, abs=1e-15)


def test_dr_grpo_is_centred_and_nothing_else():
    rewards = by_group(REWARD, GROUP)
    expected = [r - statistics.fmean(rewards[g]) for r, g in zip(REWARD, GROUP, strict=True)]
    assert np.allclose(advantages(REWARD, GROUP, estimator="dr_grpo"), expected, atol=1e-15)


def test_reinforce_plus_plus_knows_no_groups():
    expected = (np.array(REWARD) - statistics.fmean(REWARD)) / (statistics.stdev(REWARD) + 1e-6)
    got = advantages(REWARD, GROUP, estimator="reinforce++")
    assert np.allclose(got, expected, rtol=1e-14)
    assert (got != 0).all()  # no group term: constant groups and singletons count
    assert (advantages([1, 1, 1], [0, 0, 1], estimator="reinforce++") == 0).all()
    assert (advantages([0] * 7, [0] * 7, estimator="reinforce++") == 0).all()


def test_reinforce_plus_plus_baseline():
    rewards = by_group(REWARD, GROUP)
    centred = [r - statistics.fmean(rewards[g]) for r, g in zip(REWARD, GROUP, strict=True)]
    expected = np.array(centred) / (statistics.stdev(centred) + 1e-6)
    assert np.allclose(advantages(REWARD, GROUP, estimator="reinforce++-baseline"), expected)


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "dr_grpo", "reinforce++-baseline"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 49])
@pytest.mark.parametrize("value", [0, 1])
def test_constant_groups_are_exactly_zero(estimator, size, value):
    reward = [value] * size + [0, 1]
    got = advantages(reward, [3] * size + [4, 4], estimator=estimator)
    assert (got[:size] == 0.0).all()
    assert (got[size:] != 0.0).all()


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=60),
    st.sampled_from(ESTIMATORS),
    st.randoms(use_true_random=False),
)
def test_order_does_not_matter_and_nothing_is_nan(rows, estimator, random):
    reward, group = np.array(rows).T
    got = advantages(reward, group, estimator=estimator)
    assert np.isfinite(got).all()
    order = list(range(len(rows)))
    random.shuffle(order)
    again = advantages(reward[order], group[order], estimator=estimator)
    assert np.allclose(again, got[order], rtol=1e-9, atol=1e-12)
    if estimator in ("grpo", "rloo", "dr_grpo"):
        for g in np.unique(group):
            assert abs(got[group == g].sum()) < 1e-9 * len(rows) * 1e3


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_second_moments_by_enumeration(p, n):
    """E[mean A^2]: p(1-p)(n-1)/n (Dr.GRPO), p(1-p) n/(n-1) (RLOO), P(mixed)(n-1)/n (GRPO)."""
    moments = dict.fromkeys(("dr_grpo", "rloo", "grpo"), 0.0)
    for outcome in itertools.product((0, 1), repeat=n):
        chance = p ** sum(outcome) * (1 - p) ** (n - sum(outcome))
        for estimator in moments:
            a = advantages(outcome, [0] * n, estimator=estimator, eps=1e-15)
            moments[estimator] += chance * float((a**2).mean())
    assert moments["dr_grpo"] == pytest.approx(p * (1 - p) * (n - 1) / n, rel=1e-12)
    assert moments["rloo"] == pytest.approx(p * (1 - p) * n / (n - 1), rel=1e-12)
    assert moments["grpo"] == pytest.approx((1 - p**n - (1 - p) ** n) * (n - 1) / n, rel=1e-9)


def test_a_given_baseline_takes_the_place_of_the_mean():
    baseline = [0.3] * 9
    for estimator in ("rloo", "dr_grpo"):
        got = advantages(REWARD, GROUP, estimator=estimator, baseline_R=baseline)
        assert np.allclose(got, np.array(REWARD) - 0.3)
    with pytest.raises(ValueError, match="baseline_R must be None for estimator 'grpo'"):
        advantages(REWARD, GROUP, baseline_R=baseline)


@pytest.mark.parametrize("estimator", ["reinforce++", "reinforce++-baseline"])
def test_a_given_baseline_does_not_explode_in_a_constant_batch(estimator):
    got = advantages([1, 1], [0, 0], estimator=estimator, baseline_R=[0.5, 0.5])
    assert got.tolist() == [0.5, 0.5]  # no spread to divide by
    got = advantages([1, 0], [0, 0], estimator=estimator, baseline_R=[0.5, 0.5])
    assert np.allclose(got, np.array([0.5, -0.5]) / (np.sqrt(0.5) + 1e-6))  # stdev of +-1/2


def test_input_is_untouched():
    reward, group = np.array(REWARD, float), np.array(GROUP)
    advantages(reward, group)
    assert reward.tolist() == REWARD
    assert group.tolist() == GROUP


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([0.5, 1], [0, 0]), r"reward_R must be 0 or 1 \(give threshold=.*, got 0.5"),
        (([np.nan, 1], [0, 0]), "reward_R must be finite, got nan at index 0"),
        (([0, 1], [0]), r"group_R must be of shape \(2,\)"),
        (([0, 1], [0.0, 1.0]), "group_R must be a one-dimensional integer array"),
        (([[0, 1]], [0]), "reward_R must be one-dimensional"),
        (([[0], [0, 1]], [0, 0]), "reward_R must be a one-dimensional array of 0 and 1"),
    ],
)
def test_bad_input_is_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        advantages(*arguments)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"estimator must be one of \['grpo'.*got 'ppo'"):
        advantages([1], [0], estimator="ppo")
    with pytest.raises(ValueError, match=r"eps must be a float in \(0.0, inf\), got 0"):
        advantages([1], [0], eps=0)
    with pytest.raises(ValueError, match="ddof"):
        advantages([1], [0], ddof=2)


def test_graded_rewards_with_a_threshold():
    assert np.array_equal(
        advantages([0.2, 0.9, 0.5], [0, 0, 0], threshold=0.5),
        advantages([0, 1, 1], [0, 0, 0]),
    )


def test_rollout_weights_by_hand():
    weight, trial, token = [0.5, 0.25, 0.25], [4, 0, 1], [3, 3, 3, 3, 8]
    # prompt: w/n. rollout: 3 w / 5. token: 3 w / 20 per token
    assert rollout_weights(weight, trial).tolist() == [0.125] * 4 + [0.25]
    assert np.allclose(rollout_weights(weight, trial, aggregation="rollout"), [0.3] * 4 + [0.15])
    expected = [3 * 1.5 / 20] * 4 + [8 * 0.75 / 20]
    assert np.allclose(rollout_weights(weight, trial, token, "token"), expected)
    # with equal weights every aggregation sums to 1 over what is there
    for aggregation in ("prompt", "rollout", "token"):
        got = rollout_weights([0.5, 0.5], [2, 3], [1, 2, 3, 4, 5], aggregation)
        assert got.sum() == pytest.approx(1.0)


def test_rollout_weights_edges():
    assert rollout_weights([], []).size == 0
    assert rollout_weights([1.0], [0]).size == 0
    with pytest.raises(ValueError, match="token_R must be given"):
        rollout_weights([1.0], [2], aggregation="token")
    with pytest.raises(ValueError, match="aggregation must be one of"):
        rollout_weights([1.0], [2], aggregation="batch")
    with pytest.raises(ValueError, match="trial_G must be in"):
        rollout_weights([1.0], [-2])
