"""DAPO dynamic sampling: oversample, drop the groups without a spread of rewards, refill."""

from __future__ import annotations

from typing import Any

from cures.checks import BoolArray, IntArray, as_int
from cures.schedulers.refill import RefillScheduler
from cures.storage import StateValue


class Dapo(RefillScheduler):
    r"""Generation batches of G prompts until m mixed groups are there; the surplus is discarded.

    Expected cost of an update with success rates p, mean mixed share
    :math:`q = E[1 - p^n - (1-p)^n]` and generation batches of G prompts:
    :math:`n G\, E[\min\{k : \mathrm{Binomial}(kG, q) \ge m\}]` rollouts (k at most
    ``max_plans_per_update``).

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, min_quota, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; group size n = budget / batch_size.
    refill_size : int, optional
        G; default 3 x batch_size as published (1536 for 512), at most num_prompts.
    max_plans_per_update : int
        Plans (or as many streamed prompts) after which the update uses what is there; 10 as
        published.

    Notes
    -----
    Deviations from the published code: after ``max_plans_per_update`` plans it trains on the groups it
    has (the original raises an error and the run dies); a group of one, which the original keeps, is
    never mixed and is dropped.

    References
    ----------
    .. [1] Yu et al., "DAPO", arXiv 2503.14476; verl recipe ``dapo``.
    """

    name = "dapo"

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        refill_size: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(num_prompts, batch_size, budget, seed, **common)
        if refill_size is None:
            refill_size = min(3 * self.batch_size, self.num_prompts)
        self.refill_size = as_int(self.name, "refill_size", refill_size, 1, self.num_prompts)

    def _keep(self, success: IntArray, trial: IntArray) -> BoolArray:
        return (success > 0) & (success < trial)

    def _refill_size(self) -> int:
        return self.refill_size

    def _full_refill(self) -> int:
        return self.refill_size

    def _config(self) -> dict[str, StateValue]:
        return {**super()._config(), "refill_size": self.refill_size}
