"""Where a figure or a page comes from: commit (in the words of git), machine, the runs behind it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from cures.storage import read_json

CPUINFO = Path("/proc/cpuinfo")  # of Linux
NOISY = "Machines are noisy: the ratios travel, the times do not."
EXACT = "No number here depends on the machine's speed."


def provenance(command: str, *about: str, made_at: str | None = None, speed: str = NOISY) -> str:
    """Where a page comes from, two lines of markdown.

    Parameters
    ----------
    command : str
        That makes the page.
    about : str
        What else the numbers depend on, such as versions of libraries.
    made_at : str, optional
        Commit that made the runs behind the page; None: the numbers are made now, by this one.
    speed : str
        What the machine's speed means for the numbers: :data:`NOISY`, :data:`EXACT`, or other words.
    """
    machine = f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return (
        f"Command: `{command}`. Commit: `{made_at or commit()}`.\n"
        f"Machine: {machine}{'; ' if about else ''}{', '.join(about)}. {speed}"
    )


def _processor() -> str:
    """Its model, or its architecture where the system does not say."""
    for line in CPUINFO.read_text().splitlines() if CPUINFO.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit(where: Path = Path(__file__).parent) -> str:
    """Short commit of a checkout, ``-dirty`` with local changes, ``unknown`` outside of git.

    Changes below ``docs/`` do not count: they make no number, and drawing the first figure of many
    is one.
    """

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=where, capture_output=True, text=True)

    short = git("describe", "--always", "--exclude", "*").stdout.strip()
    is_clean = git("diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)docs").returncode == 0
    return f"{short}{'' if is_clean else '-dirty'}" if short else "unknown"


def runs_record(folders: list[Path]) -> dict[str, Any]:
    """Settings that all runs have alike, once; per run its folder, its commit and its own settings.

    A folder without settings of its own is a folder of runs.
    """
    folders = [run for folder in folders for run in _runs_of(folder)]
    configs = [_shortened(read_json(folder / "config.json")) for folder in folders]
    common = shared(configs)
    runs = [
        {**_origin(folder), "own_settings": _without(config, common)}
        for folder, config in zip(folders, configs, strict=True)
    ]
    return {"settings": common, "runs": runs}


def _runs_of(folder: Path) -> list[Path]:
    if (folder / "config.json").exists():
        return [folder]
    return sorted(path for path in folder.iterdir() if (path / "config.json").exists())


def _origin(folder: Path) -> dict[str, str]:
    """Folder of a run, and the commit that made it."""
    records = [parent / "made_by.json" for parent in (folder.parent, folder.parent.parent)]
    made_by = next((record for record in records if record.exists()), None)
    made_at = {} if made_by is None else read_json(made_by)
    return {
        "folder": folder.as_posix(),
        "made_at": made_at.get(folder.name, made_at.get("commit", "unknown")),
    }


def shared(configs: list[dict[str, Any]]) -> dict[str, Any]:
    """Settings that all runs have alike, section by section.

    Examples
    --------
    >>> shared([{"a": 1, "s": {"b": 2, "c": 3}}, {"a": 1, "s": {"b": 2, "c": 4}}])
    {'a': 1, 's': {'b': 2}}
    >>> shared([])
    {}
    """
    common: dict[str, Any] = {}
    for key, value in (configs[0] if configs else {}).items():
        values = [config.get(key) for config in configs]
        if all(other == value for other in values):
            common[key] = value
        elif all(isinstance(other, dict) for other in values) and (inner := shared(values)):
            common[key] = inner
    return common


def _without(config: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """What is left of a run's settings: its own."""
    own: dict[str, Any] = {}
    for key, value in config.items():
        if key not in common:
            own[key] = value
        elif value != common[key]:
            own[key] = _without(value, common[key])
    return own


def _shortened(value: Any) -> Any:
    """Settings with long lists by their length, and without where a machine keeps its caches."""
    if isinstance(value, dict):
        return {key: _shortened(part) for key, part in value.items() if key != "cache"}
    if isinstance(value, list) and len(value) > 64:
        return f"list of {len(value)}"
    return value
