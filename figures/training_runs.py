"""Training runs as commands, for whatever compares them: one way to say them, one way to run them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def training_command(
    config: str,
    scheduler: str,
    out: Path,
    settings: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """``python -m train run`` as a command line.

    Parameters
    ----------
    config : str
        TOML file.
    scheduler : str
    out : Path
        Run folder. A finished run there is recognised, or refused, by the command itself.
    settings : mapping
        ``section.key`` -> value, over the file.
    options : mapping, optional
        Keywords of the scheduler.

    Examples
    --------
    >>> training_command("a.toml", "gvm", Path("x"), {"run.seed": 3}, {"pilots": 2})[3:]
    ['run', 'a.toml', '--scheduler', 'gvm', '--set', 'run.seed=3', '--set', 'scheduler.gvm.pilots=2',
     '--out', 'x']
    """
    own = {f"scheduler.{scheduler}.{key}": value for key, value in (options or {}).items()}
    sets = [
        part
        for key, value in {**settings, **own}.items()
        for part in ("--set", f"{key}={json.dumps(value)}")
    ]
    base = [sys.executable, "-m", "train", "run", config, "--scheduler", scheduler]
    return [*base, *sets, "--out", str(out)]


def run_quietly(command: Sequence[str]) -> None:
    """Run a command; what it says is shown if it fails.

    Raises
    ------
    subprocess.CalledProcessError
        If it does.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise subprocess.CalledProcessError(done.returncode, list(command))
