"""Where a figure comes from: the commit of the code, in the words of git."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """Short commit of this checkout, ``-dirty`` with local changes, ``unknown`` outside of git."""
    git = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    here = Path(__file__).parent
    return subprocess.run(git, cwd=here, capture_output=True, text=True).stdout.strip() or "unknown"
