"""How the groups of a plan are put together for measuring, and into passes of bounded size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cures.checks import IntArray
from train.sequences import cut_by_tokens
from train.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Groups of equal size that are measured together.

    Attributes
    ----------
    slot_G : ndarray of int64
        Places of the groups in the plan.
    row_R : ndarray of int64
        Their rollouts, group by group.
    size : int
        Rollouts of each group.
    is_exact : bool
        Whether what passes leave is few enough to be kept until the last of them.
    passes : list of ndarray of int64
        Each some places in ``row_R``.
    """

    slot_G: IntArray
    row_R: IntArray
    size: int
    is_exact: bool
    passes: list[IntArray]


def make_bundles(
    slot_R: IntArray,
    positions_R: IntArray,
    length_R: IntArray,
    entries: Callable[[int, int], int],
    *,
    exact_entries: int,
    pass_tokens: int,
) -> list[Bundle]:
    """Bundle groups of equal size and like length, a bundle being one pass where that is possible.

    Parameters
    ----------
    slot_R : ndarray of int64, shape (R,)
        Place of each rollout's group in the plan.
    positions_R, length_R : ndarray of int64, shape (R,)
        Tokens of each rollout in a pass; of its completion.
    entries : callable
        (positions, completion tokens) -> numbers that a pass leaves of a rollout.
    exact_entries : int
        Most numbers that a bundle may keep; only a group that has more by itself is not exact.
    pass_tokens : int
        Most padded tokens of a pass, and of a bundle of several groups.

    Examples
    --------
    Groups of 2, 1 and 2 rollouts of 3 tokens, where a pass has room for 12:

    >>> slot_R, tokens = np.array([0, 0, 1, 2, 2]), np.full(5, 3)
    >>> found = make_bundles(slot_R, tokens, tokens, lambda positions, completion: positions,
    ...                      exact_entries=100, pass_tokens=12)
    >>> [bundle.slot_G.tolist() for bundle in found]
    [[1], [0, 2]]
    """
    if slot_R.size == 0:
        return []
    order = np.argsort(slot_R, kind="stable")
    slot_G, start_G = np.unique(slot_R[order], return_index=True)
    rows_G = np.split(order, start_G[1:])
    size_G = np.diff(np.append(start_G, order.size))
    longest_G = np.maximum.reduceat(positions_R[order], start_G)
    completion_G = np.maximum.reduceat(length_R[order], start_G)
    bundles: list[Bundle] = []

    def kept(group_G: IntArray) -> int:
        largest = entries(int(longest_G[group_G].max()), int(completion_G[group_G].max()))
        return int(size_G[group_G].sum()) * largest

    def close(group_G: IntArray) -> None:
        rows = np.concatenate([rows_G[g] for g in group_G])
        bundles.append(
            Bundle(
                slot_G[group_G],
                rows,
                int(size_G[group_G[0]]),
                kept(group_G) <= exact_entries,
                cut_by_tokens(positions_R[rows], pass_tokens),
            )
        )

    by_size = np.lexsort((longest_G, size_G))
    first = 0
    for last in range(1, by_size.size + 1):
        if last < by_size.size:
            group_G = by_size[first : last + 1]
            is_alike = size_G[group_G[0]] == size_G[group_G[-1]]
            # sorted, so the last is the longest
            tokens = int(size_G[group_G].sum()) * int(longest_G[group_G[-1]])
            if is_alike and tokens <= pass_tokens and kept(group_G) <= exact_entries:
                continue
        close(by_size[first:last])
        first = last
    return bundles


def share(bundles: list[Bundle], world: World) -> tuple[list[Bundle], int]:
    """Bundles of this rank, and passes that it has fewer than the rank with the most.

    Sharded weights are gathered by all ranks together, so all have to make as many passes.
    """

    def of(rank: int) -> list[Bundle]:
        dealt = World(rank, world.size).deal(bundles)
        return [bundle for bundle, is_real in dealt if is_real]

    passes = [sum(len(bundle.passes) for bundle in of(rank)) for rank in range(world.size)]
    return of(world.rank), max(passes) - passes[world.rank]
