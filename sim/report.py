"""The comparison on screen: one table, and which files hold the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cures.comparison import seeds_needed
from sim.analysis import FATES
from sim.settings import REFERENCE, Settings

BOUND = {"exact": "", "at least": "≥ ", "at most": "≤ "}
TOLD = "told the true rates"


def show(settings: Settings, comparison: dict[str, Any], root: Path, console: Console) -> None:
    """Print the table of a comparison."""
    seeds = settings.seeds
    console.print(
        f"{settings.population}, {settings.policy} policy, {settings.estimator}: "
        f"{seeds} paired seeds, {settings.rollouts:,} generated rollouts each; "
        f"held-out success starts at {comparison['start']:.3f}"
    )
    arms = comparison["arms"]
    fractions = [target["fraction"] for target in arms[REFERENCE]["targets"]]
    console.print(_success_table(arms))
    if fractions:
        console.print(_speed_table(arms, fractions, seeds))
    console.print(_cost_table(arms))
    if not fractions:
        console.print("No targets: uniform did not improve on the development seeds.")
    console.print(
        f"(a, b out): runs of {seeds} of uniform and of the arm that never arrived; the ratio is "
        "then a bound where a median rests on them. wasted: share of trained rollouts with "
        "advantage 0; used: share of generated rollouts with any other. Pilots are also trained, "
        "discarded, missing or pending (in a buffer at the end).",
        style="dim",
    )
    if any(row["told_true_rates"] for row in arms.values()):
        console.print(
            f"{TOLD}: the arm knows exact success rates that cost it no rollouts (oracle: the "
            "current ones, staged: the initial ones); a reference, no contender, hence no verdict.",
            style="dim",
        )
    if seeds < seeds_needed():
        console.print(f"No intervals, no verdicts: 95 % needs {seeds_needed()} seeds, not {seeds}.")
    console.print(
        f"Files in {root}: comparison.json (these numbers), curves.png, config.json, "
        "arms/*/metrics.jsonl and curve.npz (every run), development/ (runs behind the levels)",
        soft_wrap=True,
    )


def _success_table(arms: dict[str, Any]) -> Table:
    table = _table("Held-out success at equal rollouts", "final", "minus uniform [95 %]", "verdict")
    for arm, row in arms.items():
        table.add_row(arm, f"{row['final']:.4f}", _difference(row), _verdict(row))
    return table


def _speed_table(arms: dict[str, Any], fractions: list[float], seeds: int) -> Table:
    headings = [f"{fraction:.0%} of the gain" for fraction in fractions]
    table = _table("Rollouts to the level: uniform's median over the arm's [95 %]", *headings)
    for arm, row in arms.items():
        table.add_row(arm, *[_ratio(target, seeds) for target in row["targets"]])
    return table


def _cost_table(arms: dict[str, Any]) -> Table:
    fates = ("pilot", *FATES)
    table = _table("Where the rollouts went", *fates, "wasted", "used", "steps")
    for arm, row in arms.items():
        shares = [f"{row['shares'][fate]:.0%}" for fate in fates]
        table.add_row(
            arm, *shares, f"{row['wasted']:.0%}", f"{row['used']:.0%}", f"{row['steps']:.0f}"
        )
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("arm", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _verdict(row: dict[str, Any]) -> str:
    if "difference" not in row:
        return "reference"
    return TOLD if row["told_true_rates"] else str(row["difference"]["verdict"])


def _difference(row: dict[str, Any]) -> str:
    if "difference" not in row:
        return ""
    d = row["difference"]
    if d["low"] is None:
        return f"{d['mean']:+.4f}"
    return f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"


def _ratio(target: dict[str, Any], seeds: int) -> str:
    if "ratio" not in target:
        out = f" ({target['censored']} out)" if target["censored"] else ""
        return f"{target['median']:,.0f}{out}"
    out = ""
    if target["reference_censored"] or target["arm_censored"]:
        out = f" ({target['reference_censored']}, {target['arm_censored']} out)"
    if target["ratio"] is None:
        return f"undefined{out}"
    text = f"{BOUND[target['bound']]}{target['ratio']:.2f}"
    if seeds >= seeds_needed():
        high = "inf" if target["high"] is None else f"{target['high']:.2f}"
        text += f" [{target['low']:.2f}, {high}]"
    return text + out
