"""From settings to a run folder: every check once, finished ones kept.

``config.json`` holds the settings; ``checks/FAMILY/NAME.json`` and ``.npz`` what came of a check and the
arrays behind its figure; ``validate.json`` everything at once. A check is kept when the command is
started again, as long as the source of ``cures``, ``theory`` and the policies is what it was: a verdict
on other code would say nothing. One whose files are damaged is run again, and ``validate.json`` names
it: they are a cache, not data. Damaged settings are refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import numpy as np

import cures
import theory
from cures.checks import as_choice, as_int, fail
from cures.storage import load_state, read_json, save_state, write_json
from sim.run_folder import refuse_foreign
from sim.validation import FAMILIES
from sim.validation.check import FALSE_ALARM, Check, Result, Setting

FORMAT = "cures-validation-1"
DRAWS, QUICK, FEWEST = 500_000, 50_000, 20_000
MOST = 10**9
# what is measured of sim
SIMULATOR = ("item_response", "moments", "policy", "ratio", "skills", "tabular")
Row = dict[str, Any]
NUMBERS = ("value", "low", "high", "control", "measured", "expected")
ROW: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("family", "name", "what", "statistic", "where", "control_is"), str),
    **dict.fromkeys(("is_random", "is_control_rejected", "passes"), bool),
    **dict.fromkeys(NUMBERS, (int, float, NoneType)),
    "claims": list,
}
"""Keys of a row, and what JSON makes of their values."""
Origin = Literal["new", "kept", "damaged"]
"""Of a result: computed; found; computed because what was found is damaged, and a cache is no data."""


@dataclass(frozen=True, slots=True)
class ValidationSettings:
    """What decides the numbers of a validation.

    Attributes
    ----------
    seed : int
        Root of all randomness, >= 0.
    draws : int
        Rollouts or prompts that a random check may draw, about; at least 20,000, below which counts
        are too small for the bands.
    """

    seed: int = 0
    draws: int = DRAWS

    def __post_init__(self) -> None:
        as_int("validate", "seed", self.seed, 0)
        as_int("validate", "draws", self.draws, FEWEST, MOST)


def checks_of(family: str) -> tuple[Check, ...]:
    """The checks of a family."""
    as_choice("validate", "only", family, tuple(FAMILIES))
    checks: tuple[Check, ...] = import_module(f"sim.validation.{family}").CHECKS
    return checks


def setting_of(settings: ValidationSettings, family: str, check: Check) -> Setting:
    """Draws and generator of one check; its numbers do not depend on which others run."""
    key = tuple(f"{family}/{check.name}".encode())
    seed = np.random.SeedSequence(settings.seed, spawn_key=key)
    return Setting(settings.draws, np.random.default_rng(seed), settings.seed)


def source_of_truth() -> str:
    """Digest of the source that a verdict is about."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    folders = Path(cures.__file__).parent, Path(theory.__file__).parent, here
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    for path in [*files, *(here.parent / f"{name}.py" for name in SIMULATOR)]:
        digest.update(f"{path.parent.name}/{path.name}".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def row_of(family: str, check: Check, result: Result) -> Row:
    """A finished check as JSON."""
    numbers = {key: getattr(result, key) for key in NUMBERS}
    return {
        "family": family,
        "name": check.name,
        "claims": list(check.claims),
        "what": check.what,
        "is_random": check.is_random,
        "statistic": result.statistic,
        # JSON has no NaN; a statistic that is none is a failure all the same
        **{key: x if math.isfinite(x) else None for key, x in numbers.items()},
        "where": result.where,
        "control_is": check.control,
        "is_control_rejected": result.is_control_rejected,
        "passes": result.holds,
    }


def prepare(settings: ValidationSettings, root: Path) -> None:
    """Claim the run folder.

    Raises
    ------
    ValueError
        If it holds something else, or a validation with other settings.
    """
    wanted = {"format": FORMAT, **asdict(settings)}
    what = "a folder of a validation"
    refuse_foreign("validate", "out", root, marker="config.json", what=what)
    path = root / "config.json"
    if path.exists():
        stored = read_json(path)
        if stored != wanted:
            fail("validate", "out", f"a new folder or one of {wanted}", stored)
        return
    root.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)


def run_checks(
    settings: ValidationSettings, families: Sequence[str], root: Path
) -> Iterator[tuple[Row, Origin]]:
    """Results in order, each with where it comes from."""
    source = source_of_truth()
    for family in families:
        folder = root / "checks" / family
        folder.mkdir(parents=True, exist_ok=True)
        for check in checks_of(family):
            path = folder / f"{check.name}.json"
            row, origin = _found(path, source)
            if row is None:
                result = check.run(setting_of(settings, family, check))
                row = row_of(family, check, result)
                save_state(path.with_suffix(".npz"), dict(result.arrays))
                write_json(path, {"source": source, "row": row})  # last: now the check is finished
            yield row, origin


def _found(path: Path, source: str) -> tuple[Row | None, Origin]:
    """What a check left, if it is of this source and whole; else why it has to be done (again)."""
    if not path.exists():
        return None, "new"
    try:
        stored = read_json(path)
        if not isinstance(stored, dict) or not isinstance(stored.get("source"), str):
            return None, "damaged"
        if stored["source"] != source:
            return None, "new"
        load_state(path.with_suffix(".npz"))
    except (ValueError, OSError, RuntimeError):  # the last: a zip file of an impossible kind
        return None, "damaged"
    row = stored.get("row")
    if not isinstance(row, dict) or row.keys() != ROW.keys():
        return None, "damaged"
    if not all(isinstance(row[key], kind) for key, kind in ROW.items()):
        return None, "damaged"
    is_here = f"{row['family']}/{row['name']}" == f"{path.parent.name}/{path.stem}"
    return (row, "kept") if is_here else (None, "damaged")


def arrays_of(root: Path, family: str, name: str) -> dict[str, Any]:
    """Arrays that a finished check left."""
    return dict(load_state(root / "checks" / family / f"{name}.npz"))


def validate(
    settings: ValidationSettings,
    families: Sequence[str],
    root: Path,
    *,
    on_check: Callable[[Row, Origin], None] = lambda row, origin: None,
) -> dict[str, Any]:
    """Run what is missing, and write ``validate.json`` after every check.

    Parameters
    ----------
    settings : ValidationSettings
    families : sequence of str
        Keys of :data:`sim.validation.FAMILIES`.
    root : Path
        Run folder.
    on_check : callable
        Told (row, where it comes from).

    Returns
    -------
    dict
        The content of ``validate.json``.

    Raises
    ------
    ValueError
        If a family is unknown or the folder holds something else.
    """
    total = sum(len(checks_of(family)) for family in families)
    prepare(settings, root)
    rows: list[Row] = []
    damaged: list[str] = []
    summary: dict[str, Any] = {}
    for row, origin in run_checks(settings, families, root):
        rows.append(row)
        if origin == "damaged":
            damaged.append(f"{row['family']}/{row['name']}")
        random = sum(row["is_random"] for row in rows)
        summary = {
            **asdict(settings),
            "families": list(families),
            "passes": len(rows) == total and all(row["passes"] for row in rows),
            "is_complete": len(rows) == total,
            "false_alarm_per_random_check": FALSE_ALARM,
            "false_alarm_at_most": random * FALSE_ALARM,
            "damaged": damaged,
            "checks": rows,
        }
        write_json(root / "validate.json", summary)
        on_check(row, origin)
    return summary
