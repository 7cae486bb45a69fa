"""Does a run still see the population that its settings were tuned on? A look at the end of each phase.

The groups of a phase are held against the success rates that the tuned settings met in the same phase
of the simulated runs, stratum by stratum (:mod:`cures.population_shift`). *Left* means both:

- the excess (nats per group) is at least the phase's ``limit``, which ``python -m sim tune`` found by
  holding runs on the tuned population against each other: of further runs on it, a few of a hundred
  land there in some phase (:mod:`sim.tuning.exposure`);
- p <= :data:`SURE`, so that a short run with few groups is not judged by its noise.

A warning changes nothing but the screen and ``summary.json``. A resumed run reads what it saw before
from ``outcomes.jsonl``.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cures.population_shift import PopulationShift, population_shift, stratum_of
from train.seeds import Stream, numpy_generator
from train.tuned import TunedPopulation

SURE = 0.001
LEAST_GROUPS = 50  # fewer leave a phase without a look


@dataclass(frozen=True, slots=True)
class Look:
    """One phase of a run held against the tuned population.

    Attributes
    ----------
    phase, start, stop : int
        Number, and rollouts at its ends.
    success_rate, tuned_success_rate : float
        Share of right answers, and what the tuned population would give the same groups.
    limit : float
        Of the excess.
    unmatched : int
        Groups of strata that the tuned settings never met there; not in the test.
    shift : PopulationShift
    """

    phase: int
    start: int
    stop: int
    success_rate: float
    tuned_success_rate: float
    limit: float
    unmatched: int
    shift: PopulationShift

    @property
    def has_left(self) -> bool:
        """Whether the outcomes have left the tuned population."""
        return self.shift.p_value <= SURE and self.shift.excess >= self.limit

    def as_json(self) -> dict[str, Any]:
        """An entry of ``summary.json``."""
        return {**asdict(self), "has_left": self.has_left}

    def warning(self, name: str) -> str:
        """What a person should know."""
        return (
            f"warning: between {self.start} and {self.stop} rollouts the outcomes have left the "
            f"population {name!r} that these settings were tuned on: {self.shift.excess:.3f} nats per "
            f"group more than expected, limit {self.limit:.3f} ({self.shift.groups} groups); "
            f"success rate {self.success_rate:.3f}, tuned for {self.tuned_success_rate:.3f}. "
            "python -m sim calibrate makes a population from this run's outcomes.jsonl"
        )


class PopulationWatch:
    """Collects outcomes phase by phase; a look at the end of each.

    Parameters
    ----------
    tuned : TunedPopulation
    rollouts : int
        Of this run.
    seed : int
        Of the run: the simulated data sets behind p-values follow from it.
    """

    def __init__(self, tuned: TunedPopulation, *, rollouts: int, seed: int) -> None:
        self.tuned = tuned
        self.seed = seed
        self._stop = [round(end * rollouts) for end in tuned.phase_end]
        self._visited: set[int] = set()
        self._answered = 0
        self._phase = 0
        self._group: list[tuple[int, int, int]] = []  # success, trial, row of the weights
        self._unmatched = 0
        self.looks: list[Look] = []

    def add(self, rows: Iterable[Mapping[str, Any]]) -> list[Look]:
        """Take lines of ``outcomes.jsonl``; return the looks that they completed."""
        before = len(self.looks)
        for row in rows:
            last = len(self._stop) - 1
            phase = min(bisect.bisect_right(self._stop, self._answered), last)
            if phase != self._phase:
                self._close(phase)
            stratum = self.tuned.row.get((phase, *stratum_of(row, self._visited)))
            if stratum is None:
                self._unmatched += 1
            else:
                self._group.append((row["success"], row["trial"], stratum))
            self._answered += row["trial"]
        return self.looks[before:]

    def finish(self) -> list[Look]:
        """Look at the last phase, which the run has ended."""
        before = len(self.looks)
        self._close(len(self._stop))
        return self.looks[before:]

    def _close(self, next_phase: int) -> None:
        if len(self._group) >= LEAST_GROUPS:
            self.looks.append(self._look())
        self._phase, self._group, self._unmatched = next_phase, [], 0

    def _look(self) -> Look:
        success_B, trial_B, stratum_B = np.array(self._group, dtype=np.int64).T
        tuned = self.tuned
        shift = population_shift(
            success_B,
            trial_B,
            stratum_B,
            tuned.support_K,
            tuned.weight_Q_K,
            generator=numpy_generator(self.seed, Stream.TUNED_POPULATION, self._phase),
        )
        mean_Q = tuned.weight_Q_K @ tuned.support_K
        return Look(
            phase=self._phase,
            start=self._stop[self._phase - 1] if self._phase else 0,
            stop=self._stop[self._phase],
            success_rate=float(success_B.sum() / trial_B.sum()),
            tuned_success_rate=float((mean_Q[stratum_B] * trial_B).sum() / trial_B.sum()),
            limit=tuned.limit[self._phase],
            unmatched=self._unmatched,
            shift=shift,
        )
