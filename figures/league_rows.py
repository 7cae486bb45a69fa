"""Numbers of the league on the language model: every arm beside uniform of its own series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from cures.checks import FloatArray, fail
from cures.comparison import SpeedUp, harm_verdict, paired_difference, seeds_needed, speed_up
from figures.holm import paired_p_value
from figures.league import (
    ARMS,
    AXES,
    BEST,
    DEV_SEEDS,
    POOLS,
    VISITED,
    Entries,
    check_starts,
    of_pool,
)
from figures.league_oracle import chosen_oracle, gain_of, reached
from figures.league_record import as_of
from figures.oracle_share import OracleShare, shares_of_arms
from figures.sim_folders import FRACTION
from figures.training_table import MARGIN
from sim.settings import REFERENCE, is_told_true_rates

FRACTIONS = (0.8, 1.0)
Rows = dict[str, dict[str, Any]]  # arm -> its numbers
FloatMatrix = np.ndarray[Any, np.dtype[np.float64]]


def arms_of(entries: Entries, best: str | None) -> dict[str, list[dict[str, Any]]]:
    """Arms that have every seed of the reference -> their entries on these, ascending.

    The others are still being made. The variant ``best`` of the oracle goes by that name.

    Raises
    ------
    ValueError
        If the runs of a seed differ in their warm start, or compared runs are of a variant of the oracle
        that is not the best one.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for entry in entries.values():
        if entry["seed"] not in DEV_SEEDS:
            found.setdefault(entry["arm"], {})[entry["seed"]] = entry
    reference = found.get(REFERENCE, {})
    check_starts(entries)
    others = sorted(arm for arm in found if arm not in ARMS and arm != best)
    if others:  # the choice has changed since they were made: they would go without a word
        fail("league", "compared variant of the oracle", f"{best}, the best one", others)
    if best is not None:
        found[BEST] = found.get(best, {})
    return {
        arm: [found[arm][seed] for seed in sorted(reference)]
        for arm in (*ARMS, BEST)
        if reference and found.get(arm, {}).keys() >= reference.keys()
    }


def curves(runs: list[dict[str, Any]]) -> FloatMatrix:
    """Held-out success of every seed, shape (S, E)."""
    return np.array([run["held_out_E"] for run in runs])


def rows(entries: Entries, best: str | None = None) -> Rows:
    """Numbers of every arm of a pool and series.

    Parameters
    ----------
    entries : dict
    best : str, optional
        Which variant of the oracle is the pool's best one.

    Returns
    -------
    dict
        arm -> ``seeds``, ``start``, ``final_S``, ``minus_S_E`` (success minus uniform's at every point
        of ``generated_E``), ``difference`` (at the end; fields of
        :class:`cures.comparison.PairedDifference`, None for the reference), ``p_value`` (paired t; None
        below six seeds), ``verdict``, ``speed_up`` (fraction, or axis, -> fields of
        :class:`cures.comparison.SpeedUp`), ``reached_S`` (rollouts to the level, None where it is not
        reached) and means of ``wasted``, ``pilot``, ``updates``, ``tokens`` and ``cpu_s``.

    Raises
    ------
    ValueError
        See :func:`arms_of`.
    """
    arms = arms_of(entries, best)
    gain = gain_of(entries)
    result: Rows = {}
    for arm, runs in arms.items():
        own, reference = curves(runs), curves(arms[REFERENCE])
        means = {
            key: float(np.mean([run[key] for run in runs]))
            for key in ("wasted", "pilot", "updates", "tokens", "cpu_s")
        }
        row: dict[str, Any] = {"seeds": len(own), "final_S": own[:, -1], **means}
        row["start"] = float(own[:, 0].mean())
        row["generated_E"], row["minus_S_E"] = runs[0]["generated_E"], own - reference
        row["speed_up"] = {}
        row |= judged(arm, row["minus_S_E"][:, -1])
        row["reached_S"] = [None if gain is None else reached(run, gain) for run in runs]
        if arm != REFERENCE and gain is not None:
            for fraction in FRACTIONS:
                part = gain * fraction / FRACTION
                found = along("generated", runs, arms[REFERENCE], part)
                row["speed_up"][f"{fraction}"] = asdict(found)
            for axis in AXES:
                row["speed_up"][axis] = asdict(along(axis, runs, arms[REFERENCE], gain))
        if arm == BEST:
            row["variant"] = best
        result[arm] = row
    return result


def judged(arm: str, minus_S: FloatArray, *, looks: int = 1) -> dict[str, Any]:
    """What is said of success minus uniform's at the end, shape (S,).

    Returns
    -------
    dict
        ``difference`` (95 %), ``widened`` (95 % for so many looks together, Bonferroni), ``p_value`` (of
        one look), and ``verdict``, from what is widened.
    """
    if arm == REFERENCE:
        return {"difference": None, "widened": None, "p_value": None, "verdict": "reference"}
    none_S = np.zeros(minus_S.size)
    widened = paired_difference(minus_S, none_S, confidence=1.0 - 0.05 / looks)
    is_told = is_told_true_rates(arm)
    return {
        "difference": asdict(paired_difference(minus_S, none_S)),
        "widened": asdict(widened),
        "p_value": paired_p_value(minus_S) if minus_S.size >= seeds_needed() else None,
        "verdict": "told" if is_told else harm_verdict(widened, MARGIN),
    }


