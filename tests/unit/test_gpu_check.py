"""The parts of benchmarks/gpu_check on a CPU, at the smallest sizes; no time is asserted."""

from __future__ import annotations

import io
import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import correctness, curriculum, moments, resume, throughput
from benchmarks.gpu_check.clock import Deadline, TimeIsUpError, further_rounds
from benchmarks.gpu_check.counts import decode_bytes, shape_of_model, update_flops
from benchmarks.gpu_check.material import MissingError, Setting, Subject, native
from benchmarks.gpu_check.page import aims, cell, is_correct, page
from benchmarks.gpu_check.profiles import CPU, GPU
from cures.storage import read_json
from train.model_config import ScratchConfig
from train.policy import Policy

SECTIONS = CPU.sections
TINY = replace(
    CPU,
    model=ScratchConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48),
    rollouts=16, new_tokens=6, rows=(8, 16), long_tokens=6, pass_tokens=128,
    matmul_width=16, copied_bytes=2**10, seeds=1,
    sections={
        **SECTIONS,
        "task": {"families": ["dig"], "digits": [1], "pool_size": 30, "held_out_size": 8},
        "model": {"hidden_size": 32, "layers": 1, "ffn_size": 64},
        "warm_start": {
            "steps": 40, "examples": 32, "batch_size": 32, "target_success": 0.2,
            "check_problems": 8,
        },
        "scheduler": {
            "batch_size": 8, "budget": 64,
            "cures": {"num_subsets": 2, "pilots": 2, "steps_per_subset": 2},
        },
        "evaluation": {"every": 64, "samples": 2},
        "run": {"rollouts": 128, "checkpoint_every": 100},
    },
)  # fmt: skip


def setting_of(out, profile=TINY, seconds=600.0):
    console = Console(file=io.StringIO())
    return Setting(profile, torch.device("cpu"), out, Deadline.after(seconds), console)


@pytest.fixture
def setting(tmp_path):
    return setting_of(tmp_path)


def test_update_flops_of_another_counter(setting):
    subject = Subject.short(setting)
    model, shape = subject.model, shape_of_model(subject.model)
    model.config._attn_implementation = "eager"
    rows, length = 3, 40
    with FlopCounterMode(display=False) as counter:
        logits = model(torch.zeros((rows, length), dtype=torch.long), use_cache=False).logits
        logits.sum().backward()
    # torch counts attention over the whole square where a causal one takes half of it, and neither
    # additions of biases nor products with the weights of norms: two a token, three times
    vectors = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    width, layers, tokens = 32, 2, rows * length
    expected = (
        counter.get_total_flops()
        - 3 * tokens * 4 * layers * width * length / 2
        + 3 * tokens * 2 * vectors
    )
    assert update_flops(shape, [length] * rows) == pytest.approx(expected, rel=1e-12)


def test_decode_bytes_are_those_that_generation_reads(setting, monkeypatch):
    subject = Subject.long(setting)
    attend, read = functional.scaled_dot_product_attention, []

    def counting(query, key, value, **options):
        if query.shape[2] == 1:  # a step, not the prompt
            read.append(key.nbytes + value.nbytes)
        return attend(query, key, value, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counting)
    subject.generate(native(subject.model))
    steps = subject.decoding.max_new_tokens - 1
    assert len(read) == 2 * steps, "two layers"
    weights = sum(p.nbytes for p in subject.model.parameters())
    looked_up = subject.model.get_input_embeddings().weight.nbytes
    counted = sum(read) + steps * (weights - looked_up)
    found = decode_bytes(
        shape_of_model(subject.model), rows=subject.rows, prompt_tokens=subject.prompt_tokens,
        new_tokens=steps + 1, number_bytes=4,
    )  # fmt: skip
    assert found == counted


def test_sizes_of_the_models_that_a_gpu_gets():
    # per layer 4 products of width^2 (with 3 biases), 3 of width x feed-forward, 2 norms; one norm,
    # and 18 characters twice
    def count(config):
        width, ffn = config.hidden_size, config.ffn_size
        layer = 4 * width**2 + 3 * width + 3 * width * ffn + 2 * width
        return config.layers * layer + width + 2 * 18 * width

    assert count(GPU.model) == 134_296_576
    assert 30e6 < count(GPU.config().model) < 150e6
    with torch.device("meta"):
        model = curriculum.new_model_of(GPU.config(), curriculum.make_task(TINY.config()))
    assert shape_of_model(model).parameters == count(GPU.config().model)


