"""The same runs against updates and against rollouts: the axis decides who looks good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cures.checks import fail
from figures.sim_folders import read
from figures.style import (
    POOLS,
    band,
    letters,
    light_grid,
    markers,
    method_name,
    page_figure,
    sentence,
    shared_legend,
    styled,
    thousands,
)
from sim.picture import arm_styles
from sim.settings import REFERENCE

CAPTION = """\
{pool}, GRPO: the same runs against updates (a), the axis of the paper, and against every rollout
generated (b): pilots, screening, dropped groups and discarded surplus count. Mean of {seeds}
paired seeds, band: their middle half. Every run may generate {rollouts:,} rollouts; a curve in (a)
ends where they are spent."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Curves of every arm of one comparison on both axes.

    Returns
    -------
    dict
        ``population``, ``rollouts``, ``generated_E``; per arm ``held_out_S_E`` and ``held_out_S_U``.
    """
    if len(folders) != 1:
        fail("steps_or_rollouts", "folders", "one comparison", [str(f) for f in folders])
    comparison = read(folders[0])
    arrays: dict[str, Any] = {key: comparison.config[key] for key in ("population", "rollouts")}
    for arm in comparison.arms:
        arrays["generated_E"], on_grid = comparison.curve(arm)
        arrays[arm] = {"held_out_S_E": on_grid, "held_out_S_U": comparison.by_update(arm)}
    return arrays


def _arms(arrays: dict[str, Any]) -> list[str]:
    return [key for key, value in arrays.items() if isinstance(value, dict)]


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """Two panels over one vertical axis."""
    arms = _arms(arrays)
    figure = page_figure(2.6)
    left, right = figure.subplots(1, 2, sharey=True)
    styles = arm_styles(arms)
    for position, arm in enumerate(arms):
        by_update, on_grid = arrays[arm]["held_out_S_U"], arrays[arm]["held_out_S_E"]
        options = {"label": method_name(arm), "markevery": markers(position, by_update.shape[1])}
        band(left, np.arange(by_update.shape[1]), by_update, styles[arm], **options)
        every = markers(position, on_grid.shape[1])
        band(right, arrays["generated_E"], on_grid, styles[arm], markevery=every)
    left.set_xlabel("updates")
    left.set_ylabel("held-out success rate")
    thousands(right)
    for axes in (left, right):
        axes.set_xlim(left=0)
        light_grid(axes)
    letters((left, right), ("updates", "rollouts"))
    shared_legend(figure, left)
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    pool = arrays["population"]
    return CAPTION.format(
        pool=sentence(POOLS.get(pool, pool)),
        seeds=arrays[REFERENCE]["held_out_S_E"].shape[0],
        rollouts=int(arrays["rollouts"]),
    )


def finding(arrays: dict[str, Any]) -> str:
    """Order of the methods after the same updates, and after the same rollouts."""
    arms = _arms(arrays)
    common = min(arrays[arm]["held_out_S_U"].shape[1] for arm in arms) - 1
    after_updates = {arm: arrays[arm]["held_out_S_U"][:, common].mean() for arm in arms}
    at_the_end = {arm: arrays[arm]["held_out_S_E"][:, -1].mean() for arm in arms}

    def order(values: dict[str, float]) -> str:
        ranked = sorted(values, key=lambda arm: -values[arm])
        return ", ".join(f"{method_name(arm)} {values[arm]:.3f}" for arm in ranked)

    return (
        f"After {common} updates, as many as every method has: {order(after_updates)}. After equal "
        f"rollouts: {order(at_the_end)}."
    )
