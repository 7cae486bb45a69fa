"""SIGKILL at random moments, Ctrl-C once: the same command goes on and ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cures.storage import read_json, read_jsonl

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "sim", "compare", "--schedulers", "cures", "speed"]
COMMAND += ["--rollouts", "24000", "--batch-size", "16", "--pool", "400", "--held-out", "60"]
COMMAND += ["--seeds", "2", "--dev-seeds", "1", "--missing-rate", "0.05", "--outcomes"]
COMMAND += ["--population", "drift"]  # success rates that walk must go on from where they were


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    """The command in a process group of its own, so that Ctrl-C can reach all of it."""
    return subprocess.Popen(
        [*COMMAND, "--out", str(out), *more],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONHASHSEED": str(random.Random(str(out)).randrange(1000))},
    )


def finish(out: Path, *more: str) -> None:
    process = start(out, *more)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 0, error.decode()


def content(root: Path) -> dict[str, bytes]:
    skipped = {".lock", "timing.json", "curves.png", "diagnostics.png"}
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and p.name not in skipped)
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def wait_for_a_checkpoint(out: Path, process: subprocess.Popen[bytes]) -> None:
    """Until some arm is in flight (or all is done): a kill during imports would test nothing."""
    until = time.monotonic() + 60.0
    while process.poll() is None and not any(out.rglob("checkpoint.npz")):
        assert time.monotonic() < until, "no checkpoint within a minute"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Files of an uninterrupted run in one process."""
    whole = tmp_path_factory.mktemp("whole")
    finish(whole)
    return content(whole)


def test_killed_runs_end_with_the_bytes_of_an_uninterrupted_one(tmp_path, expected):
    killed = tmp_path / "killed"
    dice = random.Random(5)
    kills = 0
    for jobs in ("1", "2", "1", "2"):
        process = start(killed, "--jobs", jobs, "--checkpoint-every", "0.05")
        wait_for_a_checkpoint(killed, process)
        time.sleep(dice.uniform(0.0, 0.2))
        if process.poll() is None:
            process.kill()  # only the parent: workers must notice and leave by themselves
            kills += 1
        process.communicate(timeout=30)
    assert kills >= 2
    finish(killed, "--jobs", "2")
    assert content(killed) == expected


@pytest.mark.slow
def test_ctrl_c_leaves_a_readable_folder_that_goes_on(tmp_path, expected):
    stopped = tmp_path / "stopped"
    process = start(stopped, "--jobs", "2", "--checkpoint-every", "0.05")
    wait_for_a_checkpoint(stopped, process)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error.decode()
    assert b"Traceback" not in error
    assert read_json(stopped / "config.json")["rollouts"] == 24_000
    for path in stopped.rglob("metrics.jsonl"):
        rows = read_jsonl(path)  # every line is whole
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    finish(stopped)
    assert content(stopped) == expected
