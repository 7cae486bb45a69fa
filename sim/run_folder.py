"""Whose folder is it? Nothing is written into, or beside, what another command left."""

from __future__ import annotations

from pathlib import Path


def refuse_file(where: str, parameter: str, folder: Path) -> None:
    """Refuse a folder that is a file, or that would lie in one."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        raise ValueError(  # not cures.checks.fail, which cuts what is long, as paths are
            f"{where}: {parameter} must be a folder, got {folder}, where {existing} is a file"
        )


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
        If ``folder`` is a file, lies in one, or holds something else.
    """
    refuse_file(where, parameter, folder)
    if (folder / marker).exists() or not folder.exists():
        return
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if names:
        raise ValueError(
            f"{where}: {parameter} must be empty or {what} (with {marker}), got {folder} with {names[0]}"
        )
