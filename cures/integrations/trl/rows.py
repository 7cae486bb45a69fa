"""Rows of data sets and of generation batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cures.checks import fail

NUMBER = "cures_prompt"  # column


def rows_at(dataset: Any, index: Sequence[int]) -> list[dict[str, Any]]:
    """These rows; in one call where the data set can, which is many times faster."""
    if hasattr(dataset, "__getitems__"):
        return list(dataset.__getitems__(list(index)))
    return [dataset[i] for i in index]


class Numbered(Dataset[dict[str, Any]]):
    """A data set whose rows say which they are."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, index: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of a batch: what torch's loader asks for."""
        rows = rows_at(self.dataset, index)
        return [{**row, NUMBER: int(i)} for row, i in zip(rows, index, strict=True)]


def without_number(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as it was."""
    return {key: value for key, value in row.items() if key != NUMBER}


def take_rows(output: Mapping[str, Any], index: Tensor, have: int) -> dict[str, Any]:
    """A generation batch of other rows of the same.

    Parameters
    ----------
    output : mapping of str to Tensor
        ``have`` rows each; tensors without dimensions have none.
    index : Tensor of int64
        Rows in [0, have), any number, with repetitions.

    Raises
    ------
    ValueError
        If something in it has another number of rows, as images have.
    """
    taken: dict[str, Any] = {}
    for key, value in output.items():
        if isinstance(value, Tensor) and value.dim() and value.size(0) == have:
            value = value[index.to(value.device)]
        elif value is not None and not (isinstance(value, Tensor) and value.dim() == 0):
            legal = f"of {have} rows where a plan is smaller than the generation batch"
            fail("CuresGRPOTrainer", f"batch[{key!r}]", legal, getattr(value, "shape", value))
        taken[key] = value
    return taken


def filling(have: int, want: int) -> tuple[Tensor, Tensor]:
    """Which rows make ``want`` of ``have``, and of how many copies each is one."""
    index = torch.arange(want) % have
    return index, torch.bincount(index)[index]
