"""Online filtering by a band of observed success rates."""

from __future__ import annotations

from typing import Any

import numpy as np

from cures.checks import BoolArray, IntArray, as_float
from cures.schedulers.driver import COMPLETE
from cures.schedulers.refill import RefillScheduler
from cures.storage import StateValue


class Band(RefillScheduler):
    r"""Keep a group iff its observed success rate lies in [low, high]; refill exactly what is missing.

    Expected cost of an update: :math:`n\, m / q` rollouts, q the chance that a group of n falls into
    the band, as long as ``max_plans_per_update`` plans suffice.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; group size n = budget / batch_size.
    low, high : float
        Inclusive band, ``0 <= low <= high <= 1``.
    max_plans_per_update : int
        Full batches of prompts after which the update uses what is there.

    Notes
    -----
    The paper refills asynchronously to a fixed batch; here a plan asks for as many prompts as are
    missing, so with one plan open at a time nothing that was kept is thrown away. The band of the
    paper's best run was not read at the source; 0.2 to 0.8 is that of an independent
    re-implementation.

    References
    ----------
    .. [1] Bae et al., "Online Difficulty Filtering for Reasoning Oriented RL", arXiv 2504.03380.
    """

    name = "band"

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        low: float = 0.2,
        high: float = 0.8,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        self.low = as_float(self.name, "low", low, 0.0, 1.0)
        self.high = as_float(self.name, "high", high, self.low, 1.0)

    def _keep(self, success: IntArray, trial: IntArray) -> BoolArray:
        # products, not quotients: 0.2 * 5 trials against 1 success must not hang on a rounding
        tolerance = 1e-9 * trial
        is_inside = (success >= self.low * trial - tolerance) & (
            success <= self.high * trial + tolerance
        )
        return np.asarray(is_inside & (trial > 0))

    def _refill_size(self) -> int:
        waiting = int(np.count_nonzero(self.live.stage == COMPLETE))
        return max(self.batch_size - waiting, 1)

    def _config(self) -> dict[str, StateValue]:
        return {**super()._config(), "low": self.low, "high": self.high}
