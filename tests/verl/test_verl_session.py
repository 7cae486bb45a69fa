"""The hooks' shared state on verl's own configuration and estimators; no Ray, nothing is rolled out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, get_adv_estimator_fn

import cures
from cures.integrations.verl import Session
from cures.integrations.verl.agreement import Options
from tests.scripted import same_plan
from tests.verl.tiny import POOL, PROMPTS, RATE_N, ROWS, configuration, rewards_of

SAMPLER = "trainer.v1.sampler.sampler_kwargs"


def session_of(tmp_path, *overrides, resume_from=None, **options):
    config = configuration(Path("model"), tmp_path, *overrides)
    session = Session(config, Options.of({"scheduler": "mopps", **options}), resume_from)
    session.has_replay_buffer = True
    session.start(POOL, lambda name: {"pass_rate": RATE_N}[name])
    return session


def step(session, number):
    """What verl does in one: fetch rows, roll out, report. The plan, and the rows fetched."""
    rows = session.fetch(PROMPTS)
    rows += session.fetch(session.rows_to_fetch)
    session.rolled_out()
    plan = session._plan
    group_R = np.repeat(plan.group_B, plan.quota_B)
    uid_R = [f"uid{group}" for group in group_R]
    return plan, rows, session.observe(uid_R, group_R, rewards_of(plan), step=number)


@pytest.mark.parametrize("name", ["uniform", "mopps", "knapsack", "adaptive", "cures", "gvm"])
def test_rows_are_the_plan_and_fillers_keep_their_number(name, tmp_path):
    settings = (
        {"num_subsets": 4, "pilots": 3, "steps_per_subset": 2} if name in ("cures", "gvm") else {}
    )
    session = session_of(tmp_path, scheduler=name, settings=settings)
    for number in range(8):
        plan, rows, is_update = step(session, number)
        planned = [(r.prompt, r.group, r.rollouts) for r in rows if r.rollouts]
        columns = (plan.prompt_B.tolist(), plan.group_B.tolist(), plan.quota_B.tolist())
        assert planned == list(zip(*columns, strict=True))
        assert len(rows) % PROMPTS == 0
        assert all(row.group == -1 for row in rows if not row.rollouts)
        assert is_update is not bool(plan.is_pilot_B.any())
        if is_update and name != "gvm":
            assert sum(row.rollouts for row in rows) == ROWS
    assert session.scheduler.ledger.missing == session.scheduler.ledger.pending == 0


def shuffled(session, plan, padding=3):
    """Rows in an order of verl's, with its padding: names, rewards by token, mask."""
    order = np.random.default_rng(1).permutation(plan.num_rollouts)
    group_R = np.repeat(plan.group_B, plan.quota_B)[order]
    reward_R = rewards_of(plan)[order]
    uid_R = np.array([f"uid{group}" for group in group_R] + ["pad"] * padding, dtype=object)
    rewards = torch.zeros(uid_R.size, 3)
    rewards[: reward_R.size, 1] = torch.from_numpy(reward_R).float()
    mask = torch.ones(uid_R.size, 3)
    mask[reward_R.size :] = 0.0
    return group_R, reward_R, uid_R, rewards, mask


