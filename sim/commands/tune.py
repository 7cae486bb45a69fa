"""``python -m sim tune``: its arguments, the study they stand for, the search and its progress."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import fields
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.console import Console

from cures.advantage import AGGREGATIONS, ESTIMATORS
from cures.schedulers import list_schedulers, scheduler_settings
from sim.optimiser import OPTIMISERS
from sim.populations import POLICIES, POPULATIONS
from sim.run_folder import refuse_unwritable
from sim.settings import REFERENCE, Settings
from sim.tuning.knobs import GROUP_SIZES, TABLE
from sim.tuning.protocol import Study
from sim.tuning.restriction import parse_fixed, parse_ranges

SUMMARY = "search a scheduler's settings on a population, and write them for the trainer"
STOPPED = "Finished runs are kept; the same command goes on from here."
DESCRIPTION = f"""\
Search the settings of one scheduler on a simulated population. A trial is one setting on a few
development seeds; what it is worth is its held-out success minus that of {REFERENCE} on the same
seeds, at equal generated rollouts, pilots and discarded ones included. Trial 0 is the defaults.

The best of many noisy trials looks better than it is. So the best few and the defaults run again on
fresh seeds, which choose one; intervals come from further seeds, which decide only whether it replaces
the defaults. If it is not better than they are there, that is the answer, and they are what is written.

The same command goes on where an interrupted one stopped (even by SIGKILL) and finds the same
settings with any --jobs; a larger --trials goes on searching.
"""


def _table() -> str:
    """The search space, with the schedulers that each keyword belongs to."""
    known = {name: scheduler_settings(name) for name in list_schedulers()}
    lines = [f"  group_size (n)    divisors of an update's rollouts in [{GROUP_SIZES[0]}, "
             f"{GROUP_SIZES[1]}]; an update keeps its rollouts: all"]  # fmt: skip
    for knob in TABLE:
        owners = [name for name, own in known.items() if knob.key in own]
        scale = "log" if knob.is_log else "linear"
        unit = f" x {knob.times}" if knob.times else ""
        zero = "0 or " if knob.can_be_zero else ""
        text = (f"{knob.meaning}: {zero}[{knob.low:g}, {knob.high:g}]{unit}, {scale}: "
                f"{', '.join(owners)}")  # fmt: skip
        lines.append(
            fill(text, 98, initial_indent=f"  {knob.key:<17} ", subsequent_indent=" " * 20)
        )
    return "\n".join(lines)


EPILOG = f"""\
what is searched (keyword, meaning, range, scale, schedulers that have it):
{_table()}
  temperature is left out under --fix sampling=false; num_subsets and num_stages stop at the pool, and
  for cures-released and staged where a part of it would be smaller than a batch.

objectives (--objective):
  final      held-out success at the end, minus {REFERENCE}'s
  rollouts   rollouts saved on the way to 0.8 of {REFERENCE}'s gain, as a share of the budget
  The final verdict is about held-out success at equal rollouts under either.

on a cluster (from Python; any joblib backend carries the runs):
  Ray   from ray.util.joblib import register_ray; register_ray()
        with joblib.parallel_config(backend="ray"): tune(study, folder, jobs=None)
  Dask  client = dask.distributed.Client("scheduler:8786")
        with joblib.parallel_config(backend="dask"): tune(study, folder, jobs=None)
  with  from sim.tuning.protocol import Study; from sim.tuning.tune import tune

examples:
  python -m sim tune --scheduler cures --population dead --out tuned.toml
  python -m train run configs/tiny_cpu.toml --scheduler tuned.toml
  python -m sim tune --scheduler cures --fix pilots=4 --range temperature=0.02:0.5:log --jobs 2
  python -m sim tune --scheduler speed --population my-model.json --objective rollouts
