"""Pictures of a check: speeds beside what the card allows, and the curricula."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.gpu_check.curriculum import FOLDER, folders_of
from benchmarks.gpu_check.page import GENERATION_AIM, UPDATE_AIM
from figures import learning_curves
from figures.style import light_grid, page_figure, styled
from sim.picture import save


def draw_all(parts: Mapping[str, Mapping[str, Any]], out: Path) -> list[Path]:
    """PNGs of the parts that were measured."""
    measured = {name: part for name, part in parts.items() if part["status"] == "measured"}
    drawn = []
    if "throughput" in measured:
        drawn.append(save(speed(measured["throughput"]["rows"]), out / "throughput.png"))
    if "curriculum" in measured:
        folders = folders_of(out / FOLDER, measured["curriculum"]["seeds"])
        figure = learning_curves.draw(learning_curves.compute(folders))
        parameters = measured["curriculum"]["parameters"]
        figure.axes[0].title.set_text(f"{parameters:,} parameters, arithmetic by GRPO")
        drawn.append(save(figure, out / "curriculum.png"))
    return drawn


@styled
def speed(rows: list[Mapping[str, Any]]) -> Figure:
    """Shares of the card's own speed, and the aims."""
    figure = page_figure(2.6)
    panels = figure.subplots(1, 2, width_ratios=(6, 1))
    for axes, key, aim, label in (
        (panels[0], "bandwidth_share", GENERATION_AIM, "share of the bandwidth of copies"),
        (panels[1], "matmul_share", UPDATE_AIM, "share of bf16 products"),
    ):
        shown = [row for row in rows if key in row]
        names = [row["what"].replace(", ", "\n") + f"\n{row['rollouts']} rollouts" for row in shown]
        axes.bar(names, [row[key] for row in shown], width=0.6)
        axes.axhline(aim, color="grey", linestyle=":")
        axes.set_ylabel(label)
        light_grid(axes)
    return figure
