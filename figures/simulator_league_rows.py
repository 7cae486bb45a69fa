"""Numbers of the simulator's league, from the entries of finished cells: one row per cell and arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cures.checks import fail
from cures.comparison import SpeedUp, harm_verdict, paired_difference, seeds_needed, speed_up
from figures.holm import holm, paired_p_value
from figures.league_record import AXES, Entry, level_of
from figures.oracle_share import OracleShare, shares_of_arms
from figures.simulator_league import ARMS, BEST, Cell, arms_of
from sim.settings import REFERENCE, is_told_true_rates

Rows = dict[str, dict[str, Any]]  # arm -> its numbers
OURS = ("adaptive", "adaptive@moments")
ONE_SIDED = 0.025  # a verdict is a one-sided test at this level


def numbers_of(cells: Mapping[Cell, Entry]) -> dict[Cell, Rows]:
    """Rows of every cell that has the reference on its compared seeds."""
    return {cell: found for cell, entry in cells.items() if (found := rows(entry))}


def rows(entry: Entry) -> Rows:
    """Numbers of every arm of a cell that has all seeds of the reference.

    Returns
    -------
    dict
        arm -> ``seeds``, ``final_S``, ``difference`` (fields of
        :class:`cures.comparison.PairedDifference`, None for the reference), ``verdict``, ``p_value``
        (None below six seeds), ``speed_up`` (axis -> :class:`cures.comparison.SpeedUp`, empty without a
        level), means of ``wasted``, ``pilot``, ``updates``, and ``cpu`` over the reference's.

    Raises
    ------
    ValueError
        If an arm starts a seed elsewhere than the reference does.
    """
    arms = {arm: entry["arms"][arm] for arm in arms_of(entry)}
    if not arms:
        return {}
    reference = arms[REFERENCE]
    size = len(reference["final_S"])
    found: Rows = {}
    for arm, row in arms.items():
        kept = {key: values[:size] for key, values in row.items() if key.endswith("_S")}
        if kept["start_S"] != reference["start_S"]:
            legal = f"{reference['start_S']}, those of {REFERENCE}: the same seeds"
            fail("league", f"starts of {arm}", legal, kept["start_S"])
        final_S = np.array(kept["final_S"])
        numbers: dict[str, Any] = {
            "seeds": size,
            "final_S": final_S,
            "difference": None,
            "p_value": None,
            "verdict": "reference",
            "speed_up": {},
            "wasted": float(np.mean(kept["wasted_S"])),
            "pilot": float(np.mean(kept["pilot_S"])),
            "updates": float(np.mean(kept["updates_S"])),
            "cpu": float(np.sum(kept["cpu_s_S"]) / np.sum(reference["cpu_s_S"])),
        }
        if arm != REFERENCE:
            difference = paired_difference(final_S, reference["final_S"])
            numbers["difference"] = difference
            numbers["verdict"] = "told"
            if not is_told_true_rates(arm):
                numbers["verdict"] = harm_verdict(difference, entry["settings"]["margin"])
            if size >= seeds_needed():
                numbers["p_value"] = paired_p_value(final_S - np.array(reference["final_S"]))
            numbers["speed_up"] = _speed_ups(entry, kept, reference)
        found[arm] = numbers
    return found


def _speed_ups(entry: Entry, own: Entry, reference: Entry) -> dict[str, SpeedUp]:
    if level_of(entry).gain is None:
        return {}
    found = {}
    for axis in AXES:
        timed: list[Any] = []
        for row in (reference, own):
            at_S = row[f"{axis}_at_S"]
            size = len(own["final_S"])
            budget = [entry["settings"]["rollouts"]] * size
            end_S = budget if axis == "rollouts" else row[f"{axis}_S"]
            known = zip(at_S[:size], end_S[:size], strict=True)
            timed.append([end if at is None else at for at, end in known])
            timed.append(np.array([at is None for at in at_S[:size]]))
        found[axis] = speed_up(*timed, generator=np.random.default_rng(0))
    return found


def is_contender(arm: str) -> bool:
    """Whether an arm knows nothing that no ledger counts."""
    return not is_told_true_rates(arm)


def common_contenders(numbers: Mapping[Cell, Rows]) -> list[str]:
    """Contenders that every cell has, the reference among them, in the order of the league."""
    return [
        arm for arm in ARMS if is_contender(arm) and all(arm in cell for cell in numbers.values())
    ]


def survivors(cells: Mapping[Cell, Entry], numbers: Mapping[Cell, Rows]) -> dict[str, list[int]]:
    """How much is left of what contenders' tests say after Holm's correction for their number.

    A verdict is a one-sided paired t-test at 2.5 % of a mean difference of -margin, so the family of
    the *no harm* (and of the *harm*) verdicts is that of all contenders in all cells; likewise the
    two-sided tests of no difference from uniform, at 5 %.

    Returns
    -------
    dict
        ``no harm``, ``harm`` and ``different`` -> tests, those that say so alone, those that survive.
    """
    p_value: dict[str, list[float]] = {"no harm": [], "harm": [], "different": []}
    for cell, arms in numbers.items():
        margin = cells[cell]["settings"]["margin"]
        for arm, row in arms.items():
            if arm == REFERENCE or not is_contender(arm) or row["seeds"] < seeds_needed():
                continue
            gap_S = row["final_S"] - arms[REFERENCE]["final_S"]
            p_value["no harm"].append(paired_p_value(gap_S, at=-margin, alternative="greater"))
            p_value["harm"].append(paired_p_value(gap_S, at=-margin, alternative="less"))
            p_value["different"].append(row["p_value"])
    level = {"no harm": ONE_SIDED, "harm": ONE_SIDED, "different": 2 * ONE_SIDED}
    return {
        kind: [
            len(p),
            int((np.array(p) < level[kind]).sum()),
            int((holm(p) < level[kind]).sum()),
        ]
        for kind, p in p_value.items()
    }


def shares_of(entry: Entry, numbers: Rows) -> dict[str, OracleShare]:
    """Share of the best oracle's saving by each of our arms, where it saves any for certain."""
    if BEST not in numbers or not numbers[BEST]["speed_up"]:
        return {}
    if not numbers[BEST]["speed_up"]["rollouts"].low > 1.0:
        return {}
    size = numbers[REFERENCE]["seeds"]
    return shares_of_arms(
        {arm: entry["arms"][arm]["rollouts_at_S"][:size] for arm in numbers},
        reference=REFERENCE,
        best=BEST,
        arms=[arm for arm in OURS if arm in numbers],
    )
