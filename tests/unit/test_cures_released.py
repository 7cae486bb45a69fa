"""`cures-released`: the six points in which the authors' repository departs from the paper.

Expected numbers are written from the released formulas (repository ZexuSun/CurES, commit eccf298), by
hand or as literal transcriptions of the formula, never by calling the code under test.
"""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.records import Moments, Outcome
from tests.scripted import ScriptedHost


def make(num_prompts=16, **settings):
    defaults = {
        "batch_size": 4,
        "budget": 32,
        "num_subsets": 1,
        "pilots": 4,
        "steps_per_subset": 5,
        "num_workers": 2,
        "num_gpus": 4,
    }
    return cures.make_scheduler("cures-released", num_prompts=num_prompts, **(defaults | settings))


def piloted(success_N, **settings):
    """A scheduler whose pilots came back with these right answers of 4, and its first step."""
    success_N = np.asarray(success_N)
    scheduler = make(success_N.size, **settings)
    while (plan := scheduler.propose()).is_pilot_B.any():
        scheduler.observe(Outcome.of(plan, success_N[plan.prompt_B]))
    return scheduler, plan


PILOTS = np.array([0, 1, 2, 3, 4, 1, 2, 3, 0, 2, 1, 2, 3, 4, 2, 2])


def test_point_1_scores_are_nearly_uniform_and_prefer_fewer_right_answers():
    scheduler, _ = piloted(PILOTS)
    p = (PILOTS + 1) / 6  # Beta(1 + s, 1 + f) mean of 4 pilots
    score = np.exp(np.sqrt(p * (1 - p)) / ((PILOTS + 1) / 1e-2))  # the released line
    assert np.allclose(scheduler.sampling_distribution(), score / score.sum(), rtol=1e-14)
    assert score.min() > 1.0
    assert score.max() < 1.0051  # "uniform to half a percent"
    by_success = [score[s == PILOTS][0] for s in range(5)]
    assert by_success == sorted(by_success, reverse=True)
    # the paper's Eq. 14, which `cures` follows, is nowhere near uniform on the same evidence
    paper = np.exp(np.sqrt(p * (1 - p)) / 0.05)
    assert paper.max() / paper.min() > 5
    with pytest.raises(ValueError, match="got 'temperature'"):
        make(temperature=0.1)  # there is no temperature to set


def test_point_2_the_posterior_never_moves_during_training():
    scheduler, plan = piloted(PILOTS)
    before = (scheduler._prob_S.copy(), scheduler._copies_S.copy(), scheduler._pilot_trial_S.copy())
    for _ in range(4):
        scheduler.observe(Outcome.of(plan, plan.quota_B))  # everything right, again and again
        plan = scheduler.propose()
    after = (scheduler._prob_S, scheduler._copies_S, scheduler._pilot_trial_S)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    paper = cures.make_scheduler("cures", num_prompts=16, batch_size=4, budget=32, num_subsets=1)
    while (step := paper.propose()).is_pilot_B.any():
        paper.observe(Outcome.of(step, PILOTS[step.prompt_B]))
    start = paper.success_rate()
    paper.observe(Outcome.of(step, step.quota_B))
    assert not np.array_equal(start, paper.success_rate())  # `cures` learns from training


def test_point_3_the_cross_term_is_a_difference_of_mean_norms():
    scheduler = make(4, budget=64, use_moments=True, num_workers=1)
    plan = scheduler.propose()
    moments = Moments(
        sq_norm_correct=[5.0, 5.0, 5.0, np.nan],
        sq_norm_wrong=[10.0, 10.0, 10.0, 10.0],
        sq_norm_difference=[7.0, 7.0, 7.0, np.nan],  # what the paper would use; must not matter
        norm_correct=[2.0, 2.0, 2.0, np.nan],
        norm_wrong=[3.0, 3.0, 3.0, 3.0],
    )
    scheduler.observe(Outcome.of(plan, [1, 2, 3, 0], moments_B=moments))
    for i, p in enumerate([0.25, 0.5, 0.75]):
        q = 1 - p
        expected = np.sqrt(p * q**2 * 5 + p**2 * q * 10 - p**2 * q**2 * (2.0 - 3.0) ** 2)
        assert scheduler.gradient_std()[i] == pytest.approx(expected, rel=1e-14)
    paper = 0.25 * 0.5 * 5 + 0.25 * 0.5 * 10 - 0.0625 * 7.0  # Eq. 21 at p = 1/2
    assert scheduler.gradient_std()[1] != pytest.approx(np.sqrt(paper), rel=1e-3)
    as_printed = cures.make_scheduler(
        "cures", num_prompts=4, batch_size=4, budget=64, num_subsets=1, use_moments=True
    )
    as_printed.observe(Outcome.of(as_printed.propose(), [1, 2, 3, 0], moments_B=moments))
    sigma, _ = as_printed.gradient_std(np.array([1]))  # 2 of 4: the posterior mean is 1/2 too
    assert sigma == pytest.approx([np.sqrt(paper)], rel=1e-14)


