"""What verl rolls out is what was planned; what it would learn from is what `cures` computes.

Ray, TransferQueue and the loop of the trainer are verl's own; the language model is not there: see
``tiny.py``.
"""

from __future__ import annotations

import re
from importlib import import_module, metadata, reload

import numpy as np
import pytest
import ray
import torch
from verl.trainer.ppo.v1 import get_trainer_cls

import cures
from cures.records import Outcome, Plan
from cures.storage import read_jsonl
from tests.scripted import same_plan
from tests.told_rewards import POOL, PROMPTS, RATE_N, ROWS, overheard, rewards_of
from tests.verl.cluster import NODES
from tests.verl.tiny import Tiny, configuration, train, write_prompts

SAMPLER = "trainer.v1.sampler.sampler_kwargs"
PILOTED = "settings={num_subsets: 4, pilots: 3, steps_per_subset: 2}"


@pytest.fixture
def run(manager, model, tmp_path):
    """Train so many steps under a scheduler; everything that it heard is kept with the trainer."""

    def running(steps, *overrides, scheduler="mopps", folder="one", failing=0, outputs=1):
        write_prompts(tmp_path / "train.parquet", failing=failing, outputs=outputs)
        write_prompts(tmp_path / "val.parquet")
        named = [] if scheduler is None else [f"{SAMPLER}.scheduler={scheduler}"]
        config = configuration(model, tmp_path, *named, *overrides)
        config.trainer.default_local_dir = str(tmp_path / folder)
        with overheard() as heard:
            trainer = train(manager, config, steps)
        trainer.heard = heard
        trainer.plans = [record for record in heard if isinstance(record, Plan)]
        trainer.outcomes = [record for record in heard if isinstance(record, Outcome)]
        return trainer

    return running


def rolled_out(batch):
    """Prompts of a batch with their numbers of rollouts, without verl's padding."""
    prompt_R = batch.prompt_R[~batch.is_padding_R]
    return dict(zip(*np.unique(prompt_R, return_counts=True), strict=True))


def in_plan_order(plan, batch):
    """Rows of the batch in the order of the plan: by prompt, then by rollout."""
    slot_B = {prompt: slot for slot, prompt in enumerate(plan.prompt_B.tolist())}
    slot_R = np.array([slot_B[prompt] for prompt in batch.prompt_R.tolist()])
    rows = np.lexsort((batch.rollout_R, slot_R))
    return rows[~batch.is_padding_R[rows]]


def check_batch(batch, plan, *, estimator="grpo", aggregation="prompt"):
    """Group sizes as planned; rewards by the rule, advantages as computed here from these."""
    assert rolled_out(batch) == dict(zip(plan.prompt_B, plan.quota_B, strict=True))
    rows = in_plan_order(plan, batch)
    reward_R = rewards_of(plan)
    assert batch.reward_R[rows].tolist() == reward_R.tolist()
    group_R = np.repeat(plan.group_B, plan.quota_B)
    expected_R = cures.advantages(reward_R, group_R, estimator=estimator)
    if aggregation == "prompt":
        # Eq. 16 by hand: draws / (all draws x n_g), times the rows of the mean that is the loss
        share_B = plan.draw_B / (plan.draw_B.sum() * plan.quota_B)
        expected_R = expected_R * batch.prompt_R.size * np.repeat(share_B, plan.quota_B)
    found_R = np.array([batch.advantages_R[row][0] for row in rows])
    assert np.abs(found_R - expected_R).max() < 1e-6
    assert np.abs(expected_R).max() > 0.1  # there is something to learn
    return found_R


