"""The sum tree: its law against the weights themselves, its sums against sums over everything."""

from __future__ import annotations

import numpy as np
import pytest

from cures.sum_tree import FANOUT, ROOT, SumTree

SIZES = (1, 5, FANOUT, 1000, ROOT, ROOT + 1, 40_000, ROOT * FANOUT + 7)  # one, two and three levels


class Grid:
    """Uniform numbers without the chance: the midpoints of equal parts of [0, 1]."""

    def random(self, size):
        return (np.arange(size) + 0.5) / size


class Last:
    """The largest uniform number that a generator returns, and the smallest."""

    def random(self, size):
        return np.where(np.arange(size) % 2, 1.0 - 2.0**-53, 0.0)


def filled(weight_N):
    tree = SumTree(weight_N.size)
    tree.set_range(0, weight_N)
    return tree


def same_bits(a, b):
    return [x.tobytes() for x in a._level] == [x.tobytes() for x in b._level]


@pytest.mark.parametrize("size", SIZES)
def test_total_is_the_sum(size):
    weight_N = np.random.default_rng(size).random(size)
    # a sum in another order: relative rounding of at most levels * fan-out additions in each path
    assert filled(weight_N).total == pytest.approx(weight_N.sum(), rel=1e-12)


@pytest.mark.parametrize("size", [5, 1000, 40_000])
def test_law_of_a_draw_by_enumeration(size):
    generator = np.random.default_rng(3)
    weight_N = generator.random(size) ** 6  # over many orders of magnitude
    weight_N[generator.random(size) < 0.3] = 0.0
    draws = 2_000_000
    found = np.bincount(filled(weight_N).draw(Grid(), draws), minlength=size)
    expected = draws * weight_N / weight_N.sum()  # the definition
    # a grid puts into an interval its length times the points, within one point at each end
    assert np.abs(found - expected).max() <= 2.0
    assert found[weight_N == 0.0].sum() == 0
    other = (
        draws * weight_N**1.01 / (weight_N**1.01).sum()
    )  # negative control: almost these weights
    assert np.abs(found - other).max() > 2.0


@pytest.mark.parametrize("size", [1000, 40_000, ROOT * FANOUT + 7])
def test_a_tree_with_a_history_is_a_new_tree_bit_for_bit(size):
    generator = np.random.default_rng(size)
    weight_N = generator.random(size)
    tree = filled(weight_N)
    for _ in range(30):
        leaf = generator.integers(0, size, 50)  # unsorted, with repeats
        weight_N[leaf] = 10.0 ** generator.integers(-12, 12, 50)
        tree.update(leaf, weight_N[leaf])
        start = int(generator.integers(0, size))
        part = generator.random(min(77, size - start))
        weight_N[start : start + 77] = part
        tree.set_range(start, part)
    assert same_bits(tree, filled(weight_N))
    drifted = filled(weight_N)  # negative control: sums kept by adding differences
    drifted._level[-1] += 1e-9
    assert not same_bits(tree, drifted)


@pytest.mark.parametrize("scale", [1.0, 5e-324, 1e-300, 1e300])
def test_no_draw_of_weight_zero_or_past_the_end(scale):
    weight_N = np.zeros(ROOT + 1)
    weight_N[[7, 8, ROOT - 1]] = scale
    drawn = filled(weight_N).draw(Last(), 1000)
    assert set(drawn.tolist()) == {7, ROOT - 1}  # the first and the last of positive weight


def test_weights_come_back_and_nothing_to_draw_is_refused():
    tree = SumTree(3)
    with pytest.raises(ValueError, match="total must be positive and finite, got 0.0"):
        tree.draw(np.random.default_rng(0), 1)
    tree.update(np.array([1]), np.array([2.0]))
    assert tree.weight(np.array([1, 0])).tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match="size must be an int"):
        tree.draw(np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match="num_leaves must be an int"):
        SumTree(0)


def test_memory_is_that_of_the_weights():
    # 8 bytes a leaf, 1 / 16 + 1 / 16^2 ... of that in sums, and the padding of a block per level
    assert SumTree(10**6).nbytes <= 8 * 10**6 * (1 + 1 / (FANOUT - 1)) + 3 * 8 * FANOUT
