"""Finished arms of a run folder -> the numbers of ``comparison.json``.

Reads files only, never live objects; all statistics are those of :mod:`cures.comparison`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from cures.checks import FloatArray
from cures.comparison import (
    FRACTIONS,
    harm_verdict,
    paired_difference,
    rollouts_to_target,
    speed_up,
    target_gains,
)
from cures.ledger import shares
from cures.storage import load_state, read_json
from sim.diagnosis import diagnose, load_columns
from sim.settings import REFERENCE, Settings, is_told_true_rates
from sim.task import ArmTask


def load_curves(root: Path, arm: str, seeds: int, *, is_development: bool = False) -> FloatArray:
    """Held-out success on the common grid, shape (S, E)."""
    folders = [ArmTask(arm, s, is_development).folder for s in range(seeds)]
    return np.array([load_state(root / f / "curve.npz")["held_out_E"] for f in folders])


def compare_arms(settings: Settings, root: Path) -> dict[str, Any]:
    """Compare every arm with the reference.

    Parameters
    ----------
    settings : Settings
    root : Path
        Run folder with every arm finished.

    Returns
    -------
    dict
        What ``comparison.json`` holds. ``None`` stands for an end of an interval that is open.
    """
    development = load_curves(root, REFERENCE, settings.dev_seeds, is_development=True)
    reference = load_curves(root, REFERENCE, settings.seeds)
    start, final = development[:, 0], development[:, -1]
    has_targets = bool(final.mean() > start.mean())
    gain_F = target_gains(start, final) if has_targets else np.zeros(0)
    arms = {}
    for arm in settings.arms:
        curve = load_curves(root, arm, settings.seeds)
        row: dict[str, Any] = {
            "told_true_rates": is_told_true_rates(arm),
            "final": float(curve[:, -1].mean()),
            **_costs(settings, root, arm),
        }
        if arm != REFERENCE:
            row["difference"] = _difference(settings, curve, reference)
        row["targets"] = [
            _target(settings, arm, curve, reference, f, float(gain))
            for f, gain in enumerate(gain_F)
        ]
        arms[arm] = row
    return {
        "reference": REFERENCE,
        "development": {"start": float(start.mean()), "final": float(final.mean())},
        "start": float(reference[:, 0].mean()),
        "rollouts": settings.rollouts,
        "seeds": settings.seeds,
        "has_targets": has_targets,
        "arms": arms,
    }


def _difference(settings: Settings, curve: FloatArray, reference: FloatArray) -> dict[str, Any]:
    result = paired_difference(curve[:, -1], reference[:, -1])
    verdict = harm_verdict(result, settings.margin)
    return {**closed(asdict(result)), "margin": settings.margin, "verdict": verdict}


def _target(
    settings: Settings,
    arm: str,
    curve: FloatArray,
    reference: FloatArray,
    fraction: int,
    gain: float,
) -> dict[str, Any]:
    """Level of each seed: its own start, common to all arms, plus the gain from development."""
    level_S = reference[:, 0] + gain
    arm_S, arm_out_S = rollouts_to_target(settings.grid_E, curve, level_S)
    common = {"fraction": FRACTIONS[fraction], "gain": gain}
    if arm == REFERENCE:
        return {**common, "median": float(np.median(arm_S)), "censored": int(arm_out_S.sum())}
    reference_S, reference_out_S = rollouts_to_target(settings.grid_E, reference, level_S)
    result = speed_up(
        reference_S,
        reference_out_S,
        arm_S,
        arm_out_S,
        generator=_generator(settings, arm, fraction),
    )
    return {**common, **closed(asdict(result))}


def _generator(settings: Settings, arm: str, fraction: int) -> np.random.Generator:
    """Draws follow from root seed and the arm's name, so a further arm moves no other's interval."""
    key = (2, crc32(arm.encode()), fraction)  # 0 and 1 belong to the runs
    return np.random.default_rng(np.random.SeedSequence(settings.root_seed, spawn_key=key))


def closed(values: dict[str, Any]) -> dict[str, Any]:
    """Open ends, and what is not known, as ``None``: JSON has neither infinity nor NaN.

    Examples
    --------
    >>> closed({"low": 1.2, "high": np.inf, "bound": "exact"})
    {'low': 1.2, 'high': None, 'bound': 'exact'}
    """
    return {
        k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
    }


def _costs(settings: Settings, root: Path, arm: str) -> dict[str, Any]:
    """Shares of the generated rollouts, and the steps they bought; means over seeds.

    ``shares`` as in :func:`cures.ledger.shares`.
    ``wasted`` is the share of *trained* rollouts whose advantage is exactly 0; ``used`` the share
    of *generated* rollouts whose advantage is not, which also counts what never reached an update.
    """
    summaries = [
        read_json(root / ArmTask(arm, s, False).folder / "summary.json")
        for s in range(settings.seeds)
    ]
    ledger = [summary["ledger"] for summary in summaries]
    generated = np.array([summary["generated"] for summary in summaries], dtype=np.float64)
    trained = np.array([summary["trained"] for summary in summaries], dtype=np.float64)
    zero = np.array([summary["zero_advantage"] for summary in summaries], dtype=np.float64)
    share = [shares(row) for row in ledger]
    columns = load_columns(root, arm, settings.seeds)
    return {
        "diagnostics": None if columns is None else diagnose(columns, generated),
        "steps": float(np.mean([row["steps"] for row in ledger])),
        "tokens": float(np.mean([row["tokens"] for row in ledger])),
        "generated": float(generated.mean()),
        "shares": {key: float(np.mean([row[key] for row in share])) for key in share[0]},
        "wasted": float(np.mean(zero / np.maximum(trained, 1.0))),
        "used": float(np.mean((trained - zero) / generated)),
    }
