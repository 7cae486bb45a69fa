"""Rewards by rule for any host: a pure function of group, prompt and place in the group.

A group is a plan's number and a place in it. So whoever rolls out, in whatever order and process, the
same plans get the same rewards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import cures
from cures.records import Outcome, Plan

POOL = 40
PROMPTS = 8  # of an update
GROUP = 4  # rollouts per prompt, on the mean
ROWS = PROMPTS * GROUP
RATE_N = np.random.default_rng(0).beta(0.7, 0.7, POOL)  # many prompts near 0 and 1
LUCK = 7


def told(group: int, prompt: int, rollout: int, luck: int = LUCK) -> float:
    """Reward of a group's rollout, the first one is 0; another ``luck`` is another rule."""
    chance = np.random.default_rng([luck, group, rollout]).random()
    return float(chance < RATE_N[prompt])


def rewards_of(plan: Plan, luck: int = LUCK) -> np.ndarray:
    """Rewards of all rollouts of a plan, in its order."""
    columns = (plan.group_B.tolist(), plan.prompt_B.tolist(), plan.quota_B.tolist())
    return np.array(
        [
            told(group, prompt, rollout, luck)
            for group, prompt, quota in zip(*columns, strict=True)
            for rollout in range(quota)
        ]
    )


@contextmanager
def overheard() -> Iterator[list[Plan | Outcome]]:
    """Everything that schedulers say and are told meanwhile, in order."""
    heard: list[Plan | Outcome] = []
    propose, observe = cures.Scheduler.propose, cures.Scheduler.observe

    def proposing(self, *args, **kwargs):
        heard.append(propose(self, *args, **kwargs))
        return heard[-1]

    def observing(self, outcome, *args, **kwargs):
        heard.append(outcome)
        return observe(self, outcome, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cures.Scheduler, "propose", proposing)
        patch.setattr(cures.Scheduler, "observe", observing)
        yield heard
