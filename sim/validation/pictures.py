"""Figures of a validation, one per family, drawn from the arrays in its run folder.

Points are measured on the simulator, lines are the theory's formulas. What a figure shows is written
under it and in ``figures.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from cures.storage import write_json
from sim.picture import BLUE, GREEN, ORANGE, PINK, VERMILION, new_figure, save
from sim.validation.run import arrays_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULES = {"eq20": "Eq. (20)", "uniform": "equal", "gvm": "GVM", "random": "random"}


def draw_figures(root: Path, families: Sequence[str]) -> dict[str, str]:
    """Draw the figures of these families.

    Parameters
    ----------
    root : Path
        Run folder in which their checks are finished.
    families : sequence of str

    Returns
    -------
    dict of str to str
        File name -> what the figure shows; also in ``figures.json``.
    """
    shows = {}
    for family in families:
        draw, caption = FIGURES[family]
        figure = draw(root)
        letters = int(14.5 * figure.get_figwidth())  # of size 8 in a line
        figure.supxlabel(fill(caption, letters), fontsize=8, x=0.01, ha="left")
        shows[save(figure, root / f"{family}.png").name] = caption
    write_json(root / "figures.json", shows)
    return shows


def _panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    figure = new_figure(width, height)
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.ravel():
        one.grid(alpha=0.2)
        one.tick_params(labelsize=8)
    return figure, axes


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)


def _legend(axes: Axes, **more: Any) -> None:
    axes.legend(frameon=False, fontsize=7, **more)


# -- bound -----------------------------------------------------------------------------------------


def _bound(root: Path) -> Figure:
    figure, axes = _panels(1, 3, 12.0, 4.4)
    small, large = (arrays_of(root, "bound", name) for name in ("leading", "optimum"))
    rate_P, radius_R = small["rate_P"], small["radius_R"]
    for i, colour in ((radius_R.size - 1, VERMILION), (radius_R.size - 3, ORANGE), (0, BLUE)):
        label = rf"$\delta$ = {radius_R[i]:.0e}"
        axes[0, 0].plot(rate_P, small["next_order_P_R"][:, i], color=colour, lw=1.2, label=label)
        axes[0, 0].plot(rate_P, small["table_P_R"][:, i], "o", ms=3.5, color=colour)
        axes[0, 0].plot(rate_P, small["chain_P_R"][:, i], "x", ms=4, color=colour)
    axes[0, 0].plot([], [], "ko", ms=3.5, label="table")
    axes[0, 0].plot([], [], "kx", ms=4, label="chains of skills")
    _legend(axes[0, 0])
    _name(axes[0, 0], "One step over Eq. (11)", "success rate p", "gain over the bound")
    gap = {"table": small["table_P_R"] - 1.0, "chains": small["chain_P_R"] - 1.0,
           "table, less\nnext order": small["table_P_R"] - small["next_order_P_R"]}  # fmt: skip
    looks = (("o-", BLUE), ("x--", ORANGE), ("s:", GREEN))
    for (label, rest_P_R), style in zip(gap.items(), looks, strict=True):
        size_R = np.sqrt(np.mean(rest_P_R**2, axis=0))
        power = np.polyfit(np.log(radius_R), np.log(size_R), 1)[0]
        axes[0, 1].loglog(
            radius_R, size_R, style[0], color=style[1], ms=4, label=f"{label}: power {power:.3f}"
        )
    _legend(axes[0, 1])
    _name(axes[0, 1], "How fast it gets there", r"radius $\delta$", "distance, r.m.s. over p")
    for i, colour in ((1, BLUE), (2, ORANGE), (4, VERMILION)):
        label = rf"$\delta$ = {large['radius_R'][i]:g}"
        axes[0, 2].plot(rate_P, large["exact_P_R"][:, i], color=colour, lw=1.2, label=label)
        axes[0, 2].plot(rate_P, large["stated_P_R"][:, i], "--", color=colour, lw=1.0)
        axes[0, 2].plot(rate_P, large["table_P_R"][:, i], "o", ms=3.5, color=colour)
        axes[0, 2].plot(rate_P, large["chain_P_R"][:, i], "x", ms=4, color=colour)
    axes[0, 2].plot([], [], "k--", lw=1.0, label="Eq. (11)")
    _legend(axes[0, 2])
    _name(axes[0, 2], r"Step stretched to a divergence of $\delta$", "success rate p", "gain")
    return figure


# -- dataset ---------------------------------------------------------------------------------------


def _dataset(root: Path) -> Figure:
    figure, axes = _panels(1, 2, 9.0, 4.4)
    small = arrays_of(root, "dataset", "leading")
    kinds = {"corrected_P_R": ("average region, over the corrected bound", BLUE, "o"),
             "own_P_R": ("own regions, over Eq. (12)", GREEN, "s"),
             "stated_P_R": ("average region, over Eq. (12)", VERMILION, "x")}  # fmt: skip
    for key, (label, colour, marker) in kinds.items():
        for i, ratio_R in enumerate(small[key]):
            axes[0, 0].semilogx(small["radius_R"], ratio_R, marker=marker, color=colour, ms=3.5,
                                lw=0.8, label=label if i == 0 else None)  # fmt: skip
    axes[0, 0].axhline(1.0, color="black", lw=0.8)
    top = 1.0 + 1.35 * (small["stated_P_R"].max() - 1.0)
    axes[0, 0].set_ylim(None, top)
    _legend(axes[0, 0], loc="upper left")
    _name(axes[0, 0], "Six pools, small radii", r"radius $\delta$", "gain over a bound")
    large = arrays_of(root, "dataset", "never-above")
    lines = {"table, stretched step": (large["gain_R"] / large["best_R"], "o-", BLUE),
             "chains, stretched step": (large["chain_R"] / large["chain_best_R"], "x-", PINK),
             "corrected bound, table": (large["corrected_R"] / large["best_R"], ":", "black"),
             "Eq. (12), table": (large["stated_R"] / large["best_R"], "--", VERMILION)}  # fmt: skip
    for label, (ratio_R, style, colour) in lines.items():
        axes[0, 1].semilogx(large["radius_R"], ratio_R, style, color=colour, ms=4, label=label)
    axes[0, 1].axhline(1.0, color="black", lw=0.8)
    _legend(axes[0, 1])
    _name(axes[0, 1], "One pool each, any radius", r"radius $\delta$", "over the exact optimum")
    return figure


# -- sampling --------------------------------------------------------------------------------------


def _sampling(root: Path) -> Figure:
    figure, axes = _panels(1, 3, 12.0, 4.2)
    first = axes[0, 0]
    for name, marker, colour in (("replacement", "o", BLUE), ("oracle", "x", ORANGE)):
        found = arrays_of(root, "sampling", name)
        order_N = np.argsort(found["rate_N"])
        total = found["expected_N"].sum()
        label = {"replacement": "cures.draw_with_replacement", "oracle": "oracle's plans"}[name]
        share_N = found["count_N"][order_N] / total
        error_N = 4.0 * np.sqrt(found["expected_N"][order_N]) / total
        first.errorbar(found["rate_N"][order_N], share_N, error_N, fmt=marker, ms=4, lw=0.8,
                       color=colour, label=label)  # fmt: skip
        if "control_N" in found:
            first.plot(found["rate_N"][order_N], found["expected_N"][order_N] / total, "k-", lw=1,
                       label="Eq. (14)", zorder=0)  # fmt: skip
            first.plot(found["rate_N"][order_N], found["control_N"][order_N] / total, "--",
                       color=VERMILION, lw=1, label="1.5 times as warm", zorder=0)  # fmt: skip
    first.set_ylim(0.0, None)
    _legend(first)
    _name(first, "Drawn with replacement", "success rate p", "share of the draws (4 s.e.)")
    plans = arrays_of(root, "sampling", "cures")
    place_B = (np.arange(plans["count_B"].size) + 0.5) / plans["count_B"].size
    even = plans["expected_B"][0]
    axes[0, 1].axhspan(1 - 4 / even**0.5, 1 + 4 / even**0.5, color="grey", alpha=0.15, lw=0,
                       label="4 s.e.")  # fmt: skip
    axes[0, 1].plot(place_B, plans["count_B"] / even, "o", color=BLUE, ms=4, label="Eq. (14)")
    axes[0, 1].plot(place_B, plans["control_B"] / even, "x--", color=VERMILION, ms=4, lw=0.8,
                    label="1.5 times as warm")  # fmt: skip
    _legend(axes[0, 1])
    _name(axes[0, 1], "Plans of the cures scheduler", "place in the cumulative shares",
          "draws over expected")  # fmt: skip
    batch = arrays_of(root, "sampling", "no-replacement")
    order_N = np.argsort(batch["rate_N"])
    rate_N = batch["rate_N"][order_N]
    axes[0, 2].plot(rate_N, batch["expected_N"][order_N], "k-", lw=1, label="min(1, c share)")
    axes[0, 2].plot(rate_N, batch["uncapped_N"][order_N], "--", color=VERMILION, lw=1,
                    label="batch size x share")  # fmt: skip
    axes[0, 2].plot(rate_N, batch["measured_N"][order_N], "o", color=BLUE, ms=4, label="measured")
    _legend(axes[0, 2])
    _name(axes[0, 2], "Without replacement, batches of 16", "success rate p",
          "share of batches with the prompt")  # fmt: skip
    return figure


# -- gradient_std ----------------------------------------------------------------------------------


def _gradient_std(root: Path) -> Figure:
    figure, axes = _panels(2, 3, 12.0, 7.4)
    flat = axes.ravel()
    found = arrays_of(root, "gradient_std", "tables")
    _curve(flat[0], found["rate_P"], found, "", BLUE, "Eq. (21), this policy")
    flat[0].errorbar([], [], [], fmt="o", ms=3.5, color=BLUE, label="measured (4 s.e.)")
    _bell(flat[0], found["rate_P"], found["expected_P"])
    _name(flat[0], "Table of 5 unequal answers", "success rate p", r"$\sigma^2$")
    found = arrays_of(root, "gradient_std", "chains")
    for steps, colour in ((2, VERMILION), (4, ORANGE), (8, BLUE)):
        _curve(flat[1], found[f"{steps}_rate_P"], found, f"{steps}_", colour, f"{steps} skills")
    _bell(flat[1], found["8_rate_P"], found["8_expected_P"])
    _name(flat[1], "Chains of skills", "success rate p", r"$\sigma^2$")
    found = arrays_of(root, "gradient_std", "few-answers")
    for key, colour in (("1_1", VERMILION), ("2_2", ORANGE), ("3_3", GREEN), ("1_30", BLUE)):
        label = key.replace("_", " right, ") + " wrong"
        _curve(flat[2], found["rate_P"], found, f"{key}_", colour, label)
    _name(flat[2], "Tables, answers of a kind alike", "success rate p", r"$\sigma^2$")
    found = arrays_of(root, "gradient_std", "two-answers")
    _curve(flat[3], found["rate_P"], found, "", VERMILION, "two answers: 0 at p = 1/2")
    _bell(flat[3], found["rate_P"], found["expected_P"])
    _name(flat[3], "Table of 2 answers", "success rate p", r"$\sigma^2$")
    found = arrays_of(root, "gradient_std", "norm-ratio")
    for key, colour in (("1", BLUE), ("2", GREEN), ("2.2", VERMILION)):
        _curve(flat[4], found[f"{key}_rate_P"], found, f"{key}_", colour, rf"$D^2 = {key}\,G^2$")
    _name(flat[4], r"Norms and distance constant in p", "success rate p", r"$\sigma^2 / G^2$")
    found = arrays_of(root, "gradient_std", "fillers")
    for tokens, colour in ((0, VERMILION), (1, ORANGE), (4, GREEN), (8, BLUE)):
        top = found[f"{tokens}_expected_P"].max()
        scaled = {k: found[f"{tokens}_{k}"] / top for k in ("expected_P", "measured_P", "error_P")}
        _curve(flat[5], found["rate_P"], scaled, "", colour, f"{tokens} fillers")
    _name(flat[5], "One deciding token and fillers", "success rate p", r"$\sigma^2$, largest = 1")
    for one in flat:
        one.set_ylim(0.0, 1.3 * one.dataLim.y1)
        _legend(one, loc="upper center", ncols=2)
    return figure


def _bell(axes: Axes, rate_P: Any, shape_P: Any) -> None:
    """p (1 - p), as high as another curve."""
    bell_P = rate_P * (1.0 - rate_P)
    axes.plot(rate_P, bell_P / bell_P.max() * shape_P.max(), "k--", lw=1, label="the bell p(1-p)")


def _curve(axes: Axes, rate_P: Any, found: Any, prefix: str, colour: str, label: str) -> None:
    """The formula as a line, the measurements as points with four standard errors."""
    axes.plot(rate_P, found[f"{prefix}expected_P"], color=colour, lw=1.2, label=label)
    axes.errorbar(rate_P, found[f"{prefix}measured_P"], 4.0 * found[f"{prefix}error_P"], fmt="o",
                  ms=3.0, lw=0.8, color=colour)  # fmt: skip


# -- estimator_variance ----------------------------------------------------------------------------


def _estimator_variance(root: Path) -> Figure:
    figure, axes = _panels(1, 3, 12.0, 4.4)
    for panel, kind in enumerate(("table", "chain")):
        place = np.arange(len(RULES))
        found = [arrays_of(root, "estimator_variance", f"{kind}-{rule}") for rule in RULES]
        least = float(found[0]["minimum"][0])
        mean, error, right, between = (
            np.array([float(f[key][0]) for f in found]) / least
            for key in ("mean", "error", "expected", "between")
        )
        one = axes[0, panel]
        one.bar(place, right, 0.6, color="#BBD7EA", label=r"predicted: $\Sigma\sigma^2/(m^2 n)$")
        one.errorbar(place, mean, 4.0 * error, fmt="o", ms=4, color=BLUE, label="measured (4 s.e.)")
        one.axhline(1.0, color="black", lw=1, ls="--", label=r"$(\Sigma\sigma)^2/(m^2 N)$")
        one.axhline(
            between[0], color=VERMILION, lw=1, ls=":", label="between prompts, if drawn evenly"
        )
        one.set_xticks(place, list(RULES.values()))
        _legend(one, loc="upper left")
        one.set_ylim(0.0, 1.45 * max(right.max(), mean.max(), between[0]))
        title = {"table": "Tables, given prompts", "chain": "Chains, given prompts"}[kind]
        _name(one, title, "quotas", "variance, minimum = 1")
    last, place = axes[0, 2], np.arange(3)
    for shift, rule, colour in ((-0.2, "eq20", BLUE), (0.2, "uniform", "black")):
        parts = arrays_of(root, "estimator_variance", f"drawn-{rule}")
        last.bar(place + shift, parts["expected_3"], 0.36, color=colour, alpha=0.25,
                 label=f"predicted, {RULES[rule]}")  # fmt: skip
        last.errorbar(place + shift, parts["mean_3"], 4.0 * parts["error_3"], fmt="o", ms=4,
                      color=colour, label="measured")  # fmt: skip
    last.set_ylim(0.0, 1.35 * last.dataLim.y1)
    last.set_xticks(place, ["in all", "within\nprompts", "between\nprompts"])
    _legend(last)
    _name(last, "Tables, 16 drawn prompts, 16 rollouts each", "", "variance")
    return figure


FIGURES: dict[str, tuple[Callable[[Path], Figure], str]] = {
    "bound": (
        _bound,
        "Left: gain of one natural-gradient step over Eq. (11); points are measured, lines are "
        "claim 1.7. For p < 1/2 the step gains more than the bound. Middle: the ratio tends to 1 with "
        "the root of delta, and what the next order leaves with delta. Right: at finite delta the "
        "table reaches the exact optimum (solid), which is above Eq. (11) (dashed) at small p.",
    ),
    "dataset": (
        _dataset,
        "Left: with one trust region on average, as Eq. (1) has it, the gain tends to the corrected "
        "bound and exceeds Eq. (12); Eq. (12) is reached if every prompt has a region of its own. "
        "Right: no step passes the exact optimum; that of a table starts at it and falls behind at "
        "large radii, that of chains with shared skills is below from the start. Eq. (12) is exceeded.",
    ),
    "sampling": (
        _sampling,
        "Left: shares of drawn prompts against the softmax of Eq. (14). Middle: draws of the cures "
        "scheduler, laid out by the softmax of its posterior means: even iff the shares are right. "
        "Right: batches without repetition; likely prompts are in every batch.",
    ),
    "gradient_std": (
        _gradient_std,
        "Variance of one rollout's gradient; lines: Eq. (21) and its special cases (claims 5.1, 5.3, "
        "5.5 to 5.7). It is a bell for tables of 3 + 3 like answers, for D^2 <= 2 G^2 and where many "
        "tokens do not matter. It is none for chains of skills and for few or unequal answers; with two "
        "answers it vanishes at p = 1/2. Dashed: p(1-p), as high as the curve.",
    ),
    "estimator_variance": (
        _estimator_variance,
        "Variance of the estimate (16) over simulated updates. Left and middle: given the prompts, only "
        "Eq. (20) reaches the minimum. Right: with drawn prompts; quotas change the part within "
        "prompts and not the part between them.",
    ),
}
