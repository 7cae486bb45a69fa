"""The quota of one streamed group, when there is no batch to split a budget over."""

from __future__ import annotations

from dataclasses import dataclass

from cures.schedulers.driver.checkpoint import SchedulerState
from cures.storage import State


@dataclass(frozen=True, slots=True)
class StreamQuota:
    """Running mean of sigma and what was handed out, as a value.

    A group gets sigma / (running mean of sigma) x budget / batch_size rollouts, plus a share 1 /
    batch_size of what earlier groups were given too little (rounding, bounds, cuts, a mean that lagged
    behind). The debt stays bounded, so the long-run mean is budget / batch_size exactly.

    Attributes
    ----------
    groups, issued : int
        Groups so far and the rollouts they were given: the debt.
    count : int
    sum_sigma : float
        Groups that the running mean of sigma is taken over, and its sum.
    """

    groups: int = 0
    issued: int = 0
    count: int = 0
    sum_sigma: float = 0.0

    def quota(
        self, sigma: float, *, budget: int, batch_size: int, min_quota: int, max_quota: int | None
    ) -> int:
        """Rollouts for a group of this sigma; equal ones while every sigma was 0."""
        mean = (self.sum_sigma + sigma) / (self.count + 1)
        relative = sigma / mean if mean > 0.0 else 1.0
        debt = self.groups * budget / batch_size - self.issued
        target = round(relative * budget / batch_size + debt / batch_size)
        return max(target if max_quota is None else min(target, max_quota), min_quota)

    def after(self, sigma: float, quota: int) -> StreamQuota:
        """The value once the group was issued with ``quota`` rollouts."""
        return StreamQuota(
            self.groups + 1, self.issued + quota, self.count + 1, self.sum_sigma + sigma
        )

    def restarted(self) -> StreamQuota:
        """Forget the mean of sigma, keep the debt: a new subset begins."""
        return StreamQuota(self.groups, self.issued)

    def state_dict(self) -> State:
        """Plain values."""
        return {
            "groups": self.groups,
            "issued": self.issued,
            "count": self.count,
            "sum_sigma": self.sum_sigma,
        }

    @classmethod
    def from_state(cls, state: SchedulerState) -> StreamQuota:
        """Inverse of :meth:`state_dict`."""
        return cls(
            groups=state.integer("groups"),
            issued=state.integer("issued"),
            count=state.integer("count"),
            sum_sigma=state.real("sum_sigma", 0.0),
        )
