"""Exact inner products of scores: both ways, their bounds, and the moments made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.moment_cases import DECODING
from train.moments import factors as bounds
from train.moments import gram
from train.moments.bundles import make_bundles, share
from train.moments.factors import EmbeddingFactors, Head, HeadFactors, LayerFactors
from train.moments.gram import is_over_tokens, score_gram
from train.moments.group_moments import group_moments
from train.moments.sketch import score_sketch
from train.policy import log_policy
from train.world import World


def layer(rows, tokens, inputs, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return LayerFactors(
        torch.randn(rows, tokens, inputs, generator=generator),
        torch.randn(rows, tokens, width, generator=generator),
    )


def head(rows, tokens, hidden, vocabulary, *, is_tied=False, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    embedding = None
    if is_tied:
        ids = torch.randint(vocabulary, (rows, tokens + 2), generator=generator)
        embedding = EmbeddingFactors(random(rows, tokens + 2, hidden), ids)
    return HeadFactors(
        Head(random(vocabulary, hidden), None, DECODING, None, has_weight=True, has_bias=False),
        random(rows, tokens, hidden),
        torch.randint(3, vocabulary, (rows, tokens), generator=generator),
        torch.full((rows,), tokens),
        embedding,
    )


def gram_of_scores(found, size):
    """From the scores themselves, in float64."""
    errors = torch.cat(list(found.errors(10**9)), dim=2).double()
    scores = (errors.mT @ found.inputs_R_T_a.double()).flatten(1)
    scores = scores.view(-1, size, scores.shape[1])
    return scores @ scores.mT


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("is_over", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: layer(6, 4, 20, 30),
        lambda: head(6, 2, 8, 300),
        lambda: head(6, 5, 4, 10, is_tied=True),
    ],
)
def test_both_ways_give_the_products_of_the_scores(make, is_over, size, monkeypatch):
    found = make()
    monkeypatch.setattr(gram, "is_over_tokens", lambda *_: is_over)
    torch.testing.assert_close(
        score_gram(found, size), gram_of_scores(found, size), rtol=1e-5, atol=1e-3
    )


def test_the_cheaper_way_is_chosen():
    # multiplications, counted by hand: 4 tokens, inputs 2, errors 3, n = 2: over pairs of tokens
    # 16 * 5 = 80, over entries (4 + 4) * 6 = 48; with 3 tokens and n = 3, inputs 4, errors 5:
    # 9 * 9 = 81 against (3 + 9) * 20 = 240
    assert not is_over_tokens(4, 2, 2, 3)
    assert is_over_tokens(3, 3, 4, 5)


class Largest(TorchDispatchMode):
    """The most numbers in any tensor that is made; views make nothing."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        given = [x for x in tree_leaves(arguments) if isinstance(x, torch.Tensor)]
        storages = {x.untyped_storage().data_ptr() for x in given}
        for made in tree_leaves(result):
            is_tensor = isinstance(made, torch.Tensor)
            if is_tensor and made.untyped_storage().data_ptr() not in storages:
                self.entries = max(self.entries, made.numel())
        return result


@pytest.mark.parametrize("is_sketch", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: head(4, 10, 8, 3000),  # over tokens
        lambda: head(4, 30, 8, 3000),  # over entries
        lambda: head(4, 10, 8, 3000, is_tied=True),
        lambda: layer(4, 30, 300, 400),  # over tokens, unless these are too many
        lambda: layer(4, 120, 60, 70),  # over entries
    ],
)
def test_memory_is_bounded(monkeypatch, make, is_sketch):
    """No tensor on the way is larger than the bound, though errors and scores are."""
    found, bound = make(), 8000

    def largest():
        with Largest() as watch:
            if is_sketch:
                score_sketch(found, 16, np.random.default_rng(0))
            else:
                score_gram(found, 4)
        return watch.entries

    free = largest()
    monkeypatch.setattr(bounds, "MAX_ENTRIES", bound)
    assert largest() <= bound
    # negative control; errors of a layer are given, and nothing large is made of them for a sketch
    assert free > bound or (is_sketch and isinstance(found, LayerFactors))


