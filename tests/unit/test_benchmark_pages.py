"""What the scripts in benchmarks/ read and write; what they time is not tested."""

from __future__ import annotations

import os
import platform
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import (
    explained_share,
    finished_runs,
    learning,
    memory_length,
    one_thread,
    response,
    simulator_speed,
)
from cures.storage import JsonlLog, write_json
from figures import provenance
from tests.report_cases import outcome_rows
from train import checkpoint
from train.folder import FORMAT


def replayed_run(folder, rows):
    """What is read of a run on a data set, whose settings do not say how many prompts there are: six."""
    folder.mkdir()
    write_json(
        folder / "config.json",
        {
            "format": FORMAT,
            "task": {"kind": "dataset"},
            "scheduler": {"batch_size": 2, "budget": 16},
        },
    )
    write_json(folder / "questions.json", {"prompts": 6})
    with JsonlLog(folder / "outcomes.jsonl") as log:
        for row in rows:
            log.append(row)
    return folder


def stand_in(monkeypatch, script, known_N):
    """Instead of loading a data set: what is known of its success rates."""
    monkeypatch.setattr(script, "from_dict", lambda config: SimpleNamespace(
        scheduler=SimpleNamespace(**config["scheduler"])
    ))  # fmt: skip
    task = SimpleNamespace(known_success_rate_N=known_N)
    monkeypatch.setattr(script, "make_task", lambda config: task)


@pytest.fixture
def no_task(monkeypatch):
    """Nobody knows a success rate."""
    stand_in(monkeypatch, response, None)


def test_a_run_on_a_data_set_is_replayed(tmp_path, no_task):
    run = replayed_run(tmp_path / "run", outcome_rows())
    rows = list(response.rows_of("script", [run], 16.0))
    assert [row[:3] for row in rows] == [["script", "1", mark] for mark in ("50%", "75%", "100%")]
    # 152 rollouts of six prompts in groups of eight: 3.17; prompts 2 (24 of 48 right) and 3 (29 of
    # 48) have two visits and a rate in the middle
    assert rows[-1][3:5] == ["3.2", "2"]
    assert float(rows[-1][9]) > 0.0
    name, chosen, *others = memory_length.cells_of(run)
    assert (name, chosen[0]) == (f"{tmp_path.name}/run", "-")
    assert len(others) == len(memory_length.FIXED) + 1


def test_where_nobody_is_judged_there_is_no_weight(tmp_path, no_task):
    row = {"prompt": 0, "success": 0, "trial": 8, "is_pilot": False}
    run = replayed_run(tmp_path / "run", [{**row, "step": step} for step in range(4)])
    *_, last = response.rows_of("dead", [run], 16.0)
    assert last[4] == "0"
    assert last[7:] == ["", "", ""]


def test_a_run_that_saw_nothing_is_named(tmp_path):
    with pytest.raises(ValueError, match="RUN must be a run with outcomes, got .*empty"):
        finished_runs.visits_of(replayed_run(tmp_path / "empty", []))
    once = [{"prompt": 0, "success": 0, "trial": 8, "is_pilot": False, "step": 0}]
    with pytest.raises(ValueError, match="a run that saw prompts twice, got none$"):
        memory_length.cells_of(replayed_run(tmp_path / "once", once))


def test_explained_shares_are_those_of_the_latest_checkpoint(tmp_path, monkeypatch):
    run = replayed_run(tmp_path / "run", [])
    stand_in(monkeypatch, explained_share, np.array([0.5, 0.5, 0.25]))
    weights = checkpoint.Weights({}, lambda folder: write_json(folder / "config.json", {}))
    with pytest.raises(ValueError, match="with a checkpoint"):
        explained_share.shares(run)
    for updates in (1, 2):
        state = {"rule/between_N": np.full(3, 0.1 * updates), "rule/total_N": np.array([1, 0, 2.0])}
        position = checkpoint.Position(updates, 8 * updates, {})
        found = checkpoint.Checkpoint(position, {}, state)
        checkpoint.save(run / "checkpoint", found, weights)
    # of total 0, hence not measured: prompt 1
    assert explained_share.shares(run)["coins"].tolist() == [[0.2], [1.0]]
    assert explained_share.shares(run)["others"].tolist() == [[0.2], [2.0]]
    # gone back to, as the remedy for a damaged one says: it is not the last by name
    write_json(run / "checkpoint" / "latest.json", {"folder": "00000001-000000000008"})
    assert explained_share.shares(run)["coins"].tolist() == [[0.1], [1.0]]
    assert next(explained_share.rows_of(run))[:4] == ["run", "coins", "1", "0.100"]


