"""``python -m sim calibrate``: from rollouts of a real model to a population file."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from sim.calibration.settings import CalibrationSettings
from sim.population_file import POLICIES

SUMMARY = "estimate the population of success rates of a real model from its rollouts"
STOPPED = "Nothing was written; the same command starts again."
DEFAULT = {f.name: f.default for f in fields(CalibrationSettings)}
DESCRIPTION = """\
Estimate from a few rollouts per prompt how the success rates of a real model are distributed, and
write a population file on which the other commands run.

With t rollouts per prompt only the first t moments of that distribution can be seen, however many
prompts there are. So two intervals are printed: the range over *all* populations that fit the counts,
and a bootstrap around the best fit, which misses what the rollouts cannot tell and is too narrow. The
population that is simulated is the one of largest entropy among those that fit nearly best.

With training in the file (or in --log) it also estimates the drift of success rates, how much of what
is learned on one prompt reaches others, and the learning rate at which the simulated policy gains as
much as the real one did. A log of `uniform` is the best one: it visits prompts whatever became of
them.
"""
EPILOG = """\
the file (outcomes.jsonl, written by every host; one line per group of rollouts):
  {"prompt": 17, "step": 0, "success": 3, "trial": 4, "is_pilot": true}

  step counts the updates of the policy that answered. By default the population is that of the
  pilots of the earliest step that has any. A malformed line stops everything: file, line and field
  are named and nothing is written.

what the numbers mean:
  drift_sd  standard deviation per update of a prompt's own random walk in logits, beyond learning
  transfer  effect of training on one prompt on another, over that on itself (0 none, 1 all alike)
  reach     share of the pool's gain that came to prompts while they were not trained on

examples:
  python -m train run configs/tiny_cpu.toml --scheduler cures --out runs/real
  python -m sim calibrate runs/real/outcomes.jsonl --name my-model --out runs/my-model
  python -m sim compare --schedulers cures speed --population runs/my-model/population.json
  python -m sim calibrate pilots.jsonl --log runs/uniform/outcomes.jsonl --group-size 16

Takes seconds to a minute; interrupted, it has written nothing and is simply started again.
"""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Fill the command's parser; every default is that of ``CalibrationSettings``."""
    p.description, p.epilog = DESCRIPTION, EPILOG
    p.usage = "python -m sim calibrate PILOTS [options]"
    p.add_argument("pilots", metavar="PILOTS", help="outcomes.jsonl with pilots; see below")
    what = p.add_argument_group("evidence")
    what.add_argument(
        "--log",
        metavar="PATH",
        help="outcomes.jsonl of training on the same prompts, from the policy that answered PILOTS "
        "(PILOTS itself)",
    )
    _number(
        what, "at_step", "population of this step, from all its groups (the earliest with pilots)"
    )
    _number(what, "most_prompts", "prompts of the log used for drift and transfer (%(default)s)")
    result = p.add_argument_group("result")
    result.add_argument(
        "--name", default=DEFAULT["name"], help="name of the population (%(default)s)"
    )
    _number(result, "group_size", "rollouts of a group, for its chance to be mixed (%(default)s)")
    result.add_argument(
        "--policy",
        choices=POLICIES,
        default=DEFAULT["policy"],
        help="simulated policy (%(default)s)",
    )
    _number(result, "pool", "prompts in the simulation that matches the learning rate (the log's)")
    result.add_argument(
        "--confidence",
        type=float,
        default=DEFAULT["confidence"],
        metavar="X",
        help="of all intervals (%(default)s)",
    )
    _number(result, "bootstrap", "bootstrap draws (%(default)s)")
    _number(result, "seed", "of bootstrap and simulation (%(default)s)")
    result.add_argument("--out", type=Path, metavar="DIR", help="run folder (runs/NAME)")


def _number(group: Any, field: str, text: str) -> None:
    flag = "--" + field.replace("_", "-")
    group.add_argument(flag, type=int, default=DEFAULT[field], metavar="N", help=text)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Calibrate, write, print; status 0."""
    # late: what it imports takes longer to load than the other commands together
    from sim.calibration.folder import check_folder, write  # draws: imports late
    from sim.calibration.pilots import CURVE_POINTS
    from sim.calibration.study import calibrate

    settings = CalibrationSettings(**{name: getattr(arguments, name) for name in DEFAULT})
    config = settings.as_json()
    folder = arguments.out or Path("runs") / settings.name
    check_folder(folder, config)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        total = {"populations that fit": 6 + CURVE_POINTS, "bootstrap": settings.bootstrap}
        bars: dict[str, Any] = {}

        def on_progress(stage: str) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total.get(stage))
            progress.advance(bars[stage])

        result = calibrate(settings, on_progress)
    write(folder, config, result)
    show(result.report, folder, console)
    return 0


def show(report: dict[str, Any], folder: Path, console: Console) -> None:
    """Print what was found."""
    pilots = report["pilots"]
    console.print(
        f"{pilots['prompts']:,} prompts, {pilots['rollouts']:,} rollouts of the policy of step "
        f"{pilots['step']}; {pilots['lines_of_other_steps_or_training']:,} lines left to the log",
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold underline")
    for heading in ("", "simulated", "best fit", "all that fit", "bootstrap"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    for row in report["quantities"].values():
        table.add_row(
            row["meaning"],
            f"{row['simulated']:.3f}",
            f"{row['best_fit']:.3f}",
            _interval(*row["compatible"]),
            _interval(*row["bootstrap"]),
        )
    console.print("", table, "", sep="\n")
    console.print(
        f"Intervals at {report['confidence']:.0%}. All that fit: over every population whose counts "
        "these could be. The bootstrap shows sampling error alone.",
        style="dim",
    )
    _show_dynamics(report, console)
    console.print(
        f"Files in {folder}: population.json (for --population), calibration.json (these numbers), "
        "calibration.png, arrays.npz, config.json",
        soft_wrap=True,
    )


def _show_dynamics(report: dict[str, Any], console: Console) -> None:
    dynamics, learning = report["dynamics"], report["learning"]
    if dynamics is None:
        console.print(f"No drift, transfer, learning rate: {report['why_no_dynamics']}.")
        return
    for name, digits in (("drift_sd", 3), ("transfer", 4), ("reach", 3)):
        row = dynamics[name]
        text = "not told by this log" if row is None else (
            f"{row['value']:.{digits}f} {_interval(row['low'], row['high'], digits)}"
        )  # fmt: skip
        console.print(f"{name:<14} {text}", highlight=False)
    rate, transfer = learning["learning_rate"], report["population"]["transfer"]
    if rate is None:
        text = "not told: no gain, or none that the simulated policy can reach"
    else:
        ends = f"from mean success {learning['start']:.3f} to {learning['target']:.3f}"
        text = f"{rate:.2g} (Adam), {ends}"
    console.print(f"learning rate  {text}", highlight=False)
    if learning["is_transfer_raised"]:
        console.print(
            f"The simulated policy reaches that gain only with transfer {transfer:.3g}: it has few "
            "abilities for many prompts, so it cannot learn each prompt by itself.",
            soft_wrap=True,
        )


def _interval(low: float, high: float, digits: int = 3) -> str:
    return f"[{low:.{digits}f}, {high:.{digits}f}]"
