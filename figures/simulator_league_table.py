"""The simulator's part of the league's page, in markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from cures.checks import fail
from figures.league_ranking import rank_lines
from figures.league_record import AXES, Entry
from figures.oracle_share import share_text
from figures.sim_folders import FRACTION
from figures.simulator_league import (
    ARMS,
    BEST,
    ESTIMATORS,
    EXCEPTIONS,
    POPULATIONS,
    Cell,
)
from figures.simulator_league_rows import (
    OURS,
    Rows,
    common_contenders,
    shares_of,
    survivors,
)
from figures.style import ESTIMATORS as ESTIMATOR_NAMES
from figures.style import POOLS as POOL_NAMES
from sim.settings import REFERENCE
from sim.wording import difference_text, p_text, speed_up_text

INTRODUCTION = """\
## In the simulator: every scheduler, {cells} of {all_cells} cells (population x estimator)

A simulated policy (chains of steps on shared skills, success rates in closed form), Adam at the
simulator's own learning rate, {batch} groups x {group} rollouts an update, {rollouts:,} generated
rollouts a run, pilots, screening and discarded ones included. {seeds} paired seeds: prompts, initial
policy, held-out set and the random numbers behind the answers are the same for all arms. Schedulers at
their own defaults{exceptions}.

- natural: 4,000 prompts whose success rates follow from shared skills. dead: 60 % never rewarded, 25 %
  always. coins: 20 % rewarded by coin flips. small: 256 natural prompts. Held-out ones can be learned.
- *minus uniform*: paired over seeds, held-out success at the end, 95 % (Student); p is that of the
  paired t-test. *Verdict*: no harm if the lower end lies above -{margin}, harm if the upper one lies
  below.
- *Speed-up*: uniform's over the arm's, medians over seeds, to {fraction:.0%} of uniform's mean gain on
  {dev_seeds} development seeds; bootstrap over seeds; isotonic curves on one grid per axis, spaced by
  the same share of uniform's whole run on each: rollouts, updates, tokens (steps that a chain tried).
  In parentheses: uniform's and the arm's seeds that never arrive within {rollouts:,} rollouts; few
  updates are then soon over, and the bound on that axis is a loose one.
- *told*: `oracle` and `staged` know true success rates that no ledger counts: no contenders, no verdict.
  `{best}` is the variant of the oracle (temperature x quota on or off; with coins also told what is
  learnable) that reached the level first on the development seeds; it alone is run on the others. `vip`
  has no features; `vip@skills` is told how often a prompt needs each skill, not how hard that is.
- *CPU*: of the whole simulated run, held-out success and other measurements included, over uniform's on
  the same machine.
"""


def rank_table(numbers: Mapping[Cell, Rows]) -> str:
    """Mean rank of the contenders that every cell has, and how their verdicts are spread.

    Returns
    -------
    str
        Markdown; empty with no contender beside the reference, or where cells differ in their seeds.
    """
    arms = common_contenders(numbers)
    if len({cell[REFERENCE]["seeds"] for cell in numbers.values()}) != 1 or len(arms) < 2:
        return ""
    lines = [
        f"### Ranks over {len(numbers)} cells",
        "",
        "By mean held-out success at the end, 1 is the highest; told arms left out. Intervals (95 %):",
        "10,000 redraws of the seeds, the same in all cells. *Behind the first*: level with it where",
        "the interval holds 0.",
        "",
        *rank_lines(
            arms,
            [[cell[arm]["final_S"] for arm in arms] for cell in numbers.values()],
            [[cell[arm]["verdict"] for arm in arms] for cell in numbers.values()],
        ),
    ]
    return "\n".join(lines) + "\n"


def corrected(cells: Mapping[Cell, Entry], numbers: Mapping[Cell, Rows]) -> str:
    """What survives Holm's correction, in words; empty below six seeds."""
    found = survivors(cells, numbers)
    tests = found["different"][0]
    if not tests:
        return ""
    left = {kind: f"{kept} of {alone}" for kind, (_, alone, kept) in found.items()}
    return (
        f"Verdicts and p-values are not corrected for their number. Holm's correction over all {tests}\n"
        f"comparisons of a contender with uniform leaves {left['no harm']} verdicts of no harm\n"
        f"(one-sided, 2.5 %), {left['harm']} of harm, and {left['different']} differences from uniform\n"
        "(two-sided, 5 %).\n"
    )


def oracle_table(cells: Mapping[Cell, Entry], numbers: Mapping[Cell, Rows]) -> str:
    """The best oracle of every cell, and how much of its saving ours reaches."""
    lines = [
        "### The best oracle, and how much of its saving `adaptive` reaches",
        "",
        f"Rollouts to {FRACTION:.0%} of uniform's gain. Share: (uniform's - ours) / (uniform's - the",
        "oracle's), medians over seeds, 95 % by redrawing seeds; where the interval of the oracle's",
        "speed-up lies above 1.",
        "",
        "| cell | chosen on development seeds | its speed-up | "
        + " | ".join(f"{arm}: speed-up | share" for arm in OURS)
        + " |",
        "|---" * (3 + 2 * len(OURS)) + "|",
    ]
    found = 0
    for cell, arms in numbers.items():
        if BEST not in arms:
            continue
        found += 1
        shares = shares_of(cells[cell], arms)
        shown = [cell.name, f"`{cells[cell]['oracles']['chosen']}`", _speed_up(arms[BEST])]
        for arm in OURS:
            shown += [_speed_up(arms.get(arm, {})), share_text(shares.get(arm))]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n" if found else ""


