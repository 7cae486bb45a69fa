"""Checkpoints that a SIGKILL at any moment leaves intact, and nothing pickled in them.

A checkpoint is a numbered folder, filled under another name, put on disk and renamed; a pointer file
is then replaced in one step. Until the pointer changes, the previous checkpoint is the one that counts.
It also holds the lengths of the logs, so that lines written after it are cut off on resume::

    checkpoint/latest.json              {"folder": NAME}; NAME is UPDATES-GENERATED, such as
                                        00000012-000000003072
    checkpoint/NAME/model/              weights and configuration: transformers' from_pretrained
    checkpoint/NAME/host-0.safetensors  optimiser and waiting rollouts (of each rank, if sharded)
    checkpoint/NAME/scheduler.npz       state of the scheduler
    checkpoint/NAME/position.json       counts and log lengths

Under several processes all of them call :func:`save`; the first writes, sharded ranks add their part.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from cures.checks import as_int, fail
from cures.storage import State, load_state, read_json, save_state, write_json
from train import errors
from train.world import World

FORMAT = 2  # raise when a file's meaning changes
KEPT = 2  # the current checkpoint and the one before: a pointer may still name it


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands."""

    updates: int
    generated: int
    log_bytes: dict[str, int]  # length of each log at this moment
    shards: int = 1  # files host-RANK.safetensors


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a run needs to go on, but for the weights, which :func:`load_weights` reads."""

    position: Position
    host_tensors: dict[str, Tensor]
    scheduler_state: State


@dataclass(frozen=True, slots=True)
class Weights:
    """What ``from_pretrained`` wants.

    Attributes
    ----------
    tensors : dict of str to Tensor
    describe : callable
        Writes ``config.json`` and whatever belongs to it (a tokenizer) into a folder.
    """

    tensors: dict[str, Tensor]
    describe: Callable[[Path], None]


def save(
    root: Path,
    checkpoint: Checkpoint,
    weights: Weights,
    *,
    kept: int = KEPT,
    world: World = World(),  # noqa: B008  frozen
) -> None:
    """Write a checkpoint under ``root`` and make it the latest one.

    Raises
    ------
    ValueError
        If the latest checkpoint is of the same position.
    OSError
        If the disk does not take it; the checkpoint before stays the latest.
    """
    name = _name(checkpoint.position)
    partial = root / f".partial-{name}"
    if world.is_first:
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob(".partial-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        partial.mkdir()
    world.barrier()
    if world.rank < checkpoint.position.shards:
        path = partial / f"host-{world.rank}.safetensors"
        save_file(_contiguous(checkpoint.host_tensors), path)
        sync(path)
    if world.is_first:
        save_weights(partial / "model", weights)
        save_state(partial / "scheduler.npz", checkpoint.scheduler_state)
        write_json(partial / "position.json", {"format": FORMAT, **asdict(checkpoint.position)})
        sync(partial)
    world.barrier()
    if world.is_first:
        if (root / name).exists():
            # only a process killed between the rename and the pointer below, or a repeated save of
            # one update, leaves such a folder; the pointer must not name it while it is replaced
            _retire(root, name)
        os.rename(partial, root / name)
        sync(root)
        write_json(root / "latest.json", {"folder": name})
        _prune(root, name, kept)
    world.barrier()


def save_weights(folder: Path, weights: Weights) -> None:
    """A new folder that ``from_pretrained`` reads."""
    folder.mkdir()
    save_torch_state_dict(weights.tensors, folder)
    weights.describe(folder)
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def model_folder(root: Path) -> Path:
    """Where ``from_pretrained`` finds the model of the latest checkpoint.

    Raises
    ------
    ValueError
        If there is none.
    """
    folder = _latest_folder(root)
    if folder is None:
        fail("checkpoint.model_folder", "root", "with a checkpoint", str(root))
    return folder / "model"


def load_weights(root: Path, model: PreTrainedModel) -> None:
    """Put the weights of the latest checkpoint into ``model``.

    Raises
    ------
    ValueError
        If there is none, or it is damaged or of another model; the message names the file.
    """
    folder = model_folder(root)
    with reading(root, "model"):
        files = sorted(folder.glob("*.safetensors"))
        tensors = {key: value for path in files for key, value in load_file(path).items()}
        found = model.load_state_dict(tensors, strict=False)
        tied = set(getattr(model, "_tied_weights_keys", None) or ())
        missing = set(found.missing_keys) - (tied if model.config.tie_word_embeddings else set())
        if missing or found.unexpected_keys:
            raise ValueError(f"weights {sorted(missing) or found.unexpected_keys} do not fit")


def latest_position(root: Path) -> Position | None:
    """Where the latest checkpoint under ``root`` stands, or None if none was ever completed.

    Raises
    ------
    ValueError
        If it is missing, damaged or of another format; the message names the file and the way out.
    """
    folder = _latest_folder(root)
    if folder is None:
        return None
    with reading(root, "position.json"):
        content = dict(read_json(folder / "position.json"))
    if content.get("format") != FORMAT:
        fail("checkpoint", f"format of {folder}", str(FORMAT), content.get("format"))
    with reading(root, "position.json"):
        return Position(
            as_int("checkpoint", "updates", content["updates"], 0),
            as_int("checkpoint", "generated", content["generated"], 0),
            {str(k): as_int("checkpoint", k, v, 0) for k, v in content["log_bytes"].items()},
            as_int("checkpoint", "shards", content["shards"], 1),
        )


def load(root: Path, world: World = World()) -> Checkpoint | None:  # noqa: B008  frozen
    """The latest checkpoint under ``root``, or None if none was ever completed.

    Raises
    ------
    ValueError
        Like :func:`latest_position`; if it is sharded over another number of processes.
    """
    position, folder = latest_position(root), _latest_folder(root)
    if position is None or folder is None:
        return None
    if position.shards not in (1, world.size):
        fail("checkpoint", "processes", f"{position.shards}, as it was sharded over", world.size)
    name = f"host-{world.rank if position.shards > 1 else 0}.safetensors"
    with reading(root, name):
        tensors = load_file(folder / name)
    with reading(root, "scheduler.npz"):
        return Checkpoint(position, tensors, load_state(folder / "scheduler.npz"))


@contextmanager
def reading(root: Path, file: str) -> Iterator[None]:
    """Errors about the content of a file of the latest checkpoint name it and the way out."""
    folder = _latest_folder(root) or root
    with errors.reading(folder / file, _remedy(root)):
        yield


def _latest_folder(root: Path) -> Path | None:
    pointer = root / "latest.json"
    if not pointer.exists() and len(_numbered(root)) < KEPT:
        return None  # at most one was renamed, and then the process was killed
    with errors.reading(pointer, _remedy(root)):
        folder = root / str(read_json(pointer)["folder"])
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no {folder}")
        return folder


def _numbered(root: Path) -> list[str]:
    folders = root.iterdir() if root.is_dir() else ()
    return sorted(p.name for p in folders if p.is_dir() and p.name[0].isdigit())


def _remedy(root: Path) -> str:
    return (
        'to go on from an undamaged checkpoint, write {"folder": NAME} into '
        f"{root / 'latest.json'} (NAME is one of {_numbered(root)}); or train anew in another --out"
    )


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


def _prune(root: Path, latest: str, kept: int) -> None:
    older = [name for name in _numbered(root) if name < latest]
    for name in older[: max(0, len(older) - (kept - 1))]:
        shutil.rmtree(root / name)


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