def along(
    axis: str, runs: list[dict[str, Any]], reference: list[dict[str, Any]], gain: float
) -> SpeedUp:
    """Speed-up to the level on an axis; ends may differ, grids are as fine.

    Parameters
    ----------
    axis : str
        ``generated``, or of :data:`figures.league.AXES`.
    runs, reference : list of dict
        Entries of an arm and of uniform, seed by seed.
    gain : float
        Held-out success above the start.
    """
    spacing = None
    if axis != "generated":  # where all runs share a grid
        points = len(reference[0]["held_out_E"]) - 1
        spacing = float(np.mean([run[f"{axis}_E"][-1] for run in reference])) / points
    timed: list[Any] = []
    for found in (reference, runs):
        at_S = [reached(run, gain, axis=axis, spacing=spacing) for run in found]
        ends = [run[f"{axis}_E"][-1] for run in found]
        timed.append([end if at is None else at for at, end in zip(at_S, ends, strict=True)])
        timed.append([at is None for at in at_S])
    return speed_up(*timed, generator=np.random.default_rng(0))


def check_comparable(pool: str, entries_of: Mapping[str, Entries]) -> None:
    """Refuse runs of a pool that differ in more than scheduler, seed and warm start.

    Raises
    ------
    ValueError
    """
    entries = [entry for found in entries_of.values() for entry in found.values()]
    first: dict[str, dict[str, Any]] = {}
    for entry in entries:
        own = first.setdefault(entry["arm"], entry)
        pairs = {key: (entry[key], entries[0][key]) for key in ("generated_E", "same")}
        pairs["settings"] = _but_seeds(entry["settings"]), _but_seeds(own["settings"])
        # an option may have come since
        now, then = entry["defaults"], own["defaults"]
        pairs["defaults"] = as_of(then, now), as_of(now, then)
        for key, (value, legal) in pairs.items():
            if value != legal:
                where = f"{key} of {entry['arm']}-seed{entry['seed']}, {pool}"
                fail("league", where, f"{legal}, as in the others", value)


def _but_seeds(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if not key.endswith(".seed")}


def numbers_of(by_series: Mapping[str, Mapping[str, Entries]]) -> dict[str, dict[str, Rows]]:
    """Pool -> series -> :func:`rows`, where there are any.

    Parameters
    ----------
    by_series : mapping
        Series -> pool -> entries.
    """
    numbers: dict[str, dict[str, Rows]] = {}
    for pool in POOLS:
        entries_of = of_pool(by_series, pool)
        check_comparable(pool, entries_of)
        best = chosen_oracle(pool, entries_of)
        by_name = {name: rows(entries, best) for name, entries in entries_of.items()}
        found = {name: of_series for name, of_series in by_name.items() if of_series}
        if found:
            numbers[pool] = found
    return numbers


def together(found: Mapping[str, Rows]) -> Rows:
    """Every arm of a pool over its series: differences to uniform of the same series, averaged by seed.

    Runs of one seed have problems and random numbers in common in all series, so that two of them are
    no two observations. Each series is one more look. One with fewer seeds than another is still being
    made, and left out.

    Returns
    -------
    dict
        arm -> ``seeds``, ``series`` (their names), ``generated_E``, ``minus_S_E``, and what
        :func:`judged` says of its end.
    """
    whole = _whole(found)
    result: Rows = {}
    for arm in (*ARMS, BEST):
        own = {name: rows[arm] for name, rows in whole.items() if arm in rows}
        if own:
            minus_S_E = np.mean([row["minus_S_E"] for row in own.values()], axis=0)
            result[arm] = {
                "seeds": len(minus_S_E),
                "series": list(own),
                "generated_E": next(iter(own.values()))["generated_E"],
                "minus_S_E": minus_S_E,
                **judged(arm, minus_S_E[:, -1], looks=len(own)),
            }
    return result


def _whole(found: Mapping[str, Rows]) -> dict[str, Rows]:
    seeds = max((of_series[REFERENCE]["seeds"] for of_series in found.values()), default=0)
    return {name: rows for name, rows in found.items() if rows[REFERENCE]["seeds"] == seeds}


def alike(found: Mapping[str, Rows]) -> list[float]:
    """Correlation over seeds of uniform's final success in any two series of a pool."""
    final = [rows[REFERENCE]["final_S"] for rows in _whole(found).values()]
    return [float(np.corrcoef(one, other)[0, 1]) for one, other in combinations(final, 2)]


def shares_of(found: Rows) -> dict[str, OracleShare]:
    """Share of the best oracle's saving, where it saves any for certain, of `adaptive` and VISITED."""
    best = found.get(BEST, {"speed_up": {}})["speed_up"].get(f"{FRACTION}")
    if best is None or not (best["low"] or 0.0) > 1.0:
        return {}
    return shares_of_arms(
        {arm: row["reached_S"] for arm, row in found.items()},
        reference=REFERENCE,
        best=BEST,
        arms=[arm for arm in found if arm.startswith("adaptive") or arm == VISITED],
    )
