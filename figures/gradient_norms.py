"""Norm of the policy gradient over training, CurES and baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.sim_folders import FloatMatrix, by_label
from figures.style import (
    POOLS,
    band,
    letters,
    light_grid,
    markers,
    method_name,
    page_figure,
    shared_legend,
    styled,
    width_of,
)
from sim.picture import arm_styles

SHOWN = ("uniform", "cures", "gvm", "speed")
WINDOW = 10
CAPTION = """\
Length of the gradient estimate of each update under GRPO, before the optimiser; mean over {window}
updates, line: mean of {seeds} seeds, band: their middle half; a curve ends where the rollouts are
spent. The paper plots the same quantity for its models. A longer estimate is not by itself a
better one: noise lengthens it too, and an optimiser that divides by its length, as Adam does,
cancels the rest. Read it beside the learning curves."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Norms per population and arm, smoothed over :data:`WINDOW` updates.

    Returns
    -------
    dict
        ``population`` -> arm -> ``norm_S_U`` with the mean of the updates u ... u + W - 1 at u.
    """
    arrays: dict[str, Any] = {}
    comparisons = by_label(folders, lambda c: str(c.config["population"]), "gradient_norms")
    for pool, comparison in comparisons.items():
        arrays[pool] = {
            arm: {"norm_S_U": rolling_mean(comparison.metric(arm, "gradient_norm"))}
            for arm in SHOWN
        }
    return arrays


def rolling_mean(values_S_U: FloatMatrix, window: int = WINDOW) -> FloatMatrix:
    """Mean over a window of updates; a run shorter than the window gives its one mean.

    Examples
    --------
    >>> rolling_mean(np.array([[1.0, 3.0, 5.0]]), 2).tolist()
    [[2.0, 4.0]]
    """
    window = min(window, values_S_U.shape[1])
    view = np.lib.stride_tricks.sliding_window_view(values_S_U, window, axis=1)
    return np.asarray(view.mean(axis=2))


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A panel per pool."""
    figure = page_figure(2.4, width=width_of(len(arrays)))
    panels = np.atleast_1d(figure.subplots(1, len(arrays)))
    styles = arm_styles(SHOWN)
    for axes, arms in zip(panels, arrays.values(), strict=True):
        for position, (arm, values) in enumerate(arms.items()):
            norm_S_U = values["norm_S_U"]
            x_U = np.arange(1, norm_S_U.shape[1] + 1)
            options = {"label": method_name(arm), "markevery": markers(position, x_U.size)}
            band(axes, x_U, norm_S_U, styles[arm], **options)
        axes.set_xlabel("updates")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        light_grid(axes)
    panels[0].set_ylabel("gradient norm")
    letters(panels, [POOLS.get(pool, pool) for pool in arrays])
    shared_legend(figure, panels[0])
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    first = next(iter(arrays.values()))
    return CAPTION.format(window=WINDOW, seeds=first["uniform"]["norm_S_U"].shape[0])


def finding(arrays: dict[str, Any]) -> str:
    """Mean norms relative to uniform's, over the updates that every method has: norms shrink."""
    parts = []
    for pool, arms in arrays.items():
        common = min(values["norm_S_U"].shape[1] for values in arms.values())
        mean = {arm: float(v["norm_S_U"][:, :common].mean()) for arm, v in arms.items()}
        others = ", ".join(
            f"{method_name(arm)} {value / mean['uniform']:.2f}"
            for arm, value in mean.items()
            if arm != "uniform"
        )
        parts.append(f"{POOLS.get(pool, pool)}: {others}")
    return (
        "Mean norm relative to uniform's, over the updates that all methods have: "
        f"{'; '.join(parts)}."
    )