def test_time_is_up():
    # 100 s hold 3 rounds of 30 s at a tenth more, that is 33 s; 32 s none
    assert [further_rounds(left, 30.0) for left in (100.0, 32.0, -1.0)] == [3, 0, 0]
    deadline = Deadline.after(600.0)
    with pytest.raises(TimeIsUpError, match="its share of the time"), deadline.part(0.02):
        time.sleep(60.0)
    with deadline.part(0.02):
        pass
    time.sleep(0.05)  # the alarm is off, or this would end the test
    with pytest.raises(TimeIsUpError, match="no time was left"), Deadline.after(-1.0).part(9.0):
        pass


def test_agreement_and_its_negative_control(setting):
    found = correctness.agreement(setting)
    assert found["holds"]
    assert [row["learner"] for row in found["rows"]] == [
        "float32", "products in bfloat16", "bfloat16",
    ]  # fmt: skip
    assert found["rows"][1]["mean"] > correctness.FLOAT32_LIMIT, "bfloat16 was not used"
    subject = Subject.short(setting)
    batch = subject.batch(subject.generate(native(subject.model)))
    hotter = Policy(subject.model, replace(subject.decoding, temperature=1.1))
    for learner in ("float32", "bfloat16"):
        row = correctness.agreement_row("x", learner, correctness.differences(hotter, batch))
        assert not row["holds"]


def test_accumulation_and_its_negative_control(setting):
    found = correctness.accumulation(setting)
    assert found["holds"]
    assert found["rows"][0]["passes"] == 1
    assert found["rows"][-1]["passes"] == TINY.rollouts
    subject = Subject.short(setting)
    batch = subject.batch(subject.generate(native(subject.model)))
    whole, _ = correctness.updated(setting, subject, batch, 10_000)
    rollouts = batch.rollouts.take(torch.arange(TINY.rollouts - 1))
    lost = replace(batch, rollouts=rollouts, prompts=batch.prompts.take(np.arange(len(rollouts))))
    part, _ = correctness.updated(setting, subject, lost, 10_000)
    assert correctness.distance(part, whole) > correctness.GRADIENT_LIMIT


def test_speeds_and_moments_are_measured(setting):
    found = throughput.throughput(setting)
    assert [row["rollouts"] for row in found["rows"]] == [8, 16, 8, 16, 8]
    # keys and values of 16 rollouts of 5 + 6 tokens (a prompt is a start, two digits and two signs):
    # 2 layers x 2 x 2 heads of 8 numbers, 4 bytes each
    assert found["rows"][1]["planned_bytes"] == 16 * 11 * 2 * 2 * 16 * 4
    assert found["rows"][3]["planned_bytes"] == 16 * 11 * 2 * 2 * 16 * 2  # in bfloat16
    assert all(row["tokens_per_s"] > 0.0 for row in found["rows"])
    found = moments.moments(setting)
    assert found["agrees"] == "yes, to 1e-4"
    assert len(found["rows"]) == 8


def failing(setting):
    raise RuntimeError("out of\nmemory")


def absent(setting):
    raise MissingError("there is none")


def test_a_part_that_fails_is_reported(setting):
    found = command.one_part(failing, setting, 9.0)
    assert (found["status"], found["sentence"]) == ("failed", "RuntimeError: out of memory")
    found = command.one_part(absent, setting, 9.0)
    assert (found["status"], found["sentence"]) == ("missing", "there is none")
    found = command.one_part(lambda _: {"mean": float("nan")}, setting, 9.0)
    assert found["status"] == "failed"
    found = command.one_part(lambda _: {"mean": 1.0}, replace(setting, deadline=Deadline(0.0)), 9.0)
    assert (found["status"], found["sentence"]) == ("failed", "no time was left")
    assert command.one_part(lambda _: {"mean": 1.0}, setting, 9.0)["mean"] == 1.0
    with pytest.raises(MissingError, match="warm start"):
        curriculum.run_config(setting, "uniform", 0)


