"""Command line: ``python -m train``, with ``run CONFIG``, ``eval RUN`` and ``bench MODEL``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cures.checks import as_int, fail
from train.benchmarks import command as bench
from train.config import Config
from train.config_file import describe, load
from train.errors import TrainError

if TYPE_CHECKING:
    from train.host import LanguageModelHost
    from train.tasks.protocol import Task

EXAMPLES = """\
examples:
  python -m train run configs/tiny_cpu.toml
  python -m train run configs/tiny_cpu.toml --scheduler cures --set run.seed=1
  python -m train run configs/bench_cpu.toml --set task.dead_never=0.6 --set task.dead_always=0.25
  python -m train run configs/tiny_cpu.toml --scheduler tuned.toml
  torchrun --nproc-per-node 8 -m train run configs/qwen2.5-math-7b-cures-grpo.toml
  python -m train eval runs/tiny_cpu-cures-seed1 --samples 32 --show 5
  python -m train bench Qwen/Qwen2.5-Math-1.5B --engine vllm

A run that was stopped, or killed, goes on where it was if the same command is given again.
Exit status: 0 if it worked, 2 on bad input, 1 if a run failed, 130 after Ctrl-C, 143 after SIGTERM.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        return int(options.does(options))
    except ValueError as error:
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
        description="Train a causal language model by policy gradients on verified 0/1 rewards, with a\n"
        "scheduler of cures: a toy on one CPU core, or Qwen2.5-Math-7B by torchrun, FSDP2 and vLLM.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="train, or go on training",
        description=(
            "Train as CONFIG says. docs/training.md has what the run folder then holds, file by file."
        ),
        epilog=f"what CONFIG may hold:\n\n{describe()}\n\n"
        "Further keys of [scheduler] go to the scheduler; a table [scheduler.NAME] holds options\n"
        'for the scheduler of that name only, so that one file serves several. The value "host"\n'
        "asks for the trainer's own array (category_N, features_N_D, ...).\n\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(does=_run)
    run.add_argument("config", type=Path, metavar="CONFIG", help="TOML file")
    run.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="run folder (default: runs/<config>-<scheduler>-seed<seed>)",
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
        "--prompts",
        type=int,
        metavar="N",
        help="prompts of the pool, for --dry-run where only the data tell",
    )
    run.add_argument(
        "--processes", type=int, metavar="N", help="of torchrun, for --dry-run (default 1)"
    )
    evaluate = commands.add_parser(
        "eval",
        help="held-out success of a run's latest checkpoint",
        description="Held-out success of a run's latest checkpoint, per kind of problem. On the "
        "paper's benchmarks: python -m train bench --help",
    )
    evaluate.set_defaults(does=_evaluate)
    evaluate.add_argument("run", type=Path, metavar="RUN", help="run folder")
    evaluate.add_argument(
        "--samples", type=int, default=8, metavar="N", help="answers per problem (default 8)"
    )
    evaluate.add_argument(
        "--show", type=int, default=0, metavar="N", help="print so many answers (default 0)"
    )
    benchmarks = commands.add_parser("bench", help=bench.SUMMARY)
    benchmarks.set_defaults(does=_bench)
    bench.add_arguments(benchmarks)
    return parser


def _bench(options: argparse.Namespace) -> int:
    from train.checkpoint import latest_position, model_folder
    from train.verifiers.pool import VerifierPool

    root = Path(options.model) / "checkpoint"
    if root.is_dir() and latest_position(root) is not None:  # a run folder
        options.out = options.out or Path(options.model) / "benchmarks"
        options.model = str(model_folder(root))
    console = Console(markup=False)
    try:
        with VerifierPool("math", workers=2, on_failure="missing") as verify:
            return bench.run(options, console, verify)
    except KeyboardInterrupt:
        console.print(f"\nstopped. {bench.STOPPED}", highlight=False, soft_wrap=True)
        return 130


def _run(options: argparse.Namespace) -> int:
    if not options.dry_run:
        _refuse_dry_options(options)
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

    console, processes = Console(markup=False), 1
    try:
        with joined_world() as world:
            processes = world.size
            console = Console(markup=False, quiet=not world.is_first)
            with TrainingProgress(console) as progress:
                summary = train(config, folder, progress, world)
    except TerminatedError as error:
        console.print(f"{error}; the same command goes on", highlight=False, soft_wrap=True)
        return EXIT_STATUS
    except KeyboardInterrupt:
        launcher = ["python"]
        if processes > 1:
            launcher = ["torchrun", "--nproc-per-node", str(processes)]
        command = shlex.join([*launcher, "-m", "train", "run", *_again(options, folder)])
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


def _refuse_dry_options(options: argparse.Namespace) -> None:
    if options.prompts is not None:
        fail("run", "--prompts", "left out without --dry-run", options.prompts)
    if options.processes is not None:
        legal = (
            "left out without --dry-run (to train on several: torchrun --nproc-per-node N -m train)"
        )
        fail("run", "--processes", legal, options.processes)


def _dry_run(config: Config, options: argparse.Namespace) -> int:
    from train.dry_run.show import show

    prompts, processes = options.prompts, options.processes
    if prompts is None:
        prompts = getattr(config.task, "pool_size", None)
    if prompts is None:
        fail("--dry-run", "--prompts", "given: the number of prompts of the pool", None)
    show(
        config,
        prompts=as_int("--dry-run", "--prompts", prompts, 1),
        processes=1 if processes is None else as_int("--dry-run", "--processes", processes, 1),
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
    from train.building import load_run
    from train.evaluation import by_category, held_out_success, mean_and_error

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
    mean, error = mean_and_error(rate_N)
    console.print(f"held-out success {mean:.3f} +- {error:.3f}")
    if options.show:
        _show(config, task, host, options.show, console)
    return 0


def _show(
    config: Config, task: Task, host: LanguageModelHost, problems: int, console: Console
) -> None:
    from train.evaluation import sampled_answers

    order = ", least significant digit first" if config.task.kind == "arithmetic" else ""
    console.print(f"one sampled answer each{order}:")
    shown = sampled_answers(host.engine, task, config.evaluation, problems, version=host.updates)
    for line in shown:
        if line.reward is None:
            verdict = "no reward  (lost by engine or verifier)"
        else:
            judged = "right" if line.reward else f"wrong, {line.right} is right"
            verdict = f"reward {line.reward:.0f}  ({judged})"
        console.print(f"  {line.prompt}{line.answer}  {verdict}")


if __name__ == "__main__":
    sys.exit(main())
