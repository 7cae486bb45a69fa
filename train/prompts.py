"""Token ids of prompts of any length, one flat tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cures.checks import IntArray, InWords, fail


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Prompts, one after the other.

    Attributes
    ----------
    token_F : Tensor of int64, shape (F,)
        All tokens.
    start_N : ndarray of int64, shape (N + 1,)
        Prompt i is ``token_F[start_N[i] : start_N[i + 1]]``, at least one token.
    """

    token_F: Tensor
    start_N: IntArray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]] | IntArray) -> Prompts:
        """From one sequence of ids per prompt.

        Examples
        --------
        >>> Prompts.of([[5, 6], [7]]).row(1).tolist()
        [7]

        Raises
        ------
        ValueError
            If a prompt is empty.
        """
        length_N = np.array([len(row) for row in rows], dtype=np.int64)
        if (length_N == 0).any():
            fail(
                "Prompts.of",
                "rows",
                "non-empty",
                InWords(f"row {int(length_N.argmin())} of no token"),
            )
        flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows] or [length_N])
        return cls(torch.from_numpy(flat), np.concatenate([[0], np.cumsum(length_N)]))

    def __len__(self) -> int:
        return self.start_N.size - 1

    @property
    def length_N(self) -> IntArray:
        """Tokens of each prompt, shape (N,)."""
        return np.diff(self.start_N)

    def row(self, index: int) -> Tensor:
        """Tokens of one prompt."""
        return self.token_F[self.start_N[index] : self.start_N[index + 1]]

    def take(self, index_P: IntArray) -> Prompts:
        """The prompts at ``index_P``, in that order, repeats allowed."""
        length_P = self.length_N[index_P]
        start_P = np.concatenate([[0], np.cumsum(length_P)])
        offset_F = np.arange(start_P[-1]) - np.repeat(start_P[:-1], length_P)
        where_F = np.repeat(self.start_N[:-1][index_P], length_P) + offset_F
        return Prompts(self.token_F[torch.from_numpy(where_F)], start_P)

    def padded_left(self, pad_token: int) -> tuple[Tensor, Tensor]:
        """Ids (N, L) with padding on the left, and the mask (N, L) that is True at real tokens."""
        length_N = torch.from_numpy(self.length_N)
        width = int(length_N.max()) if len(self) else 0
        mask = torch.arange(width).unsqueeze(0) >= width - length_N.unsqueeze(1)
        ids = torch.full((len(self), width), pad_token)
        ids[mask] = self.token_F
        return ids, mask
