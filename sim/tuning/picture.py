"""Pictures of a finished study, from its folder: profiles, slices, and what fresh seeds said."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import RBFInterpolator

from cures.checks import FloatArray
from cures.storage import read_json, read_jsonl
from sim.picture import BLUE, GREY, VERMILION, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNIT = np.linspace(0.0, 1.0, 41)
SLICES = 3  # pairs among the three knobs that matter most
NAMES = {
    "temperature": "temperature τ",
    "num_subsets": "num_subsets T",
    "pilots": "pilots N′",
    "steps_per_subset": "steps_per_subset M",
    "group_size": "group_size n",
    "forgetting": "forgetting λ",
}


def draw_study(folder: Path) -> list[Path]:
    """``confirmation.png``, ``profiles.png``; ``slices.png`` where two knobs and the result varied."""
    report, config = read_json(folder / "recommendation.json"), read_json(folder / "config.json")
    trials = [row for row in read_jsonl(folder / "trials.jsonl") if row["value"] is not None]
    drawn = [_confirmation(folder, report, config)]
    if report["profiles"]:
        drawn.append(_profiles(folder, report, config, trials))
    pairs = list(combinations(_by_importance(report, trials), 2))[:SLICES]
    if pairs and np.ptp([trial["value"] for trial in trials]) > 0.0:
        drawn.append(_slices(folder, report, config, trials, pairs))
    return drawn


def coordinate(row: dict[str, Any], name: str) -> float:
    """A trial's position on an axis; 0 where a switch turned the knob off."""
    if name == "group_size":
        return float(row["group_size"])
    return float(row["point"].get(name, 0.0))


