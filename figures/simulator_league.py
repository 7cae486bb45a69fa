"""``python -m figures league``, the simulator's half: every scheduler, by population and estimator.

Arms, populations, estimators and seeds are named here, before anything is run. A *cell* is a
population with an estimator; its runs lie in one run folder of :mod:`sim.compare`, whose settings name
every arm. Which of them are run is decided here:

- development seeds: uniform, which fixes the level to reach, and every variant of the oracle. The
  variant that gets there with the fewest rollouts is the cell's best oracle from then on;
- compared seeds: every scheduler at its own defaults, and that one variant.

A finished cell becomes one small file of ``docs/results/league/simulator`` and is never made again;
stopped, the same command goes on where it was. Of every run is kept what the table needs: success at
the end, when the level was reached on three axes, and what it cost.

Additional axis suffix: ``_S`` seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cures.checks import as_choice, as_int, fail
from cures.storage import read_json, write_json
from figures.league_record import Entry, Level, as_of, best_oracle, defaults, level_of, record
from figures.provenance import commit
from sim.compare import check_means, prepare
from sim.settings import HOST, REFERENCE, Settings, split_arm
from sim.task import ArmTask
from sim.workers import run_arms

BEST = "oracle@best"
POPULATIONS: dict[str, dict[str, Any]] = {
    "natural": {"population": "skills"},
    "dead": {"population": "dead"},
    "coins": {"population": "coins"},
    "small": {"population": "skills", "pool": 256},
}
ESTIMATORS = ("grpo", "rloo", "dr_grpo", "reinforce++")
# A scheduler as it is compared: its own defaults but for these options.
ARMS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "adaptive": {},
    "adaptive@moments": {"use_moments": True},
    "cures": {},
    "cures-released": {},
    "gvm": {},
    "speed": {},
    "dapo": {},
    "band": {},
    "mopps": {},
    "lilo": {},
    "knapsack": {},
    "greso": {},
    "vip": {},  # without features its prompts share nothing
    "vip@skills": {"features_N_D": HOST},
    "reinforce-ada": {},
    "staged": {},
    "oracle": {},
}
# Fifteen subsets of 256 prompts hold less than a batch, which it draws without replacement.
EXCEPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "small": {"cures-released": {"num_subsets": 4}},
}
TEMPERATURES = (0.05, 0.15, 0.5)
MOST_SEEDS = 32
# Of all randomness, and of no other command: nobody saw these seeds while settings were chosen.
ROOT_SEED = 60_316
SECONDS = 0.6  # of a run on one idle core of a small machine, for the estimate


@dataclass(frozen=True, slots=True)
class Size:
    """How large the runs are: rollouts of a run, compared seeds, development seeds."""

    rollouts: int = 60_000
    seeds: int = 16
    dev_seeds: int = 8


FULL = Size()


def oracles(population: str) -> dict[str, dict[str, Any]]:
    """Variants of the oracle among which a cell's best one is chosen -> their options.

    To be told what is learnable makes a difference with coins alone: a prompt that is always or never
    right has potential 0 and sigma 0 anyway.
    """
    is_told = (False, True) if population == "coins" else (False,)
    found = {}
    for temperature, quota, learnable in product(TEMPERATURES, (True, False), is_told):
        words = [f"t{round(100 * temperature):02d}"]
        words += ["even"] * (not quota) + ["learnable"] * learnable
        options = {"temperature": temperature, "quota": quota}
        found[f"oracle@{'-'.join(words)}"] = {
            **options,
            **({"learnable": True} if learnable else {}),
        }
    return found


@dataclass(frozen=True, slots=True)
class Cell:
    """A population with an estimator."""

    population: str
    estimator: str

    @property
    def name(self) -> str:
        """Of its run folder and of its file."""
        return f"{self.population}-{self.estimator}"

    def settings(self, size: Size) -> Settings:
        """Of the run folder, which knows every arm whether it is run or not."""
        arms = {**ARMS, **EXCEPTIONS.get(self.population, {}), **oracles(self.population)}
        return Settings(
            arms=tuple(arms),
            options={arm: options for arm, options in arms.items() if options},
            estimator=self.estimator,
            rollouts=size.rollouts,
            seeds=size.seeds,
            dev_seeds=size.dev_seeds,
            root_seed=ROOT_SEED,
            **POPULATIONS[self.population],
        )


def wanted(
    populations: Sequence[str] = tuple(POPULATIONS), estimators: Sequence[str] = ESTIMATORS
) -> list[Cell]:
    """Cells of these populations and estimators.

    Raises
    ------
    ValueError
        If one is not in the league.
    """
    for population in populations:
        as_choice("league", "--populations", population, tuple(POPULATIONS))
    for estimator in estimators:
        as_choice("league", "--estimators", estimator, ESTIMATORS)
    return [
        Cell(population, estimator) for population, estimator in product(populations, estimators)
    ]


class Book:
    """Finished cells, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, cell: Cell) -> Path:
        """Of a cell's entry."""
        return self.folder / f"{cell.name}.json"

    def entry(self, cell: Cell) -> Entry:
        """What there is of a cell; empty before its first run."""
        path = self.path(cell)
        return dict(read_json(path)) if path.exists() else {}

    def checked(self, cell: Cell, size: Size) -> Entry:
        """The same, if it is what these settings would make.

        Raises
        ------
        ValueError
            If it was made with other settings.
        """
        entry, settings = self.entry(cell), cell.settings(size)
        if entry:
            self._same(cell, "settings", entry["settings"], _common(settings))
        for arm, row in entry.get("arms", {}).items():
            now = settings.options.get(_variant(entry, arm), {})
            self._same(cell, f"options of {arm}", row["options"], now)
            own = as_of(row["defaults"], defaults(split_arm(arm)[0]))
            self._same(cell, f"defaults of {arm}", row["defaults"], own)
        return entry

    def _same(self, cell: Cell, what: str, stored: Any, now: Any) -> None:
        if stored != now:
            legal = f"{now} (remove the file to make the cell anew)"
            fail("league", f"{what} in {self.path(cell)}", legal, stored)

    def write(self, cell: Cell, entry: Entry) -> None:
        """Keep what there is of a cell."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path(cell), entry)

    def everything(self) -> dict[Cell, Entry]:
        """All cells of which there is an arm beside the reference's development runs."""
        entries = {cell: self.entry(cell) for cell in wanted()}
        return {cell: entry for cell, entry in entries.items() if entry.get("arms")}


