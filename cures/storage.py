"""Files that survive SIGKILL: a reader sees the old content or the new one, never half of either.

State goes into ``.npz`` archives of plain arrays (no pickle), records into JSON lines. Both hosts keep
their run folders through these few functions.
"""

from __future__ import annotations

import itertools
import json
import os
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from cures.checks import as_int, fail

StateValue = np.ndarray[Any, Any] | int | float | str
State = dict[str, StateValue]
ABANDONED_S = 86_400.0  # a file that takes another's place was not written to for so long

_written = itertools.count()  # of this process: threads may write one file at a time


def atomic_write(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file by ``content`` in one step, on disk when the call returns."""
    with _replacing(path) as file:
        file.write(content)


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` at the end, if nothing was raised."""
    target = Path(path)
    _remove_abandoned(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{next(_written)}.partial")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _remove_abandoned(target: Path) -> None:
    """Remove what killed writers of this file left; by age, as a writer may be on another machine."""
    with os.scandir(target.parent) as entries:
        torn = [
            Path(entry)
            for entry in entries
            if entry.name.startswith(f".{target.name}.") and entry.name.endswith(".partial")
        ]
    for path in torn:
        with suppress(FileNotFoundError):  # its writer is done, or another one removes it
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable (on systems where a folder can be opened)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_state(path: str | os.PathLike[str], state: Mapping[str, StateValue]) -> None:
    """Write a flat state (arrays, ints, floats, strings) as one ``.npz`` file, atomically.

    Parameters
    ----------
    path : path-like
        Kept as given; no suffix is added.
    state : mapping of str to ndarray, int, float or str
        As returned by ``Scheduler.state_dict``.

    Raises
    ------
    ValueError
        If a value would need pickle (object arrays, nested containers).
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for key, value in state.items():
        if not isinstance(key, str) or key in ("file", "allow_pickle"):  # np.savez's own arguments
            fail("save_state", "key", "a string other than 'file' and 'allow_pickle'", key)
        scalar = isinstance(value, bool | int | float | str)
        array = np.asarray(value if scalar or isinstance(value, np.ndarray) else None)
        if array.dtype.kind not in "biufU":
            fail("save_state", f"state[{key!r}]", "an array, int, float or str", value)
        arrays[key] = array
    with _replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def refuse_further(where: str, state: State, expected: Collection[str]) -> None:
    """Refuse a state with entries that nobody reads: what they say would be lost without a word.

    Raises
    ------
    ValueError
    """
    further = sorted(state.keys() - set(expected))
    if further:
        fail(where, "state", "without further entries", further[:8])


def load_state(path: str | os.PathLike[str]) -> State:
    """Read what :func:`save_state` wrote; scalars come back as int, float or str.

    Raises
    ------
    ValueError
        If the file is not such an archive, is damaged, or would need pickle.
    """
    state: State = {}
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                array = archive[key]
                state[key] = array.item() if array.ndim == 0 else array
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"load_state: {path} is not a readable state file: {error}") from error
    return state


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused because JSON has neither."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    atomic_write(path, text.encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; what is no UTF-8 or no JSON is refused with the file's name."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"read_json: {path} is not valid JSON: {error}") from error


class JsonlLog:
    """Append-only JSON lines that a resumed run can cut back to a checkpoint.

    Save :attr:`position` in the checkpoint; on resume call ``truncate(position)`` before appending, so
    that lines written after the checkpoint (and a torn last line) are not there twice.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: BinaryIO = open(self.path, "ab")  # noqa: SIM115  (closed by close)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line (buffered; see :meth:`flush`)."""
        self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")

    def flush(self) -> None:
        """Put every line on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def position(self) -> int:
        """Bytes written so far; flushes, so that a checkpoint never points past the file's end."""
        self.flush()
        return self.path.stat().st_size

    def truncate(self, position: int) -> None:
        """Drop everything after ``position`` bytes."""
        self.flush()
        size = self.path.stat().st_size
        where = f"JsonlLog({self.path.name}).truncate"
        self._file.truncate(as_int(where, "position", position, 0, size))
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Flush and close."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def __enter__(self) -> JsonlLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Rows of a JSON lines file; a bad line is an error that names its number."""
    try:
        # not splitlines, which also cuts at separators that may stand inside a text
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"read_jsonl: {path}: {error}") from error
    rows = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"read_jsonl: {path}, line {number}: {error}") from error
    return rows
