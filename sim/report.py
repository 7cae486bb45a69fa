"""The comparison on screen: one table, and which files hold the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cures.comparison import seeds_needed
from sim.settings import REFERENCE, Settings
from sim.wording import TOLD, difference_text, speed_up_text, verdict_text

SHARES = ("pilot", "trained", "discarded", "missing", "pending")


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
    console.print("", _success_table(arms), sep="\n")
    if fractions:
        console.print("", _speed_table(arms, fractions), sep="\n")
    console.print("", _cost_table(arms), "", sep="\n")
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
        difference = difference_text(row.get("difference"))
        table.add_row(arm, f"{row['final']:.4f}", difference, verdict_text(row))
    return table


def _speed_table(arms: dict[str, Any], fractions: list[float]) -> Table:
    headings = [f"{fraction:.0%} of the gain" for fraction in fractions]
    table = _table("Rollouts to the level: uniform's median over the arm's [95 %]", *headings)
    for arm, row in arms.items():
        cells = [speed_up_text(target) for target in row["targets"]]
        table.add_row(arm, *[cell.replace(" (", "\n(") for cell in cells])
    return table


def _cost_table(arms: dict[str, Any]) -> Table:
    table = _table("Where the rollouts went", *SHARES, "wasted", "used", "steps", gap=1)
    for arm, row in arms.items():
        shares = [f"{row['shares'][key]:.0%}" for key in SHARES]
        table.add_row(
            arm, *shares, f"{row['wasted']:.0%}", f"{row['used']:.0%}", f"{row['steps']:.0f}"
        )
    return table


def _table(title: str, *headings: str, gap: int = 2) -> Table:
    """Right-aligned numbers, no rules: tables fit into 80 columns; a long name is folded, not cut."""
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        padding=(0, 0, 0, gap),
        pad_edge=False,
        header_style="bold underline",
    )
    table.add_column("arm", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