def _common(settings: Settings) -> dict[str, Any]:
    """What all runs of a cell have alike; more seeds may follow."""
    own = ("arms", "options", "seeds")
    return {key: value for key, value in settings.as_json().items() if key not in own}


def _variant(entry: Entry, arm: str) -> str:
    """The arm of the run folder; the best oracle is known by its variant's name there."""
    return str(entry["oracles"]["chosen"]) if arm == BEST else arm


def development_tasks(cell: Cell, entry: Entry, arms: Sequence[str], size: Size) -> list[ArmTask]:
    """Missing runs on development seeds."""
    missing = [] if "development" in entry else [REFERENCE]
    if BEST in arms and "oracles" not in entry:
        missing += oracles(cell.population)
    return [ArmTask(arm, seed, True) for seed in range(size.dev_seeds) for arm in missing]


def compared_runs(entry: Entry, arms: Sequence[str], size: Size) -> list[tuple[str, int]]:
    """Missing (arm, seed), seed by seed, the reference among the arms."""
    there = {arm: len(row["final_S"]) for arm, row in entry.get("arms", {}).items()}
    return [
        (arm, seed)
        for seed in range(size.seeds)
        for arm in dict.fromkeys((REFERENCE, *arms))
        if seed >= there.get(arm, 0)
    ]


def count_missing(cells: Sequence[Cell], book: Book, arms: Sequence[str], size: Size) -> int:
    """Runs that are not there yet."""
    entries = {cell: book.checked(cell, size) for cell in cells}
    return sum(
        len(development_tasks(cell, entry, arms, size)) + len(compared_runs(entry, arms, size))
        for cell, entry in entries.items()
    )


def estimate(
    cells: Sequence[Cell], book: Book, arms: Sequence[str], size: Size = FULL, *, jobs: int
) -> str:
    """How much is missing, and how long it will take, in a sentence."""
    as_int("league", "--jobs", jobs, 1)
    count = count_missing(cells, book, arms, size)
    minutes = SECONDS * count * size.rollouts / FULL.rollouts / jobs / 60
    return (
        f"simulator: {count} runs are missing in {len(cells)} cells, about {minutes:.0f} minutes on "
        f"{jobs} cores; results go to {book.folder}"
    )


def check_arms(arms: Sequence[str]) -> None:
    """Refuse an arm that is not in the league."""
    for arm in arms:
        as_choice("league", "--arms", arm, (*ARMS, BEST))


def make(
    root: Path,
    book: Book,
    cells: Sequence[Cell],
    arms: Sequence[str] = (*ARMS, BEST),
    size: Size = FULL,
    *,
    jobs: int = 1,
    on_progress: Callable[[str, int], None] = lambda text, rollouts: None,
) -> None:
    """Make what is missing, and write each cell down as it ends.

    Parameters
    ----------
    root : Path
        Of the run folders.
    book : Book
    cells : sequence of Cell
    arms : sequence of str
        Of :data:`ARMS`, or :data:`BEST`; the reference is always made.
    size : Size
    jobs : int
        Worker processes, >= 1.
    on_progress : callable
        Told (where it is, rollouts generated by the missing runs since the start).

    Raises
    ------
    ValueError
        If a cell is written down with other settings, or its run folder holds others.
    """
    check_arms(arms)
    check_means(jobs, 0.0)
    as_int("league", "seeds", size.seeds, 1, MOST_SEEDS)
    done = 0

    def tell(label: str, text: str, rollouts: int) -> None:
        on_progress(f"{label}, {text}", done + rollouts)

    for number, cell in enumerate(cells, start=1):
        told = partial(tell, f"{cell.name} ({number} of {len(cells)})")
        done += _make_cell(root / cell.name, book, cell, arms, size, jobs, told)


