"""Command line: ``python -m train run CONFIG`` and ``python -m train eval RUN``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cures.checks import as_int, fail
from train.config import Config
from train.config_file import describe, load
from train.errors import TrainError

EXAMPLES = """\
examples:
  python -m train run configs/tiny_cpu.toml
  python -m train run configs/tiny_cpu.toml --scheduler cures --set run.seed=1
  python -m train run configs/bench_cpu.toml --set task.dead_never=0.6 --set task.dead_always=0.25
  python -m train run configs/tiny_cpu.toml --scheduler tuned.toml
  python -m train eval runs/tiny_cpu-cures-seed1 --samples 32 --show 5

A run that was stopped, or killed, goes on where it was if the same command is given again.
Exit status: 0 if it worked, 2 on bad input, 1 if a run failed, 130 after Ctrl-C.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it worked, 2 on bad input, 1 if a run failed, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_benchmarks = words[:1] == ["eval"] and "--benchmarks" in words
    options = _benchmark_parser().parse_args(words[1:]) if is_benchmarks else None
    options = options or _parser().parse_args(words)
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        if is_benchmarks:
            return _benchmarks(options)
        return _run(options) if options.command == "run" else _evaluate(options)
    except (ValueError, TypeError) as error:
        errors.print(f"error: {error}")
        return 2
    except (OSError, TrainError) as error:
        errors.print(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        errors.print("stopped")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train a small language model by GRPO with a scheduler of cures, on a CPU.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="train, or go on training",
        description=(
            "Train as CONFIG says. The run folder gets config.json, metrics.jsonl (one line per\n"
            "update), outcomes.jsonl (one per plan and group), evaluation.jsonl, timing.jsonl\n"
            "(CPU seconds since the process began), environment.json, checkpoint/, curve.png and\n"
            "summary.json."
        ),
        epilog=f"what CONFIG may hold:\n\n{describe()}\n\n"
        "Further keys of [scheduler] go to the scheduler; a table [scheduler.NAME] holds options\n"
        'for the scheduler of that name only, so that one file serves several. The value "host"\n'
        "asks for the trainer's own array (category_N, features_N_D, ...).\n\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("config", type=Path, help="TOML file")
    run.add_argument(
        "--out", type=Path, help="run folder (default: runs/<config>-<scheduler>-seed<seed>)"
    )
    run.add_argument(
        "--scheduler",
        metavar="NAME|FILE.toml",
        help="instead of scheduler.name in CONFIG; a file of python -m sim tune brings its settings "
        "and group size along, and a warning when training leaves what they were tuned on",
    )
    run.add_argument(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="override one value; may be repeated",
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="load no weights: print memory and rollouts that the run would need, and stop",
    )
    run.add_argument(
        "--prompts", type=int, help="prompts of the pool, for --dry-run where only the data tell"
    )
    run.add_argument(
        "--processes", type=int, default=1, help="of torchrun, for --dry-run (default 1)"
    )
    evaluate = commands.add_parser(
        "eval",
        help="held-out success of a run's latest checkpoint; with --benchmarks, of any model on them",
        description=(
            "Held-out success of a run's latest checkpoint, per kind of problem. With --benchmarks,\n"
            "any model or run on the paper's benchmarks: python -m train eval --benchmarks --help"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.add_argument("run", type=Path, help="run folder")
    evaluate.add_argument("--samples", type=int, default=8, help="answers per problem (default 8)")
    evaluate.add_argument("--show", type=int, default=0, help="print so many answers (default 0)")
    return parser


def _benchmark_parser() -> argparse.ArgumentParser:
    from train.benchmarks.command import add_arguments

    parser = argparse.ArgumentParser(prog="python -m train eval")
    add_arguments(parser)
    return parser


def _benchmarks(options: argparse.Namespace) -> int:
    from train.benchmarks.command import run
    from train.checkpoint import latest_position, model_folder
    from train.verifiers.pool import VerifierPool

    root = Path(options.model) / "checkpoint"
    if root.is_dir() and latest_position(root) is not None:  # a run folder
        options.out = options.out or Path(options.model) / "benchmarks"
        options.model = str(model_folder(root))
    with VerifierPool("math", workers=2, on_failure="missing") as verify:
        return run(options, Console(markup=False), verify)


def _run(options: argparse.Namespace) -> int:
    overrides = list(options.overrides)
    tuned = None
    if options.scheduler is not None and options.scheduler.endswith(".toml"):
        tuned = Path(options.scheduler)
    elif options.scheduler is not None:
        overrides.append(f'scheduler.name="{options.scheduler}"')
    config = load(options.config, overrides, tuned)
    if options.dry_run:
        return _dry_run(config, options)
    scheduler = config.scheduler.name if tuned is None else tuned.stem
    default = f"{options.config.stem}-{scheduler}-seed{config.run.seed}"
    folder = options.out if options.out is not None else Path("runs") / default
    # torch and transformers take seconds to import: a typing error should not wait for them
    from train.progress import TrainingProgress
    from train.run import train
    from train.stopping import EXIT_STATUS, TerminatedError
    from train.world import joined_world

    console = Console(markup=False)
    try:
        with joined_world() as world:
            console = Console(markup=False, quiet=not world.is_first)
            with TrainingProgress(console) as progress:
                summary = train(config, folder, progress, world)
    except TerminatedError as error:
        console.print(f"{error}; the same command goes on", highlight=False, soft_wrap=True)
        return EXIT_STATUS
    except KeyboardInterrupt:
        command = shlex.join(["python", "-m", "train", "run", *_again(options, folder)])
        console.print(f"\nstopped; {_where_it_stopped(folder)}", highlight=False, soft_wrap=True)
        console.print(f"to go on: {command}", highlight=False, soft_wrap=True, markup=False)
        return 130
    console.print(
        f"{summary['updates']} updates, {summary['generated']} rollouts: held-out "
        f"success {summary['held_out_start']:.3f} -> {summary['held_out_end']:.3f} "
        f"(standard error {summary['standard_error']:.3f})\n{folder}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _dry_run(config: Config, options: argparse.Namespace) -> int:
    from train.dry_run.show import show

    prompts = options.prompts
    if prompts is None:
        prompts = getattr(config.task, "pool_size", None)
    if prompts is None:
        fail("--dry-run", "--prompts", "given: the number of prompts of the pool", None)
    show(
        config,
        prompts=as_int("--dry-run", "--prompts", prompts, 1),
        processes=as_int("--dry-run", "--processes", options.processes, 1),
        console=Console(markup=False),
    )
    return 0


def _where_it_stopped(folder: Path) -> str:
    from train.checkpoint import latest_position

    position = latest_position(folder / "checkpoint")
    if position is None:
        return "no checkpoint was written yet"
    return f"kept in {folder}: {position.updates} updates, {position.generated} rollouts"


def _again(options: argparse.Namespace, folder: Path) -> list[str]:
    words = [str(options.config), "--out", str(folder)]
    if options.scheduler is not None:
        words += ["--scheduler", options.scheduler]
    for override in options.overrides:
        words += ["--set", override]
    return words


def _evaluate(options: argparse.Namespace) -> int:
    import numpy as np

    from train.building import load_run
    from train.evaluation import (
        by_category,
        held_out_success,
        sampled_answers,
        standard_error,
    )

    as_int("eval", "--samples", options.samples, 1)
    as_int("eval", "--show", options.show, 0)
    config, task, host = load_run(options.run)
    rate_N = held_out_success(
        host.engine,
        task,
        config.evaluation,
        version=host.updates,
        world=host.world,
        samples=options.samples,
    )
    console = Console(highlight=False, markup=False)
    console.print(f"after {host.updates} updates, {host.generated} rollouts")
    for name, rate in by_category(rate_N, task).items():
        console.print(f"  {name}  {rate:.3f}")
    console.print(f"held-out success {np.nanmean(rate_N):.3f} +- {standard_error(rate_N):.3f}")
    if options.show:
        console.print("one sampled answer each, least significant digit first:")
    shown = sampled_answers(
        host.engine, task, config.evaluation, options.show, version=host.updates
    )
    for line in shown:
        judged = "right" if line.reward else f"wrong, {line.right} is right"
        console.print(f"  {line.prompt}{line.answer}  reward {line.reward:.0f}  ({judged})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
