"""The hooks' shared state on verl's own configuration and estimators; no Ray, nothing is rolled out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, get_adv_estimator_fn

import cures
from cures.integrations.verl import Session
from cures.integrations.verl.agreement import Options
from cures.storage import read_jsonl
from tests.scripted import same_plan
from tests.told_rewards import POOL, PROMPTS, RATE_N, ROWS, rewards_of
from tests.verl.tiny import configuration

SAMPLER = "trainer.v1.sampler.sampler_kwargs"


MADE: list[Session] = []


@pytest.fixture(autouse=True)
def _closing():
    yield
    while MADE:
        MADE.pop().close()


def session_of(tmp_path, *overrides, resume_from=None, **options):
    config = configuration(Path("model"), tmp_path, *overrides)
    session = Session(config, Options.of({"scheduler": "mopps", **options}), resume_from)
    MADE.append(session)
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


@pytest.mark.parametrize("name", ["cures", "gvm"])
def test_plans_are_cut_to_the_budget(name, tmp_path):
    # a subset of 20 prompts has 60 pilots; of groups of 3, of which none may leave one behind, 10 fit
    settings = {"num_subsets": 2, "pilots": 3, "steps_per_subset": 2}
    session = session_of(tmp_path, scheduler=name, settings=settings)
    plans = [step(session, number)[0] for number in range(5)]
    assert [bool(plan.is_pilot_B.all()) for plan in plans] == [True, True, False, False, True]
    assert [plan.num_rollouts for plan in plans[:2]] == [30, 30]
    assert max(plan.num_rollouts for plan in plans) <= ROWS


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
    # rows that are not those that came back are no padding
    for wrong in (np.roll(uid_R, 1)[:-3], np.array(["other"] * uid_R.size, dtype=object)):
        with pytest.raises(ValueError, match=f"uid_R must be names of the {ROWS} rollouts that"):
            session.lesson(list(wrong), np.zeros(wrong.size))
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
    # a run that begins anew keeps what was there
    assert (tmp_path / "run" / "outcomes.1.jsonl").read_text().startswith(lines)


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
    chosen = read_jsonl(tmp_path / "run" / "shadow_plans.jsonl")
    generated = session.scheduler.ledger.generated
    assert sum(sum(row["quotas"]) for row in chosen) == generated >= 6 * ROWS
    assert {row["step"] for row in chosen} <= set(range(6))


def test_a_reward_that_is_missing_does_not_stop_a_shadow(tmp_path):
    session = session_of(tmp_path, "algorithm.adv_estimator=grpo", shadow=True)
    prompt_R = np.repeat(np.arange(PROMPTS), 4)
    reward_R = (np.arange(ROWS) % 4 < 2).astype(float)
    reward_R[0] = np.nan
    session.watch(prompt_R, reward_R, step=0)
    first = read_jsonl(tmp_path / "run" / "outcomes.jsonl")[0]
    assert (first["prompt"], first["success"], first["trial"]) == (0, 1, 3)
    # 31 rollouts in mixed groups of the 32 that were generated
    assert session.metrics()["cures/measured_mixed"] == pytest.approx(31 / 32)


def watched(session, batches):
    for number in batches:
        prompt_R = np.repeat((np.arange(PROMPTS) + 3 * number) % POOL, ROWS // PROMPTS)
        reward_R = np.random.default_rng(number).random(ROWS) < RATE_N[prompt_R]
        session.watch(prompt_R, reward_R.astype(float), step=number)
    return session.metrics()


def test_the_state_of_a_shadow_makes_a_round_trip(tmp_path):
    own = "algorithm.adv_estimator=grpo"
    options = {"scheduler": "dapo", "shadow": True}
    first = session_of(tmp_path, own, **options)
    watched(first, range(3))
    first.save(tmp_path / "global_step_3")
    later = watched(first, range(3, 6))
    files = [tmp_path / "run" / f"{name}.jsonl" for name in ("outcomes", "shadow_plans")]
    lines = [file.read_text() for file in files]
    second = session_of(tmp_path, own, resume_from=tmp_path / "global_step_3", **options)
    assert watched(second, range(3, 6)) == later
    assert [file.read_text() for file in files] == lines
    fresh = session_of(tmp_path, own, **options)  # the control
    assert watched(fresh, range(3, 6)) != later
    with pytest.raises(ValueError, match="must be a checkpoint of a run with shadow=False"):
        session_of(tmp_path, own, resume_from=tmp_path / "global_step_3")


def test_a_threshold_says_what_is_right(tmp_path):
    plain, graded = session_of(tmp_path), session_of(tmp_path, threshold=0.0)
    for session in (plain, graded):
        for number in range(7):
            rows = session.fetch(PROMPTS)
            plan = session._plan
            group_R = np.repeat(plan.group_B, plan.quota_B)
            reward_R = rewards_of(plan)
            told_R = reward_R if session is plain else 2.0 * reward_R - 1.0  # wrong is -1
            session.observe([f"uid{group}" for group in group_R], group_R, told_R, step=number)
        session.last = rows
    assert plain.last == graded.last
    # verl's rewards are float32, where 0.7 is 0.69999999
    graded = session_of(tmp_path, threshold=0.7)
    graded.fetch(PROMPTS)
    group_R = np.repeat(graded._plan.group_B, graded._plan.quota_B)
    told_R = np.where(np.arange(ROWS) < 5, np.float32(0.7), np.float32(0.2)).astype(np.float32)
    graded.observe(["uid"] * ROWS, group_R, told_R, step=0)
    lines = read_jsonl(tmp_path / "run" / "outcomes.jsonl")
    assert sum(row["success"] for row in lines) == 5
    session = session_of(tmp_path)
    session.fetch(PROMPTS)
    group_R = np.repeat(session._plan.group_B, session._plan.quota_B)
    with pytest.raises(ValueError, match="must be 0 or 1"):
        session.observe(["uid"] * ROWS, group_R, np.full(ROWS, -1.0), step=0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"schedular": "mopps"}, "an entry of trainer.v1.sampler.sampler_kwargs must be one of"),
        ({"aggregation": "token"}, "sampler_kwargs.aggregation must be one of"),
        ({"threshold": "half"}, "sampler_kwargs.threshold must be"),
        ({"settings": [1]}, "sampler_kwargs.settings must be a mapping"),
        ({"scheduler": ["mopps"]}, "sampler_kwargs.scheduler must be one of"),
    ],
)
def test_options_that_do_not_exist_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        Options.of(given)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"settings": {"budget": 64}}, "sampler_kwargs.settings must be none of .*, got 'budget'"),
        ({"columns": {"batch_size": "pass_rate"}}, "must be none of .*, got 'batch_size'"),
        ({"settings": {"step_scaling": True}}, "settings.step_scaling must be False"),
        ({"settings": {"use_moments": True}, "scheduler": "cures"}, "use_moments must be False"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(options, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        session_of(tmp_path, **{"scheduler": "adaptive", **options})


def test_the_page_shows_what_the_example_is(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    config = configuration(Path("model"), tmp_path)
    shown = OmegaConf.merge(config, OmegaConf.create(block))
    assert OmegaConf.to_container(shown) == OmegaConf.to_container(config)
    other = OmegaConf.merge(config, OmegaConf.create(block.replace("adaptive", "mopps")))
    assert OmegaConf.to_container(other) != OmegaConf.to_container(config)  # the control


REFUSED = [
    ("trainer.use_v1=False", "trainer.use_v1 must be True"),
    ("trainer.v1.trainer_mode=colocate_async", "trainer.v1.trainer_mode must be 'sync'"),
    ("trainer.v1.trainer_mode=separate_async", "trainer.v1.trainer_mode must be 'sync'"),
    ("data.dataloader_num_workers=8", "data.dataloader_num_workers must be 0"),
    ("data.custom_cls.path=null", "data.custom_cls must be CuresDataset of pkg://cures"),
    ("+trainer.v1.sync.parameter_sync_step=2", "trainer.v1.sync.parameter_sync_step must be 1"),
    (
        "trainer.v1.sampler.sync_refill_failed_groups=True",
        "sync_refill_failed_groups must be False",
    ),
    ("algorithm.filter_groups.enable=True", "algorithm.filter_groups.enable must be False"),
    ("algorithm.use_kl_in_reward=True", "algorithm.use_kl_in_reward must be False"),
    ("++skip.rollout_tq.enable=True", "skip.rollout_tq.enable must be False"),
    ("reward.reward_model.enable=True", "reward_model.enable_resource_pool must be True"),
    ("algorithm.adv_estimator=gae", "algorithm.adv_estimator must be one of"),
]


@pytest.mark.parametrize(("override", "sentence"), REFUSED)
def test_configurations_that_cannot_work_are_refused(override, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        session_of(tmp_path, override)


def test_a_shadow_beside_a_filter_is_refused(tmp_path):
    # verl would not filter what comes out of our replay buffer: not the training as it would be
    with pytest.raises(ValueError, match="algorithm.filter_groups.enable must be False"):
        session_of(
            tmp_path,
            "algorithm.adv_estimator=grpo",
            "algorithm.filter_groups.enable=True",
            shadow=True,
        )


@pytest.mark.parametrize("name", ["dapo", "speed", "band", "greso", "oracle", "cures-released"])
def test_schedulers_that_cannot_work_are_refused(name):
    with pytest.raises(ValueError, match="sampler_kwargs.scheduler must be one of"):
        Options.of({"scheduler": name})
