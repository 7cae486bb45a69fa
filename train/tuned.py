"""Settings tuned in the simulator: what their file says about the population they were tuned on.

``python -m sim tune`` writes a TOML file with ``[scheduler]`` (name and group size),
``[scheduler.NAME]`` (keywords) and ``[scheduler.tuned]``: which success rates the settings met there, by
phase of the run and stratum of groups. :mod:`train.population_watch` holds a run against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cures.checks import FloatArray, InWords, as_bool, as_float_array, as_int, fail

FORMAT = "cures-tuned-1"
REQUIRED = ("format", "population", "pool", "budget", "rollouts", "phase_end", "limit",
            "success_rate", "met")  # fmt: skip

Stratum = tuple[int, bool, int]  # phase, is it fresh, octave of the rollouts


@dataclass(frozen=True, slots=True, eq=False)
class TunedPopulation:
    """What ``[scheduler.tuned]`` says; validated at birth.

    Attributes
    ----------
    name : str
        Of the simulated population.
    pool, budget, rollouts : int
        Prompts, rollouts per update and in all.
    phase_end : list of float
        Ascending shares of the rollouts, the last 1.
    limit : list of float
        Per phase: nats per group beyond which a run has left the population.
    support_K : ndarray of float64, shape (K,)
        Success rates.
    row : dict
        Row of ``weight_Q_K`` of every stratum that was met.
    weight_Q_K : ndarray of float64, shape (Q, K)
        Shares of its groups at each success rate.
    """

    name: str
    pool: int
    budget: int
    rollouts: int
    phase_end: list[float]
    limit: list[float]
    support_K: FloatArray
    row: dict[Stratum, int]
    weight_Q_K: FloatArray

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> TunedPopulation:
        """Read the table.

        Raises
        ------
        ValueError
            Naming the key that is missing or illegal.
        """
        where = "[scheduler.tuned]"
        if not isinstance(table, Mapping):
            fail("[scheduler]", "tuned", "a table, as python -m sim tune writes it", table)
        for key in REQUIRED:
            if key not in table:
                fail(where, key, "given", InWords("nothing"))
        if table["format"] != FORMAT:
            fail(where, "format", repr(FORMAT), table["format"])
        pool, budget, rollouts = (
            as_int(where, key, table[key], 1) for key in ("pool", "budget", "rollouts")
        )
        end = as_float_array(where, "phase_end", table["phase_end"], low=0.0, high=1.0)
        if end.size == 0 or (np.diff(end) <= 0).any() or end[-1] != 1.0:
            fail(where, "phase_end", "ascending shares of the rollouts up to 1", end.tolist())
        limit = as_float_array(where, "limit", table["limit"], length=end.size, low=0.0)
        support = as_float_array(where, "success_rate", table["success_rate"], low=0.0, high=1.0)
        row: dict[Stratum, int] = {}
        weights: list[FloatArray] = []
        if not isinstance(table["met"], list | tuple) or not table["met"]:
            fail(where, "met", "a list of at least one stratum", table["met"])
        for position, stratum in enumerate(table["met"]):
            place = f"{where} met[{position}]"
            known, weight = _stratum(place, stratum, end.size, support.size)
            row[known] = len(weights)
            weights.append(weight)
        name = table["population"]
        if not isinstance(name, str):
            fail(where, "population", "a name", name)
        weight_Q_K = np.array(weights)
        phases = end.tolist(), limit.tolist()
        return cls(name, pool, budget, rollouts, *phases, support, row, weight_Q_K)


def size_note(tuned: TunedPopulation, *, pool: int, budget: int, rollouts: int) -> str | None:
    """What differs in size from what was tuned; ``None`` if nothing does."""
    pairs = (
        ("prompts", tuned.pool, pool),
        ("rollouts per update", tuned.budget, budget),
        ("rollouts", tuned.rollouts, rollouts),
    )
    different = [f"{old} {what}, not {new}" for what, old, new in pairs if old != new]
    return f"note: the settings were tuned for {'; '.join(different)}" if different else None


def _stratum(where: str, table: Any, phases: int, points: int) -> tuple[Stratum, FloatArray]:
    if not isinstance(table, Mapping):
        fail(where, "stratum", "a table", table)
    for key in ("phase", "is_fresh", "octave", "weight"):
        if key not in table:
            fail(where, key, "given", InWords("nothing"))
    phase = as_int(where, "phase", table["phase"], 0, phases - 1)
    is_fresh = as_bool(where, "is_fresh", table["is_fresh"])
    octave = as_int(where, "octave", table["octave"], 0, 62)
    weight = as_float_array(where, "weight", table["weight"], length=points, low=0.0, high=1.0)
    if abs(float(weight.sum()) - 1.0) > 1e-6:
        fail(where, "weight", "of sum 1", float(weight.sum()))
    return (phase, is_fresh, octave), weight
