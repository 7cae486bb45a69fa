"""Methods and baselines under different budgets: rollouts of an update, and rollouts of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cures.checks import fail
from cures.comparison import on_grid
from figures.sim_folders import by_label
from figures.style import (
    POOLS,
    letters,
    light_grid,
    line,
    method_name,
    page_figure,
    sentence,
    shared_legend,
    styled,
)
from sim.picture import arm_styles

SHARES = (0.25, 0.5, 1.0)
CAPTION = """\
{pool}, GRPO, Adam at one learning rate: mean held-out success ({seeds} paired seeds, bars:
standard error) against the budget of an update ({batches} draws of {group_size} rollouts), read
off after {totals} generated rollouts in all. No baseline has to live with a budget chosen for
another method: compare the best point of each curve. CurES and GVM spend as many training
rollouts on a subset at every budget, so their pilots keep their share."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Held-out success by arm, budget of the run and budget of the update.

    Returns
    -------
    dict
        ``population``, ``group_size``, ``batch_K`` (ascending draws per update), ``total_F``
        (rollouts of a run), and per arm ``held_out_F_K`` and ``error_F_K`` (standard error over seeds).
    """
    comparisons = by_label(folders, lambda c: str(c.config["batch_size"]), "update_budgets")
    ordered = sorted(comparisons.values(), key=lambda c: int(c.config["batch_size"]))
    first = ordered[0]
    for comparison in ordered:
        if (
            comparison.arms != first.arms
            or comparison.config["rollouts"] != first.config["rollouts"]
        ):
            fail(
                "update_budgets",
                "folders",
                f"like {first.folder} but for batch_size",
                comparison.folder,
            )
    total_F = np.array(SHARES) * first.config["rollouts"]
    arrays: dict[str, Any] = {
        "population": first.config["population"],
        "group_size": first.config["group_size"],
        "seeds": first.seeds,
        "batch_K": np.array([c.config["batch_size"] for c in ordered]),
        "total_F": total_F,
    }
    for arm in first.arms:
        mean_F_K = np.zeros((total_F.size, len(ordered)))
        error_F_K = np.zeros_like(mean_F_K)
        for k, comparison in enumerate(ordered):
            grid_E, curve_S_E = comparison.curve(arm)
            # curves are steps of the grid: the last point that is not past the budget
            read = [on_grid(grid_E[1:], c[1:], total_F, start=float(c[0])) for c in curve_S_E]
            values_S_F = np.array(read)
            mean_F_K[:, k] = values_S_F.mean(axis=0)
            if comparison.seeds > 1:
                error_F_K[:, k] = values_S_F.std(axis=0, ddof=1) / np.sqrt(comparison.seeds)
        arrays[arm] = {"held_out_F_K": mean_F_K, "error_F_K": error_F_K}
    return arrays


def _arms(arrays: dict[str, Any]) -> list[str]:
    return [key for key, value in arrays.items() if isinstance(value, dict)]


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A panel per budget of the run."""
    arms, total_F = _arms(arrays), arrays["total_F"]
    figure = page_figure(2.6)
    panels = figure.subplots(1, total_F.size, sharey=True)
    styles = arm_styles(arms)
    budget_K = arrays["batch_K"] * arrays["group_size"]
    for f, axes in enumerate(panels):
        for arm in arms:
            values = arrays[arm]
            look, mean_K = line(styles[arm]), values["held_out_F_K"][f]
            axes.plot(budget_K, mean_K, label=method_name(arm), **look)
            # bars of their own: the legend shows the line alone
            bars = {"fmt": "none", "elinewidth": 0.8, "ecolor": look["color"]}
            axes.errorbar(budget_K, mean_K, yerr=values["error_F_K"][f], **bars)
        axes.set_xscale("log", base=2)
        axes.set_xticks(budget_K, [f"{budget:,}" for budget in budget_K])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("rollouts per update")
        light_grid(axes)
    panels[0].set_ylabel("held-out success rate")
    letters(panels, [f"after {total:,.0f} rollouts" for total in total_F])
    shared_legend(figure, panels[0])
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    pool = arrays["population"]
    return CAPTION.format(
        pool=sentence(POOLS.get(pool, pool)),
        seeds=int(arrays["seeds"]),
        batches=", ".join(str(batch) for batch in arrays["batch_K"]),
        group_size=int(arrays["group_size"]),
        totals=", ".join(f"{total:,.0f}" for total in arrays["total_F"]),
    )


def finding(arrays: dict[str, Any]) -> str:
    """The best update budget of every method at the end."""
    parts = []
    for arm in _arms(arrays):
        final_K = arrays[arm]["held_out_F_K"][-1]
        best = int(np.argmax(final_K))
        budget = int(arrays["batch_K"][best] * arrays["group_size"])
        edge = "*" if best in (0, final_K.size - 1) else ""
        parts.append(f"{method_name(arm)} {final_K[best]:.3f} at {budget:,}{edge}")
    star = (
        " *: the edge of what was tried; beyond it may be better." if "*" in "".join(parts) else ""
    )
    return f"Best at the end, each at its own budget of an update: {', '.join(parts)}.{star}"
