"""Process trees, by /proc: for tests of what must not be left behind."""

from __future__ import annotations

import time
from pathlib import Path


def family(pid: int) -> set[int]:
    """A process with all its descendants."""
    found: set[int] = set()
    new = {pid}
    while new:
        found |= new
        new = {child for parent in new for child in _children(parent)} - found
    return found


def _children(pid: int) -> list[int]:
    texts = [_read(file) for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in texts for child in text.split()]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # it has just ended
        return ""


def named(part: str, pids: set[int]) -> int:
    """The one of these processes whose command line has ``part`` in it."""
    (found,) = [pid for pid in pids if part in _read(Path(f"/proc/{pid}/cmdline"))]
    return found


def living(pids: set[int]) -> set[int]:
    """Those that run, zombies aside."""
    state = {pid: _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split() for pid in pids}
    return {pid for pid, words in state.items() if words and words[0] != "Z"}


def are_gone(pids: set[int], *, within_s: float) -> bool:
    """Wait for them to end."""
    end = time.monotonic() + within_s
    while living(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not living(pids)
