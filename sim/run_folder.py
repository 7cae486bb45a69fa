"""Whose folder is it? Nothing is written into, or beside, what another command left."""

from __future__ import annotations

import tempfile
from pathlib import Path


def refuse_unwritable(where: str, parameter: str, folder: Path) -> None:
    """Refuse a folder into which nothing can be written, before anything is computed.

    What a superuser may write is told by no permission bit, and less so on a read-only or a virtual
    file system: a nameless temporary file is written into the folder, or the first above it that is
    there, and is gone again. No folder is made: what is refused later leaves none.

    Raises
    ------
    ValueError
        If ``folder`` is a file, lies in one, or cannot be written; the sentence has the reason.
    """
    existing = next(p for p in (folder, *folder.parents) if p.exists() or p.is_symlink())
    # not cures.checks.fail, which cuts what is long, as paths are
    start = f"{where}: {parameter} must be a folder"
    if not existing.is_dir():
        raise ValueError(f"{start}, got {folder}, where {existing} is a file")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ValueError(
            f"{start} that can be written, got {folder}: {existing}: {error.strerror}"
        ) from error


def refuse_foreign(where: str, parameter: str, folder: Path, *, marker: str, what: str) -> None:
    """Refuse a folder that holds files but not the one by which a command knows its own.

    Parameters
    ----------
    where, parameter : str
        For the error sentence.
    folder : Path
        May be absent; nothing is touched.
    marker : str
        Name of the file that the command writes first.
    what : str
        What the folder may be: "a run folder".

    Raises
    ------
    ValueError
        If ``folder`` is a file, lies in one, cannot be written, or holds something else.
    """
    refuse_unwritable(where, parameter, folder)
    if (folder / marker).exists() or not folder.exists():
        return
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if names:
        raise ValueError(
            f"{where}: {parameter} must be empty or {what} (with {marker}), got {folder} with {names[0]}"
        )
