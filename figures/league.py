"""``python -m figures league``: schedulers on the real tiny language model, on four pools.

Arms, pools and seeds are named here, before anything is run. Settings were looked at on development
seeds, on which uniform also fixes the target levels; the table is made of the others. The runs of a
pool and seed share their warm start, their held-out problems and everything but the scheduler.

A finished run becomes one small entry of ``docs/results/league/SERIES/POOL.json`` and is never made
again: stopped, the same command goes on where it was. A warm start made on another kind of processor, or
by other code, is another model (hundreds of steps amplify roundings), so runs are compared within a
series: those whose warm starts are the same. Every series has run folders, warm starts and a uniform of
its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

from cures.checks import as_choice, as_int, fail
from cures.ledger import shares
from cures.storage import read_json, read_jsonl, write_json
from figures import simulator_league
from figures.league_record import as_of, defaults
from figures.provenance import commit
from figures.run_folders import comparable, cpu_clock, read_run
from figures.simulator_league import BEST
from figures.training_runs import run_quietly, training_command
from figures.training_table import wasted
from sim.settings import REFERENCE

CONFIG = "configs/tiny_cpu.toml"
ROLLOUTS, EVERY = 119_808, 8192  # 117 updates of 1024
SEEDS = range(8)  # compared
DEV_SEEDS = range(100, 102)  # uniform: the levels; the oracle's variants: the best one
# So far, by the processors that made their warm starts, those of the first two with torch's Muon. Of a
# development seed of the oracles the first series counts that has it, so an order once chosen stays.
SERIES = ("xeon", "epyc", "zen3")
SECONDS = 75  # of a run on one core of a small machine, for the estimate
POOLS: dict[str, dict[str, Any]] = {
    "natural": {},
    "dead": {"task.dead_never": 0.6, "task.dead_always": 0.25},
    "coins": {"task.coins": 0.2},
    "small": {"task.pool_size": 256},
}


@dataclass(frozen=True, slots=True)
class Arm:
    """A scheduler as it is compared: its own defaults but for ``options``."""

    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)  # of other sections


VISITED = "oracle@visited"
MOMENTS = {"rollout.gradient_moments": True}
# Contenders; the oracle is there by its best variant (BEST).
ARMS: dict[str, Arm] = {
    "uniform": Arm("uniform"),
    "adaptive": Arm("adaptive"),
    "adaptive@moments": Arm("adaptive", {"use_moments": True}, MOMENTS),
    "cures": Arm("cures"),
    "mopps": Arm("mopps"),
    "knapsack": Arm("knapsack"),
    "speed": Arm("speed"),
    "dapo": Arm("dapo"),
    "gvm": Arm("gvm"),
    "cures-released": Arm("cures-released"),
    "greso": Arm("greso"),
    # Told the rates of visited prompts alone: what the price of looking leaves of the oracle's saving.
    VISITED: Arm("oracle", {"temperature": 0.15, "knows": "visited"}),
}
ONLY = {VISITED: ("dead",)}  # arms of some pools: where the oracle saves most
# Fifteen subsets of 256 prompts hold less than a batch, which it draws without replacement.
EXCEPTIONS = {("small", "cures-released"): Arm("cures-released", {"num_subsets": 1})}
AXES = ("updates", "tokens", "cpu")  # beside rollouts
Entries = dict[str, dict[str, Any]]  # of a pool and series: name of a run -> its entry


def oracles(pool: str) -> dict[str, Arm]:
    """The simulator's variants of the oracle, among which a pool's best one is chosen, too."""
    found = {}
    for name, options in simulator_league.oracles(pool).items():
        if options.get("learnable"):
            options = {**options, "learnable": "host"}
        found[name] = Arm("oracle", options)
    return found


def is_of(pool: str, arm: str) -> bool:
    """Whether an arm is run on a pool."""
    return pool in ONLY.get(arm, (pool,))


def arm_of(pool: str, name: str) -> Arm:
    """An arm as it runs on a pool."""
    return EXCEPTIONS.get((pool, name)) or {**ARMS, **oracles(pool)}[name]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the league."""

    pool: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm}-seed{self.seed}"

    def settings(self, rollouts: int) -> dict[str, Any]:
        """``section.key`` of the configuration -> value."""
        arm = arm_of(self.pool, self.arm)
        return {
            **POOLS[self.pool],
            **arm.settings,
            **{f"scheduler.{arm.scheduler}.{key}": value for key, value in arm.options.items()},
            "run.rollouts": rollouts,
            "evaluation.every": EVERY,
            "run.seed": self.seed,
            "warm_start.seed": self.seed,
        }

    @property
    def defaults(self) -> dict[str, Any]:
        """Of its scheduler: what ``settings`` leave as it is."""
        return defaults(arm_of(self.pool, self.arm).scheduler)

    def command(self, root: Path, rollouts: int, config: str) -> list[str]:
        """The training run as a command line."""
        settings = {**self.settings(rollouts), "run.cache": f"{root}/warm_start"}
        return training_command(
            config, arm_of(self.pool, self.arm).scheduler, self.folder(root), settings
        )

    def folder(self, root: Path) -> Path:
        """Where it is made."""
        return root / self.pool / self.name


