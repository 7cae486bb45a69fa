"""What the scripts in benchmarks/ read and write; what they time is not tested."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from benchmarks import learning, memory_length, one_thread, response, simulator_speed
from cures.storage import JsonlLog, write_json
from tests.report_cases import outcome_rows
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


@pytest.fixture
def no_task(monkeypatch):
    """Instead of loading a data set: nobody knows a success rate."""
    monkeypatch.setattr(response, "from_dict", lambda config: SimpleNamespace(
        scheduler=SimpleNamespace(**config["scheduler"])
    ))  # fmt: skip
    monkeypatch.setattr(
        response, "make_task", lambda config: SimpleNamespace(known_success_rate_N=None)
    )


def test_a_run_on_a_data_set_is_replayed(tmp_path, no_task):
    run = replayed_run(tmp_path / "run", outcome_rows())
    rows = list(response.rows_of("script", [run], 16.0))
    assert [row[:3] for row in rows] == [["script", "1", mark] for mark in ("50%", "75%", "100%")]
    # 152 rollouts of six prompts in groups of eight: 3.17; prompts 2 (24 of 48 right) and 3 (29 of
    # 48) have two visits and a rate in the middle
    assert rows[-1][3:5] == ["3.2", "2"]
    assert float(rows[-1][9]) > 0.0
    assert memory_length.row_of(run).startswith(f"| {tmp_path.name}/run | -")


def test_where_nobody_is_judged_there_is_no_weight(tmp_path, no_task):
    row = {"prompt": 0, "success": 0, "trial": 8, "is_pilot": False}
    run = replayed_run(tmp_path / "run", [{**row, "step": step} for step in range(4)])
    *_, last = response.rows_of("dead", [run], 16.0)
    assert last[4] == "0"
    assert last[7:] == ["", "", ""]


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
    assert f" cores, Python {sys.version.split()[0]}; numpy " in text
