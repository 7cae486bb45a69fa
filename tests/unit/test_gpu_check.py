"""The parts of benchmarks/gpu_check on a CPU, at the smallest sizes; no time is asserted."""

from __future__ import annotations

import doctest
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
from benchmarks.gpu_check import (
    clock,
    correctness,
    curriculum,
    moments,
    resume,
    throughput,
    vllm_engine,
)
from benchmarks.gpu_check import page as pages
from benchmarks.gpu_check.clock import Deadline, TimeIsUpError
from benchmarks.gpu_check.counts import decode_bytes, shape_of_model, update_flops
from benchmarks.gpu_check.material import MissingError, Setting, Subject, config_of, native
from benchmarks.gpu_check.page import aims, is_correct, page, table
from benchmarks.gpu_check.profiles import CPU, GPU
from cures.comparison import paired_difference
from cures.storage import read_json, write_json
from sim.planning.models import dense_parameters
from train.learner import Learner
from train.model import new_model
from train.model_config import ScratchConfig
from train.policy import Policy
from train.tasks.characters import VOCABULARY_SIZE

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


@pytest.mark.parametrize("module", [clock, correctness, pages])
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


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


@pytest.mark.parametrize(
    ("config", "millions"),
    [(GPU.model, 134), (GPU.config().model, 34)],  # as profiles.py says
)
def test_sizes_of_the_models_that_a_gpu_gets(config, millions):
    with torch.device("meta"):
        model = new_model(config, max_length=32, seed=0)
    found = shape_of_model(model).parameters
    assert found == dense_parameters(  # the planner's formula
        layers=config.layers, width=config.hidden_size, heads=config.heads,
        kv_heads=config.kv_heads, feed_forward=config.ffn_size, vocab=VOCABULARY_SIZE, tied=False,
    )  # fmt: skip
    assert round(found / 1e6) == millions


def test_time_is_up():
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
    assert found["rows"][1]["mean"] > correctness.FLOAT32.mean, "bfloat16 was not used"
    subject = Subject.short(setting)
    batch = subject.batch(subject.generate(native(subject.model)))
    hotter = Policy(subject.model, replace(subject.decoding, temperature=1.1))
    for limits in (correctness.FLOAT32, correctness.BFLOAT16):
        found_F = correctness.differences(hotter, batch)
        assert not correctness.agreement_row("engine", "learner", found_F, limits)["holds"]


def test_one_wrong_token_is_no_agreement():
    # 199 exact ones and one that is 3.9 nats off, 0.0195 in the mean
    difference_F = torch.tensor([*[0.0] * 199, -3.9])
    for limits in (correctness.FLOAT32, correctness.BFLOAT16):
        row = correctness.agreement_row("engine", "learner", difference_F, limits)
        assert row["mean"] < correctness.BFLOAT16.mean < row["largest"] == pytest.approx(3.9)
        assert not row["holds"]
        assert correctness.agreement_row("engine", "learner", difference_F[:199], limits)["holds"]
    every = correctness.agreement_row("e", "l", torch.full((9,), 0.03), correctness.BFLOAT16)
    assert every["largest"] < correctness.BFLOAT16.largest
    assert not every["holds"], "the mean is judged as well"


def test_a_precision_that_raises_does_not_hold(setting, monkeypatch):
    def one(setting, dtype):
        if dtype in raising:
            raise RuntimeError("no kernel\nfor it")
        return {"engine": f"vllm, {dtype}", "holds": True}

    monkeypatch.setattr(vllm_engine, "why_missing", lambda device: None)
    monkeypatch.setattr(vllm_engine, "measured", one)
    for raising, holds in (((), True), (("float32",), False), (("bfloat16",), False)):
        found = vllm_engine.vllm(setting)
        assert found["holds"] == holds
        assert len(found["rows"]) == 2 - len(raising)
        assert found["note"] == "; ".join(["In nats", *(f"{d}: no kernel for it" for d in raising)])


