"""Picture of the league on the language model: success minus uniform's against generated rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from figures.league import ARMS, BEST, POOLS
from figures.league_rows import Rows, together
from figures.simulator_league_rows import OURS
from figures.style import POOLS as POOL_NAMES
from figures.style import light_grid, line, method_name, page_figure, styled, thousands
from figures.training_table import MARGIN
from sim.picture import arm_styles

TICKS = (-0.1, -0.03, -0.01, 0.0, 0.01, 0.03)


@styled
def draw(numbers: Mapping[str, Mapping[str, Rows]]) -> Figure:
    """A panel per pool: mean held-out success minus uniform's of the same seeds.

    The band is one standard error of the mean difference of `adaptive`. The scale is linear up to four
    margins, and logarithmic beyond.

    Parameters
    ----------
    numbers : mapping
        From :func:`figures.league_rows.numbers_of`.
    """
    figure = page_figure(5.2)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    shown: dict[str, Any] = {}
    styles = arm_styles([*ARMS, BEST])
    for axes, pool in zip(panels.flat, POOLS, strict=True):
        for arm, row in together(numbers.get(pool, {})).items():
            grid_E, minus_S_E = row["generated_E"], row["minus_S_E"]
            mean_E = minus_S_E.mean(axis=0)
            (handle,) = axes.plot(grid_E, mean_E, **line(styles[arm]))
            shown[method_name(arm)] = handle
            if arm == OURS[0] and len(minus_S_E) > 1:
                error_E = minus_S_E.std(axis=0, ddof=1) / np.sqrt(len(minus_S_E))
                color = handle.get_color()
                axes.fill_between(
                    grid_E, mean_E - error_E, mean_E + error_E, color=color, alpha=0.2, lw=0
                )
        axes.axhline(-MARGIN, color="0.5", linewidth=0.8, linestyle=":")
        axes.set_yscale("symlog", linthresh=4.0 * MARGIN, linscale=2.0)
        axes.set_yticks(TICKS, [f"{tick:+g}" if tick else "0" for tick in TICKS])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title(POOL_NAMES.get(pool, pool))
        light_grid(axes)
        thousands(axes, "rollouts generated (thousands)")
    for axes in panels[:, 0]:
        axes.set_ylabel("held-out success minus uniform's")
    figure.legend(
        list(shown.values()), list(shown), frameon=False, loc="outside lower center", ncols=4
    )
    return figure
