"""Plots of a run's report, one figure each, at the width of half the page."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cures.checks import FloatArray, IntArray
from cures.sampling import effective_sample_size
from figures.style import COLUMN, DPI, RC, light_grid, page_figure, styled, thousands
from figures.visits import Visits
from sim.picture import BLUE, GREY, VERMILION

Row = dict[str, Any]
HEIGHT = 2.3  # inches
LINE: dict[str, Any] = {"linewidth": 1.2}
LEGEND: dict[str, Any] = {"columnspacing": 1.2, "handlelength": 1.8, "handletextpad": 0.5}
POINTS = 80  # of a curve that takes a pass over the pool each
CELLS = 9  # centred at 0, 1/8 ... 1: groups of eight fall into the middle of a cell


def data_uri(figure: Figure) -> str:
    """The figure as a PNG that stands in the page itself."""
    content = io.BytesIO()
    with matplotlib.rc_context(RC):  # ticks are made while saving
        figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


@styled
def held_out(evaluation: list[Row]) -> Figure:
    """Held-out success with one standard error to either side."""
    x_E, rate_E, error_E = (
        _column(evaluation, key) for key in ("generated", "held_out", "standard_error")
    )
    figure = page_figure(HEIGHT, width=COLUMN)
    axes = figure.subplots()
    axes.fill_between(x_E, rate_E - error_E, rate_E + error_E, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(x_E, rate_E, color=BLUE, marker="o", markersize=2.5, **LINE)
    axes.set_ylabel("held-out success rate")
    _rollouts(axes)
    return figure


@styled
def reward_and_wasted(metrics: list[Row]) -> Figure:
    """Mean reward of the trained rollouts, and the share of them whose advantage is 0."""
    figure = page_figure(HEIGHT, width=COLUMN)
    axes = figure.subplots()
    x_U = _column(metrics, "generated")
    for key, label, look in (
        ("reward", "mean reward", {"color": BLUE}),
        ("wasted", "wasted", {"color": VERMILION, "linestyle": "--"}),
    ):
        axes.plot(x_U, _column(metrics, key), label=label, **look, **_marked(x_U), **LINE)
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("share of the trained rollouts")
    _rollouts(axes)
    _legend(figure)
    return figure


@styled
def mixed_groups(metrics: list[Row], seen: Visits) -> Figure:
    """Visits of every update, and those with right and wrong answers."""
    figure = page_figure(HEIGHT, width=COLUMN)
    axes = figure.subplots()
    x_U = _column(metrics, "generated")
    for label, step_V, look in (
        ("visited", seen.step_V, {"color": GREY, "linestyle": "--"}),
        ("mixed", seen.step_V[seen.is_mixed_V], {"color": BLUE}),
    ):
        # visits after the last update belong to one that never came
        count_U = np.bincount(step_V, minlength=x_U.size)[: x_U.size]
        axes.plot(x_U, count_U, label=label, **look, **_marked(x_U), **LINE)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("prompts of an update")
    _rollouts(axes)
    _legend(figure)
    return figure


def effective_sizes(seen: Visits, num_prompts: int, step_P: IntArray) -> tuple[FloatArray, ...]:
    """Prompts that the visits before each of these steps amount to, and prompts visited at all.

    Returns
    -------
    size_P, visited_P : ndarray of float64, shape (P,)
        ``size``: (sum of visits)^2 / sum of squared visits, at most ``visited``.
    """
    found = np.zeros((2, step_P.size))
    for i, step in enumerate(step_P.tolist()):
        visits_N = np.bincount(seen.prompt_V[: seen.start_of(step)], minlength=num_prompts)
        found[:, i] = effective_sample_size(visits_N / visits_N.sum()), (visits_N > 0).sum()
    return found[0], found[1]


@styled
def sample_size(metrics: list[Row], seen: Visits, num_prompts: int) -> Figure:
    """Effective sample size of the visits so far; of the scheduler's distribution where it has one."""
    figure = page_figure(HEIGHT, width=COLUMN)
    axes = figure.subplots()
    x_U = _column(metrics, "generated")
    first = int(seen.step_V[0]) + 1  # update before which something was seen
    step_P = np.unique(np.linspace(first, x_U.size, POINTS).round().astype(np.int64))
    size_P, visited_P = effective_sizes(seen, num_prompts, step_P)
    x_P = x_U[step_P - 1]
    axes.plot(x_P, visited_P, "--", color=GREY, label="visited", **_marked(x_P), **LINE)
    axes.plot(x_P, size_P, color=BLUE, label="effective, visits", **_marked(x_P), **LINE)
    of_distribution_U = _column(metrics, "effective_sample_size")
    if not np.isnan(of_distribution_U).all():
        axes.plot(x_U, of_distribution_U, ":", color=VERMILION, label="effective, chances", **LINE)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("prompts")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _rollouts(axes)
    _legend(figure)
    return figure


def first_and_last(seen: Visits) -> tuple[FloatArray, FloatArray]:
    """Success rates of the first and the last visit of every prompt that was visited twice."""
    rate_V = seen.success_V / seen.trial_V
    prompt_P, first_P = np.unique(seen.prompt_V, return_index=True)
    last_P = len(seen) - 1 - np.unique(seen.prompt_V[::-1], return_index=True)[1]
    is_again_P = first_P != last_P
    assert prompt_P.size == last_P.size  # both of all visited prompts, ascending
    return rate_V[first_P[is_again_P]], rate_V[last_P[is_again_P]]


@styled
def success_rates(seen: Visits) -> Figure:
    """Prompts by the success rates of their first and their last visit."""
    first_P, last_P = first_and_last(seen)
    edges = (np.arange(CELLS + 1) - 0.5) / (CELLS - 1)
    count, _, _ = np.histogram2d(last_P, first_P, bins=[edges, edges])
    figure = page_figure(HEIGHT, width=COLUMN)
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        edges,
        edges,
        np.ma.masked_equal(count, 0.0),
        cmap="Blues",
        norm=LogNorm(1.0, max(2.0, count.max())),
    )
    axes.plot([0.0, 1.0], [0.0, 1.0], color=GREY, linewidth=0.8, linestyle="--")
    axes.set_aspect("equal")
    axes.set_xlabel("success rate, first visit")
    axes.set_ylabel("success rate, last visit")
    bar = figure.colorbar(mesh, ax=axes, label="prompts")
    bar.formatter = FuncFormatter(lambda value, _: f"{value:,.0f}")
    bar.minorticks_off()
    bar.update_ticks()
    return figure


def _column(rows: list[Row], key: str) -> FloatArray:
    """A column with NaN where nothing was measured."""
    return np.array([np.nan if row[key] is None else row[key] for row in rows], dtype=np.float64)


def _marked(x_P: FloatArray) -> dict[str, Any]:
    """A single point is seen."""
    return {"marker": "o", "markersize": 3.0} if x_P.size == 1 else {}


def _rollouts(axes: Any) -> None:
    thousands(axes)
    light_grid(axes)


def _legend(figure: Figure) -> None:
    axes = figure.axes[0]
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, **LEGEND)
