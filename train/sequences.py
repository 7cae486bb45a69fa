"""Prompts with their completions as padded rows, and how rows are cut into passes of bounded size."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from cures.checks import IntArray
from train.prompts import Prompts


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Rows of prompt and completion without a gap, padded on the right.

    The last token of a row predicts nothing and is left out. Flat tensors hold the completion tokens
    row by row.

    Attributes
    ----------
    ids_R_L : Tensor of int64
    predicts_R_L : Tensor of bool
        Positions whose next token belongs to the completion.
    target_F : Tensor of int64
        These next tokens.
    row_F : Tensor of int64
        Row of each.
    """

    ids_R_L: Tensor
    predicts_R_L: Tensor
    target_F: Tensor
    row_F: Tensor

    @classmethod
    def of(cls, prompts: Prompts, token_R_T: Tensor, length_R: Tensor) -> Sequences:
        """From R prompts and the completion of each.

        Parameters
        ----------
        prompts : Prompts
        token_R_T : Tensor of int64, shape (R, T)
            Padded on the right.
        length_R : Tensor of int64, shape (R,)
            Real tokens of each row.

        Examples
        --------
        >>> rows = Sequences.of(Prompts.of([[7, 8], [9]]), torch.tensor([[4, 2], [5, 0]]),
        ...                     torch.tensor([2, 1]))
        >>> rows.ids_R_L.tolist(), rows.target_F.tolist(), rows.row_F.tolist()
        ([[7, 8, 4], [9, 0, 0]], [4, 2, 5], [0, 0, 1])
        """
        prompt_R = torch.from_numpy(prompts.length_N)
        total_R = prompt_R + length_R - 1
        rows = torch.arange(len(prompts))
        width = int(total_R.max()) if rows.numel() else 0
        place_L = torch.arange(width).unsqueeze(0)
        ids = torch.zeros(rows.numel(), width, dtype=torch.int64)
        predicts = (place_L >= prompt_R.unsqueeze(1) - 1) & (place_L < total_R.unsqueeze(1))
        is_real_R_T = torch.arange(token_R_T.shape[1]).unsqueeze(0) < length_R.unsqueeze(1)
        # a completion's last token has no place of its own
        has_place_R_T = is_real_R_T & (
            torch.arange(token_R_T.shape[1]).unsqueeze(0) < length_R.unsqueeze(1) - 1
        )
        ids[place_L < prompt_R.unsqueeze(1)] = prompts.token_F
        ids[(place_L >= prompt_R.unsqueeze(1)) & (place_L < total_R.unsqueeze(1))] = token_R_T[
            has_place_R_T
        ]
        row_F = rows.unsqueeze(1).expand(-1, width)[predicts]
        return cls(ids, predicts, token_R_T[is_real_R_T], row_F)

    def to(self, device: torch.device) -> Sequences:
        """The same on another device."""
        return Sequences(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def completion_tokens(values_R_T: Tensor, length_R: Tensor) -> Tensor:
    """Values of the real tokens of padded rows, in the order of ``Sequences.target_F``."""
    return values_R_T[torch.arange(values_R_T.shape[1]).unsqueeze(0) < length_R.unsqueeze(1)]


def cut_by_tokens(length_R: IntArray, max_tokens: int) -> list[IntArray]:
    """Cut rows into passes of at most ``max_tokens`` padded tokens; one longer row is a pass alone.

    Rows of like length come together, so that little of a pass is padding. Shortest first, ties in
    the order given.

    Examples
    --------
    >>> [part.tolist() for part in cut_by_tokens(np.array([5, 2, 9, 2, 4]), 10)]
    [[1, 3], [4, 0], [2]]
    """
    order = np.argsort(length_R, kind="stable")
    parts: list[IntArray] = []
    start = 0
    for stop in range(1, order.size + 1):
        is_last = stop == order.size
        # sorted, so the next row would be the widest of the pass
        if is_last or (stop + 1 - start) * int(length_R[order[stop]]) > max_tokens:
            parts.append(order[start:stop])
            start = stop
    return parts
