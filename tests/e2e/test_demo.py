"""The demo from its own command, in seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # a minute of two processes; `make demo` is the same
def test_quick_demo(tmp_path):
    command = [sys.executable, "-m", "figures", "demo", "--quick", "--out", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("sim/curves.png", "learning_curves.png", "quota_by_success_rate.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 10_000
        assert name in done.stdout  # named on screen
    assert "cures minus uniform" in done.stdout
    assert "1 paired seed:" in " ".join(done.stdout.split())
    # the same command again resumes: everything is finished, and says the same
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0
    line = next(line for line in done.stdout.splitlines() if "cures minus uniform" in line)
    assert line in again.stdout
