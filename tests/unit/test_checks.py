"""Nothing is repaired at the door."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.checks import (
    InWords,
    as_float,
    as_float_array,
    as_int,
    as_int_array,
    fail,
    is_distinct,
)


@pytest.mark.parametrize(
    "value",
    [
        ["0.5", "0.3"],
        [True, False],
        [None, None],
        [0.5 + 3j],
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        [[0.1], [0.2, 0.3]],
        [object()],
    ],
    ids=["strings", "booleans", "none", "complex", "dates", "ragged", "objects"],
)
def test_only_real_numbers_are_real_numbers(value):
    with pytest.raises(ValueError, match="x must be an? (one-dimensional )?array of real numbers"):
        as_float_array("f", "x", value)
    with pytest.raises(ValueError, match="x must be a one-dimensional integer array"):
        as_int_array("f", "x", value)


def test_sentences():
    with pytest.raises(ValueError, match=r"f: x must be an int in \[0, 3\], got 4"):
        as_int("f", "x", 4, 0, 3)
    with pytest.raises(ValueError, match=r"f: x must be a float in \(0, 1\], got inf"):
        as_float("f", "x", float("inf"), 0, 1, open_low=True)
    with pytest.raises(ValueError, match=r"f: x must be in \[0, 1\], got .*1.5 at index 1"):
        as_float_array("f", "x", [0.5, 1.5], low=0, high=1)
    with pytest.raises(ValueError, match="x must be representable as int64"):
        as_int_array("f", "x", np.array([2**63], dtype=np.uint64))
    with pytest.raises(ValueError, match=r"f: x must be small, got 3$"):
        fail("f", "x", "small", np.int64(3))
    with pytest.raises(ValueError, match=r"f: x must be small, got 3 of them$"):
        fail("f", "x", "small", InWords("3 of them"))
    with pytest.raises(ValueError, match=r"f: x must be small, got '3'$"):
        fail("f", "x", "small", "3")


def test_the_doors_use_them():
    with pytest.raises(ValueError, match="allocate: sigma"):
        cures.allocate(["0.5", "0.3"], 8)
    with pytest.raises(ValueError, match="advantages: reward_R"):
        cures.advantages(["1", "0"], [0, 0])
    with pytest.raises(ValueError, match="Moments: sq_norm_correct"):
        cures.Moments([None], [None], [None], [None], [None])
    assert cures.advantages([True, False], [0, 0], estimator="dr_grpo").tolist() == [0.5, -0.5]


SHAPES = [
    (lambda: cures.expected_potential([1.0, 2.0], [1.0, 2.0, 3.0]), "expected_potential: beta"),
    (lambda: cures.expected_variance([1.0, 2.0], [1.0, 2.0, 3.0]), "expected_variance: beta"),
    (lambda: cures.expected_mixed([1.0, 2.0], 1.0, [2, 3, 4]), "expected_mixed: n"),
    (lambda: cures.prob_mixed([0.5, 0.1], [1, 2, 3]), "prob_mixed: n"),
    (lambda: cures.gradient_std([0.5, 0.1], [1.0, 2.0, 3.0], 1.0, 1.0), "sq_norm_correct"),
    (lambda: cures.gradient_std([0.5, 0.1], 1.0, 1.0, np.ones(3)), "sq_norm_difference"),
    (lambda: cures.gradient_std_released([0.5, 0.1], 1.0, 1.0, 1.0, np.ones(3)), "sq_norm_wrong"),
    (
        lambda: cures.gradient_std_surrogate([0.5, 0.1], estimator="rloo", n=[2, 3, 4]),
        "surrogate: n",
    ),
]


RAGGED = [[1], [1, 0]]


@pytest.mark.parametrize(("call", "name"), SHAPES)
def test_shapes_that_do_not_fit_are_named(call, name):
    with pytest.raises(
        ValueError, match=rf"{name} must be of a shape that broadcasts with .*shape"
    ):
        call()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: cures.potential([[0.1], [0.1, 0.2]]), "potential: p must be an array of real"),
        (lambda: cures.expected_potential([[1], [1, 2]], 1), "alpha must be an array of real"),
        (lambda: cures.gradient_std(0.5, [[1], [1, 2]], 1, 1), "sq_norm_correct must be an array"),
        (lambda: cures.expected_mixed(0.5, 0.5, 1.5), r"n must be an int >= 0, or .*, got 1\.5"),
        (
            lambda: cures.prob_mixed(0.5, [[1], [1, 2]]),
            "n must be an int >= 0, or an array of such",
        ),
        (lambda: cures.advantages(RAGGED, [0, 0]), "reward_R must be a one-dimensional array"),
        (lambda: cures.Moments(*[RAGGED] * 5), "sq_norm_correct must be a one-dimensional array"),
        (
            lambda: cures.Selection([0, 1], [0.5, 0.5], [], keep_G2=RAGGED),
            r"keep_G2 must be counts of shape \(2, 2\)",
        ),
        (lambda: cures.save_state("unused.npz", {"a": RAGGED}), r"state\['a'\] must be an array"),
        (
            lambda: cures.make_scheduler(
                "oracle",
                num_prompts=2,
                batch_size=1,
                budget=4,
                learnable=RAGGED,
                true_success_rate=lambda: [0.5, 0.5],
            ),
            "learnable must be 2 booleans",
        ),
        (
            lambda: cures.BetaPosterior(2).load_state_dict(None),
            "state must be a dict with keys .*, got None",
        ),
    ],
)
def test_ragged_and_foreign_values_are_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_is_distinct_is_what_a_set_says():
    generator = np.random.default_rng(0)
    seen = {True: 0, False: 0}
    for size in [0, 1, *generator.integers(2, 9, 300).tolist()]:
        ids = generator.integers(0, 20, size)
        # differences of unsigned numbers wrap
        for array in (ids, np.sort(ids), np.sort(ids)[::-1], ids.astype(np.uint8)):
            expected = len(set(array.tolist())) == size  # brute force
            assert is_distinct(array) == expected
            seen[expected] += 1
    assert min(seen.values()) > 100
