"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from train.errors import FolderInUseError


@contextmanager
def folder_lock(folder: Path, other: str) -> Iterator[None]:
    """Make the folder and keep it for one process; the lock dies with the process.

    Parameters
    ----------
    folder : Path
    other : str
        What another process does there if it has the lock, for the error.

    Raises
    ------
    FolderInUseError
        If another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(f"{other} in {folder}") from error
        yield
