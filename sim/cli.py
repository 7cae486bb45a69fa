"""Command line of the simulator: ``python -m sim compare --schedulers uniform cures ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cures import list_schedulers
from cures.advantage import AGGREGATIONS, ESTIMATORS
from sim.compare import compare, tasks_of
from sim.optimiser import OPTIMISERS
from sim.plot import draw_curves
from sim.populations import POLICIES, POPULATIONS
from sim.report import show
from sim.settings import LEARNING_RATES, Settings, parse_options

DEFAULT = {f.name: f.default for f in fields(Settings)}
DESCRIPTION = """\
Compare schedulers on a simulated policy at equal generated rollouts, pilots and discarded ones
included.

Every seed has its own prompts, held-out set and initial policy, the same for all arms. Target
levels are fixed beforehand: uniform's mean gain on separate development seeds. The same command
goes on where an interrupted one stopped (even by SIGKILL) and gives the same numbers, with any
--jobs.
"""
EPILOG = f"""\
schedulers: {", ".join(list_schedulers())}
  NAME@LABEL is a further arm of the same scheduler, with options and draws of its own:
  python -m sim compare --schedulers cures cures@cold --set cures@cold.temperature=0.02
  --set oracle.learnable=true also tells the oracle which prompts can be learned
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser; every default is that of :class:`sim.settings.Settings`."""
    top = argparse.ArgumentParser(prog="python -m sim", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    p = commands.add_parser(
        "compare",
        help="run schedulers on paired seeds and compare them",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(flag: str, text: str, field: str, kind: type = int, **more: Any) -> None:
        p.add_argument(
            flag,
            type=kind,
            default=DEFAULT[field],
            dest=field,
            help=f"{text} (%(default)s)",
            **more,
        )

    p.add_argument("--schedulers", nargs="+", required=True, metavar="NAME", help="arms to compare")
    p.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="ARM.KEY=VALUE", help="arm options"
    )
    add("--population", "prompts", "population", str, choices=POPULATIONS)
    add("--policy", "simulated policy", "policy", str, choices=POLICIES)
    add("--pool", "training prompts", "pool")
    add("--held-out", "held-out prompts", "held_out")
    add("--rollouts", "generated rollouts of every run", "rollouts")
    add("--seeds", "paired seeds; fewer than 6 decide nothing; may grow in --out", "seeds")
    add("--dev-seeds", "runs of uniform that fix the target levels", "dev_seeds")
    add("--batch-size", "prompt draws per update", "batch_size")
    add("--group-size", "rollouts per draw; times batch size = budget", "group_size")
    add("--estimator", "advantage estimator", "estimator", str, choices=ESTIMATORS)
    add("--aggregation", "loss weights", "aggregation", str, choices=AGGREGATIONS)
    add("--optimiser", "optimiser of every arm", "optimiser", str, choices=OPTIMISERS)
    p.add_argument("--learning-rate", type=float, help=f"default: {LEARNING_RATES}")
    add("--missing-rate", "share of rollouts that time out", "missing_rate", float)
    add("--grid-points", "points of the common grid", "grid_points")
    add("--margin", "largest loss that counts as no harm", "margin", float)
    add("--root-seed", "root of all randomness", "root_seed")
    p.add_argument("--outcomes", action="store_true", help="write outcomes.jsonl for every run")
    p.add_argument("--jobs", type=int, default=1, help="worker processes (%(default)s)")
    p.add_argument(
        "--checkpoint-every", type=float, default=5.0, metavar="S", help="seconds (%(default)s)"
    )
    p.add_argument("--out", type=Path, help="run folder (runs/sim-POPULATION)")
    return top


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Settings from parsed arguments."""
    values = {f.name: getattr(arguments, f.name) for f in fields(Settings) if f.name in arguments}
    known = list_schedulers()
    for arm in arguments.schedulers:
        if arm.partition("@")[0] not in known:
            raise ValueError(f"compare: schedulers must be among {known}, got {arm!r}")
    return Settings(
        **values,
        arms=tuple(arguments.schedulers),
        options=parse_options(arguments.set),
        has_outcomes=arguments.outcomes,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; status 0, 1: a run failed or a worker died, 2: bad input, 130: Ctrl-C."""
    arguments = parser().parse_args(argv)
    console = Console()
    try:
        settings = settings_of(arguments)
        root = arguments.out or Path("runs") / f"sim-{settings.population}"
        comparison = _compare_with_progress(settings, root, arguments, console)
        draw_curves(settings, root, comparison)
        show(settings, comparison, root, console)
    except ValueError as error:
        _print_error(error)
        return 2
    except KeyboardInterrupt:
        console.print("\nStopped. Finished runs are kept; the same command goes on from here.")
        return 130
    except BrokenProcessPool:
        _print_error("a worker process was killed; the same command goes on from here")
        return 1
    except (OSError, FloatingPointError, RuntimeError, MemoryError) as error:
        _print_error(error)
        return 1
    return 0


def _print_error(message: object) -> None:
    console = Console(stderr=True)
    console.print(f"error: {message}", style="red", markup=False, soft_wrap=True)


def _compare_with_progress(
    settings: Settings, root: Path, arguments: argparse.Namespace, console: Console
) -> dict[str, object]:
    tasks = tasks_of(settings)
    done = [0] * len(tasks)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rollouts, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("runs", total=len(tasks) * settings.rollouts)

        def on_progress(position: int, generated: int) -> None:
            done[position] = generated
            finished = sum(n >= settings.rollouts for n in done)
            text = f"{finished}/{len(tasks)} runs"
            progress.update(bar, completed=sum(done), description=text)

        return compare(
            settings,
            root,
            jobs=arguments.jobs,
            checkpoint_every_s=arguments.checkpoint_every,
            on_progress=on_progress,
        )


if __name__ == "__main__":
    sys.exit(main())
