"""A plan as rows, rewards as advantages."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.advantage import ESTIMATORS
from cures.integrations.generation_batch import GenerationBatch, single_precision
from cures.records import Selection
from tests.scripted import small_scheduler


def plan_of(quota_B, draw_B=None):
    size = len(quota_B)
    return cures.Plan(
        plan_id=0,
        group_B=np.arange(10, 10 + size),
        prompt_B=np.arange(size)[::-1].astype(np.int64),
        quota_B=np.array(quota_B),
        is_pilot_B=np.zeros(size, dtype=bool),
        draw_B=np.ones(size, dtype=np.int64) if draw_B is None else np.array(draw_B),
        prob_B=np.full(size, np.nan),
    )


def test_rows_are_in_the_plans_order():
    batch = GenerationBatch.of(plan_of([2, 3]))
    assert batch.prompt_R.tolist() == [1, 1, 0, 0, 0]
    assert batch.group_R.tolist() == [10, 10, 11, 11, 11]
    assert len(batch) == 5
    assert batch.fillers == 0


def test_fillers_make_a_multiple_and_are_no_evidence():
    batch = GenerationBatch.of(plan_of([2, 3]), multiple=4)
    assert batch.prompt_R.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert batch.group_R.tolist() == [10, 10, 11, 11, 11, -1, -1, -1]
    assert batch.fillers == 3
    reward_R = [1, 0, 1, 0, 0, 0.5, 1, np.nan]  # a filler's reward is not looked at
    outcome = batch.outcome(reward_R)
    assert outcome.success_B.tolist() == [1, 1]
    assert outcome.trial_B.tolist() == [2, 3]
    selection = Selection(batch.plan.group_B, np.array([0.5, 0.5]))
    lesson = batch.lesson(selection, reward_R, estimator="rloo")
    # rloo by hand: (r - mean) n / (n - 1); weights 8 rows x 1/2 / n
    assert lesson.advantage_R.tolist() == pytest.approx([1, -1, 1, -0.5, -0.5, 0, 0, 0])
    assert lesson.weight_R.tolist() == pytest.approx([2, 2, 4 / 3, 4 / 3, 4 / 3, 0, 0, 0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_groups_are_plain_grpo(estimator):
    # every weight is 1, so that a trainer's own mean over rows is what it was
    batch = GenerationBatch.of(plan_of([4, 4, 4]))
    reward_R = np.array([1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1.0])
    selection = Selection(batch.plan.group_B, np.full(3, 1 / 3))
    for aggregation in ("prompt", "rollout"):
        lesson = batch.lesson(selection, reward_R, estimator=estimator, aggregation=aggregation)
        assert lesson.weight_R.tolist() == pytest.approx([1.0] * 12)
        expected = cures.advantages(reward_R, batch.group_R, estimator=estimator)
        assert np.array_equal(lesson.advantage_R, expected)


def test_weights_are_those_of_rollout_weights():
    # a prompt drawn twice counts twice; groups in any order; a rollout that is missing
    batch = GenerationBatch.of(plan_of([2, 6, 4], draw_B=[1, 2, 1]))
    selection = Selection(np.array([12, 10, 11]), np.array([0.25, 0.25, 0.5]))
    reward_R = np.array([1, 0, 1, 1, 0, 0, np.nan, 1, 0, 1, 0, 0])
    by_prompt = batch.lesson(selection, reward_R, estimator="dr_grpo").weight_R
    # 12 rows x weight / n: 12/4/2, 12/2/5, 12/4/4
    assert by_prompt.tolist() == pytest.approx([1.5] * 2 + [1.2] * 4 + [0] + [1.2] + [0.75] * 4)
    by_rollout = batch.lesson(
        selection, reward_R, estimator="dr_grpo", aggregation="rollout"
    ).weight_R
    # 12 rows x 3 groups x weight / 11 rollouts
    w = 12 * 3 / 11 / 4
    assert by_rollout.tolist() == pytest.approx([w] * 2 + [2 * w] * 4 + [0] + [2 * w] + [w] * 4)


def test_missing_rollouts_have_no_advantage():
    batch = GenerationBatch.of(plan_of([3, 3]))
    selection = Selection(batch.plan.group_B, np.array([0.5, 0.5]))
    reward_R = [1, np.nan, 0, np.nan, np.nan, np.nan]
    outcome = batch.outcome(reward_R)
    assert outcome.trial_B.tolist() == [2, 0]
    lesson = batch.lesson(selection, reward_R, estimator="dr_grpo")
    assert lesson.advantage_R.tolist() == [0.5, 0.0, -0.5, 0.0, 0.0, 0.0]
    assert lesson.weight_R.tolist() == pytest.approx([1.5, 0, 1.5, 0, 0, 0])


def test_nothing_selected_nothing_taught():
    batch = GenerationBatch.of(plan_of([3, 3]))
    lesson = batch.lesson(Selection.empty([10, 11]), [1, 0, 1, 0, 0, 1], estimator="grpo")
    assert not lesson.advantage_R.any()
    assert not lesson.weight_R.any()


def test_a_baseline_of_the_selection_is_used():
    batch = GenerationBatch.of(plan_of([2, 2]))
    selection = Selection(np.array([11, 10]), np.full(2, 0.5), baseline_G=np.array([0.25, 0.75]))
    lesson = batch.lesson(selection, [1, 0, 1, 0], estimator="dr_grpo")
    assert lesson.advantage_R.tolist() == [0.25, -0.75, 0.75, -0.25]


def test_a_threshold_makes_right_and_wrong():
    batch = GenerationBatch.of(plan_of([2, 2]))
    graded = [0.9, 0.1, 0.5, 0.4]
    with pytest.raises(ValueError, match=r"reward_R must be 0 or 1 \(give threshold="):
        batch.outcome(graded)
    assert batch.outcome(graded, threshold=0.5).success_B.tolist() == [1, 1]
    selection = Selection(batch.plan.group_B, np.full(2, 0.5))
    lesson = batch.lesson(selection, graded, estimator="dr_grpo", threshold=0.5)
    assert lesson.advantage_R.tolist() == [0.5, -0.5, 0.5, -0.5]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.9, 1.0])
def test_a_float32_reward_at_the_threshold_is_right(threshold):
    # trainers hold rewards in float32: 0.7 and 0.9 are less there than in float64
    batch = GenerationBatch.of(plan_of([2]))
    reward_R = np.array([threshold, np.nextafter(np.float32(threshold), np.float32(0))], np.float32)
    outcome = batch.outcome(reward_R, threshold=single_precision(threshold))
    assert outcome.success_B.tolist() == [1]


def test_rows_of_a_trainers_own_choice():
    batch = GenerationBatch.watched([7, 7, 2, 7, 2])
    assert batch.prompt_R.tolist() == batch.group_R.tolist() == [7, 7, 2, 7, 2]
    outcome = batch.outcome([1, np.nan, 0, 0, 1])
    assert outcome.group_B.tolist() == batch.plan.prompt_B.tolist() == [2, 7]
    assert (outcome.success_B.tolist(), outcome.trial_B.tolist()) == ([1, 1], [2, 2])
    assert batch.plan.quota_B.tolist() == [2, 3]


def test_refusals():
    batch = GenerationBatch.of(plan_of([2, 2]))
    with pytest.raises(ValueError, match="reward_R must be of shape"):
        batch.outcome([1, 0])
    with pytest.raises(ValueError, match="selection.group_G must be of plan 0 alone"):
        batch.lesson(Selection(np.array([9]), np.ones(1)), [1, 0, 1, 0], estimator="grpo")
    some = Selection(np.array([10]), np.ones(1), keep_G2=np.array([[1, 1]]))
    with pytest.raises(ValueError, match="selection.keep_G2 must be None"):
        batch.lesson(some, [1, 0, 1, 0], estimator="grpo")
    with pytest.raises(ValueError, match="aggregation must be one of"):
        batch.lesson(some, [1, 0, 1, 0], estimator="grpo", aggregation="token")
    with pytest.raises(ValueError, match="multiple must be an int"):
        GenerationBatch.of(plan_of([2]), multiple=0)
    empty = plan_of([2])
    with pytest.raises(ValueError, match="plan must be of at least one rollout"):
        GenerationBatch.of(cures.Plan(3, *(getattr(empty, f)[:0] for f in (
            "group_B", "prompt_B", "quota_B", "is_pilot_B", "draw_B", "prob_B"
        ))))  # fmt: skip


@pytest.mark.parametrize("name", ["uniform", "knapsack", "cures", "mopps"])
def test_a_schedulers_run_through_batches(name):
    # what comes out of `observe` is what `lesson` needs, and all of it is in the ledger
    scheduler = small_scheduler(name)
    rate_N = np.linspace(0.1, 0.9, 48)
    for step in range(12):
        batch = GenerationBatch.of(scheduler.propose(), multiple=3)
        luck = np.random.default_rng(step).random(len(batch))
        reward_R = (luck < rate_N[batch.prompt_R]).astype(float)
        selection = scheduler.observe(batch.outcome(reward_R))
        lesson = batch.lesson(selection, reward_R, estimator="grpo")
        if selection.is_update:  # Eq. 16: the weights of all rows, of their mean, are 1
            assert lesson.weight_R.mean() == pytest.approx(1.0)
    assert scheduler.ledger.pending == 0
