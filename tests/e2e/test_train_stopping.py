"""SIGTERM saves and leaves; a full disk is said; both go on afterwards as if nothing had been."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_train_kill_resume import CONFIG
from tests.train_cases import assert_same_results, latest_checkpoint
from train import checkpoint
from train.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(CONFIG + f'cache = "{tmp_path / "cache"}"\ncheckpoint_every = 1000\n')
    return path


def test_sigterm_saves_between_checkpoints_and_the_run_goes_on(config, tmp_path):
    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    arguments = ["run", str(config), "--set", "run.rollouts=5120", "--out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *arguments, str(stopped)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )
    # an event, no time to wait: a fast machine makes forty updates in a second
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("step     4 "):  # of 80 updates
            process.send_signal(signal.SIGTERM)
            break
    output = said + process.communicate()[0]
    assert process.returncode == 143, output  # 128 + SIGTERM, as a shell has it
    assert "stopped by SIGTERM after update" in output
    assert not (stopped / "summary.json").exists(), "ended before it was asked to stop"
    assert main([*arguments, str(stopped)]) == 0
    assert main([*arguments, str(alone)]) == 0
    assert_same_results(stopped, alone)


@pytest.mark.parametrize(
    "victim",
    [
        "save_file",
        pytest.param("save_torch_state_dict", marks=pytest.mark.slow),
        pytest.param("save_state", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_said_and_the_checkpoint_before_stands(
    victim, config, tmp_path, monkeypatch, capsys
):
    arguments = ["run", str(config), "--set", "run.checkpoint_every=10", "--out"]
    stopped, alone = tmp_path / "stopped", tmp_path / "alone"
    original, calls = getattr(checkpoint, victim), []

    def full(*args, **options):
        calls.append(None)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, victim, full)
        assert main([*arguments, str(stopped)]) == 1
    assert f"no space left for {stopped}; its latest checkpoint is whole" in capsys.readouterr().err
    assert latest_checkpoint(stopped).name.startswith("00000010-")
    assert main([*arguments, str(stopped)]) == main([*arguments, str(alone)]) == 0
    assert_same_results(stopped, alone)
