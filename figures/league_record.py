"""What the simulator's league keeps of a run, and the level that its runs are timed by.

Additional axis suffixes: ``_S`` seeds, ``_U`` updates of one run, ``_E`` points of a grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cures
from cures.checks import FloatArray
from cures.comparison import on_grid, rollouts_to_target, target_gains
from cures.ledger import shares
from cures.storage import load_state, read_json, read_jsonl
from figures.sim_folders import FRACTION
from sim.settings import Settings

AXES = {"rollouts": "generated", "updates": "step", "tokens": "tokens"}  # columns of metrics.jsonl

PLAIN = (bool, int, float, str)

Entry = dict[str, Any]  # of a cell, as figures.simulator_league writes it


def defaults(scheduler: str) -> dict[str, Any]:
    """Default settings of a scheduler: an entry made with others is another arm's.

    Examples
    --------
    >>> defaults("oracle")["temperature"]
    0.05
    """
    found = cures.scheduler_settings(scheduler).items()
    return {key: value for key, value in found if value is None or isinstance(value, PLAIN)}


def as_of(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of now for the options that there were then.

    One that came since leaves a run as it was: another rule under an old name would change golden plans.

    Examples
    --------
    >>> as_of({"temperature": 0.1}, {"temperature": 0.05, "knows": "all"})
    {'temperature': 0.05}
    """
    return {key: now[key] for key in then if key in now}


@dataclass(frozen=True, slots=True)
class Level:
    """What runs are timed by, from uniform's development runs alone.

    Attributes
    ----------
    gain : float or None
        Held-out success above the start; None: uniform learned nothing, there is no level.
    spacing : dict of str to float
        Axis -> distance between grid points, a fixed share of uniform's whole run.
    """

    gain: float | None
    spacing: Mapping[str, float]


def level_of(entry: Entry) -> Level:
    """The level of a cell."""
    dev, settings = entry["development"], entry["settings"]
    start, final = np.mean(dev["start_S"]), np.mean(dev["final_S"])
    gain = None
    if final > start:
        gain = float(target_gains(dev["start_S"], dev["final_S"], (FRACTION,))[0])
    whole = {
        "rollouts": float(settings["rollouts"]),
        "updates": float(np.mean(dev["updates_S"])),
        "tokens": float(np.mean(dev["tokens_S"])),
    }
    return Level(gain, {axis: end / (settings["grid_points"] - 1) for axis, end in whole.items()})


def best_oracle(variants: Mapping[str, Mapping[str, Any]], rollouts: int) -> str:
    """The variant with the smallest median of rollouts to the level; among equals the higher final.

    Runs that never arrive count with their budget, as in every median of the league.

    Examples
    --------
    >>> slow = {"rollouts_at_S": [900, None, None], "final_S": [0.4, 0.4, 0.4]}
    >>> fast = {"rollouts_at_S": [800, None, 700], "final_S": [0.3, 0.3, 0.3]}
    >>> best_oracle({"oracle@t50": slow, "oracle@t05": fast}, 1000)
    'oracle@t05'
    """

    def merit(arm: str) -> tuple[float, float]:
        at_S = [rollouts if at is None else at for at in variants[arm]["rollouts_at_S"]]
        return float(np.median(at_S)), -float(np.mean(variants[arm]["final_S"]))

    return min(variants, key=merit)


def record(settings: Settings, folder: Path, level: Level) -> dict[str, Any]:
    """What is kept of a finished run.

    Returns
    -------
    dict
        ``start_S`` and ``final_S`` (held-out success at 0 and at all rollouts), ``wasted_S`` (share of
        the trained rollouts whose advantage is 0), ``pilot_S`` and ``trained_S`` (shares of the
        generated), ``updates_S``, ``tokens_S``, ``cpu_s_S``, and for every axis ``AXIS_at_S``: where
        the level was reached, None if it was not. One value each; the names are those of the lists.
    """
    curve, summary = load_state(folder / "curve.npz"), read_json(folder / "summary.json")
    ledger = summary["ledger"]
    row = shares(ledger)
    kept: dict[str, Any] = {
        "start_S": round(float(curve["start"]), 6),
        "final_S": round(float(np.asarray(curve["held_out_E"])[-1]), 6),
        "wasted_S": round(summary["zero_advantage"] / max(summary["trained"], 1), 6),
        "pilot_S": round(row["pilot"], 6),
        "trained_S": round(row["trained"], 6),
        "updates_S": ledger["steps"],
        "tokens_S": ledger["tokens"],
        "cpu_s_S": round(read_json(folder / "timing.json")["cpu_s"], 3),
    }
    end = {"rollouts": settings.rollouts, "updates": ledger["steps"], "tokens": ledger["tokens"]}
    updates = read_jsonl(folder / "metrics.jsonl")
    for axis, column in AXES.items():
        at = None
        if level.gain is not None:
            at = reached_at(
                np.array([update[column] for update in updates], dtype=np.float64),
                np.asarray(curve["held_out_U"], dtype=np.float64),
                start=float(curve["start"]),
                end=float(end[axis]),
                spacing=level.spacing[axis],
                gain=level.gain,
            )
        kept[f"{axis}_at_S"] = at
    return kept


def reached_at(
    position_U: FloatArray,
    held_out_U: FloatArray,
    *,
    start: float,
    end: float,
    spacing: float,
    gain: float,
) -> float | None:
    """Where a run's curve reaches its start plus ``gain`` on some axis; None if it does not.

    Parameters
    ----------
    position_U : ndarray of float64, shape (U,)
        Of every update on the axis, never decreasing.
    held_out_U : ndarray of float64, shape (U,)
        Success after it.
    start : float
        Success before the first update.
    end : float
        Where the run ends on the axis.
    spacing : float, > 0
        Of the grid on which all arms are read and smoothed; its last point is ``end``.
    gain : float

    Examples
    --------
    >>> times = np.array([1.0, 2.0, 3.0, 4.0])
    >>> curve = np.array([0.1, 0.2, 0.6, 0.8])
    >>> reached_at(times, curve, start=0.0, end=4.0, spacing=1.0, gain=0.4)
    2.5
    """
    inner = spacing * np.arange(np.ceil(end / spacing - 1e-9))
    grid = np.append(inner, end)
    if grid.size < 2:  # no update at all
        return None
    curve_E = on_grid(position_U, held_out_U, grid, start=start)
    at_S, is_censored_S = rollouts_to_target(grid, curve_E[None], start + gain)
    return None if is_censored_S[0] else round(float(at_S[0]), 3)
