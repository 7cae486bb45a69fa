"""A training run that is killed and resumed equals one that was left alone, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cures.storage import read_json
from tests.train_cases import assert_same_results, latest_checkpoint
from train import learner
from train.__main__ import main

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


def kill_somewhere(config, folder, scheduler, chance):
    """SIGKILL a run at a random moment; leave a torn line, as a crash of the machine may."""
    lines, delay_s = chance.randrange(1, 18), chance.uniform(0, 0.05)
    print(f"SIGKILL {delay_s:.4f} s after line {lines} of metrics.jsonl")  # shown if the test fails
    process = start(config, folder, scheduler, hash_seed=1)
    wait_for_lines(process, folder / "metrics.jsonl", lines)
    time.sleep(delay_s)
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
    [("cures", 1, True), pytest.param("speed", 3, False, marks=pytest.mark.slow)],
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
    # another seed every time on purpose: every run of this test dies somewhere else
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(2**32)))
    print(f"to die at the same moment again, as nearly as a clock allows: KILL_SEED={seed}")
    chance = random.Random(seed)
    kill_somewhere(config, killed, scheduler, chance)
    if is_interrupted_too:
        interrupt_a_little_later(config, killed, scheduler)
    process = start(config, killed, scheduler, hash_seed=3)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert (alone / "config.json").read_bytes() == (killed / "config.json").read_bytes()
    assert_same_results(alone, killed)


def diverging_after(monkeypatch, rollouts, learning_rate):
    """From so many rollouts on every step has this learning rate, which no configuration may have."""
    usual = learner.learning_rate

    def replaced(config, progress):
        return learning_rate if progress * 2560 > rollouts else usual(config, progress)

    monkeypatch.setattr(learner, "learning_rate", replaced)


@pytest.mark.parametrize(
    ("learning_rate", "minibatches", "message"),
    [
        # one step of 1e15 leaves finite weights, of which the products overflow float32: without a
        # forward pass before the checkpoint, number 11 would be saved and could not generate
        (1e15, 1, "after update 11: a weight or a probability of the model is not finite"),
        # the second step of the same update meets that policy and finds a loss of NaN
        pytest.param(1e15, 2, "update 10: loss is nan", marks=pytest.mark.slow),  # counted from 0
    ],
)
def test_divergence_keeps_the_last_good_checkpoint(
    learning_rate, minibatches, message, tmp_path, capsys, monkeypatch
):
    config = tmp_path / "config.toml"
    config.write_text(CONFIG + f'cache = "{tmp_path / "cache"}"\n')
    command = ["run", str(config), "--set", f"learner.minibatches={minibatches}", "--out"]
    stopped, alone = tmp_path / "stopped", tmp_path / "alone"
    with monkeypatch.context() as patch:
        diverging_after(patch, 640, learning_rate)  # ten updates of 64 rollouts are fine
        assert main([*command, str(stopped)]) == 1
    error = capsys.readouterr().err
    assert f"error: {message}" in error
    assert "smaller learning_rate" in error
    assert latest_checkpoint(stopped).name == "00000010-000000000640"
    assert main(["eval", str(stopped)]) == 0
    assert "after 10 updates, 640 rollouts" in capsys.readouterr().out
    # the checkpoint is as good as if nothing had happened: without the fault it leads to the same end
    assert main([*command, str(stopped)]) == main([*command, str(alone)]) == 0
    assert_same_results(stopped, alone)