def make_with_progress(
    root: Path,
    book: Book,
    cells: Sequence[Cell],
    arms: Sequence[str],
    size: Size,
    *,
    jobs: int,
    console: Console | None = None,
) -> None:
    """:func:`make` with a bar over all missing runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %, left"),
        TimeRemainingColumn(),
    )
    total = count_missing(cells, book, arms, size) * size.rollouts
    if not total:
        return
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("simulator", total=total)

        def on_progress(text: str, rollouts: int) -> None:
            progress.update(bar, description=text, completed=rollouts)

        make(root, book, cells, arms, size, jobs=jobs, on_progress=on_progress)


def _make_cell(
    folder: Path,
    book: Book,
    cell: Cell,
    arms: Sequence[str],
    size: Size,
    jobs: int,
    on_progress: Callable[[str, int], None],
) -> int:
    """Make what is missing of a cell; the rollouts that this took."""
    entry, settings = book.checked(cell, size), cell.settings(size)
    development = development_tasks(cell, entry, arms, size)
    runs = compared_runs(entry, arms, size)
    if not development and not runs:
        return 0
    prepare(settings, folder)
    commits = _stamp(folder)
    entry.setdefault("settings", _common(settings))
    entry["commits"] = sorted({*entry.get("commits", ()), *commits})
    if development:
        _run(settings, development, folder, jobs, on_progress)
        _add_development(entry, settings, folder, with_oracles=BEST in arms)
        book.write(cell, entry)
    before = len(development) * settings.rollouts
    tasks = [ArmTask(_variant(entry, arm), seed, False) for arm, seed in runs]
    _run(settings, tasks, folder, jobs, lambda text, n: on_progress(text, before + n))
    found = entry.setdefault("arms", {})
    for (arm, _), task in zip(runs, tasks, strict=True):
        options = settings.options.get(task.arm, {})
        start = {"options": options, "defaults": defaults(split_arm(arm)[0])}
        row = found.setdefault(arm, start)
        for key, value in record(settings, folder / task.folder, level_of(entry)).items():
            row.setdefault(key, []).append(value)
    entry["arms"] = {arm: found[arm] for arm in (*ARMS, BEST) if arm in found}
    book.write(cell, entry)
    return before + len(tasks) * settings.rollouts


def _run(
    settings: Settings,
    tasks: Sequence[ArmTask],
    folder: Path,
    jobs: int,
    on_progress: Callable[[str, int], None],
) -> None:
    """Run tasks, telling how many of them are finished and the rollouts of all."""
    if not tasks:
        return
    generated = [0] * len(tasks)

    def book(position: int, rollouts: int) -> None:
        generated[position] = rollouts
        finished = sum(n >= settings.rollouts for n in generated)
        on_progress(f"{finished}/{len(tasks)} runs", sum(generated))

    run_arms(settings, tasks, folder, jobs=jobs, checkpoint_every_s=5.0, on_progress=book)


def _stamp(folder: Path) -> list[str]:
    """Note the commit by which missing runs are made; all that ever made one of this folder."""
    path = folder / "made_by.json"
    made_by = read_json(path)["commits"] if path.exists() else []
    commits = list(dict.fromkeys([*made_by, commit()]))
    write_json(path, {"commits": commits})
    return commits


def _add_development(entry: Entry, settings: Settings, root: Path, *, with_oracles: bool) -> None:
    """Fix the level, and choose the best oracle where that has been run; once and for all."""

    def rows(arm: str, level: Level) -> list[dict[str, Any]]:
        folders = [root / ArmTask(arm, s, True).folder for s in range(settings.dev_seeds)]
        return [record(settings, folder, level) for folder in folders]

    if "development" not in entry:
        kept = ("start_S", "final_S", "updates_S", "tokens_S")
        found = rows(REFERENCE, Level(None, {}))
        entry["development"] = {key: [row[key] for row in found] for key in kept}
    if with_oracles and "oracles" not in entry:
        variants = {}
        for arm in settings.arms:
            if arm.startswith("oracle@"):
                found = rows(arm, level_of(entry))
                variants[arm] = {
                    "options": settings.options[arm],
                    **{key: [row[key] for row in found] for key in ("final_S", "rollouts_at_S")},
                }
        chosen = best_oracle(variants, settings.rollouts)
        entry["oracles"] = {"chosen": chosen, "variants": variants}


def arms_of(entry: Entry) -> Iterator[str]:
    """Arms that have every seed of the reference; the others are still being made."""
    seeds = len(entry["arms"].get(REFERENCE, {"final_S": []})["final_S"])
    for arm, row in entry["arms"].items():
        if seeds and len(row["final_S"]) >= seeds:
            yield arm
