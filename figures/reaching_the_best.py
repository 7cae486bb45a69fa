"""Updates and rollouts that CurES needs to reach the baseline's best, with a control.

The paper reads off its curves after how many updates CurES reaches the best that a baseline reaches
at all. That statistic flatters: a noisy baseline reaches its own best late, by definition. So it is
computed here for a control too, *uniform against uniform with other draws*, which should be at 1 and
is what a ratio must be compared with. Beside it stands a level that was fixed beforehand: 80 % of
uniform's gain on development seeds.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from cures.checks import FloatArray, fail
from cures.comparison import rollouts_to_target, speed_up
from figures.sim_folders import FRACTION, AnyComparison, FloatMatrix, by_label
from figures.style import (
    ESTIMATORS,
    OPTIMISERS,
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
from sim.wording import BOUND

SHOWN = ("uniform", "uniform@again", "cures")
AXES = ("updates", "rollouts")
CONTROL = "uniform@again"
NAMES = {"best": "baseline's best", "80 %": "80 % level"}
CAPTION = """\
{pool}: held-out success of CurES and of uniform sampling under GRPO (top) and REINFORCE++
(bottom), against updates (left) and against every rollout generated (right); mean of {seeds}
paired seeds, band: their middle half. Dashed: uniform's best (mean); dotted: 80 % of its gain on
development seeds. In the panels: uniform's median updates or rollouts to that level, over those of
CurES and over those of the control [95 % bootstrap interval; from 0: open below]: above 1, the arm
is faster. "k out": k of its runs have not arrived when all their rollouts are spent, and the ratio
is a bound where the median rests on them. The control is uniform sampling with other random
numbers. The paper reports, to the baseline's best, in updates and without pilots, {paper}."""
PAPER = {
    "skills": "5.5x (GRPO) and 1.75x (REINFORCE++) for its smaller model",
    "u_shaped": "4.3x (GRPO) and 3.7x (REINFORCE++) for its larger model",
}


def compute(folders: list[Path]) -> dict[str, Any]:
    """Curves and ratios per estimator.

    Returns
    -------
    dict
        ``population``; per estimator ``generated_E``; per arm ``held_out_S_E`` and ``held_out_S_U``;
        per axis and level ``level_S``; and, under ``ratio``, per axis, level and arm the fields of
        :class:`cures.comparison.SpeedUp`. A level that does not exist (uniform did not improve on the
        development seeds) is left out.
    """
    comparisons = by_label(folders, lambda c: str(c.config["estimator"]), "reaching_the_best")
    pools = {comparison.config["population"] for comparison in comparisons.values()}
    if len(pools) != 1:
        fail("reaching_the_best", "folders", "of one population", sorted(pools))
    arrays: dict[str, Any] = {"population": pools.pop()}
    for estimator, comparison in comparisons.items():
        targets = comparison.result["arms"][REFERENCE]["targets"]
        gain = [target["gain"] for target in targets if target["fraction"] == FRACTION]
        arrays[estimator] = panel_of(comparison, gain[0] if gain else None)
    return arrays


def panel_of(comparison: AnyComparison, gain: float | None) -> dict[str, Any]:
    """Curves and ratios of one comparison with the arms :data:`SHOWN`.

    Parameters
    ----------
    comparison : AnyComparison
    gain : float, optional
        Held-out success above the start that was fixed beforehand; None: no such level.
    """
    panel: dict[str, Any] = {"optimiser": OPTIMISERS[comparison.config["optimiser"]]}
    for arm in SHOWN:
        panel["generated_E"], on_grid = comparison.curve(arm)
        panel[arm] = {"held_out_S_E": on_grid, "held_out_S_U": comparison.by_update(arm)}
    panel["ratio"], panel["level"] = {}, {}
    for axis in AXES:
        key = "held_out_S_U" if axis == "updates" else "held_out_S_E"
        reference = panel[REFERENCE][key]
        level = {"best": smoothed_best(reference)}
        if gain is not None:
            level["80 %"] = reference[:, 0] + gain
        panel["level"][axis] = level
        panel["ratio"][axis] = {
            name: {
                arm: _ratio(axis, reference, panel[arm][key], level_S, panel["generated_E"])
                for arm in SHOWN[1:]
            }
            for name, level_S in level.items()
        }
    return panel


def smoothed_best(curve_S_E: FloatMatrix) -> FloatArray:
    """Best value of each seed's isotonically smoothed curve: its last one.

    Examples
    --------
    >>> smoothed_best(np.array([[0.1, 0.5, 0.3]])).tolist()
    [0.4]
    """
    return np.array([isotonic_regression(curve).x[-1] for curve in curve_S_E])


