"""``outcomes.jsonl``: rollouts of a real model, read strictly.

One JSON object per line, written by every host::

    {"prompt": 17, "step": 0, "success": 3, "trial": 4, "is_pilot": true}

``step`` counts the updates of the policy that answered. Nothing is repaired: the first line that is
not such an object is an error with file, line and field. Further fields are ignored.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from cures.checks import BoolArray, IntArray, InWords, fail
from sim import strict_json

WHERE = "calibrate"
# Legal values: ids are exact in every JSON reader; counts are far above any run, and small enough for
# tables with a row for each (a time stamp for a step would ask for gigabytes).
RANGES = {
    "prompt": (0, 2**53),
    "step": (0, 10**6),
    "success": (0, 10**4),
    "trial": (1, 10**4),
}
BOMS = {
    "UTF-8 with a byte order mark": codecs.BOM_UTF8,
    "UTF-16": codecs.BOM_UTF16_LE,
    "UTF-16 (big endian)": codecs.BOM_UTF16_BE,
}


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Groups of rollouts in the order of the file.

    Attributes
    ----------
    prompt_V, step_V, success_V, trial_V : ndarray of int64, shape (V,)
        0 <= success <= trial, trial >= 1.
    is_pilot_V : ndarray of bool, shape (V,)
        Rolled out only to learn about the prompt, hence not trained on.
    """

    prompt_V: IntArray
    step_V: IntArray
    success_V: IntArray
    trial_V: IntArray
    is_pilot_V: BoolArray

    def __len__(self) -> int:
        return int(self.prompt_V.size)

    def only(self, keep_V: BoolArray) -> Evidence:
        """The visits marked in ``keep_V``."""
        return Evidence(
            self.prompt_V[keep_V],
            self.step_V[keep_V],
            self.success_V[keep_V],
            self.trial_V[keep_V],
            self.is_pilot_V[keep_V],
        )

    def as_pilots(self) -> Evidence:
        """The same, as rollouts that nothing was learned from."""
        return replace(self, is_pilot_V=np.ones(len(self), dtype=bool))


def join(first: Evidence, then: Evidence) -> Evidence:
    """Both, in this order."""
    return Evidence(
        *(
            np.concatenate([getattr(first, field.name), getattr(then, field.name)])
            for field in fields(Evidence)
        )
    )


def read_evidence(path: Path) -> Evidence:
    """Read and check a file of outcomes.

    Raises
    ------
    ValueError
        If the file is empty or not plain UTF-8; if a line is no JSON object, lacks a field or has one
        of another type or range; if success exceeds trial; if a prompt has two lines of pilots at one
        step (training may visit a prompt twice, pilots are drawn once).
    OSError
        If the file cannot be read.
    """
    rows = []
    pilots: dict[tuple[int, int], int] = {}
    for number, text in enumerate(_lines(path), start=1):
        row = _row(path, number, text)
        if row[4]:
            first = pilots.setdefault((row[0], row[1]), number)
            if first != number:
                legal = f"unique among the pilots of step {row[1]} (line {first} has it too)"
                _refuse(path, number, "prompt", legal, row[0])
        rows.append(row)
    columns = np.array(rows, dtype=np.int64).T
    prompt, step, success, trial, is_pilot = columns
    return Evidence(prompt, step, success, trial, is_pilot.astype(bool))


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    for name, mark in BOMS.items():
        if content.startswith(mark):
            fail(WHERE, f"{path}, line 1", "plain UTF-8 without a byte order mark", name)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        fail(
            WHERE, f"{path}, line {number}", "UTF-8", InWords(f"byte 0x{content[error.start]:02x}")
        )
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        fail(WHERE, str(path), "a file with at least one line", InWords("an empty file"))
    return lines


def _row(path: Path, number: int, text: str) -> tuple[int, int, int, int, bool]:
    try:
        row = strict_json.parse(text)
    except (ValueError, RecursionError) as error:
        fail(WHERE, f"{path}, line {number}", f"a JSON object ({error})", text)
    if not isinstance(row, dict):
        fail(WHERE, f"{path}, line {number}", "a JSON object", row)
    for field in (*RANGES, "is_pilot"):
        if field not in row:
            _refuse(path, number, field, "present", InWords(f"only {sorted(row)}"))
    for field, (low, high) in RANGES.items():
        value = row[field]
        if type(value) is not int or not low <= value <= high:
            _refuse(path, number, field, f"an integer in [{low}, {high}]", value)
    if type(row["is_pilot"]) is not bool:
        _refuse(path, number, "is_pilot", "true or false", row["is_pilot"])
    if row["success"] > row["trial"]:
        _refuse(path, number, "success", f"at most trial = {row['trial']}", row["success"])
    return row["prompt"], row["step"], row["success"], row["trial"], row["is_pilot"]


def _refuse(path: Path, line: int, field: str, legal: str, value: object) -> NoReturn:
    fail(WHERE, f"{path}, line {line}, {field}", legal, value)
