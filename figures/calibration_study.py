"""``python -m figures calibration``: does the calibrated simulator predict the real run?

Pilots and one log of the tiny language model go into ``python -m sim calibrate``. On the population
that comes out every arm is simulated, then trained. Compared are the share of wasted rollouts, the
calibration of a posterior and the ranking of the arms. The page says what came out, whatever it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cures.storage import atomic_write, read_json
from figures.calibration_predictions import COVER, MEASURES, Prediction, ranking, read_predictions
from figures.calibration_runs import (
    CONTROL,
    FULL,
    QUICK,
    SIMULATED,
    Size,
    calibrate_command,
    compare_command,
    make_runs,
)
from figures.provenance import EXACT, provenance
from figures.results import stamp
from sim.picture import DASHES, SPARES, arm_styles, new_figure, save

PREDICTORS = {"calibrated": "simulated_A_S", "simulator as it comes": "control_A_S"}
PAGE, PICTURE = Path("docs/results/calibration.md"), Path("docs/figures/calibration.png")


def runs_folder(*, quick: bool) -> Path:
    """Where the runs go unless told otherwise."""
    return Path("runs") / ("calibration-quick" if quick else "calibration")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the command's parser."""
    cpu_minutes = {size: _cpu_minutes(size) for size in (QUICK, FULL)}
    parser.description = (
        f"Calibrates on pilots and one log of the tiny language model, simulates {len(FULL.labels)} "
        f"scheduler settings, trains them ({FULL.seeds} seeds, {FULL.rollouts:,} rollouts each: "
        f"about {cpu_minutes[FULL]} minutes of one CPU core) and writes the page. An interrupted "
        "command goes on where it stopped."
    )
    parser.add_argument(
        "--runs",
        type=Path,
        help="folder of the runs "
        f"({runs_folder(quick=False)}; {runs_folder(quick=True)} with --quick)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{len(QUICK.labels)} settings, {QUICK.seeds} seeds, {QUICK.rollouts:,} rollouts: about "
        f"{cpu_minutes[QUICK]} minutes",
    )
    parser.add_argument("--page", type=Path, default=PAGE, help=f"page to write ({PAGE})")
    parser.add_argument(
        "--picture", type=Path, default=PICTURE, help=f"picture to draw ({PICTURE})"
    )


def _cpu_minutes(size: Size) -> int:
    """From a minute of one core for 60 000 rollouts (configs/tiny_cpu.toml)."""
    return round(size.rollouts * (len(size.labels) * size.seeds + 1) / 60_000) + 2


def measure(root: Path, page: Path, picture: Path, command: str, *, quick: bool) -> None:
    """Make (or go on with) the runs, then write the page, made by ``command``, and its picture."""
    size = QUICK if quick else FULL
    made_at = stamp(root)
    make_runs(root, size)
    predictions = read_predictions(root, size)
    save(draw(size.labels, predictions), picture)
    calibration = read_json(root / "calibration" / "calibration.json")
    origin = provenance(command, made_at=made_at, speed=EXACT) + "\n"
    text = write_page(size, predictions, calibration, origin, root)
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(page, text.encode())


def draw(labels: tuple[str, ...], predictions: dict[str, Prediction]) -> Figure:
    """Measured against predicted; on the diagonal the simulator is right."""
    figure = new_figure(7.6, 3.5)
    axes = figure.subplots(1, 2)
    styles = arm_styles(labels)
    for one, key in zip(axes, ("unused", "final"), strict=True):
        prediction = predictions[key]
        for label, simulated, real in zip(
            labels, prediction.simulated_A_S, prediction.real_A_S, strict=True
        ):
            style = styles[label]
            hollow = style.line()["markerfacecolor"]
            # points have no dashes: a third arm of a scheduler needs a marker of its own
            spare = max(DASHES.index(style.dash) - 1, 0)
            marker = SPARES[spare - 1] if spare else style.marker
            one.errorbar(
                simulated.mean(), real.mean(), xerr=simulated.std(), yerr=np.ptp(real) / 2,
                fmt=marker, color=style.colour, mfc=hollow, ms=6, lw=0.8, label=label,
            )  # fmt: skip
        low, high = one.dataLim.min.min(), one.dataLim.max.max()
        edge = 0.05 * (high - low)
        one.plot([low - edge, high + edge], [low - edge, high + edge], color="grey", lw=0.8, ls=":")
        one.set(
            xlabel="simulated", ylabel="measured", title=MEASURES[key],
            xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), aspect="equal",
        )  # fmt: skip
        one.title.set_fontsize(10)
        one.grid(alpha=0.25)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, loc="outside right center", fontsize=8)
    return figure


