"""What an update costs, within 4 standard errors of the closed forms in the docstrings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import cures
from cures.schedulers.gvm import gvm_weight
from tests.scripted import ScriptedHost

RATE_N = np.tile([0.0, 0.1, 0.3, 0.5, 0.8, 1.0], 200)  # 1200 prompts


def mean_mixed(n):
    """E[1 - p^n - (1-p)^n] over the pool."""
    return float(np.mean(1 - RATE_N**n - (1 - RATE_N) ** n))


def cost_of_updates(name, seeds, updates, **settings):
    """Rollouts generated per update, one value per seed, after a warm-up of 5 updates."""
    values = []
    for seed in seeds:
        scheduler = cures.make_scheduler(name, num_prompts=RATE_N.size, seed=seed, **settings)
        host = ScriptedHost(RATE_N, seed=seed)
        start = None
        for record in cures.loop.run(scheduler, host, rollouts=10**9):
            live = sum(row["trial"] for row in host.groups.values())
            if record.step == 5:
                start = record.generated - live
            if record.step == 5 + updates:
                values.append((record.generated - live - start) / updates)
                break
    return np.array(values)


def dapo_expectation(batch, refill, n):
    """n G E[min {k : Binomial(kG, q_n) >= m}] by summing P(k refills are not enough)."""
    q = mean_mixed(n)
    plans = sum(float(stats.binom.cdf(batch - 1, k * refill, q)) for k in range(400))
    return n * refill * plans


@pytest.mark.parametrize(("batch", "refill", "n"), [(8, 24, 4), (8, 8, 4), (5, 1, 6)])
def test_dapo(batch, refill, n):
    costs = cost_of_updates(
        "dapo",
        range(24),
        30,
        batch_size=batch,
        budget=batch * n,
        refill_size=refill,
        max_plans_per_update=1000,
    )
    expected = dapo_expectation(batch, refill, n)
    error = costs.std(ddof=1) / np.sqrt(costs.size)
    assert abs(costs.mean() - expected) < 4 * error
    naive = batch * n / mean_mixed(n)  # n / q_n per prompt holds only for refills of one prompt
    if refill == 1:
        assert expected == pytest.approx(naive, rel=1e-9)
    else:
        assert abs(costs.mean() - naive) > 4 * error  # negative control


@pytest.mark.parametrize(("screening", "n"), [(2, 8), (4, 12)])
def test_speed(screening, n):
    costs = cost_of_updates(
        "speed", range(24), 60, batch_size=6, budget=6 * n, screening_size=screening
    )
    # N_init / E[q] + N_cont per trained prompt; 6 prompts an update, live groups taken off
    expected = 6 * (screening / mean_mixed(screening) + n - screening)
    error = costs.std(ddof=1) / np.sqrt(costs.size)
    assert abs(costs.mean() - expected) < 4 * error
    # negative controls: rejected screenings for free; the mixed share of whole groups
    for wrong in (6 * n, 6 * (screening / mean_mixed(n) + n - screening)):
        assert abs(costs.mean() - wrong) > 4 * error


@pytest.mark.slow
def test_band():
    n = 6
    costs = cost_of_updates(
        "band", range(24), 30, batch_size=8, budget=48, low=0.3, high=0.7, max_plans_per_update=1000
    )
    inside = np.array([2, 3, 4])  # of 6, in [0.3, 0.7]: 1.8 ... 4.2
    share = np.mean([stats.binom.pmf(inside, n, p).sum() for p in RATE_N])
    error = costs.std(ddof=1) / np.sqrt(costs.size)
    assert abs(costs.mean() - n * 8 / share) < 4 * error  # every kept group is trained on
    assert abs(costs.mean() - n * 8 / mean_mixed(n)) > 4 * error  # negative control


@pytest.mark.parametrize("name", ["uniform", "staged"])
def test_one_plan_one_update(name):
    settings = {"batch_size": 6, "budget": 50}
    if name == "staged":
        settings |= {"prior_success_rate_N": RATE_N, "total_rollouts": 2000}
    assert (cost_of_updates(name, range(2), 20, **settings) == 50).all()


def test_gvm_quotas_are_split_over_the_whole_chunk():
    scheduler = cures.make_scheduler(
        "gvm", num_prompts=24, batch_size=4, budget=40, num_subsets=1, steps_per_subset=6, pilots=8
    )
    host = ScriptedHost(np.tile([0.05, 0.3, 0.9], 8))
    sizes, quota_N = [], np.zeros(24)
    success_N = np.zeros(24)
    while scheduler.update_step < 6:
        plan = scheduler.propose()
        outcome = host.rollout(plan)
        if plan.is_pilot_B.all():
            success_N[plan.prompt_B] = outcome.success_B
        else:
            sizes.append(plan.num_rollouts)
            quota_N[plan.prompt_B] += plan.quota_B
        selection = scheduler.observe(outcome)
        (host.update if selection.is_update else host.discard)(selection)
    assert sum(sizes) == 6 * 40
    assert len(set(sizes)) > 1  # single plans are not held at the budget
    p = success_N / 8
    assert (quota_N[p == 0] == 0).all()
    # published weight with G = 1: 1 / sqrt(p + .001 p^(1-2)); real-valued shares, whole rollouts
    weight = np.zeros(24)
    weight[p > 0] = 1 / np.sqrt(p[p > 0] + 1e-3 / p[p > 0])
    share = 240 * weight / weight.sum()
    assert np.abs(quota_N - share).max() < 1.0 + 1e-9
    assert (quota_N[p > 0] >= 2).all()


@pytest.mark.parametrize(("alpha", "beta"), [(1e-3, 2.0), (0.5, 3.0), (0.0, 2.0)])
def test_gvm_weight_by_hand(alpha, beta):
    p = np.array([0.0, 0.125, 0.5, 1.0])
    norm = np.array([7.0, 3.0, 2.0, 5.0])
    got = gvm_weight(p, norm, alpha, beta)
    # published form: G / sqrt(p + alpha / p^(beta - 1)); 0 without a right pilot
    expected = [0.0] + [
        g / (q + alpha / q ** (beta - 1)) ** 0.5 for g, q in zip(norm[1:], p[1:], strict=True)
    ]
    assert np.allclose(got, expected, rtol=1e-14)


def test_gvm_uses_the_gradient_norms_of_right_pilots():
    def quotas(norms):
        scheduler = cures.make_scheduler(
            "gvm", num_prompts=4, batch_size=4, budget=400, num_subsets=1, steps_per_subset=1,
            use_moments=True,
        )  # fmt: skip
        plan = scheduler.propose()
        ones = np.ones(4)
        moments = cures.Moments(ones, ones, ones, norms, ones)
        scheduler.observe(cures.Outcome.of(plan, [4, 4, 4, 4], moments_B=moments))
        step = scheduler.propose()
        return dict(zip(step.prompt_B.tolist(), step.quota_B.tolist(), strict=True))

    # equal success rates: quotas in proportion to G = 1, 2, 3, and the mean 2 for the missing one
    assert quotas([1.0, 2.0, 3.0, np.nan]) == {0: 50, 1: 100, 2: 150, 3: 100}
    assert quotas([1.0, 1.0, 1.0, 1.0]) == {0: 100, 1: 100, 2: 100, 3: 100}


def test_gvm_with_min_quota_one_is_the_published_rounding():
    scheduler = cures.make_scheduler(
        "gvm", num_prompts=3, batch_size=3, budget=4, num_subsets=1, min_quota=1, pilots=8,
        steps_per_subset=1,
    )  # fmt: skip
    success_N = np.array([1, 8, 0])
    while (plan := scheduler.propose()).is_pilot_B.all():
        scheduler.observe(cures.Outcome.of(plan, success_N[plan.prompt_B]))
    # weights 1/sqrt(.125 + .008) = 2.742, 1/sqrt(1.001) = .9995, 0: 4 x (.733, .267) = 2.93, 1.07
    assert dict(zip(plan.prompt_B.tolist(), plan.quota_B.tolist(), strict=True)) == {0: 3, 1: 1}


def test_staged_goes_from_easy_to_hard_by_shares_of_the_rollouts():
    rate_N = np.random.default_rng(0).permutation(np.linspace(0, 1, 60))
    scheduler = cures.make_scheduler(
        "staged", num_prompts=60, batch_size=5, budget=40, prior_success_rate_N=rate_N,
        total_rollouts=1200, num_stages=3,
    )  # fmt: skip
    host = ScriptedHost(rate_N)
    rank_N = np.argsort(np.argsort(-rate_N))
    stages = []
    for record in cures.loop.run(scheduler, host, rollouts=1400):
        stages.append(set((rank_N[record.plans[0].prompt_B] // 20).tolist()))
    assert stages == [{0}] * 10 + [{1}] * 10 + [{2}] * 15  # 400 rollouts each, then the last one


def test_dapo_and_speed_degrade_instead_of_raising():
    host = ScriptedHost(np.where(np.arange(40) == 7, 0.5, 0.0))  # one live prompt in 40
    for name in ("dapo", "speed", "band"):
        scheduler = cures.make_scheduler(name, num_prompts=40, batch_size=8, budget=64)
        records = list(
            cures.loop.run(scheduler, ScriptedHost(host.success_rate_N), rollouts=40_000)
        )
        partial = [record for record in records if record.selection.group_G.size < 8]
        assert len(partial) == scheduler.counters["partial_batch"] > 10
        assert all(len(record.plans) >= 10 for record in partial)


def test_speed_discards_the_oldest_when_the_buffer_is_full():
    scheduler = cures.make_scheduler(
        "speed", num_prompts=200, batch_size=8, budget=64, max_live_groups=10
    )
    host = ScriptedHost(np.full(200, 0.5))
    for _ in range(40):
        plan = scheduler.propose()
        outcome = host.rollout(plan) if len(plan) else cures.Outcome.of(plan, [])
        selection = scheduler.observe(outcome)
        (host.update if selection.is_update else host.discard)(selection)
        assert np.isin(scheduler.live.stage, [1, 9]).sum() <= 10  # accepted or complete
    assert scheduler.counters["buffer_overflow"] > 0
    assert host.updates > 5
