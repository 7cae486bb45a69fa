"""Held-out success: sampled answers to problems that are never trained on.

The same prompts' seeds, hence the same random numbers, at every evaluation and in every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cures.checks import FloatArray
from train.answers import Answers, answers
from train.config import EvaluationConfig
from train.engines.protocol import Decoding, Engine
from train.errors import NothingJudgedError
from train.seeds import Stream, prompt_seeds
from train.tasks.protocol import Questions, Task
from train.world import World


def success_rate(
    engine: Engine,
    questions: Questions,
    decoding: Decoding,
    *,
    samples: int,
    seed: int,
    stream: Stream,
    version: int,
    world: World,
    index: int = 0,
) -> FloatArray:
    """Share of ``samples`` answers that are right, per question, shape (N,); NaN if all were lost.

    Parameters
    ----------
    engine : Engine
    questions : Questions
    decoding : Decoding
    samples : int
        >= 1.
    seed, stream, index
        Of the answers' random numbers (train/seeds.py).
    version : int
        Of the weights.
    world : World
    """
    count = len(questions.prompts)
    found = answers(
        engine,
        questions,
        np.arange(count),
        np.full(count, samples),
        prompt_seeds(seed, stream, index, count),
        decoding,
        version=version,
        world=world,
    )
    return judged_share(found, samples)


def judged_share(found: Answers, samples: int) -> FloatArray:
    """Share of right ones among the ``samples`` answers of each question that were judged."""
    reward_N_S = found.reward_R.reshape(-1, samples)
    judged_N = np.isfinite(reward_N_S).sum(axis=1)
    right_N = np.nansum(reward_N_S, axis=1)
    return np.where(judged_N > 0, right_N / np.maximum(judged_N, 1), np.nan)


def held_out_success(
    engine: Engine,
    task: Task,
    evaluation: EvaluationConfig,
    *,
    version: int,
    world: World,
    samples: int | None = None,
) -> FloatArray:
    """Success rate on every held-out problem, shape (held_out_size,)."""
    return success_rate(
        engine,
        task.held_out,
        task.decoding,
        samples=evaluation.samples if samples is None else samples,
        seed=evaluation.seed,
        stream=Stream.EVALUATION,
        version=version,
        world=world,
    )


def mean_and_error(rate_N: FloatArray) -> tuple[float, float]:
    """Mean over problems and its standard error; problems without a judged answer are left out.

    Raises
    ------
    NothingJudgedError
        If fewer than two are left: there is no success rate then, and no error.
    """
    judged = int(np.isfinite(rate_N).sum())
    if judged < 2:
        raise NothingJudgedError(
            f"no held-out success: engine or verifier lost all answers to {rate_N.size - judged} of "
            f"{rate_N.size} questions"
        )
    return float(np.nanmean(rate_N)), float(np.nanstd(rate_N, ddof=1) / np.sqrt(judged))


def by_category(rate_N: FloatArray, task: Task) -> dict[str, float]:
    """Mean of every kind of held-out problem, by name."""
    category_N = task.held_out_category_N
    if category_N is None:
        return {}
    return {
        name: float(np.nanmean(rate_N[category_N == c]))
        for c, name in enumerate(task.category_names)
        if np.isfinite(rate_N[category_N == c]).any()
    }


@dataclass(frozen=True, slots=True)
class SampledAnswer:
    """What the model said to one problem."""

    prompt: str
    answer: str
    right: str
    reward: float | None  # None: engine or verifier lost it


def sampled_answers(
    engine: Engine, task: Task, evaluation: EvaluationConfig, problems: int, *, version: int
) -> list[SampledAnswer]:
    """One sampled answer to each of the first ``problems`` held-out problems, which are shuffled."""
    held_out = task.held_out
    index_P = np.arange(min(problems, len(held_out.prompts)))
    found = answers(
        engine,
        held_out,
        index_P,
        np.ones_like(index_P),
        prompt_seeds(evaluation.seed, Stream.EVALUATION, 0, index_P.size),
        task.decoding,
        version=version,
        world=World(),
    )
    completions = found.completions
    return [
        SampledAnswer(
            held_out.text(i),
            held_out.completion_text(
                completions.token_R_T[i, : int(completions.length_R[i])].tolist()
            ),
            held_out.answer(i),
            None if np.isnan(found.reward_R[i]) else float(found.reward_R[i]),
        )
        for i in index_P.tolist()
    ]
