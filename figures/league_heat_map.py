"""Picture of the simulator's league: arms by cells, held-out success minus uniform's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from cures.checks import InWords, fail
from figures.simulator_league import ARMS, BEST, Cell
from figures.simulator_league_rows import Rows, is_contender
from figures.style import ESTIMATORS as ESTIMATOR_NAMES
from figures.style import POOLS as POOL_NAMES
from figures.style import page_figure, styled
from sim.settings import REFERENCE

HATCH = "/////"
END = 0.05  # of the colours: ten margins; disasters beyond it are all alike, but for their number


@styled
def draw(numbers: Mapping[Cell, Rows]) -> Figure:
    """Held-out success minus uniform's at equal rollouts, in thousandths.

    Parameters
    ----------
    numbers : mapping
        From :func:`figures.simulator_league_rows.numbers_of`.
    """
    known = {arm for found in numbers.values() for arm in found}
    arms = [arm for arm in (*ARMS, BEST) if arm in known and arm != REFERENCE]
    if not arms:
        fail("league", "entries", "of one arm beside the reference at least", InWords("none"))
    by_population: dict[str, list[Cell]] = {}
    for cell in numbers:
        by_population.setdefault(cell.population, []).append(cell)
    norm = Normalize(-1000 * END, 1000 * END)
    figure = page_figure(1.3 + 0.2 * len(arms))
    panels = figure.subplots(
        1,
        len(by_population),
        sharey=True,
        squeeze=False,
        width_ratios=[len(cells) for cells in by_population.values()],
    )[0]
    for axes, (population, cells) in zip(panels, by_population.items(), strict=True):
        rows_A_C = [[numbers[cell].get(arm) for cell in cells] for arm in arms]
        axes.imshow(
            [
                [np.nan if row is None else 1000 * row["difference"].mean for row in rows]
                for rows in rows_A_C
            ],
            cmap="RdBu",
            norm=norm,
            aspect="auto",
        )
        for a, rows in enumerate(rows_A_C):
            for c, row in enumerate(rows):
                if row is not None:
                    _mark(axes, a, c, row, norm)
        names = [ESTIMATOR_NAMES[cell.estimator] for cell in cells]
        axes.set_title(POOL_NAMES.get(population, population))
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(arms)), [_shown(arm) for arm in arms])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        contenders = sum(is_contender(arm) for arm in arms)
        if 0 < contenders < len(arms):
            axes.axhline(contenders - 0.5, color="black", linewidth=1.0)
    bar = figure.colorbar(
        panels[-1].images[0], ax=list(panels), extend="both", shrink=0.8, pad=0.01, aspect=30
    )
    bar.set_label("held-out success minus uniform's, thousandths")
    undecided = Patch(
        facecolor="white", edgecolor="0.65", hatch=HATCH, label="undecided at the margin of no harm"
    )
    figure.legend(handles=[undecided], loc="outside lower right", handleheight=1.0)
    return figure


def _shown(arm: str) -> str:
    return arm if is_contender(arm) else f"{arm} (told)"


def _mark(axes: Axes, a: int, c: int, row: Mapping[str, Any], norm: Normalize) -> None:
    """The difference in thousandths, hatched where it is undecided whether it is a harm."""
    value = 1000 * row["difference"].mean
    if row["verdict"] == "undecided":
        corner = (c - 0.5, a - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, ec="0.65", hatch=HATCH, lw=0))
    is_dark = abs(2.0 * float(norm(value)) - 1.0) > 0.65
    axes.text(
        c,
        a,
        in_thousandths(value),
        ha="center",
        va="center",
        fontsize=6.0,
        color="white" if is_dark else "black",
    )


def in_thousandths(value: float) -> str:
    """A signed whole number; zero has no sign.

    Examples
    --------
    >>> in_thousandths(-3.4), in_thousandths(-0.2), in_thousandths(12.0)
    ('−3', '0', '+12')
    """
    whole = round(value)
    return f"{whole:+d}".replace("-", "\N{MINUS SIGN}") if whole else "0"
