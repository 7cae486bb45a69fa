"""The trainer as a host: bookkeeping of groups, and that all arithmetic is that of `cures`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cures
from cures.records import Selection
from tests.reference_update import log_prob
from tests.train_cases import plan_of, scripted_rollouts, small_host, with_rewards
from train.rollouts import Rollouts


def capture(host):
    """Record what the learner is given instead of training."""
    calls = []

    def update(rollouts, prompts, advantage_R, weight_R, **scalars):
        calls.append((rollouts, prompts, advantage_R, weight_R, scalars))
        return {"loss": 0.0}

    host.learner.update = update
    return calls


def first_tokens(rollouts):
    return (rollouts.token_R_T[:, 0] - 3).tolist()


def test_rollout_reports_what_it_stores():
    host = small_host(task={"dead_always": 0.5})
    plan = plan_of([3, 1, 2, 5])
    outcome = host.rollout(plan)
    stored = host.pending
    assert outcome.trial_B.tolist() == [3, 1, 2, 5]
    for b, group in enumerate(plan.group_B):
        mine = stored.group_R.numpy() == group
        assert mine.sum() == plan.quota_B[b]
        assert stored.reward_R.numpy()[mine].sum() == outcome.success_B[b]
        assert stored.length_R.numpy()[mine].sum() == outcome.token_B[b]
        assert (stored.prompt_R.numpy()[mine] == plan.prompt_B[b]).all()
    assert outcome.policy_step == 0
    assert host.generated == 11
    assert outcome.success_B.sum() > 0, "half the pool is always right"


def test_coins_are_thrown_anew_for_every_plan():
    host = small_host(task={"coins": 1.0}, run={"seed": 6})
    for plan_id in (0, 1):
        host.rollout(plan_of([20, 20], plan_id=plan_id, first_group=10 * plan_id))
    rewards = host.pending.reward_R.numpy().reshape(2, 40)
    for plan_id in (0, 1):
        # the contract of train/seeds.py: tag 1 is the trainer, stream 5 the coins, then the plan
        sequence = np.random.SeedSequence(6, spawn_key=(1, 5, plan_id))
        assert (rewards[plan_id] == (np.random.default_rng(sequence).random(40) < 0.5)).all()
    assert (rewards[0] != rewards[1]).any()


def test_same_plan_same_rollouts_other_plan_others():
    host = small_host()
    for plan_id, first in ((5, 0), (5, 10), (6, 20)):
        host.rollout(plan_of([6, 6], plan_id=plan_id, first_group=first))
    tokens = host.pending.token_R_T.split(12)
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])


def test_update_uses_the_advantages_and_weights_of_cures():
    host = small_host(learner={"estimator": "rloo", "aggregation": "token"})
    calls = capture(host)
    host.pending = scripted_rollouts([0, 0, 1, 1, 1, 0], [1, 0, 1, 1, 0, 0])
    selection = Selection(np.array([1, 0]), np.array([0.25, 0.75]), step_scale=0.5)
    metrics = host.update(selection)
    rollouts, prompts, advantage, weight, scalars = calls[0]
    # groups in the order of the selection, rollouts in the order of generation
    assert first_tokens(rollouts) == [2, 3, 4, 0, 1, 5]
    pool = host.task.pool.prompts
    for i, prompt in enumerate([1, 1, 1, 0, 0, 0]):
        assert torch.equal(prompts.row(i), pool.row(prompt))
    expected = cures.advantages([1, 1, 0, 1, 0, 0], [0, 0, 0, 1, 1, 1], estimator="rloo")
    assert advantage.tolist() == expected.tolist()
    assert weight.tolist() == cures.rollout_weights([0.25, 0.75], [3, 3], [2] * 6, "token").tolist()
    assert scalars["step_scale"] == 0.5
    assert metrics["reward"] == 0.5
    assert len(host.pending) == 0
    assert host.updates == 1


def test_update_tells_the_learner_where_the_run_stands():
    host = small_host()
    calls = capture(host)
    for step, (quota, step_scale) in enumerate([(8, 0.5), (4, 2.0)]):
        host.rollout(plan_of([quota], plan_id=step, first_group=step))
        host.update(Selection(np.array([step]), np.ones(1), step_scale=step_scale))
    # 8 rollouts, then 4 more; updates are counted from 0
    assert calls[0][-1] == {"generated": 8, "step_scale": 0.5, "update_step": 0}
    assert calls[1][-1] == {"generated": 12, "step_scale": 2.0, "update_step": 1}


def test_learning_rate_of_an_update_is_a_function_of_rollouts_generated():
    host = small_host(learner={"learning_rate": 0.1, "final_lr_share": 0.2})  # of 64 rollouts
    rates = []
    for step, step_scale in enumerate([1.0, 0.5]):
        host.rollout(plan_of([8, 8], plan_id=step, first_group=2 * step))
        # the first group alone: rollouts that are not trained on count as well
        selection = Selection(np.array([2 * step]), np.ones(1), step_scale=step_scale)
        rates.append(host.update(selection)["learning_rate"])
        assert {g["lr"] for g in host.learner.optimizer.param_groups} == {rates[-1]}
    # 0.1 (1 - 0.8 * 16 / 64) and 0.1 (1 - 0.8 * 32 / 64) / 2
    assert rates == pytest.approx([0.08, 0.03])


def test_keep_trains_on_the_first_generated_of_each_kind():
    host = small_host()
    calls = capture(host)
    host.pending = scripted_rollouts([0, 0, 0, 0, 0, 7, 7], [0, 1, 1, 0, 1, 1, 0])
    keep = np.array([[5, 0], [2, 1]])  # group 7: all right ones, no wrong; group 0: two and one
    host.update(Selection(np.array([7, 0]), np.array([0.5, 0.5]), keep_G2=keep))
    assert first_tokens(calls[0][0]) == [5, 0, 1, 2]


def test_baseline_of_the_selection_is_used():
    host = small_host(learner={"estimator": "dr_grpo"})
    calls = capture(host)
    host.pending = scripted_rollouts([0, 0, 1], [1, 0, 1])
    host.update(Selection(np.array([1, 0]), np.array([0.5, 0.5]), baseline_G=np.array([0.3, 0.9])))
    assert calls[0][2].tolist() == pytest.approx([0.7, 0.1, -0.9])


def test_groups_without_rollouts_are_counted_and_skipped():
    host = small_host()
    calls = capture(host)
    host.pending = scripted_rollouts([3, 3], [1, 0])
    metrics = host.update(Selection(np.array([2, 3]), np.array([0.5, 0.5])))
    assert metrics["empty_groups"] == 1
    assert calls[0][3].tolist() == [0.25, 0.25]  # weight 0.5 of group 3 over two rollouts


def test_a_selection_of_empty_groups_only():
    host = small_host()
    metrics = host.update(Selection(np.array([2]), np.array([1.0])))
    assert metrics["trained"] == 0
    assert "reward" not in metrics


def test_a_continued_group_keeps_its_rollouts_and_others_wait():
    host = small_host()
    host.rollout(plan_of([2, 3]))
    host.rollout(plan_of([1, 1], plan_id=1))
    assert (host.pending.group_R == 0).sum() == 3
    host.discard(Selection.empty(discard_G=[1]))
    assert host.pending.group_R.tolist() == [0, 0, 0]
    calls = capture(host)
    host.update(Selection(np.array([0]), np.array([1.0])))
    assert len(calls[0][0]) == 3


def squared_head_scores(host, rollouts, decode_temperature):
    """Squared norm of the gradient of each rollout's log-probability by the head, by autograd."""
    return [
        torch.autograd.grad(
            log_prob(
                host.model,
                host.task.pool.prompts.row(int(rollouts.prompt_R[r])),
                rollouts.token_R_T[r, : rollouts.length_R[r]],
                decode_temperature,
            ),
            host.model.lm_head.weight,
        )[0].square().sum().item()
        for r in range(len(rollouts))
    ]  # fmt: skip


