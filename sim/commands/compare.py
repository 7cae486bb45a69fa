"""``python -m sim compare``: its arguments, the settings they stand for, the run and its progress."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cures import list_schedulers
from cures.advantage import AGGREGATIONS, ESTIMATORS
from cures.schedulers import SCHEDULERS
from cures.storage import write_json
from sim.compare import check_means, compare, tasks_of
from sim.grid import Cells, cells_of, prepare_grid, summarise
from sim.optimiser import OPTIMISERS
from sim.plot import draw_curves, draw_diagnostics, draw_summary
from sim.populations import POLICIES
from sim.report import show, show_summary
from sim.settings import LEARNING_RATES, REFERENCE, Settings, parse_options
from sim.until_decided import MOST_SEEDS, STEP, first_look, next_look

SUMMARY = "run schedulers on paired seeds and compare them"
STOPPED = "Finished runs are kept; the same command goes on from here."
DEFAULT = {f.name: f.default for f in fields(Settings)}
DESCRIPTION = f"""\
Compare schedulers on a simulated policy at equal generated rollouts, pilots and discarded ones
included: which arm ends with the higher success rate on held-out prompts, and how many rollouts
does each need to get where {REFERENCE} gets?

Every seed has its own prompts, held-out set and initial policy, the same for all arms; arms are
compared seed by seed with {REFERENCE}, which always takes part. Levels to reach are fixed beforehand
on separate development seeds. Beside success: where the rollouts went, which prompts were visited,
and how well a scheduler's posterior knows the true success rates. Everything lands in --out. The same
command goes on where an interrupted one stopped (even by SIGKILL) and gives the same numbers, with
any --jobs.

--populations and --estimators take several of either: one comparison for each pair, in a folder of
its own, and one table over all of them.
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

populations (--population, --populations), by the initial success rates of their prompts:
  skills       products of shared skills, whatever comes out; for --policy skills only
  uniform      spread evenly over (0, 1)
  u_shaped     mostly near 0 and near 1
  mostly_hard  mostly near 0               mostly_easy  mostly near 1
  dead         60 % never rewarded, 25 % always: nothing to learn there; the rest as uniform
  coins        20 % rewarded by coin flips (a broken verifier); the rest as uniform
  drift        as uniform; every training prompt's logit also walks at random, 0.05 per update
  categories   eight kinds, from mostly wrong to mostly right, each with skills of its own;
               --set cures.subset_N=category cuts the subsets by kind
  PATH.json    success rates of a real model, from a population file (python -m sim calibrate
               writes one): every seed draws its prompts from it; its policy and learning rate
               are the defaults then. Held-out prompts are learnable and never drift.

examples:
  python -m sim compare --schedulers cures speed --rollouts 20000 --seeds 6
  python -m sim compare --schedulers cures cures@cold --set cures@cold.temperature=0.02
  python -m sim compare --schedulers cures oracle --set oracle.learnable=true --population coins
  python -m sim compare --schedulers vip --set vip.features_N_D=host
  python -m sim compare --schedulers cures --until-decided --jobs 2
  python -m sim compare --schedulers cures speed --population my-model.json
  python -m sim compare --schedulers cures speed --populations uniform u_shaped dead drift \\
      --estimators grpo rloo --out runs/grid --jobs 2

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
    one_or_more = task.group.add_mutually_exclusive_group()
    one_or_more.add_argument(
        "--population",
        default=DEFAULT["population"],
        metavar="NAME",
        help="kind of prompts, or a population file PATH.json; see below (%(default)s)",
    )
    one_or_more.add_argument(
        "--populations", nargs="+", metavar="NAME", help="several: a comparison for each"
    )
    task.group.add_argument(
        "--policy",
        choices=POLICIES,
        help="how prompts depend on parameters (that of the population file, else skills)",
    )
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
    one_or_more = training.group.add_mutually_exclusive_group()
    one_or_more.add_argument(
        "--estimator",
        default=DEFAULT["estimator"],
        choices=ESTIMATORS,
        help="advantage estimator (%(default)s)",
    )
    one_or_more.add_argument(
        "--estimators",
        nargs="+",
        choices=ESTIMATORS,
        metavar="NAME",
        help="several: a comparison for each",
    )
    training.add("--aggregation", "loss weights", "aggregation", str, choices=AGGREGATIONS)
    training.add("--optimiser", "of the policy", "optimiser", str, choices=OPTIMISERS)
    rates = "; ".join(
        f"{optimiser}: " + ", ".join(f"{policy} {rate:g}" for policy, rate in by_policy.items())
        for optimiser, by_policy in LEARNING_RATES.items()
    )
    training.group.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help=f"(of the population file, else by optimiser and policy: {rates})",
    )

    files = p.add_argument_group("files and processes")
    files.add_argument(
        "--out", type=Path, metavar="DIR", help="run folder (runs/sim-POPULATION, or runs/sim-grid)"
    )
    files.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (%(default)s)")
    files.add_argument(
        "--checkpoint-every",
        type=float,
        default=5.0,
        metavar="S",
        help="seconds between checkpoints (%(default)s)",
    )
    files.add_argument("--outcomes", action="store_true", help="write outcomes.jsonl for every run")


