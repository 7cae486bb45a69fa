"""Learning curves of a finished comparison, as one PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.analysis import load_curves
from sim.picture import arm_styles, new_figure, rollouts_axis, save
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
