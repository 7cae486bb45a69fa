"""``python -m sim compare``: its arguments, the settings they stand for, the run and its progress."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cures import list_schedulers
from cures.advantage import AGGREGATIONS, ESTIMATORS
from cures.schedulers import SCHEDULERS
from sim.compare import compare, tasks_of
from sim.optimiser import OPTIMISERS
from sim.plot import draw_curves
from sim.populations import POLICIES, POPULATIONS
from sim.report import show
from sim.settings import LEARNING_RATES, REFERENCE, Settings, parse_options
from sim.until_decided import MOST_SEEDS, STEP, first_look, next_look

SUMMARY = "run schedulers on paired seeds and compare them"
DEFAULT = {f.name: f.default for f in fields(Settings)}
DESCRIPTION = f"""\
Compare schedulers on a simulated policy at equal generated rollouts, pilots and discarded ones
included: which arm ends with the higher success rate on held-out prompts, and how many rollouts
does each need to get where {REFERENCE} gets?

Every seed has its own prompts, held-out set and initial policy, the same for all arms; arms are
compared seed by seed with {REFERENCE}, which always takes part. Levels to reach are fixed beforehand
on separate development seeds. Everything lands in --out. The same command goes on where an
interrupted one stopped (even by SIGKILL) and gives the same numbers, with any --jobs.
"""


def _schedulers() -> str:
    """Every scheduler with the first line of its module, which says what it does."""
    lines = []
    for name, scheduler in SCHEDULERS.items():
        text = (sys.modules[scheduler.__module__].__doc__ or "").partition("\n")[0]
        lines.append(fill(text, 96, initial_indent=f"  {name:<16}", subsequent_indent=" " * 18))
    return "\n".join(lines)


EPILOG = f"""\
schedulers (--schedulers):
{_schedulers()}
  oracle and staged are told true success rates that cost them nothing: references, no verdict.
  NAME@LABEL is a further arm of the same scheduler, with options and draws of its own.

policies (--policy):
  skills         chains of steps on shared skills; a rollout stops at its first failed step
  item_response  one vector of abilities, every prompt loads on it
  tabular        softmax over eight answers, linear in shared features

populations (--population), by the initial success rates of their prompts:
  skills       products of shared skills, whatever comes out; for --policy skills only
  uniform      spread evenly over (0, 1)
  u_shaped     mostly near 0 and near 1
  mostly_hard  mostly near 0               mostly_easy  mostly near 1
  dead         60 % never rewarded, 25 % always: nothing to learn there; the rest as uniform
  coins        20 % rewarded by coin flips (a broken verifier); the rest as uniform

examples:
  python -m sim compare --schedulers cures speed --rollouts 20000 --seeds 6
  python -m sim compare --schedulers cures cures@cold --set cures@cold.temperature=0.02
  python -m sim compare --schedulers cures oracle --set oracle.learnable=true --population coins
  python -m sim compare --schedulers cures --until-decided --jobs 2

a wrong option of --set is answered with the list of right ones.
"""


class _Section:
    """A titled group of arguments."""

    def __init__(self, command: argparse.ArgumentParser, title: str) -> None:
        self.group = command.add_argument_group(title)

    def add(
        self, flag: str, text: str, field: str, kind: type = int, metavar: str = "N", **more: Any
    ) -> None:
        """An argument with the default of a field of :class:`sim.settings.Settings`."""
        if "choices" not in more:
            more["metavar"] = metavar
        help_text = f"{text} (%(default)s)"
        self.group.add_argument(
            flag, type=kind, default=DEFAULT[field], dest=field, help=help_text, **more
        )


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Fill the command's parser; every default is that of :class:`sim.settings.Settings`."""
    p.description, p.epilog = DESCRIPTION, EPILOG
    p.usage = "python -m sim compare --schedulers NAME [NAME ...] [options]"
    arms = _Section(p, "what is compared")
    arms.group.add_argument(
        "--schedulers", nargs="+", required=True, metavar="NAME", help="arms; see below"
    )
    arms.group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="ARM.KEY=VALUE",
        help="options of single arms, e.g. cures.temperature=0.02",
    )
    task = _Section(p, "the simulated task")
    task.add("--population", "kind of prompts; see below", "population", str, choices=POPULATIONS)
    task.add("--policy", "how prompts depend on parameters", "policy", str, choices=POLICIES)
    task.add("--pool", "training prompts", "pool")
    task.add("--held-out", "held-out prompts, never trained on", "held_out")
    task.add("--missing-rate", "share of rollouts that time out", "missing_rate", float, "P")

    size = _Section(p, "how long, how often")
    size.add("--rollouts", "rollouts that each run may generate", "rollouts")
    size.add(
        "--seeds", "runs of each arm; below 6 no verdict; a larger number grows --out", "seeds"
    )
    size.group.add_argument(
        "--until-decided",
        action="store_true",
        help=f"add seeds, {STEP} at a time up to {MOST_SEEDS}, until every arm has its verdict "
        "(early looks are stricter, so that looking often is not wrong more often)",
    )
    size.add("--margin", "largest loss of held-out success that is no harm", "margin", float, "X")
    size.add("--dev-seeds", f"runs of {REFERENCE} that fix the levels to reach", "dev_seeds")
    size.add("--grid-points", "points of the learning curves", "grid_points")
    size.add("--root-seed", "root of all randomness", "root_seed")

    training = _Section(p, "training, the same for every arm")
    training.add("--batch-size", "prompt draws per update", "batch_size")
    training.add("--group-size", "rollouts per draw; an update has both multiplied", "group_size")
    training.add("--estimator", "advantage estimator", "estimator", str, choices=ESTIMATORS)
    training.add("--aggregation", "loss weights", "aggregation", str, choices=AGGREGATIONS)
    training.add("--optimiser", "of the policy", "optimiser", str, choices=OPTIMISERS)
    rates = "; ".join(
        f"{optimiser}: " + ", ".join(f"{policy} {rate:g}" for policy, rate in by_policy.items())
        for optimiser, by_policy in LEARNING_RATES.items()
    )
    training.group.add_argument(
        "--learning-rate", type=float, metavar="X", help=f"(by optimiser and policy: {rates})"
    )

    files = p.add_argument_group("files and processes")
    files.add_argument("--out", type=Path, metavar="DIR", help="run folder (runs/sim-POPULATION)")
    files.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (%(default)s)")
    files.add_argument(
        "--checkpoint-every",
        type=float,
        default=5.0,
        metavar="S",
        help="seconds between checkpoints (%(default)s)",
    )
    files.add_argument("--outcomes", action="store_true", help="write outcomes.jsonl for every run")


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


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Compare, draw, print; status 0."""
    settings = settings_of(arguments)
    root = arguments.out or Path("runs") / f"sim-{settings.population}"
    settings, comparison = _compare(settings, root, arguments, console)
    draw_curves(settings, root, comparison)
    show(settings, comparison, root, console)
    return 0


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
