"""Predicted and measured values of every arm, from the run folders of simulator and trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import betabinom

from cures.checks import FloatArray, fail
from cures.storage import load_state, read_json, read_jsonl
from figures.calibration_runs import CONTROL, SIMULATED, Size, arm_folder
from figures.run_folders import read_run

DRAWS, CONFIDENCE, COVER = 10_000, 0.95, 0.9
MEASURES = {
    "half": "held-out success half-way",
    "final": "held-out success at the end",
    "early": "share of the gain made half-way",
    "wasted": "wasted share of the trained rollouts",
    "unused": "unused share of the generated rollouts",
    "log_loss": "log-loss of the posterior mean, per rollout",
    "coverage": f"coverage of {COVER:.0%} predictive intervals",
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted and measured values of one quantity, one row per arm.

    Attributes
    ----------
    simulated_A_S, control_A_S, real_A_S : ndarray of float64, shape (arms, seeds)
        On the calibrated population, by the simulator as it comes, and measured. Their seeds are not
        paired with each other.
    """

    simulated_A_S: FloatArray
    control_A_S: FloatArray
    real_A_S: FloatArray


def read_predictions(root: Path, size: Size) -> dict[str, Prediction]:
    """Every measure of every run, read from the run folders."""
    table: dict[str, list[list[list[float]]]] = {key: [[], [], []] for key in MEASURES}
    for label in size.labels:
        sources = [
            [
                _simulated(root / folder / "arms" / f"{label}-{seed}")
                for seed in range(size.simulated_seeds)
            ]
            for folder in (SIMULATED, CONTROL[0])
        ]
        sources.append([_real(arm_folder(root, label, seed)) for seed in range(size.seeds)])
        for key in MEASURES:
            for column, rows in zip(table[key], sources, strict=True):
                column.append([row[key] for row in rows])
    return {key: Prediction(*(np.array(rows) for rows in table[key])) for key in MEASURES}


def _simulated(folder: Path) -> dict[str, float]:
    summary = read_json(folder / "summary.json")
    curve = load_state(folder / "curve.npz")
    return {
        **_success(np.asarray(curve["grid_E"]), np.asarray(curve["held_out_E"])),
        "wasted": summary["zero_advantage"] / summary["trained"],
        "unused": 1.0 - (summary["trained"] - summary["zero_advantage"]) / summary["generated"],
        **replay(read_jsonl(folder / "outcomes.jsonl")),
    }


def _real(folder: Path) -> dict[str, float]:
    run = read_run(folder)
    updates = [row for row in run["metrics"] if row["trained"]]
    trained = [row["trained"] for row in updates]
    evaluation = {
        key: np.array([row[key] for row in run["evaluation"]], dtype=np.float64)
        for key in ("generated", "held_out")
    }
    return {
        **_success(evaluation["generated"], evaluation["held_out"]),
        "wasted": float(np.average([row["wasted"] for row in updates], weights=trained)),
        "unused": 1.0 - sum(row["informative"] for row in updates) / run["summary"]["generated"],
        **replay(run["outcomes"]),
    }


def _success(generated_E: FloatArray, held_out_E: FloatArray) -> dict[str, float]:
    """Held-out success half-way and at the end, and how early it came."""
    start, end = held_out_E[0], held_out_E[-1]
    half = np.interp(0.5 * generated_E[-1], generated_E, held_out_E)
    early = (half - start) / (end - start)
    return {"half": float(half), "final": float(end), "early": float(early)}


def replay(outcomes: list[dict[str, Any]]) -> dict[str, float]:
    """How well Beta(1, 1) counts of all earlier rollouts of a prompt foretell its next group.

    Parameters
    ----------
    outcomes : list of dict
        Lines of ``outcomes.jsonl``, in order.

    Returns
    -------
    dict of str to float
        ``log_loss``: mean over rollouts of the negative log chance that the posterior mean gave them.
        ``coverage``: share of groups whose successes lie in the central predictive interval of
        :data:`COVER` (by mid-probability, so that the nominal share is met on average although
        counts are discrete). Groups of prompts without earlier rollouts are left out.

    Notes
    -----
    The same rule for simulated and real runs and for every scheduler, whatever it believes itself.
    """
    counts: dict[int, tuple[int, int]] = {}
    before, group = [], []
    for row in outcomes:
        seen = counts.get(row["prompt"], (0, 0))
        if sum(seen):
            before.append(seen)
            group.append((row["success"], row["trial"]))
        counts[row["prompt"]] = (
            seen[0] + row["success"],
            seen[1] + row["trial"] - row["success"],
        )
    if not group:
        return {"log_loss": float("nan"), "coverage": float("nan")}
    alpha, beta = np.array(before).T + 1.0
    success, trial = np.array(group).T
    mean = alpha / (alpha + beta)
    loss = -(success * np.log(mean) + (trial - success) * np.log1p(-mean)).sum() / trial.sum()
    law = betabinom(trial, alpha, beta)
    below, at = law.cdf(success - 1), law.pmf(success)
    tail = (1.0 - COVER) / 2.0
    # share of [below, below + at], where the group would fall if counts were continuous, inside
    inside = np.minimum(below + at, 1.0 - tail) - np.maximum(below, tail)
    return {
        "log_loss": float(loss),
        "coverage": float(np.mean(np.clip(inside / at, 0.0, 1.0))),
    }


def ranking(predicted_A_S: FloatArray, real_A_S: FloatArray) -> tuple[float, float, float]:
    """Kendall's tau (b) between predicted and measured means, with an interval.

    Notes
    -----
    The interval is a parametric bootstrap: arm means are redrawn with the standard error that all arms
    together show between their seeds, which a few seeds of one arm could not tell.
    """
    ends = (predicted_A_S, real_A_S)
    means = [table.mean(axis=1) for table in ends]
    errors = [_standard_error(table) for table in ends]
    generator = np.random.default_rng(0)
    drawn = [
        mean + error * generator.standard_normal((DRAWS, mean.size))
        for mean, error in zip(means, errors, strict=True)
    ]
    taus = _kendall(*drawn)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(taus, (tail, 1.0 - tail))
    return float(_kendall(*means)), float(low), float(high)


def _kendall(first: FloatArray, second: FloatArray) -> FloatArray:
    """Kendall's tau-b along the last axis; ``scipy.stats.kendalltau`` takes one pair at a time."""
    i, j = np.triu_indices(first.shape[-1], 1)
    signs = [np.sign(values[..., i] - values[..., j]) for values in (first, second)]
    untied = [(sign != 0.0).sum(axis=-1) for sign in signs]
    return np.asarray((signs[0] * signs[1]).sum(axis=-1) / np.sqrt(untied[0] * untied[1]))


def _standard_error(value_A_S: FloatArray) -> FloatArray:
    """Of the arms' means, pooled over arms; 0 for an arm that is the same on every seed by its rule."""
    if value_A_S.shape[1] < 2:
        fail("ranking", "seeds", "at least 2", value_A_S.shape[1])
    variance = value_A_S.var(axis=1, ddof=1)
    moves = variance > 0.0
    pooled = variance[moves].mean() if moves.any() else 0.0
    return np.where(moves, np.sqrt(pooled / value_A_S.shape[1]), 0.0)
