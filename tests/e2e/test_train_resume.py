"""Resuming under every scheduler, and who may work in a run folder."""

from __future__ import annotations

import json

import pytest

from benchmarks.gpu_check.stopping import StoppedError, StoppingProgress
from cures.storage import read_json, read_jsonl
from tests.train_cases import assert_same_results, latest_checkpoint, small_config, trained
from train.errors import FolderInUseError
from train.folder import locked

OPTIONS = {
    "cures": {"num_subsets": 3, "pilots": 2, "steps_per_subset": 2},
    "cures-released": {
        "num_subsets": 3, "pilots": 2, "steps_per_subset": 2, "num_workers": 2, "num_gpus": 2,
    },
    "gvm": {"num_subsets": 3, "pilots": 4, "steps_per_subset": 2, "use_moments": True},
    "speed": {"screening_size": 2},
    "lilo": {"pilots": 2, "candidates_per_prompt": 2},
}  # fmt: skip


def config_of(tmp_path, scheduler, *, checkpoint_every=1, rollouts=320):
    """Coin-flip rewards: the groups of an untrained model are mixed then."""
    return small_config(
        task={"coins": 1.0},
        rollout={"gradient_moments": True},
        scheduler={"name": scheduler, "batch_size": 4, "budget": 16, **OPTIONS},
        evaluation={"every": 48, "samples": 1, "oracle_rollouts": 2, "oracle_every": 3},
        run={
            "rollouts": rollouts,
            "checkpoint_every": checkpoint_every,
            "cache": str(tmp_path / "cache"),
        },
    )


def trained_in_pieces(config, folder, updates):
    """Train, stopped again and again after ``updates`` updates; return how often."""
    for stops in range(100):
        try:
            trained(config, folder, StoppingProgress(updates))
        except StoppedError:
            continue
        return stops
    raise AssertionError("no progress")


# one of every mechanism that a checkpoint has to carry; the others differ by the rule alone, whose state
# is tested for each of them without a model (tests/properties)
@pytest.mark.parametrize(
    "scheduler",
    [
        *("uniform", "cures", "speed", "adaptive"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("cures-released", "greso", "reinforce-ada", "oracle")
        ),
    ],
)
def test_stopped_and_resumed_equals_left_alone(scheduler, tmp_path):
    alone = trained(config_of(tmp_path, scheduler), tmp_path / "alone")
    # a checkpoint every 3 updates and a stop after 4: each time the work of one update is lost
    for checkpoint_every, updates in ((1, 2), (3, 4)):
        config = config_of(tmp_path, scheduler, checkpoint_every=checkpoint_every)
        pieces = tmp_path / f"every_{checkpoint_every}"
        assert trained_in_pieces(config, pieces, updates) >= 1
        assert_same_results(alone, pieces)


def test_another_seed_does_not_pass_for_the_same_run(tmp_path):
    # negative control of the comparison above
    content = config_of(tmp_path, "cures").as_dict()
    folders = []
    for seed in (0, 1):
        config = small_config(**{**content, "run": {**content["run"], "seed": seed}})
        folders.append(trained(config, tmp_path / str(seed)))
    with pytest.raises(AssertionError):
        assert_same_results(*folders)


def test_plans_after_the_last_update_are_in_the_last_checkpoint(tmp_path):
    # 20 prompts in subsets of 6 or 7: the run ends with a subset's pilots and no update on them
    config = config_of(tmp_path, "cures", rollouts=60)
    folder = trained(config, tmp_path / "run")
    summary = read_json(folder / "summary.json")
    last = read_jsonl(folder / "metrics.jsonl")[-1]
    assert last["generated"] < summary["generated"], "otherwise this tests nothing"
    position = read_json(latest_checkpoint(folder) / "position.json")
    assert (position["updates"], position["generated"]) == (last["step"], summary["generated"])
    outcomes = sum(row["trial"] for row in read_jsonl(folder / "outcomes.jsonl"))
    assert outcomes == summary["generated"]

    def content():
        return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    before = content()
    trained(config, folder)  # a finished run goes on: nothing happens
    assert content() == before


def test_one_process_per_folder(tmp_path):
    second = locked(tmp_path)
    with locked(tmp_path), pytest.raises(FolderInUseError, match="another process is training"):
        second.__enter__()
    with locked(tmp_path):  # free again
        pass


def test_a_refused_process_leaves_the_folder_as_it_is(tmp_path):
    # no checkpoint yet, so the other configuration would be accepted and written, but for the lock
    folder = tmp_path / "run"
    folder.mkdir()
    first = config_of(tmp_path, "uniform")
    with pytest.raises(StoppedError):
        trained(config_of(tmp_path, "uniform", checkpoint_every=100), folder, StoppingProgress(1))
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    assert "config.json" in before
    with locked(folder), pytest.raises(FolderInUseError):
        trained(first, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
    trained(first, folder)  # negative control: without the lock it is taken over
    assert json.loads(before["config.json"])["run"]["checkpoint_every"] == 100
    assert read_json(folder / "config.json")["run"]["checkpoint_every"] == 1


def test_what_a_kill_left_of_a_write_does_not_disturb(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.json.4711.partial").write_bytes(b'{"form')
    config = config_of(tmp_path, "uniform")
    assert_same_results(trained(config, folder), trained(config, tmp_path / "clean"))
    (folder / ".summary.json.4712.partial").write_bytes(b"")
    trained(config, folder)
