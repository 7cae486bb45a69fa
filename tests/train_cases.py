"""Small configurations, hosts and plans that the tests of the trainer share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cures.records import Plan
from train.config import Config, from_dict
from train.host import LanguageModelHost
from train.rollouts import Rollouts
from train.run import fix_numerics
from train.tasks import Task
from train.tokenizer import EOS, PAD
from train.warm_start import untrained_model


def small_config(**sections: dict[str, Any]) -> Config:
    """A model of a few thousand weights on one-digit sums; ``sections`` override single values."""
    content: dict[str, dict[str, Any]] = {
        "task": {"families": ["add"], "digits": [1], "pool_size": 20, "held_out_size": 4},
        "model": {"hidden_size": 16, "layers": 1, "heads": 2, "kv_heads": 1, "ffn_size": 16},
        "warm_start": {"steps": 0, "examples": 40, "check_problems": 16},
        "learner": {"learning_rate": 1e-2},
        "scheduler": {"batch_size": 4, "budget": 16},
        "evaluation": {"every": 32, "samples": 2},
        "run": {"rollouts": 64},
    }
    for title, values in sections.items():
        content[title] = {**content.get(title, {}), **values}
    return from_dict(content)


def small_host(**sections: dict[str, Any]) -> LanguageModelHost:
    """A host with an untrained model."""
    config = small_config(**sections)
    fix_numerics(config)
    task = Task(config.task)
    return LanguageModelHost(config, task, untrained_model(config, task))


def plan_of(
    quota_B: list[int], *, plan_id: int = 0, first_group: int = 0, wants_moments: bool = False
) -> Plan:
    """Prompt i gets ``quota_B[i]`` rollouts as group ``first_group + i``."""
    size = len(quota_B)
    return Plan(
        plan_id=plan_id,
        group_B=np.arange(first_group, first_group + size),
        prompt_B=np.arange(size),
        quota_B=np.array(quota_B),
        is_pilot_B=np.zeros(size, dtype=bool),
        draw_B=np.ones(size, dtype=np.int64),
        prob_B=np.full(size, np.nan),
        wants_moments=wants_moments,
    )


def with_rewards(rollouts: Rollouts, reward_R: list[float]) -> Rollouts:
    """The same rollouts, judged otherwise: an untrained model is hardly ever right."""
    columns = rollouts.as_dict()
    columns["reward_R"] = torch.tensor(reward_R, dtype=torch.float64)
    return Rollouts(**columns)


def scripted_rollouts(group_R: list[int], reward_R: list[float]) -> Rollouts:
    """Rollouts that can be told apart: row i begins with token 3 + i."""
    size = len(group_R)
    token_R_T = torch.full((size, 3), PAD)
    token_R_T[:, 0] = 3 + torch.arange(size)
    token_R_T[:, 1] = EOS
    return Rollouts(
        group_R=torch.tensor(group_R),
        prompt_R=torch.tensor(group_R),
        token_R_T=token_R_T,
        log_prob_R_T=torch.zeros(size, 3),
        length_R=torch.full((size,), 2),
        reward_R=torch.tensor(reward_R, dtype=torch.float64),
    )
