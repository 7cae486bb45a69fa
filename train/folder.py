"""Who owns a run folder: one configuration, one process at a time."""

from __future__ import annotations

import fcntl
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import transformers

from cures.checks import fail
from cures.storage import read_json, write_json
from train import checkpoint
from train.config import Config
from train.config_file import differences
from train.errors import FolderInUseError


def claim(config: Config, folder: Path) -> None:
    """Write the configuration into a new folder, or check that it is the one already there.

    Raises
    ------
    ValueError
        If ``folder`` holds something else, or a checkpoint of another configuration: the message
        names what differs.
    """
    plain = config.as_dict()
    if (folder / "config.json").exists():
        found = differences(read_json(folder / "config.json"), plain)
        if found and checkpoint.latest_position(folder / "checkpoint") is not None:
            raise ValueError(
                f"train: {folder} holds a run with another configuration: {'; '.join(found)}. "
                "Give another --out, or the old values"
            )
    elif folder.exists() and any(folder.iterdir()):
        fail("train", "--out", "a new folder, an empty one or a run folder", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", plain)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process per run folder; the lock dies with the process."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(f"train: another process is training in {folder}") from error
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
    return differences(read_json(path), now)
