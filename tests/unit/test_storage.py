"""Files that survive a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cures.storage import (
    JsonlLog,
    _replacing,
    atomic_write,
    load_state,
    read_json,
    read_jsonl,
    save_state,
    write_json,
)


def test_state_round_trip_is_bit_for_bit(tmp_path):
    state = {
        "a": np.array([1.5, np.nan, -0.0]),
        "b/ids": np.arange(5),
        "n": 3,
        "x": 0.1,
        "name": "cures",
        "empty": np.zeros(0),
    }
    save_state(tmp_path / "s.npz", state)
    back = load_state(tmp_path / "s.npz")
    assert back.keys() == state.keys()
    for key in ("a", "b/ids", "empty"):
        assert back[key].tobytes() == state[key].tobytes()
        assert back[key].dtype == state[key].dtype
    assert [back[k] for k in ("n", "x", "name")] == [3, 0.1, "cures"]
    assert [type(back[k]) for k in ("n", "x", "name")] == [int, float, str]


def test_what_would_need_pickle_is_refused(tmp_path):
    for value in ({"nested": 1}, [1, 2], None, np.array([object()])):
        with pytest.raises(ValueError, match=r"state\['bad'\] must be an array, int, float or str"):
            save_state(tmp_path / "s.npz", {"bad": value})
    assert list(tmp_path.iterdir()) == []
    np.savez(tmp_path / "evil.npz", bad=np.array([{"code": 1}], dtype=object))
    with pytest.raises(ValueError, match="not a readable state file"):
        load_state(tmp_path / "evil.npz")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match="not a readable state file"):
        load_state(tmp_path / "torn.npz")


def test_json(tmp_path):
    write_json(tmp_path / "c.json", {"a": [1, 2]})
    assert read_json(tmp_path / "c.json") == {"a": [1, 2]}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "c.json", {"a": float("nan")})
    assert read_json(tmp_path / "c.json") == {"a": [1, 2]}  # the old content stands
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="bad.json is not valid JSON"):
        read_json(tmp_path / "bad.json")


def test_jsonl_is_cut_back_to_a_checkpoint(tmp_path):
    path = tmp_path / "m.jsonl"
    with JsonlLog(path) as log:
        log.append({"step": 1})
        position = log.position
        log.append({"step": 2})
    with open(path, "ab") as file:
        file.write(b'{"step": 3')  # torn by a kill
    with pytest.raises(ValueError, match="line 3"):
        read_jsonl(path)
    with JsonlLog(path) as log:
        log.truncate(position)
        log.append({"step": 2, "again": True})
    assert read_jsonl(path) == [{"step": 1}, {"step": 2, "again": True}]
    path.write_text('{"text": "one\u2028line"}\n', encoding="utf-8")
    assert read_jsonl(path) == [{"text": "one\u2028line"}]
    path.write_text("")
    assert read_jsonl(path) == []
    with JsonlLog(path) as log, pytest.raises(ValueError, match="position must be"):
        log.truncate(10_000)


def test_a_killed_writer_leaves_old_or_new_content(tmp_path):
    target = tmp_path / "big"
    atomic_write(target, b"0" * 1_000_000)
    code = (
        "import itertools; from cures.storage import atomic_write\n"
        f"for i in itertools.count(1): atomic_write({str(target)!r}, str(i % 10).encode() * 1_000_000)"
    )
    for delay in (0.30, 0.37, 0.45):
        writer = subprocess.Popen([sys.executable, "-c", code])
        deadline = time.monotonic() + 20
        before = target.stat().st_mtime_ns
        while target.stat().st_mtime_ns == before:  # until it has really begun to write
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay - 0.3)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        content = target.read_bytes()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1


def test_what_killed_writers_left_is_removed_in_time(tmp_path):
    old, fresh, other = (
        tmp_path / name
        for name in (".a.json.7-0.partial", ".a.json.8-0.partial", ".b.json.7-0.partial")
    )
    for path in (old, fresh, other):
        path.write_text("torn")
    for path in (old, other):
        os.utime(path, times=(time.time() - 2 * 86_400,) * 2)  # a live writer's is younger
    write_json(tmp_path / "a.json", 1)
    assert sorted(tmp_path.iterdir()) == sorted([fresh, other, tmp_path / "a.json"])


def test_two_threads_may_write_one_file(tmp_path):
    # the second begins while the first is at it, and ends before: the last one stands, whole
    with _replacing(tmp_path / "f") as first:
        first.write(b"1" * 100_000)
        atomic_write(tmp_path / "f", b"2" * 1000)
        first.write(b"1" * 100_000)
    assert (tmp_path / "f").read_bytes() == b"1" * 200_000
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_files_that_are_no_text_are_named(tmp_path, read):
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xff\xfe[1]")
    with pytest.raises(ValueError, match=rf"{read.__name__}: .*rows\.json.*utf-8"):
        read(path)