"""

STUDY_DEFAULTS = {f.name: f.default for f in fields(Study)}
# flag, field of Settings, type, meaning, choices
TASK = (
    (
        "--population",
        "population",
        str,
        f"one of {', '.join(POPULATIONS)}; or a file PATH.json",
        None,
    ),
    ("--policy", "policy", str, "how prompts depend on parameters", POLICIES),
    ("--pool", "pool", int, "training prompts", None),
    ("--held-out", "held_out", int, "held-out prompts, never trained on", None),
    ("--missing-rate", "missing_rate", float, "share of rollouts that time out", None),
    ("--rollouts", "rollouts", int, "rollouts that each run may generate", None),
    ("--grid-points", "grid_points", int, "points of the learning curves", None),
    ("--margin", "margin", float, "held-out success that does not matter", None),
    ("--root-seed", "root_seed", int, "root of all randomness", None),
    ("--batch-size", "batch_size", int, f"draws per update of {REFERENCE}", None),
    ("--group-size", "group_size", int, f"rollouts per draw of {REFERENCE}", None),
    ("--estimator", "estimator", str, "advantage estimator", ESTIMATORS),
    ("--aggregation", "aggregation", str, "loss weights", AGGREGATIONS),
    ("--optimiser", "optimiser", str, "of the policy", OPTIMISERS),
    ("--learning-rate", "learning_rate", float, "of the policy", None),
)
STUDY = (
    ("--trials", "trials", "settings tried; a larger number goes on searching"),
    ("--batch", "batch", "settings proposed at a time, before any of their results is known"),
    ("--trial-seeds", "trial_seeds", "seeds of a trial"),
    ("--select-seeds", "select_seeds", "fresh seeds that choose among the best"),
    ("--confirm-seeds", "confirm_seeds", "further seeds, for the intervals; at least 6"),
    ("--top", "top", "trials that are looked at again"),
    ("--profile-points", "profile_points", "values per knob of the profiles; 0: no profiles"),
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Fill the command's parser."""
    p.description, p.epilog = DESCRIPTION, EPILOG
    p.usage = "python -m sim tune --scheduler NAME [options]"
    space = p.add_argument_group("what is searched")
    space.add_argument("--scheduler", required=True, metavar="NAME", help="whose settings")
    space.add_argument(
        "--fix", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="do not search these",
    )  # fmt: skip
    space.add_argument(
        "--range", nargs="+", action="extend", default=[], metavar="KEY=LOW:HIGH[:log]",
        help="search these elsewhere",
    )  # fmt: skip
    space.add_argument(
        "--objective", default="final", choices=("final", "rollouts"), help="(%(default)s)"
    )
    size = p.add_argument_group("how long")
    for flag, name, text in STUDY:
        size.add_argument(
            flag, type=int, default=STUDY_DEFAULTS[name], metavar="N", dest=name,
            help=f"{text} (%(default)s)",
        )  # fmt: skip
    task = p.add_argument_group("the simulated task and training")
    defaults = {f.name: f.default for f in fields(Settings)}
    for flag, name, kind, text, choices in TASK:
        shown = "by policy" if defaults[name] is None else "%(default)s"
        more: dict[str, Any] = {"choices": choices} if choices else {"metavar": "X"}
        task.add_argument(
            flag, type=kind, default=defaults[name], dest=name, help=f"{text} ({shown})", **more
        )
    files = p.add_argument_group("files and processes")
    files.add_argument("--out", type=Path, metavar="FILE", help="TOML (FOLDER/tuned.toml)")
    files.add_argument(
        "--folder", type=Path, metavar="DIR", help="run folder (runs/tune-SCHEDULER-POPULATION)"
    )
    files.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="processes; -1: one per core (%(default)s)"
    )
    files.add_argument(
        "--checkpoint-every", type=float, default=5.0, metavar="S",
        help="seconds between checkpoints of a run (%(default)s)",
    )  # fmt: skip


def study_of(arguments: argparse.Namespace) -> Study:
    """The study that the arguments describe."""
    task = {name: getattr(arguments, name) for _, name, *_ in TASK}
    try:
        protocol = Settings(arms=(REFERENCE,), **task)
    except ValueError as error:  # the task is that of compare, the command is not
        raise ValueError(str(error).replace("compare: ", "tune: ", 1)) from None
    return Study(
        protocol=protocol,
        scheduler=arguments.scheduler,
        objective=arguments.objective,
        fixed=parse_fixed(arguments.fix),
        ranges=parse_ranges(arguments.range),
        **{name: getattr(arguments, name) for _, name, _ in STUDY},
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Tune, draw, print, write the TOML; status 0."""
    from sim.tuning.picture import draw_study
    from sim.tuning.recommendation import write_toml
    from sim.tuning.report import show

    study = study_of(arguments)
    name = f"tune-{study.scheduler}-{study.protocol.population}"
    folder = arguments.folder or Path("runs") / name
    out = arguments.out or folder / "tuned.toml"
    if out.is_dir():
        raise ValueError(f"tune: out must be a file, got the folder {out}")
    refuse_unwritable("tune", "folder of out", out.parent)
    report = _tune_with_progress(study, folder, arguments, console)
    pictures = draw_study(folder)
    write_toml(out, study, report, _command(arguments))
    show(study, report, folder, pictures, out, console)
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """The command without what changes no number; defaults are left out."""
    words = ["python", "-m", "sim", "tune", "--scheduler", arguments.scheduler]
    defaults = {f.name: f.default for f in fields(Settings)} | STUDY_DEFAULTS
    for flag, name, *_ in (*TASK, *STUDY):
        value = getattr(arguments, name)
        if value != defaults[name]:
            words += [flag, str(value)]
    if arguments.objective != "final":
        words += ["--objective", arguments.objective]
    for flag in ("fix", "range"):
        if getattr(arguments, flag):
            words += [f"--{flag}", *getattr(arguments, flag)]
    return shlex.join(words)


def _tune_with_progress(
    study: Study, folder: Path, arguments: argparse.Namespace, console: Console
) -> dict[str, Any]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from sim.tuning.search import Trial
    from sim.tuning.tune import planned_runs, tune

    planned = planned_runs(study)
    best: Trial | None = None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("runs, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("search", total=sum(planned.values()))

        def on_stage(stage: str) -> None:
            # settings that share their runs make a stage shorter than planned
            before = sum(runs for name, runs in list(planned.items())[: list(planned).index(stage)])
            progress.update(bar, description=stage, completed=before)

        def on_trial(trial: Trial) -> None:
            nonlocal best
            best = trial if best is None or trial.mean > best.mean else best
            text = f"trial {trial.number + 1}/{study.trials}, best {best.mean:+.4f}"
            progress.update(bar, description=text)

        return tune(
            study,
            folder,
            jobs=arguments.jobs,
            checkpoint_every_s=arguments.checkpoint_every,
            on_stage=on_stage,
            on_run=lambda: progress.advance(bar),
            on_trial=on_trial,
        )