def _speed_up(row: Mapping[str, Any], axis: str = "rollouts") -> str:
    result = row.get("speed_up", {}).get(axis)
    return "" if result is None else speed_up_text(asdict(result))


def population_section(population: str, numbers: Mapping[Cell, Rows]) -> str:
    """One population: success at the end, speed-ups on three axes, costs; a column per estimator."""
    cells = {
        cell.estimator: arms for cell, arms in numbers.items() if cell.population == population
    }
    if not cells:
        return ""
    estimators = [e for e in ESTIMATORS if e in cells]
    arms = [arm for arm in (*ARMS, BEST) if any(arm in cells[e] for e in estimators)]
    names = [ESTIMATOR_NAMES[e] for e in estimators]
    parts = [f"### {POOL_NAMES.get(population, population)}, simulated", ""]
    finals = [
        f"{float(np.mean(cells[e][REFERENCE]['final_S'])):.3f} ({ESTIMATOR_NAMES[e]})"
        for e in estimators
    ]
    parts += [f"Uniform's held-out success at the end: {', '.join(finals)}. Minus uniform:", ""]
    others = [arm for arm in arms if arm != REFERENCE]
    parts += _table(
        ["arm", *names],
        [[arm, *(_final(cells[e].get(arm)) for e in estimators)] for arm in others],
    )
    for axis in AXES:
        parts += [f"Speed-up to {FRACTION:.0%}, in {axis}:", ""]
        parts += _table(
            ["arm", *names],
            [
                [arm, *(_speed_up(cells[e].get(arm, {}), axis) for e in estimators)]
                for arm in others
            ],
        )
    parts += [
        "Costs; from the least to the most over estimators where there is no column for each:",
        "",
    ]
    parts += _table(
        ["arm", *(f"wasted, {name}" for name in names), "pilots", "updates", "CPU / uniform's"],
        [[arm, *_costs([cells[e].get(arm) for e in estimators])] for arm in arms],
    )
    return "\n".join(parts)


def _table(head: list[str], body: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in body), ""]


def _final(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    difference = difference_text(asdict(row["difference"]))
    parts = (difference, p_text(row["p_value"], name="p"), row["verdict"])
    return ", ".join(part for part in parts if part)


def _costs(found: list[Mapping[str, Any] | None]) -> list[str]:
    there = [row for row in found if row is not None]
    wasted = ["" if row is None else f"{row['wasted']:.0%}" for row in found]
    pilots = span([row["pilot"] for row in there], ".0%")
    updates = span([row["updates"] for row in there], ".0f")
    return [*wasted, pilots, updates, span([row["cpu"] for row in there], ".1f")]


def span(values: list[float], form: str) -> str:
    """The least and the most, once where they read alike.

    Examples
    --------
    >>> span([0.101, 0.099], ".0%"), span([1.0, 2.5], ".1f")
    ('10%', '1.0 to 2.5')
    """
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def section(
    cells: Mapping[Cell, Entry],
    numbers: Mapping[Cell, Rows],
    picture: str = "../figures/simulator-league.png",
) -> str:
    """The simulator's part of the page; empty without a finished cell.

    Parameters
    ----------
    cells : mapping
        Entries of the cells.
    numbers : mapping
        Of these, from :func:`figures.simulator_league_rows.numbers_of`.
    picture : str
        Its path from the page.

    Raises
    ------
    ValueError
        If cells were made at different sizes.
    """
    if not numbers:
        return ""
    settings = [cells[cell]["settings"] for cell in numbers]
    for key in ("rollouts", "batch_size", "group_size", "dev_seeds", "margin"):
        if len({row[key] for row in settings}) > 1:
            fail("league", key, "the same in all cells", sorted({row[key] for row in settings}))
    commits = sorted({commit for cell in numbers for commit in cells[cell]["commits"]})
    exceptions = [
        f"`{arm}` on the {population} pool, whose {key} is {value}"
        for population, arms in EXCEPTIONS.items()
        for arm, options in arms.items()
        for key, value in options.items()
    ]
    parts = [
        INTRODUCTION.format(
            cells=len(numbers),
            all_cells=len(POPULATIONS) * len(ESTIMATORS),
            batch=settings[0]["batch_size"],
            group=settings[0]["group_size"],
            rollouts=settings[0]["rollouts"],
            seeds=span([arms[REFERENCE]["seeds"] for arms in numbers.values()], ".0f"),
            dev_seeds=settings[0]["dev_seeds"],
            margin=settings[0]["margin"],
            fraction=FRACTION,
            best=BEST,
            exceptions=f", but for {' and '.join(exceptions)}" if exceptions else "",
        ),
        f"Commits of the runs: {', '.join(f'`{commit}`' for commit in commits)}.\n",
        corrected(cells, numbers),
        f"![held-out success minus uniform's]({picture})\n",
        rank_table(numbers),
        oracle_table(cells, numbers),
        *(population_section(population, numbers) for population in POPULATIONS),
    ]
    return "\n".join(part for part in parts if part)
