"""The learning curve of one run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_curve(
    path: Path,
    evaluation_rows: Sequence[Mapping[str, Any]],
    metric_rows: Sequence[Mapping[str, Any]],
    title: str,
) -> None:
    """Held-out success with its standard error, and the wasted share, against rollouts.

    Parameters
    ----------
    path : Path
        PNG to write.
    evaluation_rows, metric_rows : sequence of mapping
        Rows of ``evaluation.jsonl`` and ``metrics.jsonl``.
    title : str
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    success, waste = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    success.errorbar(
        [row["generated"] for row in evaluation_rows],
        [row["held_out"] for row in evaluation_rows],
        yerr=[row["standard_error"] for row in evaluation_rows],
        marker="o",
        markersize=3,
        capsize=2,
    )
    success.set_ylabel("held-out success")
    success.set_title(title)
    trained = [row for row in metric_rows if row["wasted"] is not None]
    waste.plot([row["generated"] for row in trained], [row["wasted"] for row in trained])
    waste.set_ylim(0, 1)
    waste.set_ylabel("wasted share")
    waste.set_xlabel("rollouts generated")
    for axes in (success, waste):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150, metadata={"Software": None})
