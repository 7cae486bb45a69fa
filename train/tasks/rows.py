"""A file or a data set on the Hub -> rows with the columns that are wanted, and where each stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cures.checks import fail
from train.errors import reading

FILES = (".jsonl", ".parquet")
REMEDY = "give another file"


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes
    ----------
    place : str
        File and line, or data set and number, for messages.
    values : dict
        By column; a column that this row lacks is left out.
    """

    place: str
    values: dict[str, Any]


def rows_of(
    source: str, columns: Sequence[str], *, subset: str | None, split: str, revision: str
) -> list[Row]:
    """All rows of a file, or of a data set on the Hub, in order.

    Parameters
    ----------
    source : str
        A file, if it ends in one of :data:`FILES`.
    columns : sequence of str
        Others are not kept.
    subset, split, revision : str
        Of a data set on the Hub.

    Raises
    ------
    ValueError
        If it is not there, cannot be read, is empty or lacks a column.
    """
    path = Path(source)
    if path.suffix == ".jsonl":
        rows = list(_from_lines(path, columns))
        there = {name for row in rows for name in row.values}
    elif path.suffix == ".parquet":
        rows, there = _from_parquet(path, columns)
    elif path.exists():
        fail("[task]", "data", f"a file that ends in {' or '.join(FILES)}, or on the Hub", source)
    else:
        rows, there = _from_hub(source, columns, subset, split, revision)
    if not rows:
        raise ValueError(f"[task]: {source} holds no row")
    missing = [name for name in columns if name not in there]
    if missing:
        raise ValueError(f"[task]: {source} has no column {', '.join(map(repr, missing))}")
    return rows


def _from_lines(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with reading(path, REMEDY):
        file = open(path, "rb")  # noqa: SIM115  closed below
    with file:
        # bytes are split at line feeds alone, str.splitlines also at signs inside a question
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{place}: is no JSON ({error})") from error
            if not isinstance(content, dict):
                fail(place, "row", "a JSON object", content)
            yield Row(place, {name: content[name] for name in columns if name in content})


def _from_parquet(path: Path, columns: Sequence[str]) -> tuple[list[Row], set[str]]:
    import pyarrow.parquet

    with reading(path, REMEDY):
        there = set(pyarrow.parquet.read_schema(path).names)
        table = pyarrow.parquet.read_table(path, columns=[c for c in columns if c in there])
        contents = table.to_pylist()
    rows = [Row(f"{path}, row {i}", content) for i, content in enumerate(contents, start=1)]
    return rows, there


def _from_hub(
    name: str, columns: Sequence[str], subset: str | None, split: str, revision: str
) -> tuple[list[Row], set[str]]:
    import datasets  # takes a second, and a file needs none of it

    try:
        found = datasets.load_dataset(name, subset, split=split, revision=revision)
        there = set(found.column_names)
        # one that is missing is named by the caller
        contents = list(found.select_columns([c for c in columns if c in there]))
    except Exception as error:  # of the network, the Hub, the data set, the disk: all kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"[task]: {name} is no file, and cannot be loaded from the Hub ({reason})"
        ) from error
    rows = [Row(f"{name} ({split}), row {i}", row) for i, row in enumerate(contents, start=1)]
    return rows, there