def test_moments_are_those_of_the_policy_that_sampled():
    host = small_host(
        task={"coins": 1.0},  # right and wrong rollouts without any training
        rollout={"gradient_moments": True, "decode_temperature": 0.6},
    )
    found = host.rollout(plan_of([8, 8], wants_moments=True)).moments_B
    reward = host.pending.reward_R.numpy().reshape(2, 8)

    def expected(decode_temperature):  # mean |s|^2 over right and over wrong rollouts, per group
        square = np.reshape(squared_head_scores(host, host.pending, decode_temperature), (2, 8))
        return [
            [q[r == kind].mean() for q, r in zip(square, reward, strict=True)]
            for kind in (1.0, 0.0)
        ]

    right, wrong = expected(0.6)
    assert found.sq_norm_correct == pytest.approx(right, rel=1e-4)  # float32 sums
    assert found.sq_norm_wrong == pytest.approx(wrong, rel=1e-4)
    # negative control: scores at temperature 1 are smaller by a good half
    assert (np.array(expected(1.0)) < 0.7 * np.array([right, wrong])).all()


def test_state_round_trip_continues_bit_for_bit():
    first, second = small_host(), small_host()
    plans = [plan_of([4, 4]), plan_of([4, 4], plan_id=1, first_group=2)]
    reward = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    selections = [Selection(np.array(g), np.array([0.5, 0.5])) for g in ([0, 1], [2, 3])]
    for plan, selection in zip(plans, selections, strict=True):
        first.rollout(plan)
        first.pending = with_rewards(first.pending, reward)
        if plan.plan_id == 1:
            second.model.load_state_dict(first.model_tensors())
            second.load_state(
                {k: v.clone() for k, v in first.state_tensors().items()},
                generated=first.generated,
                updates=first.updates,
            )
            assert torch.equal(second.pending.token_R_T, first.pending.token_R_T)
            second.update(selection)
        first.update(selection)
    for key, value in first.state_tensors().items():
        assert torch.equal(value, second.state_tensors()[key]), key
    for key, value in first.model_tensors().items():
        assert torch.equal(value, second.model_tensors()[key]), key
    assert (first.generated, first.updates) == (second.generated, second.updates)


def test_a_state_of_something_else_is_refused():
    with pytest.raises(ValueError, match="got 'critic/weight'"):
        small_host().load_state({"critic/weight": torch.zeros(1)}, generated=0, updates=0)


def test_rollouts_without_groups():
    rollouts = scripted_rollouts([4, 2, 4], [1, 1, 0])
    assert first_tokens(rollouts.without(np.array([4]))) == [1]
    assert len(Rollouts.concatenate([rollouts, Rollouts.empty(3)])) == 3