def wanted(
    pools: Sequence[str],
    arms: Sequence[str],
    seeds: Sequence[int],
    *,
    done: Collection[tuple[str, int]] = (),
) -> list[Run]:
    """All runs, seed by seed, those on development seeds first; without the best oracle's own.

    Parameters
    ----------
    pools, arms : sequence of str
    seeds : sequence of int
    done : collection of (pool, seed)
        Development seeds on which some series has the oracle's variants: they are not run in another.

    Raises
    ------
    ValueError
        If a pool or an arm is unknown, or a seed is not of the league.
    """
    for pool in pools:
        as_choice("league", "--pools", pool, tuple(POOLS))
    for arm in arms:
        as_choice("league", "--arms", arm, (*ARMS, BEST))
    for seed in seeds:
        if seed not in SEEDS:
            fail("league", "--seeds", f"of {list(SEEDS)}", seed)
    runs = []
    for seed, pool in product(DEV_SEEDS, pools):
        is_due = BEST in arms and (pool, seed) not in done
        names = [REFERENCE, *(oracles(pool) if is_due else ())]
        runs += [Run(pool, name, seed) for name in names]
    for seed, pool in product(seeds, pools):
        runs += [Run(pool, arm, seed) for arm in arms if arm != BEST and is_of(pool, arm)]
    return runs


def of_pool(by_series: Mapping[str, Mapping[str, Entries]], pool: str) -> dict[str, Entries]:
    """Series -> its entries of a pool."""
    return {name: pools.get(pool, {}) for name, pools in by_series.items()}


def read_all(entries: Path) -> dict[str, dict[str, Entries]]:
    """Series -> pool -> entries: all that is kept."""
    return {
        name: {pool: Book(entries / name).entries(pool) for pool in POOLS}
        for name in all_series(entries)
    }


def all_series(entries: Path) -> list[str]:
    """Names of the series of which entries are kept, those of :data:`SERIES` first."""
    found = {path.parent.name for pool in POOLS for path in entries.glob(f"*/{pool}.json")}
    return [*(name for name in SERIES if name in found), *sorted(found - set(SERIES))]


def checked_series(name: str) -> str:
    """A series' name, which is that of a folder.

    Raises
    ------
    ValueError
        If it is no such name, or that of the simulator's entries.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name) or name == "simulator":
        legal = "a name of small letters, digits, '_', '.' and '-', other than 'simulator'"
        fail("league", "--series", legal, name)
    return name


class Book:
    """Finished runs of a series, one JSON file for each pool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = Lock()

    def path(self, pool: str) -> Path:
        """Of a pool's entries."""
        return self.folder / f"{pool}.json"

    def entries(self, pool: str) -> Entries:
        """Name of a run -> its entry."""
        path = self.path(pool)
        return read_json(path) if path.exists() else {}

    def has(self, run: Run, rollouts: int) -> bool:
        """Whether this run is there.

        Raises
        ------
        ValueError
            If it is there with other settings.
        """
        entry = self.entries(run.pool).get(run.name)
        if entry is None:
            return False
        now = {
            "settings": run.settings(rollouts),
            "defaults": as_of(entry["defaults"], run.defaults),
        }
        then = {key: entry[key] for key in now}
        if then != now:
            legal = f"made with {now} (remove the entry to make it anew)"
            fail("league", f"{run.name} in {self.path(run.pool)}", legal, then)
        return True

    def add(self, run: Run, entry: dict[str, Any]) -> None:
        """Write a finished run down.

        Raises
        ------
        ValueError
            If its warm start is not that of the other runs of its pool and seed.
        """
        with self._lock:
            entries = {**self.entries(run.pool), run.name: entry}
            check_starts(entries)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.path(run.pool), dict(sorted(entries.items())))


