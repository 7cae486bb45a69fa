"""Mean rank of every arm over several comparisons, with an interval from a bootstrap over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from cures.checks import FloatArray, fail

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rank 1 is the highest final success of a cell; arms that are equal share the mean of their ranks.

    Attributes
    ----------
    mean_A, low_A, high_A : ndarray of float64, shape (A,)
        Mean rank over cells, 95 %.
    behind_A, behind_low_A, behind_high_A : ndarray of float64, shape (A,)
        Mean rank minus that of the arm with the smallest one, 95 %; 0 for that arm itself.
    """

    mean_A: FloatArray
    low_A: FloatArray
    high_A: FloatArray
    behind_A: FloatArray
    behind_low_A: FloatArray
    behind_high_A: FloatArray


def ranking(
    final_C_A_S: ArrayLike, *, generator: np.random.Generator, draws: int = DRAWS
) -> Ranking:
    """Rank arms by their mean final success in every cell, and average.

    Ranks of means are those of mean differences to any reference: it is the same for all arms of a seed.

    Parameters
    ----------
    final_C_A_S : array_like of float, shape (C, A, S)
        Final success by cell, arm and seed. Seed s means the same in all cells (populations of one
        seed have a root in common), so it is redrawn in all of them at once.
    generator : numpy.random.Generator
    draws : int

    Notes
    -----
    Plain percentile intervals. Redrawing adds noise to means that are already noisy, so ranks of arms
    that are nearly equal are drawn together: those intervals lean towards the middle.

    Examples
    --------
    >>> low_then_high = [[[0.1, 0.1], [0.2, 0.3]], [[0.1, 0.1], [0.2, 0.3]]]
    >>> ranking(low_then_high, generator=np.random.default_rng(0)).mean_A
    array([2., 1.])
    """
    final = np.asarray(final_C_A_S, dtype=np.float64)
    if final.ndim != 3 or 0 in final.shape or not np.isfinite(final).all():
        fail("ranking", "final_C_A_S", "finite, of shape (C, A, S), none of them 0", final.shape)
    seeds = final.shape[2]
    mean_A = _mean_rank(final.mean(axis=2)[None])[0]
    best = int(np.argmin(mean_A))
    index = generator.integers(0, seeds, size=(draws, seeds))
    count_D_S = (index[:, :, None] == np.arange(seeds)).sum(axis=1)
    mean_D_C_A = np.einsum("cas,ds->dca", final, count_D_S / seeds)
    rank_D_A = _mean_rank(mean_D_C_A)
    low_A, high_A = np.quantile(rank_D_A, [0.025, 0.975], axis=0)
    behind_D_A = rank_D_A - rank_D_A[:, [best]]
    behind_low_A, behind_high_A = np.quantile(behind_D_A, [0.025, 0.975], axis=0)
    return Ranking(mean_A, low_A, high_A, mean_A - mean_A[best], behind_low_A, behind_high_A)


def _mean_rank(final_D_C_A: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rankdata(-final_D_C_A.round(12), axis=2).mean(axis=1))


def rank_lines(
    arms: Sequence[str], final_C_A_S: ArrayLike, verdict_C_A: Sequence[Sequence[str]]
) -> list[str]:
    """A markdown table: mean ranks, how far behind the first, and how the verdicts are spread.

    Parameters
    ----------
    arms : sequence of str
        The reference is recognised by its verdict, which is counted with none.
    final_C_A_S : array_like of float, shape (C, A, S)
    verdict_C_A : sequence of sequences of str
        See :func:`cures.comparison.harm_verdict`.

    Examples
    --------
    >>> final = [[[0.1, 0.1], [0.2, 0.3]]]
    >>> print(rank_lines(["uniform", "other"], final, [["reference", "no harm"]])[-1])
    | uniform | 2.0 [2.0, 2.0] | 1.0 [1.0, 1.0] |  |  |  |
    """
    result = ranking(final_C_A_S, generator=np.random.default_rng(0))
    kinds = ("no harm", "undecided", "harm")
    lines = [f"| arm | mean rank | behind the first | {' | '.join(kinds)} |", "|---" * 6 + "|"]
    order = np.argsort(result.mean_A, kind="stable")
    for place, a in enumerate(order):
        verdicts = [row[a] for row in verdict_C_A]
        counts = [str(verdicts.count(kind)) if set(verdicts) & set(kinds) else "" for kind in kinds]
        rank = _interval(result.mean_A[a], result.low_A[a], result.high_A[a])
        behind = _interval(result.behind_A[a], result.behind_low_A[a], result.behind_high_A[a])
        lines.append("| " + " | ".join([arms[a], rank, behind if place else "", *counts]) + " |")
    return lines


def rank_text(final_C_A_S: ArrayLike, arm: int) -> str:
    """Mean rank of one arm among all, with its interval.

    Examples
    --------
    >>> rank_text([[[0.1, 0.1], [0.2, 0.3]]], 1)
    '1.0 [1.0, 1.0]'
    """
    result = ranking(final_C_A_S, generator=np.random.default_rng(0))
    return _interval(result.mean_A[arm], result.low_A[arm], result.high_A[arm])


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"
