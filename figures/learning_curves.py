"""Held-out success of real training runs against every rollout generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.run_folders import by_arm
from figures.style import light_grid, line, method_name, page_figure, styled, thousands
from sim.picture import arm_styles


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


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """Mean over seeds thick, single seeds thin."""
    figure = page_figure(3.0)
    axes = figure.subplots()
    styles = arm_styles(list(arrays))
    seeds = 0
    for arm in sorted(arrays, key=lambda arm: -arrays[arm]["held_out_S_E"][:, -1].mean()):
        curve, style = arrays[arm], styles[arm]
        held_out_S_E = curve["held_out_S_E"]
        seeds = held_out_S_E.shape[0]
        for generated_E, held_out_E in zip(curve["generated_S_E"], held_out_S_E, strict=True):
            axes.plot(generated_E, held_out_E, style.dash, color=style.colour, lw=0.5, alpha=0.4)
        mean_E = held_out_S_E.mean(axis=0)
        axes.plot(
            curve["generated_S_E"].mean(axis=0), mean_E, label=method_name(arm), **line(style)
        )
    thousands(axes, "rollouts generated (thousands; pilots and discarded ones included)")
    axes.set_ylabel("held-out success rate (sampled answers)")
    means = f"thick: mean of {seeds} seeds, thin: each seed" if seeds > 1 else "one seed"
    axes.set_title(f"Tiny language model, arithmetic by GRPO ({means})")
    light_grid(axes)
    figure.legend(frameon=False, loc="outside right center")
    return figure