@pytest.mark.parametrize("columns", [1, 7, 40, 10**6])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
@pytest.mark.parametrize("forbidden", [(), (0, 1, 2, 3, 4, 5, 6, 50)])
def test_probabilities_in_blocks_are_those_of_the_policy(columns, temperature, forbidden):
    decoding = replace(DECODING, temperature=temperature, forbidden_tokens=forbidden, end_tokens=())
    weight, hidden = torch.randn(53, 8), 5 * torch.randn(3, 4, 8)
    found = Head(weight, None, decoding, None, has_weight=True, has_bias=False)
    blocks = list(found.probabilities(hidden, columns))
    assert [first for first, _ in blocks] == list(range(0, 53, columns))
    together = torch.cat([block for _, block in blocks], dim=2)
    expected = log_policy(hidden @ weight.T, decoding).exp()
    # float32 logits of some 50 at temperature 0.01: their rounding, times 100, is in the exponent
    torch.testing.assert_close(together, expected, rtol=3e-3, atol=1e-6)
    assert float(together[..., list(forbidden)].sum()) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_head_computes_in_the_dtype_of_the_model(dtype):
    weight, hidden = torch.randn(53, 8).to(dtype), torch.randn(3, 4, 8).to(dtype)
    found = Head(weight, None, DECODING, None, has_weight=True, has_bias=False)
    # hidden states are kept as float32, which loses nothing
    torch.testing.assert_close(
        found.logits(hidden.float(), 10, 20),
        (hidden @ weight.T)[..., 10:20].float(),
        rtol=0.0 if dtype == torch.bfloat16 else 1e-6,
        atol=0.0 if dtype == torch.bfloat16 else 1e-6,
    )


def test_two_forms_differ_by_the_traces():
    # plug-in minus tr V1 / n1 minus tr V0 / n0, with sample covariances (divisor n - 1) by numpy
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(3, 7, 5))
    is_right = np.array([[1, 1, 0, 0, 0, 1, 0], [0, 1, 1, 1, 1, 1, 0], [1, 0, 0, 1, 0, 0, 0]]) == 1
    found = group_moments(scores @ scores.transpose(0, 2, 1), is_right)
    for g in range(3):
        kinds = [scores[g][is_right[g]], scores[g][~is_right[g]]]
        plug_in = ((kinds[0].mean(0) - kinds[1].mean(0)) ** 2).sum()
        traces = [np.cov(kind.T).trace() / len(kind) for kind in kinds]
        assert found.plug_in[g] == pytest.approx(plug_in, rel=1e-12)
        assert found.unbiased[g] == pytest.approx(plug_in - sum(traces), rel=1e-12)


def test_orthogonal_scores_by_hand():
    # right e1, e2; wrong 2 e3, 2 e4: no product of different rollouts, so the unbiased form is 0;
    # plug-in |(e1 + e2)/2 - (e3 + e4)|^2 = 1/2 + 2
    gram = np.diag([1.0, 1.0, 4.0, 4.0])[None]
    found = group_moments(gram, np.array([[True, True, False, False]]))
    assert found.unbiased[0] == 0.0
    assert found.plug_in[0] == pytest.approx(2.5)
    assert found.sq_norm_correct[0] == pytest.approx(1.0)
    assert found.norm_wrong[0] == pytest.approx(2.0)
    assert found.sq_norm_wrong[0] == pytest.approx(4.0)


def test_rounding_below_zero_is_no_norm():
    found = group_moments(np.array([[[-1e-9, 0.0], [0.0, 1.0]]]), np.array([[True, False]]))
    assert found.sq_norm_correct[0] == 0.0
    assert found.norm_correct[0] == 0.0


