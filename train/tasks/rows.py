"""Files or a data set on the Hub -> rows with the columns that are wanted, and where each stands."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cures.checks import fail
from train.errors import reading
from train.hub import FILES, data_set

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


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in order, read as they are needed where the format allows it; and what there is."""

    rows: Iterator[Row]
    count: int
    columns: frozenset[str]


def rows_of(
    source: str, columns: Sequence[str], *, subset: str | None, split: str, revision: str
) -> Iterator[Row]:
    """All rows of files, or of a data set on the Hub, in order.

    Parameters
    ----------
    source : str
        A file, or a pattern of files such as ``data/train-*.parquet``, if it ends in one of
        ``train.hub.FILES``; files that match come in the order of their names.
    columns : sequence of str
        Others are not kept.
    subset, split, revision : str
        Of a data set on the Hub.

    Raises
    ------
    ValueError
        If it is not there, cannot be read, is empty or lacks a column.
    """
    if Path(source).suffix in FILES:
        table = _joined([_from_file(path, columns) for path in _files(source)])
    elif Path(source).exists():
        fail("[task]", "data", f"a file that ends in {' or '.join(FILES)}, or on the Hub", source)
    else:
        table = _from_hub(source, columns, subset, split, revision)
    if not table.count:
        raise ValueError(f"[task]: {source} holds no row")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        names = ", ".join(map(repr, missing))
        there = sorted(table.columns)
        raise ValueError(f"[task]: {source} has no column {names}; its columns are {there}")
    return table.rows


def _files(source: str) -> list[Path]:
    if Path(source).exists() or not glob.has_magic(source):
        return [Path(source)]
    found = sorted(map(Path, glob.glob(source)))
    if not found:
        fail("[task]", "data", "a pattern that some file matches", source)
    return found


def _from_file(path: Path, columns: Sequence[str]) -> Table:
    return (_from_lines if path.suffix == ".jsonl" else _from_parquet)(path, columns)


def _joined(tables: Sequence[Table]) -> Table:
    rows = chain.from_iterable(table.rows for table in tables)
    columns = frozenset().union(*(table.columns for table in tables))
    return Table(rows, sum(table.count for table in tables), columns)


def _from_lines(path: Path, columns: Sequence[str]) -> Table:
    rows: list[Row] = []
    there: set[str] = set()
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
            there.update(content)
            rows.append(Row(place, {name: content[name] for name in columns if name in content}))
    return Table(iter(rows), len(rows), frozenset(there))


def _from_parquet(path: Path, columns: Sequence[str]) -> Table:
    from pyarrow.parquet import ParquetFile

    with reading(path, REMEDY):
        file = ParquetFile(path)
        there = frozenset(file.schema_arrow.names)
        count = file.metadata.num_rows

    def rows() -> Iterator[Row]:
        number = 0
        with reading(path, REMEDY), file:
            for batch in file.iter_batches(columns=[name for name in columns if name in there]):
                for content in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}, row {number}", content)

    return Table(rows(), count, there)


def _from_hub(
    name: str, columns: Sequence[str], subset: str | None, split: str, revision: str
) -> Table:
    remedy = f"a file ends in {' or '.join(FILES)}"
    found = data_set("[task]", name, subset=subset, split=split, revision=revision, remedy=remedy)
    there = frozenset(found.column_names)
    kept = found.select_columns([column for column in columns if column in there])
    rows = (Row(f"{name} ({split}), row {i}", row) for i, row in enumerate(kept, start=1))
    return Table(rows, len(found), there)