def _profiles(
    folder: Path, report: dict[str, Any], config: dict[str, Any], trials: list[dict[str, Any]]
) -> Path:
    rows = report["profiles"]
    across = min(3, len(rows))
    down = -(-len(rows) // across)
    figure = new_figure(3.4 * across, 2.9 * down + 0.7)
    panels = np.atleast_1d(figure.subplots(down, across, sharey=True, squeeze=False)).ravel()
    for axes, row in zip(panels, rows, strict=False):
        value_V = np.array(row["value"])
        seeds_V_S = np.array(row["objective_S"], dtype=np.float64)
        _scale(axes, value_V, row["is_log"], row["name"])
        tried = [coordinate(trial, row["name"]) for trial in trials]
        axes.plot(tried, [t["value"] for t in trials], "o", ms=3.2, color=GREY, alpha=0.45,
                  mec="none", label="trials (other knobs vary too)")  # fmt: skip
        for s, line in enumerate(seeds_V_S.T):
            axes.plot(value_V, line, "-", lw=0.6, color=BLUE, alpha=0.4,
                      label="single seeds" if s == 0 else None)  # fmt: skip
        axes.plot(value_V, seeds_V_S.mean(axis=1), "o-", lw=1.8, ms=4.5, color=BLUE,
                  label=f"mean of {seeds_V_S.shape[1]} confirming seeds")  # fmt: skip
        axes.axvline(row["centre"], color=VERMILION, lw=1.4, ls="--", label="best of the search")
        axes.axhline(0.0, color="black", lw=0.8, ls=":")
        axes.grid(alpha=0.2)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    for axes in panels[::across]:
        axes.set_ylabel(report["objective"], fontsize=8)
    _limit(panels[0], trials, rows)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.suptitle(
        f"{_task(config)}: one knob at a time through {report['profile_centre']}; dotted: uniform",
        fontsize=9,
    )
    return save(figure, folder / "profiles.png")


def _slices(
    folder: Path,
    report: dict[str, Any],
    config: dict[str, Any],
    trials: list[dict[str, Any]],
    pairs: list[tuple[str, str]],
) -> Path:
    """Trials in the plane of two knobs over a smooth surface through all of them."""
    value_T = np.array([trial["value"] for trial in trials])
    colours = {"cmap": "viridis", "vmin": float(np.quantile(value_T, 0.1)), "vmax": value_T.max()}
    figure = new_figure(3.6 * len(pairs) + 0.8, 3.9)
    panels = figure.subplots(1, len(pairs), squeeze=False).ravel()
    chosen, level = report["chosen_setting"], "nowhere does the surface reach uniform"
    if value_T.min() > 0.0:
        level = "everywhere is it above uniform"
    for axes, (across, up) in zip(panels, pairs, strict=True):
        x_T = np.array([coordinate(trial, across) for trial in trials])
        y_T = np.array([coordinate(trial, up) for trial in trials])
        for name, values, axis in ((across, x_T, "x"), (up, y_T, "y")):
            _scale(axes, np.unique(values), report["is_log"][name], name, axis=axis)
        x_grid, y_grid, surface = _surface(axes, x_T, y_T, value_T)
        shown = axes.pcolormesh(x_grid, y_grid, surface, shading="gouraud", rasterized=True,
                                **colours)  # fmt: skip
        if surface.min() < 0.0 < surface.max():
            level = "dotted line: as good as uniform"
            axes.contour(x_grid, y_grid, surface, levels=[0.0], colors="white", linewidths=1.2,
                         linestyles=":")  # fmt: skip
        axes.scatter(x_T, y_T, c=value_T, s=26, edgecolors="black", linewidths=0.7, clip_on=False,
                     zorder=3, **colours)  # fmt: skip
        at = [t for t in trials if t["options"] == chosen["options"]
              and t["group_size"] == chosen["group_size"]]  # fmt: skip
        if at:
            axes.plot(coordinate(at[0], across), coordinate(at[0], up), "*", ms=15, mfc=VERMILION,
                      mec="white", clip_on=False, zorder=4)  # fmt: skip
    bar = figure.colorbar(shown, ax=panels.tolist(), extend="min")
    bar.set_label(report["objective"], fontsize=9)
    figure.suptitle(
        f"{_task(config)}: trials (dots) and a smooth surface through them, other knobs vary\n"
        f"star: {report['chosen']}; {level}",
        fontsize=9,
    )
    return save(figure, folder / "slices.png")


def _confirmation(folder: Path, report: dict[str, Any], config: dict[str, Any]) -> Path:
    """Each candidate's mean on trial seeds and on fresh ones: the gap is the winner's curse."""
    rows = report["candidates"]
    figure = new_figure(7.2, 0.42 * len(rows) + 2.2)
    axes = figure.subplots()
    for height, row in enumerate(reversed(rows)):
        for name, marker, face, shift in (
            ("search", "o", "white", 0.1),
            ("select", "s", BLUE, -0.1),
        ):
            if row[f"{name}_S"] is None:
                continue
            seeds = np.array(row[f"{name}_S"])
            error = seeds.std(ddof=1) / np.sqrt(seeds.size) if seeds.size > 1 else 0.0
            label = f"{seeds.size} {'trial' if name == 'search' else 'selecting'} seeds"
            axes.errorbar(seeds.mean(), height + shift, xerr=error, fmt=marker, color=BLUE,
                          mfc=face, ms=6, capsize=2, label=label if height == 0 else None)  # fmt: skip
    if report["objective"].startswith("held-out"):
        for name, text in (("chosen", "minus_uniform"), ("defaults", "defaults_minus_uniform")):
            interval = report[text]
            label = report["chosen"] if name == "chosen" else "defaults"
            height = len(rows) - 1 - [row["label"] for row in rows].index(label)
            ends = [[interval["mean"] - interval["low"]], [interval["high"] - interval["mean"]]]
            axes.errorbar(interval["mean"], height - 0.28, xerr=ends, fmt="D", color=VERMILION, ms=6,
                          capsize=3, label=f"{interval['seeds']} confirming seeds, 95 %"
                          if name == "chosen" else None)  # fmt: skip
    axes.axvline(0.0, color="black", lw=0.8, ls=":")
    axes.set_yticks(range(len(rows)), [row["label"] for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.5)
    axes.set_xlabel(f"{report['objective']} (bars of trial and selecting seeds: one standard error)",
                    fontsize=9)  # fmt: skip
    axes.grid(alpha=0.2, axis="x")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    axes.set_title(f"{_task(config)}: the best of the search on seeds it never saw", fontsize=9)
    return save(figure, folder / "confirmation.png")


def _surface(
    axes: Axes, x_T: FloatArray, y_T: FloatArray, value_T: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A ridge regression on Gaussians over the panel, constant far from every trial."""
    edges, place = [], []
    for axis, values in ((axes.xaxis, x_T), (axes.yaxis, y_T)):
        transform = axis.get_transform()
        straight = transform.transform(values)
        low, span = straight.min(), np.ptp(straight)
        place.append((straight - low) / span)
        edges.append(transform.inverted().transform(low + span * UNIT))
    smooth = RBFInterpolator(
        np.column_stack(place), value_T, kernel="gaussian", epsilon=4.0, smoothing=0.5, degree=0
    )
    u_grid, v_grid = np.meshgrid(UNIT, UNIT)
    surface = smooth(np.column_stack([u_grid.ravel(), v_grid.ravel()])).reshape(u_grid.shape)
    return *np.meshgrid(*edges), surface


def _by_importance(report: dict[str, Any], trials: list[dict[str, Any]]) -> list[str]:
    """Axes with more than one value among the trials, the most important first."""
    importance = report["importance"]
    names = {name for trial in trials for name in trial["point"] if not name.endswith(">0")}
    varied = [n for n in sorted(names) if len({coordinate(t, n) for t in trials}) > 1]
    return sorted(varied, key=lambda n: -importance.get(n, importance.get(f"{n}>0", 0.0)))


def _threshold(values: FloatArray) -> float:
    """Where a symmetric logarithm turns linear: just below the least positive value."""
    return float(values[values > 0].min()) / 1.5


def _scale(axes: Axes, values: FloatArray, is_log: bool, name: str, axis: str = "x") -> None:
    """Scale, plain numbers as ticks (at most five of ``values``, evenly spread) and name of an axis."""
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    ruler = axes.xaxis if axis == "x" else axes.yaxis
    if is_log:
        set_scale = axes.set_xscale if axis == "x" else axes.set_yscale
        set_scale("symlog", linthresh=_threshold(values))
        straight = ruler.get_transform().transform(values)
        wanted = np.linspace(straight[0], straight[-1], min(5, values.size))
        nearest = sorted({int(np.abs(straight - want).argmin()) for want in wanted})
        room = 0.08 * (straight[-1] - straight[0])  # closer labels would overlap
        apart = [at for at, before in zip(nearest[1:], nearest, strict=False)
                 if straight[at] - straight[before] > room]  # fmt: skip
        ruler.set_ticks(values[[nearest[0], *apart]])
        ruler.set_minor_locator(NullLocator())
        ruler.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    axes.tick_params(axis="both", labelsize=7)
    ruler.set_label_text(NAMES.get(name, name))


def _limit(axes: Axes, trials: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """A trial that ruined everything must not squeeze the rest: the lowest tenth may be cut off."""
    profile = np.array(
        [v for row in rows for seeds in row["objective_S"] for v in seeds if v is not None]
    )
    tried = np.array([trial["value"] for trial in trials])
    low = min(float(profile.min()), float(np.quantile(tried, 0.1)))
    high = max(float(profile.max()), float(tried.max()), 0.0)
    space = 0.06 * (high - low or 1.0)
    axes.set_ylim(low - space, high + space)


def _task(config: dict[str, Any]) -> str:
    protocol = config["protocol"]
    return (
        f"{config['scheduler']} on {protocol['population']} ({protocol['policy']}), "
        f"{protocol['rollouts']:,} rollouts"
    )