def test_a_page_about_finished_runs(tmp_path, capsys):
    page = tmp_path / "page.md"
    options = finished_runs.parser_of("What it is.").parse_args(["a", "b c", "--page", str(page)])
    finished_runs.publish("x", options, "# X\n", ["p", "q"], iter([["1", "2"]]), words=["--m", "4"])
    text = page.read_text()
    assert capsys.readouterr().out == text + "\n"
    assert text.startswith(
        f"# X\n\nCommand: `python -m benchmarks.x a 'b c' --m 4`. Commit: `{provenance.commit()}`"
    )
    assert (
        "No number here depends on the machine's speed.\n\n| p | q |\n|---|---|\n| 1 | 2 |\n"
        in text
    )


def test_minutes_of_a_resumed_run_are_those_of_all_its_processes(tmp_path):
    case = learning.Case("tiny", "a.toml", {}, 1, "")
    folder = tmp_path / "tiny-seed0"
    config = {"model": 1, "warm_start": 2, "task": {"pool_size": 9}}
    summary = {"held_out_start": 0.25, "held_out_end": 0.5, "generated": 64, "updates": 3}
    about = {"success": 0.375, "depends_on": config}
    for path, content in (
        (folder / "config.json", config),
        (folder / "summary.json", summary),
        (tmp_path / "warm_start" / "x" / "about.json", about),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    with JsonlLog(folder / "timing.jsonl") as log:
        for seconds in (60.0, 90.0, 30.0):  # the third by a second process, whose clock starts at 0
            log.append({"rollout_cpu_time_s": seconds, "update_cpu_time_s": seconds})
    row = learning._row(tmp_path, case, 0)
    assert row["cells"][-1] == "4.0"  # 2 x (90 + 30) s
    assert row["gain"] == 0.25


def test_a_script_starts_over_on_one_thread_and_only_once(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execve", lambda *words: started.append(words))
    monkeypatch.setattr(sys, "argv", ["script.py", "--rounds", "2"])
    for name in one_thread.THREADS:
        monkeypatch.setenv(name, "1")
    one_thread.on_one_thread("benchmarks.x")
    assert started == []
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    one_thread.on_one_thread("benchmarks.x")
    [(program, words, environment)] = started
    assert words == [program, "-m", "benchmarks.x", "--rounds", "2"]
    assert {environment[name] for name in one_thread.THREADS} == {"1"}


def test_a_page_of_timings_says_where_it_comes_from():
    text = simulator_speed.page(["| row |"], 1000, None)
    assert "Command: `python -m benchmarks.simulator_speed --prompts 1000`. Commit: `" in text
    assert f", {os.cpu_count()} cores, Python {platform.python_version()}; numpy " in text
    assert f"numpy {np.__version__}. Machines are noisy:" in text


@pytest.mark.parametrize(
    ("lines", "processor"),
    [
        (
            "vendor_id\t: Acme\nmodel name\t: Acme 9: fast\nmodel name\t: Acme 9: fast\n",
            "Acme 9: fast",
        ),
        ("vendor_id\t: Acme\n", platform.processor() or platform.machine()),  # as on other systems
    ],
)
def test_a_machine_goes_by_the_model_of_its_processor(tmp_path, monkeypatch, lines, processor):
    (tmp_path / "cpuinfo").write_text(lines)
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    text = provenance.provenance("run", made_at="abc1234", speed="It is slow.")
    machine = f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}"
    assert text == f"Command: `run`. Commit: `abc1234`.\nMachine: {machine}. It is slow."


def test_pages_of_learning_own_up_to_their_minutes(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "_train", lambda *one: None)
    monkeypatch.setattr(learning, "table", lambda root: "| CPU min |")
    learning.main(["--runs", str(tmp_path / "runs"), "--page", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert "--runs" in text
    assert "No number here" not in text
    assert f"Commit: `{provenance.commit()}`" in text
    assert "CPU minutes depend on the machine's speed" in text
