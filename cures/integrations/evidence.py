"""What a run leaves beside its trainer's files: evidence as it comes, the state in every checkpoint."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cures.checks import as_int, fail
from cures.records import Plan
from cures.storage import JsonlLog, State, load_state, save_state

STATE_FILE = "cures.npz"  # in a checkpoint's folder
OUTCOMES = "outcomes"  # {"prompt", "step", "success", "trial", "is_pilot"}
SHADOW_PLANS = "shadow_plans"  # {"step", "plan_id", "prompts", "quotas", "is_pilot"}
FILES = (OUTCOMES, SHADOW_PLANS)


class RunFiles:
    """``outcomes.jsonl`` and, of a shadow, ``shadow_plans.jsonl`` in the output folder.

    Parameters
    ----------
    folder : Path
    names : iterable of str
    is_writer : bool
        Whether this process writes; the others keep nothing.
    """

    def __init__(self, folder: Path, names: Iterable[str], *, is_writer: bool) -> None:
        self._folder = folder
        self._names = tuple(names)
        self._is_writer = is_writer
        self._logs: dict[str, JsonlLog] = {}
        self._is_begun = False

    def open(self, positions: Mapping[str, int] | None = None) -> None:
        """Go on after so many bytes of each file.

        None: at the end. The first time this is a run of its own; what an earlier one has left is kept
        beside, under a name that is logged.
        """
        if self._is_writer:
            self._folder.mkdir(parents=True, exist_ok=True)
            if positions is None and not self._is_begun:
                self._set_aside()
            for name in self._names:
                self._logs[name] = log = JsonlLog(self._path(name))
                if positions is not None:
                    log.truncate(positions[name])
        self._is_begun = True

    def _path(self, name: str, number: int | None = None) -> Path:
        middle = "" if number is None else f".{number}"
        return self._folder / f"{name}{middle}.jsonl"

    def _set_aside(self) -> None:
        """Give the files of an earlier run that are not empty the first number that none of them has."""
        old = [
            path for name in FILES if (path := self._path(name)).exists() and path.stat().st_size
        ]
        number = next(
            k for k in itertools.count(1) if not any(self._path(n, k).exists() for n in FILES)
        )
        for path in old:
            kept = self._path(path.stem, number)
            path.rename(kept)
            logging.getLogger(__name__).warning("%s of an earlier run is kept as %s", path, kept)

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add lines; they are on disk when this returns."""
        if self._is_writer:
            for row in rows:
                self._logs[name].append(row)
            self._logs[name].flush()

    def positions(self) -> dict[str, int]:
        """Bytes of each file, now on disk."""
        return {name: self._logs[name].position if self._logs else 0 for name in self._names}

    def close(self) -> None:
        """Put every line on disk."""
        for log in self._logs.values():
            log.close()
        self._logs = {}


def plan_row(plan: Plan, step: int) -> dict[str, Any]:
    """A line of ``shadow_plans.jsonl``."""
    return {
        "step": step,
        "plan_id": plan.plan_id,
        "prompts": plan.prompt_B.tolist(),
        "quotas": plan.quota_B.tolist(),
        "is_pilot": plan.is_pilot_B.tolist(),
    }


def save(
    checkpoint: Path, positions: Mapping[str, int], content: State, *, is_shadow: bool
) -> None:
    """Write the state of an adapter into a checkpoint's folder, which may not be there yet."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    bytes_of = {f"bytes/{name}": position for name, position in positions.items()}
    state: State = {"is_shadow": int(is_shadow), **bytes_of, **content}
    save_state(checkpoint / STATE_FILE, state)


def load(
    checkpoint: Path, names: Iterable[str], *, is_shadow: bool, where: str, parameter: str
) -> tuple[dict[str, int], State]:
    """Positions and content that :func:`save` was given.

    Parameters
    ----------
    checkpoint : Path
    names : iterable of str
        Of the files.
    is_shadow : bool
    where, parameter : str
        Who asks, and what was given to it.

    Raises
    ------
    ValueError
        If the checkpoint has no such state, or one of the other mode.
    """
    if not (checkpoint / STATE_FILE).is_file():
        legal = f"a checkpoint with {STATE_FILE}, which {where} writes"
        fail(where, parameter, legal, str(checkpoint))
    state = load_state(checkpoint / STATE_FILE)
    if state.pop("is_shadow", None) != int(is_shadow):
        fail(where, parameter, f"a checkpoint of a run with shadow={is_shadow}", str(checkpoint))
    positions = {
        name: as_int(where, f"bytes/{name}", state.pop(f"bytes/{name}", None), 0) for name in names
    }
    return positions, state
