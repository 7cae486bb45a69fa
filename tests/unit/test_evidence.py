"""Files of a run in another trainer's folder."""

from __future__ import annotations

import logging

from cures.integrations.evidence import FILES, OUTCOMES, RunFiles
from cures.storage import read_jsonl


def numbers(path):
    return [row["n"] for row in read_jsonl(path)]


def test_nothing_that_was_written_is_lost(tmp_path, caplog):
    path = tmp_path / "outcomes.jsonl"
    first = RunFiles(tmp_path, [OUTCOMES], is_writer=True)
    for n in (1, 2):  # trained twice: the second time goes on
        first.open()
        first.append(OUTCOMES, [{"n": n}])
        position = first.positions()
        first.close()
    assert numbers(path) == [1, 2]

    resumed = RunFiles(tmp_path, [OUTCOMES], is_writer=True)
    resumed.open(position)
    resumed.append(OUTCOMES, [{"n": 3}])
    resumed.close()
    again = RunFiles(tmp_path, [OUTCOMES], is_writer=True)
    again.open(position)  # what came after the checkpoint is not there twice
    again.close()
    assert numbers(path) == [1, 2]
    assert not caplog.records

    for n in (4, 5):  # runs of their own in the same folder
        other = RunFiles(tmp_path, [OUTCOMES], is_writer=True)
        with caplog.at_level(logging.WARNING):
            other.open()
        other.append(OUTCOMES, [{"n": n}])
        other.close()
    assert numbers(tmp_path / "outcomes.1.jsonl") == [1, 2]
    assert numbers(tmp_path / "outcomes.2.jsonl") == [4]
    assert numbers(path) == [5]
    assert [record.args[1] for record in caplog.records] == [
        tmp_path / "outcomes.1.jsonl", tmp_path / "outcomes.2.jsonl",
    ]  # fmt: skip


def test_files_of_one_run_are_kept_under_one_number(tmp_path):
    # alone, then two shadows, then alone again
    for n, names in enumerate([[OUTCOMES], FILES, FILES, [OUTCOMES]]):
        files = RunFiles(tmp_path, names, is_writer=True)
        files.open()
        for name in names:
            files.append(name, [{"n": n}])
        files.close()
    kept = {path.name: numbers(path) for path in tmp_path.iterdir()}
    assert kept == {
        "outcomes.1.jsonl": [0],
        "outcomes.2.jsonl": [1], "shadow_plans.2.jsonl": [1],
        "outcomes.3.jsonl": [2], "shadow_plans.3.jsonl": [2],
        "outcomes.jsonl": [3],
    }  # fmt: skip


def test_other_processes_keep_nothing(tmp_path):
    files = RunFiles(tmp_path / "none", [OUTCOMES], is_writer=False)
    files.open()
    files.append(OUTCOMES, [{"n": 1}])
    files.close()
    assert not (tmp_path / "none").exists()
