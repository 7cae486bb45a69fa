"""`next`: one group at a time, with an exact long-run mean."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.records import Outcome
from cures.schedulers.driver.streaming import StreamQuota
from tests.scripted import ScriptedHost, small_scheduler


def hand_out(sigmas, *, budget=32, batch_size=4, min_quota=2, max_quota=None):
    stream, quotas = StreamQuota(), []
    for sigma in sigmas:
        quota = stream.quota(
            sigma, budget=budget, batch_size=batch_size, min_quota=min_quota, max_quota=max_quota
        )
        stream = stream.after(sigma, quota)
        quotas.append(quota)
    return np.array(quotas)


def test_the_long_run_mean_is_exact_even_when_sigma_drifts():
    # sigma falls by half in the middle: a running mean alone would give 8 and then far too little
    sigmas = np.concatenate([np.full(3000, 0.5), np.full(3000, 0.14)])
    quotas = hand_out(sigmas)
    # the debt is at most batch_size x (target - quota) of a steady state: 4 x 8, so the mean of 3000
    # groups is off by at most 32 / 3000
    assert abs(quotas[:3000].mean() - 8.0) <= 32 / 3000
    assert abs(quotas[3000:].mean() - 8.0) <= 64 / 3000
    mean = np.cumsum(sigmas) / np.arange(1, 6001)
    without_debt = np.round(8 * sigmas / mean)  # negative control
    assert abs(without_debt[3000:].mean() - 8.0) > 2


def test_quotas_are_proportional_to_sigma():
    sigmas = np.random.default_rng(0).permutation(np.repeat([0.5, 0.25, 0.0], 2000))
    quotas = hand_out(
        sigmas, budget=64
    )  # mean sigma .25, 16 rollouts a draw: 32, 16 and the minimum
    means = [quotas[sigmas == s].mean() for s in (0.5, 0.25, 0.0)]
    # the minimum of 2 for sigma 0 is taken back evenly from all by the debt: within 2 of the ideal
    assert means == pytest.approx([32, 16, 2], abs=2.0)
    assert quotas.mean() == pytest.approx(16, abs=0.05)


def test_fractions_are_carried():
    quotas = hand_out(np.ones(600), budget=50, batch_size=6)  # 8.333 a draw
    assert set(quotas.tolist()) == {8, 9}
    assert abs(quotas.sum() - 5000) <= 6  # the debt stays within one batch


def test_all_zero_is_equal_and_bounds_hold():
    assert set(hand_out(np.zeros(50)).tolist()) == {8}
    quotas = hand_out(np.random.default_rng(0).exponential(size=500), max_quota=11, min_quota=3)
    assert quotas.min() >= 3
    assert quotas.max() <= 11


def stream(scheduler, host, count):
    plans = []
    for _ in range(count):
        plan = scheduler.next()
        selection = scheduler.observe(host.rollout(plan))
        (host.update if selection.is_update else host.discard)(selection)
        plans.append(plan)
    return plans


def test_oracle_streams_by_true_sigma():
    rate_N = np.array([0.0] * 25 + [0.5] * 25)
    scheduler = small_scheduler(
        "oracle", num_prompts=50, temperature=1e6, true_success_rate=lambda: rate_N
    )
    plans = stream(scheduler, ScriptedHost(rate_N), 2000)
    quota = np.array([plan.quota_B[0] for plan in plans])
    is_dead = rate_N[[plan.prompt_B[0] for plan in plans]] == 0
    # the minimum, up to a share of the debt (and 8 until the first live prompt sets a mean)
    assert quota[is_dead].mean() < 3
    assert quota[~is_dead].mean() > 12
    assert quota.mean() == pytest.approx(8, abs=0.05)


def test_a_limit_is_made_good_later():
    scheduler, host = small_scheduler("uniform"), ScriptedHost(np.full(48, 0.5))
    quotas = []
    for turn in range(600):
        plan = scheduler.next(limit=4 if turn % 2 else None)
        selection = scheduler.observe(host.rollout(plan))
        (host.update if selection.is_update else host.discard)(selection)
        quotas.append(plan.num_rollouts)
    assert np.mean(quotas) == pytest.approx(8, abs=0.1)
    assert max(quotas[1::2]) <= 4


def test_the_stream_survives_a_checkpoint():
    host = ScriptedHost(np.linspace(0, 1, 48))
    scheduler = small_scheduler("cures", num_subsets=1)
    stream(scheduler, host, 60)
    resumed = small_scheduler("cures", num_subsets=1)
    resumed.load_state_dict(scheduler.state_dict())
    other = ScriptedHost(np.linspace(0, 1, 48))
    for _ in range(30):
        a, b = scheduler.next(), resumed.next()
        assert a.quota_B.tolist() == b.quota_B.tolist()
        scheduler.observe(host.outcome(a))
        resumed.observe(other.outcome(b))


def test_next_issues_only_plans_of_one_group_again():
    scheduler = small_scheduler("uniform")
    batch, single = scheduler.propose(), scheduler.next()
    resumed = small_scheduler("uniform")
    resumed.load_state_dict(scheduler.state_dict())
    assert resumed.next().plan_id == single.plan_id
    assert len(resumed.next()) == 1
    assert resumed.propose().plan_id == batch.plan_id


def test_streamed_groups_join_the_next_batch():
    scheduler, host = small_scheduler("uniform"), ScriptedHost(np.full(48, 0.5))
    stream(scheduler, host, 3)  # one short of an update
    plan = scheduler.propose()
    selection = scheduler.observe(host.rollout(plan))
    assert selection.group_G.tolist() == [0, 1, 2, *plan.group_B.tolist()]
    host.update(selection)
    assert len(scheduler.live) == 0


def test_mixing_next_and_propose_does_not_end_an_update_early():
    scheduler = small_scheduler("dapo")  # refills of 12 prompts, 10 of them before giving up
    dead = ScriptedHost(np.zeros(48))
    for _ in range(11):
        scheduler.observe(dead.rollout(scheduler.next()))
    plan = scheduler.propose()
    success_B = np.zeros(len(plan), dtype=int)
    success_B[0] = 1  # one mixed group: far from a batch of 4
    assert not scheduler.observe(Outcome.of(plan, success_B)).is_update
    assert "partial_batch" not in scheduler.counters


@pytest.mark.parametrize(("name", "population"), [("uniform", 48), ("staged", 16), ("gvm", 24)])
def test_probabilities_of_batches_and_of_single_draws(name, population):
    scheduler, host = small_scheduler(name), ScriptedHost(np.full(48, 0.5))
    while (plan := scheduler.propose()).is_pilot_B.any():
        scheduler.observe(host.outcome(plan))
    assert np.allclose(plan.prob_B, 4 / population)  # inclusion probability of one of 4 draws
    scheduler.observe(host.outcome(plan))
    assert np.allclose(scheduler.next().prob_B, 1 / population)


def test_streaming_counts_rollouts_like_everything_else():
    scheduler, host = cures.make_scheduler("speed", num_prompts=48, batch_size=4, budget=48), None
    host = ScriptedHost(np.full(48, 0.5))
    stream(scheduler, host, 200)
    assert scheduler.ledger.generated == host.generated
