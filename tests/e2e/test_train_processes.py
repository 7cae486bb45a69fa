"""Two processes train like one: the same plans, the same loss to rounding, whole checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from cures.storage import read_jsonl
from tests.train_cases import latest_checkpoint
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
[learner]
kl = "k3"
kl_weight = 0.01
pass_tokens = 300
[scheduler]
name = "cures"
batch_size = 8
budget = 64
num_subsets = 5
pilots = 4
steps_per_subset = 3
[evaluation]
every = 256
samples = 2
[run]
rollouts = 640
"""
EXACT = ("step", "generated", "pilots", "discarded", "tokens", "plans", "rollouts", "success",
         "held_out", "trained", "groups", "reward", "wasted", "informative")  # fmt: skip


def torchrun(config, folder, *settings, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", "train", "run", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *(part for s in settings for part in ("--set", s)), "--out", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    path = folder / "config.toml"
    path.write_text(CONFIG + f'cache = "{folder / "cache"}"\n')
    return path


@pytest.fixture(scope="module")
def alone(config):
    folder = config.parent / "alone"
    assert main(["run", str(config), "--out", str(folder)]) == 0
    return folder


def assert_like(found: Path, alone: Path):
    """Plans and rewards exactly; the loss to 1e-5: gradients are summed in another order."""
    for name in ("outcomes.jsonl", "evaluation.jsonl"):
        assert (found / name).read_bytes() == (alone / name).read_bytes(), name
    rows = zip(
        read_jsonl(found / "metrics.jsonl"), read_jsonl(alone / "metrics.jsonl"), strict=True
    )
    for one, other in rows:
        assert {k: one[k] for k in EXACT} == {k: other[k] for k in EXACT}
        for key in ("loss", "grad_norm", "entropy", "kl"):
            assert one[key] == pytest.approx(other[key], abs=1e-5, rel=1e-5), key


@pytest.mark.parametrize("sharding", [pytest.param("none", marks=pytest.mark.slow), "fsdp"])
def test_two_processes_equal_one(sharding, config, alone):
    folder = config.parent / sharding
    said = torchrun(config, folder, f"learner.sharding={sharding}")
    assert said.count("held-out success") == 5, "one process speaks, not two"  # with the summary
    assert_like(folder, alone)
    # and the checkpoint is an ordinary model
    model = latest_checkpoint(folder) / "model"
    weights = load_file(model / "model.safetensors")
    expected = load_file(latest_checkpoint(alone) / "model" / "model.safetensors")
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in expected.items()}
    for key, value in weights.items():  # AdamW turns rounding of small gradients into steps
        assert abs(value - expected[key]).max() < 1e-3, key
    AutoModelForCausalLM.from_pretrained(model)
    assert AutoTokenizer.from_pretrained(model)("12+")["input_ids"] == [1, 4, 5, 13]


@pytest.mark.slow
def test_resuming_sharded_equals_never_stopping(config, alone):
    folder = config.parent / "resumed"
    settings = ("learner.sharding=fsdp", "run.checkpoint_every=3")
    torchrun(config, folder, *settings, "run.rollouts=640")
    # back to the checkpoint before: what a kill after it would leave
    names = sorted(p.name for p in (folder / "checkpoint").iterdir() if p.name[0].isdigit())
    (folder / "checkpoint" / "latest.json").write_text(f'{{"folder": "{names[0]}"}}')
    said = torchrun(config, folder, *settings, "run.rollouts=640")
    assert "resumed after update" in said
    assert_like(folder, alone)


def test_a_sharded_checkpoint_wants_as_many_processes(config, capsys):
    folder = config.parent / "fsdp"
    if not folder.exists():
        torchrun(config, folder, "learner.sharding=fsdp")
    arguments = ["run", str(config), "--set", "learner.sharding=fsdp", "--out", str(folder)]
    assert main(arguments) == 2
    assert "processes must be 2, as it was sharded over, got 1" in capsys.readouterr().err
