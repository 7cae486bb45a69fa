"""Device-hours of every arm, stacked by term, for equal updates and for equal rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sim.picture import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    VERMILION,
    YELLOW,
    new_figure,
    save,
)
from sim.planning.cost import TERMS

# Okabe and Ito's colours; generation in blues, the rest in warm ones; neighbours differ in lightness.
COLOURS = {
    "prefill": BLUE,
    "decode": SKY,
    "wait": "#D9D9D9",
    "norms": PINK,
    "verify": YELLOW,
    "logprobs": GREEN,
    "train": ORANGE,
    "optimiser": VERMILION,
}


def draw_plan(plan: dict[str, Any], path: Path) -> Path:
    """Write the figure.

    Parameters
    ----------
    plan : dict
        As ``plan.json`` holds it.
    path : Path
        PNG.
    """
    arms = list(plan["arms"])
    figure = new_figure(10.0, 1.9 + 0.34 * len(arms))
    axes = figure.subplots(1, 2, sharey=True)
    titles = {
        "updates": f"the same {plan['settings']['updates']:,} updates",
        "rollouts": f"the same {plan['equal_rollouts']:,} generated rollouts",
    }
    for axis, (basis, title) in zip(axes, titles.items(), strict=True):
        rows = [plan["arms"][arm][basis] for arm in arms]
        left, position = np.zeros(len(arms)), np.arange(len(arms))
        for term in TERMS:
            width = np.array([row["terms"]["middle"][term] for row in rows])
            axis.barh(
                position, width, left=left, height=0.66, color=COLOURS[term], label=term,
                edgecolor="white", linewidth=0.5,
            )  # fmt: skip
            left = left + width
        ends = np.array(
            [
                [row["device_hours"][level] for level in ("optimistic", "pessimistic")]
                for row in rows
            ]
        ).T
        axis.errorbar(
            left, position, xerr=np.abs(ends - left), fmt="none", ecolor="black", elinewidth=1.0,
            capsize=3.0,
        )  # fmt: skip
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("GPU-hours (bars: middle; whiskers: optimistic, pessimistic)")
        axis.set_yticks(position, arms)
        axis.set_ylim(len(arms) - 0.4, -0.6)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles[: len(TERMS)],
        labels[: len(TERMS)],
        loc="outside lower center",
        ncols=8,
        frameon=False,
    )
    return save(figure, path)
