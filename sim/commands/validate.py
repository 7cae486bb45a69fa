"""``python -m sim validate``: measurements against the formulas that the theory proves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cures.checks import as_choice
from sim.validation import FAMILIES

SUMMARY = "check simulator and library against the theory's formulas"
STOPPED = "Finished checks are kept; the same command goes on from here."
DESCRIPTION = """\
Does the simulator do what the theory says? Policies with known success rates are measured and
compared with the formulas of the theory's claims, the very expressions that its report prints:
gains of natural-gradient steps against the bound, frequencies of drawn prompts, spread of a rollout's
gradient, variance of the whole estimate. Every check has a band for its statistic and a control, a
wrong formula or setting, which the band must reject. Status 1 if any check fails.

The run folder gets validate.json, one figure per family, and the arrays behind them. The same
command goes on where an interrupted one stopped; a check is run again when the source of cures,
theory or the simulator's policies has changed since, or when its files are damaged, which is said.
"""
EPILOG = "families (--only):\n" + "\n".join(f"  {k:<20}{v}" for k, v in FAMILIES.items())
EPILOG += """

examples:
  python -m sim validate                          under a minute of CPU time
  python -m sim validate --quick --only bound
  python -m sim validate --draws 5000000 --seed 1 --out runs/validate-long
"""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Fill the command's parser."""
    p.description, p.epilog = DESCRIPTION, EPILOG
    p.add_argument(
        "--only", nargs="+", metavar="FAMILY", default=list(FAMILIES), help="these families"
    )
    size = p.add_mutually_exclusive_group()
    size.add_argument(
        "--draws",
        type=int,
        metavar="N",
        help="rollouts or prompts that a random check may draw (500000)",
    )
    size.add_argument("--quick", action="store_true", help="the same as --draws 50000")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (%(default)s)")
    p.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="run folder (runs/sim-validate-seedSEED-DRAWS)",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Check, draw, print; status 1 if a check fails."""
    families = [
        as_choice("validate", "only", name, tuple(FAMILIES))
        for name in dict.fromkeys(arguments.only)
    ]
    # sympy takes a second, which other commands and --help need not wait for
    from sim.validation.pictures import draw_figures
    from sim.validation.report import show
    from sim.validation.run import DRAWS, QUICK, ValidationSettings

    draws = QUICK if arguments.quick else (DRAWS if arguments.draws is None else arguments.draws)
    settings = ValidationSettings(seed=arguments.seed, draws=draws)
    root = arguments.out or Path("runs") / f"sim-validate-seed{settings.seed}-{settings.draws}"
    summary = _with_progress(settings, families, root, console)
    show(summary, draw_figures(root, families), root, console)
    return 0 if summary["passes"] else 1


def _with_progress(
    settings: Any, families: list[str], root: Path, console: Console
) -> dict[str, Any]:
    from sim.validation.run import checks_of, validate

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("checks, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("checks", total=sum(len(checks_of(f)) for f in families))

        def on_check(row: dict[str, Any], origin: str) -> None:
            words = f"{row['family']}/{row['name']}"
            if origin == "damaged":
                console.print(f"{words}: kept files damaged, computed again", soft_wrap=True)
            progress.update(bar, advance=1, description=f"{words} ({origin})")

        return validate(settings, families, root, on_check=on_check)
