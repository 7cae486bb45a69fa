"""Command line of the simulator: ``python -m sim compare --schedulers uniform cures ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sim.arguments import parser, settings_of
from sim.compare import compare, tasks_of
from sim.plot import draw_curves
from sim.report import show
from sim.settings import Settings
from sim.until_decided import first_look, next_look


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; status 0, 1: a run failed or a worker died, 2: bad input, 130: Ctrl-C."""
    arguments = parser().parse_args(argv)
    console = Console()
    try:
        settings = settings_of(arguments)
        root = arguments.out or Path("runs") / f"sim-{settings.population}"
        settings, comparison = _compare(settings, root, arguments, console)
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


def _compare(
    settings: Settings, root: Path, arguments: argparse.Namespace, console: Console
) -> tuple[Settings, dict[str, Any]]:
    """The comparison and the settings it ended with; ``--until-decided`` adds seeds."""
    if not arguments.until_decided:
        return settings, _compare_with_progress(settings, root, arguments, console)
    settings = replace(settings, seeds=first_look(settings, root))
    while True:
        comparison = _compare_with_progress(settings, root, arguments, console)
        seeds, open_arms = next_look(settings, root)
        state = f"open: {', '.join(open_arms)}" if open_arms else "every verdict is in"
        next_step = "this was the last look" if seeds is None else f"going on to {seeds}"
        console.print(f"{settings.seeds} seeds: {state}; {next_step}", soft_wrap=True)
        if seeds is None:
            return settings, comparison
        settings = replace(settings, seeds=seeds)


def _compare_with_progress(
    settings: Settings, root: Path, arguments: argparse.Namespace, console: Console
) -> dict[str, Any]:
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
