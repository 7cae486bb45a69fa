"""Rollouts per group against the success rate estimated beforehand, at several iterations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cures.checks import FloatArray, fail
from figures.sim_folders import AnyComparison, read
from figures.style import POOLS, light_grid, page_figure, sentence, styled
from sim.picture import arm_styles

ARMS = {
    "cures": "sigma = sqrt(p(1-p))",
    "cures@moments": "sigma by Eq. 21",
}
SHOWN = 4  # iterations
BINS = 10
MIDDLE = (0.25, 0.75)
CAPTION = """\
{pool}: rollouts of a training group against the posterior mean of its prompt when it was planned,
at iterations {iterations}; {seeds} seeds pooled. Points: groups; line: mean per tenth of the
success rate. Each draw of a prompt adds a quota, so a prompt drawn k times forms one group of
k-fold size: that is what lifts points above the line. Top: CurES without gradient moments, where a
bell is put in by the rule itself and shows nothing. Bottom: sigma by Eq. 21 from the pilots'
measured score norms. The paper describes its quotas as bell-shaped and sharpening over the
iterations."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Groups and their means per bin; one folder with outcomes of both arms.

    Returns
    -------
    dict
        ``population``; per arm ``middle_I``, the share of the rollouts of each iteration that goes to
        estimates in :data:`MIDDLE`, and, per shown iteration, ``estimate_G``, ``trial_G``,
        ``mean_K`` (mean rollouts per bin, NaN in empty ones).
    """
    if len(folders) != 1:
        fail("quota_by_iteration", "folders", "one comparison", [str(f) for f in folders])
    return arrays_of(read(folders[0]))


def arrays_of(comparison: AnyComparison) -> dict[str, Any]:
    """The same of a comparison that is read already."""
    arrays: dict[str, Any] = {
        "population": comparison.config["population"],
        "seeds": comparison.seeds,
    }
    for arm in ARMS:
        runs = [list(groups(rows)) for rows in comparison.outcomes(arm)]
        count = min(max(iteration for iteration, _, _ in run) for run in runs)
        table = np.array([row for run in runs for row in run], dtype=np.float64)
        values: dict[str, Any] = {"middle_I": middle_share(table, count)}
        for iteration in np.unique(np.linspace(1, count, SHOWN).round().astype(int)):
            part = table[table[:, 0] == iteration]
            values[f"iteration {iteration}"] = {
                "estimate_G": part[:, 1],
                "trial_G": part[:, 2],
                "mean_K": mean_per_bin(part[:, 1], part[:, 2]),
            }
        arrays[arm] = values
    return arrays


def groups(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[int, float, int]]:
    """Iteration from 1, estimate beforehand and rollouts of every training group.

    The posterior starts anew, at Beta(1, 1), with the pilots of each iteration, as the scheduler's does.

    Examples
    --------
    >>> row = {"prompt": 5, "success": 1, "trial": 4, "is_pilot": True}
    >>> list(groups([row, row | {"is_pilot": False, "trial": 8}]))
    [(1, 0.3333333333333333, 8)]
    """
    iteration, was_pilot = 0, False
    success: dict[int, int] = {}
    trial: dict[int, int] = {}
    for row in rows:
        prompt = row["prompt"]
        if row["is_pilot"] and not was_pilot:
            iteration += 1
            success, trial = {}, {}
        was_pilot = row["is_pilot"]
        if not was_pilot:
            yield (iteration, (success[prompt] + 1) / (trial[prompt] + 2), row["trial"])
        success[prompt] = success.get(prompt, 0) + row["success"]
        trial[prompt] = trial.get(prompt, 0) + row["trial"]


def mean_per_bin(estimate_G: FloatArray, trial_G: FloatArray) -> FloatArray:
    """Mean rollouts of the groups in each of :data:`BINS` equal bins, NaN in empty ones.

    Examples
    --------
    >>> mean_per_bin(np.array([0.05, 0.05, 0.95]), np.array([2.0, 4.0, 6.0])).tolist()[:2]
    [3.0, nan]
    """
    slot = np.minimum((estimate_G * BINS).astype(int), BINS - 1)
    count_K = np.bincount(slot, minlength=BINS)
    total_K = np.bincount(slot, weights=trial_G, minlength=BINS)
    return np.where(count_K > 0, total_K / np.maximum(count_K, 1), np.nan)


def middle_share(table: Any, count: int) -> FloatArray:
    """Share of the rollouts of each iteration on estimates in :data:`MIDDLE`, shape (count,)."""
    is_middle = (table[:, 1] >= MIDDLE[0]) & (table[:, 1] <= MIDDLE[1])
    iteration = table[:, 0].astype(int)
    total = np.bincount(iteration, weights=table[:, 2], minlength=count + 1)[1 : count + 1]
    middle = np.bincount(iteration, weights=table[:, 2] * is_middle, minlength=count + 1)
    return np.asarray(middle[1 : count + 1] / total)


def _iterations(arrays: dict[str, Any]) -> list[str]:
    return [key for key in arrays["cures"] if key.startswith("iteration")]


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A row per sigma, a column per iteration."""
    shown = _iterations(arrays)
    figure = page_figure(3.2)
    grid = figure.subplots(len(ARMS), len(shown), sharex=True, sharey=True, squeeze=False)
    styles = arm_styles(list(ARMS))
    centre_K = (np.arange(BINS) + 0.5) / BINS
    for row, arm in zip(grid, ARMS, strict=True):
        for axes, iteration in zip(row, shown, strict=True):
            values = arrays[arm][iteration]
            points = {"s": 2.5, "color": styles[arm].colour, "alpha": 0.25, "linewidths": 0}
            axes.scatter(values["estimate_G"], values["trial_G"], rasterized=True, **points)
            axes.plot(centre_K, values["mean_K"], color="black", lw=1.2, marker="o", ms=2.2)
            axes.set_xlim(0, 1)
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            light_grid(axes)
        # at the right end: at the left it would read as the quantity of the axis
        side = {"rotation": 270, "va": "center", "transform": row[-1].transAxes}
        row[-1].text(1.04, 0.5, ARMS[arm], fontsize=7.5, **side)
    for axes, iteration in zip(grid[0], shown, strict=True):
        axes.set_title(iteration)
    grid[0, 0].set_ylim(bottom=0)  # shared; only now, because it ends the scaling to the data
    figure.supxlabel("success rate estimated beforehand", fontsize=7.5)
    figure.supylabel("rollouts per group", fontsize=7.5)
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    numbers = [key.split()[1] for key in _iterations(arrays)]
    return CAPTION.format(
        pool=sentence(POOLS.get(arrays["population"], arrays["population"])),
        iterations=", ".join(numbers),
        seeds=arrays["seeds"],
    )


