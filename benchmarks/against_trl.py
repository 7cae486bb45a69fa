"""One step of our trainer against one of TRL's GRPOTrainer: same model, prompts, rollouts and loss.

    make against-trl      in its own environment (constraints-trl.txt), on an idle machine, or there
    python -m benchmarks.against_trl [--rounds 7] [--page docs/results/against_trl.md]

A step is what lies between two rollout batches: generate 8 completions of 128 prompts, judge them, take
one or two optimiser steps on all of them. In the rows that are compared no token ends a completion, so
that both sides generate and learn from equally many tokens; a last row has completions that end, at
lengths that differ, and seconds per token. Before anything is timed, our trainer is given TRL's
completions and must arrive at TRL's gradient: every row is in both losses, with the same weight.

TRL runs its own loop, ``train()``; a callback has ours take a step after each of TRL's, so that both
meet the same disturbances. Seconds are CPU seconds of this process, which has one thread. Parts:

- generation. TRL: ``_generate_single_turn``, which pads, calls ``generate`` of transformers with a KV
  cache and returns ids. Ours: ``engine.generate``, which returns log-probabilities as well.
- judging. TRL: the rest of ``_generate_and_score_completions``, that is tokenizer, rewards, advantages
  and, with two optimiser steps, a forward pass for the old log-probabilities. Ours: the rest of
  ``host.rollout``.
- update. The rest of the step.

TRL has its fastest settings: float32, no gradient checkpointing, no reference model (beta 0), no
logging, evaluation, saving or progress bar, nothing that changes logits, one call of ``generate`` for
all rollouts (its continuous batching is far slower on a CPU); the rows of a pass and the kind of cache
are tried first, and the fastest are taken. Ours has its defaults but for the loss, which is TRL's: no
entropy bonus, advantages not divided by the standard deviation, and ``skip_untouched`` off. A third arm,
equal to ours but for ``skip_untouched``, shows what skipping rows of advantage 0 is worth on top.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import cures
from benchmarks.native_generation import (
    POOL,
    PROMPT_TOKENS,
    QUOTA,
    ROLLOUTS,
    SMALL,
    TINY,
    VERSIONS,
    Size,
    arithmetic_prompts,
    numerics_of_a_run,
    run_config,
)
from benchmarks.one_thread import on_one_thread
from cures.checks import FloatArray, IntArray
from cures.loop import UpdateRecord
from cures.storage import atomic_write
from figures.provenance import provenance
from train.config import Config
from train.engines.protocol import Completions, Finish
from train.host import LanguageModelHost
from train.prompts import Prompts
from train.sequences import Sequences
from train.tasks.characters import EOS, PAD, decode, save_tokenizer

PROMPTS = ROLLOUTS // QUOTA
CLIP_LOW, CLIP_HIGH, LEARNING_RATE = 0.2, 0.28, 1e-4
RATES = (0.3, 0.4)  # Beta of the success rates: half of the groups of 8 are all right or all wrong
TOLERANCE = 1e-4  # of the gradients' relative distance, float32
AIM_GENERATION, AIM_STEP = 2.0, 1.3
ARMS = ("TRL", "ours", "ours, skipping")
PARTS = ("generation", "judging", "update", "step")


CASES = (
    (Size("0.23M", TINY, 6), 1),
    (Size("0.23M", TINY, 6), 2),
    (Size("0.86M", SMALL, 64), 1),
    (Size("0.86M", SMALL, 64), 2),
    (Size("0.86M", SMALL, 64, ends=True), 1),
)  # with the optimiser steps of a rollout batch


class Verdicts:
    """The prompts of the arithmetic task, with verdicts that an untrained model can get.

    A completion is right if a number made of its tokens falls below its prompt's success rate, so that
    the same completion is judged alike by both trainers. Being cut off does not count against it.
    """

    def __init__(self) -> None:
        self.prompts: Prompts = arithmetic_prompts()
        self.rate_N = np.random.default_rng(0).beta(*RATES, size=POOL)

    def verdict(self, index_R: IntArray, token_R_T: IntArray) -> FloatArray:
        """1 or 0 for each completion, padded with 0."""
        factor_T = np.random.default_rng(1).integers(1, 10_007, size=1024)[: token_R_T.shape[1]]
        number_R = (token_R_T @ factor_T) % 10_007
        return (number_R < 10_007 * self.rate_N[index_R]).astype(float)

    def reward(
        self, index_R: IntArray, completions: Completions, luck_R: FloatArray | None = None
    ) -> FloatArray:
        """As :class:`train.tasks.protocol.Questions` has it."""
        return self.verdict(index_R, completions.token_R_T.numpy())

    def trl_reward(
        self, completion_ids: list[list[int]], index: list[int], **_: Any
    ) -> list[float]:
        """As a reward function of TRL."""
        return self.verdict(np.array(index), _table(completion_ids)).tolist()


class VerdictTask:
    """What a host asks of a task."""

    def __init__(self, size: Size) -> None:
        self.pool = Verdicts()
        self.decoding = size.decoding


def _table(rows: list[list[int]]) -> IntArray:
    """Rows padded on the right."""
    table = np.full((len(rows), max(map(len, rows))), PAD)
    for row, tokens in zip(table, rows, strict=True):
        row[: len(tokens)] = tokens
    return table


def _config(optimiser_steps: int, **learner: Any) -> Config:
    loss = {
        "estimator": "dr_grpo", "entropy_bonus": 0.0, "clip_low": CLIP_LOW, "clip_high": CLIP_HIGH,
        "minibatches": optimiser_steps, "learning_rate": LEARNING_RATE, "schedule": "constant",
        "skip_untouched": False,
    }  # fmt: skip
    return run_config(**{**loss, **learner})


class Clock:
    """CPU seconds of every step by part."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._booked = dict.fromkeys(("rollout", "generation", "tokens"), 0.0)

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, booked as ``rollout`` or as ``generation``, which is a part of it."""

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            start = time.process_time()
            result = call(*arguments, **keywords)
            self._booked[part] += time.process_time() - start
            return result

        return wrapped

    def count(self, tokens: int) -> None:
        """Tokens generated."""
        self._booked["tokens"] += tokens

    def close_step(self, seconds: float) -> None:
        """The step took so long in all."""
        booked = self._booked
        self.steps.append(
            {
                "generation": booked["generation"],
                "judging": booked["rollout"] - booked["generation"],
                "update": seconds - booked["rollout"],
                "step": seconds,
                "tokens": booked["tokens"],
            }
        )
        self._booked = dict.fromkeys(booked, 0.0)


class Ours:
    """Our trainer on a copy of the model, one step at a time."""

    def __init__(self, model: PreTrainedModel, size: Size, config: Config) -> None:
        self.clock = Clock()
        self.wasted: list[float] = []
        self.host = LanguageModelHost(config, VerdictTask(size), copy.deepcopy(model))
        self.host.engine.generate = self.clock.timed("generation", self.host.engine.generate)
        self.host.rollout = self.clock.timed("rollout", self.host.rollout)
        scheduler = cures.make_scheduler(
            "uniform",
            num_prompts=POOL,
            batch_size=PROMPTS,
            budget=ROLLOUTS,
            estimator=config.learner.estimator,
        )
        self.updates: Iterator[UpdateRecord] = cures.loop.run(scheduler, self.host, rollouts=2**50)

    def step(self) -> None:
        """Generate, judge, update."""
        with numerics_of_a_run():
            start = time.process_time()
            record = next(self.updates)
            seconds = time.process_time() - start
        self.clock.count(int(record.metrics["trained_tokens"]))
        self.clock.close_step(seconds)
        self.wasted.append(record.metrics["wasted"])


@dataclass(frozen=True)
class Trl:
    """What makes TRL's trainer on a copy of the model.

    ``rows`` of a pass and ``cache`` of generation (None: the growing one of transformers) are the
    settings that are tried for speed.
    """

    size: Size
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: str
    optimiser_steps: int
    rows: int
    cache: str | None = None

    def trainer(self, steps: int, index_N: IntArray, **options: Any) -> GRPOTrainer:
        """For so many steps on these prompts of the pool."""
        questions = Verdicts()
        texts = [decode(questions.prompts.row(i).tolist()) for i in index_N]
        config = {
            # the work: 128 prompts x 8, so many optimiser steps; clip; no KL, no division by the std
            "num_generations": QUOTA,
            "per_device_train_batch_size": self.rows,
            "gradient_accumulation_steps": ROLLOUTS // self.optimiser_steps // self.rows,
            "steps_per_generation": ROLLOUTS // self.rows,
            "max_steps": steps * self.optimiser_steps,
            "max_completion_length": self.size.new_tokens,
            "temperature": 1.0,
            "loss_type": "grpo",
            "scale_rewards": "none",
            "epsilon": CLIP_LOW,
            "epsilon_high": CLIP_HIGH,
            "beta": 0.0,
            "max_grad_norm": 1.0,
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "constant",
            "adam_beta1": 0.9,
            "adam_beta2": 0.95,
            # speed
            "gradient_checkpointing": False,
            "bf16": False,
            "use_cpu": True,
            "cache_implementation": self.cache,
            "logging_strategy": "no",
            "logging_nan_inf_filter": False,
            "save_strategy": "no",
            "eval_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }
        trainer = GRPOTrainer(
            model=copy.deepcopy(self.model),
            args=GRPOConfig(output_dir=self.folder, **{**config, **options}),
            reward_funcs=questions.trl_reward,
            train_dataset=Dataset.from_dict({"prompt": texts, "index": index_N.tolist()}),
            processing_class=self.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


class Between(TrainerCallback):
    """Ends each of TRL's steps, then lets something else happen."""

    def __init__(self, clock: Clock, optimiser_steps: int, then: Callable[[], None]) -> None:
        self.clock, self.optimiser_steps, self.then = clock, optimiser_steps, then
        self.start = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first step starts."""
        self.start = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called after an optimiser step; the last one of a rollout batch ends the step."""
        if state.global_step % self.optimiser_steps == 0:
            self.clock.close_step(time.process_time() - self.start)
            self.then()
            self.start = time.process_time()


