"""What a run would need, against closed forms and against what a real pass keeps."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

import cures
from tests.engine_conformance import tiny_model
from tests.train_cases import small_config
from train.__main__ import main
from train.dry_run import memory as memory_module
from train.dry_run.memory import memory, meta_model
from train.dry_run.schedule import schedule, stand_in_scheduler
from train.dry_run.show import show
from train.engines.engine_config import VllmConfig
from train.engines.protocol import Decoding
from train.model import architecture_of, new_model
from train.model_config import PretrainedConfig
from train.policy import Policy

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ROOT / "configs" / "architectures"
DECODING = Decoding(max_new_tokens=3072, end_tokens=(1,), pad_token=0)


def learner(**changes):
    config = small_config()
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, **changes))


@pytest.mark.parametrize(
    ("name", "vocabulary", "width", "kv_width", "ffn", "is_tied"),
    [
        ("Qwen2.5-Math-1.5B", 151936, 1536, 256, 8960, True),
        ("Qwen2.5-Math-7B", 152064, 3584, 512, 18944, False),
    ],
)
def test_parameters_and_cache_of_the_papers_models(name, vocabulary, width, kv_width, ffn, is_tied):
    # per layer: q and o are width x width, k and v width x kv_width, q, k, v have biases, three
    # matrices of the feed-forward part, two norms; once: embedding, head unless tied, last norm
    layer = 2 * width**2 + 2 * width * kv_width + width + 2 * kv_width + 3 * width * ffn + 2 * width
    count = 28 * layer + (1 if is_tied else 2) * vocabulary * width + width
    model = meta_model(PretrainedConfig(path=f"Qwen/{name}"), ARCHITECTURES)
    found = memory(learner(pass_tokens=64), model, DECODING, 1)
    assert found.parameters == count
    assert found.weights == found.gradients == 4 * count
    assert found.optimizer == 8 * count
    assert found.kv_cache_token == 2 * 28 * kv_width * 4
    assert found.engine == found.reference == 0.0
    sharded = memory(learner(pass_tokens=64, sharding="fsdp", kl="k3"), model, DECODING, 8)
    assert sharded.optimizer == count
    assert sharded.reference == count / 2
    assert sharded.engine == 4 * count


def test_weights_and_cache_of_vllm_are_its_own(monkeypatch):
    monkeypatch.setattr(memory_module, "_kept_for_backward", lambda *_: 7.0)  # not asked here
    with torch.device("meta"):
        model = tiny_model(0, tie_word_embeddings=True)
    count = sum(p.numel() for p in model.parameters())
    embedding = model.get_input_embeddings().weight.numel()

    def found(engine, processes=1, **options):
        config = learner(pass_tokens=64, sharding="fsdp")
        config = dataclasses.replace(
            config,
            rollout=dataclasses.replace(config.rollout, engine=engine),
            vllm=VllmConfig(**options),
        )
        return memory(config, model, DECODING, processes)

    # bfloat16, and nothing tied: the embedding twice; not sharded whatever the trainer's weights are
    awake, asleep = found("vllm"), found("vllm", sleep=True)
    assert awake.engine == asleep.engine_asleep == 2 * (count + embedding)
    assert awake.engine_asleep == asleep.engine == 0.0
    assert awake.training - asleep.training == awake.engine
    assert found("vllm", 8, dtype="float32").engine == 2 * awake.engine
    # a server has devices of its own; native samples from the trainer's weights unless they are sharded
    assert found("vllm-server", 8).engine == found("native").engine == 0.0
    assert found("native", 8).engine == 4 * count
    assert found("native").kv_cache_token == 2 * awake.kv_cache_token


def test_architectures_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = PretrainedConfig(path="Qwen/Qwen2.5-Math-7B")
    assert architecture_of(config, memory_module.ARCHITECTURES) == ARCHITECTURES / "Qwen2.5-Math-7B"


def bytes_kept(model, rows, length):
    """Saved for backward by a real pass, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept, alive = {}, []

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Policy(model, DECODING).states(torch.zeros((rows, length), dtype=torch.int64))
    return sum(kept.values())


