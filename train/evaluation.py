"""Held-out success: sampled answers to unseen problems, with the same random numbers every time.

The generator is derived from the evaluation seed alone, so that two arms, or two moments of one run,
differ by their policies and as little as possible by luck. Greedy decoding is not used: RL improves
the sampled policy, and greedy success starts well above it after a noisy warm start.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cures.checks import FloatArray, IntArray
from train.config import EvaluationConfig, RolloutConfig
from train.engines.native import generate
from train.seeds import Stream, torch_generator
from train.tasks.arithmetic import Task
from train.tasks.characters import decode
from train.verifier import exact_match


def success_rate(
    model: PreTrainedModel,
    prompt_N_L: Tensor,
    answer_N_A: IntArray,
    *,
    samples: int,
    max_new_tokens: int,
    rollout: RolloutConfig,
    generator: torch.Generator,
) -> FloatArray:
    """Share of ``samples`` answers that are right, per prompt, shape (N,)."""
    completions = generate(
        model,
        prompt_N_L,
        torch.full((len(prompt_N_L),), samples),
        max_new_tokens=max_new_tokens,
        decode_temperature=rollout.decode_temperature,
        generator=generator,
        max_rows=rollout.max_rows,
    )
    is_right = exact_match(completions.token_R_T.numpy(), answer_N_A.repeat(samples, axis=0))
    rate_N: FloatArray = is_right.reshape(-1, samples).mean(axis=1)
    return rate_N


def held_out_success(
    model: PreTrainedModel,
    task: Task,
    evaluation: EvaluationConfig,
    rollout: RolloutConfig,
    *,
    samples: int | None = None,
) -> FloatArray:
    """Success rate on every held-out problem, shape (held_out_size,)."""
    return success_rate(
        model,
        torch.from_numpy(task.held_prompt_N_L),
        task.held_answer_N_A,
        samples=evaluation.samples if samples is None else samples,
        max_new_tokens=task.max_new_tokens,
        rollout=rollout,
        generator=torch_generator(evaluation.seed, Stream.EVALUATION),
    )


@dataclass(frozen=True, slots=True)
class SampledAnswer:
    """What the model said to one problem."""

    prompt: str
    answer: str
    right: str
    reward: float


def sampled_answers(
    model: PreTrainedModel,
    task: Task,
    evaluation: EvaluationConfig,
    rollout: RolloutConfig,
    problems: int,
) -> list[SampledAnswer]:
    """One sampled answer to each of the first ``problems`` held-out problems, which are shuffled."""
    prompt_N_L = torch.from_numpy(task.held_prompt_N_L[:problems])
    token_N_T = generate(
        model,
        prompt_N_L,
        torch.ones(len(prompt_N_L), dtype=torch.int64),
        max_new_tokens=task.max_new_tokens,
        decode_temperature=rollout.decode_temperature,
        generator=torch_generator(evaluation.seed, Stream.EVALUATION),
        max_rows=rollout.max_rows,
    ).token_R_T.numpy()
    reward_N = exact_match(token_N_T, task.held_answer_N_A[:problems])
    said = [decode(row) for row in token_N_T.tolist()]
    asked, right = task.held_out.text_N, task.held_out.answer_N
    return [
        SampledAnswer(*line) for line in zip(asked, said, right, reward_N.tolist(), strict=False)
    ]
