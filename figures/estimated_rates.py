"""Success rates as estimated from the pilots, one violin per iteration.

With N' pilots a posterior mean takes N' + 1 values, so a violin here is drawn as what it is: bars whose
width is the share of the prompts. A smooth outline would show mass where there can be none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cures.checks import FloatArray
from figures.sim_folders import by_label
from figures.style import POOLS, letters, light_grid, page_figure, sentence, styled, width_of
from sim.picture import arm_styles

CAPTION = """\
Posterior mean (s + 1)/(N' + 2) of every prompt of a subset after its pilots, before the first
update on it, for the iterations in their order; N' = {pilots}. Width: share of the prompts with
that estimate, on a scale of its own per panel, pooled over {seeds} seeds; black: mean. Every
iteration sees other prompts, under the policy of that moment. The paper draws violins over its 15
iterations; with N' = {pilots} there are {values} values and nothing below 1/{floor}, whatever the
true rate."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Share of each estimate per iteration.

    Returns
    -------
    dict
        Per population: ``rate_K`` (the N' + 1 possible estimates), ``share_I_K`` and ``mean_I`` over the
        iterations, and ``seeds``.
    """
    arrays: dict[str, Any] = {}
    comparisons = by_label(folders, lambda c: str(c.config["population"]), "estimated_rates")
    for pool, comparison in comparisons.items():
        runs = comparison.outcomes("cures")
        arrays[pool] = {**shares(runs), "seeds": len(runs)}
    return arrays


def pilot_blocks(rows: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Pilots of each iteration: runs of pilot rows with no training row between them.

    Examples
    --------
    >>> rows = [{"is_pilot": flag, "at": i} for i, flag in enumerate([True, True, False, True])]
    >>> [[row["at"] for row in block] for block in pilot_blocks(rows)]
    [[0, 1], [3]]
    """
    blocks: list[list[dict[str, Any]]] = []
    is_inside = False
    for row in rows:
        if row["is_pilot"]:
            if not is_inside:
                blocks.append([])
            blocks[-1].append(row)
        is_inside = bool(row["is_pilot"])
    return blocks


def shares(runs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Arrays of :func:`compute` for one pool, from the outcomes of its seeds."""
    pilots = max(row["trial"] for rows in runs for row in rows if row["is_pilot"])
    # groups cut by the end of the run are left out, and the last iteration if it has no other
    whole = [
        [[row for row in block if row["trial"] == pilots] for block in pilot_blocks(rows)]
        for rows in runs
    ]
    count = min(sum(map(bool, blocks)) for blocks in whole)
    tally_I_K = np.zeros((count, pilots + 1))
    for blocks in whole:
        for iteration, block in enumerate(blocks[:count]):
            for row in block:
                tally_I_K[iteration, row["success"]] += 1
    rate_K = (np.arange(pilots + 1) + 1.0) / (pilots + 2.0)
    share_I_K = tally_I_K / tally_I_K.sum(axis=1, keepdims=True)
    return {"rate_K": rate_K, "share_I_K": share_I_K, "mean_I": share_I_K @ rate_K}


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A panel per pool."""
    figure = page_figure(2.3, width=width_of(len(arrays)))
    panels = np.atleast_1d(figure.subplots(1, len(arrays), sharey=True))
    colour = arm_styles(["cures"])["cures"].colour
    for axes, values in zip(panels, arrays.values(), strict=True):
        _violins(axes, values["rate_K"], values["share_I_K"], colour)
        count = values["mean_I"].size
        axes.plot(
            np.arange(1, count + 1), values["mean_I"], "o-", color="black", markersize=2.5, lw=0.7
        )
        axes.set_xlabel("iteration (subset)")
        axes.set_xticks(np.arange(1, count + 1, max(1, count // 7)))
        light_grid(axes)
        axes.set_xlim(0.3, count + 0.7)
        axes.set_ylim(0, 1)
    panels[0].set_ylabel("estimated success rate")
    letters(panels, [POOLS.get(pool, pool) for pool in arrays])
    return figure


def _violins(axes: Any, rate_K: FloatArray, share_I_K: Any, colour: str) -> None:
    height = 0.85 * float(np.diff(rate_K).min())
    for iteration, share_K in enumerate(share_I_K, start=1):
        width_K = 0.9 * share_K / share_I_K.max()
        axes.barh(
            rate_K, width_K, left=iteration - width_K / 2, height=height, color=colour, alpha=0.75
        )


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    first = next(iter(arrays.values()))
    values = first["rate_K"].size
    return CAPTION.format(pilots=values - 1, values=values, floor=values + 1, seeds=first["seeds"])


def finding(arrays: dict[str, Any]) -> str:
    """How the estimates move, and the share at the two ends."""
    parts = []
    for pool, values in arrays.items():
        share, mean = values["share_I_K"], values["mean_I"]
        ends = share[:, 0] + share[:, -1]
        parts.append(
            f"{sentence(POOLS.get(pool, pool))}: mean estimate {mean[0]:.2f} in the first iteration, "
            f"{mean[-1]:.2f} in the last; share of prompts with no or only right pilots "
            f"{ends[0]:.0%} and {ends[-1]:.0%}"
        )
    return ". ".join(parts) + "."
