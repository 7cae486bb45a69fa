"""Reading the folders that ``python -m train run`` leaves, and refusing to compare what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from cures.checks import fail
from cures.storage import read_json, read_jsonl

LOGS = ("metrics", "evaluation", "outcomes")
PARTS = ("rollout", "update")  # of a run's time


def read_fields(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """A JSON object with at least these fields.

    Raises
    ------
    ValueError
        If it is something else, or lacks one.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not value.keys() >= set(names):
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        fail("figures", str(path), f"an object with the fields {', '.join(names)}", found)
    return value


def read_run(folder: Path) -> dict[str, Any]:
    """Configuration, summary and logs of one finished run.

    Raises
    ------
    ValueError
        If the folder holds no finished run.
    """
    names = ("config.json", "summary.json", *(f"{log}.jsonl" for log in LOGS))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        fail("figures", "run folder", f"a finished training run with {missing[0]}", str(folder))
    return {
        "config": read_fields(folder / "config.json", ("scheduler", "run")),
        "summary": read_fields(folder / "summary.json", ("generated",)),
        **{log: read_jsonl(folder / f"{log}.jsonl") for log in LOGS},
    }


def scheduler_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a run's scheduler: those in ``[scheduler]``, over them those of ``[scheduler.NAME]``.

    Parameters
    ----------
    config : mapping
        ``config.json``; what ``train.scheduler_config.SchedulerConfig.resolved_options`` makes of it.

    Examples
    --------
    >>> options = {"quota": False, "cures": {"pilots": 4}, "gvm": {"pilots": 2}}
    >>> scheduler_options({"scheduler": {"name": "cures", "options": options}})
    {'quota': False, 'pilots': 4}
    """
    name, options = config["scheduler"]["name"], config["scheduler"].get("options", {})
    common = {key: value for key, value in options.items() if not isinstance(value, Mapping)}
    return {**common, **options.get(name, {})}


def cpu_clock(rows: Sequence[Mapping[str, Any]], parts: Sequence[str] = PARTS) -> list[float]:
    """CPU seconds so far of these parts of a run, row by row of ``timing.jsonl``.

    The clock that is written there starts anew when a run is resumed.

    Examples
    --------
    >>> clock = [1.0, 2.0, 0.5, 1.5]
    >>> cpu_clock([{"rollout_cpu_time_s": t, "update_cpu_time_s": t} for t in clock])
    [2.0, 4.0, 5.0, 7.0]
    """
    clock = [sum(row[f"{part}_cpu_time_s"] for part in parts) for row in rows]
    before, total = 0.0, []
    for earlier, now in pairwise([0.0, *clock]):
        before += earlier if now < earlier else 0.0
        total.append(before + now)
    return total


def by_arm(folders: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """Runs of a comparison: arm -> its runs by ascending seed; uniform first.

    Raises
    ------
    ValueError
        If arms have different seeds, or two runs differ in more than scheduler and seeds, or one arm
        mixes schedulers with different options.
    """
    arms: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        run = read_run(folder)
        arms.setdefault(run["config"]["scheduler"]["name"], []).append(run)
    first = next(iter(arms.values()))[0]
    for arm, runs in arms.items():
        runs.sort(key=lambda run: run["config"]["run"]["seed"])
        for run in runs:
            check_comparable(first["config"], run["config"], arm)
            _check_same(runs[0]["config"]["scheduler"], run["config"]["scheduler"], arm)
        seeds = [run["config"]["run"]["seed"] for run in runs]
        expected = sorted(run["config"]["run"]["seed"] for run in next(iter(arms.values())))
        if seeds != expected or len(set(seeds)) != len(seeds):
            fail(
                "figures", f"seeds of {arm}", f"{expected}, each once, as in the other arms", seeds
            )
    return dict(sorted(arms.items(), key=lambda item: (item[0] != "uniform", item[0])))


def check_comparable(expected: dict[str, Any], found: dict[str, Any], arm: str) -> None:
    """Refuse two runs whose configurations differ in more than scheduler and seeds.

    Raises
    ------
    ValueError
        Naming the section that differs.
    """
    _check_same(comparable(expected), comparable(found), arm)


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what may differ between runs of a comparison."""
    free = {"scheduler": None, "run": ("seed", "cache"), "warm_start": ("seed",)}
    result: dict[str, Any] = {}
    for section, values in config.items():
        names = free.get(section, ())
        if names is not None:
            result[section] = (
                {k: v for k, v in values.items() if k not in names} if names else values
            )
    return result


def _check_same(expected: dict[str, Any], found: dict[str, Any], arm: str) -> None:
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            fail("figures", f"{key} of {arm}", f"{expected.get(key)}, as elsewhere", found.get(key))
