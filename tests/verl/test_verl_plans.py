"""What verl rolls out is what was planned; what it would learn from is what `cures` computes."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from tests.verl.tiny import (
    ROWS,
    configuration,
    rewards_of,
    train,
    write_prompts,
)

SAMPLER = "trainer.v1.sampler.sampler_kwargs"


@pytest.fixture
def run(manager, model, tmp_path, monkeypatch):
    """Train so many steps; every plan is kept in ``trainer.plans``, with its place in the history."""

    def running(steps, *overrides, **prompts):
        write_prompts(tmp_path / "train.parquet", **prompts)
        write_prompts(tmp_path / "val.parquet")
        events = []
        for name in ("propose", "observe"):
            original = getattr(cures.Scheduler, name)

            def keeping(self, *args, _original=original, _name=name, **kwargs):
                found = _original(self, *args, **kwargs)
                events.append((_name, found if _name == "propose" else args[0]))
                return found

            monkeypatch.setattr(cures.Scheduler, name, keeping)
        trainer = train(manager, configuration(model, tmp_path, *overrides), steps)
        monkeypatch.undo()
        trainer.events = events
        trainer.plans = [record for name, record in events if name == "propose"]
        return trainer

    return running


def check_batch(batch, plan):
    """Group sizes as planned; advantages of the rows as computed here from rewards by the rule."""
    reward_R = rewards_of(plan)
    group_R = np.repeat(plan.group_B, plan.quota_B)
    expected_R = cures.advantages(reward_R, group_R)
    # Eq. 16 by hand: 1 / (groups x n_g), times the rows of the mean that is the loss
    expected_R = expected_R * group_R.size / (len(plan) * np.repeat(plan.quota_B, plan.quota_B))
    prompt_R = np.repeat(plan.prompt_B, plan.quota_B)
    sizes = dict(zip(*np.unique(batch.prompt_R, return_counts=True), strict=True))
    assert sizes == dict(zip(plan.prompt_B, plan.quota_B, strict=True))
    for prompt in plan.prompt_B:
        found = np.sort(
            [a[0] for a in np.array(batch.advantages_R, object)[batch.prompt_R == prompt]]
        )
        assert np.abs(found - np.sort(expected_R[prompt_R == prompt])).max() < 1e-6
    return expected_R


def test_plans_are_obeyed_and_advantages_are_those_of_cures(run):
    trainer = run(5, f"{SAMPLER}.scheduler=mopps")
    assert len(trainer.batches) == len(trainer.plans) == 5
    for batch, plan in zip(trainer.batches, trainer.plans, strict=True):
        check_batch(batch, plan)
    # no staleness: every plan is made after the outcome of the one before
    assert [name for name, _ in trainer.events] == ["propose", "observe"] * 5
    assert trainer.logged[-1]["cures/generated"] == 5 * ROWS
