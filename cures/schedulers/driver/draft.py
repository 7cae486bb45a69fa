"""A draft: what a rule wants to roll out, before the driver gives it ids and cuts it to a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cures.checks import FloatArray, IntArray


def _no_ints() -> IntArray:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Draft:
    """Groups to continue (``_C``, first in the plan) and new groups (``_B``).

    Attributes
    ----------
    prompt_B, quota_B, draw_B : ndarray of int64
        New groups; quotas >= 1.
    prob_B : ndarray of float64
        Draw or inclusion probability of each new group, NaN where the rule has none.
    continued_C, continued_quota_C : ndarray of int64
        Ids (ascending) of live groups that get more rollouts, and how many.
    is_pilot, wants_moments : bool
        Of the new groups.
    sigma : float, optional
        Streaming only: the group's sigma, from which the driver makes the quota.
    counts : mapping of str to int
        Counters to raise when the plan is issued, and by how much.
    """

    prompt_B: IntArray
    quota_B: IntArray
    draw_B: IntArray
    prob_B: FloatArray
    continued_C: IntArray = field(default_factory=_no_ints)
    continued_quota_C: IntArray = field(default_factory=_no_ints)
    is_pilot: bool = False
    wants_moments: bool = False
    sigma: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        prompt_B: IntArray,
        quota_B: IntArray,
        *,
        draw_B: IntArray | None = None,
        prob_B: FloatArray | None = None,
        is_pilot: bool = False,
        wants_moments: bool = False,
        sigma: float | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> Draft:
        """New groups only; each drawn once and without a probability unless given."""
        size = prompt_B.size
        return cls(
            prompt_B,
            quota_B,
            np.ones(size, dtype=np.int64) if draw_B is None else draw_B,
            np.full(size, np.nan) if prob_B is None else prob_B,
            is_pilot=is_pilot,
            wants_moments=wants_moments,
            sigma=sigma,
            counts={} if counts is None else counts,
        )

    @classmethod
    def nothing(cls) -> Draft:
        """The empty draft: an update is ready."""
        return cls.of(_no_ints(), _no_ints())

    @property
    def quota(self) -> IntArray:
        """Quotas in plan order, continued groups first."""
        return np.concatenate([self.continued_quota_C, self.quota_B])

    def with_quota(self, quota: int) -> Draft:
        """The same single new group with another quota."""
        return replace(self, quota_B=np.array([quota], dtype=np.int64))

    def first(self) -> Draft:
        """Only the first group of the plan order."""
        return self.truncated(np.asarray(self.quota[:1]))

    def truncated(self, quota: IntArray) -> Draft:
        """The first ``quota.size`` groups of the plan order, with these quotas."""
        old = min(self.continued_C.size, quota.size)
        new = quota.size - old
        return replace(
            self,
            continued_C=self.continued_C[:old],
            continued_quota_C=quota[:old],
            prompt_B=self.prompt_B[:new],
            quota_B=quota[old:],
            draw_B=self.draw_B[:new],
            prob_B=self.prob_B[:new],
        )


def cut(draft: Draft, limit: int | None, min_quota: int) -> Draft:
    """Cut a draft to at most ``limit`` rollouts.

    Whole groups go from the end; the last group that stays in part keeps at least ``min_quota``
    rollouts (or its own smaller quota), so a cut never leaves a group of one by default. What is cut
    from a pilot group is a later group of its own, and as large if the quota is large enough for both.
    """
    quota = draft.quota
    if limit is None or int(quota.sum()) <= limit:
        return draft
    total = np.cumsum(quota)
    whole = int(np.searchsorted(total, limit, side="right"))
    left = limit - (int(total[whole - 1]) if whole else 0)
    kept = quota[:whole]
    if draft.is_pilot and int(quota[whole]) >= 2 * min_quota:
        left = min(left, int(quota[whole]) - min_quota)
    if left >= min_quota:
        kept = np.append(kept, left)
    return draft.truncated(kept)
