"""A process may die anywhere: the last completed checkpoint stays readable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cures.storage import write_json
from train import checkpoint
from train.checkpoint import Checkpoint, Position, Weights


def checkpoint_of(updates):
    return Checkpoint(
        Position(updates, 16 * updates, {"metrics": 100 * updates}),
        {"pending/weight": torch.full((2, 3), float(updates))},
        {"plans": updates, "alpha": np.arange(4.0)},
    )


def describe(folder):
    write_json(folder / "config.json", {"model_type": "tiny"})


def save(root, updates, **options):
    weights = Weights({"layer.weight": torch.full((3, 2), float(updates))}, describe)
    checkpoint.save(root, checkpoint_of(updates), weights, **options)


def assert_is(found, updates):
    assert found.position == Position(updates, 16 * updates, {"metrics": 100 * updates})
    assert torch.equal(found.host_tensors["pending/weight"], torch.full((2, 3), float(updates)))
    assert found.scheduler_state["plans"] == updates


def test_round_trip_keeps_the_last_two(tmp_path):
    assert checkpoint.load(tmp_path) is None
    for updates in (1, 2, 3):
        save(tmp_path, updates)
        assert_is(checkpoint.load(tmp_path), updates)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["00000002-000000000032", "00000003-000000000048", "latest.json"]


def test_more_are_kept_if_asked_for(tmp_path):
    for updates in range(1, 7):
        save(tmp_path, updates, kept=4)
    assert [p.name[:8] for p in sorted(tmp_path.glob("0*"))] == [f"{k:08d}" for k in (3, 4, 5, 6)]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.mark.parametrize(
    "victim",
    [
        "save_file",
        "save_torch_state_dict",
        "save_weights",
        "save_state",
        "write_json",
        "os.rename",
        "sync",
        "_prune",
    ],
)
@pytest.mark.parametrize("is_done", [False, True])
def test_killed_anywhere_during_a_write(tmp_path, monkeypatch, victim, is_done):
    """Die just before or just after every call that touches the disk; then go on as if resumed."""
    save(tmp_path, 1)
    owner, name = (checkpoint.os, "rename") if "." in victim else (checkpoint, victim)
    original = getattr(owner, name)

    def dies(*arguments, **options):
        if is_done:
            original(*arguments, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        with pytest.raises(Killed):
            save(tmp_path, 2)
    survivor = checkpoint.load(tmp_path)
    assert_is(survivor, 2 if survivor.position.updates == 2 else 1)
    assert survivor.position.updates == (2 if victim == "_prune" else 1)
    for updates in range(survivor.position.updates + 1, 5):
        save(tmp_path, updates)
    assert_is(checkpoint.load(tmp_path), 4)
    assert not list(tmp_path.glob(".partial-*"))


def test_killed_when_only_the_pointer_is_missing(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def dies_at_pointer(path, content):
        if path.name == "latest.json":
            raise Killed
        write_json(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", dies_at_pointer)
        with pytest.raises(Killed):
            save(tmp_path, 2)
    assert (tmp_path / "00000002-000000000032").exists()
    assert_is(checkpoint.load(tmp_path), 1)
    save(tmp_path, 2)
    assert_is(checkpoint.load(tmp_path), 2)


def test_saving_an_update_twice_is_refused(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(ValueError, match="updates must be greater than that of the latest"):
        save(tmp_path, 1)
    assert_is(checkpoint.load(tmp_path), 1)


@pytest.mark.parametrize("name", ["host-0.safetensors", "scheduler.npz", "position.json"])
@pytest.mark.parametrize("is_missing", [False, True])
def test_damage_is_named_and_the_remedy_works(tmp_path, name, is_missing):
    for updates in (1, 2):
        save(tmp_path, updates)
    file = tmp_path / "00000002-000000000032" / name
    content = file.read_bytes()
    file.unlink() if is_missing else file.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ValueError, match=f"00000002-000000000032/{name} is missing or damaged"
    ) as e:
        checkpoint.load(tmp_path)
    assert f'write {{"folder": NAME}} into {tmp_path / "latest.json"}' in str(e.value)
    assert "NAME is one of ['00000001-000000000016', '00000002-000000000032']" in str(e.value)
    (tmp_path / "latest.json").write_text('{"folder": "00000001-000000000016"}')
    assert_is(checkpoint.load(tmp_path), 1)
    save(tmp_path, 2)  # over the damaged one
    assert_is(checkpoint.load(tmp_path), 2)


@pytest.mark.parametrize(
    "content",
    [
        b'{"folder": "00000009-000000000144"}',
        b'{"folder": 7}',
        b"{}",
        b"[]",
        b'{"fold',
        b"\xff\xfe",
        None,
    ],
)
def test_a_pointer_to_nothing_is_named(tmp_path, content):
    for updates in (1, 2):
        save(tmp_path, updates)
    pointer = tmp_path / "latest.json"
    pointer.unlink() if content is None else pointer.write_bytes(content)
    for reader in (checkpoint.load, checkpoint.latest_position):
        with pytest.raises(ValueError, match="latest.json is missing or damaged"):
            reader(tmp_path)


@pytest.mark.parametrize(
    "content", [[], {"format": 2}, {"format": 2, "updates": "2", "generated": 32, "log_bytes": {}}]
)
def test_a_position_with_other_content_is_named(tmp_path, content):
    save(tmp_path, 1)
    write_json(tmp_path / "00000001-000000000016" / "position.json", content)
    with pytest.raises(ValueError, match=r"position.json|format of"):
        checkpoint.load(tmp_path)


def test_another_format_is_named(tmp_path):
    save(tmp_path, 1)
    write_json(tmp_path / "00000001-000000000016" / "position.json", {"format": 99})
    with pytest.raises(ValueError, match=r"format of .*00000001-000000000016 must be 2, got 99"):
        checkpoint.load(tmp_path)
