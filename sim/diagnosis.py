"""What the arms' records say: numbers for ``comparison.json`` and courses over time for the figure.

Reads finished run folders. Folders from before there were records have none: then there is nothing to
say, and nothing is made up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cures.checks import FloatArray
from cures.forecast import LEVELS
from cures.storage import load_state
from sim.arm import WATCHED
from sim.ratio import ratio
from sim.task import ArmTask
from sim.watch import COLUMNS, COVERAGE

Columns = dict[str, FloatArray]  # each of shape (S, E)


def load_columns(root: Path, arm: str, seeds: int) -> Columns | None:
    """Columns of :mod:`sim.watch` on the common grid; ``None`` if a run has no record."""
    curves = [load_state(root / ArmTask(arm, s, False).folder / "curve.npz") for s in range(seeds)]
    if any(f"{WATCHED}{name}" not in curve for curve in curves for name in COLUMNS):
        return None
    return {name: np.array([curve[f"{WATCHED}{name}"] for curve in curves]) for name in COLUMNS}


def courses(columns: Columns) -> dict[str, FloatArray]:
    """How waste, reach and knowledge go over time; NaN where there is nothing to tell.

    Returns
    -------
    dict of str to ndarray of float64, shape (S, E)
        ``wasted``, ``log_loss`` and ``brier`` are those of the rollouts since the point before, the
        last two per rollout and in excess of the truth's; the others are as recorded.
    """
    excess = {
        name: ratio(
            _since(columns[name]) - _since(columns[f"{name}_truth"]), _since(columns["scored"])
        )
        for name in ("log_loss", "brier")
    }
    as_recorded = ("effective_prompts", "never_visited", *COVERAGE.values())
    return {
        "wasted": ratio(_since(columns["zero_advantage"]), _since(columns["trained"])),
        **{name: columns[name] for name in as_recorded},
        **excess,
    }


def diagnose(columns: Columns, generated_S: FloatArray) -> dict[str, Any]:
    """Means over seeds; ``None`` where no seed has a value.

    Parameters
    ----------
    columns : dict of str to ndarray, shape (S, E)
        From :func:`load_columns`.
    generated_S : ndarray of float64, shape (S,)
        Rollouts of each run.

    Returns
    -------
    dict
        ``effective_prompts`` and ``never_visited`` at the end; ``wasted_by_quarter``: share of the
        trained rollouts without an advantage in each quarter of the run; ``posterior``: ``None``
        without one, else ``known`` and ``coverage`` averaged over the run, ``scored`` as a share of
        all rollouts, and scores per scored rollout.
    """
    edge = np.round(np.linspace(0, columns["trained"].shape[1] - 1, 5)).astype(np.int64)
    zero, trained = (np.diff(columns[k][:, edge], axis=1) for k in ("zero_advantage", "trained"))
    quarter_S_4 = ratio(zero, trained)
    result: dict[str, Any] = {
        "effective_prompts": _mean(columns["effective_prompts"][:, -1]),
        "never_visited": _mean(columns["never_visited"][:, -1]),
        "wasted_by_quarter": [_mean(quarter_S) for quarter_S in quarter_S_4.T],
        "posterior": None,
    }
    if columns["known"].any():
        scored_S = columns["scored"][:, -1]
        result["posterior"] = {
            "known": _mean(columns["known"]),
            "coverage": {str(level): _mean_of_means(columns[COVERAGE[level]]) for level in LEVELS},
            "scored": _mean(scored_S / generated_S),
            **{
                name: _mean(ratio(columns[name][:, -1], scored_S))
                for name in ("log_loss", "log_loss_truth", "brier", "brier_truth")
            },
        }
    return result


def _since(cumulative_S_E: FloatArray) -> FloatArray:
    """Increments from point to point; the first point has none."""
    return np.diff(cumulative_S_E, axis=1, prepend=cumulative_S_E[:, :1])


def _mean(values: FloatArray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _mean_of_means(values_S_E: FloatArray) -> float | None:
    """Over time first, then over seeds: a seed with more points weighs no more."""
    means = [_mean(values_E) for values_E in values_S_E]
    return _mean(np.array([m for m in means if m is not None]))
