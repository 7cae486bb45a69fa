"""Is a curriculum more than a larger learning rate? Arms at one rate, and each at its best.

A curriculum that avoids groups without a spread of rewards has longer gradients than uniform sampling.
Under plain ascent that alone is a larger step, which a larger learning rate gives for nothing. So every
arm is run at every rate: at a rate that is too low for everyone the arm with the longest gradients must
win, whatever its prompts are worth.

Additional axis suffix: ``_K`` learning rates, ascending.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from cures.checks import fail
from figures.sim_folders import Comparison, FloatMatrix, difference, in_words, read
from figures.style import (
    OPTIMISERS,
    POOLS,
    letters,
    light_grid,
    line,
    method_name,
    page_figure,
    sentence,
    shared_legend,
    styled,
    told_dashed,
)
from sim.settings import REFERENCE

AT = {"lowest": "lowest rate", "common": "uniform's best rate", "own": "its own best rate"}
CAPTION = """\
GRPO: held-out success after {rollouts:,} generated rollouts against the learning rate, per pool (rows)
and optimiser (columns), with everything else alike; the step of normalised SGD is as long as its rate
says, however long the gradient. Mean of {seeds} paired seeds. Below: minus uniform's, with Student's
95 % interval, all at the lowest rate, all at the rate that is best for uniform, each at the rate that
is best for itself. Best rates (vertical lines: uniform's) were chosen on {chosen} other seeds. Dashed:
told the true success rates and which prompts can be learned; no contender."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Held-out success by pool, optimiser, arm and rate; differences at chosen rates.

    Returns
    -------
    dict
        ``rollouts``, ``seeds``, ``chosen`` (seeds that choose the rates); per ``population/optimiser``
        ``rate_K``; per arm ``held_out_K`` (mean of the compared seeds), ``best`` (index of its rate),
        and but for uniform a ``[mean, low, high]`` minus uniform for each of :data:`AT`.
    """
    groups: dict[str, list[Comparison]] = {}
    for comparison in map(read, folders):
        label = f"{comparison.config['population']}/{comparison.config['optimiser']}"
        groups.setdefault(label, []).append(comparison)
    if not groups:
        fail("learning_rates", "folders", "at least one comparison", [])
    first = next(iter(groups.values()))[0]
    chosen = max(1, first.seeds // 3)
    arrays: dict[str, Any] = {
        "rollouts": first.config["rollouts"],
        "seeds": first.seeds - chosen,
        "chosen": chosen,
    }
    for label in sorted(groups, key=_place):
        arrays[label] = _panel(label, groups[label], chosen)
    return arrays


def _place(label: str) -> tuple[int, int]:
    """Pools and optimisers in the order of :mod:`figures.style`."""
    pool, optimiser = label.split("/")
    return list(POOLS).index(pool), list(OPTIMISERS).index(optimiser)


def _panel(label: str, comparisons: list[Comparison], chosen: int) -> dict[str, Any]:
    """One pool under one optimiser."""
    ordered = sorted(comparisons, key=lambda c: float(c.config["learning_rate"]))
    rate_K = np.array([float(c.config["learning_rate"]) for c in ordered])
    if np.unique(rate_K).size != rate_K.size:
        fail("learning_rates", "run folders", f"of one rate each for {label}", rate_K.tolist())
    end = {
        arm: np.array([c.curve(arm)[1][:, -1] for c in ordered]).T for arm in ordered[0].arms
    }  # (S, K)
    best = {arm: best_rate(values[:chosen]) for arm, values in end.items()}
    reference = end[REFERENCE][chosen:]
    panel: dict[str, Any] = {"rate_K": rate_K}
    for arm, values in end.items():
        compared = values[chosen:]
        panel[arm] = {"held_out_K": compared.mean(axis=0), "best": best[arm]}
        if arm != REFERENCE:
            common = best[REFERENCE]
            pairs = {"lowest": (0, 0), "common": (common, common), "own": (best[arm], common)}
            for name, (ours, its) in pairs.items():
                panel[arm][name] = difference(compared[:, ours], reference[:, its])
    return panel


def best_rate(held_out_S_K: FloatMatrix) -> int:
    """Index of the rate with the largest mean; of equals the lowest.

    Examples
    --------
    >>> best_rate(np.array([[0.1, 0.5, 0.3], [0.1, 0.3, 0.5]]))
    1
    """
    return int(np.argmax(held_out_S_K.mean(axis=0)))


def _panels(arrays: dict[str, Any]) -> list[str]:
    return [key for key in arrays if "/" in key]


def _arms(panel: dict[str, Any]) -> list[str]:
    return [key for key in panel if key != "rate_K"]


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """Curves over differences: two rows per pool, a column per optimiser."""
    labels = _panels(arrays)
    pools = list(dict.fromkeys(label.split("/")[0] for label in labels))
    optimisers = list(dict.fromkeys(label.split("/")[1] for label in labels))
    figure = page_figure(0.4 + 3.0 * len(pools))
    heights = [1.8, 1.2] * len(pools)
    grid = figure.subplots(
        len(heights), len(optimisers), height_ratios=heights, sharey="row", squeeze=False
    )
    for row, pool in enumerate(pools):
        for column, optimiser in enumerate(optimisers):
            panel = arrays[f"{pool}/{optimiser}"]
            _draw_curves(grid[2 * row, column], panel)
            _draw_differences(grid[2 * row + 1, column], panel)
        grid[2 * row, 0].set_ylabel("held-out success rate")
        grid[2 * row + 1, 0].set_yticks(range(len(AT)), list(AT.values()))
        grid[2 * row + 1, 0].set_ylim(len(AT) - 0.5, -0.5)
    titles = []  # a pool is named once in its row
    for pool in pools:
        names = [OPTIMISERS[optimiser] for optimiser in optimisers]
        titles += [f"{POOLS[pool]}, {names[0]}", *names[1:]]
    letters(grid[::2].flat, titles)
    shared_legend(figure, grid[0, 0])
    return figure


def _draw_curves(axes: Axes, panel: dict[str, Any]) -> None:
    rate_K = panel["rate_K"]
    for arm, style in told_dashed(_arms(panel)).items():
        axes.plot(rate_K, panel[arm]["held_out_K"], label=method_name(arm), **line(style))
    axes.axvline(rate_K[panel[REFERENCE]["best"]], color="grey", lw=0.8, ls=":", zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(rate_K[::2], [f"{rate:g}" for rate in rate_K[::2]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("learning rate")
    light_grid(axes)


def _draw_differences(axes: Axes, panel: dict[str, Any]) -> None:
    styles = told_dashed(_arms(panel)[1:])
    for shift, (arm, style) in zip((-0.2, 0.0, 0.2), styles.items(), strict=True):
        mean_A, low_A, high_A = np.array([panel[arm][name] for name in AT]).T
        place_A = np.arange(len(AT)) + shift
        axes.plot(mean_A, place_A, **(line(style) | {"linestyle": ""}))
        axes.hlines(place_A, low_A, high_A, color=style.colour, lw=1.0)
    axes.axvline(0.0, color="black", lw=0.7, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("minus uniform's")
    light_grid(axes)
    axes.grid(axis="y", visible=False)


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    return CAPTION.format(
        rollouts=int(arrays["rollouts"]),
        seeds=int(arrays["seeds"]),
        chosen=int(arrays["chosen"]),
    )


def finding(arrays: dict[str, Any]) -> str:
    """Differences at the three choices of the rate, and how often an arm is seen to be ahead."""
    labels = _panels(arrays)
    parts = []
    for arm in _arms(arrays[labels[0]])[1:]:
        rows = []
        for label in labels:
            pool, optimiser = label.split("/")
            panel = arrays[label]
            rate = panel["rate_K"][[panel[a]["best"] for a in (REFERENCE, arm)]]
            steps = ", ".join(in_words(panel[arm][name]) for name in AT)
            rows.append(
                f"{POOLS[pool]}, {OPTIMISERS[optimiser]} {steps} (best rates {rate[0]:g}"
                f"{_edge(panel, REFERENCE)} for uniform, {rate[1]:g}{_edge(panel, arm)} for it)"
            )
        ahead = [sum(bool(arrays[label][arm][name][1] > 0.0) for label in labels) for name in AT]
        parts.append(
            f"{sentence(method_name(arm))}: ahead of uniform (interval above 0) in {ahead[0]}, "
            f"{ahead[1]} and {ahead[2]} of {len(labels)}; {'; '.join(rows)}"
        )
    edge = " *: the edge of what was tried; beyond it may be better." if "*" in str(parts) else ""
    where = f"both at the {AT['lowest']}, both at {AT['common']}, each at {AT['own']}"
    return f"Minus uniform's, {where}. {'. '.join(parts)}.{edge}"


def _edge(panel: dict[str, Any], arm: str) -> str:
    return "*" if panel[arm]["best"] in (0, panel["rate_K"].size - 1) else ""