def test_what_is_missing_or_failed_is_said(tmp_path, monkeypatch, capsys):
    parts = {"agreement": (failing, 1.0), "vllm": (absent, 1.0), "moments": (failing, 1.0)}
    monkeypatch.setattr(command, "PARTS", parts)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    page_path = tmp_path / "page.md"
    words = ["--profile", "gpu", "--out", str(tmp_path / "out"), "--page", str(page_path)]
    assert command.main(words) == 1, "a correctness part failed"
    for text in ((tmp_path / "out" / "gpu_check.md").read_text(), page_path.read_text()):
        assert "- torch sees no CUDA device: profile cpu, a rehearsal, is run instead" in text
        assert "- engine vllm is measured on a GPU alone" in text
        assert "- agreement: RuntimeError: out of memory" in text
        assert text.count("not measured") == 3  # three aims
        assert "**No GPU run has been made yet.**" in text
    found = read_json(tmp_path / "out" / "gpu_check.json")
    assert [part["status"] for part in found["parts"].values()] == ["failed", "missing", "failed"]
    assert "vllm: missing there is none" in capsys.readouterr().out
    assert command.main(["--minutes", "0"]) == 2
    assert "--minutes must be a float in [1.0, 60.0]" in capsys.readouterr().err


def test_every_correctness_part_has_to_hold():
    good, bad = ({"status": "measured", "holds": holds} for holds in (True, False))
    names = ("agreement", "accumulation", "resume")
    for states in itertools.product((good, bad, {"status": "failed", "sentence": ""}), repeat=3):
        parts = dict(zip(names, states, strict=True))
        assert is_correct(parts) == (states == (good, good, good))
    parts = dict.fromkeys(names, good)
    assert is_correct({**parts, "vllm": {"status": "missing", "sentence": ""}})
    assert not is_correct({**parts, "vllm": bad})


def test_aims_and_cells():
    rows = [{"bandwidth_share": 0.5}, {"bandwidth_share": 0.6}, {"matmul_share": 0.39}]
    parts = {"throughput": {"rows": rows}, "moments": {"of_generation": 0.05}}
    assert [row["is_met"] for row in aims(parts, is_gpu=True)] == [True, False, False]
    assert [row["measured"] for row in aims(parts, is_gpu=True)] == [0.6, 0.39, 0.05]
    assert all(row["measured"] is None for row in aims(parts, is_gpu=False))
    assert [row["is_met"] for row in aims({}, is_gpu=True)] == [None] * 3
    cells = {
        ("bandwidth_share", 0.613): "61.3 %", ("peak_bytes", 1536.0): "1.5 KiB",
        ("mean", 1.234e-6): "1.23e-06", ("tokens_per_s", 123456.7): "123,457",
        ("holds", False): "**no**", ("mean", None): "", ("arm", "cures"): "cures",
    }  # fmt: skip
    assert {key: cell(*key) for key in cells} == cells


def test_warm_start_and_resume(setting):
    about = curriculum.warm_start(setting)
    assert 0.0 < about["success"] < 1.0, "or groups are not mixed"
    found = resume.resume(setting)
    # bit for bit on a CPU, and something was learned
    assert found["holds"]
    assert found["rows"][0]["distance"] == 0.0
    assert found["rows"][0]["way"] > 0.0


@pytest.mark.slow
def test_the_whole_check_on_a_cpu(setting, monkeypatch):
    found = command.measured(setting, "python -m benchmarks.gpu_check")
    states = {name: part["status"] for name, part in found["parts"].items()}
    assert states == {**dict.fromkeys(command.PARTS, "measured"), "vllm": "missing"}
    assert is_correct(found["parts"])
    assert [row["arm"] for row in found["parts"]["curriculum"]["rows"]] == [
        "uniform", "adaptive", "cures",
    ]  # fmt: skip
    text = (setting.out / "gpu_check.md").read_text()
    for title in ("passes", "Speed", "Gradient moments", "Curricula"):
        assert title in text
    assert "Speed" not in page(found, has_times=False)
    for name in ("throughput", "curriculum"):
        assert (setting.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    # given again: finished runs are kept
    monkeypatch.setattr(curriculum, "train", failing)
    assert curriculum.curriculum(setting)["rows"] == found["parts"]["curriculum"]["rows"]
