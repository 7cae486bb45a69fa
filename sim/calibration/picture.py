"""A calibration as a picture: what fits, how well, and how the model moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from cures.checks import FloatArray
from cures.storage import State
from sim.picture import BLUE, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(report: dict[str, Any], arrays: State) -> Figure:
    """Distribution function with its band, counts, and (with a log) progress in training."""
    has_log = "shared_U" in arrays
    panels = 3 if has_log else 2
    figure = new_figure(3.6 * panels, 3.4)
    axes = figure.subplots(1, panels)
    _distribution(axes[0], report, arrays)
    _counts(axes[1], arrays)
    if has_log:
        _progress(axes[2], report, arrays)
    for one in axes:
        one.grid(alpha=0.25)
    return figure


def _distribution(axes: Axes, report: dict[str, Any], arrays: State) -> None:
    rate = np.asarray(arrays["rate_K"])
    point, low, high = (
        np.asarray(arrays[f"{k}_E"]) for k in ("point", "at_most_low", "at_most_high")
    )
    label = f"all that fit ({report['confidence']:.0%})"
    axes.fill_between(point, low, high, color=GREY, alpha=0.35, lw=0, label=label)
    axes.step(
        rate, np.cumsum(arrays["best_K"]), where="post", color=VERMILION, lw=1.2, ls="--",
        label="best fit",
    )  # fmt: skip
    axes.plot(rate, np.cumsum(arrays["simulated_K"]), color=BLUE, lw=1.8, label="simulated")
    axes.set(
        xlabel="success rate", ylabel="share of prompts at or below", xlim=(0, 1), ylim=(0, 1.02),
        title="Population",
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _counts(axes: Axes, arrays: State) -> None:
    """Counts of the commonest number of trials."""
    trial, prompts = (np.asarray(arrays[f"{k}_C"]) for k in ("trial", "prompts"))
    common = int(np.argmax(np.bincount(trial, prompts)))
    rows = trial == common
    success = np.asarray(arrays["success_C"])[rows]
    total = prompts[rows].sum()
    axes.bar(success, prompts[rows] / total, color=GREY, alpha=0.6, label="observed")
    looks = {"best": (VERMILION, "x"), "simulated": (BLUE, "o")}
    for key, (colour, marker) in looks.items():
        # of cells that somebody fell into
        fitted = np.asarray(arrays[f"fitted_{key}_C"])[rows]
        label = "best fit" if key == "best" else key
        axes.plot(success, fitted, marker, color=colour, mfc="none", ms=6, label=label)
    axes.set(
        xlabel=f"right answers of {common}", ylabel="share of prompts",
        title=f"Counts ({total:,} prompts)",
    )  # fmt: skip
    if common <= 12:
        axes.set_xticks(range(common + 1))
    axes.legend(frameon=False, fontsize=8)


def _progress(axes: Axes, report: dict[str, Any], arrays: State) -> None:
    """Mean success of the training rollouts beside that of the population, moved by the shared gain."""
    step, success = np.asarray(arrays["training_step"]), np.asarray(arrays["training_success"])
    axes.plot(step, success, ".", color=GREY, ms=4, label="training rollouts")
    shared = np.append(0.0, np.asarray(arrays["shared_U"]))
    update = np.arange(shared.size)
    axes.plot(update, _mean_success(arrays, shared), color=BLUE, lw=1.8, label="shared gain")
    sd = report["dynamics"]["drift_sd"]["value"] * np.sqrt(update)
    axes.fill_between(
        update,
        _mean_success(arrays, shared - sd),
        _mean_success(arrays, shared + sd),
        color=BLUE,
        alpha=0.15,
        lw=0,
        label="one prompt's drift, 1 sd",
    )
    axes.set(xlabel="update", ylabel="mean success rate", title="Training log")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _mean_success(arrays: State, shift_U: FloatArray) -> FloatArray:
    """Of the simulated population with every logit moved by the same."""
    inside = (np.asarray(arrays["rate_K"]) > 0.0) & (np.asarray(arrays["rate_K"]) < 1.0)
    start_K = logit(np.asarray(arrays["rate_K"])[inside])
    weight = np.asarray(arrays["simulated_K"])
    always = weight[np.asarray(arrays["rate_K"]) == 1.0].sum()
    return np.asarray(expit(shift_U[:, None] + start_K) @ weight[inside] + always)