def test_activations_are_those_of_a_real_pass():
    config = small_config().model
    model = new_model(config, max_length=16, seed=0)
    with torch.device("meta"):
        empty = new_model(config, max_length=16, seed=0)
    for rows in (4, 8):
        found = memory(learner(pass_tokens=16 * rows), empty, DECODING, 1).activations
        assert found == pytest.approx(
            bytes_kept(model, rows, 16), rel=0.1
        )  # fake tensors share less
    less = memory(learner(pass_tokens=128, activation_checkpointing=True), empty, DECODING, 1)
    # of the only layer its input is kept: 128 tokens x 16 numbers x 4 bytes, and what is outside it
    assert 128 * 16 * 4 <= less.activations < found / 2


def test_schedule_of_uniform_by_hand():
    # 64 rollouts an update, none of them pilots: 1000 // 64 updates and a shorter one of the rest
    scheduler = cures.make_scheduler("uniform", num_prompts=50, batch_size=8, budget=64, seed=0)
    found = schedule(scheduler, 50, 1000, 0)
    assert (found.updates, found.generated, found.pilots, found.trained) == (16, 1000, 0, 1000)
    assert not found.is_extrapolated


def test_schedule_of_cures_by_hand():
    # 4 pilots for each of the 10 prompts of a subset, then 3 updates of 64: 5 x (40 + 192) = 1160
    config = small_config(
        scheduler={
            "name": "cures", "batch_size": 8, "budget": 64, "num_subsets": 5, "pilots": 4,
            "steps_per_subset": 3,
        },
        run={"rollouts": 1160},
    )  # fmt: skip
    found = schedule(stand_in_scheduler(config, 50), 50, 1160, 0)
    assert (found.updates, found.generated, found.pilots, found.trained) == (15, 1160, 200, 960)


@pytest.mark.parametrize("name", cures.list_schedulers())
def test_every_scheduler_can_be_asked(name):
    options = {
        "staged": {"num_stages": 2},
        "cures-released": {"batch_size": 2, "num_workers": 2},
    }.get(name, {})
    config = small_config(scheduler={"name": name, "batch_size": 4, "budget": 32, **options})
    found = schedule(stand_in_scheduler(config, 40), 40, 200, 0)
    assert 0 < found.generated <= 200
    assert found.trained + found.pilots <= found.generated + 1e-9


def test_long_runs_are_extrapolated(monkeypatch):
    monkeypatch.setattr("train.dry_run.schedule.SHOWN_UPDATES", 10)
    scheduler = cures.make_scheduler("uniform", num_prompts=50, batch_size=8, budget=64, seed=0)
    found = schedule(scheduler, 50, 64 * 1000, 0)
    assert found.is_extrapolated
    assert (found.updates, found.generated) == (1000, 64_000)


def test_on_the_screen(capsys):
    command = ["run", str(ROOT / "configs" / "tiny_cpu.toml"), "--scheduler", "cures", "--dry-run"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "225,696 parameters" in said
    assert "61,440" in said


@pytest.mark.parametrize(("sleep", "when"), [(True, "while it generates"), (False, "at all times")])
def test_the_share_of_vllm_is_on_the_screen(sleep, when):
    config = small_config(rollout={"engine": "vllm"}, vllm={"sleep": sleep})
    console = Console(file=io.StringIO(), width=200)
    show(config, prompts=20, processes=1, console=console)
    said = console.file.getvalue()
    assert re.search(rf"engine vllm {when}, weights and cache +│ +40% of the GPU", said)
    assert ("in main memory meanwhile: weights of engine vllm" in said) == sleep


@pytest.mark.parametrize("option", ["--prompts", "--processes"])
def test_options_of_the_dry_run_alone_are_refused_without_it(option, tmp_path, capsys):
    command = ["run", str(ROOT / "configs" / "tiny_cpu.toml"), "--out", str(tmp_path / "run")]
    assert main([*command, option, "8"]) == 2
    said = capsys.readouterr().err
    assert f"run: {option} must be left out without --dry-run" in said
    assert ("torchrun --nproc-per-node" in said) == (option == "--processes")
    assert not (tmp_path / "run").exists()


def test_unknown_architecture_names_the_known_ones():
    with pytest.raises(ValueError, match=r"path must be .*Qwen2.5-Math-1.5B.* got 'no/such'"):
        meta_model(PretrainedConfig(path="no/such"), ARCHITECTURES)
