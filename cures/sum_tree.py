"""Draws in proportion to weights that change a few at a time: a wide sum tree over an array.

A node holds the sum of its :data:`FANOUT` children, leaves are the weights. Changing B weights sums the
B blocks they are in *again*, and so on upwards: sums do not drift, and a tree with a history is the
same, bit for bit, as a new one over the same weights. A draw descends from the root, all draws at once.
Both cost O(B x FANOUT x levels) array elements whatever the number of leaves; the root is as wide as is
cheap to scan.

Unlike the values elsewhere in this package a tree is edited in place: a copy of ten million weights at
every step is what it is there to avoid.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.random import Generator

from cures.checks import FloatArray, IntArray, as_int, fail

FANOUT = 16
ROOT = 2**14  # a level of at most so many nodes is not summed further


class SumTree:
    """Weights of N leaves and the sums over their blocks.

    Parameters
    ----------
    num_leaves : int
        N >= 1; every weight is 0 at first.

    Examples
    --------
    >>> tree = SumTree(3)
    >>> tree.set_range(0, np.array([1.0, 0.0, 3.0]))
    >>> tree.total, tree.draw(np.random.default_rng(0), 4)
    (4.0, array([0, 0, 2, 2]))
    """

    def __init__(self, num_leaves: int) -> None:
        self._num_leaves = as_int("SumTree", "num_leaves", num_leaves, 1)
        self._level = [_padded(self._num_leaves)]  # leaves first, root last
        while self._level[-1].size > ROOT:
            self._level.append(_padded(self._level[-1].size // FANOUT))

    def __len__(self) -> int:
        """Number of leaves N."""
        return self._num_leaves

    @property
    def nbytes(self) -> int:
        """Memory of all levels."""
        return sum(level.nbytes for level in self._level)

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self._level[-1].sum())

    def weight(self, leaf_B: IntArray) -> FloatArray:
        """Weights of these leaves, a private copy."""
        return np.asarray(self._level[0][leaf_B])

    def update(self, leaf_B: IntArray, weight_B: FloatArray) -> None:
        """Give leaves new weights.

        Parameters
        ----------
        leaf_B : ndarray of int64, shape (B,)
            In [0, N); cheapest in ascending order. Of a repeated leaf the last weight counts.
        weight_B : ndarray of float64, shape (B,)
            Finite, >= 0; not checked.
        """
        self._level[0][leaf_B] = weight_B
        node = leaf_B
        for below, above in pairwise(self._level):
            node = node // FANOUT
            node = node[np.diff(node, prepend=-1) != 0]  # neighbours share a block
            above[node] = below.reshape(-1, FANOUT)[node].sum(axis=1)

    def set_range(self, start: int, weight_K: FloatArray) -> None:
        """Give the leaves ``start``, ``start + 1``, ... these weights."""
        stop = start + weight_K.size
        self._level[0][start:stop] = weight_K
        for below, above in pairwise(self._level):
            start, stop = start // FANOUT, -(-stop // FANOUT)
            above[start:stop] = below.reshape(-1, FANOUT)[start:stop].sum(axis=1)

    def draw(self, generator: Generator, size: int) -> IntArray:
        """Draw leaves independently, each with chance weight / total.

        Parameters
        ----------
        generator : numpy.random.Generator
        size : int
            Number of draws, >= 1.

        Returns
        -------
        ndarray of int64, shape (size,)
            Ascending, each of positive weight.

        Raises
        ------
        ValueError
            If no weight is positive.

        Notes
        -----
        One uniform number per draw, whose place within a node's interval is its place among the node's
        children: with N leaves about 53 - log2(N) bits are left for the last choice.
        """
        cumulative = np.cumsum(self._level[-1])
        whole = cumulative[-1]
        if not 0.0 < whole < np.inf:
            fail("SumTree.draw", "total", "positive and finite", float(whole))
        # in order, because that is found faster
        place_B = np.sort(generator.random(as_int("SumTree.draw", "size", size, 1)))
        # "right" is the first node whose cumulative weight exceeds the point: never one of weight 0, nor
        # past the end while the point is below the total, whatever the product was rounded to
        point_B = np.minimum(place_B * whole, np.nextafter(whole, 0.0))
        node_B = np.searchsorted(cumulative, point_B, side="right")
        edge = np.concatenate([np.zeros(1), cumulative])
        low_B, high_B = edge[node_B], edge[node_B + 1]
        every = np.arange(size)
        for level in reversed(self._level[:-1]):
            place_B = (point_B - low_B) / (high_B - low_B)
            child_BF = level.reshape(-1, FANOUT)[node_B]
            edge_BF = np.cumsum(child_BF, axis=1)
            whole_B = edge_BF[:, -1]
            point_B = np.minimum(place_B * whole_B, np.nextafter(whole_B, 0.0))
            child_B = np.argmax(edge_BF > point_B[:, None], axis=1)  # the first one
            high_B = edge_BF[every, child_B]
            low_B = np.where(child_B > 0, edge_BF[every, child_B - 1], 0.0)
            node_B = node_B * FANOUT + child_B
        return np.asarray(node_B, dtype=np.int64)


def _padded(size: int) -> FloatArray:
    """Zeros for whole blocks."""
    return np.zeros(-(-size // FANOUT) * FANOUT)