def test_difference_is_unbiased_in_many_dimensions():
    # scores N(mean, I) in 200 dimensions, means one apart: the truth is 1. The plug-in with 2 + 2
    # rollouts has expectation 1 + 200/2 + 200/2 = 201.
    generator = np.random.default_rng(3)
    shift = np.full(200, 1 / np.sqrt(200))
    is_right = np.tile([True, True, False, False], (2000, 1))
    scores = generator.normal(size=(2000, 4, 200)) + is_right[:, :, None] * shift
    found = group_moments(scores @ scores.transpose(0, 2, 1), is_right)
    band = 4 * np.std(found.unbiased) / np.sqrt(2000)
    assert abs(np.mean(found.unbiased) - 1.0) < band
    plug_in_band = 4 * np.std(found.plug_in) / np.sqrt(2000)
    assert abs(np.mean(found.plug_in) - 201.0) < plug_in_band
    assert abs(np.mean(found.plug_in) - 1.0) > band  # negative control


def bundles_of(sizes, tokens, *, exact_entries=10**9, pass_tokens=100):
    slot_R = np.repeat(np.arange(len(sizes)), sizes)
    tokens_R = np.repeat(tokens, sizes)
    order = np.random.default_rng(0).permutation(slot_R.size)
    return slot_R[order], make_bundles(
        slot_R[order],
        tokens_R[order],
        tokens_R[order],
        lambda positions, completion: 10 * positions + completion,
        exact_entries=exact_entries,
        pass_tokens=pass_tokens,
    )


def test_every_rollout_is_in_one_bundle_and_in_one_pass_of_it():
    slot_R, found = bundles_of([4, 0, 4, 2, 4, 9, 4], [5, 5, 9, 3, 5, 30, 30])
    rows = np.concatenate([bundle.row_R for bundle in found])
    assert sorted(rows.tolist()) == list(range(slot_R.size))
    for bundle in found:
        assert slot_R[bundle.row_R].tolist() == np.repeat(bundle.slot_G, bundle.size).tolist()
        places = np.concatenate(bundle.passes)
        assert sorted(places.tolist()) == list(range(bundle.row_R.size))
        assert bundle.is_exact
    # 4 x 5 + 4 x 5 tokens fit together, with 4 x 9 they would be 12 x 9 > 100
    assert [bundle.slot_G.tolist() for bundle in found] == [[3], [0, 4], [2], [6], [5]]
    assert [len(bundle.passes) for bundle in found] == [1, 1, 1, 2, 3]


def test_only_a_group_that_is_too_large_by_itself_is_sketched():
    # a rollout of t tokens leaves 11 t numbers: groups of 220, 220, 396 and 1320
    _, found = bundles_of([4, 4, 4, 4], [5, 5, 9, 30], exact_entries=430)
    assert [(bundle.slot_G.tolist(), bundle.is_exact) for bundle in found] == [
        ([0], True), ([1], True), ([2], True), ([3], False)
    ]  # fmt: skip
    _, found = bundles_of([4, 4, 4, 4], [5, 5, 9, 30], exact_entries=440)
    assert [bundle.slot_G.tolist() for bundle in found] == [[0, 1], [2], [3]]
    _, found = bundles_of([4, 4], [5, 5], exact_entries=0)
    assert [bundle.is_exact for bundle in found] == [False, False]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_ranks_share_all_bundles_and_make_as_many_passes(size):
    _, found = bundles_of([4, 0, 4, 2, 4, 9, 4], [5, 5, 9, 3, 5, 30, 30])
    shares = [share(found, World(rank, size)) for rank in range(size)]
    slots = [slot for mine, _ in shares for bundle in mine for slot in bundle.slot_G.tolist()]
    assert sorted(slots) == [0, 2, 3, 4, 5, 6]
    passes = {sum(len(b.passes) for b in mine) + missing for mine, missing in shares}
    assert len(passes) == 1
    assert share([], World(0, size)) == ([], 0)