def test_plans_are_obeyed_and_advantages_are_those_of_cures(run):
    trainer = run(5)
    assert len(trainer.batches) == len(trainer.plans) == 5
    sizes = set()
    for batch, plan in zip(trainer.batches, trainer.plans, strict=True):
        found_R = check_batch(batch, plan)
        sizes |= set(plan.quota_B.tolist())
        # the control: the same rewards of groups whose borders are shifted by a row
        shifted_R = np.roll(np.repeat(plan.group_B, plan.quota_B), 1)
        assert np.abs(found_R - cures.advantages(rewards_of(plan), shifted_R)).max() > 0.1
    assert sizes == {ROWS // PROMPTS}  # of mopps all groups are equal; of others see below
    # no staleness: every plan is made after the outcome of the one before
    assert [type(record) for record in trainer.heard] == [Plan, Outcome] * 5
    assert trainer.logged[-1]["cures/generated"] == 5 * ROWS
    assert trainer.logged[-1]["cures/missing"] == 0


def test_workers_are_on_several_nodes(manager):
    """As they are on a cluster: what is tested here goes through processes on both."""
    asked = [worker.__ray_call__.remote(_node_of) for worker in manager.agent_loop_workers]
    assert len(set(ray.get(asked))) == NODES > 1


def _node_of(worker):
    return ray.get_runtime_context().get_node_id()


def test_unequal_groups(run):
    trainer = run(8, scheduler="knapsack")  # a pass takes 5: quotas are then known to be unequal
    for batch, plan in zip(trainer.batches, trainer.plans, strict=True):
        check_batch(batch, plan)
    assert len({quota for plan in trainer.plans for quota in plan.quota_B.tolist()}) > 3


ESTIMATORS = [
    # algorithm.*, settings of the scheduler, what cures calls it, weights
    ("adv_estimator=cures", "{}", "grpo", "rollout"),
    ("adv_estimator=cures", "{estimator: rloo}", "rloo", "prompt"),
    ("adv_estimator=cures", "{estimator: reinforce++-baseline}", "reinforce++-baseline", "rollout"),
    ("adv_estimator=grpo", "{}", "grpo", "rollout"),
    ("norm_adv_by_std_in_grpo=False", "{}", "dr_grpo", "rollout"),
    ("adv_estimator=rloo", "{}", "rloo", "rollout"),
]


@pytest.mark.parametrize(("algorithm", "settings", "estimator", "aggregation"), ESTIMATORS)
def test_estimators_are_those_of_cures_by_either_name(
    algorithm, settings, estimator, aggregation, run
):
    own = [] if "adv_estimator" in algorithm else ["algorithm.adv_estimator=grpo"]
    trainer = run(
        3, f"algorithm.{algorithm}", *own, f"+{SAMPLER}.settings={settings}",
        f"+{SAMPLER}.aggregation={aggregation}", scheduler="adaptive",
    )  # fmt: skip
    assert trainer.plans
    for batch, plan in zip(trainer.batches, trainer.plans, strict=True):
        check_batch(batch, plan, estimator=estimator, aggregation=aggregation)


@pytest.mark.parametrize("name", ["cures", "gvm"])
def test_pilots_are_rolled_out_and_never_trained_on(name, run):
    trainer = run(4, f"+{SAMPLER}.{PILOTED}", scheduler=name)
    is_pilot = [bool(plan.is_pilot_B.all()) for plan in trainer.plans]
    assert is_pilot == [True, False, False, True, False, False]  # a subset is trained on twice
    updates = [plan for plan in trainer.plans if not plan.is_pilot_B.any()]
    assert len(trainer.batches) == len(updates) == 4
    for batch, plan in zip(trainer.batches, updates, strict=True):
        check_batch(batch, plan)
    assert [type(record) for record in trainer.heard] == [Plan, Outcome] * 6
    # a pilot plan has 10 prompts: two batches of verl's, which rows of no rollouts fill up
    pilots = [plan for plan in trainer.plans if plan.is_pilot_B.all()]
    assert [len(plan) for plan in pilots] == [POOL // 4] * 2
    assert trainer.submitted == [PROMPTS] * sum(-(-len(plan) // PROMPTS) for plan in trainer.plans)
    for plan, outcome in zip(trainer.plans, trainer.outcomes, strict=True):
        assert outcome.trial_B.tolist() == plan.quota_B.tolist()
    logged = trainer.logged[-1]
    assert logged["cures/pilots"] == 2 * POOL // 4 * 3
    assert logged["cures/generated"] == sum(plan.num_rollouts for plan in trainer.plans)
    if name == "cures":  # fillers take nothing from the budget
        assert [plan.num_rollouts for plan in updates] == [ROWS] * 4


def test_failed_rollouts_are_missing_and_not_wrong(run):
    trainer = run(4, failing=1)  # the first rollout of every fifth prompt raises
    lost = 0
    for batch, plan, outcome in zip(trainer.batches, trainer.plans, trainer.outcomes, strict=True):
        fails_B = (plan.prompt_B % 5 == 0).astype(int)
        assert dict(zip(outcome.group_B, outcome.trial_B, strict=True)) == dict(
            zip(plan.group_B, plan.quota_B - fails_B, strict=True)
        )
        group_R = np.repeat(plan.group_B, plan.quota_B)
        place_R = np.concatenate([np.arange(quota) for quota in plan.quota_B])
        is_back_R = ~((np.repeat(fails_B, plan.quota_B) == 1) & (place_R == 0))
        reward_R, group_R = rewards_of(plan)[is_back_R], group_R[is_back_R]
        rows = in_plan_order(plan, batch)
        assert batch.reward_R[rows].tolist() == reward_R.tolist()
        # Eq. 16 by hand over what came back; verl pads the batch to its size, and the mean counts that
        size_R = np.repeat(plan.quota_B - fails_B, plan.quota_B - fails_B)
        expected_R = cures.advantages(reward_R, group_R) * ROWS / (len(plan) * size_R)
        found_R = np.array([batch.advantages_R[row][0] for row in rows])
        assert batch.prompt_R.size == ROWS
        assert np.abs(found_R - expected_R).max() < 1e-6
        padding = [batch.advantages_R[row] for row in np.flatnonzero(batch.is_padding_R)]
        assert len(padding) == fails_B.sum()
        assert not any(advantage.any() for advantage in padding)
        lost += int(fails_B.sum())
    assert lost > 0
    assert trainer.logged[-1]["cures/missing"] == lost
    assert trainer.logged[-1]["cures/generated"] == 4 * ROWS


@pytest.mark.parametrize("name", ["adaptive", "cures"])
def test_a_run_resumes_with_the_plan_that_would_have_come_next(name, run, tmp_path):
    given = [f"+{SAMPLER}.{PILOTED}"] if name == "cures" else []
    whole = run(6, *given, scheduler=name, folder="whole")
    first = run(3, *given, "trainer.save_freq=3", scheduler=name, folder="parts")
    second = run(6, *given, scheduler=name, folder="parts")  # verl finds the checkpoint itself
    assert [batch.step for batch in second.batches] == [4, 5, 6]
    parts = first.plans + second.plans
    assert len(parts) == len(whole.plans)
    assert all(map(same_plan, parts, whole.plans))
    for one, other in zip(first.batches + second.batches, whole.batches, strict=True):
        assert rolled_out(one) == rolled_out(other)
    # the outcomes of both parts are in one file, once
    rows = [read_jsonl(tmp_path / folder / "outcomes.jsonl") for folder in ("parts", "whole")]
    assert rows[0] == rows[1]
    assert len(rows[1]) == sum(len(plan) for plan in whole.plans)
    # the control: from the start again these are other plans
    assert not all(map(same_plan, second.plans, whole.plans))


def test_a_checkpoint_without_state_is_refused(run, tmp_path):
    run(2, "trainer.save_freq=2")
    (tmp_path / "one" / "global_step_2" / "cures.npz").unlink()
    with pytest.raises(
        ValueError, match="the checkpoint to resume must be a checkpoint with cures.npz"
    ):
        run(4)


def test_columns_of_the_data_set_are_settings(run):
    trainer = run(
        3, f"+{SAMPLER}.columns={{prior_success_rate_N: pass_rate}}",
        f"+{SAMPLER}.settings={{total_rollouts: 600, num_stages: 2}}", scheduler="staged",
    )  # fmt: skip
    easiest = np.argsort(-RATE_N)[: POOL // 2]  # the first of two stages
    assert all(np.isin(plan.prompt_B, easiest).all() for plan in trainer.plans)
    for batch, plan in zip(trainer.batches, trainer.plans, strict=True):
        check_batch(batch, plan)


def test_an_agent_of_several_outputs_is_one_rollout(run):
    trainer = run(3, "algorithm.adv_estimator=grpo", outputs=2)
    for batch, plan, outcome in zip(trainer.batches, trainer.plans, trainer.outcomes, strict=True):
        assert outcome.trial_B.tolist() == plan.quota_B.tolist()
        assert rolled_out(batch) == dict(zip(plan.prompt_B, 2 * plan.quota_B, strict=True))
    with pytest.raises(ValueError, match="must be 'grpo' for agents of several outputs"):
        run(1, outputs=2, folder="two")


def test_validation_is_not_planned(run):
    trainer = run(4, "trainer.test_freq=2", "trainer.val_before_train=True")
    assert [type(record) for record in trainer.heard] == [Plan, Outcome] * 4
    scores = [metrics for metrics in trainer.logged if any("val-core" in key for key in metrics)]
    assert len(scores) == 2
    plain = run(4, folder="two")
    assert all(map(same_plan, trainer.plans, plain.plans))


STOCK = [
    "algorithm.adv_estimator=grpo", "trainer.checkpoint_callback_class=null",
    "data.custom_cls.path=null", "data.custom_cls.name=null",
    "trainer.v1.sampler.custom_sampler.path=null", "trainer.v1.sampler.custom_sampler.name=null",
]  # fmt: skip


def test_a_shadow_changes_nothing(run, tmp_path):
    shadow = run(
        4, "algorithm.adv_estimator=grpo", f"+{SAMPLER}.shadow=True",
        f"+{SAMPLER}.settings={{screening_size: 2}}", scheduler="speed",
    )  # fmt: skip
    stock = run(4, *STOCK, scheduler=None, folder="two")
    assert not stock.heard
    for one, other in zip(shadow.batches, stock.batches, strict=True):
        orders = [np.lexsort((batch.rollout_R, batch.prompt_R)) for batch in (one, other)]
        assert one.prompt_R[orders[0]].tolist() == other.prompt_R[orders[1]].tolist()
        for a, b in zip(*orders, strict=True):
            assert one.reward_R[a] == other.reward_R[b]
            assert np.array_equal(one.advantages_R[a], other.advantages_R[b])
    rows = read_jsonl(tmp_path / "one" / "outcomes.jsonl")
    mixed = sum(row["trial"] for row in rows if 0 < row["success"] < row["trial"])
    assert shadow.logged[-1]["cures/measured_mixed"] == pytest.approx(mixed / (4 * ROWS))
    assert {"cures/shadow_mixed", "cures/training_mixed"} <= shadow.logged[-1].keys()
    chosen = read_jsonl(tmp_path / "one" / "shadow_plans.jsonl")
    assert sum(sum(row["quotas"]) for row in chosen) >= 4 * ROWS


REFUSED = [
    (["trainer.v1.trainer_mode=colocate_async"], "trainer.v1.trainer_mode must be 'sync'"),
    (
        [
            "trainer.v1.trainer_mode=separate_async",
            "actor_rollout_ref.rollout.nnodes=1",
            "trainer.v1.separate_async.parameter_sync_step=1",
            "actor_rollout_ref.rollout.checkpoint_engine.backend=nccl",
        ],
        "trainer.v1.trainer_mode must be 'sync'",
    ),
    (["data.dataloader_num_workers=8"], "data.dataloader_num_workers must be 0: workers fetch"),
    (["trainer.checkpoint_callback_class=null"], "trainer.checkpoint_callback_class must be "),
    (["data.custom_cls.path=null"], "data.custom_cls must be CuresDataset of pkg://cures"),
    (STOCK[4:], "trainer.v1.sampler.custom_sampler must be CuresReplayBuffer of pkg://cures"),
]


@pytest.mark.parametrize(("overrides", "sentence"), REFUSED)
def test_verl_does_not_begin_where_plans_would_not_be_obeyed(
    overrides, sentence, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("cures.integrations.verl.session._current", None)
    write_prompts(tmp_path / "train.parquet")
    write_prompts(tmp_path / "val.parquet")
    config = configuration(model, tmp_path, *overrides)
    kind = get_trainer_cls(config.trainer.v1.trainer_mode)  # verl's choice, by its own registry
    with pytest.raises(ValueError, match=re.escape(sentence)):
        (Tiny if config.trainer.v1.trainer_mode == "sync" else kind)(config).init()


@pytest.mark.parametrize("version", ["0.8.0", "0.9.0", "0.10.0"])
def test_other_releases_are_refused_in_one_sentence(version, monkeypatch):
    monkeypatch.delenv("CURES_UNTESTED_VERSIONS", raising=False)
    module = import_module("cures.integrations.verl")
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version if name == "verl" else real(name))
    with pytest.raises(
        ImportError, match=rf"^cures.integrations.verl: needs verl 0.9 from 0.9.1 on, got {version}"
    ):
        reload(module)


def test_padding_is_masked_in_the_loss_that_the_weights_are_for():
    # verl's own loss on rows of which the last two are padding: the mean is over all of them
    from verl.trainer.ppo.core_algos import agg_loss

    loss = torch.tensor([[1.0, 3.0], [2.0, 2.0], [5.0, 5.0], [7.0, 7.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = agg_loss(loss, mask, "seq-mean-token-mean", global_batch_size=4)
    assert float(found) == pytest.approx((2.0 + 2.0) / 4)  # token means 2 and 2, by hand
