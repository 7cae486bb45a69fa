"""Checkpoints that a SIGKILL at any moment leaves intact, and nothing pickled in them.

A checkpoint is a numbered folder, filled under another name, put on disk and renamed; a pointer file
is then replaced in one step. Until the pointer changes, the previous checkpoint is the one that counts.
It also holds the lengths of the logs, so that lines written after it are cut off on resume::

    checkpoint/latest.json          {"folder": "00000012"}
    checkpoint/00000012/host.safetensors    weights, optimiser, waiting rollouts
    checkpoint/00000012/scheduler.npz       state of the scheduler
    checkpoint/00000012/position.json       counts and log lengths
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cures.checks import as_int, fail
from cures.storage import State, load_state, read_json, save_state, write_json

FORMAT = 1  # raise when a file's meaning changes
KEPT = 2  # the current checkpoint and the one before


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands."""

    updates: int
    generated: int
    log_bytes: dict[str, int]  # length of each log at this moment


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a run needs to go on."""

    position: Position
    host_tensors: dict[str, Tensor]
    scheduler_state: State


def save(root: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under ``root`` and make it the latest one."""
    root.mkdir(parents=True, exist_ok=True)
    name = _name(checkpoint.position)
    partial = root / f".partial-{name}"
    for leftover in root.glob(".partial-*"):  # of a process that was killed
        shutil.rmtree(leftover)
    partial.mkdir()
    save_file(_contiguous(checkpoint.host_tensors), partial / "host.safetensors")
    _sync(partial / "host.safetensors")
    save_state(partial / "scheduler.npz", checkpoint.scheduler_state)
    write_json(partial / "position.json", {"format": FORMAT, **asdict(checkpoint.position)})
    _sync(partial)
    if (root / name).exists():
        # only a process killed between the rename and the pointer below, or a repeated save of one
        # update, leaves such a folder; the pointer must not name it while it is replaced
        _retire(root, name)
    os.rename(partial, root / name)
    _sync(root)
    write_json(root / "latest.json", {"folder": name})
    _prune(root, name)


def latest_position(root: Path) -> Position | None:
    """Where the latest checkpoint under ``root`` stands, or None if none was ever completed."""
    if not (root / "latest.json").exists():
        return None
    folder = root / str(read_json(root / "latest.json")["folder"])
    try:
        position = read_json(folder / "position.json")
    except OSError as error:
        raise ValueError(f"checkpoint.load: {folder} is damaged: {error}") from error
    found = position.pop("format", None)
    if found != FORMAT:
        fail("checkpoint", f"format of {folder}", str(FORMAT), found)
    return Position(
        as_int("checkpoint", "updates", position["updates"], 0),
        as_int("checkpoint", "generated", position["generated"], 0),
        {str(k): as_int("checkpoint", k, v, 0) for k, v in position["log_bytes"].items()},
    )


def load(root: Path) -> Checkpoint | None:
    """The latest checkpoint under ``root``, or None if none was ever completed.

    Raises
    ------
    ValueError
        If it is damaged or of another format; the message names the file.
    """
    position = latest_position(root)
    if position is None:
        return None
    folder = root / str(read_json(root / "latest.json")["folder"])
    try:
        tensors = load_file(folder / "host.safetensors")
        return Checkpoint(position, tensors, load_state(folder / "scheduler.npz"))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"checkpoint.load: {folder} is damaged: {error}") from error


def _name(position: Position) -> str:
    """Folder of a checkpoint: sorts by updates, then by rollouts (plans after the last update)."""
    return f"{position.updates:08d}-{position.generated:012d}"


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().contiguous() for key, value in tensors.items()}


def _retire(root: Path, name: str) -> None:
    pointer = root / "latest.json"
    if pointer.exists() and read_json(pointer)["folder"] == name:
        fail("checkpoint.save", "updates", "greater than that of the latest checkpoint", name)
    shutil.rmtree(root / name)


def _prune(root: Path, latest: str) -> None:
    numbered = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0].isdigit())
    older = [name for name in numbered if name < latest]
    for name in older[: max(0, len(older) - (KEPT - 1))]:
        shutil.rmtree(root / name)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
