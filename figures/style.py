"""One style for every figure of the paper: sizes, fonts, PNG and PDF.

Figures are drawn at the width at which they are printed, so that a font of 7 points is one of 7 points
on the page: ``COLUMN`` for one column of a two-column page, ``PAGE`` for its whole width, in inches.
Colours, markers and dashes of arms are those of :mod:`sim.picture`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cures.checks import FloatArray
from sim.picture import ArmStyle, arm_styles, new_figure
from sim.settings import is_told_true_rates

COLUMN, PAGE = 3.3, 6.8
DPI = 200
RC: Any = {
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "pdf.fonttype": 42,  # text stays text
}
METHODS = {
    "uniform": "uniform",
    "cures": "CurES",
    "gvm": "GVM",
    "speed": "SPEED",
    "dapo": "DAPO",
    "uniform@again": "uniform, other draws",
    "oracle@learnable": "oracle (told)",
}
POOLS = {
    "skills": "natural pool",
    "u_shaped": "U-shaped pool",
    "dead": "85 % dead prompts",
    "uniform": "evenly spread pool",
    "mostly_hard": "mostly hard pool",
    "mostly_easy": "mostly easy pool",
    "coins": "20 % coin flips",
    "natural": "natural pool",
    "small": "small pool",
}
ESTIMATORS = {
    "grpo": "GRPO",
    "rloo": "RLOO",
    "dr_grpo": "Dr. GRPO",
    "reinforce++": "REINFORCE++",
}
SHORT_ESTIMATORS = {**ESTIMATORS, "dr_grpo": "Dr.GRPO", "reinforce++": "RPP"}  # on axes
OPTIMISERS = {"adam": "Adam", "sgd": "SGD", "normalised": "normalised SGD"}  # plain ascent


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under :data:`RC`, whatever the caller's matplotlib looks like."""

    @wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Figure:
        with matplotlib.rc_context(RC):
            return draw(*arguments, **options)

    return drawn


def page_figure(height: float, *, width: float = PAGE) -> Figure:
    """An empty figure of one of the two widths."""
    return new_figure(width, height)


def width_of(panels: int) -> float:
    """A single panel fits a column."""
    return COLUMN if panels == 1 else PAGE


def line(style: ArmStyle) -> dict[str, Any]:
    """Keywords of ``Axes.plot`` for an arm at the size of a printed column."""
    return {**style.line(), "linewidth": 1.2, "markersize": 3.2, "markeredgewidth": 0.8}


def told_dashed(arms: Iterable[str]) -> dict[str, ArmStyle]:
    """Looks of arms, dashed where an arm is told the true success rates."""
    return {
        arm: replace(style, dash="--") if is_told_true_rates(arm) else style
        for arm, style in arm_styles(list(arms)).items()
    }


def method_name(arm: str) -> str:
    """Name of an arm in a legend."""
    return METHODS.get(arm, arm)


def sentence(text: str) -> str:
    """The text with a capital first letter, the rest as it is.

    Examples
    --------
    >>> sentence("natural pool, SGD")
    'Natural pool, SGD'
    """
    return text[:1].upper() + text[1:]


def thousands(axes: Axes, label: str = "rollouts generated (thousands)") -> None:
    """Generated rollouts on the horizontal axis, in thousands."""
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}"))
    axes.set_xlabel(label)


def light_grid(axes: Axes) -> None:
    """A grid that stays behind the data."""
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)


def band(axes: Axes, x_E: FloatArray, values_S_E: Any, style: ArmStyle, **options: Any) -> None:
    """Mean over seeds, and the range of their middle half where there are several."""
    values = np.asarray(values_S_E)
    if values.shape[0] > 1:
        low, high = np.quantile(values, [0.25, 0.75], axis=0)
        axes.fill_between(x_E, low, high, color=style.colour, alpha=0.12, linewidth=0)
    axes.plot(x_E, values.mean(axis=0), **{**line(style), **options})


def markers(position: int, size: int, count: int = 6) -> tuple[int, int]:
    """``markevery`` of the ``position``-th curve of ``size`` points: neighbours side by side."""
    step = max(1, size // count)
    return position * step // 5 % step, step


def shared_legend(figure: Figure, axes: Axes, *, columns: int | None = None) -> None:
    """One legend for all panels, above them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns or len(labels))


def letters(panels: Iterable[Axes], titles: Iterable[str]) -> None:
    """Panels named (a), (b) ... with a title each, left-aligned; a single one needs no letter."""
    named = list(zip(panels, titles, strict=True))
    for position, (axes, title) in enumerate(named):
        letter = f"({chr(ord('a') + position)}) " if len(named) > 1 else ""
        axes.set_title(f"{letter}{title}", loc="left")


def save_both(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """PNG and PDF, each at once or not at all; equal figures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    no_dates: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    }
    paths = []
    with matplotlib.rc_context(RC):  # ticks are made while saving
        for kind, metadata in no_dates.items():
            path = folder / f"{name}.{kind}"
            partial = folder / f".{name}.{kind}.partial"
            figure.savefig(partial, format=kind, dpi=DPI, metadata=metadata)
            partial.replace(path)
            paths.append(path)
    return paths[0], paths[1]