def test_an_update_keeps_the_memory_settings_of_the_learner(setting):
    subject = Subject.short(setting)
    layer = subject.model.base_model.layers[0]
    plain = layer.forward
    subject.learner(config_of(setting.profile))
    assert layer.forward == plain
    learner = subject.learner(
        config_of(setting.profile, activation_checkpointing=True, precision="bfloat16")
    )
    assert learner.policy.autocast == torch.bfloat16
    assert layer.forward.__wrapped__ == plain, "recomputed in backward"


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
    assert correctness.distance(part, whole) > 1000 * correctness.GRADIENT_LIMIT


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
    out = tmp_path / "out" / "cpu"
    for text in ((out / "gpu_check.md").read_text(), page_path.read_text()):
        assert "- torch sees no CUDA device: profile cpu, a rehearsal, is run instead" in text
        assert "- engine vllm is measured on a GPU alone" in text
        assert "- agreement: RuntimeError: out of memory" in text
        assert text.count("not measured") == 4  # four aims
        assert "**A rehearsal on a CPU**" in text
        assert "Command: `python -m benchmarks.gpu_check --profile cpu --minutes 8`" in text
    found = read_json(out / "gpu_check.json")
    assert [part["status"] for part in found["parts"].values()] == ["failed", "missing", "failed"]
    assert "vllm: missing there is none" in capsys.readouterr().out
    assert command.main(["--minutes", "0"]) == 2
    assert "--minutes must be a float in [1.0, 60.0]" in capsys.readouterr().err


def started(monkeypatch, words):
    """Exit status of the command, and the setting and watchdog that it would have measured with."""
    seen = []

    def measured(setting, *rest):
        seen.append(setting)
        return {"parts": {}}

    def watchdog(seconds, **options):
        seen.append(seconds)

    monkeypatch.setattr(command, "measured", measured)
    monkeypatch.setattr(command.faulthandler, "dump_traceback_later", watchdog)
    return command.main(words), seen


def test_a_rehearsal_leaves_a_gpu_s_files_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    folders = []
    for name in ("gpu", "cpu"):
        words = ["--profile", name, "--out", str(tmp_path), "--minutes", "2"]
        _, (seconds, setting) = started(monkeypatch, words)
        assert seconds == 120.0, "at most two minutes"
        assert setting.deadline.left() <= 120.0 - command.WRITING_S
        assert setting.profile.name == name
        folders.append(setting.out)
    assert len(set(folders)) == 2
    assert all(folder.parent == tmp_path for folder in folders)


def test_another_commit_is_refused_before_any_part(tmp_path, monkeypatch, capsys):
    kept = tmp_path / "cpu" / "curriculum"
    kept.mkdir(parents=True)
    write_json(kept / "made_by.json", {"commit": "another"})
    words = ["--profile", "cpu", "--out", str(tmp_path)]
    assert started(monkeypatch, words) == (2, [])
    assert f"{kept} must be begun at commit" in capsys.readouterr().err
    assert read_json(kept / "made_by.json") == {"commit": "another"}
    kept.rename(tmp_path / "elsewhere")
    status, seen = started(monkeypatch, words)
    assert (status, len(seen)) == (1, 2)  # measured; no part, so none holds


def test_every_correctness_part_has_to_hold():
    good, bad = ({"status": "measured", "holds": holds} for holds in (True, False))
    names = ("agreement", "accumulation", "resume")
    for states in itertools.product((good, bad, {"status": "failed", "sentence": ""}), repeat=3):
        parts = dict(zip(names, states, strict=True))
        assert is_correct(parts) == (states == (good, good, good))
    parts = dict.fromkeys(names, good)
    assert is_correct({**parts, "vllm": {"status": "missing", "sentence": ""}})
    assert not is_correct({**parts, "vllm": bad})


