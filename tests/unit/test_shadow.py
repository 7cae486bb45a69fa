"""A scheduler beside a training: what it would have chosen and saved."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.integrations.shadow import Shadow
from tests.scripted import same_state, small_scheduler

POOL, BATCH, BUDGET, STEPS = 300, 12, 96, 100


def pool(kind, seed):
    generator = np.random.default_rng([seed, 1])
    rate_N = generator.beta(0.6, 0.6, POOL)
    return np.where(generator.random(POOL) < 0.85, 0.0, rate_N) if kind == "dead" else rate_N


def make(name, seed, **settings):
    return cures.make_scheduler(
        name, num_prompts=POOL, batch_size=BATCH, budget=BUDGET, seed=seed, **settings
    )


def watched(scheduler, rate_N, seed, steps=STEPS):
    """A shadow after a uniform training on a pool that stays as it is."""
    shadow, training = Shadow(scheduler, groups_per_batch=BATCH), make("uniform", seed + 100)
    generator = np.random.default_rng([seed, 2])
    for _ in range(steps):
        plan = training.propose()
        success_B = generator.binomial(plan.quota_B, rate_N[plan.prompt_B])
        training.observe(cures.Outcome.of(plan, success_B))
        shadow.observe(plan.prompt_B, success_B, plan.quota_B, rollouts=BUDGET)
    return shadow


def true_share(scheduler, rate_N, seed):
    """Rollouts trained on in mixed groups, of all, if the scheduler really ran on the pool."""
    generator = np.random.default_rng([seed, 3])
    groups, mixed = {}, 0
    while scheduler.ledger.generated < STEPS * BUDGET:
        plan = scheduler.propose()
        success_B = generator.binomial(plan.quota_B, rate_N[plan.prompt_B])
        for group, s, n in zip(plan.group_B.tolist(), success_B, plan.quota_B, strict=True):
            old_s, old_n = groups.get(group, (0, 0))
            groups[group] = (old_s + s, old_n + n)
        for group in scheduler.observe(cures.Outcome.of(plan, success_B)).group_G.tolist():
            s, n = groups[group]
            mixed += n * (0 < s < n)
    return mixed / scheduler.ledger.generated


@pytest.mark.parametrize("kind", ["beta", "dead"])
def test_uniform_saves_nothing_beside_uniform(kind):
    # the negative control: the mean saving of six seeds is 0 within 4 standard errors, and these are
    # small enough for the savings of the next test, above 0.5, to stand out
    savings = [
        watched(make("uniform", seed), pool(kind, seed), seed).metrics()["saving"]
        for seed in range(6)
    ]
    error = np.std(savings, ddof=1) / np.sqrt(6)
    assert abs(np.mean(savings)) < 4 * error
    assert error < 0.06


@pytest.mark.parametrize("name", ["mopps", "cures"])
def test_savings_are_near_those_of_real_runs(name):
    settings = {"num_subsets": 5} if name == "cures" else {}
    for seed in range(2):
        rate_N = pool("dead", seed)
        found = watched(make(name, seed, **settings), rate_N, seed).metrics()
        uniform = true_share(make("uniform", seed + 200), rate_N, seed)
        really = 1 - uniform / true_share(make(name, seed, **settings), rate_N, seed)
        assert really > 0.5
        # the imagined pool has a Beta law where the real one has two kinds of prompts
        assert abs(found["saving"] - really) < 0.15
        assert found["measured_mixed"] == pytest.approx(uniform, abs=0.03)


def test_measured_and_planned_are_counted():
    shadow = Shadow(small_scheduler("uniform"), groups_per_batch=2)
    shadow.observe([3, 5, 9], success_B=[1, 4, 0], trial_B=[4, 4, 3], rollouts=12)
    # one mixed group of 4 of 12 rollouts, the lost one counted
    assert shadow.metrics()["measured_mixed"] == pytest.approx(4 / 12)
    assert sum(plan.num_rollouts for plan in shadow.plans) == 32  # one plan: the least it can do
    shadow.observe([1], success_B=[0], trial_B=[4], rollouts=4)
    assert shadow.plans == []  # still ahead
    assert "shared_prompts" not in shadow.metrics()
    assert shadow.metrics()["measured_mixed"] == pytest.approx(4 / 16)
    shadow.observe(range(48), success_B=[0] * 48, trial_B=[1] * 48, rollouts=48)
    assert sum(plan.num_rollouts for plan in shadow.plans) == 32
    assert shadow.metrics()["shared_prompts"] == 1.0  # the training had all of them


def test_what_is_believed_follows_the_training():
    shadow = Shadow(small_scheduler("mopps"), groups_per_batch=24)
    for _ in range(20):  # one half never right, the other half mixed
        shadow.observe(range(48), [0] * 24 + [2] * 24, [4] * 48, rollouts=192)
    chosen = np.concatenate([plan.prompt_B for plan in shadow.plans])
    assert (chosen >= 24).mean() > 0.9


@pytest.mark.parametrize("name", cures.list_schedulers())
def test_any_scheduler_can_be_a_shadow_and_goes_on_from_its_state(name):
    def batch(step):
        generator = np.random.default_rng([step, 9])
        prompt_B = generator.permutation(48)[:8]
        return prompt_B, generator.binomial(4, np.linspace(0, 1, 48)[prompt_B]), [4] * 8

    whole = Shadow(small_scheduler(name), groups_per_batch=8)
    for step in range(6):
        whole.observe(*batch(step), rollouts=32)
    state = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in whole.state_dict().items()}
    resumed = Shadow(small_scheduler(name), groups_per_batch=8)
    resumed.load_state_dict(state)
    for step in range(6, 12):
        whole.observe(*batch(step), rollouts=32)
        resumed.observe(*batch(step), rollouts=32)
    assert same_state(whole.state_dict(), resumed.state_dict())
    assert whole.metrics() == resumed.metrics()
    assert whole.scheduler.ledger.generated >= 12 * 32


def test_state_survives_a_file(tmp_path):
    shadow = Shadow(small_scheduler("speed"), groups_per_batch=8)
    shadow.observe([1, 2], [1, 0], [4, 4], rollouts=8)
    cures.save_state(tmp_path / "s.npz", shadow.state_dict())
    other = Shadow(small_scheduler("speed"), groups_per_batch=8)
    other.load_state_dict(cures.load_state(tmp_path / "s.npz"))
    assert same_state(shadow.state_dict(), other.state_dict())


@pytest.mark.parametrize(
    "key",
    [
        "pool/mixed", "posterior/step", "expected_mixed", "scheduler/next_plan_id", "later",
        "other/later", "pool/", "pool/later", "posterior/later", "scheduler/later",
    ],
)  # fmt: skip
def test_a_damaged_state_changes_nothing(key):
    saved, other = (Shadow(small_scheduler("uniform"), groups_per_batch=8) for _ in range(2))
    saved.observe([1, 2], [1, 0], [4, 4], rollouts=8)
    other.observe([7], [1], [4], rollouts=4)
    before = other.state_dict()
    with pytest.raises(ValueError, match="must be"):
        other.load_state_dict({**saved.state_dict(), key: -1})
    assert same_state(before, other.state_dict())
    other.load_state_dict(saved.state_dict())  # undamaged it is fine
    assert same_state(saved.state_dict(), other.state_dict())


def test_refusals():
    shadow = Shadow(small_scheduler("uniform"), groups_per_batch=8)
    with pytest.raises(ValueError, match="groups_per_batch must be an int"):
        Shadow(small_scheduler("uniform"), groups_per_batch=0)
    with pytest.raises(ValueError, match="prompt_B must be"):
        shadow.observe([48], [0], [1], rollouts=1)
    with pytest.raises(ValueError, match=r"prompt_B must be distinct prompts, got \[4, 4\]"):
        shadow.observe([4, 4], [0, 1], [1, 1], rollouts=2)
    with pytest.raises(ValueError, match="success_B must be"):
        shadow.observe([4], [2], [1], rollouts=1)
    with pytest.raises(ValueError, match=r"rollouts must be an int in \[8, inf\)"):
        shadow.observe([4], [2], [8], rollouts=7)
    other = Shadow(small_scheduler("mopps"), groups_per_batch=8).state_dict()
    with pytest.raises(ValueError, match="load_state_dict: name must be"):
        shadow.load_state_dict(other)
