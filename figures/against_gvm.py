"""Learning curves of CurES against GVM, two pools by two advantage estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from figures.sim_folders import by_label, difference, in_words
from figures.style import (
    ESTIMATORS,
    POOLS,
    band,
    letters,
    light_grid,
    markers,
    method_name,
    page_figure,
    shared_legend,
    styled,
    thousands,
)
from sim.picture import arm_styles

SHOWN = ("uniform", "cures", "gvm")
CAPTION = """\
Exact mean success rate on held-out prompts against every rollout generated, pilots included. Line:
mean of {seeds} paired seeds; band: their middle half. CurES has 4 pilots per prompt and GVM 8, as
published. Uniform sampling is drawn too: CurES and GVM alone would not show whether either is
worth its pilots. The paper's panels are two model sizes against steps, and in its Table 1 CurES
ends above GVM in all four; a simulated policy has no size, so the panels here are two pools of
prompts, and the axis counts rollouts."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Curves on the common grid.

    Returns
    -------
    dict
        ``population/estimator`` -> ``generated_E`` and, per arm, ``held_out_S_E``; ``gain``: per panel
        mean, low and high of CurES minus GVM, and of CurES minus uniform, at the end.
    """
    arrays: dict[str, Any] = {}
    for label, comparison in by_label(folders, _panel, "against_gvm").items():
        panel: dict[str, Any] = {}
        for arm in SHOWN:
            panel["generated_E"], panel[f"{arm}/held_out_S_E"] = comparison.curve(arm)
        end = {arm: panel[f"{arm}/held_out_S_E"][:, -1] for arm in SHOWN}
        panel["minus_gvm"] = difference(end["cures"], end["gvm"])
        panel["minus_uniform"] = difference(end["cures"], end["uniform"])
        arrays[label] = panel
    return arrays


def _panel(comparison: Any) -> str:
    return f"{comparison.config['population']}/{comparison.config['estimator']}"


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A row per pool, a column per estimator."""
    pools = list(dict.fromkeys(label.split("/")[0] for label in arrays))
    estimators = list(dict.fromkeys(label.split("/")[1] for label in arrays))
    figure = page_figure(0.5 + 1.75 * len(pools))
    grid = figure.subplots(len(pools), len(estimators), sharex=True, sharey="row", squeeze=False)
    styles = arm_styles(SHOWN)
    titles = []
    for row, pool in zip(grid, pools, strict=True):
        for axes, estimator in zip(row, estimators, strict=True):
            panel = arrays[f"{pool}/{estimator}"]
            x_E = panel["generated_E"]
            for position, arm in enumerate(SHOWN):
                options = {"label": method_name(arm), "markevery": markers(position, x_E.size)}
                band(axes, x_E, panel[f"{arm}/held_out_S_E"], styles[arm], **options)
            light_grid(axes)
            titles.append(f"{POOLS[pool]}, {ESTIMATORS[estimator]}")
        row[0].set_ylabel("held-out success rate")
    for axes in grid[-1]:
        thousands(axes)
    letters(grid.flat, titles)
    shared_legend(figure, grid[0, 0])
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    first = next(iter(arrays.values()))
    return CAPTION.format(seeds=first["uniform/held_out_S_E"].shape[0])


def finding(arrays: dict[str, Any]) -> str:
    """CurES against GVM and against uniform at the end, per panel."""
    parts, ahead, behind = [], 0, 0
    for label, panel in arrays.items():
        pool, estimator = label.split("/")
        gvm, uniform = panel["minus_gvm"], panel["minus_uniform"]
        ahead += bool(gvm[0] > 0)
        behind += bool(uniform[0] < 0)
        parts.append(
            f"{POOLS[pool]}, {ESTIMATORS[estimator]}: {in_words(gvm)} to GVM, {in_words(uniform)} to "
            "uniform"
        )
    story = "as in the paper" if ahead == len(arrays) else "unlike in the paper"
    return (
        f"{story.capitalize()}, CurES ends above GVM in {ahead} of {len(arrays)} panels; it ends below "
        f"uniform sampling in {behind} of {len(arrays)}, which the paper's figure does not show. "
        f"Paired differences of CurES at the end [95 %]: {'; '.join(parts)}."
    )
