r"""Exact inner products of the scores of one layer, within groups.

With inputs v and errors u of the tokens (train/moments/factors.py), there are two ways to

.. math:: \langle s, s' \rangle = \sum_{t,t'} (v_t \cdot v'_{t'}) (u_t \cdot u'_{t'})
          = \sum_{ij} \Bigl(\sum_t u_{ti} v_{tj}\Bigr) \Bigl(\sum_{t'} u'_{t'i} v'_{t'j}\Bigr):

over pairs of tokens, or over the entries of the scores themselves. For a group of n rollouts with N
tokens in all, inputs of width a and errors of width b, they take

.. math:: N^2 (a + b) \quad\text{and}\quad (N + n^2)\, a b

multiplications. The first is cheaper for short answers and wide heads, the second for long answers: it
costs no more than the weight's gradient in a backward pass. The errors come in blocks of columns, so
that neither way keeps more than ``MAX_ENTRIES`` numbers at a time of what it makes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from train.moments import factors as bounds
from train.moments.factors import Factors


def score_gram(factors: Factors, size: int) -> Tensor:
    """Inner products of the scores of each group.

    Parameters
    ----------
    factors : Factors
        Rows group by group, ``size`` of each.
    size : int
        Rollouts n of a group.

    Returns
    -------
    Tensor of float64, shape (B, n, n)
        On the CPU.
    """
    rows, length, inputs = factors.inputs_R_T_a.shape
    tokens, width = size * length, factors.error_width
    largest = bounds.MAX_ENTRIES
    if is_over_tokens(tokens, size, inputs, width) and tokens**2 <= largest:
        way: Callable[[Factors, int, int], Tensor] = _over_tokens
        column = tokens  # numbers made for one column of the errors
        whole = max(tokens * width, tokens**2)
    else:
        way = _over_entries
        column = max(tokens, size * inputs)
        whole = column * width
    groups = max(1, largest // whole)
    columns = min(width, max(1, largest // (column * groups)))
    parts = [
        way(factors.rows(first, min(first + groups * size, rows)), size, columns)
        for first in range(0, rows, groups * size)
    ]
    return torch.cat(parts).cpu()


def is_over_tokens(tokens: int, size: int, inputs: int, width: int) -> bool:
    """Whether products of tokens take fewer multiplications than the scores themselves.

    Examples
    --------
    Answers of 6 tokens and a vocabulary of 32,000; 3,000 tokens and one of 152,000:

    >>> is_over_tokens(8 * 6, 8, 96, 32_000), is_over_tokens(8 * 3000, 8, 1536, 152_000)
    (True, False)
    """
    return tokens**2 * (inputs + width) <= (tokens + size**2) * inputs * width


def _over_tokens(factors: Factors, size: int, columns: int) -> Tensor:
    inputs = factors.inputs_R_T_a
    length = inputs.shape[1]
    flat = inputs.reshape(-1, size * length, inputs.shape[2])
    products = torch.zeros(len(flat), size * length, size * length, device=inputs.device)
    for block in factors.errors(columns):
        errors = block.reshape(len(flat), size * length, -1)
        products.baddbmm_(errors, errors.mT)
    products *= flat @ flat.mT
    by_row = products.view(-1, size, length, size, length)
    return by_row.sum(dim=(2, 4), dtype=torch.float64)


def _over_entries(factors: Factors, size: int, columns: int) -> Tensor:
    inputs = factors.inputs_R_T_a
    groups = len(inputs) // size
    gram = torch.zeros(groups, size, size, dtype=torch.float64, device=inputs.device)
    for block in factors.errors(columns):
        entries = (block.mT @ inputs).view(groups, size, -1)
        gram += entries @ entries.mT
    return gram
