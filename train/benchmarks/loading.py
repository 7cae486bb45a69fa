"""Problems of a benchmark, from the Hub or from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cures.checks import as_int, fail
from train.benchmarks.definitions import Benchmark, Columns
from train.errors import reading
from train.hub import FILES, data_set


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and what is right; its place in the data set is its id.

    An empty reference is that of a problem whose answer was not published.
    """

    question: str
    reference: str


def load_problems(
    benchmark: Benchmark, file: Path | None = None, limit: int | None = None
) -> tuple[Problem, ...]:
    """All problems, or the first ``limit``.

    Parameters
    ----------
    benchmark : Benchmark
    file : Path, optional
        ``.jsonl`` or ``.parquet`` instead of the Hub's data set; nothing is downloaded then.
    limit : int, optional
        >= 1.

    Raises
    ------
    ValueError
        If there is no such file or data set, it cannot be read, has other columns, holds no problem,
        one without a question, or more without an answer than were published so.
    """
    rows = _from_hub(benchmark) if file is None else _from_file(benchmark, file)
    source = benchmark.source if file is None else str(file)
    if not rows:
        raise ValueError(f"{benchmark.name}: {source} holds no problem")
    columns = _columns_of(benchmark, rows[0], source)
    if limit is not None:
        rows = rows[: as_int("bench", "--limit", limit, 1)]
    left = benchmark.unanswered
    problems = []
    for place, row in enumerate(rows):
        problem = _problem(row, columns, f"{source}, problem {place}", may_be_unanswered=left > 0)
        left -= not problem.reference
        problems.append(problem)
    return tuple(problems)


def _from_hub(benchmark: Benchmark) -> Sequence[Mapping[str, Any]]:
    found = data_set(
        benchmark.name,
        benchmark.source,
        subset=benchmark.subset,
        split=benchmark.split,
        revision="main",
        remedy=f"give a file: --data {benchmark.name}=PATH",
    )
    return list(found)


def _from_file(benchmark: Benchmark, file: Path) -> Sequence[Mapping[str, Any]]:
    if file.suffix not in FILES:
        fail(
            "bench",
            f"--data {benchmark.name}",
            f"a file that ends in {' or '.join(FILES)}",
            str(file),
        )
    with reading(file, f"give another --data {benchmark.name}=PATH"):
        if file.suffix == ".parquet":
            import pyarrow.parquet

            table: list[dict[str, Any]] = pyarrow.parquet.read_table(file).to_pylist()
            return table
        # not str.splitlines, which also splits at separators that may stand inside a question
        lines = file.read_bytes().decode().split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        strange = next((row for row in rows if not isinstance(row, dict)), None)
        if strange is not None:
            raise ValueError(f"a line is no JSON object: {strange!r:.80}")
        return rows


def _columns_of(benchmark: Benchmark, row: Mapping[str, Any], source: str) -> Columns:
    for columns in benchmark.columns:
        if columns.question in row and columns.answer in row:
            return columns
    wanted = " or ".join(f"{c.question!r} and {c.answer!r}" for c in benchmark.columns)
    raise ValueError(  # not cures.checks.fail, which cuts what is long
        f"{benchmark.name}: {source} must have the columns {wanted}, it has {sorted(row)}"
    )


def _problem(
    row: Mapping[str, Any], columns: Columns, where: str, *, may_be_unanswered: bool
) -> Problem:
    question = row.get(columns.question)
    if not isinstance(question, str) or not question.strip():
        fail(where, columns.question, "a text that is not empty", question)
    answer = row.get(columns.answer)
    reference = "" if answer == "" and may_be_unanswered else columns.reading(answer)
    if reference is None:
        legal = f"an answer as {columns.reading.__name__} reads it (train/benchmarks/references.py)"
        fail(where, columns.answer, legal, answer)
    return Problem(question.strip(), reference)