def _bell(mean_K: FloatArray) -> float:
    """Mean rollouts of groups near 0.5 over that of groups near 0.25 and 0.75; NaN without groups."""
    centre, side = (part[np.isfinite(part)] for part in (mean_K[[4, 5]], mean_K[[2, 7]]))
    return float(centre.mean() / side.mean()) if centre.size and side.size else np.nan


def finding(arrays: dict[str, Any]) -> str:
    """How much of a bell the quotas are, and where the rollouts go, first and last iteration."""
    parts = []
    for arm, name in ARMS.items():
        middle, shown = arrays[arm]["middle_I"], _iterations(arrays)
        bells = [_bell(arrays[arm][iteration]["mean_K"]) for iteration in (shown[0], shown[-1])]
        first, last = (f"{bell:.2f}" if np.isfinite(bell) else "undefined" for bell in bells)
        parts.append(
            f"With {name}: groups near 0.5 get {first} times the rollouts of those near 0.25 and 0.75 "
            f"in the first iteration, {last} times in the last; share of all rollouts on estimates in "
            f"[0.25, 0.75] {middle[0]:.0%} and {middle[-1]:.0%}"
        )
    return (
        ". ".join(parts)
        + ". One draw by sqrt(p(1-p)) has a ratio of 1.15; a sharpening bell would be "
        "ratios above it that rise. The share moves with the success rates themselves."
    )