def write_page(
    size: Size,
    predictions: dict[str, Prediction],
    calibration: dict[str, Any],
    origin: str,
    root: Path,
) -> str:
    """The page: what was run, the tables, the verdict."""
    parts = [
        "# Does the calibrated simulator predict the real run?\n",
        f"One warm start of the tiny language model, {len(size.labels)} scheduler settings, "
        f"{size.rollouts:,} generated rollouts a run, {size.seeds} real and {size.simulated_seeds} "
        "simulated seeds. The population comes from pilots of that warm start and the log of one "
        "further run of uniform; the simulation knows nothing of the runs it is held against. Real "
        "held-out success is sampled; between real seeds only sampling differs, not the warm start.\n",
        "![measured against simulated](../figures/calibration.png)\n",
        "Bars: one standard deviation of simulated seeds, half the range of real ones.\n",
        origin,
        _commands(root, size),
        "## What was calibrated\n",
        _calibration_table(calibration),
        "## Predicted and measured\n",
        _prediction_table(size.labels, predictions),
        "Simulated / measured, means over seeds. Log-loss and coverage are those of Beta(1, 1) counts "
        "of a prompt's earlier rollouts, the same rule everywhere; a dash: no prompt was met twice. "
        "Wasted: with advantage 0, which speed and dapo avoid by their rule; unused: these, pilots, and "
        "what was dropped. "
        f"The nominal coverage is {COVER:.0%}.\n",
        "## Ranking\n",
        _ranking_table(predictions),
        "Kendall's tau between the arms' means [95 % interval]; 1: same order, 0: none, -1: reversed. "
        "Interval: arm means redrawn with the standard error pooled over arms. The simulator as it "
        f"comes runs its default population ({CONTROL[1]}) at its default learning rate.\n",
        _when_it_learns(size.labels[0], predictions["early"]),
    ]
    return "\n".join(parts)


def _when_it_learns(label: str, early: Prediction) -> str:
    """What a learning rate that is matched to the whole gain leaves open; the first arm's numbers."""
    simulated, real = early.simulated_A_S[0].mean(), early.real_A_S[0].mean()
    return (
        f"A constant learning rate is matched to the whole gain of the log, not to its course: in the "
        f"first half of the rollouts {label} makes {simulated:.2f} of its gain in the simulator and "
        f"{real:.2f} in reality. Where the two differ, so does what an arm loses by fewer updates.\n"
    )


def _commands(root: Path, size: Size) -> str:
    lines = [
        "python -m sim " + " ".join(command)
        for command in (
            calibrate_command(root),
            compare_command(root / SIMULATED, f"{root}/calibration/population.json", size),
            compare_command(root / CONTROL[0], CONTROL[1], size),
        )
    ]
    return "```sh\n" + "\n".join(lines) + "\n```\n"


def _calibration_table(calibration: dict[str, Any]) -> str:
    lines = [
        f"{calibration['pilots']['prompts']:,} prompts, {calibration['pilots']['rollouts']:,} pilots.\n",
        "| quantity | simulated | all populations that fit | bootstrap |",
        "|---|---|---|---|",
    ]
    for row in calibration["quantities"].values():
        ends = [f"[{low:.3f}, {high:.3f}]" for low, high in (row["compatible"], row["bootstrap"])]
        lines.append(f"| {row['meaning']} | {row['simulated']:.3f} | {ends[0]} | {ends[1]} |")
    dynamics, population = calibration["dynamics"], calibration["population"]
    if dynamics is None:
        return "\n".join([*lines, "", f"No dynamics: {calibration['why_no_dynamics']}.", ""])
    lines += ["", "| from the log | estimate | in the population |", "|---|---|---|"]
    for key in ("drift_sd", "transfer", "reach"):
        row = dynamics[key]
        text = (
            "not told"
            if row is None
            else f"{row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
        )
        used = population.get(key)
        shown = "" if key == "reach" else "default of the policy" if used is None else f"{used:.3g}"
        lines.append(f"| {key} | {text} | {shown} |")
    rate = population["learning_rate"]
    lines.append(f"| learning rate | matched | {'none' if rate is None else f'{rate:.3g}'} |")
    return "\n".join([*lines, ""])


def _prediction_table(labels: tuple[str, ...], predictions: dict[str, Prediction]) -> str:
    lines = [
        "| arm | " + " | ".join(MEASURES.values()) + " |",
        "|---|" + "---|" * len(MEASURES),
    ]
    for arm, label in enumerate(labels):
        cells = []
        for prediction in predictions.values():
            ends = prediction.simulated_A_S[arm].mean(), prediction.real_A_S[arm].mean()
            cells.append(" / ".join("–" if np.isnan(end) else f"{end:.3f}" for end in ends))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    for name, column in PREDICTORS.items():
        errors = [
            f"{np.nanmean(np.abs(getattr(p, column).mean(axis=1) - p.real_A_S.mean(axis=1))):.3f}"
            for p in predictions.values()
        ]
        lines.append(f"| mean absolute error, {name} | " + " | ".join(errors) + " |")
    return "\n".join([*lines, ""])


def _ranking_table(predictions: dict[str, Prediction]) -> str:
    lines = ["| by | " + " | ".join(PREDICTORS) + " |", "|---|" + "---|" * len(PREDICTORS)]
    for key in ("final", "half", "wasted", "unused"):
        cells = []
        for column in PREDICTORS.values():
            tau, low, high = ranking(getattr(predictions[key], column), predictions[key].real_A_S)
            cells.append(f"{tau:+.2f} [{low:+.2f}, {high:+.2f}]")
        lines.append(f"| {MEASURES[key]} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])
