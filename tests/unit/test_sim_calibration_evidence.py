"""Reading outcomes.jsonl: what is legal is read, everything else is named by file, line and field."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from sim.calibration.evidence import read_evidence

GOOD = {"prompt": 3, "step": 0, "success": 1, "trial": 4, "is_pilot": True}


def line(**changes):
    return json.dumps({**GOOD, **changes})


def test_every_field_is_read_in_order(tmp_path):
    path = tmp_path / "outcomes.jsonl"
    path.write_text(line() + "\r\n" + line(prompt=4, step=2, is_pilot=False, extra="x"))
    evidence = read_evidence(path)
    assert evidence.prompt_V.tolist() == [3, 4]
    assert evidence.step_V.tolist() == [0, 2]
    assert evidence.success_V.tolist() == [1, 1]
    assert evidence.trial_V.tolist() == [4, 4]
    assert evidence.is_pilot_V.tolist() == [True, False]
    assert evidence.prompt_V.dtype == np.int64


@pytest.mark.parametrize(
    ("second", "where"),
    [
        (line(success=5), "line 2, success must be at most trial = 4, got 5"),
        (line(success=-1), "line 2, success must be an integer in [0,"),
        (line(success=1.0), "line 2, success must be an integer in [0,"),
        (line(success=True), "line 2, success must be an integer in [0,"),
        (line(success="1"), "line 2, success must be an integer in [0,"),
        (line(success=None), "line 2, success must be an integer in [0,"),
        (line(trial=0, success=0), "line 2, trial must be an integer in [1,"),
        (line(prompt=-1), "line 2, prompt must be an integer in [0,"),
        (line(prompt=2**60), "line 2, prompt must be an integer in [0,"),
        (line(step=[0]), "line 2, step must be an integer in [0,"),
        (line(step=1_700_000_000), "line 2, step must be an integer in [0, 1000000], got 17000"),
        (line(trial=2**40), "line 2, trial must be an integer in [1, 10000], got 10995"),
        ("[" * 10**5, "line 2 must be a JSON object (maximum recursion depth exceeded"),
        (line(is_pilot=1), "line 2, is_pilot must be true or false, got 1"),
        (line(), "line 2, prompt must be unique among the pilots of step 0 (line 1 has it too)"),
        (line().replace('"trial": 4', '"trial": NaN'), "NaN is not a number in JSON"),
        (line().replace('"step"', '"prompt"'), "a field is given twice"),
        (line().replace('"trial": 4, ', ""), "line 2, trial must be present"),
        (line()[:-1], "line 2 must be a JSON object"),
        ("[1, 2]", "line 2 must be a JSON object, got [1, 2]"),
        ("", "line 2 must be a JSON object"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, second, where):
    path = tmp_path / "outcomes.jsonl"
    path.write_text(line() + "\n" + second + "\n" + line(prompt=9) + "\n")
    with pytest.raises(ValueError, match=re.escape(where)) as error:
        read_evidence(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "an empty file"),
        (line().encode("utf-8-sig"), "UTF-8 with a byte order mark"),
        (line().encode("utf-16"), "UTF-16"),
        (line().encode() + b"\n" + line(prompt=4)[:-1].encode() + b', "x": "\xe9"}',
         "line 2 must be UTF-8, got byte 0xe9"),  # latin-1 in a UTF-8 file
    ],
)  # fmt: skip
def test_another_encoding_is_named(tmp_path, content, where):
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(where)) as error:
        read_evidence(path)
    assert str(path) in str(error.value)


def test_training_may_visit_a_prompt_twice_in_a_step(tmp_path):
    # a refill draws again before the update; pilots are drawn once
    path = tmp_path / "outcomes.jsonl"
    path.write_text("\n".join([line(), line(is_pilot=False), line(is_pilot=False)]))
    assert len(read_evidence(path)) == 3
