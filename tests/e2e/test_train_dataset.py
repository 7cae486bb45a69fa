"""A pretrained model, a data set and the command line: train, go on, load what was saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from cures.storage import read_json, read_jsonl
from tests.text_cases import save_tokenizer, write_rows
from tests.train_cases import assert_same_results, latest_checkpoint

ROOT = Path(__file__).parents[2]
# an untrained model says anything: a verifier that likes some of it, so that groups are mixed
VERIFIER = """
def is_right(completion, reference):
    return (len(completion) + int(reference)) % 2 == 0
"""
CONFIG = """
[task]
kind = "dataset"
data = "{data}"
tokenizer = "{model}"
held_out_size = 4
max_new_tokens = 8
verifier = "{verifier}:is_right"

[model]
kind = "pretrained"
path = "{model}"
device = "cpu"

[learner]
learning_rate = 1e-3

[scheduler]
batch_size = 4
budget = 16

[evaluation]
every = 16
samples = 2

[run]
rollouts = {rollouts}
"""


@pytest.fixture
def files(tmp_path):
    """A folder with a model, a data set and a verifier; makes configurations."""
    model = tmp_path / "model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=112, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, intermediate_size=48, max_position_embeddings=256,
                tie_word_embeddings=False, pad_token_id=0, eos_token_id=1, bos_token_id=None,
            )
        ).save_pretrained(model)  # fmt: skip
    save_tokenizer(model)
    data = write_rows(
        tmp_path / "data.jsonl", [{"problem": f"{i}+{i}=", "answer": str(i)} for i in range(16)]
    )
    verifier = tmp_path / "mine.py"
    verifier.write_text(VERIFIER)

    def config(name, rollouts):
        path = tmp_path / f"{name}.toml"
        values = {"data": data, "model": model, "verifier": verifier, "rollouts": rollouts}
        path.write_text(CONFIG.format(**values))
        return path

    return config


def command(config, out):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "train", "run", str(config), "--out", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_two_updates_resumed_and_loaded(files, tmp_path):
    whole = command(files("whole", 32), tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    rows = read_jsonl(tmp_path / "whole" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[-1]["generated"] == 32
    # a verdict on each of 16 rollouts, but for those cut off: they are wrong without one
    for row in rows:
        cut = round(16 * row["truncated"])
        assert row["verifier"] == {"judged": 16 - cut, "timeout": 0, "crash": 0, "exception": 0}
    assert any(row["verifier"]["judged"] for row in rows)
    summary = read_json(tmp_path / "whole" / "summary.json")
    assert summary["verifier"]["judged"] == sum(row["verifier"]["judged"] for row in rows)
    # stopped after the first update, then gone on: the same run, bit for bit
    pieces = tmp_path / "pieces"
    program = """
import sys
from pathlib import Path
from benchmarks.gpu_check.stopping import StoppedError, StoppingProgress
from tests.train_cases import trained
from train.config_file import load
try:
    trained(load(sys.argv[1]), Path(sys.argv[2]), StoppingProgress(1))
except StoppedError:
    sys.exit(7)
"""
    stopped = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "whole.toml"), str(pieces)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert stopped.returncode == 7, stopped.stderr
    resumed = command(tmp_path / "whole.toml", pieces)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_results(tmp_path / "whole", pieces)
    assert read_json(pieces / "summary.json") == summary

    folder = latest_checkpoint(pieces) / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    saved = load_file(folder / "model.safetensors")
    state = model.state_dict()
    assert sorted(saved) == sorted(state)
    assert all(torch.equal(saved[name], state[name]) for name in saved)
    first = load_file(tmp_path / "model" / "model.safetensors")
    assert any(not torch.equal(saved[name], first[name]) for name in saved), "nothing was learned"
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1="}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\n1+1=<|im_end|>\n<|im_start|>assistant\n"


def test_bad_data_ends_the_command_with_a_sentence(files, tmp_path):
    config = files("bad", 16)
    data = tmp_path / "data.jsonl"
    data.write_text(data.read_text() + json.dumps({"problem": "x"}) + "\n")
    found = command(config, tmp_path / "run")
    assert found.returncode == 2
    assert "data.jsonl, line 17: answer must be an answer of format 'plain'" in found.stderr
    assert "Traceback" not in found.stderr
