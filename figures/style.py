"""One look for every figure: colour-blind-safe, legible at column width."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette; black is the reference arm everywhere.
REFERENCE = "uniform"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def colours(arms: list[str]) -> dict[str, str]:
    """A colour per arm, the same for the same list of arms."""
    others = [arm for arm in arms if arm != REFERENCE]
    shades = {arm: _COLOURS[i % len(_COLOURS)] for i, arm in enumerate(others)}
    return {REFERENCE: "black", **shades}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG without time stamps, so that equal arrays give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, metadata={"Software": None})
    return path
