"""Padded rows of prompt and completion against plain lists, and passes of bounded size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.prompts import Prompts
from train.sequences import Sequences, completion_tokens, cut_by_tokens

TOKENS = st.integers(1, 9)
PAIRS = st.lists(
    st.tuples(
        st.lists(TOKENS, min_size=1, max_size=6),  # a prompt
        st.lists(TOKENS, min_size=1, max_size=5),  # its completion
    ),
    min_size=1,
    max_size=6,
)
WIDTH = 5
LENGTHS = st.lists(st.integers(1, 30), max_size=40)
JUNK = 77  # after the end of a completion, where nobody may look


def table_of(pairs):
    """Completions padded on the right with junk, and their lengths."""
    rows = [completion + [JUNK] * (WIDTH - len(completion)) for _, completion in pairs]
    return torch.tensor(rows), torch.tensor([len(completion) for _, completion in pairs])


@given(PAIRS)
def test_rows_by_a_loop(pairs):
    token_R_T, length_R = table_of(pairs)
    found = Sequences.of(Prompts.of([prompt for prompt, _ in pairs]), token_R_T, length_R)
    width = max(len(prompt) + len(completion) - 1 for prompt, completion in pairs)
    ids, predicts, target, row = [], [], [], []
    for r, (prompt, completion) in enumerate(pairs):
        text = prompt + completion
        # the last token predicts nothing; position p predicts text[p + 1]
        ids.append(text[:-1] + [0] * (width - len(text) + 1))
        predicts.append([len(prompt) - 1 <= p < len(text) - 1 for p in range(width)])
        target += completion
        row += [r] * len(completion)
    assert found.ids_R_L.tolist() == ids
    assert found.predicts_R_L.tolist() == predicts
    assert found.target_F.tolist() == target
    assert found.row_F.tolist() == row
    assert found.ids_R_L.numel() == len(pairs) * width


@given(PAIRS)
def test_values_of_real_tokens_come_in_the_order_of_the_targets(pairs):
    token_R_T, length_R = table_of(pairs)
    prompts = Prompts.of([prompt for prompt, _ in pairs])
    target_F = Sequences.of(prompts, token_R_T, length_R).target_F
    assert torch.equal(completion_tokens(token_R_T, length_R), target_F)
    assert JUNK not in target_F


def padded(parts, lengths):
    """Tokens that each pass computes."""
    return [int(lengths[part].max()) * part.size for part in parts]


@given(LENGTHS, st.integers(1, 100))
def test_passes_have_every_row_once_and_are_bounded(lengths, max_tokens):
    lengths = np.array(lengths, dtype=np.int64)
    parts = cut_by_tokens(lengths, max_tokens)
    assert sorted(np.concatenate([*parts, []]).tolist()) == list(range(lengths.size))
    for part, tokens in zip(parts, padded(parts, lengths), strict=True):
        assert tokens <= max_tokens or part.size == 1
    for part, after in pairwise(parts):
        # none could have taken one row more, which is at least as long as all of its own
        assert lengths[part].max() <= lengths[after[0]]
        assert (part.size + 1) * lengths[after[0]] > max_tokens


def test_a_cut_that_counts_real_tokens_is_not_bounded():
    # negative control: 1 + 1 + 8 real tokens within 10, but 3 rows of 8 places each are 24
    lengths = np.array([1, 1, 8])
    assert lengths.sum() == 10
    assert padded([np.arange(3)], lengths) == [24]
    assert padded(cut_by_tokens(lengths, 10), lengths) == [2, 8]


def test_rows_of_one_length_keep_their_order():
    assert [p.tolist() for p in cut_by_tokens(np.full(5, 3), 6)] == [[0, 1], [2, 3], [4]]
