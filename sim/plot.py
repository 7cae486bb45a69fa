"""Pictures of a finished comparison: learning curves, and what the arms sampled and knew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cures.checks import FloatArray
from sim.analysis import load_curves
from sim.diagnosis import courses, load_columns
from sim.picture import ArmStyle, arm_styles, new_figure, rollouts_axis, save
from sim.settings import REFERENCE, Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curves(settings: Settings, root: Path, comparison: dict[str, Any]) -> Path:
    """Draw mean held-out success against generated rollouts, with the middle half of the seeds.

    Parameters
    ----------
    settings : Settings
    root : Path
        Run folder with every arm finished.
    comparison : dict
        From :func:`sim.analysis.compare_arms`.

    Returns
    -------
    Path
        ``curves.png`` in the run folder.
    """
    figure = new_figure(9.0, 5.0)
    axes = figure.subplots()
    styles = arm_styles(settings.arms)
    curves = {arm: load_curves(root, arm, settings.seeds) for arm in settings.arms}
    from_the_top = sorted(settings.arms, key=lambda arm: -curves[arm][:, -1].mean())
    step = max(1, settings.grid_points // 8)  # a marker every so many points of the grid
    for position, arm in enumerate(from_the_top):
        curve_S_E, style = curves[arm], styles[arm]
        low, high = np.quantile(curve_S_E, [0.25, 0.75], axis=0)
        axes.fill_between(settings.grid_E, low, high, color=style.colour, alpha=0.12, linewidth=0)
        mean_E = curve_S_E.mean(axis=0)
        every = (position % step, step)  # neighbours' markers side by side, not on top
        axes.plot(settings.grid_E, mean_E, label=arm, markevery=every, **style.line())
    _mark_levels(axes, comparison)
    rollouts_axis(axes)
    axes.set_xlim(0, settings.rollouts)
    axes.set_ylabel("held-out success rate (exact, mean over prompts)")
    axes.set_title(
        f"{settings.population} population, {settings.policy} policy, {settings.estimator}, "
        f"{settings.optimiser}: mean of {settings.seeds} seeds, band: their middle half",
        fontsize=10,
    )
    axes.grid(alpha=0.2)
    figure.legend(frameon=False, loc="outside right center")
    return save(figure, root / "curves.png")


def _mark_levels(axes: Axes, comparison: dict[str, Any]) -> None:
    """Target levels as dotted lines, named at the right-hand edge, where no curve runs through."""
    targets = comparison["arms"][REFERENCE]["targets"]
    if not targets:
        return
    level = [comparison["start"] + target["gain"] for target in targets]
    for height in level:
        axes.axhline(height, color="grey", lw=0.8, ls=(0, (1, 3)), zorder=0)
    edge = axes.secondary_yaxis("right")
    edge.set_yticks(level, [f"{target['fraction']:.0%}" for target in targets], fontsize=8)
    edge.set_ylabel(f"share of {REFERENCE}'s gain (development seeds)", fontsize=8)


# Panel by panel: a course of sim.diagnosis, its name, and the level that a perfect posterior has.
PANELS = (
    ("wasted", "trained rollouts with advantage 0, share", None),
    ("never_visited", "prompts without any rollout, share", None),
    ("effective_prompts", "prompts visited (effective number)", None),
    ("coverage_80", "true rates inside the 80 % interval (0 and 1: never)", 0.8),
    ("log_loss", "log-loss above the truth's, per rollout", 0.0),
    ("brier", "Brier score above the truth's, per rollout", 0.0),
)


def draw_diagnostics(settings: Settings, root: Path) -> Path | None:
    """Draw waste, reach and calibration against generated rollouts, mean and middle half of seeds.

    Arms without a posterior are in the upper row only; the lower row is left out if none has one.

    Returns
    -------
    Path or None
        ``diagnostics.png`` in the run folder; ``None`` if its runs kept no records.
    """
    columns = {arm: load_columns(root, arm, settings.seeds) for arm in settings.arms}
    course = {arm: courses(c) for arm, c in columns.items() if c is not None}
    if not course:
        return None
    has_posterior = any(np.isfinite(c["coverage_80"]).any() for c in course.values())
    rows = 2 if has_posterior else 1
    figure = new_figure(12.0, 1.2 + 3.1 * rows)
    styles = arm_styles(settings.arms)
    panels = figure.subplots(rows, 3, sharex=True, squeeze=False)
    for axes, (name, label, ideal) in zip(panels.flat, PANELS, strict=False):
        for arm, values in course.items():
            _draw_course(axes, settings.grid_E, values[name], arm, styles[arm])
        if ideal is not None:
            axes.axhline(ideal, color="grey", lw=1.0, ls=(0, (1, 2)), zorder=0)
        axes.set_title(label, fontsize=10)
        axes.set_xlim(0, settings.rollouts)
        axes.grid(alpha=0.2)
        if name in ("wasted", "never_visited", "coverage_80"):
            axes.set_ylim(-0.02, 1.02)
        elif name == "effective_prompts":
            axes.set_ylim(bottom=0.0)
    for axes in panels[-1]:
        rollouts_axis(axes, label="rollouts generated", intervals=3)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside right center")
    figure.suptitle(
        f"{settings.population} population, {settings.policy} policy, {settings.estimator}: "
        f"mean of {settings.seeds} seeds, band: their middle half"
        + (", dotted: a perfect posterior" if has_posterior else ""),
        fontsize=10,
    )
    return save(figure, root / "diagnostics.png")


def _draw_course(
    axes: Axes, grid_E: FloatArray, value_S_E: FloatArray, arm: str, style: ArmStyle
) -> None:
    """Only where every seed has a value: a mean over other seeds at other points would jump."""
    is_known_E = np.isfinite(value_S_E).all(axis=0)
    if not is_known_E.any():
        axes.plot([], [], label=arm, **style.line())
        return
    grid, value = grid_E[is_known_E], value_S_E[:, is_known_E]
    low, high = np.quantile(value, [0.25, 0.75], axis=0)
    axes.fill_between(grid, low, high, color=style.colour, alpha=0.12, linewidth=0)
    step = max(1, grid.size // 6)
    axes.plot(grid, value.mean(axis=0), label=arm, markevery=step, **style.line())


def draw_summary(summary: dict[str, Any], margin: float, root: Path) -> Path:
    """Draw every arm's difference from the reference in every cell, a column per estimator.

    Parameters
    ----------
    summary : dict
        From :func:`sim.grid.summarise`.
    margin : float
        Largest loss that is no harm, drawn as a dotted line.

    Returns
    -------
    Path
        ``summary.png`` in the folder of the grid.
    """
    rows = [row for row in summary["rows"] if "difference" in row]
    populations = list(dict.fromkeys(row["population"] for row in rows))
    estimators = list(dict.fromkeys(row["estimator"] for row in rows))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    styles = arm_styles(arms)
    height = 1.8 + len(populations) * (0.3 + 0.24 * len(arms))
    figure = new_figure(3.2 + 3.6 * len(estimators), height)
    panels = figure.subplots(1, len(estimators), sharex=True, sharey=True, squeeze=False)[0]
    for axes, estimator in zip(panels, estimators, strict=True):
        for row in rows:
            if row["estimator"] == estimator:
                shift = (arms.index(row["arm"]) + 0.5) / len(arms) - 0.5
                at = populations.index(row["population"]) + 0.8 * shift
                _draw_difference(axes, row["difference"], at, styles[row["arm"]])
        axes.axvline(0.0, color="black", lw=0.8, zorder=0)
        axes.axvline(-margin, color="grey", lw=1.0, ls=(0, (1, 2)), zorder=0)
        for edge in range(1, len(populations)):
            axes.axhline(edge - 0.5, color="grey", lw=0.5, alpha=0.4)
        axes.set_title(estimator, fontsize=10)
        axes.grid(axis="x", alpha=0.2)
    panels[0].set_yticks(range(len(populations)), populations)
    panels[0].set_ylim(len(populations) - 0.5, -0.5)
    figure.supxlabel(
        f"held-out success minus {summary['reference']}'s at equal rollouts, 95 % interval "
        "(dotted: margin of no harm)",
        fontsize=9,
    )
    for arm in arms:
        panels[-1].plot([], [], label=arm, **{**styles[arm].line(), "linestyle": "none"})
    figure.legend(frameon=False, loc="outside right center")
    return save(figure, root / "summary.png")


def _draw_difference(axes: Axes, difference: dict[str, Any], at: float, style: ArmStyle) -> None:
    if difference["low"] is not None:
        axes.plot([difference["low"], difference["high"]], [at, at], color=style.colour, lw=1.5)
    axes.plot([difference["mean"]], [at], **{**style.line(), "linestyle": "none"})
