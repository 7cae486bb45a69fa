"""From what an update and a pilot cost to a whole run: for so many updates, or so many rollouts."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from cures.checks import fail
from sim.planning.tally import Tally


@dataclass(frozen=True, slots=True)
class Cycle:
    """A pool in T disjoint subsets, visited in turn for M updates each, each after its pilots.

    Attributes
    ----------
    num_prompts, num_subsets : int
        N and T.
    steps_per_subset : float
        Updates per visit: M, or fewer where a method passes over batches.
    """

    num_prompts: int
    num_subsets: int
    steps_per_subset: float

    def prompts(self, visits: int) -> int:
        """Prompts of the first ``visits`` subsets, repeats counted; parts are equal up to one.

        Examples
        --------
        >>> cycle = Cycle(num_prompts=11, num_subsets=3, steps_per_subset=10)  # 4, 4 and 3 prompts
        >>> [cycle.prompts(visits) for visits in range(5)]
        [0, 4, 8, 11, 15]
        """
        rounds, rest = divmod(visits, self.num_subsets)
        size, larger = divmod(self.num_prompts, self.num_subsets)
        return rounds * self.num_prompts + rest * size + min(rest, larger)


@dataclass(frozen=True, slots=True)
class Rates:
    """What a scheduler costs.

    Attributes
    ----------
    update : Tally
        Mean of one update, pilots left out.
    pilot : Tally
        Mean per prompt of a subset that is visited; nothing for methods without pilots.
    cycle : Cycle, optional
        ``None`` for methods without subsets.
    """

    update: Tally
    pilot: Tally
    cycle: Cycle | None


@dataclass(frozen=True, slots=True)
class Run:
    """Counts of a run; pilots are generated in rounds of their own."""

    pilots: Tally
    updates: Tally

    @property
    def total(self) -> Tally:
        """Both."""
        return self.pilots + self.updates


def run_of_updates(rates: Rates, updates: int) -> Run:
    """A run that ends with its ``updates``-th update.

    Examples
    --------
    Section 6 of the paper: T = 15, N' = 4, M = 10, 8192 rollouts per update, here with 150 000 prompts.

    >>> cycle = Cycle(num_prompts=150_000, num_subsets=15, steps_per_subset=10)
    >>> rates = Rates(Tally(updates=1, generated=8192), Tally(generated=4), cycle)
    >>> run_of_updates(rates, 150).total.generated  # 4 x 150 000 + 150 x 8192
    1828800
    """
    if rates.cycle is None:
        return Run(Tally(), updates * rates.update)
    visits = math.ceil(updates / rates.cycle.steps_per_subset)
    return Run(rates.cycle.prompts(visits) * rates.pilot, updates * rates.update)


def run_of_rollouts(rates: Rates, rollouts: int) -> Run:
    """A run that stops at ``rollouts`` generated ones, in the middle of an update or of pilots.

    Parts of an update count as parts of one, so ``updates`` may have a fraction.

    Raises
    ------
    ValueError
        If an update generates nothing: the run would never end.
    """
    if rates.update.generated <= 0:
        legal = "positive (does any prompt of the population have a success rate above 0?)"
        fail("plan", "rollouts per update", legal, rates.update.generated)
    if rates.cycle is None:
        return Run(Tally(), rollouts / rates.update.generated * rates.update)
    cycle = rates.cycle

    def spent(visits: int) -> float:
        """Rollouts of so many whole visits."""
        updates = visits * cycle.steps_per_subset * rates.update.generated
        return cycle.prompts(visits) * rates.pilot.generated + updates

    visits = bisect_right(range(rollouts + 2), float(rollouts), key=spent) - 1
    left = rollouts - spent(visits)
    size = cycle.prompts(visits + 1) - cycle.prompts(visits)
    piloted = min(left / rates.pilot.generated, size) if rates.pilot.generated else 0
    begun = max(left - size * rates.pilot.generated, 0.0) / rates.update.generated
    return Run(
        (cycle.prompts(visits) + piloted) * rates.pilot,
        (visits * cycle.steps_per_subset + begun) * rates.update,
    )
