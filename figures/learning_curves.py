"""Held-out success of real training runs against every rollout generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.run_folders import by_arm
from figures.style import colours, new_figure


def compute(folders: list[Path]) -> dict[str, Any]:
    """Curves per arm.

    Returns
    -------
    dict
        arm -> ``{"generated_E": (E,), "held_out_S_E": (S, E)}``, the latest value at or before each
        point of the grid that all runs of the comparison were evaluated on.
    """
    arms = by_arm(folders)
    every = {run["config"]["evaluation"]["every"] for runs in arms.values() for run in runs}
    last = min(run["summary"]["generated"] for runs in arms.values() for run in runs)
    grid_E = np.append(np.arange(0, last, min(every)), last)
    curves: dict[str, Any] = {}
    for arm, runs in arms.items():
        rows = []
        for run in runs:
            generated = np.array([row["generated"] for row in run["evaluation"]])
            held_out = np.array([row["held_out"] for row in run["evaluation"]])
            rows.append(held_out[np.searchsorted(generated, grid_E, side="right") - 1])
        curves[arm] = {"generated_E": grid_E, "held_out_S_E": np.array(rows)}
    return curves


def draw(arrays: dict[str, Any]) -> Figure:
    """Mean over seeds thick, single seeds thin."""
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    shades = colours(list(arrays))
    for arm, curve in arrays.items():
        held_out_S_E = curve["held_out_S_E"]
        for held_out_E in held_out_S_E:
            axes.plot(curve["generated_E"], held_out_E, color=shades[arm], lw=0.7, alpha=0.5)
        axes.plot(
            curve["generated_E"],
            held_out_S_E.mean(axis=0),
            color=shades[arm],
            lw=2,
            label=f"{arm} (mean of {held_out_S_E.shape[0]} seeds)",
        )
    axes.set_xlabel("rollouts generated (pilots and discarded ones included)")
    axes.set_ylabel("held-out success rate")
    axes.set_title("Tiny language model, arithmetic by GRPO", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    return figure
