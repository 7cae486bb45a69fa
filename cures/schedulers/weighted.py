"""Draws by a distribution, quotas by sigma: the step that ``cures`` and ``oracle`` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cures.checks import FloatArray, IntArray
from cures.quota import allocate
from cures.sampling import draw_with_replacement
from cures.schedulers.driver.draft import Draft

SigmaOf = Callable[[IntArray], tuple[FloatArray, int]]


@dataclass(frozen=True, slots=True)
class WeightedDraw:
    """Members to draw from, and how.

    Attributes
    ----------
    members : ndarray of int64, shape (S,)
        Prompt ids.
    prob_S : ndarray of float64, shape (S,)
        Chance per draw.
    sigma_of : callable
        Slots (positions in ``members``) -> their sigma, and how many variances were negative.
    """

    members: IntArray
    prob_S: FloatArray
    sigma_of: SigmaOf

    def batch(
        self,
        generator: np.random.Generator,
        size: int,
        budget: int,
        *,
        min_quota: int,
        max_quota: int | None,
    ) -> Draft:
        """``size`` draws with replacement that share ``budget`` by Eq. 20.

        A prompt drawn k times is one group with k times the sigma. If all sigmas are 0 the draw is
        repeated uniformly with equal quotas, and counted.
        """
        prob_S = self.prob_S
        slot_B, draw_B = draw_with_replacement(prob_S, size, generator)
        sigma_B, negative = self.sigma_of(slot_B)
        counts = {"negative_variance": negative} if negative else {}
        if not sigma_B.any():
            prob_S = np.full(self.members.size, 1.0 / self.members.size)
            slot_B, draw_B = draw_with_replacement(prob_S, size, generator)
            sigma_B = np.ones(slot_B.size)
            counts["fallback_uniform"] = 1
        highest = None if max_quota is None else draw_B * max_quota
        quota_B = allocate(draw_B * sigma_B, budget, min_quota=min_quota, max_quota=highest)
        return Draft.of(
            self.members[slot_B], quota_B, draw_B=draw_B, prob_B=prob_S[slot_B], counts=counts
        )

    def one(self, generator: np.random.Generator) -> Draft:
        """One draw; the driver makes its quota from sigma."""
        slot_B, _ = draw_with_replacement(self.prob_S, 1, generator)
        sigma_B, negative = self.sigma_of(slot_B)
        return Draft.of(
            self.members[slot_B],
            np.ones(1, dtype=np.int64),
            prob_B=self.prob_S[slot_B],
            sigma=float(sigma_B[0]),
            counts={"negative_variance": negative} if negative else {},
        )
