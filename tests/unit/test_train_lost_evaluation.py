"""A run whose held-out answers are lost ends with a sentence, loses no update and can go on."""

from __future__ import annotations

import numpy as np
import pytest

from cures.storage import read_jsonl
from tests.train_cases import latest_checkpoint, small_config, trained
from train import run
from train.__main__ import main
from train.errors import NothingJudgedError


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run that loses nothing: five updates, evaluated after 0, 32, 64 and, at the end, 80 rollouts."""
    root = tmp_path_factory.mktemp("alone")
    return trained(config_of(root), root / "run")


def config_of(root, every=32):
    """No checkpoint before the end."""
    values = {"rollouts": 80, "checkpoint_every": 1000, "cache": str(root / "cache")}
    return small_config(task={"coins": 1.0}, evaluation={"every": every}, run=values)


def lose(monkeypatch, *numbers):
    """All answers of these evaluations, counted from 1."""
    calls = []

    def held_out_success(*arguments, **options):
        calls.append(None)
        rate_N = original(*arguments, **options)
        return np.full_like(rate_N, np.nan) if len(calls) in numbers else rate_N

    original = run.held_out_success
    monkeypatch.setattr(run, "held_out_success", held_out_success)


@pytest.mark.parametrize(
    ("number", "latest"), [(2, "00000002-000000000032"), (4, "00000005-000000000080")]
)
def test_no_update_is_lost_and_the_run_goes_on(number, latest, alone, tmp_path, monkeypatch):
    config, stopped = config_of(tmp_path), tmp_path / "stopped"
    with monkeypatch.context() as patch:
        lose(patch, number)
        with pytest.raises(NothingJudgedError, match="4 of 4 questions; the same command goes on"):
            trained(config, stopped)
    assert latest_checkpoint(stopped).name == latest
    assert len(read_jsonl(stopped / "evaluation.jsonl")) == number - 1
    trained(config, stopped)
    # what was lost is measured with the policy that it was to be measured with
    logs = ("evaluation.jsonl", "outcomes.jsonl")
    assert all((stopped / log).read_bytes() == (alone / log).read_bytes() for log in logs)
    rows = [read_jsonl(folder / "metrics.jsonl") for folder in (stopped, alone)]
    assert [{**row, "held_out": None} for row in rows[0]] == [
        {**row, "held_out": None} for row in rows[1]
    ]


def test_inside_a_plan_the_update_is_not_lost_either(alone, tmp_path, monkeypatch):
    # 24 rollouts lie within the second plan of 16, whose update is the second; 48 is after the third
    whole = read_jsonl(trained(config_of(tmp_path, 24), tmp_path / "whole") / "evaluation.jsonl")
    assert [(row["generated"], row["step"]) for row in whole] == [
        (0, 0), (24, 1), (48, 3), (72, 4), (80, 5),
    ]  # fmt: skip
    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        lose(patch, 2)
        with pytest.raises(NothingJudgedError, match="4 of 4 questions; the same command goes on"):
            trained(config_of(tmp_path, 24), stopped)
    assert latest_checkpoint(stopped).name == "00000002-000000000032"
    assert [row["generated"] for row in read_jsonl(stopped / "evaluation.jsonl")] == [0]
    trained(config_of(tmp_path, 24), stopped)
    found = read_jsonl(stopped / "evaluation.jsonl")
    # the point that was lost is measured after that update; all else is as it would have been
    assert (found[1]["generated"], found[1]["step"]) == (24, 2)
    assert found[:1] + found[2:] == whole[:1] + whole[2:]
    log = "outcomes.jsonl"  # evaluations change no run
    assert (stopped / log).read_bytes() == (alone / log).read_bytes()


@pytest.mark.parametrize(("every", "at"), [(24, (24, 2)), (32, (32, 2))])
def test_lost_again_and_again_nothing_is_learned_in_between(
    every, at, alone, tmp_path, monkeypatch
):
    whole = read_jsonl(trained(config_of(tmp_path, every), tmp_path / "whole") / "evaluation.jsonl")
    stopped = tmp_path / "stopped"
    for number in (2, 1, 1):  # of this process
        with monkeypatch.context() as patch:
            lose(patch, number)
            with pytest.raises(NothingJudgedError, match="4 of 4 questions"):
                trained(config_of(tmp_path, every), stopped)
        assert latest_checkpoint(stopped).name == "00000002-000000000032"
    trained(config_of(tmp_path, every), stopped)
    found = read_jsonl(stopped / "evaluation.jsonl")
    assert (found[1]["generated"], found[1]["step"]) == at
    assert found[:1] + found[2:] == whole[:1] + whole[2:]
    log = "outcomes.jsonl"
    assert (stopped / log).read_bytes() == (alone / log).read_bytes()


def test_the_evaluation_before_training(tmp_path, monkeypatch):
    lose(monkeypatch, 1)
    with pytest.raises(NothingJudgedError, match="no held-out success"):
        trained(config_of(tmp_path), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_of_a_finished_run(alone, monkeypatch, capsys):
    monkeypatch.setattr(
        "train.evaluation.held_out_success", lambda *_, **__: np.array([0.5, *[np.nan] * 3])
    )
    assert main(["eval", str(alone)]) == 1
    assert "error: no held-out success: engine or verifier lost all answers to 3 of 4" in (
        capsys.readouterr().err
    )
