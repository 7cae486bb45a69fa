"""One look for every picture: an arm looks the same everywhere, legible without colour vision.

A scheduler has a colour and a marker of its own, whatever else is drawn; labelled arms of one
scheduler differ by dashes and have hollow markers, seen even where two curves coincide. Colours are
Okabe and Ito's, then Tol's; schedulers that are told the true success rates are grey: no contenders.

matplotlib is imported late: worker processes import the command line, never draw, and start faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.settings import split_arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's, and a grey for what stands behind
BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILION, PINK, GREY = "#E69F00", "#D55E00", "#CC79A7", "#7F7F7F"
LOOKS = {
    "uniform": ("black", "o"),
    "cures": (BLUE, "s"),
    "cures-released": (VERMILION, "D"),
    "gvm": (GREEN, "^"),
    "speed": (PINK, "v"),
    "dapo": (SKY, "P"),
    "band": (ORANGE, "X"),
    "mopps": ("#882255", "*"),
    "lilo": (YELLOW, "H"),
    "knapsack": ("#332288", "d"),
    "greso": ("#44AA99", "p"),
    "vip": ("#117733", "h"),
    "reinforce-ada": ("#AA4499", "8"),
    "adaptive": ("#DD3333", "x"),
    "staged": ("#999999", "<"),
    "oracle": ("#666666", ">"),
}
DASHES = ("-", "--", "-.", ":")
SPARES = ("h", "p", "d", "8")  # markers of a fifth and further arm of one scheduler


@dataclass(frozen=True, slots=True)
class ArmStyle:
    """How an arm is drawn."""

    colour: str
    marker: str
    dash: str

    def line(self) -> dict[str, Any]:
        """Keywords of ``Axes.plot``."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dash,
            "linewidth": 1.8,
            "markersize": 5.0,
            "markerfacecolor": self.colour if self.dash == DASHES[0] else "white",
        }


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """A style per arm: that of its scheduler, dashed by the arm's position among its likes.

    Examples
    --------
    >>> styles = arm_styles(["speed", "cures", "cures@cold"])
    >>> styles["cures"] == arm_styles(["cures"])["cures"]
    True
    >>> styles["cures"].colour == styles["cures@cold"].colour, styles["cures@cold"].dash
    (True, '--')
    """
    styles, seen = {}, dict.fromkeys(LOOKS, 0)
    for arm in arms:
        name = split_arm(arm)[0]
        colour, marker = LOOKS[name]
        turn, position = divmod(seen[name], len(DASHES))
        seen[name] += 1
        spares = [spare for spare in SPARES if spare != marker]
        marker = marker if turn == 0 else spares[(turn - 1) % len(spares)]
        styles[arm] = ArmStyle(colour, marker, DASHES[position])
    return styles


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


ROLLOUTS = "rollouts generated (pilots and discarded ones included)"


def rollouts_axis(axes: Axes, *, label: str = ROLLOUTS, intervals: int = 6) -> None:
    """Generated rollouts on the horizontal axis, with thousands separated."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(intervals))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG at once or not at all; without time stamps, so that equal figures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=160, format="png", metadata={"Software": None})
    partial.replace(path)
    return path
