"""Supervised steps on worked examples, so that RL starts where some answers are right and some wrong.

The matrices of the body are trained with Muon, everything else with AdamW; learning rates fall
linearly to a tenth. With ``digit_noise`` every answer digit of an example is replaced by another digit
with that chance, once and for all, which leaves the model unsure of what it half knows: the first RL
steps then mostly undo the noise. Results are cached under a hash of everything they depend on, so that
the arms of a comparison start from one and the same model.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import nll_loss
from transformers import Qwen2ForCausalLM

from cures.checks import IntArray
from cures.storage import read_json, write_json
from train.config import Config, WarmStartConfig
from train.errors import TargetNotReachedError, TrainingDivergedError
from train.evaluation import success_rate
from train.model import build_model
from train.policy import completion_log_policy
from train.seeds import Stream, numpy_generator, torch_generator
from train.tasks import Problems, Task
from train.tokenizer import encode, encode_answers, encode_prompts

FINAL_LR_SHARE = 0.1
FORMAT = 2  # raise when a change here makes cached models differ from what would be trained now


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
    """
    folder = Path(config.run.cache) / fingerprint(config)
    model = untrained_model(config, task)
    if folder.is_dir():
        about = read_json(folder / "about.json")
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return WarmStart(model, about["steps"], about["final_loss"], was_cached=True)
    started = time.process_time()
    steps, final_loss = _train(model, task, config, report)
    if final_loss is not None and not math.isfinite(final_loss):
        raise TrainingDivergedError(
            f"warm_start: loss is {final_loss} after {steps} steps; lower adamw_lr or muon_lr"
        )
    about = {
        "depends_on": _dependencies(config),
        "steps": steps,
        "final_loss": final_loss,
        "cpu_time_s": time.process_time() - started,
    }
    _store(folder, model, about)
    return WarmStart(model, steps, final_loss, was_cached=False)


def untrained_model(config: Config, task: Task) -> Qwen2ForCausalLM:
    """The model before any step: also the shell that a checkpoint's weights are loaded into."""
    length = task.prompt_N_L.shape[1] + task.max_new_tokens
    return build_model(config.model, max_length=length, seed=config.warm_start.seed)


def fingerprint(config: Config) -> str:
    """Name of a cached warm start: hash of all that determines its weights."""
    text = json.dumps(_dependencies(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _dependencies(config: Config) -> dict[str, Any]:
    plain = config.as_dict()
    # the stress switches change rewards, not problems: arms with and without share the warm start
    task = {
        k: v for k, v in plain["task"].items() if k not in ("dead_never", "dead_always", "coins")
    }
    generation = plain["rollout"] if config.warm_start.target_success is not None else None
    return {
        "format": FORMAT,
        "task": task,
        "model": plain["model"],
        "warm_start": plain["warm_start"],
        "rollout": generation,  # only the measurement of target_success generates anything
        "threads": config.run.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _store(folder: Path, model: Qwen2ForCausalLM, about: dict[str, Any]) -> None:
    """Fill a temporary folder and rename it: another process sees all of it or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
        inner = Path(partial) / folder.name
        inner.mkdir()
        save_file(model.state_dict(), inner / "model.safetensors")
        write_json(inner / "about.json", about)
        try:
            os.rename(inner, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another run stored the same model first
                raise


def _train(
    model: Qwen2ForCausalLM, task: Task, config: Config, report: Callable[[int, int], None]
) -> tuple[int, float | None]:
    warm = config.warm_start
    if warm.steps == 0:
        return 0, None
    prompt_N_L, answer_N_A = examples(task, warm)
    optimizers = _optimizers(model, warm)
    order = _endless_order(len(prompt_N_L), warm)
    probe = task.worked_examples(
        warm.check_problems, numpy_generator(warm.seed, Stream.WARM_START_CHECK)
    ) if warm.target_success is not None else None  # fmt: skip
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
        is_check_due = (step + 1) % warm.check_every == 0
        if probe is not None and is_check_due and _is_reached(model, probe, task, config, step + 1):
            return step + 1, loss.item()
    if probe is not None:
        raise TargetNotReachedError(
            f"warm_start: target_success = {warm.target_success} was not reached in "
            f"{warm.steps} steps; raise steps or lower the target"
        )
    return warm.steps, None if loss is None else loss.item()


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
    problems = task.worked_examples(warm.examples, generator)
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
