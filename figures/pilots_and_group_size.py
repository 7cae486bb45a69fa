"""Learning curves of CurES for several numbers of pilots N' and of rollouts per draw n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cures.checks import fail
from figures.sim_folders import AnyComparison, labelled, read
from figures.style import (
    POOLS,
    band,
    letters,
    light_grid,
    markers,
    page_figure,
    sentence,
    shared_legend,
    styled,
    thousands,
)
from sim.picture import ArmStyle, arm_styles

SHADES = (("#0072B2", "s"), ("#3F97CE", "d"), ("#86BEE3", "p"), ("#B5D8EE", "8"))
CAPTION = """\
{pool}, GRPO: held-out success of CurES with N' = {pilots} pilots per prompt and n = {groups}
rollouts per draw ({batch} draws an update), against every rollout generated (top) and against
updates (bottom); mean of {seeds} seeds. Uniform sampling at the same n, without pilots, is drawn
as well. The paper's axis is updates, on which more pilots and larger groups cost nothing; at equal
rollouts they cost updates. Where curves of one n coincide at the bottom, N' makes no difference."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Curves by n, then by arm.

    Returns
    -------
    dict
        ``population``; ``n{n}`` -> ``generated_E``, and per arm (``uniform``, ``pilots{N'}``)
        ``held_out_S_E`` on the grid and ``held_out_S_U`` by update.
    """
    return arrays_of([read(folder) for folder in folders])


def arrays_of(found: Sequence[AnyComparison]) -> dict[str, Any]:
    """The same of comparisons that are read already.

    Raises
    ------
    ValueError
        If two have one n, or the pools differ.
    """
    comparisons = labelled(found, lambda c: f"n{c.config['group_size']}", "pilots_and_group_size")
    pools = {comparison.config["population"] for comparison in comparisons.values()}
    if len(pools) != 1:
        fail("pilots_and_group_size", "folders", "of one population", sorted(pools))
    arrays: dict[str, Any] = {"population": pools.pop()}
    order = sorted(comparisons.items(), key=lambda item: int(item[1].config["group_size"]))
    for label, comparison in order:
        panel: dict[str, Any] = {"batch": int(comparison.config["batch_size"])}
        for arm in comparison.arms:
            panel["generated_E"], grid = comparison.curve(arm)
            curves = {"held_out_S_E": grid, "held_out_S_U": comparison.by_update(arm)}
            panel[_name(comparison, arm)] = curves
        arrays[label] = panel
    return arrays


def _name(comparison: AnyComparison, arm: str) -> str:
    pilots = comparison.options(arm).get("pilots")
    return arm if pilots is None else f"pilots{pilots}"


def _panels(arrays: dict[str, Any]) -> list[str]:
    return [key for key in arrays if key.startswith("n")]


def _arms(panel: dict[str, Any]) -> list[str]:
    return [key for key, value in panel.items() if isinstance(value, dict)]


def _styles(arms: list[str]) -> list[ArmStyle]:
    """CurES's own look, lighter with more pilots, and a marker each."""
    styles = list(
        arm_styles([arm if arm == "uniform" else f"cures@{arm}" for arm in arms]).values()
    )
    looks = iter(SHADES)
    return [
        style if arm == "uniform" else replace(style, colour=colour, marker=marker)
        for arm, style in zip(arms, styles, strict=True)
        for colour, marker in [("", "") if arm == "uniform" else next(looks)]
    ]


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A column per n; rollouts above, updates below."""
    columns = _panels(arrays)
    figure = page_figure(3.8)
    grid = figure.subplots(2, len(columns), sharey=True, squeeze=False)
    for (top, bottom), label in zip(grid.T, columns, strict=True):
        panel = arrays[label]
        arms = _arms(panel)
        for position, (arm, style) in enumerate(zip(arms, _styles(arms), strict=True)):
            name = arm if arm == "uniform" else f"CurES, N' = {arm.removeprefix('pilots')}"
            x_E = panel["generated_E"]
            options = {"label": name, "markevery": markers(position, x_E.size)}
            band(top, x_E, panel[arm]["held_out_S_E"], style, **options)
            by_update = panel[arm]["held_out_S_U"]
            every = markers(position, by_update.shape[1])
            band(bottom, np.arange(by_update.shape[1]), by_update, style, markevery=every)
        thousands(top)
        bottom.set_xlabel("updates")
        for axes in (top, bottom):
            light_grid(axes)
            axes.set_xlim(left=0)
    for row in grid:
        row[0].set_ylabel("held-out success rate")
    letters(grid.flat, [f"n = {label[1:]}" for _ in range(2) for label in columns])
    shared_legend(figure, grid[0, 0])
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    panels = _panels(arrays)
    arms = [arm.removeprefix("pilots") for arm in _arms(arrays[panels[0]]) if arm != "uniform"]
    return CAPTION.format(
        pool=sentence(POOLS.get(arrays["population"], arrays["population"])),
        pilots=", ".join(arms),
        groups=", ".join(label[1:] for label in panels),
        batch=arrays[panels[0]]["batch"],
        seeds=arrays[panels[0]]["uniform"]["held_out_S_E"].shape[0],
    )


def finding(arrays: dict[str, Any]) -> str:
    """Best and worst settings of CurES, and uniform's best, at equal rollouts and at equal updates."""
    curves = {
        (arm, int(label[1:])): arrays[label][arm]
        for label in _panels(arrays)
        for arm in _arms(arrays[label])
    }
    common = min(curve["held_out_S_U"].shape[1] for curve in curves.values()) - 1
    at_the_end = {key: float(c["held_out_S_E"][:, -1].mean()) for key, c in curves.items()}
    by_update = {key: float(c["held_out_S_U"][:, common].mean()) for key, c in curves.items()}
    return (
        f"At equal rollouts {_extremes(at_the_end)}. After {common} updates, as many as every run "
        f"has, {_extremes(by_update)}."
    )


def _extremes(values: dict[tuple[str, int], float]) -> str:
    """Best and worst setting of CurES and the best of uniform; keys are arm and n."""
    ours = {key: value for key, value in values.items() if key[0] != "uniform"}
    best, worst = max(ours, key=ours.__getitem__), min(ours, key=ours.__getitem__)
    uniform = max((key for key in values if key[0] == "uniform"), key=values.__getitem__)

    def words(key: tuple[str, int]) -> str:
        return f"N' = {key[0].removeprefix('pilots')}, n = {key[1]} ({values[key]:.3f})"

    return (
        f"CurES is best at {words(best)} and worst at {words(worst)}, uniform sampling best at "
        f"n = {uniform[1]} ({values[uniform]:.3f})"
    )
