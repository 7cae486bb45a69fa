"""From settings to a run folder: every check once, finished ones kept.

``config.json`` holds the settings; ``checks/FAMILY/NAME.json`` and ``.npz`` what came of a check and the
arrays behind its figure; ``validate.json`` everything at once. A check is kept when the command is
started again, as long as the source of ``cures``, ``theory`` and the policies is what it was: a verdict
on other code would say nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

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
SIMULATOR = ("item_response", "moments", "policy", "skills", "tabular")  # what is measured of sim
Row = dict[str, Any]


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
    numbers = {
        key: getattr(result, key)
        for key in ("value", "low", "high", "control", "measured", "expected")
    }
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
) -> Iterator[tuple[Row, bool]]:
    """Results in order, each with whether it had been there already."""
    source = source_of_truth()
    for family in families:
        folder = root / "checks" / family
        folder.mkdir(parents=True, exist_ok=True)
        for check in checks_of(family):
            path = folder / f"{check.name}.json"
            if path.exists():
                stored = read_json(path)
                if stored.get("source") == source:
                    yield stored["row"], True
                    continue
            result = check.run(setting_of(settings, family, check))
            row = row_of(family, check, result)
            save_state(path.with_suffix(".npz"), dict(result.arrays))
            write_json(path, {"source": source, "row": row})  # last: now the check is finished
            yield row, False


def arrays_of(root: Path, family: str, name: str) -> dict[str, Any]:
    """Arrays that a finished check left."""
    return dict(load_state(root / "checks" / family / f"{name}.npz"))


def validate(
    settings: ValidationSettings,
    families: Sequence[str],
    root: Path,
    *,
    on_check: Callable[[Row, bool], None] = lambda row, is_old: None,
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
        Told (row, whether it was finished before).

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
    summary: dict[str, Any] = {}
    for row, is_old in run_checks(settings, families, root):
        rows.append(row)
        random = sum(row["is_random"] for row in rows)
        summary = {
            **asdict(settings),
            "families": list(families),
            "passes": len(rows) == total and all(row["passes"] for row in rows),
            "is_complete": len(rows) == total,
            "false_alarm_per_random_check": FALSE_ALARM,
            "false_alarm_at_most": random * FALSE_ALARM,
            "checks": rows,
        }
        write_json(root / "validate.json", summary)
        on_check(row, is_old)
    return summary
