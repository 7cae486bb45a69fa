"""Small configurations, hosts and plans that the tests of the trainer share."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import load_file

from cures.records import Plan
from cures.storage import load_state, read_json
from train.building import fix_numerics
from train.config import Config, from_dict
from train.engines.protocol import Engine
from train.host import LanguageModelHost
from train.model import new_model_of
from train.progress import TrainingProgress
from train.prompts import Prompts
from train.rollouts import Rollouts
from train.run import train
from train.sequences import Sequences
from train.tasks.arithmetic import ArithmeticTask
from train.tasks.characters import EOS, PAD
from train.tasks.making import make_task


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


def small_host(*, engine: Engine | None = None, **sections: dict[str, Any]) -> LanguageModelHost:
    """A host with an untrained model; its reference, where it needs one, is another."""
    config = small_config(**sections)
    fix_numerics(config)
    task = make_task(config)
    reference = None
    if config.learner.kl != "none":
        other = small_config(**{**sections, "warm_start": {"seed": 1}})
        reference = new_model_of(other, task)
    model = new_model_of(config, task)
    return LanguageModelHost(config, task, model, engine=engine, reference=reference)


def small_task(**values: Any) -> ArithmeticTask:
    """The task of :func:`small_config`."""
    return make_task(small_config(task=values))


def sequences_of(host: LanguageModelHost, rollouts: Rollouts) -> Sequences:
    """Rollouts with their prompts, as the learner sees them."""
    prompts = host.task.pool.prompts.take(rollouts.prompt_R.numpy())
    return Sequences.of(prompts, rollouts.token_R_T, rollouts.length_R)


def log_probs(host: LanguageModelHost, rollouts: Rollouts) -> torch.Tensor:
    """Teacher-forced log-probabilities of the tokens, 0 after the end, shape (R, T)."""
    with torch.no_grad():
        found_F = host.policy(sequences_of(host, rollouts)).log_prob_F
    table = torch.zeros_like(rollouts.log_prob_R_T)
    place_T = torch.arange(table.shape[1]).unsqueeze(0)
    table[place_T < rollouts.length_R.unsqueeze(1)] = found_F
    return table


def ragged_rollouts(host: LanguageModelHost) -> tuple[Rollouts, Prompts]:
    """Twelve rollouts of three prompts, all of unequal lengths, and the prompt of each; not judged."""
    pool = Prompts.of([[1, 4, 5, 13, 6], [1, 7], [1, 9, 8, 3, 14, 5, 5, 4]])
    quota_P = np.array([4, 3, 5])
    decoding = replace(host.task.decoding, end_tokens=(EOS, 5, 7, 9, 11))  # so that many end early
    found = host.engine.generate(pool, quota_P, np.arange(3), decoding, version=host.updates)
    prompt_R = np.repeat(np.arange(3), quota_P)
    return Rollouts.of(found, prompt_R, prompt_R, np.zeros(12)), pool.take(prompt_R)


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


def greedy_answers(host: LanguageModelHost, prompts: Prompts) -> torch.Tensor:
    """The likeliest token at every step, PAD after EOS, one prompt and one token at a time."""
    width = host.task.decoding.max_new_tokens
    rows = []
    with torch.no_grad():
        for i in range(len(prompts)):
            answer: list[int] = []
            while len(answer) < width and EOS not in answer:
                ids = torch.cat([prompts.row(i), torch.tensor(answer, dtype=torch.int64)])
                logits = host.model(input_ids=ids[None]).logits[0, -1]
                answer.append(int(logits[EOS:].argmax()) + EOS)  # PAD and BOS come before EOS
            rows.append(answer + [PAD] * (width - len(answer)))
    return torch.tensor(rows)


def often_right_host(**sections: dict[str, Any]) -> LanguageModelHost:
    """An untrained model of strong opinions, which its task takes for the truth.

    Success rates are then well inside (0, 1) without any training.
    """
    opinions = {"initializer_range": 0.5, **sections.pop("model", {})}
    host = small_host(model=opinions, **sections)
    for name in ("pool", "held_out"):
        questions = getattr(host.task, name)
        truth = greedy_answers(host, questions.prompts).numpy()
        setattr(host.task, name, replace(questions, answer_N_A=truth))
    return host


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
        is_truncated_R=torch.zeros(size, dtype=torch.bool),
    )


def trained(config: Config, folder: Path, progress: TrainingProgress | None = None) -> Path:
    """Train, or go on, silently; the folder again."""
    with progress or TrainingProgress(Console(file=io.StringIO())) as shown:
        train(config, folder, shown)
    return folder


def latest_checkpoint(run: Path) -> Path:
    """Folder of a run's latest checkpoint."""
    return run / "checkpoint" / read_json(run / "checkpoint" / "latest.json")["folder"]


def assert_same_results(one: Path, other: Path) -> None:
    """Logs byte for byte, last tensors and state of the scheduler bit for bit."""
    for name in ("metrics.jsonl", "outcomes.jsonl", "evaluation.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    latest = [latest_checkpoint(run) for run in (one, other)]
    assert latest[0].name == latest[1].name
    for file in ("host-0.safetensors", "model/model.safetensors"):
        tensors = [load_file(folder / file) for folder in latest]
        assert sorted(tensors[0]) == sorted(tensors[1])
        for key, value in tensors[0].items():
            assert np.array_equal(value, tensors[1][key]), key
    states = [load_state(folder / "scheduler.npz") for folder in latest]
    assert sorted(states[0]) == sorted(states[1])
    for key, value in states[0].items():
        is_float = np.asarray(value).dtype.kind == "f"
        assert np.array_equal(value, states[1][key], equal_nan=is_float), key
