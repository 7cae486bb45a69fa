"""The whole evaluation of a model folder, offline: what it writes, resumes, refuses and shows."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import Qwen2Config, Qwen2ForCausalLM

from cures.storage import read_json, read_jsonl
from tests.unit.test_benchmarks_answering import free_port
from tests.unit.test_benchmarks_problems import ROWS, byte_tokenizer, write
from train.__main__ import _parser
from train.__main__ import main as command_line
from train.benchmarks.command import add_arguments, questions_of, run
from train.benchmarks.definitions import BENCHMARKS
from train.benchmarks.loading import Problem
from train.benchmarks.progress import ExamProgress
from train.benchmarks.prompting import encode
from train.benchmarks.scores import score
from train.benchmarks.table import markdown

ROOT = Path(__file__).parents[2]
POSITIONS = 400


def options_of(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def verify(completions, references):
    """A verdict that depends on the text, as an untrained model has no right answers."""
    return np.array([float(len(text) % 2) for text in completions])


def quiet():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained Qwen2 over bytes, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-model")
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    architecture = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=POSITIONS,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(architecture).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def words(model, tmp_path):
    """A command line for two small benchmarks."""
    gsm8k = write(tmp_path / "gsm8k.jsonl", ROWS["gsm8k"] * 5)
    aime = write(tmp_path / "aime.parquet", ROWS["aime25"] * 2)
    return [
        model, "--benchmarks", "aime25", "gsm8k", "--data", f"gsm8k={gsm8k}", f"aime25={aime}",
        "--samples", "aime25=4", "--max-new-tokens", 12, "--engine", "transformers",
        "--device", "cpu", "--batch", 4, "--out", tmp_path / "out",
    ]  # fmt: skip


@pytest.mark.parametrize("engine", ["transformers", "native"])
def test_an_evaluation_from_folder_to_table(words, tmp_path, engine):
    words[words.index("transformers")] = engine
    console = quiet()
    assert run(options_of(*words), console, verify) == 0
    out = tmp_path / "out"
    names = ["aime25.json", "aime25.jsonl", "config.json", "gsm8k.json", "gsm8k.jsonl",
             "scores.json", "table.md"]  # fmt: skip
    assert sorted(p.name for p in out.iterdir() if p.name[0] != ".") == names
    rows = read_jsonl(out / "gsm8k.jsonl")
    assert [(row["problem"], row["sample"], row["reference"]) for row in rows] == [
        (p, 0, "1000") for p in range(5)
    ]
    assert len(read_jsonl(out / "aime25.jsonl")) == 8
    for row in [*rows, *read_jsonl(out / "aime25.jsonl")]:
        assert row["finish"] in ("stop", "length")
        assert row["tokens"] == 12 or row["finish"] == "stop"
        assert row["verdict"] == len(row["completion"]) % 2
        assert row["reward"] == (row["verdict"] if row["finish"] == "stop" else 0.0)
    assert len({row["completion"] for row in rows}) == 5  # sampled, each with its seed
    config = read_json(out / "config.json")
    assert (config["temperature"], config["engine"], config["dtype"]) == (1.0, engine, "float32")
    assert config["verifier"] == "tests.unit.test_benchmarks_command.verify"
    assert read_json(out / "aime25.json")["samples"] == 4
    # the table is that of the answers on disk
    scores = read_json(out / "scores.json")["benchmarks"]
    expected = np.mean([row["reward"] for row in rows])
    assert scores["gsm8k"]["pass_at_1"]["value"] == pytest.approx(expected)
    assert list(scores["aime25"]["pass_at_k"]) == ["1", "2", "4"]
    assert "GSM8K (5 of 1319 x 1)" in (out / "table.md").read_text()
    shown = console.file.getvalue()
    assert "warning: gsm8k has 5 problems here, 1319 in the paper" in shown
    assert "paper, 7B, CurES-GRPO" in shown
    # the same command again answers nothing and says the same
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    run(options_of(*words), quiet(), verify)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def main(*words):
    """What each of several processes runs."""
    run(options_of(*words), Console(), verify)


@pytest.mark.slow
def test_two_processes_write_what_one_writes(words, tmp_path):
    run(options_of(*words), quiet(), verify)
    words[words.index("--out") + 1] = tmp_path / "two"
    code = "import sys; from tests.unit.test_benchmarks_command import main; main(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, words)]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank, **shared},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    spoken = []
    for process in processes:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        spoken.append(output)
    assert "paper, 7B, CurES-GRPO" in spoken[0]
    assert spoken[1] == ""  # the first one speaks
    for path in (tmp_path / "out").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes(), path.name


def test_other_settings_are_refused_in_the_same_folder(words, model, tmp_path):
    run(options_of(*words), quiet(), verify)
    for more, named in (
        (["--seed", 1], "seed 0 there, 1 now"),
        (["--prompt", "user"], "prompt 'system' there, 'user' now"),
        (["--max-new-tokens", 11], "max_new_tokens 12 there, 11 now"),
        (["--end-token", "<|im_end|>"], "end_tokens"),
        (["--samples", "gsm8k=2"], "samples 1 there, 2 now"),
        (["--limit", 1], "problems 5 there, 1 now"),
    ):
        with pytest.raises(ValueError, match="answers under other settings") as error:
            run(options_of(*words, *more), quiet(), verify)
        assert named in str(error.value)
    write(tmp_path / "gsm8k.jsonl", [{**ROWS["gsm8k"][0], "question": "Another?"}] * 5)
    with pytest.raises(ValueError, match="prompts_and_references"):
        run(options_of(*words), quiet(), verify)
    # other weights under the same name
    write(tmp_path / "gsm8k.jsonl", ROWS["gsm8k"] * 5)
    shell = Qwen2ForCausalLM.from_pretrained(model)
    with torch.no_grad():
        shell.lm_head.weight[0, 0] += 1.0
    other = tmp_path / model.name
    shell.save_pretrained(other)
    byte_tokenizer().save_pretrained(other)
    with pytest.raises(ValueError, match="weights '.*' there, '.*' now"):
        run(options_of(other, *words[1:]), quiet(), verify)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--benchmarks", "gsm8k", "mmlu"], "--benchmarks must be one or more of ['math500', 'gsm8k'"),
        (["--data", "math500=a.jsonl"], "--data must be one of ['gsm8k', 'aime25'], got 'math500'"),
        (["--data", "gsm8k"], "--data must be of the form NAME=VALUE, got 'gsm8k'"),
        (["--samples", "0"], "--samples must be a whole number >= 1, got '0'"),
        (["--samples", "gsm8k=x"], "--samples must be a whole number >= 1, got 'x'"),
        (["--samples", "amc23=2"], "--samples must be one of ['gsm8k', 'aime25'], got 'amc23'"),
        (["--prompt", "chat"], "--prompt must be one of ['system', 'released', 'user', 'plain']"),
        (["--engine", "sglang"], "--engine must be one of ['native', 'transformers', 'vllm'"),
        (["--dtype", "int8"], "--dtype must be one of ['auto', 'bfloat16', 'float32']"),
        (["--temperature", "-1"], "--temperature must be a float in [0.0, inf)"),
        (["--temperature", "0"], "--temperature must be > 0 with several samples (aime25)"),
        (["--max-new-tokens", "0"], "--max-new-tokens must be an int in [1, inf), got 0"),
        (["--limit", "0"], "--limit must be an int in [1, inf), got 0"),
        (["--batch", "0"], "--batch must be an int in [1, inf), got 0"),
        (["--time-limit", "0"], "--time-limit must be a float in (0.0, inf), got 0.0"),
        (["--end-token", "</s>"], "--end-token must be a token of the tokenizer"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_by_name(words, tmp_path, more, message):
    with pytest.raises(ValueError, match="bench: --") as error:
        run(options_of(*words, *more), quiet(), verify)
    assert message in str(error.value)
    assert not (tmp_path / "out" / "config.json").exists()


def test_long_prompts_shorten_their_answers_and_say_so(words, tmp_path):
    long = {**ROWS["gsm8k"][0], "question": "How many? " * 15}
    write(tmp_path / "gsm8k.jsonl", [*ROWS["gsm8k"] * 4, long])
    words[words.index("--max-new-tokens") + 1] = 200
    console = quiet()
    run(options_of(*words), console, verify)
    rows = read_jsonl(tmp_path / "out" / "gsm8k.jsonl")
    room = [200] * 4 + [POSITIONS - prompt_tokens("How many? " * 15)]
    assert 0 < room[-1] < 200
    assert all(row["tokens"] <= limit for row, limit in zip(rows, room, strict=True))
    assert f"gsm8k: 1 prompts leave fewer than 200 of the model's positions, {room[-1]}" in (
        console.file.getvalue()
    )
    # control: those with room do use it
    assert max(row["tokens"] for row in rows) > room[-1]


def prompt_tokens(question):
    return int(encode(byte_tokenizer(), [Problem(question.strip(), "1")]).length_N[0])


def test_bad_files_are_refused_before_the_model_is_loaded(tmp_path):
    path = write(tmp_path / "set.jsonl", [{"prompt": "a", "answer": "1"}])
    words = ["no/model", "--benchmarks", "gsm8k", "--data", f"gsm8k={path}"]
    with pytest.raises(ValueError, match=r"columns 'question' and 'answer', it has \['answer'"):
        run(options_of(*words), quiet(), verify)
    write(path, ROWS["gsm8k"])
    (tmp_path / "empty").mkdir()
    words[0] = tmp_path / "empty"
    with pytest.raises(ValueError, match="cannot be loaded"):
        run(options_of(*words, "--out", tmp_path / "out"), quiet(), verify)


def test_what_is_asked():
    questions = questions_of(options_of("m"))
    # the paper's protocol: one sample, 16 on the competition sets
    assert [(q.benchmark.name, q.samples) for q in questions] == [
        (name, 16 if name in ("aime24", "aime25", "amc23") else 1) for name in BENCHMARKS
    ]
    options = options_of("m", "--samples", "8", "aime24=64", "--benchmarks", "gsm8k", "aime24")
    assert [q.samples for q in questions_of(options)] == [8, 64]


def test_the_command_line_asks_for_all_eight_unless_some_are_named():
    for words, names in (
        (["m"], list(BENCHMARKS)),
        (["m", "--benchmarks"], list(BENCHMARKS)),
        (["m", "--benchmarks=math500"], ["math500"]),
        (["m", "--benchmarks", "gsm8k", "aime24"], ["gsm8k", "aime24"]),
    ):
        options = _parser().parse_args(["bench", *words])
        assert [q.benchmark.name for q in questions_of(options)] == names


def test_ctrl_c_says_that_finished_batches_are_kept(monkeypatch, capsys):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("train.benchmarks.command.run", stopped)
    assert command_line(["bench", "m"]) == 130
    kept = "stopped. Finished batches are kept; the same command goes on from here."
    assert kept in capsys.readouterr().out


def test_parsing_and_refusing_load_no_torch():
    # a typing error should not wait for torch and transformers
    code = (
        "import argparse, sys\n"
        "from rich.console import Console\n"
        "from train.benchmarks.command import add_arguments, run\n"
        "p = argparse.ArgumentParser(); add_arguments(p); p.format_help()\n"
        "o = p.parse_args(['m', '--benchmarks', 'mmlu'])\n"
        "try: run(o, Console(), None)\n"
        "except ValueError: print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_progress_shows_share_and_time_left(words):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    run(options_of(*words), console, verify)
    shown = console.file.getvalue()
    assert "8/8" in shown
    assert "right " in shown
    with ExamProgress(console) as progress:
        report = progress.report_of("aime24")
        report(3, 10, [])  # those of an earlier command: no speed
        assert progress._progress.tasks[0].speed is None
        assert progress._progress.tasks[0].completed == 3


def test_the_table_can_be_made_anew_from_the_answers(words, tmp_path):
    from train.benchmarks.answer_file import read

    run(options_of(*words), quiet(), verify)
    out = tmp_path / "out"
    scores = {
        "gsm8k": score(read(out / "gsm8k.jsonl"), 1),
        "aime25": score(read(out / "aime25.jsonl"), 4),
    }
    assert markdown(str(words[0]), scores) == (out / "table.md").read_text()