def _ratio(
    axis: str, reference: FloatMatrix, arm: FloatMatrix, level_S: FloatArray, grid_E: FloatArray
) -> dict[str, Any]:
    """Ratio of medians; what censoring leaves open is NaN."""
    timed: list[Any] = []
    for curve in (reference, arm):
        x = np.arange(curve.shape[1], dtype=np.float64) if axis == "updates" else grid_E
        timed.extend(rollouts_to_target(x, curve, level_S))
    values = asdict(speed_up(*timed, generator=np.random.default_rng(0)))
    if values["ratio"] is None:
        values["ratio"] = np.nan
    if values["high"] == np.inf:
        values["high"] = np.nan
    return values


def ratio_text(values: dict[str, Any]) -> str:
    """Ratio, with its interval where it is exact and with the runs that never arrive.

    Examples
    --------
    >>> ratio_text({"ratio": 0.7, "low": 0.65, "high": 0.75, "bound": "exact", "arm_censored": 0})
    '0.70 [0.65, 0.75]'
    >>> ratio_text({"ratio": 1.0, "low": 0.0, "high": 1.0, "bound": "at most", "arm_censored": 7})
    '≤ 1.00 (7 out)'
    """
    out = f" ({values['arm_censored']} out)" if values["arm_censored"] else ""
    if np.isnan(values["ratio"]):
        return f"undefined{out}"
    text = f"{BOUND[values['bound']]}{values['ratio']:.2f}"
    if values["bound"] == "exact":
        high = "inf" if np.isnan(values["high"]) else f"{values['high']:.2f}"
        text += f" [{values['low']:.2f}, {high}]"
    return text + out


def _estimators(arrays: dict[str, Any]) -> list[str]:
    return [key for key in arrays if key in ESTIMATORS]


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A row per estimator; updates on the left, rollouts on the right."""
    estimators = _estimators(arrays)
    figure = page_figure(0.5 + 2.0 * len(estimators))
    grid = figure.subplots(len(estimators), 2, sharey="row", squeeze=False)
    for row, estimator in zip(grid, estimators, strict=True):
        for axes, axis in zip(row, AXES, strict=True):
            _draw_panel(axes, arrays[estimator], axis)
        low, high = row[0].get_ylim()
        row[0].set_ylim(bottom=low - 0.25 * (high - low))  # shared; room for the text
        row[0].set_ylabel("held-out success rate")
        row[0].set_xlabel("updates")
        thousands(row[1])
    titles = [f"{ESTIMATORS[estimator]}, {axis}" for estimator in estimators for axis in AXES]
    letters(grid.flat, titles)
    shared_legend(figure, grid[0, 0])
    return figure


def _draw_panel(axes: Axes, panel: dict[str, Any], axis: str) -> None:
    styles = arm_styles(SHOWN)
    for position, arm in enumerate(SHOWN):
        curve = panel[arm]["held_out_S_U" if axis == "updates" else "held_out_S_E"]
        x = np.arange(curve.shape[1]) if axis == "updates" else panel["generated_E"]
        options = {"label": method_name(arm), "markevery": markers(position, x.size)}
        band(axes, x, curve, styles[arm], **options)
    dashes = {"best": (0, (4, 3)), "80 %": (0, (1, 2))}
    for name, level_S in panel["level"][axis].items():
        axes.axhline(level_S.mean(), color="grey", lw=0.8, ls=dashes[name], zorder=0)
    lines = [
        f"{name}: CurES {ratio_text(arms['cures'])}, control {ratio_text(arms[CONTROL])}"
        for name, arms in panel["ratio"][axis].items()
    ]
    axes.text(0.99, 0.03, "\n".join(lines), transform=axes.transAxes, ha="right", fontsize=6.5)
    axes.set_xlim(left=0)
    light_grid(axes)


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    panel, pool = arrays[_estimators(arrays)[0]], arrays["population"]
    return CAPTION.format(
        pool=sentence(f"{POOLS.get(pool, pool)}, {panel['optimiser']}"),
        seeds=panel[REFERENCE]["held_out_S_E"].shape[0],
        paper=PAPER.get(pool, "ratios from 1.75x to 5.5x"),
    )


def finding(arrays: dict[str, Any]) -> str:
    """Ratios of CurES and of the control, and whether the paper's story holds."""
    parts, faster, cells = [], 0, 0
    for estimator in _estimators(arrays):
        ratio = arrays[estimator]["ratio"]
        for axis in AXES:
            words = []
            for name, arms in ratio[axis].items():
                ours = arms["cures"]
                faster += bool(ours["low"] > 1.0)
                cells += 1
                words.append(f"{ratio_text(ours)} to the {NAMES[name]}")
            parts.append(f"{ESTIMATORS[estimator]}, {axis}: {', '.join(words)}")
    story = (
        "Unlike in the paper, CurES is nowhere seen to be faster than uniform sampling: no interval "
        "lies above 1"
        if faster == 0
        else f"CurES is faster than uniform sampling (interval above 1) in {faster} of {cells} readings"
    )
    return f"{story}. {'; '.join(parts)}."
