"""Sampling only, quota only, both: what each half of CurES does, per pool and optimiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures.sim_folders import by_label, difference, in_words
from figures.style import (
    OPTIMISERS,
    POOLS,
    letters,
    light_grid,
    line,
    page_figure,
    sentence,
    styled,
)
from sim.picture import arm_styles
from sim.settings import REFERENCE

NAMES = {
    "cures": "both (CurES)",
    "cures@sampling-only": "sampling only",
    "cures@quota-only": "quota only",
}
BOTH_MINUS_SAMPLING = "both minus sampling only"
CAPTION = """\
Held-out success after {rollouts:,} generated rollouts, pilots included, minus that of uniform
sampling; mean of {seeds} paired seeds with Student's 95 % interval. Sampling only: prompts from
Eq. 14, equal quotas. Quota only: uniform prompts, quotas by Eq. 20. All three pay the same pilots,
uniform sampling pays none. The paper has no such ablation; its reviewers asked for one."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Paired differences to uniform.

    Returns
    -------
    dict
        ``rollouts``, ``seeds``; per ``population/optimiser`` and arm ``[mean, low, high]`` minus
        uniform, and the same of both halves minus sampling only.
    """
    comparisons = by_label(
        folders, lambda c: f"{c.config['population']}/{c.config['optimiser']}", "ablation"
    )
    first = next(iter(comparisons.values()))
    arrays: dict[str, Any] = {"rollouts": first.config["rollouts"], "seeds": first.seeds}
    for label, comparison in comparisons.items():
        end = {arm: comparison.curve(arm)[1][:, -1] for arm in (REFERENCE, *NAMES)}
        arrays[label] = {arm: difference(end[arm], end[REFERENCE]) for arm in NAMES}
        both, sampling = end["cures"], end["cures@sampling-only"]
        arrays[label][BOTH_MINUS_SAMPLING] = difference(both, sampling)
    return arrays


def _panels(arrays: dict[str, Any]) -> list[str]:
    return [key for key in arrays if "/" in key]


def forest(axes: Axes, rows: dict[str, Any], looks: dict[str, dict[str, Any]]) -> None:
    """Differences with their intervals, the first row on top; an open interval is left out.

    Parameters
    ----------
    axes : Axes
    rows : dict of str to array_like, shape (3,)
        Name -> mean, low, high; NaN where an end is open.
    looks : dict of str to dict
        Name -> ``color`` and ``marker``.
    """
    for height, (name, (mean, low, high)) in enumerate(rows.items()):
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [height, height], color=looks[name]["color"], lw=1.2)
        axes.plot([mean], [height], ls="", ms=3.0, **looks[name])
    axes.axvline(0.0, color="black", lw=0.7, zorder=0)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    light_grid(axes)
    axes.grid(axis="y", visible=False)


def look(style: Any) -> dict[str, Any]:
    """Colour and marker of an arm in a forest plot."""
    keep = ("color", "marker", "markerfacecolor", "markeredgewidth")
    return {key: value for key, value in line(style).items() if key in keep}


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A column per pool, a row per optimiser."""
    labels = _panels(arrays)
    pools = list(dict.fromkeys(label.split("/")[0] for label in labels))
    optimisers = list(dict.fromkeys(label.split("/")[1] for label in labels))
    figure = page_figure(0.3 + 1.15 * len(optimisers))
    grid = figure.subplots(len(optimisers), len(pools), sharex=True, sharey=True, squeeze=False)
    styles = arm_styles(list(NAMES))
    looks = {name: look(styles[arm]) for arm, name in NAMES.items()}
    for row, optimiser in zip(grid, optimisers, strict=True):
        for axes, pool in zip(row, pools, strict=True):
            values = arrays[f"{pool}/{optimiser}"]
            forest(axes, {name: values[arm] for arm, name in NAMES.items()}, looks)
    for axes in grid[-1]:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("held-out success minus uniform's")
    titles = [f"{POOLS.get(p, p)}, {OPTIMISERS[o]}" for o in optimisers for p in pools]
    letters(grid.flat, titles)
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    return CAPTION.format(rollouts=int(arrays["rollouts"]), seeds=int(arrays["seeds"]))


def finding(arrays: dict[str, Any]) -> str:
    """What each half does against uniform, and what the quota adds to the sampling."""
    parts = []
    for label in _panels(arrays):
        pool, optimiser = label.split("/")
        values = arrays[label]
        halves = ", ".join(f"{name} {values[arm][0]:+.3f}" for arm, name in NAMES.items())
        where = sentence(f"{POOLS.get(pool, pool)}, {OPTIMISERS[optimiser]}")
        parts.append(
            f"{where}: {halves}; {BOTH_MINUS_SAMPLING} {in_words(values[BOTH_MINUS_SAMPLING])}"
        )
    return ". ".join(parts) + "."
