"""Launching ``python -m train run``: what a run is given, whether it is there, several at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cures.checks import as_int, fail
from cures.storage import read_json

Report = Callable[[str], None]


def say(text: str) -> None:
    """Print a line in one piece: several threads speak."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run.

    Attributes
    ----------
    config : str
        TOML file.
    scheduler : str
    settings : dict
        ``section.key`` -> value, over those of the file; with ``warm_start.seed`` and ``run.cache``.
    out : Path
        Run folder.
    """

    config: str
    scheduler: str
    settings: Mapping[str, Any]
    out: Path

    @property
    def warm_start(self) -> tuple[str, Any, Any]:
        """Runs with the same one share it: the first of them makes it."""
        return self.config, self.settings["run.cache"], self.settings["warm_start.seed"]

    def command(self) -> list[str]:
        """The command line."""
        sets = [f"{key}={json.dumps(value)}" for key, value in self.settings.items()]
        return [
            *(sys.executable, "-m", "train", "run", self.config, "--scheduler", self.scheduler),
            *(part for text in sets for part in ("--set", text)),
            *("--out", str(self.out)),
        ]

    def is_finished(self) -> bool:
        """Whether the folder holds this run, complete.

        Raises
        ------
        ValueError
            If it holds a finished run with other settings.
        """
        if not (self.out / "summary.json").is_file():
            return False
        stored = read_json(self.out / "config.json")
        for key, value in self._expected().items():
            found = _lookup(stored, key)
            if found != value:
                fail("figures", f"{key} of {self.out}", f"{value!r} (or remove the folder)", found)
        return True

    def _expected(self) -> dict[str, Any]:
        """Every setting that is given, by the file or over it, but for where caches lie."""
        with open(self.config, "rb") as file:
            given = dict(_flat(tomllib.load(file)))
        given |= {**self.settings, "scheduler.name": self.scheduler}
        del given["run.cache"]
        return given


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    """A setting of a resolved configuration, where the scheduler's own are below its ``options``."""
    names = key.split(".")
    if names[0] == "scheduler" and names[1] not in config["scheduler"]:
        names.insert(1, "options")
    value: Any = config
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def train_all(runs: Sequence[TrainingRun], jobs: int, *, report: Report = say) -> None:
    """Make, or go on with, the runs that are missing; finished ones are left alone.

    Parameters
    ----------
    runs : sequence of TrainingRun
    jobs : int
        Runs at a time, >= 1.
    report : callable
        Told of every run before it starts.

    Raises
    ------
    ValueError
        If a folder holds a finished run with other settings.
    subprocess.CalledProcessError
        If a run fails; those in progress end first, no other one starts.
    """
    as_int("figures", "--jobs", jobs, 1)
    missing = [run for run in runs if not run.is_finished()]
    makes_warm_start: dict[tuple[str, Any, Any], TrainingRun] = {}
    for run in missing:
        makes_warm_start.setdefault(run.warm_start, run)
    first = list(makes_warm_start.values())
    _side_by_side(first, jobs, report)
    _side_by_side([run for run in missing if run not in first], jobs, report)


def _side_by_side(runs: Sequence[TrainingRun], jobs: int, report: Report) -> None:
    def train(run: TrainingRun) -> None:
        report(f"{run.out}")
        done = subprocess.run(run.command(), capture_output=True, text=True)
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            raise subprocess.CalledProcessError(done.returncode, run.command())

    pool = ThreadPoolExecutor(jobs)
    try:
        for future in as_completed([pool.submit(train, run) for run in runs]):
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)
