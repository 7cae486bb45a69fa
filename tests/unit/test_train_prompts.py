"""Ragged token ids against plain lists."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.prompts import Prompts

PAD = 0  # an ordinary token too: a mask says what is real, not the id
ROWS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), max_size=6)


@st.composite
def rows_and_places(draw):
    """Rows, and places among them with repeats."""
    rows = draw(ROWS)
    places = st.lists(st.integers(0, len(rows) - 1), max_size=9) if rows else st.just([])
    return rows, draw(places)


@given(ROWS)
def test_rows_come_back(rows):
    prompts = Prompts.of(rows)
    assert len(prompts) == len(rows)
    assert prompts.length_N.tolist() == [len(row) for row in rows]
    assert [prompts.row(i).tolist() for i in range(len(rows))] == rows
    assert prompts.token_F.dtype == torch.int64
    assert prompts.start_N.dtype == np.int64


@given(rows_and_places())
def test_taken_rows_are_those_of_a_list(case):
    rows, places = case
    taken = Prompts.of(rows).take(np.array(places, dtype=np.int64))
    assert [taken.row(i).tolist() for i in range(len(taken))] == [rows[p] for p in places]


@given(ROWS)
def test_left_padding_by_a_loop(rows):
    ids, mask = Prompts.of(rows).padded_left(PAD)
    width = max(map(len, rows), default=0)
    assert ids.shape == mask.shape == (len(rows), width)
    for row, found, is_real in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        assert found == [PAD] * (width - len(row)) + row
        assert is_real == [False] * (width - len(row)) + [True] * len(row)


def test_a_table_is_read_row_by_row():
    table = np.arange(6).reshape(2, 3)
    assert Prompts.of(table).row(1).tolist() == [3, 4, 5]


def test_an_empty_prompt_is_named():
    with pytest.raises(ValueError, match="rows must be non-empty, got row 1 of no token"):
        Prompts.of([[4], [], [5]])
