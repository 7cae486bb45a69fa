"""When curricula help and when they cannot: one factor at a time, and what explains the saving.

The sweeps are those of :mod:`figures.paper_runs`; what theory says of them is in
:mod:`figures.mixed_groups`. Additional axis suffix: ``_C`` values of a factor, or cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cures.checks import FloatArray, fail
from cures.comparison import on_grid
from figures.mixed_groups import EXPONENT, cells_of
from figures.paper_runs import DEFAULT, LONG
from figures.sim_folders import Comparison, difference, in_words, labelled, read
from figures.style import (
    OPTIMISERS,
    SHORT_ESTIMATORS,
    letters,
    light_grid,
    line,
    method_name,
    page_figure,
    sentence,
    shared_legend,
    styled,
    told_dashed,
)
from sim.picture import ArmStyle
from sim.settings import REFERENCE

FACTORS = {
    "dead": "dead prompts",
    "coin": "coins",
    "pool": "pool size",
    "transfer": "transfer",
    "rate": "learning rate",
    "budget": "thousand rollouts",
    "estimator": "estimator",
    "aggregation": "aggregation",
}
NAMED = ("estimator", "aggregation")  # factors without an order
COLUMNS, ROW_HEIGHT, EXPLAINED_HEIGHT = 4, 1.35, 2.3
CAPTION = """\
Held-out success after {rollouts:,} generated rollouts (pilots included) minus uniform sampling's; mean
of {seeds} paired seeds with Student's 95 % interval. One factor at a time, {optimisers}. Grey band: the
default, GRPO, {dead:.0%} dead prompts (never or always right, 60 : 25), {pool:,} prompts whose learnable
ones start evenly spread, {batch_size} draws of {group_size} rollouts an update. Coins: share among the
prompts that are not dead. Learning rate: times the default's. Transfer: another policy, 32 abilities, in
which prompts help each other more to the right. RPP: REINFORCE++. Dashed: told the true success rates
and which prompts can be learned; no contender. Bottom left: how many times uniform's share of rollouts
in mixed groups an arm has until it reaches 80 % of uniform's gain, against R, what visits by the soft
threshold of `adaptive` would give on the initial success rates if they were known (closed form). Bottom
middle and right: how many times fewer rollouts it needs, against the measured ratio, with bootstrap
intervals. A point is a setting; circled: coins in the pool, whose groups are mixed and teach nothing;
settings in which the speed-up is only a bound are not shown. Solid: saving = ratio, as theory says of
plain ascent; dashed: its square root, the most that theory grants an optimiser that divides by the
gradient's size. Numbers: exponent of the ratio over all settings without coins."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Differences to uniform by factor, and every cell's saving beside what theory offers.

    Returns
    -------
    dict
        ``rollouts``, ``seeds``, ``default`` (its settings). Per optimiser and factor: ``label_C``,
        ``default`` (where among them, -1: not there) and per arm an array of shape (C, 3), mean, low and
        high of the difference to uniform at the end. Per optimiser ``cells``, see
        :func:`figures.mixed_groups.cells_of`.
    """
    by_name = labelled(map(read, folders), lambda c: c.folder.name, "boundary")
    swept: dict[str, dict[str, list[Comparison]]] = {}
    for name, comparison in by_name.items():
        _, optimiser, factor = name.split("-")[:3]
        swept.setdefault(optimiser, {}).setdefault(factor, []).append(comparison)
    arrays: dict[str, Any] = {}
    for optimiser, by_factor in swept.items():
        if DEFAULT not in by_factor:
            fail("boundary", "folders", f"with boundary-{optimiser}-{DEFAULT}", sorted(by_name))
        default = by_factor.pop(DEFAULT)[0]
        arrays.setdefault("rollouts", default.config["rollouts"])
        arrays.setdefault("seeds", default.seeds)
        arrays.setdefault("default", _description(default.config))
        long = by_factor.pop(LONG, [])
        panels = {factor: _sweep(factor, default, cells) for factor, cells in by_factor.items()}
        for cell in long:
            panels[LONG] = _budgets(default.config["rollouts"], cell)
        arrays[optimiser] = {factor: panels[factor] for factor in FACTORS if factor in panels}
        everything = [default, *(cell for cells in by_factor.values() for cell in cells)]
        arrays[optimiser]["cells"] = cells_of(everything)
    return arrays


def _description(config: dict[str, Any]) -> dict[str, Any]:
    """What the caption says of the default."""
    dead = value_of("dead", config, config)
    return {"dead": dead, **{key: config[key] for key in ("pool", "batch_size", "group_size")}}


def value_of(factor: str, config: dict[str, Any], default: dict[str, Any]) -> Any:
    """What a cell has for a factor, as the axis says it."""
    law = config["empirical"]
    dead = law["never"] + law["always"]
    values: dict[str, Any] = {
        "dead": round(dead, 6),
        "coin": round(law["coin"] / (1.0 - dead), 6),
        "transfer": law["transfer"],
        "rate": config["learning_rate"] / default["learning_rate"],
    }
    return values.get(factor, config.get(factor))


def _sweep(factor: str, default: Comparison, cells: list[Comparison]) -> dict[str, Any]:
    """A panel: the default among its cells, unless they have another policy."""
    shown = cells if factor == "transfer" else [default, *cells]
    values = [value_of(factor, cell.config, default.config) for cell in shown]
    order = list(range(len(shown)))
    if factor not in NAMED:
        order.sort(key=lambda c: values[c])
    labels = [SHORT_ESTIMATORS.get(v, v) if factor in NAMED else f"{v:g}" for v in values]
    panel: dict[str, Any] = {
        "label_C": [labels[c] for c in order],
        "default": -1 if factor == "transfer" else order.index(0),
    }
    for arm in default.arms[1:]:
        ends = [[shown[c].curve(name)[1][:, -1] for name in (arm, REFERENCE)] for c in order]
        panel[arm] = np.array([difference(ours, its) for ours, its in ends])
    return panel


def _budgets(rollouts: int, long: Comparison) -> dict[str, Any]:
    """A panel: one long run, read off at a quarter of the default's rollouts, at half, and so on."""
    total_C = [rollouts / 4]
    while 2 * total_C[-1] <= long.config["rollouts"]:
        total_C.append(2 * total_C[-1])
    read_off = {}
    for arm in long.arms:
        grid_E, curve_S_E = long.curve(arm)
        # a curve is a step function: the last point that is not past the total
        values = [on_grid(grid_E[1:], c[1:], total_C, start=float(c[0])) for c in curve_S_E]
        read_off[arm] = np.array(values).T
    panel: dict[str, Any] = {
        "label_C": [f"{total / 1000:.0f}" for total in total_C],
        "default": total_C.index(rollouts),
    }
    for arm in long.arms[1:]:
        pairs = zip(read_off[arm], read_off[REFERENCE], strict=True)
        panel[arm] = np.array([difference(ours, its) for ours, its in pairs])
    return panel


