"""Records refuse what a host could get wrong, by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cures import Moments, Outcome, Selection
from cures.records import outcome_rows
from tests.scripted import small_scheduler

ARRAYS = ("group_B", "prompt_B", "quota_B", "is_pilot_B", "draw_B", "prob_B")


@pytest.fixture
def plan():
    return small_scheduler("uniform").propose()  # 4 groups of 8


def test_outcome_of_a_whole_plan(plan):
    outcome = Outcome.of(plan, [1, 2, 3, 4])
    assert outcome.trial_B.tolist() == [8, 8, 8, 8]
    assert outcome.is_final


def test_from_rewards_counts_by_group(plan):
    group_R = np.repeat(plan.group_B[[2, 0]], [3, 2])
    outcome = Outcome.from_rewards(plan, [1, 0, 1, 1, 1], group_R)
    assert outcome.success_B.tolist() == [2, 0, 2, 0]
    assert outcome.trial_B.tolist() == [2, 0, 3, 0]  # the rest is missing, not wrong
    graded = Outcome.from_rewards(plan, [0.9, 0.1], plan.group_B[:2], threshold=0.5)
    assert graded.success_B.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("reward", "sentence"),
    [
        ([0.5], r"reward_R must be 0 or 1 \(give threshold= .*got 0.5"),
        ([float("nan")], "reward_R must be finite"),
        ([-1.0], "reward_R must be 0 or 1"),
    ],
)
def test_other_rewards_are_refused_by_name(plan, reward, sentence):
    with pytest.raises(ValueError, match=sentence):
        Outcome.from_rewards(plan, reward, plan.group_B[:1])


def test_rewards_of_strangers(plan):
    with pytest.raises(ValueError, match="group_R must be a group of plan 0, got 77"):
        Outcome.from_rewards(plan, [1], [77])


@pytest.mark.parametrize(
    ("success", "trial", "sentence"),
    [
        ([1, 1, 1], None, r"success_B must be of shape \(4,\), got shape \(3,\)"),
        ([1.0, 1.0, 1.0, 1.0], None, "success_B must be a one-dimensional integer array"),
        ([-1, 0, 0, 0], None, r"success_B must be in \[0, inf\), got -1 at index 0"),
        ([5, 0, 0, 0], [4, 8, 8, 8], "success_B must be at most trial_B, which is 4 for group 0"),
        ([True, True, True, True], None, "integer array"),
    ],
)
def test_bad_counts_are_named(plan, success, trial, sentence):
    with pytest.raises(ValueError, match=sentence):
        Outcome.of(plan, success, trial)


def test_mixed_groups_by_hand():
    success, trial = [0, 0, 1, 1, 2, 3], [0, 2, 1, 2, 3, 3]
    outcome = Outcome(0, np.arange(6), success, trial)
    assert outcome.is_mixed_B.tolist() == [False, False, False, True, True, False]


def test_groups_of_an_outcome_are_unique():
    with pytest.raises(ValueError, match="group_B must be unique"):
        Outcome(0, [1, 1], [0, 0], [1, 1])


def test_moments_shapes_and_ranges(plan):
    nan = [np.nan] * 4
    moments = Moments([1, 2, 3, np.nan], nan, [-1, 0, 1, 2], nan, nan)
    assert len(moments) == 4
    assert moments.take(np.array([2])).sq_norm_correct.tolist() == [3.0]
    with pytest.raises(ValueError, match="sq_norm_wrong must be in"):
        Moments(nan, [-1, 0, 0, 0], nan, nan, nan)
    with pytest.raises(ValueError, match="norm_correct must be finite"):
        Moments(nan, nan, nan, [np.inf, 0, 0, 0], nan)
    with pytest.raises(ValueError, match="moments_B must be for 4 groups"):
        Outcome.of(plan, [0, 0, 0, 0], moments_B=Moments([1.0], [1.0], [1.0], [1.0], [1.0]))


def test_records_are_values(plan):
    success = np.array([1, 2, 3, 4])
    outcome = Outcome.of(plan, success)
    success[0] = 99
    assert outcome.success_B[0] == 1  # private copy
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.plan_id = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.success_B = success
    told = Outcome(0, [1], [1], [2], token_B=[30])
    chosen = Selection([1], [1.0], keep_G2=[[1, 1]], baseline_G=[0.5])
    for array in (told.token_B, chosen.keep_G2, chosen.baseline_G):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9


def test_rows_of_a_plan_are_found_in_any_order(plan):
    group = plan.group_B[[2, 0, 2]]
    assert plan.rows(group, "here", "group").tolist() == [2, 0, 2]
    beyond = int(plan.group_B[-1]) + 1
    with pytest.raises(ValueError, match=f"here: group must be a group of plan 0, got {beyond}"):
        plan.rows(np.append(group, beyond), "here", "group")
    empty = dataclasses.replace(plan, **{f: getattr(plan, f)[:0] for f in ARRAYS})
    assert Outcome.from_rewards(empty, [], []).trial_B.size == 0
    for stranger in (0, -1):
        with pytest.raises(ValueError, match=f"group_R must be .*, got {stranger}"):
            Outcome.from_rewards(empty, [1], [stranger])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"group_G": [1, 2], "weight_G": [0.5]}, r"weight_G must be of shape \(2,\)"),
        ({"group_G": [1], "weight_G": [-1.0]}, "weight_G must be in"),
        ({"group_G": [1], "weight_G": [1.0], "step_scale": -1.0}, "step_scale must be"),
        ({"group_G": [1, 1], "weight_G": [0.5, 0.5]}, "group_G must be unique"),
        (
            {"group_G": [1], "weight_G": [1.0], "discard_G": [1]},
            "discard_G must be unique and apart",
        ),
        ({"group_G": [1], "weight_G": [1.0], "discard_G": [2, 2]}, "discard_G must be unique"),
        (
            {"group_G": [1], "weight_G": [1.0], "keep_G2": [[1]]},
            r"keep_G2 must be counts of shape \(1, 2\)",
        ),
        ({"group_G": [1], "weight_G": [1.0], "keep_G2": [[1, -1]]}, "keep_G2 must be counts"),
        ({"group_G": [1], "weight_G": [1.0], "baseline_G": [np.nan]}, "baseline_G must be finite"),
    ],
)
def test_selections_are_checked(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Selection(**arguments)


def test_an_empty_selection_is_no_update():
    assert not Selection.empty().is_update
    assert Selection([1], [1.0], keep_G2=[[1, 2]]).is_update


def test_outcome_rows_are_the_evidence_that_came_back(plan):
    outcome = Outcome.of(plan, [1, 0, 3, 0], [8, 0, 5, 2])
    rows = list(outcome_rows(plan, outcome, step=7))
    assert rows == [
        {"prompt": int(plan.prompt_B[0]), "step": 7, "success": 1, "trial": 8, "is_pilot": False},
        {"prompt": int(plan.prompt_B[2]), "step": 7, "success": 3, "trial": 5, "is_pilot": False},
        {"prompt": int(plan.prompt_B[3]), "step": 7, "success": 0, "trial": 2, "is_pilot": False},
    ]