def run_trl(made: Trl, steps: int, then: Callable[[], None] = lambda: None) -> Clock:
    """Train with TRL's own loop, ``then`` after every step."""
    clock, trainer = Clock(), made.trainer(steps, np.arange(POOL))
    generate = clock.timed("generation", trainer._generate_single_turn)

    def counted(*arguments: Any, **keywords: Any) -> Any:
        completion_ids, log_probs = generate(*arguments, **keywords)
        clock.count(sum(map(len, completion_ids)))
        return completion_ids, log_probs

    trainer._generate_single_turn = counted
    rollout = clock.timed("rollout", trainer._generate_and_score_completions)
    trainer._generate_and_score_completions = rollout
    trainer.add_callback(Between(clock, made.optimiser_steps, then))
    trainer.train()
    return clock


def fastest(made: Trl) -> Trl:
    """TRL's fastest settings: rows of a pass by what is not generation, then the cache by generation."""

    def seconds(candidate: Trl) -> dict[str, float]:
        steps = run_trl(candidate, 3).steps[1:]  # the first warms up
        return {part: min(step[part] for step in steps) for part in PARTS}

    most = ROLLOUTS // made.optimiser_steps
    tried = [replace(made, rows=rows) for rows in (most, most // 2, most // 4, most // 8)]
    found = [seconds(candidate) for candidate in tried]
    rest = [parts["judging"] + parts["update"] for parts in found]
    best = int(np.argmin(rest))
    static = replace(tried[best], cache="static")
    is_faster = seconds(static)["generation"] < min(parts["generation"] for parts in found)
    return static if is_faster else tried[best]


def gradient_distance(made: Trl) -> float:
    """Relative distance between both gradients of a first optimiser step on TRL's completions."""
    ours = Ours(made.model, made.size, _config(1, max_grad_norm=1e9))
    questions, policy = ours.host.task.pool, ours.host.policy
    gradients: dict[str, dict[str, torch.Tensor]] = {}

    def keep(side: str, model: torch.nn.Module) -> None:
        gradients[side] = {name: p.grad.clone() for name, p in model.named_parameters()}

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
            keep("TRL", model)

    def replay(prompts: Prompts, quota_P: IntArray, *_: Any, **__: Any) -> Completions:
        """TRL's first step on the prompts that ours has planned."""
        place = {questions.prompts.row(i).numpy().tobytes(): i for i in range(POOL)}
        index = np.array([place[prompts.row(i).numpy().tobytes()] for i in range(len(prompts))])
        trainer = made.trainer(1, index, shuffle_dataset=False, max_grad_norm=0.0)
        generate, found = trainer._generate_single_turn, []
        trainer._generate_single_turn = lambda *a, **k: found.append(generate(*a, **k)) or found[0]
        trainer.add_callback(Keep())
        trainer.train()
        completions = Completions.missing(ROLLOUTS, made.size.decoding)
        length_R = torch.tensor([len(tokens) for tokens in found[0][0]])
        token_R_T = torch.from_numpy(_table(found[0][0]))
        completions.length_R.copy_(length_R)
        completions.token_R_T[:, : token_R_T.shape[1]] = token_R_T
        has_ended_R = np.array([tokens[-1] == EOS for tokens in found[0][0]]) & made.size.ends
        completions.finish_R[:] = np.where(has_ended_R, int(Finish.STOP), int(Finish.LENGTH))
        repeated = prompts.take(np.repeat(np.arange(len(prompts)), quota_P))
        with torch.no_grad():  # TRL takes the ratio of a first step to be 1
            terms = policy(Sequences.of(repeated, token_R_T, length_R))
        is_real = torch.arange(made.size.new_tokens).unsqueeze(0) < length_R.unsqueeze(1)
        completions.log_prob_R_T[is_real] = terms.log_prob_F
        return completions

    ours.host.engine.generate = ours.clock.timed("generation", replay)
    ours.host.learner.optimizer.register_step_pre_hook(lambda *_: keep("ours", policy.model))
    ours.step()
    pairs = [(gradients["ours"][name], grad) for name, grad in gradients["TRL"].items()]
    apart = sum(float((a - b).double().square().sum()) for a, b in pairs)
    return (apart / sum(float(b.double().square().sum()) for _, b in pairs)) ** 0.5


@dataclass(frozen=True)
class Result:
    """What was measured of one case; by arm, then part, an array with a value for each round."""

    trl: Trl
    distance: float
    wasted: float
    measured: dict[str, dict[str, FloatArray]]

    def ratio(self, part: str, of: str, over: str) -> float:
        """Of seconds per token: the median over the rounds of the ratio within a round."""
        of_, over_ = self.measured[of], self.measured[over]
        ratio_S = (of_[part] / of_["tokens"]) / (over_[part] / over_["tokens"])
        return float(np.median(ratio_S))


def measure(size: Size, optimiser_steps: int, rounds: int, folder: str) -> Result:
    """Check, look for TRL's fastest settings, alternate."""
    model = size.fresh_model()
    save_tokenizer(Path(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not size.ends:  # TRL wants an end token; one beyond the model's vocabulary never comes
        tokenizer.add_special_tokens({"eos_token": "<end>"})
    made = Trl(size, model, tokenizer, folder, optimiser_steps, ROLLOUTS // optimiser_steps)
    distance = gradient_distance(replace(made, optimiser_steps=1))
    if not distance < TOLERANCE:
        sys.exit(f"{size.name}: the gradients are {distance:.2g} apart, not the same loss")
    made = fastest(made)
    ours = Ours(model, size, _config(optimiser_steps))
    skipping = Ours(model, size, _config(optimiser_steps, skip_untouched=True))

    def both() -> None:
        ours.step()
        skipping.step()

    clocks = (run_trl(made, rounds + 1, both), ours.clock, skipping.clock)
    measured = {
        arm: {part: np.array([step[part] for step in clock.steps[1:]]) for part in clock.steps[0]}
        for arm, clock in zip(ARMS, clocks, strict=True)  # the first round warms up
    }
    tokens = {int(count) for arm in ARMS for count in measured[arm]["tokens"]}
    if not size.ends and tokens != {ROLLOUTS * size.new_tokens}:
        sys.exit(f"{size.name}: unequal numbers of tokens, {sorted(tokens)}")
    return Result(made, distance, float(np.mean(skipping.wasted[1:])), measured)


def table(results: list[Result]) -> list[str]:
    """Markdown rows."""
    lines = [
        "| model | new tokens | optimiser steps | arm | tokens | generation, s | judging, s | update, s "
        "| step, s | generation, TRL / arm | step, TRL / arm |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        size = result.trl.size
        for arm in ARMS:
            of = result.measured[arm]
            cells = [size.model, size.length, f"{result.trl.optimiser_steps}", arm]
            cells.append(f"{np.median(of['tokens']):,.0f}")
            cells += [f"{np.median(of[part]):.3f}" for part in PARTS]
            cells[-1] += f" [{of['step'].min():.3f}, {of['step'].max():.3f}]"
            cells += [f"{result.ratio(part, 'TRL', arm):.2f}" for part in ("generation", "step")]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def findings(results: list[Result]) -> list[str]:
    """Aims and what became of them; what skipping is worth; TRL's settings."""
    lines = [
        f"Aims, every row in both losses: generation {AIM_GENERATION} times as fast, the whole step "
        f"{AIM_STEP} times.",
        "",
    ]
    for result in results:
        size, steps = result.trl.size, result.trl.optimiser_steps
        generation, step = (result.ratio(part, "TRL", "ours") for part in ("generation", "step"))
        update, whole = (
            result.ratio(part, "ours", "ours, skipping") for part in ("update", "step")
        )
        lines.append(
            f"- {size.model}, {size.length} new tokens, {steps} optimiser step(s): generation "
            f"{generation:.2f} times ({_reached(generation, AIM_GENERATION)}), step {step:.2f} times "
            f"({_reached(step, AIM_STEP)}). Skipping the {result.wasted:.0%} of the rows that have "
            f"advantage 0 makes the update {update:.2f} times as fast again, the step {whole:.2f} "
            f"times. TRL's fastest: {result.trl.rows} rows a pass, "
            f"{result.trl.cache or 'growing'} cache. Gradients {result.distance:.0e} apart."
        )
    return lines


def _reached(ratio: float, aim: float) -> str:
    return "reached" if ratio >= aim else "not reached"


def page(results: list[Result], rounds: int) -> str:
    """The page of docs/results."""
    command = "python -m benchmarks.against_trl"
    if rounds != 7:
        command += f" --rounds {rounds}"
    head = f"""\
# A step of our trainer against TRL's

{PROMPTS} prompts of {PROMPT_TOKENS} tokens x {QUOTA} rollouts are generated, judged and learned from by
TRL's GRPOTrainer and by ours, in turn, on one thread. CPU seconds, medians of {rounds} rounds after a
warm-up [fastest, slowest]; ratios are of seconds per token, medians of the ratios within a round. Both
start from the same Qwen2 in float32, have every row in the loss, and on the same completions arrive at
the same gradient. "Up to": completions end at an end token. What belongs to which part, and TRL's
settings: `benchmarks/against_trl.py`. With two optimiser steps TRL needs a pass for the old
log-probabilities (under judging), which our engine returns; with one it takes the ratio to be 1.

{provenance(command, *VERSIONS, f"trl {trl.__version__}", "environment of constraints-trl.txt")}
"""
    return "\n".join([head, *table(results), "", *findings(results)]) + "\n"


def main() -> None:
    """Measure, print, write the page."""
    on_one_thread("benchmarks.against_trl")
    names = sorted({size.name for size, _ in CASES})
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed, after one that is not (7)")
    parser.add_argument("--sizes", nargs="+", choices=names, default=names, help="all")
    parser.add_argument("--page", type=Path, help="markdown page to write; of all sizes only")
    options = parser.parse_args()
    if options.page is not None and options.sizes != names:
        parser.error("--page wants all sizes")
    transformers.logging.set_verbosity_error()
    results = []
    for size, optimiser_steps in CASES:
        if size.name in options.sizes:
            print(f"{size.name}, {optimiser_steps} optimiser step(s)", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                results.append(measure(size, optimiser_steps, options.rounds, folder))
    text = page(results, options.rounds)
    print(text)
    if options.page is not None:
        atomic_write(options.page, text.encode())


if __name__ == "__main__":
    main()
