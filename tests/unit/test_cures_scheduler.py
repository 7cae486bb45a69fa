"""`cures`: Algorithm 1, point by point."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import cures
from cures.records import Moments, Outcome
from tests.scripted import ScriptedHost, same_plan


def make(num_prompts=30, **settings):
    defaults = {"batch_size": 4, "budget": 32, "num_subsets": 3, "pilots": 4, "steps_per_subset": 5}
    return cures.make_scheduler("cures", num_prompts=num_prompts, **(defaults | settings))


def run_plans(scheduler, host, count):
    plans = []
    for _ in range(count):
        plan = scheduler.propose()
        selection = scheduler.observe(host.rollout(plan))
        (host.update if selection.is_update else host.discard)(selection)
        plans.append(plan)
    return plans


def test_pilots_then_steps_then_the_next_subset():
    scheduler, host = make(), ScriptedHost(np.full(30, 0.5))
    # 10 prompts a subset x 4 pilots = 40 rollouts = 2 plans of at most 32; then 5 steps
    plans = run_plans(scheduler, host, 3 * 7)
    visited = []
    for subset in range(3):
        block = plans[7 * subset : 7 * subset + 7]
        pilots = np.concatenate([plan.prompt_B for plan in block[:2]])
        assert all(plan.is_pilot_B.all() and (plan.quota_B == 4).all() for plan in block[:2])
        assert pilots.size == 10
        for plan in block[2:]:
            assert not plan.is_pilot_B.any()
            assert set(plan.prompt_B) <= set(pilots)
            assert plan.draw_B.sum() == 4
        visited += pilots.tolist()
    assert sorted(visited) == list(range(30))  # disjoint subsets that cover the pool


@pytest.mark.parametrize("name", ["cures", "gvm"])
@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_cost_of_a_subset_is_exact(name, rate):
    scheduler = cures.make_scheduler(
        name, num_prompts=40, batch_size=5, budget=60, num_subsets=2, pilots=3, steps_per_subset=4
    )
    host = ScriptedHost(np.full(40, rate))
    before = 0
    for _ in range(4):  # the two subsets, twice: 3 pilots x 20 prompts + 4 steps x 60 rollouts
        visit = scheduler._visit
        while scheduler._visit == visit:
            generated = scheduler.ledger.generated
            plan = scheduler.propose()
            if scheduler._visit != visit:
                assert generated - before == 3 * 20 + 4 * 60
                before = generated
            selection = scheduler.observe(host.rollout(plan))
            (host.update if selection.is_update else host.discard)(selection)


def test_everything_is_reset_at_the_next_subset():
    scheduler, host = make(num_subsets=1), ScriptedHost(np.full(30, 1.0))
    plans = run_plans(scheduler, host, 4 + 5)  # 30 prompts x 4 = 120 rollouts in 4 plans; 5 steps
    assert (scheduler.success_rate() > 0.8).all()
    plans += run_plans(scheduler, host, 1)  # the first pilot plan of the second visit
    assert plans[-1].is_pilot_B.all()
    # 8 prompts were piloted again, 4 of 4 right: (1 + 4) / (2 + 4); the rest is back at the prior
    assert np.allclose(np.sort(scheduler.success_rate()), [1 / 2] * 22 + [5 / 6] * 8)


def test_posterior_is_the_counts_of_pilots_and_training():
    scheduler, host = make(num_subsets=1), ScriptedHost(np.linspace(0, 1, 30))
    success, trial = np.zeros(30), np.zeros(30)
    for _ in range(9):
        plan = scheduler.propose()
        outcome = host.rollout(plan)
        np.add.at(success, plan.prompt_B, outcome.success_B)
        np.add.at(trial, plan.prompt_B, outcome.trial_B)
        selection = scheduler.observe(outcome)
        (host.update if selection.is_update else host.discard)(selection)
    # conjugacy: Beta(1 + successes, 1 + failures)
    assert np.allclose(scheduler.success_rate(), (1 + success) / (2 + trial), rtol=1e-15)


def test_prompts_are_drawn_by_equation_14_with_replacement():
    rate_N = np.linspace(0.0, 1.0, 12)
    counts = np.zeros(12)
    for seed in range(400):
        scheduler = make(12, num_subsets=1, seed=seed, batch_size=32, budget=96, temperature=0.1)
        plan = scheduler.propose()
        success_B = np.round(4 * rate_N[plan.prompt_B]).astype(int)  # the same pilots every time
        scheduler.observe(Outcome.of(plan, success_B))
        plan = scheduler.propose()
        counts[plan.prompt_B] += plan.draw_B
    mean_N = (1 + np.round(4 * rate_N)) / 6  # posterior mean under Beta(1, 1)

    def expected(temperature):
        score = np.exp(np.sqrt(mean_N * (1 - mean_N)) / temperature)  # Eq. 14
        return counts.sum() * score / score.sum()

    assert stats.chisquare(counts, expected(0.1)).pvalue > 1e-3
    assert stats.chisquare(counts, expected(0.12)).pvalue < 1e-6  # negative control


def test_prob_and_draws_are_reported():
    scheduler, host = make(num_subsets=1), ScriptedHost(np.linspace(0, 1, 30))
    run_plans(scheduler, host, 4)
    chance = scheduler.sampling_distribution()
    plan = scheduler.propose()
    assert np.allclose(plan.prob_B, chance[plan.prompt_B])
    selection = scheduler.observe(host.rollout(plan))
    assert np.allclose(selection.weight_G, plan.draw_B / 4)  # Eq. 16, k / m


def test_quota_minimises_the_variance_of_equation_20():
    # 40 draws from 30 prompts: repeated draws count k sigma
    scheduler = make(num_subsets=1, batch_size=40, budget=160)
    host = ScriptedHost(np.linspace(0, 1, 30))
    run_plans(scheduler, host, 1)
    p_N = scheduler.success_rate()
    plan = scheduler.propose()
    assert plan.draw_B.max() > 2
    sigma_B = plan.draw_B * np.sqrt(p_N[plan.prompt_B] * (1 - p_N[plan.prompt_B]))

    def improvement(sigma_B):
        """Best single move of a rollout between two groups: 0 at the optimum (exchange argument)."""
        best = 0.0
        for give in range(len(plan)):
            for take in range(len(plan)):
                moved = plan.quota_B.copy()
                moved[give] -= 1
                moved[take] += 1
                if give != take and moved[give] >= 2:
                    before = float((sigma_B**2 / plan.quota_B).sum())
                    best = max(best, before - float((sigma_B**2 / moved).sum()))
        return best

    assert improvement(sigma_B) < 1e-14
    assert improvement(sigma_B / plan.draw_B) > 1e-3  # negative control: draws ignored


def test_moments_enter_sigma_as_in_equation_21():
    scheduler = make(3, num_subsets=1, use_moments=True, batch_size=3)
    plan = scheduler.propose()
    assert plan.wants_moments
    nan = np.nan
    moments = Moments([2.0, nan, 6.0], [1.0, 3.0, nan], [0.5, nan, 0.1], [nan] * 3, [nan] * 3)
    scheduler.observe(Outcome.of(plan, [2, 0, 4], moments_B=moments))
    # the mean over the subset stands in for a missing norm: (2+6)/2 = 4, (1+3)/2 = 2, (.5+.1)/2 = .3
    correct, wrong, difference = [2.0, 4.0, 6.0], [1.0, 3.0, 2.0], [0.5, 0.3, 0.1]
    for i, success in enumerate([2, 0, 4]):
        p = (1 + success) / 6
        expected = (  # Eq. 21 by hand
            p * (1 - p) ** 2 * correct[i]
            + p**2 * (1 - p) * wrong[i]
            - p**2 * (1 - p) ** 2 * difference[i]
        )
        sigma, negative = scheduler.gradient_std(np.array([i]))
        assert sigma[0] == pytest.approx(np.sqrt(expected), rel=1e-14)
        assert negative == 0
    assert not scheduler.propose().wants_moments  # only pilots are measured


def test_moments_are_forgotten_at_the_next_subset():
    scheduler = make(6, num_subsets=2, use_moments=True, batch_size=4, steps_per_subset=1)
    plan = scheduler.propose()
    ones, tens = np.ones(3), np.full(3, 10.0)
    moments = Moments(tens, ones, np.zeros(3), ones, ones)
    scheduler.observe(Outcome.of(plan, [2, 2, 2], moments_B=moments))
    with_moments = scheduler.gradient_std(np.arange(3))[0]
    assert np.allclose(with_moments, np.sqrt(0.125 * 10 + 0.125 * 1))  # Eq. 21 at p = 1/2
    step = scheduler.propose()
    scheduler.observe(Outcome.of(step, step.quota_B))
    plan = scheduler.propose()  # pilots of subset 1, this time without moments
    assert plan.is_pilot_B.all()
    scheduler.observe(Outcome.of(plan, [2, 2, 2]))
    assert np.allclose(scheduler.gradient_std(np.arange(3))[0], 0.5)  # sqrt(p (1-p)) again


def test_outcomes_of_an_earlier_visit_tell_nothing():
    scheduler = make(8, num_subsets=1, steps_per_subset=1)
    scheduler.observe(Outcome.of(scheduler.propose(), np.full(8, 2)))
    late = scheduler.propose()  # the only step of visit 0
    again = scheduler.propose()  # pilots of visit 1
    assert again.is_pilot_B.all()
    scheduler.observe(Outcome.of(late, late.quota_B))
    assert (scheduler.success_rate() == 0.5).all()
    assert scheduler.counters["evidence_of_another_subset"] == len(late)
    scheduler.observe(Outcome.of(again, np.full(8, 4)))
    assert np.allclose(scheduler.success_rate(), 5 / 6)


def test_pilots_cut_by_a_limit_are_completed_by_the_next_plan():
    scheduler = make(20, num_subsets=1)
    trial_N = np.zeros(20, dtype=int)
    while (plan := scheduler.propose(limit=10)).is_pilot_B.any():
        np.add.at(trial_N, plan.prompt_B, plan.quota_B)
        scheduler.observe(Outcome.of(plan, plan.quota_B * 0))
    assert (trial_N == 4).all()
    assert scheduler.ledger.pilots == 80


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (10, [4, 4, 2]),  # the rest of the third prompt is a group of 2
        (11, [4, 4, 2]),  # 3 would leave a group of one behind
        (9, [4, 4]),  # one rollout is no group
        (3, [2]),
        (2, [2]),
    ],
)
def test_a_cut_pilot_leaves_no_group_of_one(limit, expected):
    scheduler = make(20, num_subsets=1)
    assert scheduler.propose(limit=limit).quota_B.tolist() == expected
    assert scheduler.propose().quota_B.min() >= 2


def moments(correct, wrong, difference):
    """Of one group; mean norms are left at 1 where the kind exists."""
    norm = [1.0 + 0.0 * x for x in (correct, wrong)]
    return Moments([correct], [wrong], [difference], [norm[0]], [norm[1]])


def test_moments_of_pilots_in_two_plans_are_averaged_by_rollouts_of_the_kind():
    nan = float("nan")
    scheduler = make(
        1, num_subsets=1, pilots=6, use_moments=True, batch_size=1, budget=8, min_quota=2
    )
    first, second = scheduler.propose(limit=4), scheduler.propose()
    assert (first.quota_B.tolist(), second.quota_B.tolist()) == ([4], [2])
    # 3 right of 4, then 1 right of 2
    scheduler.observe(Outcome.of(first, [3], moments_B=moments(8.0, 2.0, 3.0)))
    scheduler.observe(Outcome.of(second, [1], moments_B=moments(4.0, 5.0, -3.0)))
    state = scheduler.state_dict()
    assert state["rule/sq_norm_correct"] == pytest.approx([(3 * 8.0 + 4.0) / 4])
    assert state["rule/sq_norm_wrong"] == pytest.approx([(2.0 + 5.0) / 2])
    assert state["rule/sq_norm_difference"] == pytest.approx([(4 * 3.0 - 2 * 3.0) / 6])

    for order in ((0, 1), (1, 0)):  # what only one of the plans could measure stays
        scheduler = make(
            1, num_subsets=1, pilots=6, use_moments=True, batch_size=1, budget=8, min_quota=2
        )
        plans = [scheduler.propose(limit=4), scheduler.propose()]
        outcomes = [
            Outcome.of(plans[0], [2], moments_B=moments(5.0, 2.0, 3.0)),
            Outcome.of(plans[1], [0], moments_B=moments(nan, 5.0, nan)),
        ]
        for i in order:
            scheduler.observe(outcomes[i])
        state = scheduler.state_dict()
        assert state["rule/sq_norm_correct"] == pytest.approx([5.0])
        assert state["rule/sq_norm_wrong"] == pytest.approx([(2 * 2.0 + 2 * 5.0) / 4])
        assert state["rule/sq_norm_difference"] == pytest.approx([3.0])


def test_a_host_that_measures_no_moments_is_counted():
    scheduler = make(4, num_subsets=1, use_moments=True)
    plan = scheduler.propose()
    scheduler.observe(Outcome.of(plan, [2, 1, 3, 0]))
    assert scheduler.counters["moments_not_measured"] == 4


def test_relabelling_prompts_permutes_sigma_bit_for_bit_with_moments():
    """The mean that stands in for a missing norm must not depend on the order of its terms."""
    rng = np.random.default_rng(0)
    norm_N, rate_N = rng.lognormal(0.0, 2.0, 24), rng.integers(0, 5, 24)
    nan_if_none = np.where(rate_N > 0, norm_N, np.nan)

    def sigma(order):
        scheduler = make(24, num_subsets=1, pilots=4, budget=96, use_moments=True)
        plan = scheduler.propose()
        at = order[plan.prompt_B]
        one = np.ones(24)
        scheduler.observe(
            Outcome.of(plan, rate_N[at], moments_B=Moments(nan_if_none[at], one, one, one, one))
        )
        found = scheduler._moments_or_mean("sq_norm_correct", np.arange(24))
        return found[np.argsort(order)]

    plain = sigma(np.arange(24))
    for _ in range(8):
        assert np.array_equal(sigma(rng.permutation(24)), plain)


def test_the_prior_is_the_one_that_was_given():
    alpha = np.ones(30)
    scheduler = make(prior=(alpha, np.ones(30)))
    state = scheduler.state_dict()
    alpha[:] = 9.0
    scheduler.load_state_dict(state)
    assert (scheduler.success_rate() == 0.5).all()


def test_negative_variances_are_clipped_and_counted():
    scheduler = make(2, num_subsets=1, use_moments=True, batch_size=32, budget=64)
    plan = scheduler.propose()
    huge = Moments([1.0, 1.0], [1.0, 1.0], [1e3, 1e3], [1.0, 1.0], [1.0, 1.0])
    scheduler.observe(Outcome.of(plan, [2, 4], moments_B=huge))
    assert scheduler.sampling_distribution().max() > 0.9  # by Eq. 14 the first would be drawn most
    plan = scheduler.propose()
    assert len(plan) == 2  # 32 draws of two prompts
    assert scheduler.counters["negative_variance"] >= 1
    # all sigma 0: a uniform draw with equal quotas per draw, counted
    assert scheduler.counters["fallback_uniform"] == 1
    assert plan.prob_B.tolist() == [0.5, 0.5]
    assert np.array_equal(plan.quota_B, 2 * plan.draw_B)


def test_ablations():
    host = ScriptedHost(np.linspace(0, 1, 30))
    without_quota = make(num_subsets=1, quota=False)
    run_plans(without_quota, host, 4)
    plan = without_quota.propose()
    assert np.array_equal(plan.quota_B, 8 * plan.draw_B)
    without_sampling = make(num_subsets=1, sampling=False)
    run_plans(without_sampling, ScriptedHost(np.linspace(0, 1, 30)), 4)
    plan = without_sampling.propose()
    assert np.allclose(plan.prob_B, 1 / 30)
    assert np.unique(plan.quota_B / plan.draw_B).size > 1


def test_pilots_can_be_trained_on():
    scheduler, host = make(train_pilots=True), ScriptedHost(np.linspace(0, 1, 30))
    records = list(cures.loop.run(scheduler, host, rollouts=400))
    assert records[0].plans[0].is_pilot_B.all()
    assert records[0].selection.group_G.size == records[0].plans[0].group_B.size
    assert scheduler.ledger.counts["pilot"]["trained"] == scheduler.ledger.pilots > 0
    plain = make()
    list(cures.loop.run(plain, ScriptedHost(np.linspace(0, 1, 30)), rollouts=400))
    assert plain.ledger.counts["pilot"]["trained"] == 0
    assert plain.ledger.counts["pilot"]["discarded"] == plain.ledger.pilots > 0


def test_relabelling_the_prompts_relabels_everything_exactly():
    rate_N = np.linspace(0.0, 1.0, 30)
    label_N = np.arange(30) % 3
    order = np.random.default_rng(1).permutation(30)  # prompt i of `moved` is prompt order[i]
    plain, moved = make(subset_N=label_N), make(subset_N=label_N[order])
    for _ in range(2):  # the pilots of subset 0, right answers given by the prompt, not by chance
        for scheduler, rate in ((plain, rate_N), (moved, rate_N[order])):
            plan = scheduler.propose()
            scheduler.observe(Outcome.of(plan, np.round(4 * rate[plan.prompt_B]).astype(int)))
    original = order[moved.members]
    back = np.searchsorted(plain.members, original)
    assert np.array_equal(plain.members[back], original)
    assert np.array_equal(plain.success_rate()[back], moved.success_rate())
    assert np.allclose(
        plain.sampling_distribution()[back], moved.sampling_distribution(), rtol=1e-15
    )
    slots = np.arange(10)
    assert np.array_equal(plain.gradient_std(back)[0], moved.gradient_std(slots)[0])
    sigma, moved_sigma = plain.gradient_std(slots)[0], moved.gradient_std(slots)[0]
    quota, moved_quota = cures.allocate(sigma, 83), cures.allocate(moved_sigma, 83)
    # ties go to the lowest id: among prompts of equal sigma only the multiset is comparable
    assert sorted(zip(sigma, quota, strict=True)) == sorted(
        zip(moved_sigma, moved_quota, strict=True)
    )


def test_forgetting_pulls_back_to_the_prior():
    keep, forget = make(num_subsets=1), make(num_subsets=1, forgetting=0.5)
    for scheduler in (keep, forget):
        run_plans(scheduler, ScriptedHost(np.full(30, 1.0)), 7)
    assert (forget.success_rate() < keep.success_rate()).all()
    assert (forget.success_rate() > 0.5).all()


def test_bounds_scale_with_the_draws_and_stay_feasible():
    # one prompt only: it is drawn 4 times and may take all of 4 x 8 rollouts
    scheduler = make(1, num_subsets=1, max_quota=8)
    scheduler.observe(Outcome.of(scheduler.propose(), [2]))
    plan = scheduler.propose()
    assert plan.draw_B.tolist() == [4]
    assert plan.quota_B.tolist() == [32]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": 0.0}, r"cures: temperature must be a float in \(0.0, inf\), got 0.0"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"num_subsets": 31}, r"num_subsets must be an int in \[1, 30\], got 31"),
        ({"pilots": 0}, r"pilots must be an int in \[1, inf\), got 0"),
        ({"budget": 7}, r"budget must be an int in \[8, \d+\], got 7"),
        ({"forgetting": 1.0}, r"forgetting must be a float in \[0.0, 1.0\), got 1.0"),
        ({"max_quota": 7}, r"max_quota must be an int in \[8, \d+\], got 7"),
        ({"estimator": "ppo"}, "estimator must be one of .* got 'ppo'"),
        ({"sampling": 1}, "sampling must be True or False, got 1"),
        (
            {"subset_N": [0] * 30},
            "subset_N must be without empty subsets, got nothing in subset 1$",
        ),
        ({"subset_N": [0, 1, 2]}, r"subset_N must be of shape \(30,\)"),
        ({"seed": -1}, r"seed must be an int in \[0, \d+\], got -1"),
        ({"prior": (0.0, 1.0)}, "prior"),
        ({"tau": 0.1}, "keyword of 'cures' must be one of .* got 'tau'"),
    ],
)
def test_bad_settings_are_named(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**settings)


def test_two_schedulers_fed_alike_plan_alike_and_another_seed_differs():
    a, b, c = make(), make(), make(seed=1)
    hosts = [ScriptedHost(np.linspace(0, 1, 30)) for _ in range(3)]
    plans = [run_plans(s, h, 14) for s, h in zip((a, b, c), hosts, strict=True)]
    assert all(same_plan(x, y) for x, y in zip(plans[0], plans[1], strict=True))
    assert not all(same_plan(x, y) for x, y in zip(plans[0], plans[2], strict=True))
