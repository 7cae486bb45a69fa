"""Where a page of timings comes from."""

from __future__ import annotations

import os
import platform

from figures.provenance import commit


def provenance(command: str, *versions: str) -> str:
    """Command, commit, machine and versions of what was timed, two lines of markdown."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return (
        f"Command: `{command}`. Commit: `{commit()}`.\n"
        f"Machine: {machine}; {', '.join(versions)}. Machines are noisy: the ratios travel, the times "
        "do not."
    )