def check_starts(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse runs of a pool and seed that begin with another held-out success than the first of them.

    Another model nearly always has another one; that it may have the same by chance is why a series
    has folders of its own.

    Raises
    ------
    ValueError
    """
    starts: dict[int, float] = {}
    for name, entry in entries.items():
        found = entry["held_out_E"][0]
        start = starts.setdefault(entry["seed"], found)
        if found != start:
            legal = (
                f"{start}, that of the other runs of the seed (another kind of processor, or other "
                "code, makes another warm start: begin a series of its own, --series NAME)"
            )
            fail("league", f"start of {name}", legal, found)


def entry_of(run: Run, rollouts: int, folder: Path) -> dict[str, Any]:
    """What is kept of a finished run.

    A run ends where what is left of its rollouts is no group, one short of them at most: its last
    point stands for the budget.
    """
    found = read_run(folder)
    summary = found["summary"]
    row = shares(summary["ledger"])
    grid_E = [point["generated"] for point in found["evaluation"]]
    if grid_E[-1] < rollouts - 1:
        fail("league", f"rollouts of {run.name}", f"{rollouts}, or one less", grid_E[-1])
    return {
        "arm": run.arm,
        "seed": run.seed,
        "settings": run.settings(rollouts),
        "defaults": run.defaults,
        "generated_E": [*grid_E[:-1], rollouts],
        "held_out_E": [round(point["held_out"], 6) for point in found["evaluation"]],
        **axes_of(found, folder),
        "updates": summary["updates"],
        "tokens": summary["ledger"]["tokens"],
        "pilot": round(row["pilot"], 6),
        "trained": round(row["trained"], 6),
        "wasted": round(wasted(found), 6),
        "cpu_s": round(cpu_clock(read_jsonl(folder / "timing.jsonl"))[-1], 1),
        "same": fingerprint(found["config"]),
    }


def axes_of(found: Mapping[str, Any], folder: Path) -> dict[str, list[Any]]:
    """Updates, tokens and CPU seconds (of rollouts and updates) behind every evaluation."""
    step_E = [point["step"] for point in found["evaluation"]]
    timing = read_jsonl(folder / "timing.jsonl")
    cpu = {0: 0.0} | {row["step"]: s for row, s in zip(timing, cpu_clock(timing), strict=True)}
    tokens = {0: 0} | {row["step"]: row["tokens"] for row in read_jsonl(folder / "metrics.jsonl")}
    return {
        "updates_E": step_E,
        "tokens_E": [tokens[step] for step in step_E],
        "cpu_E": [round(cpu[step], 1) for step in step_E],
    }


def fingerprint(config: dict[str, Any]) -> str:
    """Of what all runs of a pool have in common, the configuration file included."""
    common = comparable(config)
    common.pop("moments", None)  # these two are what arms are told, not what they learn from
    common["rollout"] = {
        k: v for k, v in config.get("rollout", {}).items() if k != "gradient_moments"
    }
    size = {k: config["scheduler"].get(k) for k in ("batch_size", "budget")}
    text = json.dumps([common, size], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def missing_of(book: Book, runs: Sequence[Run], rollouts: int = ROLLOUTS) -> list[Run]:
    """Runs that are not written down yet.

    Raises
    ------
    ValueError
        If a run is written down with other settings.
    """
    return [run for run in runs if not book.has(run, rollouts)]


def estimate(book: Book, runs: Sequence[Run], *, jobs: int, rollouts: int = ROLLOUTS) -> str:
    """How much is missing, and how long it will take, in a sentence."""
    as_int("league", "--jobs", jobs, 1)
    missing = missing_of(book, runs, rollouts)
    seconds = SECONDS * len(missing) * rollouts / ROLLOUTS / jobs
    return (
        f"{len(missing)} of {len(runs)} runs are missing, about {seconds / 60:.0f} minutes on {jobs} "
        f"cores; results go to {book.folder}"
    )


def make(
    root: Path,
    book: Book,
    runs: Sequence[Run],
    *,
    jobs: int,
    rollouts: int = ROLLOUTS,
    config: str = CONFIG,
    report: Callable[[str], None] = print,
) -> None:
    """Make the runs that are missing, and write each down as it ends.

    Parameters
    ----------
    root : Path
        Of the run folders, warm starts included.
    book : Book
    runs : sequence of Run
    jobs : int
        Runs at a time.
    rollouts : int
        Of a run.
    config : str
        TOML file of all of them.
    report : callable
        Told how long it will take, and of every run.

    Raises
    ------
    ValueError
        If a run is written down with other settings, or has another warm start than its series.
    subprocess.CalledProcessError
        If a run failed; the others were made.
    """
    report(estimate(book, runs, jobs=jobs, rollouts=rollouts))
    missing = missing_of(book, runs, rollouts)

    def train(run: Run) -> subprocess.CalledProcessError | None:
        report(f"{run.pool}: {run.name}")
        code = commit()  # before: a checkout may move on while a run is made
        try:
            run_quietly(run.command(root, rollouts, config))
        except subprocess.CalledProcessError as error:
            return error
        book.add(run, {**entry_of(run, rollouts, run.folder(root)), "commit": code})
        return None

    with ThreadPoolExecutor(jobs) as pool:
        failed = [error for error in pool.map(train, missing) if error is not None]
    if failed:
        raise failed[0]
