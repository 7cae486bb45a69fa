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

    def close(group_G: IntArray, is_exact: bool) -> None:
        rows = np.concatenate([rows_G[g] for g in group_G])
        passes = cut_by_tokens(positions_R[rows], pass_tokens)
        bundles.append(Bundle(slot_G[group_G], rows, int(size_G[group_G[0]]), is_exact, passes))

    by_size = np.lexsort((longest_G, size_G))
    first = completion = kept = 0
    for last, g in enumerate(by_size.tolist()):
        size, longest = int(size_G[g]), int(longest_G[g])  # sorted, so the last is the longest
        rollouts = size * (last - first + 1)
        completion = max(completion, int(completion_G[g]))
        more = rollouts * entries(longest, completion)
        has_room = rollouts * longest <= pass_tokens and more <= exact_entries
        if last > first and not (size == size_G[by_size[first]] and has_room):
            close(by_size[first:last], kept <= exact_entries)
            first, completion = last, int(completion_G[g])
            more = size * entries(longest, completion)
        kept = more
    close(by_size[first:], kept <= exact_entries)
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
