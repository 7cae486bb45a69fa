"""What the adapter adds to a step of TRL: a step without it, then one with it, in turn.

    make bench-trl      in its own environment (constraints-trl.txt), on an idle machine, or there
    python -m benchmarks.trl_overhead [--rounds 40] [--page docs/results/trl_overhead.md]

Every arm is a trainer that runs its own loop, ``train()``, in a thread of its own; only one thread goes
at a time, and after each step it hands over to the next, so that all meet the same disturbances. Seconds
are CPU seconds of this process, in which nothing else runs.

A step generates 8 completions of 128 prompts with a Qwen2 of 0.23M parameters, judges them and takes one
optimiser step. No token ends a completion, so that all arms generate and learn from equally many tokens.
This is the worst case: the model is a thousand times smaller than one worth training, and what the
adapter does is the same for any model. Two things are told: the difference of whole steps, which is
noisy, and the time spent in the adapter's own code, that is in its ``_generate_and_score_completions``
outside TRL's.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from scipy.stats import binom
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.against_trl import Verdicts
from benchmarks.native_generation import (
    POOL,
    QUOTA,
    ROLLOUTS,
    TINY,
    VERSIONS,
    Size,
)
from benchmarks.one_thread import on_one_thread
from cures.checks import FloatArray
from cures.integrations.trl import CuresMixin
from cures.storage import atomic_write
from figures.provenance import provenance
from train.tasks.characters import decode, save_tokenizer

SIZE = Size("0.23M", TINY, 6)
POOLS = (POOL, 100_000)
PLAIN = "TRL"
ARMS: dict[str, dict[str, Any] | None] = {
    PLAIN: None,
    "TRL again": None,  # the control: what it differs by is noise
    "uniform": {"scheduler": "uniform"},
    "adaptive": {"scheduler": "adaptive"},
    "shadow of adaptive": {"scheduler": "adaptive", "shadow": True},
}
AIM = 0.03  # of a step


class Inner(GRPOTrainer):  # type: ignore[misc]
    """TRL's, timing how long it generates and scores."""

    inner_s = 0.0

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        start = time.process_time()
        output = super()._generate_and_score_completions(inputs)
        self.inner_s += time.process_time() - start
        return output


class Outer(CuresMixin, Inner):
    """Ours around it, timed as well."""

    outer_s = 0.0

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        start = time.process_time()
        output = super()._generate_and_score_completions(inputs)
        self.outer_s += time.process_time() - start
        return output


class Ring:
    """Threads that go one at a time, in turn."""

    def __init__(self, size: int) -> None:
        self._may_go = [threading.Semaphore(0) for _ in range(size)]

    def start(self) -> None:
        """The first may go."""
        self._may_go[0].release()

    def wait(self, who: int) -> None:
        """Until it is ``who``'s turn."""
        self._may_go[who].acquire()

    def hand_over(self, who: int) -> None:
        """The next may go."""
        self._may_go[(who + 1) % len(self._may_go)].release()


@dataclass
class Turns(TrainerCallback):  # type: ignore[misc]
    """Times each step of an arm, and hands over after it."""

    ring: Ring
    who: int
    trainer: Any
    is_ready: threading.Event = field(default_factory=threading.Event)
    step_s: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Everything is made."""
        self.is_ready.set()
        self._begin()

    def _begin(self) -> None:
        self.ring.wait(self.who)
        self._own = getattr(self.trainer, "outer_s", 0.0) - self.trainer.inner_s
        self._start = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step is done; the last one is not followed by another."""
        self.step_s.append(time.process_time() - self._start)
        own = getattr(self.trainer, "outer_s", 0.0) - self.trainer.inner_s
        self.own_s.append(own - self._own)
        self.ring.hand_over(self.who)
        if state.global_step < state.max_steps:
            self._begin()


@dataclass(frozen=True)
class Made:
    """What makes trainers."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: str
    pool: int

    def trainer(self, steps: int, options: dict[str, Any] | None) -> Any:
        """TRL's, or with options ours."""
        questions = Verdicts()
        texts = [decode(questions.prompts.row(i).tolist()) for i in range(POOL)]
        index_N = np.arange(self.pool) % POOL  # a larger pool repeats questions
        dataset = {"prompt": [texts[i] for i in index_N], "index": index_N.tolist()}
        args = GRPOConfig(
            output_dir=self.folder,
            num_generations=QUOTA,
            per_device_train_batch_size=ROLLOUTS // 4,
            gradient_accumulation_steps=4,
            max_steps=steps,
            max_completion_length=SIZE.new_tokens,
            beta=0.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        kind = Inner if options is None else Outer
        made = kind(
            model=copy.deepcopy(self.model),
            args=args,
            reward_funcs=questions.trl_reward,
            train_dataset=Dataset.from_dict(dataset),
            processing_class=self.tokenizer,
            **(options or {}),
        )
        made.remove_callback(PrinterCallback)
        return made


def measure(made: Made, rounds: int) -> dict[str, Turns]:
    """All arms in turn, one step each a round; the first two rounds warm up."""
    ring, turns, threads = Ring(len(ARMS)), {}, []
    failures: list[BaseException] = []

    def run(train: Callable[[], Any]) -> None:
        try:
            train()
        except BaseException as error:
            failures.append(error)
            raise

    for who, (name, options) in enumerate(ARMS.items()):
        trainer = made.trainer(rounds + 2, options)
        turns[name] = Turns(ring, who, trainer)
        trainer.add_callback(turns[name])
        threads.append(threading.Thread(target=run, args=(trainer.train,), daemon=True))
        threads[-1].start()
        while not turns[name].is_ready.wait(
            timeout=1.0
        ):  # the libraries' state is set up once at a time
            if failures:
                raise failures[0]
    ring.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=1.0)
            if failures:
                raise failures[0]
    return turns