def test_every_engine_has_an_aim_of_its_own_that_names_its_row():
    rows = [
        {"what": "native, float32", "rollouts": 8, "bandwidth_share": 0.59},
        {"what": "native, bfloat16", "rollouts": 16, "bandwidth_share": 0.3},
        {"what": "update, products in bfloat16", "rollouts": 8, "matmul_share": 0.4},
    ]
    fast = [{"engine": "vllm, bfloat16", "rollouts": 16, "bandwidth_share": 0.6}, {"engine": "v"}]
    parts = {
        "throughput": {"rows": rows}, "vllm": {"rows": fast}, "moments": {"of_generation": 0.05},
    }  # fmt: skip
    found = aims(parts, is_gpu=True)
    assert [(row["row"], row["measured"], row["is_met"]) for row in found] == [
        ("native, float32, 8 rollouts", 0.59, False),
        ("vllm, bfloat16, 16 rollouts", 0.6, True),
        ("update, products in bfloat16, 8 rollouts", 0.4, True),
        (None, 0.05, False),
    ]
    assert [row["aim"].split(" of ")[0] for row in found] == [
        "generation by native: at least 60%", "generation by vllm: at least 60%",
        "update: at least 40%", "moments: less than 5%",
    ]  # fmt: skip
    assert all(row["measured"] is row["row"] is None for row in aims(parts, is_gpu=False))
    assert [row["is_met"] for row in aims({}, is_gpu=True)] == [None] * 4


def test_differences_are_numbers_until_they_are_shown():
    alone = curriculum.interval(paired_difference([0.1], [0.0]))
    assert alone == {"mean": pytest.approx(0.1), "low": None, "high": None}
    # Student's t at 97.5 % with 5 degrees of freedom is 2.5706, the deviation of 0.1 ... 0.6 is 0.18708:
    # 0.35 +- 2.5706 x 0.18708 / sqrt(6)
    several = curriculum.interval(paired_difference([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.0] * 6))
    assert several == pytest.approx({"mean": 0.35, "low": 0.1537, "high": 0.5463}, abs=1e-4)
    rows = [{"arm": "a", "minus_uniform": alone}, {"arm": "b", "minus_uniform": several}]
    assert table([{"arm": "uniform", "minus_uniform": None}, *rows]) == [
        "| arm | minus uniform |", "|---|---|", "| uniform |  |", "| a | +0.100 |",
        "| b | +0.350 [+0.154, +0.546] |", "",
    ]  # fmt: skip


def test_warm_start_and_resume(setting, monkeypatch):
    about = curriculum.warm_start(setting)
    assert 0.0 < about["success"] < 1.0, "or groups are not mixed"
    found = resume.resume(setting)
    # bit for bit on a CPU, and something was learned
    assert found["holds"]
    assert found["rows"][0]["distance"] == 0.0
    assert found["rows"][0]["way"] > 0.0
    # negative control: the state of the optimiser is lost
    monkeypatch.setattr(Learner, "load_state_tensors", lambda *arguments: None)
    found = resume.resume(setting)
    assert not found["holds"]
    assert found["rows"][0]["distance"] > resume.GPU_LIMIT, "it would be seen on a GPU, too"


def test_a_warm_start_below_its_target_is_gone_on_with(tmp_path):
    start = {**TINY.sections["warm_start"], "target_success": 1.0, "steps": 20, "check_every": 10}
    weak = setting_of(tmp_path, replace(TINY, sections={**TINY.sections, "warm_start": start}))
    about = curriculum.warm_start(weak)
    assert about["supervised_steps"] == 20
    assert about["success"] < 1.0
    assert (tmp_path / curriculum.FOLDER / "model" / "model.safetensors").exists()


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
    for title in ("passes", "## Speed", "## Gradient moments", "## Curricula"):
        assert title in text
    assert "## Speed" not in page(found, has_times=False)
    for name in ("throughput", "curriculum"):
        assert (setting.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    # given again: finished runs are kept
    monkeypatch.setattr(curriculum, "train", failing)
    assert curriculum.curriculum(setting)["rows"] == found["parts"]["curriculum"]["rows"]