def test_point_4_all_wrong_and_all_right_pilots_get_no_rollouts_for_the_whole_subset():
    scheduler, plan = piloted(PILOTS)
    excluded = np.flatnonzero((PILOTS == 0) | (PILOTS == 4))
    for _ in range(5):
        assert not set(plan.prompt_B) & set(excluded)
        scheduler.observe(Outcome.of(plan, plan.quota_B * 0))
        plan = scheduler.propose()
    paper = cures.make_scheduler(
        "cures", num_prompts=16, batch_size=4, budget=32, num_subsets=1, steps_per_subset=200
    )
    while (step := paper.propose()).is_pilot_B.any():
        paper.observe(Outcome.of(step, PILOTS[step.prompt_B]))
    seen = set()
    for _ in range(150):
        seen |= set(step.prompt_B.tolist())
        paper.observe(Outcome.of(step, np.zeros(len(step), int), np.zeros(len(step), int)))
        step = paper.propose()
    assert set(excluded.tolist()) <= seen  # `cures` still visits them


def paper_step(pilot_B, **settings):
    """The first step of `cures` after the same pilots."""
    defaults = {"batch_size": 4, "budget": 32, "num_subsets": 1}
    scheduler = cures.make_scheduler("cures", num_prompts=pilot_B.size, **(defaults | settings))
    while (plan := scheduler.propose()).is_pilot_B.any():
        scheduler.observe(Outcome.of(plan, pilot_B[plan.prompt_B]))
    return plan


def test_point_5_quotas_per_shard_rounded_alone_multiplied_and_padded():
    scheduler, plan = piloted(PILOTS)
    p = PILOTS / 4
    sigma = np.sqrt(p * (1 - p))  # norms 1: p q^2 + p^2 q = p q
    expected = np.concatenate(
        [np.round(32 * s / s.sum()).astype(int) for s in (sigma[:8], sigma[8:])]
    )
    assert np.array_equal(scheduler._copies_S, expected)
    assert expected.sum() != 64  # rounding one by one does not even keep the two shards' 2 x 32
    # copies of one step are padded to a multiple of the 4 GPUs, then multiplied by rollout.n = 4
    assert plan.num_rollouts % 16 == 0
    padded = plan.quota_B // 4
    short = padded - expected[plan.prompt_B]
    assert set(short.tolist()) <= {0, 1}
    assert padded.sum() - expected[plan.prompt_B].sum() < 4
    raised = plan.prompt_B[short == 1]
    if raised.size:  # on the largest
        assert expected[raised].min() >= np.sort(expected[plan.prompt_B])[-raised.size :].min()
    assert plan.num_rollouts != 32  # the budget of a step is not the budget
    assert paper_step(PILOTS).num_rollouts == 32  # `cures` keeps it


@pytest.mark.parametrize(
    ("copies", "gpus", "expected"),
    [
        ([3, 1, 2], 4, [4, 1, 3]),  # 6 -> 8: the two largest
        ([3, 1, 2], 3, [3, 1, 2]),  # already a multiple
        ([1, 0], 8, [5, 3]),  # 1 -> 8: seven more, round and round from the largest
    ],
)
def test_point_5_padding_by_hand(copies, gpus, expected):
    assert make(num_gpus=gpus).pad(np.array(copies)).tolist() == expected


def test_point_5_uneven_shards_give_the_last_worker_the_remainder():
    scheduler, _ = piloted(np.full(11, 2), num_workers=3)
    # 11 // 3 = 3: shards of 3, 3 and 5 prompts with equal sigma: 32/3 -> 11, 11, and 32/5 -> 6
    assert scheduler._copies_S.tolist() == [11] * 6 + [6] * 5


def test_point_6_no_prompt_twice_in_a_step():
    scheduler, plan = piloted(np.full(16, 2), batch_size=12, budget=96)
    for _ in range(5):
        assert np.unique(plan.prompt_B).size == 12
        assert (plan.draw_B == 1).all()
        scheduler.observe(Outcome.of(plan, plan.quota_B))
        plan = scheduler.propose()
    # `cures` draws with replacement: 12 of 16 prompts are all different in one step of 8000
    assert paper_step(np.full(16, 2), batch_size=12, budget=96).draw_B.max() > 1


def test_a_subset_without_mixed_pilots_falls_back_and_is_counted():
    scheduler, plan = piloted(np.zeros(16, dtype=int))
    assert (plan.quota_B == 4).all()
    assert scheduler.counters["fallback_uniform"] == 1


@pytest.mark.parametrize(
    ("prob_S", "sentence"),
    [
        (np.full(16, np.nan), "prob_S must be probabilities that sum to 1, got nan"),
        (np.full(16, 1 / 8), "prob_S must be probabilities that sum to 1, got 2.0"),
        (np.full(3, 1 / 3), r"prob_S must be of shape \(16,\), got shape \(3,\)"),
    ],
)
def test_damaged_scores_are_refused(prob_S, sentence):
    scheduler, _ = piloted(PILOTS)
    state = scheduler.state_dict()
    make(16).load_state_dict(state)  # undamaged it is fine
    copies_S = np.ones(prob_S.size, dtype=np.int64)
    with pytest.raises(ValueError, match=sentence):
        make(16).load_state_dict({**state, "rule/prob_S": prob_S, "rule/copies_S": copies_S})


def test_cost_of_a_step_is_what_the_docstring_says():
    # without rounding and padding the copies of a shard sum to the budget, so a step's expectation is
    # rollouts_per_copy x num_workers x batch / S x budget = 4 x 2 x 4 / 16 x 32 = 64 rollouts
    costs = []
    for seed in range(300):
        _scheduler, plan = piloted(np.full(16, 2), seed=seed, num_gpus=1)
        costs.append(plan.num_rollouts)
        assert ScriptedHost(np.full(16, 0.5)).outcome(plan).trial_B.sum() == plan.num_rollouts
    assert np.mean(costs) == pytest.approx(64, abs=1e-12)  # equal sigma: no variance at all
