"""``python -m train bench MODEL``: the paper's benchmarks, answered, judged and tabulated."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cures.checks import as_choice, as_float, as_int, fail
from train.benchmarks.definitions import BENCHMARKS, Benchmark, benchmarks_named
from train.benchmarks.instruction import STYLES
from train.benchmarks.loading import load_problems
from train.config import ENGINES

if TYPE_CHECKING:
    from train.benchmarks.answering import Verify

SUMMARY = "pass@1 and pass@k on the paper's benchmarks, beside its Table 1"
DTYPES = ("auto", "bfloat16", "float32")
STOPPED = "Finished batches are kept; the same command goes on from here."
DESCRIPTION = """\
Put the paper's benchmarks to a model, all eight unless some are named. Answers are sampled, judged and
written down batch by batch: a command that was stopped or killed goes on if it is given again, and
refuses other settings. Under torchrun the processes share the problems, and the result is the same.

The folder gets config.json, NAME.json (what was asked) and NAME.jsonl (one line per answer) of each
benchmark, scores.json and table.md. See docs/evaluation.md.
"""


def _epilog() -> str:
    sets = "\n".join(
        f"  {b.name:<15}{b.problems:>5} problems x {b.samples:>2}  {b.source}"
        for b in BENCHMARKS.values()
    )
    styles = "\n".join(f"  {name:<15}{text}" for name, text in STYLES.items())
    return f"""\
benchmarks (--benchmarks), with the paper's numbers of problems and samples:
{sets}

prompts (--prompt):
{styles}

examples:
  python -m train bench Qwen/Qwen2.5-Math-1.5B --engine vllm
  python -m train bench MODEL_DIR --benchmarks math500 aime24 --samples aime24=64
  python -m train bench MODEL_DIR --benchmarks gsm8k --data gsm8k=gsm8k_test.jsonl --limit 100
"""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Fill the command's parser."""
    p.description, p.epilog = DESCRIPTION, _epilog()
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument(
        "model",
        metavar="MODEL",
        help="folder of from_pretrained with its tokenizer, a name on the Hub, or a run folder: "
        "its latest checkpoint",
    )
    p.add_argument("--revision", default="main", help="of a model on the Hub (%(default)s)")

    asked = p.add_argument_group("what is asked")
    asked.add_argument(
        "--benchmarks", nargs="*", metavar="NAME", default=[], help="see below (all)"
    )
    asked.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="NAME=FILE",
        help="a .jsonl or .parquet file instead of the Hub's data set",
    )  # fmt: skip
    asked.add_argument("--limit", type=int, metavar="N", help="only the first N problems of each")
    asked.add_argument(
        "--samples", nargs="+", action="extend", default=[], metavar="N|NAME=N",
        help="answers per problem, of all benchmarks or of one (the paper's: see below)",
    )  # fmt: skip
    asked.add_argument("--prompt", default="system", metavar="NAME", help="see below (%(default)s)")

    how = p.add_argument_group("how answers are sampled")
    how.add_argument(
        "--temperature", type=float, default=1.0, metavar="X", help="0: the likeliest (%(default)s)"
    )
    how.add_argument(
        "--max-new-tokens", type=int, default=3072, metavar="N",
        help="longer answers are truncated, and wrong (%(default)s, the paper's)",
    )  # fmt: skip
    how.add_argument(
        "--end-token", nargs="+", action="extend", default=[], metavar="TEXT",
        help="ends an answer, beside the end tokens of tokenizer and model",
    )  # fmt: skip
    how.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all answers (%(default)s)"
    )
    how.add_argument(
        "--time-limit", type=float, metavar="S",
        help="seconds for a batch; what is not finished by then is missing (none)",
    )  # fmt: skip

    machine = p.add_argument_group("machine and files")
    machine.add_argument("--engine", default="native", metavar="NAME",
                         help=f"{', '.join(ENGINES)} (%(default)s)")  # fmt: skip
    machine.add_argument("--device", default="auto", help="cpu, cuda, cuda:N (auto: a GPU if any)")
    machine.add_argument(
        "--dtype", default="auto", metavar="NAME",
        help=f"of the weights: {', '.join(DTYPES)} (bfloat16 on a GPU, float32 elsewhere)",
    )  # fmt: skip
    machine.add_argument(
        "--max-rows",
        type=int,
        default=256,
        metavar="N",
        help="answers computed at once (%(default)s)",
    )
    machine.add_argument(
        "--gpu-memory-share", type=float, default=0.9, metavar="X", help="vllm's (%(default)s)"
    )
    machine.add_argument(
        "--batch", type=int, default=512, metavar="N",
        help="answers between two writes: what a kill can cost (%(default)s)",
    )  # fmt: skip
    machine.add_argument("--out", type=Path, metavar="DIR",
                         help="(runs/eval-MODEL; of a run: RUN/benchmarks)")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Question:
    """One benchmark as the command line asks for it."""

    benchmark: Benchmark
    samples: int
    file: Path | None