def settings_of(arguments: argparse.Namespace, **changes: str) -> Settings:
    """Settings from parsed arguments; ``changes`` take their place."""
    values = {f.name: getattr(arguments, f.name) for f in fields(Settings) if f.name in arguments}
    known = list_schedulers()
    for arm in arguments.schedulers:
        if arm.partition("@")[0] not in known:
            raise ValueError(f"compare: schedulers must be among {known}, got {arm!r}")
    return Settings(
        **{**values, **changes},
        arms=tuple(arguments.schedulers),
        options=parse_options(arguments.set),
        has_outcomes=arguments.outcomes,
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Compare, draw, print; status 0."""
    check_means(arguments.jobs, arguments.checkpoint_every)
    if arguments.populations is None and arguments.estimators is None:
        settings = settings_of(arguments)
        root = arguments.out or Path("runs") / f"sim-{settings.population}"
        settings, comparison = _compare(settings, root, arguments, console)
        _draw(settings, root, comparison)
        show(settings, comparison, root, console)
        return 0
    pairs = product(
        arguments.populations or [arguments.population],
        arguments.estimators or [arguments.estimator],
    )
    cells = cells_of([settings_of(arguments, population=p, estimator=e) for p, e in pairs])
    root = arguments.out or Path("runs") / "sim-grid"
    _run_grid(cells, root, arguments, console)
    return 0


def _run_grid(cells: Cells, root: Path, arguments: argparse.Namespace, console: Console) -> None:
    """Cell after cell, then the table over all; a cell that is done already is only read."""
    if arguments.until_decided:  # cells may have grown
        cells = {
            name: replace(settings, seeds=first_look(settings, root / name))
            for name, settings in cells.items()
        }
    prepare_grid(cells, root)
    comparisons = {}
    for number, (name, settings) in enumerate(cells.items(), start=1):
        label = f"{name} ({number} of {len(cells)}), "
        grown, comparisons[name] = _compare(settings, root / name, arguments, console, label)
        _draw(grown, root / name, comparisons[name])
    summary = summarise(cells, comparisons)
    write_json(root / "summary.json", summary)
    draw_summary(summary, arguments.margin, root)
    show_summary(summary, root, console)


def _draw(settings: Settings, root: Path, comparison: dict[str, Any]) -> None:
    draw_curves(settings, root, comparison)
    draw_diagnostics(settings, root)


def _compare(
    settings: Settings,
    root: Path,
    arguments: argparse.Namespace,
    console: Console,
    label: str = "",
) -> tuple[Settings, dict[str, Any]]:
    """The comparison and the settings it ended with; ``--until-decided`` adds seeds."""
    if not arguments.until_decided:
        return settings, _compare_with_progress(settings, root, arguments, console, label)
    settings = replace(settings, seeds=first_look(settings, root))
    while True:
        comparison = _compare_with_progress(settings, root, arguments, console, label)
        seeds, open_arms = next_look(settings, root)
        state = f"open: {', '.join(open_arms)}" if open_arms else "every verdict is in"
        next_step = "this was the last look" if seeds is None else f"going on to {seeds}"
        console.print(f"{label}{settings.seeds} seeds: {state}; {next_step}", soft_wrap=True)
        if seeds is None:
            return settings, comparison
        settings = replace(settings, seeds=seeds)


def _compare_with_progress(
    settings: Settings, root: Path, arguments: argparse.Namespace, console: Console, label: str
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
            text = f"{label}{finished}/{len(tasks)} runs"
            progress.update(bar, completed=sum(done), description=text)

        return compare(
            settings,
            root,
            jobs=arguments.jobs,
            checkpoint_every_s=arguments.checkpoint_every,
            on_progress=on_progress,
        )
