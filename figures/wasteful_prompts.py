"""Which prompts cost rollouts and taught nothing: dead, mastered and coin-like ones.

- *dead*: never right.
- *mastered*: always right.
- *coin-like*: of a middling success rate that more likely stays than moves with the policy
  (:mod:`cures.response`).

*Wasted* rollouts are those of visits of one kind, all right or all wrong, in which a group baseline
leaves no advantage; of a coin-like prompt all, whose mixed groups move the policy nowhere.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from cures.checks import FloatArray, IntArray
from cures.posterior import BetaPosterior
from cures.response import Response
from figures.visits import Visits

KINDS = ("dead", "mastered", "coin-like", "other", "not visited")
DEAD, MASTERED, COIN_LIKE, OTHER, NOT_VISITED = range(len(KINDS))
LIKELY = 0.5  # chance of being steady above which a prompt is coin-like
INTERVAL = 0.95
COLUMNS = (
    "prompt", "rollouts", "successes", "visits", "alpha", "beta", "mean", "low", "high", "class",
    "wasted",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class PromptTable:
    """What every prompt of the pool cost; all arrays int64 of shape (N,).

    Attributes
    ----------
    kind_N : ndarray
        Index into :data:`KINDS`.
    visits_N, rollouts_N, success_N, wasted_N : ndarray
        ``rollouts`` came back; missing ones are nobody's evidence.
    """

    kind_N: IntArray
    visits_N: IntArray
    rollouts_N: IntArray
    success_N: IntArray
    wasted_N: IntArray

    @classmethod
    def of(cls, seen: Visits, response: Response) -> PromptTable:
        """From a run's visits and what :func:`figures.visits.replay` believes after them."""
        size = response.trial_N.size

        def total(value_V: IntArray) -> IntArray:
            sum_N = np.zeros(size, dtype=np.int64)
            np.add.at(sum_N, seen.prompt_V, value_V)
            return sum_N

        rollouts_N, success_N = total(seen.trial_V), total(seen.success_V)
        of_one_kind_N = total(np.where(seen.is_mixed_V, 0, seen.trial_V))
        is_judged_N = response.is_judged()
        is_steady_N = is_judged_N & (response.prob_steady() > LIKELY)
        kind_N = np.select(
            [rollouts_N == 0, success_N == 0, success_N == rollouts_N, is_steady_N],
            [NOT_VISITED, DEAD, MASTERED, COIN_LIKE],
            OTHER,
        )
        return cls(
            kind_N,
            total(np.ones(len(seen), dtype=np.int64)),
            rollouts_N,
            success_N,
            np.where(kind_N == COIN_LIKE, rollouts_N, of_one_kind_N),
        )

    def __len__(self) -> int:
        """Number of prompts N."""
        return int(self.kind_N.size)

    def most_wasteful(self, count: int) -> IntArray:
        """Prompts with the most wasted rollouts, of every class alike where it has so many.

        Returns
        -------
        ndarray of int64
            Dead, then mastered, then coin-like ones; within a class most wasted first, ties by id.
        """
        kinds = [np.flatnonzero(self.kind_N == kind) for kind in (DEAD, MASTERED, COIN_LIKE)]
        ranked = [ids[np.argsort(-self.wasted_N[ids], kind="stable")] for ids in kinds]
        place = np.concatenate([np.arange(ids.size) for ids in ranked])
        chosen = np.sort(np.argsort(place, kind="stable")[:count])
        return np.concatenate(ranked)[chosen]


def interval(posterior: BetaPosterior, prompt_B: IntArray | None = None) -> tuple[FloatArray, ...]:
    """Central interval of a success rate that holds :data:`INTERVAL` of its Beta law: low, high."""
    alpha, beta = posterior.alpha_beta(prompt_B)
    tail = (1.0 - INTERVAL) / 2.0
    return betaincinv(alpha, beta, tail), betaincinv(alpha, beta, 1.0 - tail)


def posterior_csv(table: PromptTable, posterior: BetaPosterior) -> str:
    """One row per prompt of the pool, :data:`COLUMNS`; floats to their last bit."""
    columns = (
        range(len(table)),
        table.rollouts_N.tolist(),
        table.success_N.tolist(),
        table.visits_N.tolist(),
        *(array.tolist() for array in posterior.alpha_beta()),
        posterior.mean().tolist(),
        *(array.tolist() for array in interval(posterior)),
        (KINDS[kind] for kind in table.kind_N),
        table.wasted_N.tolist(),
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()
