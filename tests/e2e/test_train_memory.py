"""Peak memory of the CPU default: within its limit, and of the passes, not of the batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 1.5e9  # bytes
GROUP = 8


def peak_bytes(folder, cache, batch, *settings):
    """Largest resident memory of a run of two updates."""
    budget = batch * GROUP
    values = [
        "warm_start.steps=10", f'run.cache="{cache}"', f"scheduler.batch_size={batch}",
        f"scheduler.budget={budget}", f"run.rollouts={2 * budget}", f"evaluation.every={2 * budget}",
        "task.held_out_size=50", "task.coins=1.0", *settings,  # coins: all groups teach
    ]  # fmt: skip
    command = [sys.executable, "-m", "train", "run", "configs/tiny_cpu.toml", "--out", str(folder)]
    command += [part for value in values for part in ("--set", value)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # Popen must not wait once more
    assert process.returncode == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.fixture(scope="module")
def peak(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    return lambda name, *rest: peak_bytes(folder / name, folder / "cache", *rest)


@pytest.fixture(scope="module")
def default(peak):
    return peak("default", 128)


def test_the_cpu_default_stays_within_its_limit(default):
    assert default < LIMIT


@pytest.mark.slow
def test_twice_the_batch_has_the_same_peak(default, peak):
    assert peak("twice", 256) == pytest.approx(default, rel=0.1)


@pytest.mark.slow
def test_without_the_token_budget_it_would_not(default, peak):
    # negative control: every minibatch of four times the batch in one pass
    assert peak("unbounded", 512, "learner.pass_tokens=1000000") > 1.1 * default
