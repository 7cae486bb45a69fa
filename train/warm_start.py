"""Supervised steps on worked examples, so that RL starts where some answers are right and some wrong.

The matrices of the body are trained with Muon, everything else with AdamW; learning rates fall
linearly to a tenth. With ``digit_noise`` every answer digit of an example is replaced by another digit
with that chance, once and for all, which leaves the model unsure of what it half knows: the first RL
steps then mostly undo the noise. Results are cached under a hash of everything they depend on, so that
the arms of a comparison start from one and the same model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss
from transformers import Qwen2ForCausalLM

from cures.checks import IntArray
from train.config import Config, WarmStartConfig
from train.errors import TargetNotReachedError, TrainingDivergedError
from train.evaluation import success_rate
from train.model import build_model
from train.policy import completion_log_policy, is_finite
from train.seeds import Stream, numpy_generator, torch_generator
from train.tasks.arithmetic import Problems, Task
from train.tasks.characters import encode, encode_answers, encode_prompts
from train.warm_start_cache import dependencies, fill, fingerprint, store

FINAL_LR_SHARE = 0.1
CHECKED_EXAMPLES = 64  # by one forward pass before a model is used for anything


@dataclass(frozen=True, slots=True)
class WarmStart:
    """A model ready for RL and how it came about."""

    model: Qwen2ForCausalLM
    steps: int
    final_loss: float | None  # of the last supervised step, nats per token; None without steps
    was_cached: bool


def warm_start(
    config: Config, task: Task, *, report: Callable[[int, int], None] = lambda step, steps: None
) -> WarmStart:
    """Load the warm-started model of ``config`` from the cache, or train it and store it there.

    Parameters
    ----------
    config : Config
    task : Task
    report : callable, optional
        Called with (step, steps) while training.

    Raises
    ------
    TrainingDivergedError, TargetNotReachedError
        Nothing is stored then.
    ValueError
        If what the cache holds is damaged.
    """
    folder = Path(config.run.cache) / fingerprint(config)
    model = untrained_model(config, task)
    if folder.is_dir():
        return WarmStart(model, *fill(model, folder), was_cached=True)
    started = time.process_time()
    steps, final_loss = _train(model, task, config, report)
    about = {
        "depends_on": dependencies(config),
        "steps": steps,
        "final_loss": final_loss,
        "cpu_time_s": time.process_time() - started,
    }
    store(folder, model, about)
    return WarmStart(model, steps, final_loss, was_cached=False)


def untrained_model(config: Config, task: Task) -> Qwen2ForCausalLM:
    """The model before any step: also the shell that a checkpoint's weights are loaded into."""
    length = task.prompt_N_L.shape[1] + task.max_new_tokens
    return build_model(config.model, max_length=length, seed=config.warm_start.seed)


