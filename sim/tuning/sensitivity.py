"""How much the choice matters: profiles through the chosen setting, one knob at a time.

Each knob moves over its range while the others stay; every point runs on the same seeds, so points
differ by the setting alone. These are confirming seeds: on the trial seeds the chosen setting, which won
there, looks better than it is, and leaving it more costly. A knob is *tolerant* over the values whose
mean loss against the chosen setting stays within the margin of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cures.checks import FloatArray
from sim.tuning.knobs import Value
from sim.tuning.objective import Objective
from sim.tuning.protocol import Study
from sim.tuning.runs import Run
from sim.tuning.space import Space


@dataclass(frozen=True, slots=True)
class Profile:
    """One knob along its range; extra axis suffix ``_V``: values.

    Attributes
    ----------
    name : str
    value_V : ndarray of float64, shape (V,)
        Ascending.
    objective_V_S : ndarray of float64, shape (V, S)
        NaN where training diverged.
    centre : float
        Where the chosen setting is; among ``value_V``.
    is_log : bool
    """

    name: str
    value_V: FloatArray
    objective_V_S: FloatArray
    centre: float
    is_log: bool

    @property
    def loss_V_S(self) -> FloatArray:
        """What leaving the centre costs on each seed, shape (V, S)."""
        centre = int(np.flatnonzero(self.value_V == self.centre)[0])
        loss: FloatArray = self.objective_V_S[centre] - self.objective_V_S
        return loss

    def as_json(self, margin: float) -> dict[str, Any]:
        """Means, standard errors over seeds, tolerated ends and the largest loss."""
        mean_V = self.loss_V_S.mean(axis=1)
        seeds = self.loss_V_S.shape[1]
        error_V = self.loss_V_S.std(axis=1, ddof=1) / np.sqrt(seeds) if seeds > 1 else None
        low, high = self._tolerated(mean_V, margin)
        worst = int(np.argmax(np.where(np.isnan(mean_V), np.inf, mean_V)))
        return {
            "name": self.name,
            "centre": self.centre,
            "value": self.value_V.tolist(),
            "is_log": self.is_log,
            "objective": _plain(self.objective_V_S.mean(axis=1)),
            "objective_S": [_plain(row) for row in self.objective_V_S],
            "loss": _plain(mean_V),
            "loss_standard_error": None if error_V is None else _plain(error_V),
            "tolerated": [low, high],
            "worst": {
                "value": float(self.value_V[worst]),
                "loss": _plain(mean_V)[worst],
                "standard_error": None if error_V is None else _plain(error_V)[worst],
            },
        }

    def _tolerated(self, mean_V: FloatArray, margin: float) -> tuple[float, float]:
        """Ends of the run of values around the centre that lose at most the margin."""
        centre = int(np.flatnonzero(self.value_V == self.centre)[0])
        low = high = centre
        while low > 0 and mean_V[low - 1] <= margin:
            low -= 1
        while high < self.value_V.size - 1 and mean_V[high + 1] <= margin:
            high += 1
        return float(self.value_V[low]), float(self.value_V[high])


def profiles(
    study: Study, space: Space, objective: Objective, point: Mapping[str, Value]
) -> list[Profile]:
    """A profile of every axis through ``point``; runs what is missing."""
    points = study.profile_points
    if points == 0:
        return []
    values = {name: _values(space, name, point, points) for name in space.axes}
    moved = {
        (name, value): space.setting(space.moved(point, name, value))
        for name in space.axes
        for value in values[name]
    }
    objective.laboratory.run(Run(s, i) for s in moved.values() for i in study.profile_indices)
    found = []
    for name in space.axes:
        rows = [objective.value_S(moved[name, v], study.profile_indices) for v in values[name]]
        blank = np.full(len(study.profile_indices), np.nan)
        found.append(
            Profile(
                name,
                np.array(values[name], dtype=np.float64),
                np.array([blank if row is None else row for row in rows]),
                float(space.value(point, name)),
                space.is_log(name),
            )
        )
    return found


def count_profile_runs(study: Study) -> int:
    """At most so many runs, for a progress bar."""
    space = study.space
    points = study.profile_points
    if points == 0:
        return 0
    values = sum(len(space.grid(name, points)) + 1 for name in space.axes)
    return len(study.profile_indices) * values


def _values(space: Space, name: str, point: Mapping[str, Value], points: int) -> list[Value]:
    """The axis's grid and the point's own value."""
    own = space.value(point, name)
    return sorted({*space.grid(name, points), own})


def _plain(value_V: FloatArray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in value_V]
