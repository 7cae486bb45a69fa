"""The plan on screen: two tables of totals, where the time goes, and what was assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sim.planning.cost import TERMS
from sim.planning.settings import PlanSettings
from sim.report import arm_table
from sim.settings import REFERENCE
from sim.wording import TOLD


def show(settings: PlanSettings, plan: dict[str, Any], folder: Path, console: Console) -> None:
    """Print the tables of a plan and name its files."""
    site, arms = settings.site, plan["arms"]
    machine = f"{site.devices} x {site.accelerator.name}"
    console.print(
        f"{site.shape.name} ({site.shape.parameters / 1e9:.2f} billion parameters) on {machine}; "
        f"{settings.num_prompts:,} prompts, success rates as in {settings.population}; "
        f"{settings.batch_size:,} prompts x {settings.group_size} rollouts per update",
        highlight=False,
    )
    title = f"Equal updates: {settings.updates:,}"
    console.print("", _totals(title, "updates", arms), sep="\n")
    title = f"Equal rollouts: {plan['equal_rollouts']:,} generated"
    console.print("", _totals(title, "rollouts", arms), sep="\n")
    console.print("", _terms(arms), "", sep="\n")
    engine = plan["engine"]["middle"]
    console.print(
        "GPU-hours: middle [optimistic, pessimistic] efficiencies; ratio: to uniform. At equal rollouts "
        "fewer GPU-hours mean that fewer rollouts were trained on, not that a method is better. "
        "mixed: share of the generated rollouts that reach an update in a group with right and wrong "
        "answers. ±: 95 % interval of the measured rollouts per update, nothing else. Engine: "
        f"{engine['replicas']} x {engine['devices_per_replica']} device(s), "
        f"{engine['sequences_at_once']:.0f} sequences at once in each.",
        style="dim",
        highlight=False,
        markup=False,
    )
    for line in _warnings(settings, plan):
        console.print(line, highlight=False)
    console.print(
        f"Files in {folder}: plan.json (all of it, with the assumptions), plan.csv, plan.png",
        soft_wrap=True,
        highlight=False,
    )


def _warnings(settings: PlanSettings, plan: dict[str, Any]) -> list[str]:
    lines = []
    if not plan["training_state_fits"]:
        lines.append(
            "Weights, gradients and optimiser do not fit into the devices' memory: training needs "
            "offloading, which is not costed."
        )
    for arm, entry in plan["arms"].items():
        for counter in ("partial_batch", "empty_batch", "fallback_uniform"):
            if counter in entry["measured"]["counters"]:
                times = entry["measured"]["counters"][counter]
                lines.append(
                    f"{arm}: {counter} {times} times in {entry['measured']['updates']} measured "
                    "updates; this method does not do here what its name promises."
                )
        if entry["told_true_rates"]:
            lines.append(f"{arm}: {TOLD} at no cost; a reference, no contender.")
    return lines


def _totals(title: str, basis: str, arms: dict[str, Any]) -> Table:
    free = "rollouts" if basis == "updates" else "updates"
    table = arm_table(title, free, "pilots", "mixed", "tokens", "GPU-hours", "ratio", gap=1)
    for arm, entry in arms.items():
        row = entry[basis]
        hours = row["device_hours"]
        table.add_row(
            arm,
            _with_error(row[free], row["relative_error"]),
            f"{row['pilots'] / row['rollouts']:.0%}",
            f"{row['mixed'] / row['rollouts']:.0%}",
            _short(row["tokens"]["generated"] + row["tokens"]["prefilled"]),
            f"{_short(hours['middle'], 3)} "
            f"[{_short(hours['optimistic'], 3)}, {_short(hours['pessimistic'], 3)}]",
            _ratio(arms, arm, basis),
        )
    return table


def _ratio(arms: dict[str, Any], arm: str, basis: str) -> str:
    if REFERENCE not in arms:
        return ""
    own, other = (arms[name][basis]["device_hours"]["middle"] for name in (arm, REFERENCE))
    return f"{own / other:.2f}x"


def _terms(arms: dict[str, Any]) -> Table:
    table = arm_table("Where the GPU-hours go at equal updates (middle)", *TERMS, gap=1)
    for arm, entry in arms.items():
        row = entry["updates"]
        total = row["device_hours"]["middle"]
        table.add_row(arm, *(f"{row['terms']['middle'][term] / total:.0%}" for term in TERMS))
    return table


def _with_error(value: float, relative: float | None) -> str:
    """``2.3M ±0.4%``; nothing behind an exact count, a question mark where the error is unknown."""
    text = _short(value)
    if relative is None:
        return f"{text} ±?"
    return text if relative == 0.0 else f"{text} ±{1.96 * relative:.1%}"


def _short(value: float, digits: int = 4) -> str:
    """So many digits, with a letter from a thousand on.

    Examples
    --------
    >>> [_short(value) for value in (150, 1228800, 1e9, 8.19e11)], _short(26.04, 3)
    (['150', '1.229M', '1.000B', '819.0B'], '26.0')
    """
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{_digits(value / unit, digits)}{letter}"
    return f"{value:.0f}" if value == round(value) else _digits(value, digits)


def _digits(value: float, digits: int) -> str:
    """Digits before and after the point, ``digits`` in all."""
    before = len(str(int(value)))
    return f"{value:.{max(digits - before, 0)}f}"