def _optimisers(arrays: dict[str, Any]) -> list[str]:
    return [key for key in arrays if key in OPTIMISERS]


def _factors(panels: dict[str, Any]) -> list[str]:
    return [factor for factor in FACTORS if factor in panels]


def _arms(cells: dict[str, Any]) -> list[str]:
    return [key for key, value in cells.items() if isinstance(value, dict)]


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """Rows of panels per optimiser; below, what explains them."""
    optimisers = _optimisers(arrays)
    rows = [(len(_factors(arrays[o])) + COLUMNS - 1) // COLUMNS for o in optimisers]
    heights = [*(ROW_HEIGHT * count for count in rows), EXPLAINED_HEIGHT]
    figure = page_figure(0.3 + sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    panels: list[Axes] = []
    titles: list[str] = []
    for part, optimiser, count in zip(parts, optimisers, rows, strict=False):
        grid = part.subplots(count, COLUMNS, sharey=True, squeeze=False)
        factors = _factors(arrays[optimiser])
        for axes, factor in zip(grid.flat, factors, strict=False):
            _draw_factor(axes, arrays[optimiser][factor], is_scale=factor not in NAMED)
            panels.append(axes)
            titles.append(f"{OPTIMISERS[optimiser]}: {FACTORS[factor]}")
        for axes in grid.flat[len(factors) :]:
            axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel("minus uniform's")
    explained = parts[-1].subplots(1, 1 + len(optimisers))
    _draw_promise(explained[0], arrays)
    for axes, optimiser in zip(explained[1:], optimisers, strict=True):
        _draw_saving(axes, arrays[optimiser]["cells"])
    ends = np.array([axes.get_ylim() for axes in explained[1:]])
    for axes in explained[1:]:
        axes.set_ylim(ends.min(), ends.max())  # alike: the optimisers are to be compared
    explained[1].set_ylabel("times fewer rollouts")
    panels += list(explained)
    titles += ["what arms had of R", *(f"{OPTIMISERS[o]}: what that saved" for o in optimisers)]
    letters(panels, titles)
    shared_legend(figure, panels[0])
    return figure


def _draw_factor(axes: Axes, panel: dict[str, Any], *, is_scale: bool) -> None:
    arms = [arm for arm in panel if arm not in ("label_C", "default")]
    place_C = np.arange(len(panel["label_C"]), dtype=np.float64)
    for shift, (arm, style) in zip((-0.12, 0.0, 0.12), told_dashed(arms).items(), strict=True):
        mean_C, low_C, high_C = np.asarray(panel[arm]).T
        look = line(style) if is_scale else line(style) | {"linestyle": ""}
        axes.plot(place_C + shift, mean_C, label=method_name(arm), **look)
        axes.vlines(place_C + shift, low_C, high_C, color=style.colour, lw=0.9)
    if panel["default"] >= 0:
        axes.axvspan(panel["default"] - 0.4, panel["default"] + 0.4, color="0.93", zorder=-1)
    axes.axhline(0.0, color="black", lw=0.7, zorder=0)
    axes.set_xticks(place_C, panel["label_C"])
    axes.set_xlim(-0.5, place_C.size - 0.5)
    light_grid(axes)
    axes.grid(axis="x", visible=False)


def _draw_promise(axes: Axes, arrays: dict[str, Any]) -> None:
    for optimiser in _optimisers(arrays):
        cells = arrays[optimiser]["cells"]
        for arm, style in told_dashed(_arms(cells)).items():
            axes.plot(cells["predicted_C"], cells[arm]["measured_C"], **_points(style))
    _in_logarithms(axes)
    axes.set_xlabel("predicted ratio of mixed groups, R")
    axes.set_ylabel("measured ratio")


def _draw_saving(axes: Axes, cells: dict[str, Any]) -> None:
    coins_C = np.asarray(cells["coins_C"], dtype=bool)
    ring: dict[str, Any] = {"ls": "", "marker": "o", "ms": 7.0, "mfc": "none", "mec": "0.4"}
    words = []
    for arm, style in told_dashed(_arms(cells)).items():
        values = {key: np.asarray(value) for key, value in cells[arm].items()}
        x_C, y_C = values["measured_C"], values["speed_up_C"]
        is_shown_C = np.isfinite(y_C)
        bars = [values[key][is_shown_C] for key in ("low_C", "high_C")]
        axes.vlines(x_C[is_shown_C], *bars, color=style.colour, lw=0.6, alpha=0.6)
        axes.plot(x_C, y_C, **_points(style))
        axes.plot(x_C[coins_C], y_C[coins_C], mew=0.6, **ring)
        if np.isfinite(values["saved"]).all():
            words.append(f"{method_name(arm)} {_exponent(values['saved'])}")
    ends = _in_logarithms(axes)
    axes.plot(ends, np.sqrt(ends), color="black", lw=0.7, ls="--", zorder=0)
    axes.set_xlabel("measured ratio")
    text = "\n".join(words)
    axes.text(0.98, 0.03, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=6.5)


def _points(style: ArmStyle) -> dict[str, Any]:
    return line(style) | {"linestyle": "", "markersize": 3.0, "markerfacecolor": style.colour}


def _in_logarithms(axes: Axes) -> FloatArray:
    """Both axes, with the diagonal, whose ends are returned, and numbers as people write them."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = np.array([1.0, axes.get_xlim()[1]])
    axes.plot(ends, ends, color="black", lw=0.7, zorder=0)
    axes.axhline(1.0, color="0.7", lw=0.7, zorder=0)
    light_grid(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    return ends


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    names = [OPTIMISERS[optimiser] for optimiser in _optimisers(arrays)]
    return CAPTION.format(
        rollouts=arrays["rollouts"],
        seeds=arrays["seeds"],
        optimisers=" above ".join(names),
        **arrays["default"],
    )


def finding(arrays: dict[str, Any]) -> str:
    """The predicted exponents beside the measured ones; then where the arms end beside uniform."""
    parts = [
        "Theory: R times the mixed groups save R^1 under plain ascent, R^0 to R^(1/2) under Adam."
    ]
    for optimiser in _optimisers(arrays):
        panels = arrays[optimiser]
        arms = _arms(panels["cells"])
        known = [arm for arm in arms if np.isfinite(panels["cells"][arm]["saved"]).all()]
        if known:
            saved = [
                f"{method_name(arm)} {against_theory(panels['cells'][arm]['saved'], optimiser)}"
                for arm in known
            ]
            had = [f"{method_name(arm)} {panels['cells'][arm]['had'][0]:.2f}" for arm in known]
            parts.append(
                f"{OPTIMISERS[optimiser]}: exponents of the measured ratio in the saving "
                f"{', '.join(saved)}; of R in the measured ratio {', '.join(had)}."
            )
        parts += [_where(panels, arm) for arm in arms]
        parts.append(_by_factor(panels, arms[0]))
    return " ".join(parts)


def _exponent(values: FloatArray) -> str:
    mean, low, high = values
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def against_theory(values: FloatArray, optimiser: str) -> str:
    """An exponent with its interval, and whether that meets the predicted range.

    Examples
    --------
    >>> against_theory(np.array([0.9, 0.8, 1.1]), "sgd")
    '0.90 [0.80, 1.10] (as predicted)'
    >>> against_theory(np.array([0.6, 0.55, 0.65]), "adam")
    '0.60 [0.55, 0.65] (above)'
    """
    _, low, high = values
    start, end = EXPONENT[optimiser]
    verdict = "below" if high < start else "above" if low > end else "as predicted"
    return f"{_exponent(values)} ({verdict})"


def _where(panels: dict[str, Any], arm: str) -> str:
    """In how many settings an arm ends above or below uniform, and the two ends of the range."""
    rows: dict[str, FloatArray] = {}
    for factor in _factors(panels):
        for place, label in enumerate(panels[factor]["label_C"]):
            name = f"{FACTORS[factor]} {label}"
            is_default = place == panels[factor]["default"]
            rows["the default" if is_default else name] = panels[factor][arm][place]
    above = sum(bool(values[1] > 0.0) for values in rows.values())
    below = sum(bool(values[2] < 0.0) for values in rows.values())
    least, most = (pick(rows, key=lambda name: rows[name][0]) for pick in (min, max))
    return (
        f"{sentence(method_name(arm))} ends above uniform (interval above 0) in {above} of {len(rows)} "
        f"settings, below in {below}: {in_words(rows[least])} ({least}) to {in_words(rows[most])} "
        f"({most})."
    )


def _by_factor(panels: dict[str, Any], arm: str) -> str:
    """Means of one arm along every factor."""
    parts = []
    for factor in _factors(panels):
        pairs = zip(panels[factor]["label_C"], panels[factor][arm], strict=True)
        means = ", ".join(f"{values[0]:+.3f} ({label})" for label, values in pairs)
        parts.append(f"{FACTORS[factor]} {means}")
    return f"{sentence(method_name(arm))} by factor: {'; '.join(parts)}."
