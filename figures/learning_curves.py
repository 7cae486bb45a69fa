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
        arm -> ``{"generated_S_E": ..., "held_out_S_E": ...}``, both (S, E): every evaluation of every
        run. They stand on one grid of generated rollouts: the policy reached when a point was passed.
    """
    curves: dict[str, Any] = {}
    for arm, runs in by_arm(folders).items():
        size = min(len(run["evaluation"]) for run in runs)
        curves[arm] = {
            f"{key}_S_E": np.array([[row[key] for row in run["evaluation"][:size]] for run in runs])
            for key in ("generated", "held_out")
        }
    return curves


def draw(arrays: dict[str, Any]) -> Figure:
    """Mean over seeds thick, single seeds thin."""
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    shades = colours(list(arrays))
    for arm, curve in arrays.items():
        held_out_S_E = curve["held_out_S_E"]
        for generated_E, held_out_E in zip(curve["generated_S_E"], held_out_S_E, strict=True):
            axes.plot(generated_E, held_out_E, color=shades[arm], lw=0.7, alpha=0.5)
        axes.plot(
            curve["generated_S_E"].mean(axis=0),
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
