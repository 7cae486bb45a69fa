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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from cures.checks import IntArray
from train.config import Config, WarmStartConfig
from train.engines.native import NativeEngine
from train.errors import TargetNotReachedError, TrainingDivergedError
from train.evaluation import success_rate
from train.model import new_model_of
from train.muon import Muon
from train.policy import Policy, is_finite
from train.prompts import Prompts
from train.seeds import Stream, numpy_generator
from train.sequences import Sequences
from train.tasks.arithmetic import ArithmeticQuestions, ArithmeticTask, Problems
from train.tasks.characters import encode, encode_answers, encode_prompts
from train.warm_start_cache import dependencies, fill, fingerprint, store
from train.world import World

FINAL_LR_SHARE = 0.1
CHECKED_EXAMPLES = 64  # by one forward pass before a model is used for anything


@dataclass(frozen=True, slots=True)
class WarmStart:
    """A model ready for RL and how it came about."""

    model: Qwen2ForCausalLM
    steps: int
    final_loss: float | None  # of the last supervised step, nats per token; None without steps
    success: float | None  # on problems never seen, when target_success was reached
    was_cached: bool


def warm_start(
    config: Config,
    task: ArithmeticTask,
    *,
    report: Callable[[int, int], None] = lambda step, steps: None,
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
    model = new_model_of(config, task)
    if folder.is_dir():
        return WarmStart(model, *fill(model, folder), was_cached=True)
    started = time.process_time()
    steps, final_loss, success = supervise(model, task, config, report)
    about = {
        "depends_on": dependencies(config),
        "steps": steps,
        "final_loss": final_loss,
        "success": success,
        "cpu_time_s": time.process_time() - started,
    }
    store(folder, model, about)
    return WarmStart(model, steps, final_loss, success, was_cached=False)


def supervise(
    model: Qwen2ForCausalLM,
    task: ArithmeticTask,
    config: Config,
    report: Callable[[int, int], None] = lambda step, steps: None,
) -> tuple[int, float | None, float | None]:
    """Train a new model in place, where it lies: the steps of ``[warm_start]`` without the cache.

    Parameters
    ----------
    model, task, config, report
        As for :func:`warm_start`.

    Returns
    -------
    steps : int
        That were done.
    final_loss : float or None
        Of the last one, nats per token; ``None`` without steps.
    success : float or None
        On problems never seen, which ended them; ``None`` without ``target_success``.

    Raises
    ------
    TrainingDivergedError, TargetNotReachedError
        After the latter the model is what the steps made of it.
    """
    warm = config.warm_start
    assert warm is not None
    if warm.steps == 0:
        return 0, None, None
    worked = examples(task, warm)
    policy = Policy(model, replace(task.decoding, temperature=1.0))
    optimizers = _optimizers(model, warm)
    order = _endless_order(len(worked), warm)
    probe = fresh_problems(task, warm) if warm.target_success is not None else None
    loss = success = None
    for step in range(warm.steps):
        share = 1.0 - (1.0 - FINAL_LR_SHARE) * step / warm.steps
        loss = -policy(worked.sequences(next(order)).to(model.device)).log_prob_F.mean()
        loss.backward()
        for optimizer, learning_rate in optimizers:
            for parameters in optimizer.param_groups:
                parameters["lr"] = share * learning_rate
            optimizer.step()
            optimizer.zero_grad()
        report(step + 1, warm.steps)
        if probe is not None and (step + 1) % warm.check_every == 0:
            _require_finite(policy, worked, step + 1)
            success = _success(model, probe, task, config, step + 1)
            if success >= (warm.target_success or 0.0):
                return step + 1, loss.item(), success
    _require_finite(policy, worked, warm.steps)
    if probe is not None:
        raise TargetNotReachedError(
            f"warm_start: target_success = {warm.target_success} was not reached in "
            f"{warm.steps} steps; raise steps or lower the target",
            success,
        )
    return warm.steps, None if loss is None else loss.item(), None


def _require_finite(policy: Policy, worked: Examples, steps: int) -> None:
    some = np.arange(min(CHECKED_EXAMPLES, len(worked)))
    if not is_finite(policy, worked.sequences(some).to(policy.model.device)):
        raise TrainingDivergedError(
            f"warm_start: a weight or a probability of the model is not finite after {steps} "
            "steps; lower adamw_lr or muon_lr"
        )


def fresh_problems(task: ArithmeticTask, warm: WarmStartConfig) -> Problems:
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


def _success(
    model: Qwen2ForCausalLM, probe: Problems, task: ArithmeticTask, config: Config, step: int
) -> float:
    """Share of right answers to problems never seen."""
    warm = config.warm_start
    assert warm is not None
    engine = NativeEngine(model, max_rows=config.rollout.max_rows)
    engine.load_weights(model.state_dict().items(), step)
    rate_N = success_rate(
        engine,
        ArithmeticQuestions.of(probe),
        task.decoding,
        samples=1,
        seed=warm.seed,
        stream=Stream.WARM_START_CHECK,
        index=step,
        version=step,
        world=World(),
    )
    return float(rate_N.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Worked examples in tokens, possibly wrong."""

    prompts: Prompts
    answer_N_A: Tensor  # int64, end token included

    def __len__(self) -> int:
        return len(self.prompts)

    def sequences(self, index: IntArray) -> Sequences:
        """Prompts with their answers."""
        answer = self.answer_N_A[torch.from_numpy(index)]
        length = torch.full((len(answer),), answer.shape[1])
        return Sequences.of(self.prompts.take(index), answer, length)


def examples(task: ArithmeticTask, warm: WarmStartConfig) -> Examples:
    """What is learned from."""
    generator = numpy_generator(warm.seed, Stream.EXAMPLES)
    problems = task.unseen(warm.examples, generator, "examples")
    noisy = _with_noise(encode_answers(problems.answer_N), warm.digit_noise, generator)
    return Examples(Prompts.of(encode_prompts(problems.text_N)), torch.from_numpy(noisy))


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
    muon = Muon(body, lr=warm.muon_lr)
    return [(adamw, warm.adamw_lr), (muon, warm.muon_lr)]


def _endless_order(size: int, warm: WarmStartConfig) -> Iterator[IntArray]:
    """Row indices of one batch after another; every epoch is a new permutation."""
    epoch = 0
    rows = np.zeros(0, dtype=np.int64)
    while True:
        while rows.size < warm.batch_size:
            generator = numpy_generator(warm.seed, Stream.SUPERVISED_ORDER, epoch)
            rows = np.concatenate([rows, generator.permutation(size)])
            epoch += 1
        yield rows[: warm.batch_size]
        rows = rows[warm.batch_size :]