def test_advantages_are_those_of_cures_in_any_order(tmp_path):
    build = configuration(Path("model"), tmp_path, f"++{SAMPLER}.scheduler=mopps")
    session = build_checkpoint_callback(build).session  # the session of this process, as in verl
    session.has_replay_buffer = True
    session.start(POOL, lambda name: RATE_N)
    for number in range(4):
        plan, _, _ = step(session, number)
    group_R, reward_R, uid_R, rewards, mask = shuffled(session, plan)
    found, _ = get_adv_estimator_fn("cures")(
        token_level_rewards=rewards, response_mask=mask, index=uid_R, config=None
    )
    size_R = np.array([plan.quota_B[plan.group_B == group][0] for group in group_R])
    # Eq. 16 by hand: 1 / (groups x n_g), times the rows of the mean that is the loss
    expected_R = cures.advantages(reward_R, group_R) * uid_R.size / (len(plan) * size_R)
    assert np.abs(found[: reward_R.size, 0].numpy() - expected_R).max() < 1e-6
    assert np.abs(expected_R).max() > 0.1
    assert not found[reward_R.size :].any()
    # verl's own estimator, by the same names: every rollout counts alike
    own, _ = compute_grpo_outcome_advantage(rewards.clone(), mask, uid_R)
    plain_R = cures.advantages(reward_R, group_R)
    assert np.abs(own[: reward_R.size, 0].numpy() - plain_R).max() < 1e-6
    # the control: names shifted by a row are other groups
    shifted, _ = compute_grpo_outcome_advantage(rewards.clone(), mask, np.roll(uid_R, 1))
    assert np.abs(shifted[: reward_R.size, 0].numpy() - plain_R).max() > 0.1


@pytest.mark.parametrize("name", ["mopps", "adaptive", "cures"])
def test_state_makes_a_round_trip(name, tmp_path):
    settings = {"num_subsets": 4, "pilots": 3, "steps_per_subset": 2} if name == "cures" else {}
    options = {"scheduler": name, "settings": settings}
    first = session_of(tmp_path, **options)
    for number in range(3):
        step(first, number)
    first.save(tmp_path / "global_step_3")
    lines = (tmp_path / "run" / "outcomes.jsonl").read_text()
    later = [step(first, number)[0] for number in range(3, 6)]
    second = session_of(tmp_path, resume_from=tmp_path / "global_step_3", **options)
    assert (tmp_path / "run" / "outcomes.jsonl").read_text() == lines
    resumed = [step(second, number)[0] for number in range(3, 6)]
    assert all(map(same_plan, later, resumed))
    fresh = session_of(tmp_path, **options)  # the control: without the state, other plans
    assert not all(map(same_plan, later, [step(fresh, number)[0] for number in range(3)]))


def test_a_plan_needs_the_outcome_of_the_one_before(tmp_path):
    session = session_of(tmp_path)
    session.fetch(PROMPTS)
    with pytest.raises(ValueError, match="custom_sampler must be CuresReplayBuffer"):
        session.fetch(PROMPTS)


def test_a_shadow_watches_and_plans_nothing(tmp_path):
    session = session_of(
        tmp_path, "algorithm.adv_estimator=grpo", scheduler="speed", shadow=True,
        settings={"screening_size": 2},
    )  # fmt: skip
    for number in range(6):
        prompt_R = np.repeat(np.arange(PROMPTS) + number, 4)
        reward_R = (np.arange(ROWS) % 4 < 2).astype(float)
        session.watch(prompt_R, reward_R, step=number)
    metrics = session.metrics()
    assert metrics["cures/measured_mixed"] == 1.0  # two of four right, everywhere
    assert session.rows_to_fetch == 0


REFUSED = [
    ("trainer.use_v1=False", "trainer.use_v1 must be True"),
    ("trainer.v1.trainer_mode=colocate_async", "trainer.v1.trainer_mode must be 'sync'"),
    ("trainer.v1.trainer_mode=separate_async", "trainer.v1.trainer_mode must be 'sync'"),
    ("data.dataloader_num_workers=8", "data.dataloader_num_workers must be 0"),
    ("algorithm.filter_groups.enable=True", "algorithm.filter_groups.enable must be False"),
    ("algorithm.use_kl_in_reward=True", "algorithm.use_kl_in_reward must be False"),
    ("algorithm.adv_estimator=gae", "algorithm.adv_estimator must be one of"),
]


@pytest.mark.parametrize(("override", "sentence"), REFUSED)
def test_configurations_that_cannot_work_are_refused(override, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        session_of(tmp_path, override)


@pytest.mark.parametrize("name", ["dapo", "speed", "band", "greso", "oracle", "cures-released"])
def test_schedulers_that_cannot_work_are_refused(name):
    with pytest.raises(ValueError, match="sampler_kwargs.scheduler must be one of"):
        Options.of({"scheduler": name})
