"""Missing or damaged files of a run folder: each is named with what to do, never a traceback."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cures.storage import load_state, read_json, save_state, write_json
from tests.train_cases import (
    assert_same_results,
    latest_checkpoint,
    small_config,
    small_host,
    trained,
)
from train.__main__ import main
from train.building import load_run
from train.folder import check_questions
from train.logs import LOGS, RunLogs
from train.tasks.making import make_task


def config_of(root):
    return small_config(
        task={"coins": 1.0},
        scheduler={"name": "oracle"},
        run={"cache": str(root / "cache"), "rollouts": 64},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    return root, trained(config_of(root), root / "run")


@pytest.fixture
def copy(finished, tmp_path):
    """A run folder to damage, and its configuration."""
    root, folder = finished
    shutil.copytree(folder, tmp_path / "run")
    return config_of(root), tmp_path / "run"


@pytest.mark.parametrize("name", LOGS)
def test_a_log_shorter_than_at_the_checkpoint(copy, name):
    config, folder = copy
    log = folder / f"{name}.jsonl"
    size = log.stat().st_size
    log.write_bytes(log.read_bytes()[:-1])
    sizes = {p.name: p.stat().st_size for p in folder.glob("*.jsonl")}
    message = rf"{name}\.jsonl must be at least {size} bytes long.*another --out.*, got {size - 1}"
    with pytest.raises(ValueError, match=message):
        trained(config, folder)
    assert {p.name: p.stat().st_size for p in folder.glob("*.jsonl")} == sizes, "none was cut"


@pytest.mark.parametrize("name", ["evaluation", "metrics"])
@pytest.mark.parametrize("content", [b"\xff", b"{", b"[]\n", b"{}\n"])
def test_a_log_with_other_content(copy, name, content):
    config, folder = copy
    log = folder / f"{name}.jsonl"
    log.write_bytes(content.ljust(log.stat().st_size, b"\n"))
    with pytest.raises(ValueError, match=rf"{name}\.jsonl is missing or damaged .*another --out"):
        trained(config, folder)


def renamed(tensors, key):
    tensors[f"{key}.old"] = tensors.pop(key)


def reshaped(tensors, key):
    tensors[key] = np.zeros(3, dtype=tensors[key].dtype)


def removed(tensors, key):
    del tensors[key]


def recast(tensors, key):
    tensors[key] = tensors[key].astype(np.float16)


def damage(file, change, key):
    tensors = load_file(file)
    change(tensors, key)
    save_file(tensors, file, metadata={"format": "pt"})


def assert_named(act, name):
    with pytest.raises(ValueError, match=rf"{name} is missing or damaged") as error:
        act()
    assert "\n" not in str(error.value)
    assert "train anew in another --out" in str(error.value)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        *((f, "optimizer/lm_head.weight/exp_avg") for f in (renamed, reshaped, removed)),
        *((f, "pending/token_R_T") for f in (renamed, reshaped, removed, recast)),
        *((f, "oracle/rate_N") for f in (renamed, reshaped, removed)),
    ],
)
def test_tensors_of_another_name_or_shape(copy, change, key):
    config, folder = copy
    damage(latest_checkpoint(folder) / "host-0.safetensors", change, key)
    assert_named(lambda: trained(config, folder), r"host-0\.safetensors")
    assert load_run(folder)[2].generated == 64, "an evaluation needs the weights alone"


@pytest.mark.parametrize("change", [renamed, reshaped, removed])
def test_weights_of_another_name_or_shape(copy, change):
    config, folder = copy
    damage(latest_checkpoint(folder) / "model" / "model.safetensors", change, "lm_head.weight")
    for act in (lambda: trained(config, folder), lambda: load_run(folder)):
        assert_named(act, "model")


def test_a_state_of_the_scheduler_with_other_content(copy):
    config, folder = copy
    file = latest_checkpoint(folder) / "scheduler.npz"
    state = load_state(file)
    state.popitem()
    save_state(file, state)
    with pytest.raises(ValueError, match=r"scheduler\.npz is missing or damaged"):
        trained(config, folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_configuration(copy, content):
    config, folder = copy
    (folder / "config.json").write_bytes(content)
    for act in (lambda: trained(config, folder), lambda: load_run(folder)):
        with pytest.raises(
            ValueError, match=r"config\.json is missing or damaged .* another --out"
        ):
            act()


def test_an_edited_configuration(copy):
    _, folder = copy
    content = read_json(folder / "config.json")
    content["task"]["pool_size"] = -3
    write_json(folder / "config.json", content)
    with pytest.raises(ValueError, match=r"config\.json is missing or damaged .*pool_size must be"):
        load_run(folder)


@pytest.mark.parametrize("content", [b"[1]", b"{"])
def test_a_damaged_record_of_the_environment(copy, content):
    config, folder = copy
    (folder / "environment.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"environment\.json is missing or damaged .*delete it"):
        trained(config, folder)
    (folder / "environment.json").unlink()
    trained(config, folder)


def test_the_checkpoint_before_leads_to_the_same_end(finished, copy):
    # the remedy that the message names
    config, folder = copy
    shutil.rmtree(latest_checkpoint(folder))
    assert main(["eval", str(folder)]) == 2
    (before,) = (p.name for p in (folder / "checkpoint").iterdir() if p.is_dir())
    write_json(folder / "checkpoint" / "latest.json", {"folder": before})
    assert_same_results(trained(config, folder), finished[1])


def test_an_undamaged_copy_is_fine(copy):
    # negative control of everything above
    config, folder = copy
    trained(config, folder)
    assert load_run(folder)[2].generated == 64


def test_logs_are_closed_even_if_one_fails(tmp_path, monkeypatch):
    logs = RunLogs(tmp_path)
    closed = []
    for name, log in logs._logs.items():

        def close(name=name, original=log.close):
            original()
            closed.append(name)
            if name in ("metrics", "evaluation"):
                raise OSError(f"{name}: disk full")

        monkeypatch.setattr(log, "close", close)
    with pytest.raises(OSError, match="disk full"), logs:
        pass
    assert sorted(closed) == sorted(LOGS)


def test_waiting_rollouts_of_another_width_are_refused():
    host = small_host()
    tensors = host.state_tensors()
    tensors["pending/token_R_T"] = tensors["pending/token_R_T"].new_zeros(0, 9)
    with pytest.raises(
        ValueError, match=r"Rollouts.from_dict: tensors must be of types and shapes"
    ):
        host.load_state(tensors, generated=0, updates=0)


def test_other_questions_than_the_run_began_with(copy):
    config, folder = copy
    questions = read_json(folder / "questions.json")
    assert (questions["prompts"], questions["left_out"]) == (config.task.pool_size, {})
    trained(config, folder)  # the same ones: nothing happens
    write_json(folder / "questions.json", {**questions, "sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"a run on other questions: sha256.*another --out"):
        trained(config, folder)
    assert read_json(folder / "questions.json")["sha256"] == "0" * 64
    (folder / "questions.json").write_bytes(b"{")
    with pytest.raises(ValueError, match=r"questions\.json"):
        trained(config, folder)


def test_an_edited_answer_is_another_question(tmp_path, monkeypatch):
    config = small_config()
    task = make_task(config)
    check_questions(task, tmp_path)
    first = read_json(tmp_path / "questions.json")["sha256"]
    check_questions(make_task(config), tmp_path)
    assert read_json(tmp_path / "questions.json")["sha256"] == first
    monkeypatch.setattr(type(task.pool), "answer", lambda self, index: "0")
    check_questions(task, tmp_path)
    assert read_json(tmp_path / "questions.json")["sha256"] != first
