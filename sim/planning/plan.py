"""Settings -> what every arm costs, as the dictionary that ``plan.json`` holds; and the files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cures.checks import FloatArray, InWords, fail
from cures.storage import atomic_write, write_json
from sim.planning.cost import TERMS, device_hours
from sim.planning.generation import devices_per_replica
from sim.planning.hardware import LEVELS
from sim.planning.measure import SAMPLE, Measured, Protocol, measure
from sim.planning.picture import draw_plan
from sim.planning.schedule import Run, run_of_rollouts, run_of_updates
from sim.planning.settings import PlanSettings
from sim.population_file import read_population
from sim.populations import NATURAL, POPULATIONS, make_population
from sim.run_folder import refuse_unwritable
from sim.settings import is_told_true_rates, split_arm

BASES = ("updates", "rollouts")
FILES = ("plan.csv", "plan.png", "plan.json")


def success_rates(population: str, size: int, seed: int) -> FloatArray:
    """Initial success rates of ``size`` prompts of a population, shape (size,).

    Beyond 2^17 prompts they repeat: no cost depends on more detail of the law than that.

    Raises
    ------
    ValueError
        If there is no such population or file, or the file is malformed (with its field).
    """
    if not population.endswith(".json") and population not in POPULATIONS:
        legal = f"one of {list(POPULATIONS)} or the path of a population file (.json)"
        fail("plan", "population", legal, population)
    law = read_population(population) if population.endswith(".json") else population
    policy = "skills" if population == NATURAL else "item_response"
    distinct = min(size, SAMPLE)
    built = make_population(law, policy, num_pool=distinct, num_held_out=1, seed=seed)
    return np.resize(built.success_rate(built.theta_D, np.arange(distinct)), size)


def make_plan(
    settings: PlanSettings, *, on_arm: Callable[[str], None] = lambda arm: None
) -> dict[str, Any]:
    """Measure every arm and price it, for equal updates and for equal rollouts.

    Parameters
    ----------
    settings : PlanSettings
    on_arm : callable
        Told every arm before it is measured.

    Returns
    -------
    dict
        What ``plan.json`` holds.
    """
    root = np.random.SeedSequence(settings.seed, spawn_key=(0,))
    population_seed = int(root.generate_state(1)[0])
    protocol = Protocol(
        num_prompts=settings.num_prompts,
        batch_size=settings.batch_size,
        budget=settings.budget,
        updates=settings.measured_updates,
        seed=settings.seed,
    )

    def rates_of(size: int) -> FloatArray:
        """Success rates of a pool of that size, the same for all arms that need it."""
        return success_rates(settings.population, size, population_seed)

    site = settings.site
    # the same replicas at all levels, chosen at the least memory; refuses before any work
    worst = settings.efficiencies[LEVELS[0]]
    per_replica = devices_per_replica(
        site.shape, site.accelerator, worst, site.workload, site.devices
    )
    measured = {}
    for arm in settings.arms:
        on_arm(arm)
        options = settings.options_of(arm)
        measured[arm] = measure(split_arm(arm)[0], options, protocol, rates_of)
    rollouts = settings.rollouts
    if rollouts is None:
        first = run_of_updates(measured[settings.arms[0]].rates, settings.updates)
        rollouts = round(first.total.generated)
    arms = {}
    for arm, what in measured.items():
        runs = {
            "updates": run_of_updates(what.rates, settings.updates),
            "rollouts": run_of_rollouts(what.rates, rollouts),
        }
        arms[arm] = {
            "told_true_rates": is_told_true_rates(arm),
            "measured": _measured_as_json(what),
            **{basis: _priced(run, what, settings, per_replica) for basis, run in runs.items()},
        }
    engines = {
        level: site.engine(efficiency, per_replica)
        for level, efficiency in settings.efficiencies.items()
    }
    return {
        "settings": settings.as_json(),
        "equal_rollouts": rollouts,
        "engine": {
            level: {
                "devices_per_replica": engine.per_replica,
                "replicas": engine.replicas,
                "sequences_that_fit": engine.room,
                "sequences_at_once": engine.batch(float(settings.budget)),
            }
            for level, engine in engines.items()
        },
        "training_state_fits": site.trainer(worst).has_room,
        "arms": arms,
    }


def _measured_as_json(what: Measured) -> dict[str, Any]:
    return {
        "per_update": asdict(what.rates.update),
        "standard_error_of_rollouts": what.error,
        "per_piloted_prompt": asdict(what.rates.pilot),
        "updates": what.updates,
        "prompts": what.prompts,
        "counters": what.counters,
    }


def _priced(run: Run, what: Measured, settings: PlanSettings, per_replica: int) -> dict[str, Any]:
    """One row: counts, tokens, device-hours by level and term."""
    total, workload = run.total, settings.site.workload
    hours = {
        level: device_hours(run, settings.site, settings.efficiencies[level], per_replica)
        for level in LEVELS
    }
    return {
        "updates": total.updates,
        "rollouts": total.generated,
        # of the rollouts at equal updates; at equal rollouts the updates are what is uncertain
        "relative_error": None
        if what.error is None
        else what.error * run.updates.updates / total.generated,
        "pilots": run.pilots.generated,
        "trained": total.trained,
        "mixed": total.mixed,
        "rounds": total.rounds,
        "tokens": {
            "generated": total.generated * workload.response_tokens,
            "prefilled": total.visits * workload.prompt_tokens,
            "trained": total.trained * workload.sequence_tokens,
        },
        "device_hours": {level: sum(terms.values()) for level, terms in hours.items()},
        "terms": hours,
        "verify_cpu_hours": total.generated * workload.verify_s / 3600.0,
    }


def check_folder(folder: Path) -> None:
    """Refuse a folder of something else, before anything is measured; nothing is touched.

    Raises
    ------
    ValueError
        If ``folder`` is a file, lies under one, or holds anything but :data:`FILES`.
    """
    refuse_unwritable("plan", "out", folder)
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    foreign = sorted(name for name in names if name not in FILES and not name.startswith("."))
    if foreign:
        legal = "empty or the folder of a plan, which is replaced"
        fail("plan", "out", legal, InWords(f"{folder} with {foreign[0]}"))


def write_plan(plan: dict[str, Any], folder: Path) -> None:
    """``plan.csv`` (a line per arm, basis and level), ``plan.png`` and, last, ``plan.json``.

    Each is written whole or not at all; an earlier ``plan.json`` goes first, so that there never is one
    beside the files of another plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").unlink(missing_ok=True)
    atomic_write(folder / "plan.csv", as_csv(plan).encode())
    draw_plan(plan, folder / "plan.png")
    write_json(folder / "plan.json", plan)


def as_csv(plan: dict[str, Any]) -> str:
    """The plan as a table with a header line."""
    counts = ("updates", "rollouts", "relative_error", "pilots", "trained", "mixed", "rounds")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    tokens = ("generated", "prefilled", "trained")
    table.writerow(
        ["equal", "arm", "level", *counts, *(f"tokens_{key}" for key in tokens), "device_hours"]
        + [f"hours_{term}" for term in TERMS]
        + ["verify_cpu_hours"]
    )
    for basis in BASES:
        for arm, entry in plan["arms"].items():
            row = entry[basis]
            for level in LEVELS:
                table.writerow(
                    [basis, arm, level, *(row[key] for key in counts)]
                    + [row["tokens"][key] for key in tokens]
                    + [row["device_hours"][level]]
                    + [row["terms"][level][term] for term in TERMS]
                    + [row["verify_cpu_hours"]]
                )
    return text.getvalue()
