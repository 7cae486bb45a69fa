"""The comparison on screen: its tables, and which files hold the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cures.comparison import seeds_needed
from sim.settings import REFERENCE, Settings
from sim.wording import (
    TOLD,
    coverage_text,
    difference_text,
    excess_text,
    sign_text,
    speed_up_text,
    verdict_text,
)

SHARES = ("pilot", "trained", "discarded", "missing", "pending")


def show(settings: Settings, comparison: dict[str, Any], root: Path, console: Console) -> None:
    """Print the tables of a comparison."""
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
    console.print("", _cost_table(arms), sep="\n")
    has_records = any(row.get("diagnostics") for row in arms.values())
    if has_records:
        console.print("", _knowledge_table(arms), sep="\n")
    console.print()
    if not fractions:
        console.print("No targets: uniform did not improve on the development seeds.")
    console.print(
        "won-tied-lost: seeds against uniform, with the p-value of an exact two-sided sign test. "
        f"(a, b out): runs of {seeds} of uniform and of the arm that never arrived; the ratio is "
        "then a bound where a median rests on them. wasted: share of trained rollouts with "
        "advantage 0; used: share of generated rollouts with any other. Pilots are also trained, "
        "discarded, missing or pending (in a buffer at the end).",
        style="dim",
    )
    if has_records:
        console.print(
            "spread over: effective sample size of the visits; unseen: share of the pool without "
            "a rollout; wasted: in the first and in the last quarter. cover: share of true success "
            "rates inside the central 50, 80 and 95 % intervals of the posterior, where it has "
            "evidence (rates of exactly 0 or 1 are in none); log-loss, Brier: of its mean, per "
            "rollout, above those of the true rate.",
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
        f"Files in {root}: comparison.json (these numbers), curves.png, "
        f"{'diagnostics.png, ' if has_records else ''}config.json, "
        "arms/*/metrics.jsonl and curve.npz (every run), development/ (runs behind the levels)",
        soft_wrap=True,
    )


def show_summary(summary: dict[str, Any], root: Path, console: Console) -> None:
    """Print the table over all cells of a grid."""
    headings = ("final", "minus uniform [95 %]", "won-tied-lost", "verdict")
    table = arm_table("Held-out success at equal rollouts, cell by cell", *headings, gap=1)
    last = None
    for row in summary["rows"]:
        if row["cell"] != last:
            table.add_row(f"[bold]{row['cell']}[/bold]", f"n = {row['seeds']}")
            last = row["cell"]
        table.add_row(f"  {row['arm']}", *_success_cells(row))
    contenders = [r for r in summary["rows"] if "difference" in r and not r["told_true_rates"]]
    console.print("", table, "", sep="\n")
    console.print(
        f"n: paired seeds. {len(contenders)} intervals of 95 %: where nothing differs, one in twenty "
        "still excludes 0. "
        "won-tied-lost: seeds against uniform, with the p-value of an exact two-sided sign test.",
        style="dim",
    )
    console.print(
        f"Files in {root}: summary.json (this table), summary.png, and one run folder per cell "
        "(POPULATION-ESTIMATOR) with comparison.json, curves.png, diagnostics.png",
        soft_wrap=True,
    )


def _success_cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    difference = row.get("difference")
    return (
        f"{row['final']:.4f}",
        difference_text(difference).replace(" [", "\n["),
        sign_text(difference).replace(" ", "\n"),
        verdict_text(row),
    )


def _success_table(arms: dict[str, Any]) -> Table:
    headings = ("final", "minus uniform [95 %]", "won-tied-lost", "verdict")
    table = arm_table("Held-out success at equal rollouts", *headings, gap=1)
    for arm, row in arms.items():
        table.add_row(arm, *_success_cells(row))
    return table


def _speed_table(arms: dict[str, Any], fractions: list[float]) -> Table:
    headings = [f"{fraction:.0%} of the gain" for fraction in fractions]
    table = arm_table("Rollouts to the level: uniform's median over the arm's [95 %]", *headings)
    for arm, row in arms.items():
        cells = [speed_up_text(target) for target in row["targets"]]
        table.add_row(arm, *[cell.replace(" (", "\n(") for cell in cells])
    return table


def _cost_table(arms: dict[str, Any]) -> Table:
    table = arm_table("Where the rollouts went", *SHARES, "wasted", "used", "steps", gap=1)
    for arm, row in arms.items():
        shares = [f"{row['shares'][key]:.0%}" for key in SHARES]
        table.add_row(
            arm, *shares, f"{row['wasted']:.0%}", f"{row['used']:.0%}", f"{row['steps']:.0f}"
        )
    return table


def _knowledge_table(arms: dict[str, Any]) -> Table:
    headings = ("spread over", "unseen", "wasted", "cover", "log-loss", "Brier")
    table = arm_table("What was sampled, and how well the posterior knows it", *headings, gap=1)
    for arm, row in arms.items():
        known = row.get("diagnostics")
        if known is None:
            table.add_row(arm)
            continue
        posterior = known["posterior"]
        quarter = known["wasted_by_quarter"]
        table.add_row(
            arm,
            "" if known["effective_prompts"] is None else f"{known['effective_prompts']:,.0f}",
            f"{known['never_visited']:.0%}",
            " ".join("-" if q is None else f"{q:.0%}" for q in (quarter[0], quarter[-1])),
            coverage_text(posterior),
            excess_text(posterior, "log_loss"),
            excess_text(posterior, "brier"),
        )
    return table


def arm_table(title: str, *headings: str, gap: int = 2) -> Table:
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