def questions_of(options: argparse.Namespace) -> list[Question]:
    """Benchmarks with their samples and files.

    Raises
    ------
    ValueError
        If a name is unknown or not among those asked, or a value cannot be read.
    """
    chosen = benchmarks_named(options.benchmarks or list(BENCHMARKS))
    names = tuple(benchmark.name for benchmark in chosen)
    files = dict(_named("--data", pair, names) for pair in options.data)
    every: int | None = None
    single: dict[str, int] = {}
    for text in options.samples:
        if "=" in text:
            name, value = _named("--samples", text, names)
            single[name] = _count("--samples", value)
        else:
            every = _count("--samples", text)
    return [
        Question(
            benchmark=b,
            samples=single.get(b.name, b.samples if every is None else every),
            file=Path(files[b.name]) if b.name in files else None,
        )
        for b in chosen
    ]


def _named(flag: str, text: str, names: tuple[str, ...]) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not value:
        fail("bench", flag, "of the form NAME=VALUE", text)
    return as_choice("bench", flag, name, names), value


def _count(flag: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        fail("bench", flag, "a whole number >= 1", text)
    return int(text)


def run(options: argparse.Namespace, console: Console, verify: Verify) -> int:
    """Ask, judge, tabulate; status 0.

    Parameters
    ----------
    options : argparse.Namespace
        Of a parser that :func:`add_arguments` filled.
    console : Console
        Only the first process of several speaks.
    verify : callable
        See :class:`train.benchmarks.answering.Verify`.

    Raises
    ------
    ValueError
        If an option, the model, a data set or the folder is not what is needed.
    """
    questions = questions_of(options)
    check_options(options, questions)
    # files before weights: a wrong one should not wait for gigabytes
    problems = [load_problems(q.benchmark, q.file, options.limit) for q in questions]
    # torch and transformers take seconds to import: a typing error should not wait for them
    from train.benchmarks.examination import examine
    from train.world import joined_world

    folder = options.out or Path("runs") / f"eval-{_short(options.model)}"
    with joined_world() as world:
        examine(options, questions, problems, folder, world, console, verify)
    return 0


def _short(model: str) -> str:
    return Path(model).resolve().name if Path(model).is_dir() else model.replace("/", "-")


def check_options(options: argparse.Namespace, questions: Sequence[Question]) -> None:
    """Refuse what is wrong in itself, before anything is loaded.

    Raises
    ------
    ValueError
        Naming the option.
    """
    as_choice("bench", "--prompt", options.prompt, tuple(STYLES))
    as_choice("bench", "--engine", options.engine, ENGINES)
    as_choice("bench", "--dtype", options.dtype, DTYPES)
    as_float("bench", "--temperature", options.temperature, 0.0)
    as_float("bench", "--gpu-memory-share", options.gpu_memory_share, 0.0, 1.0, open_low=True)
    for name in ("max_new_tokens", "max_rows", "batch"):
        as_int("bench", f"--{name.replace('_', '-')}", getattr(options, name), 1)
    as_int("bench", "--seed", options.seed, 0)
    if options.limit is not None:
        as_int("bench", "--limit", options.limit, 1)
    if options.time_limit is not None:
        as_float("bench", "--time-limit", options.time_limit, 0.0, open_low=True)
    several = [q.benchmark.name for q in questions if q.samples > 1]
    if options.temperature == 0.0 and several:
        legal = f"> 0 with several samples ({', '.join(several)}): they would all be the same"
        fail("bench", "--temperature", legal, options.temperature)
