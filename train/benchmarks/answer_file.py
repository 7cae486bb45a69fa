"""Judged answers on disk: one JSON line each, whole problems only, whatever a kill interrupts.

While a benchmark is being answered, every process appends to a part of its own; when all problems are
there, the parts become one file, sorted, in one step::

    math500.part-0.jsonl, math500.part-1.jsonl, ...      ->      math500.jsonl
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cures.checks import InWords, fail
from cures.storage import atomic_write
from train.errors import reading

FINISHES = ("stop", "length", "missing")  # by the values of train.engines.protocol.Finish
REMEDY = "delete it, and the same command answers its problems again"


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer and what was thought of it.

    Attributes
    ----------
    problem : int
        Place in the data set.
    sample : int
        In [0, samples).
    completion : str
        What the model said; empty if missing.
    extracted : str or None
        Content of its last boxed part.
    reference : str
        What is right.
    verdict : float or None
        The verifier's, 0 or 1, of the text as it stands; None if it had no time, or no text.
    reward : float or None
        0 for a truncated answer, else the verdict. None is missing data.
    finish : {'stop', 'length', 'missing'}
    tokens : int
        Generated, end token included.
    """

    problem: int
    sample: int
    completion: str
    extracted: str | None
    reference: str
    verdict: float | None
    reward: float | None
    finish: str
    tokens: int


def whole_path(folder: Path, name: str) -> Path:
    """The file of a benchmark that is done."""
    return folder / f"{name}.jsonl"


def part_path(folder: Path, name: str, rank: int) -> Path:
    """What a process has answered so far."""
    return folder / f"{name}.part-{rank}.jsonl"


def part_paths(folder: Path, name: str) -> list[Path]:
    """Parts of this and of earlier commands, whatever the number of processes was."""
    return sorted(folder.glob(f"{name}.part-*.jsonl"))


def append(path: Path, answers: Iterable[Answer]) -> None:
    """Add answers, all samples of a problem one after the other; on disk when the call returns."""
    with open(path, "ab") as file:
        file.write(_lines(answers))
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Answer]:
    """Answers of a file.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    with reading(path, REMEDY):
        return [_answer(line) for line in path.read_bytes().splitlines()]


def repair(path: Path, samples: int) -> None:
    """Cut off what a kill left behind the last problem with all its samples.

    Raises
    ------
    ValueError
        If a line before the last is damaged.
    """
    content = path.read_bytes()
    end = whole = 0
    with reading(path, REMEDY):
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            end += len(line)
            if _answer(line).sample == samples - 1:
                whole = end
    if whole < len(content):
        os.truncate(path, whole)


def merge(folder: Path, name: str, problems: int, samples: int) -> None:
    """Make one file of the parts, sorted by problem and sample, then drop the parts.

    Raises
    ------
    ValueError
        If an answer is not there or there twice.
    """
    parts = part_paths(folder, name)
    answers = sorted(
        (answer for part in parts for answer in read(part)), key=lambda a: (a.problem, a.sample)
    )
    check_complete(folder / f"{name}.part-*.jsonl", answers, problems, samples)
    atomic_write(whole_path(folder, name), _lines(answers))
    drop_parts(folder, name)


def drop_parts(folder: Path, name: str) -> None:
    """Delete the parts; the whole file has what was in them."""
    for part in part_paths(folder, name):
        part.unlink()


def check_complete(where: Path, answers: list[Answer], problems: int, samples: int) -> None:
    """Refuse anything but every sample of every problem, once, in order.

    Raises
    ------
    ValueError
        Naming the first place that is wrong.
    """
    expected = [(p, s) for p in range(problems) for s in range(samples)]
    found = [(answer.problem, answer.sample) for answer in answers]
    if found != expected:
        pairs = zip(expected, [*found, None], strict=False)
        place = next((i for i, (e, f) in enumerate(pairs) if e != f), len(expected))
        legal = (
            f"with {samples} answers to each of {problems} problems, once and in order; {REMEDY}"
        )
        fail(
            "bench",
            str(where),
            legal,
            InWords(f"{len(found)} answers, wrong from number {place} on"),
        )


def _lines(answers: Iterable[Answer]) -> bytes:
    rows = (json.dumps(asdict(answer), allow_nan=False) for answer in answers)
    return "".join(f"{row}\n" for row in rows).encode()


def _answer(line: bytes) -> Answer:
    row = json.loads(line)
    names = [field.name for field in fields(Answer)]
    if not isinstance(row, dict) or list(row) != names:
        raise ValueError(f"a line does not hold {names}")
    return Answer(**row)
