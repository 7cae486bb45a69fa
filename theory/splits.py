"""Ways to split a number of rollouts over prompts: all of them, the best, and the greedy one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

Split = tuple[int, ...]
Value = Callable[[Split], Fraction]


def all_splits(total: int, parts: int, low: int, skip: bool = False) -> Iterator[Split]:
    """Every way to write ``total`` as an ordered sum of ``parts`` numbers, each at least ``low``.

    With ``skip`` a part may also be 0.
    """
    firsts = [*([0] if skip and low > 0 else []), *range(low, total + 1)]
    if parts == 1:
        if total in firsts:
            yield (total,)
        return
    for first in firsts:
        for rest in all_splits(total - first, parts - 1, low, skip):
            yield (first, *rest)


def best_split(value: Value, total: int, parts: int, low: int, skip: bool = False) -> Split:
    """The split of largest value; of several, the first in lexicographic order."""
    return max(all_splits(total, parts, low, skip), key=value)


def greedy_split(marginal: Callable[[int, int], Fraction], total: int, low: Sequence[int]) -> Split:
    """One rollout after another to the prompt i of largest ``marginal(i, n_i)``; ties to the first."""
    quota = list(low)
    for _ in range(total - sum(low)):
        best = max(range(len(quota)), key=lambda i: marginal(i, quota[i]))
        quota[best] += 1
    return tuple(quota)


def largest_remainders(weight: Sequence[int], total: int) -> Split:
    """Shares ``total * weight / sum(weight)`` rounded down, the largest remainders one up."""
    share = [Fraction(total * w, sum(weight)) for w in weight]
    quota = [int(x) for x in share]
    order = sorted(range(len(quota)), key=lambda i: quota[i] - share[i])
    for i in order[: total - sum(quota)]:
        quota[i] += 1
    return tuple(quota)


def lowered_variance(sigma_B: Sequence[int]) -> Value:
    """Minus the sum of sigma^2 / n, the value that (20) makes largest."""
    return lambda split: (
        -sum((Fraction(s * s, k) for s, k in zip(sigma_B, split, strict=True)), Fraction())
    )
