"""Draws by a distribution, quotas by sigma: the step that ``cures`` and ``oracle`` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray
from cures.quota import allocate
from cures.sampling import draw_with_replacement
from cures.schedulers.driver.draft import Draft

SigmaOf = Callable[[IntArray], tuple[FloatArray, int]]


class Law(Protocol):
    """A distribution over the members of a subset."""

    def draw(
        self, generator: np.random.Generator, size: int
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """``size`` independent draws: distinct slots, ascending; how often each; chance per draw."""


@dataclass(frozen=True, slots=True)
class DenseLaw:
    """One probability per member, shape (S,)."""

    prob_S: FloatArray

    def draw(
        self, generator: np.random.Generator, size: int
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """See :class:`Law`; O(S)."""
        slot_B, draw_B = draw_with_replacement(self.prob_S, size, generator)
        return slot_B, draw_B, self.prob_S[slot_B]


@dataclass(frozen=True, slots=True)
class EqualLaw:
    """Every one of ``size`` members alike, but for those marked in ``is_out_S``.

    O(draws) while nobody is out.
    """

    size: int
    is_out_S: BoolArray | None = None

    def draw(
        self, generator: np.random.Generator, size: int
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """See :class:`Law`."""
        if self.is_out_S is None:
            slot, members = generator.integers(0, self.size, size), self.size
        else:
            is_in = np.flatnonzero(~self.is_out_S)
            slot, members = is_in[generator.integers(0, is_in.size, size)], is_in.size
        slot_B, draw_B = np.unique(slot, return_counts=True)
        return slot_B, draw_B.astype(np.int64), np.full(slot_B.size, 1.0 / members)


def dense_equal_law(size: int, is_out_S: BoolArray | None = None) -> DenseLaw:
    """The same law as :class:`EqualLaw` with the random numbers of :class:`DenseLaw`."""
    if is_out_S is None:
        return DenseLaw(np.full(size, 1.0 / size))
    return DenseLaw(~is_out_S / np.count_nonzero(~is_out_S))


@dataclass(frozen=True, slots=True)
class WeightedDraw:
    """Members to draw from, and how.

    Attributes
    ----------
    prompt_at : callable
        Slots (positions in the subset) -> prompt ids.
    law : Law
        Of a draw.
    equal_law : callable
        The law to fall back on: every member alike.
    sigma_of : callable
        Slots -> their sigma, and how many variances were negative.
    """

    prompt_at: Callable[[IntArray], IntArray]
    law: Law
    equal_law: Callable[[], Law]
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
        slot_B, draw_B, prob_B = self.law.draw(generator, size)
        sigma_B, negative = self.sigma_of(slot_B)
        counts = {"negative_variance": negative} if negative else {}
        if not sigma_B.any():
            slot_B, draw_B, prob_B = self.equal_law().draw(generator, size)
            sigma_B = np.ones(slot_B.size)
            counts["fallback_uniform"] = 1
        # in floats, which do not wrap, and whose roundings are of counts beyond any budget
        highest = None
        if max_quota is not None:
            highest = np.minimum(draw_B * float(max_quota), budget).astype(np.int64)
        quota_B = allocate(draw_B * sigma_B, budget, min_quota=min_quota, max_quota=highest)
        return Draft.of(
            self.prompt_at(slot_B), quota_B, draw_B=draw_B, prob_B=prob_B, counts=counts
        )

    def one(self, generator: np.random.Generator) -> Draft:
        """One draw; the driver makes its quota from sigma."""
        slot_B, _, prob_B = self.law.draw(generator, 1)
        sigma_B, negative = self.sigma_of(slot_B)
        return Draft.of(
            self.prompt_at(slot_B),
            np.ones(1, dtype=np.int64),
            prob_B=prob_B,
            sigma=float(sigma_B[0]),
            counts={"negative_variance": negative} if negative else {},
        )
