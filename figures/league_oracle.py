"""Which variant of the oracle is a pool's best one, on development seeds, to the level of uniform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from cures.targets import rollouts_to_target, target_gains
from figures.league import DEV_SEEDS, ROLLOUTS, Entries, Run, of_pool, oracles
from figures.league_record import best_oracle
from figures.sim_folders import FRACTION
from figures.simulator_league import BEST
from sim.settings import REFERENCE


def gain_of(entries: Mapping[str, Mapping[str, Any]]) -> float | None:
    """What uniform gains on development seeds, times the fraction that arms are timed by."""
    dev = [e for e in entries.values() if e["seed"] in DEV_SEEDS and e["arm"] == REFERENCE]
    start, final = ([e["held_out_E"][i] for e in dev] for i in (0, -1))
    if not dev or sum(final) <= sum(start):
        return None
    return float(target_gains(start, final, (FRACTION,))[0])


def reached(
    entry: Mapping[str, Any], gain: float, *, axis: str = "generated", spacing: float | None = None
) -> float | None:
    """Where a run reaches its start plus ``gain`` on an axis; None if it does not.

    ``spacing`` is that of the grid on which curves are read, straight between evaluations; by default
    the run's own, which all runs of a pool share on the axis of rollouts.
    """
    position_E = np.array(entry[f"{axis}_E"], dtype=np.float64)
    curve_E = np.array(entry["held_out_E"])
    grid = position_E
    if spacing is not None:
        inner = spacing * np.arange(np.ceil(position_E[-1] / spacing - 1e-9))
        grid = np.append(inner, position_E[-1])
    at_S, is_censored_S = rollouts_to_target(
        grid, np.interp(grid, position_E, curve_E)[None], curve_E[0] + gain
    )
    return None if is_censored_S[0] else float(at_S[0])


def developed(pool: str, entries_of: Mapping[str, Entries]) -> dict[int, tuple[str, float]]:
    """Development seed of a pool -> the first series with all its variants of the oracle, and its level.

    Parameters
    ----------
    pool : str
    entries_of : mapping
        Series -> its entries of the pool.
    """
    found: dict[int, tuple[str, float]] = {}
    for (name, entries), seed in product(entries_of.items(), DEV_SEEDS):
        needed = [Run(pool, variant, seed) for variant in oracles(pool)]
        needed += [Run(pool, REFERENCE, other) for other in DEV_SEEDS]  # both: the level
        gain = gain_of(entries)
        if gain is not None and all(run.name in entries for run in needed):
            found.setdefault(seed, (name, gain))
    return found


def chosen_oracle(pool: str, entries_of: Mapping[str, Entries]) -> str | None:
    """A pool's best oracle on development seeds, the same for all series; None while runs are missing.

    Every seed's variants are timed in one series, to the level of its own uniform.

    Parameters
    ----------
    pool : str
    entries_of : mapping
        Series -> its entries of the pool.
    """
    found = developed(pool, entries_of)
    if len(found) < len(DEV_SEEDS):
        return None
    variants = {}
    for variant in oracles(pool):
        runs = [
            (entries_of[series][Run(pool, variant, seed).name], gain)
            for seed, (series, gain) in found.items()
        ]
        variants[variant] = {
            "rollouts_at_S": [reached(entry, gain) for entry, gain in runs],
            "final_S": [entry["held_out_E"][-1] for entry, _ in runs],
        }
    return best_oracle(variants, ROLLOUTS)


def best_runs(
    by_series: Mapping[str, Mapping[str, Entries]],
    pools: Sequence[str],
    arms: Sequence[str],
    seeds: Sequence[int],
) -> list[Run]:
    """Compared runs of every pool's best oracle, once its development runs are there."""
    if BEST not in arms:
        return []
    chosen = {pool: chosen_oracle(pool, of_pool(by_series, pool)) for pool in pools}
    return [
        Run(pool, name, seed)
        for seed, (pool, name) in product(seeds, chosen.items())
        if name is not None
    ]
