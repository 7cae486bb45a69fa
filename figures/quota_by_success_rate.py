"""Which prompts get rollouts: share of the planned groups and rollouts in each, by success rate.

The quantity of the paper's Fig. 4, from a real training run: the estimate is what was known of a prompt
*before* the group was planned (its earlier pilots and groups of the run, Beta(1, 1) mean). Pilots are
left out; groups that a scheduler generated and then dropped are in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.run_folders import by_arm
from figures.style import light_grid, line, method_name, page_figure, styled
from sim.picture import arm_styles

BINS = 10


def compute(folders: list[Path]) -> dict[str, Any]:
    """Per arm: share of the groups per bin, mean rollouts per group (NaN in empty bins).

    Only groups of prompts with earlier evidence count; a scheduler without pilots visits a prompt for
    the first time blindly.
    """
    arrays: dict[str, Any] = {}
    for arm, runs in by_arm(folders).items():
        count, rollouts = np.zeros(BINS), np.zeros(BINS)
        for run in runs:
            success: dict[int, int] = {}
            trial: dict[int, int] = {}
            for row in run["outcomes"]:
                prompt = row["prompt"]
                if not row["is_pilot"] and trial.get(prompt, 0):
                    estimate = (success[prompt] + 1) / (trial[prompt] + 2)
                    position = min(int(estimate * BINS), BINS - 1)
                    count[position] += 1
                    rollouts[position] += row["trial"]
                success[prompt] = success.get(prompt, 0) + row["success"]
                trial[prompt] = trial.get(prompt, 0) + row["trial"]
        with np.errstate(invalid="ignore"):
            quota = np.where(count > 0, rollouts / np.maximum(count, 1), np.nan)
        arrays[arm] = {"share": count / max(count.sum(), 1), "quota": quota}
    return arrays


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """Two panels over the same success-rate axis."""
    figure = page_figure(2.6)
    left, right = figure.subplots(1, 2)
    centre = (np.arange(BINS) + 0.5) / BINS
    styles = arm_styles(list(arrays))
    for arm, values in arrays.items():
        left.plot(centre, values["share"], label=method_name(arm), **line(styles[arm]))
        right.plot(centre, values["quota"], **line(styles[arm]))
    left.set_ylabel(f"share of groups, per bin of {1 / BINS:g}")
    right.set_ylabel("mean rollouts per group")
    for axes in (left, right):
        axes.set_xlabel("success rate estimated beforehand")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        light_grid(axes)
    figure.legend(frameon=False, loc="outside right center")
    figure.suptitle("Where rollouts go after the pilots (prompts seen before)", fontsize=7.5)
    return figure
