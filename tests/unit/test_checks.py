"""Nothing is repaired at the door."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.checks import as_float, as_float_array, as_int, as_int_array


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


def test_the_doors_use_them():
    with pytest.raises(ValueError, match="allocate: sigma"):
        cures.allocate(["0.5", "0.3"], 8)
    with pytest.raises(ValueError, match="advantages: reward_R"):
        cures.advantages(["1", "0"], [0, 0])
    with pytest.raises(ValueError, match="Moments: sq_norm_correct"):
        cures.Moments([None], [None], [None], [None], [None])
    assert cures.advantages([True, False], [0, 0], estimator="dr_grpo").tolist() == [0.5, -0.5]