def table(results: dict[int, dict[str, Turns]]) -> tuple[list[str], list[str]]:
    """Markdown rows, and what became of the aim."""
    lines = [
        "| prompts in the pool | arm | step, s | more than TRL's step | adapter's own code, of a step |",
        "|---|---|---|---|---|",
    ]
    findings = []
    for pool, turns in results.items():
        plain_S = np.array(turns[PLAIN].step_s[2:])
        for name, arm in turns.items():
            step_S, own_S = np.array(arm.step_s[2:]), np.array(arm.own_s[2:])
            cells = [f"{pool:,}", name, f"{np.median(step_S):.3f}"]
            more, own = step_S / plain_S - 1, own_S / step_S
            cells += ["" if name == PLAIN else shown(more)]
            cells += ["" if ARMS[name] is None else shown(own)]
            if name != PLAIN:
                findings.append(f"- {pool:,} prompts, {name}: {verdict(more)}.")
            lines.append("| " + " | ".join(cells) + " |")
    return lines, findings


def interval(share_S: FloatArray) -> tuple[float, float]:
    """Of the median, at least 95 %, by order statistics: a value lies below it with chance 1/2."""
    ordered = np.sort(share_S)
    k = int(binom.ppf(0.025, ordered.size, 0.5))
    return float(ordered[max(k - 1, 0)]), float(ordered[min(ordered.size - k, ordered.size - 1)])


def shown(share_S: FloatArray) -> str:
    """Median and its interval."""
    low, high = interval(share_S)
    return f"{np.median(share_S):+.2%} [{low:+.2%}, {high:+.2%}]"


def verdict(more_S: FloatArray) -> str:
    """Whether whole steps take less than the aim more than TRL's."""
    low, high = interval(more_S)
    found = "reached" if high < AIM else "not reached" if low > AIM else "undecided"
    return f"{shown(more_S)} of a step (aim below {AIM:.0%}: {found})"


def page(results: dict[int, dict[str, Turns]], rounds: int) -> str:
    """The page of docs/results."""
    command = "python -m benchmarks.trl_overhead"
    if rounds != 40:
        command += f" --rounds {rounds}"
    lines, findings = table(results)
    head = f"""\
# What the adapter adds to a step of TRL

{ROLLOUTS // QUOTA} prompts x {QUOTA} rollouts of {SIZE.new_tokens} tokens a step, a Qwen2 of
{SIZE.model} parameters on one thread, all arms in turn, a step each. CPU seconds; medians of {rounds}
rounds [95 % interval of the median]; ratios are within a round. The model is as small as it gets, so
these shares are upper bounds: what the adapter does does not grow with the model. The aim is held
against whole steps, which are noisy ("TRL again" is TRL as well); the adapter's own code, beside them,
hardly is. How: `benchmarks/trl_overhead.py`.

{provenance(command, *VERSIONS, f"trl {trl.__version__}", "environment of constraints-trl.txt")}
"""
    return "\n".join([head, *lines, "", *findings]) + "\n"


def main() -> None:
    """Measure, print, write the page."""
    on_one_thread("benchmarks.trl_overhead")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="timed, after two that are not (40)")
    parser.add_argument("--page", type=Path, help="markdown page to write")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    results = {}
    for pool in POOLS:
        print(f"{pool:,} prompts", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            save_tokenizer(Path(folder))
            tokenizer = AutoTokenizer.from_pretrained(folder)
            # TRL wants an end token; one beyond the model's vocabulary never comes
            tokenizer.add_special_tokens({"eos_token": "<end>"})
            made = Made(SIZE.fresh_model(), tokenizer, folder, pool)
            results[pool] = measure(made, options.rounds)
    text = page(results, options.rounds)
    print(text)
    if options.page is not None:
        atomic_write(options.page, text.encode())


if __name__ == "__main__":
    main()
