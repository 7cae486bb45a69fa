"""A training run that is killed and resumed equals one that was left alone, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cures.storage import load_state, read_json
from train.__main__ import main
from train.errors import FolderInUseError
from train.folder import locked

ROOT = Path(__file__).parents[2]
CONFIG = """
# No warm start: coin-flip rewards make the groups of an untrained model mixed.
[task]
families = ["add", "sub"]
digits = [1, 2]
pool_size = 100
held_out_size = 20
coins = 1.0
[model]
hidden_size = 32
ffn_size = 32
[warm_start]
steps = 0
[rollout]
gradient_moments = true
[scheduler]
name = "uniform"
batch_size = 8
budget = 64
[scheduler.cures]
num_subsets = 5
pilots = 4
steps_per_subset = 3
[evaluation]
every = 256
samples = 2
[run]
rollouts = 2560
"""


def start(config, folder, scheduler, hash_seed):
    # another hash seed each time: nothing may depend on the order of a set
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "train", "run", config, "--out", folder]
    return subprocess.Popen(
        [*map(str, command), "--scheduler", scheduler],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_lines(process, file, lines):
    """Return when ``file`` has so many lines; fail if the run ends before."""
    deadline = time.monotonic() + 120
    while not file.exists() or file.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no progress in two minutes"
        time.sleep(0.001)


def assert_same_run(one, other):
    for name in ("config.json", "metrics.jsonl", "outcomes.jsonl", "evaluation.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    latest = [read_json(run / "checkpoint" / "latest.json")["folder"] for run in (one, other)]
    assert latest[0] == latest[1]
    tensors = [
        load_file(run / "checkpoint" / latest[0] / "host.safetensors") for run in (one, other)
    ]
    assert sorted(tensors[0]) == sorted(tensors[1])
    for key, value in tensors[0].items():
        assert np.array_equal(value, tensors[1][key]), key
    states = [load_state(run / "checkpoint" / latest[0] / "scheduler.npz") for run in (one, other)]
    assert sorted(states[0]) == sorted(states[1])
    for key, value in states[0].items():
        assert np.array_equal(value, states[1][key], equal_nan=np.asarray(value).dtype.kind == "f")


def kill_somewhere(config, folder, scheduler, chance):
    """SIGKILL a run at a random moment; leave a torn line, as a crash of the machine may."""
    process = start(config, folder, scheduler, hash_seed=1)
    wait_for_lines(process, folder / "metrics.jsonl", chance.randrange(1, 18))
    time.sleep(chance.uniform(0, 0.05))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert not (folder / "summary.json").exists(), "killed too late to show anything"
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 1')


def interrupt_a_little_later(config, folder, scheduler):
    """Resume, press Ctrl-C after a new update, and read what the user is told."""
    latest = folder / "checkpoint" / "latest.json"
    done = int(read_json(latest)["folder"].split("-")[0]) if latest.exists() else 0
    process = start(config, folder, scheduler, hash_seed=2)
    # timing.jsonl has done lines once it is cut to the checkpoint, or one more before that
    wait_for_lines(process, folder / "timing.jsonl", done + 2)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130, output
    assert done == 0 or f"resumed after update {done} " in output
    assert "stopped; kept in" in output
    again = f"to go on: python -m train run {config} --out {folder} --scheduler {scheduler}"
    assert again in output.replace("\n", " ")


@pytest.mark.parametrize(
    ("scheduler", "checkpoint_every", "is_interrupted_too"),
    [("cures", 1, True), ("speed", 3, False)],
)
def test_killed_and_resumed_equals_left_alone(
    scheduler, checkpoint_every, is_interrupted_too, tmp_path
):
    config = tmp_path / "config.toml"
    # one cache for all: its path is part of the configuration
    config.write_text(
        CONFIG + f'cache = "{tmp_path / "cache"}"\ncheckpoint_every = {checkpoint_every}\n'
    )
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert main(["run", str(config), "--out", str(alone), "--scheduler", scheduler]) == 0
    chance = random.Random()  # unseeded on purpose: every run of this test dies somewhere else
    kill_somewhere(config, killed, scheduler, chance)
    if is_interrupted_too:
        interrupt_a_little_later(config, killed, scheduler)
    process = start(config, killed, scheduler, hash_seed=3)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert_same_run(alone, killed)


def test_one_process_per_folder(tmp_path):
    second = locked(tmp_path)
    with locked(tmp_path), pytest.raises(FolderInUseError, match="another process is training"):
        second.__enter__()
    with locked(tmp_path):  # free again
        pass


def test_divergence_keeps_the_last_good_checkpoint(tmp_path, capsys):
    config = tmp_path / "config.toml"
    config.write_text(CONFIG + f'cache = "{tmp_path / "cache"}"\n')
    command = ["run", str(config), "--out", str(tmp_path / "run")]
    # float32 overflows within a few steps of this size
    assert main([*command, "--set", "learner.learning_rate=1e30"]) == 1
    message = capsys.readouterr().err
    assert "error: " in message
    assert "finite" in message or "is nan" in message
    last = tmp_path / "run" / "checkpoint" / "latest.json"
    if last.exists():
        tensors = load_file(last.parent / read_json(last)["folder"] / "host.safetensors")
        for key, value in tensors.items():
            assert np.isfinite(value).all(), key
