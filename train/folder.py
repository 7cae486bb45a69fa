"""Who owns a run folder: one configuration, one process at a time."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from cures.checks import InWords, fail
from cures.storage import read_json, write_json
from train import checkpoint
from train.config import Config
from train.config_file import differences
from train.errors import reading
from train.lock import folder_lock
from train.tasks.protocol import Task

FORMAT = "cures-train-1"  # what tells our config.json from everybody else's


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration in a run folder.

    Raises
    ------
    ValueError
        If the folder holds no ``config.json``, a damaged one, or one of another program.
    """
    path = folder / "config.json"
    if not path.exists():
        fail("train", "run folder", "one with a config.json", str(folder))
    with reading(path, "restore it, or give another --out"):
        content = read_json(path)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        fail(
            "train",
            str(path),
            f"written by train run (format {FORMAT!r})",
            InWords("something else"),
        )
    return content


def check_ours(folder: Path) -> None:
    """Refuse a folder with other things in it, without touching it.

    Raises
    ------
    ValueError
        If ``folder`` is a file, or holds anything but a run, or a ``config.json`` of someone else.
    """
    if folder.exists() and not folder.is_dir():
        fail("train", "--out", "a folder", InWords(f"the file {folder}"))
    if (folder / "config.json").exists():
        read_config(folder)
    elif folder.exists() and any(not _is_ours(entry) for entry in folder.iterdir()):
        fail("train", "--out", "a new folder, an empty one or a run folder", str(folder))


def claim(config: Config, folder: Path) -> None:
    """Write the configuration into a new folder, or check that it is the one already there.

    Call it under :func:`locked`, which makes the folder.

    Raises
    ------
    ValueError
        If ``folder`` holds something else, or a checkpoint of another configuration: the message
        names what differs. Nothing in the folder has changed then.
    """
    plain = config.as_dict()
    if (folder / "config.json").exists():
        found = differences(read_config(folder), plain)
        if found and checkpoint.latest_position(folder / "checkpoint") is not None:
            raise ValueError(
                f"train: {folder} holds a run with another configuration: {'; '.join(found)}. "
                "Give another --out, or the old values"
            )
    write_json(folder / "config.json", {"format": FORMAT, **plain})


def check_questions(task: Task, folder: Path) -> None:
    """Record what the questions are, or check that they still are what the run began with.

    A data set is named in the configuration, not held: its file may have been edited since.

    Raises
    ------
    ValueError
        If ``folder`` has a checkpoint of a run on other questions.
    """
    digest = hashlib.sha256()
    for questions in (task.pool, task.held_out):
        prompts = questions.prompts
        digest.update(prompts.start_N.tobytes() + prompts.token_F.numpy().tobytes())
        for index in range(len(prompts)):
            digest.update(questions.answer(index).encode() + b"\0")
    now = {
        "prompts": len(task.pool.prompts),
        "held_out": len(task.held_out.prompts),
        "left_out": dict(task.dropped),
        "sha256": digest.hexdigest(),
    }
    path = folder / "questions.json"
    if path.exists() and checkpoint.latest_position(folder / "checkpoint") is not None:
        with reading(path, "restore it, or give another --out"):
            found = differences(read_json(path), now)
        if found:
            raise ValueError(
                f"train: {folder} holds a run on other questions: {'; '.join(found)}. "
                "Give another --out, or the data that it began with"
            )
    write_json(path, now)


def _is_ours(entry: Path) -> bool:
    """The lock, or what a kill in the middle of a write leaves."""
    return entry.name == ".lock" or (entry.name[0] == "." and entry.name.endswith(".partial"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and keep it for one process.

    Raises
    ------
    ValueError
        As of :func:`check_ours`.
    FolderInUseError
        If another process has it.
    """
    check_ours(folder)
    with folder_lock(folder, "train: another process is training"):
        yield


def check_environment(folder: Path) -> list[str]:
    """Record the versions that bits depend on; return what changed since the run began."""
    now = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    path = folder / "environment.json"
    if not path.exists():
        write_json(path, now)
        return []
    with reading(path, "delete it, and what changed since the run began is no longer known"):
        return differences(read_json(path), now)