def _train(
    model: Qwen2ForCausalLM, task: Task, config: Config, report: Callable[[int, int], None]
) -> tuple[int, float | None]:
    warm = config.warm_start
    if warm.steps == 0:
        return 0, None
    prompt_N_L, answer_N_A = examples(task, warm)
    optimizers = _optimizers(model, warm)
    order = _endless_order(len(prompt_N_L), warm)
    probe = fresh_problems(task, warm) if warm.target_success is not None else None
    loss = None
    for step in range(warm.steps):
        share = 1.0 - (1.0 - FINAL_LR_SHARE) * step / warm.steps
        rows = next(order)
        log_policy = completion_log_policy(model, prompt_N_L[rows], answer_N_A[rows], 1.0)
        loss = nll_loss(log_policy.flatten(0, 1), answer_N_A[rows].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer, learning_rate in optimizers:
            for parameters in optimizer.param_groups:
                parameters["lr"] = share * learning_rate
            optimizer.step()
            optimizer.zero_grad()
        report(step + 1, warm.steps)
        if probe is not None and (step + 1) % warm.check_every == 0:
            _require_finite(model, prompt_N_L, answer_N_A, step + 1)
            if _is_reached(model, probe, task, config, step + 1):
                return step + 1, loss.item()
    _require_finite(model, prompt_N_L, answer_N_A, warm.steps)
    if probe is not None:
        raise TargetNotReachedError(
            f"warm_start: target_success = {warm.target_success} was not reached in "
            f"{warm.steps} steps; raise steps or lower the target"
        )
    return warm.steps, None if loss is None else loss.item()


def _require_finite(
    model: Qwen2ForCausalLM, prompt_N_L: Tensor, answer_N_A: Tensor, steps: int
) -> None:
    if not is_finite(model, prompt_N_L[:CHECKED_EXAMPLES], answer_N_A[:CHECKED_EXAMPLES], 1.0):
        raise TrainingDivergedError(
            f"warm_start: a weight or a probability of the model is not finite after {steps} "
            "steps; lower adamw_lr or muon_lr"
        )


def fresh_problems(task: Task, warm: WarmStartConfig) -> Problems:
    """Problems to measure ``target_success`` on: neither held out nor among the worked examples.

    They are spread over the cells that the examples have not used up.

    Raises
    ------
    ValueError
        If held-out problems and examples leave fewer than ``check_problems``.
    """
    seen = task.unseen(warm.examples, numpy_generator(warm.seed, Stream.EXAMPLES), "examples")
    generator = numpy_generator(warm.seed, Stream.WARM_START_CHECK)
    name = f"check_problems (beside {warm.examples} examples)"
    return task.unseen(warm.check_problems, generator, name, seen)


def _is_reached(
    model: Qwen2ForCausalLM, probe: Problems, task: Task, config: Config, step: int
) -> bool:
    rate = success_rate(
        model,
        torch.from_numpy(encode_prompts(probe.text_N)),
        encode_answers(probe.answer_N),
        samples=1,
        max_new_tokens=task.max_new_tokens,
        rollout=config.rollout,
        generator=torch_generator(config.warm_start.seed, Stream.WARM_START_CHECK, step),
    ).mean()
    return bool(rate >= (config.warm_start.target_success or 0.0))


def examples(task: Task, warm: WarmStartConfig) -> tuple[Tensor, Tensor]:
    """Prompts (N, L) and possibly wrong answers (N, A) of the worked examples, as tokens."""
    generator = numpy_generator(warm.seed, Stream.EXAMPLES)
    problems = task.unseen(warm.examples, generator, "examples")
    answer_N_A = encode_answers(problems.answer_N)
    return (
        torch.from_numpy(encode_prompts(problems.text_N)),
        torch.from_numpy(_with_noise(answer_N_A, warm.digit_noise, generator)),
    )


def _with_noise(
    answer_N_A: IntArray, digit_noise: float, generator: np.random.Generator
) -> IntArray:
    """Every digit becomes one of the nine others with chance ``digit_noise``; EOS stays."""
    zero = encode("0")[0]
    digit = answer_N_A[:, :-1] - zero
    is_wrong = generator.random(digit.shape) < digit_noise
    shift = generator.integers(1, 10, digit.shape)
    noisy = answer_N_A.copy()
    noisy[:, :-1] = np.where(is_wrong, (digit + shift) % 10, digit) + zero
    return noisy


def _optimizers(
    model: Qwen2ForCausalLM, warm: WarmStartConfig
) -> list[tuple[torch.optim.Optimizer, float]]:
    body: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name
        (body if is_matrix else rest).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=warm.adamw_lr, betas=(0.9, 0.98), weight_decay=0.0)
    muon = torch.optim.Muon(body, lr=warm.muon_lr, weight_decay=0.0)
    return [(adamw, warm.adamw_lr), (muon, warm.muon_lr)]


def _endless_order(size: int, warm: WarmStartConfig) -> Iterator[Tensor]:
    """Row indices of one batch after another; every epoch is a new permutation."""
    epoch = 0
    rows = np.zeros(0, dtype=np.int64)
    while True:
        while rows.size < warm.batch_size:
            generator = numpy_generator(warm.seed, Stream.SUPERVISED_ORDER, epoch)
            rows = np.concatenate([rows, generator.permutation(size)])
            epoch += 1
        yield torch.from_numpy(rows[: warm.batch_size])
        rows = rows[warm.batch_size :]
