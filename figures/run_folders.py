"""Reading the folders that ``python -m train run`` leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cures.checks import fail
from cures.storage import read_json, read_jsonl


def read_run(folder: Path) -> dict[str, Any]:
    """Configuration, summary and logs of one finished run.

    Raises
    ------
    ValueError
        If the folder holds no finished run.
    """
    missing = [n for n in ("config.json", "summary.json") if not (folder / n).is_file()]
    if missing:
        fail("figures", "run folder", f"a finished training run with {missing[0]}", str(folder))
    return {
        "folder": folder,
        "config": read_json(folder / "config.json"),
        "summary": read_json(folder / "summary.json"),
        "metrics": read_jsonl(folder / "metrics.jsonl"),
        "evaluation": read_jsonl(folder / "evaluation.jsonl"),
        "outcomes": read_jsonl(folder / "outcomes.jsonl"),
    }


def by_arm(folders: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """Runs grouped by scheduler name, each arm sorted by seed; uniform first."""
    arms: dict[str, list[dict[str, Any]]] = {}
    for run in sorted((read_run(f) for f in folders), key=lambda r: r["config"]["run"]["seed"]):
        arms.setdefault(run["config"]["scheduler"]["name"], []).append(run)
    return dict(sorted(arms.items(), key=lambda item: (item[0] != "uniform", item[0])))
