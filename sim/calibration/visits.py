"""A training log, prompt by prompt: when each was visited, and what happened in between.

Additional axis suffixes: ``_P`` prompts, those with the most visits first; ``_U`` policy updates; ``_W``
segments of a log.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray
from sim.calibration.evidence import Evidence


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """The r-th visit of every prompt that has one: the first ``size`` prompts.

    Attributes
    ----------
    success, trial : ndarray of int64, shape (size,)
        What was seen.
    updates : ndarray of float64, shape (size,)
        Policy updates since the visit before, or since step 0.
    own : ndarray of float64, shape (size,)
        Dose of the visit before, 0 for a first visit.
    shared : ndarray of float64, shape (size, segments)
        Dose of all prompts in these updates, by segment of the log.
    """

    success: IntArray
    trial: IntArray
    updates: FloatArray
    own: FloatArray
    shared: FloatArray

    def first(self, start: int, stop: int) -> Round:
        """The prompts ``start`` ... ``stop - 1``, as far as they have this visit."""
        cut = slice(start, stop)
        return Round(
            self.success[cut], self.trial[cut], self.updates[cut], self.own[cut], self.shared[cut]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """A log in rounds.

    Attributes
    ----------
    rounds : tuple of Round
    dose_U : ndarray of float64, shape (U,)
        Dose of every update, all prompts together.
    segment_U : ndarray of int64, shape (U,)
        Segment of every update.
    prompts : int
        Different prompts in the whole log, also where only some are in ``rounds``.
    """

    rounds: tuple[Round, ...]
    dose_U: FloatArray
    segment_U: IntArray
    prompts: int

    @property
    def dose_W(self) -> FloatArray:
        """Dose of every segment."""
        return np.asarray(np.bincount(self.segment_U, self.dose_U), dtype=np.float64)

    @property
    def visited_twice(self) -> int:
        """Prompts in ``rounds`` with two visits or more."""
        return len(self.rounds[1].trial) if len(self.rounds) > 1 else 0


def visits_of(evidence: Evidence, *, segments: int, most_prompts: int, seed: int) -> Visits:
    r"""Arrange a log.

    Parameters
    ----------
    evidence : Evidence
        Pilots and training; lines of one prompt at one step are one visit.
    segments : int
        Most parts of the log, of about equal dose, that may differ in how fast everything improves.
    most_prompts : int
        If there are more, as many are drawn at random.
    seed : int
        Of that draw.

    Notes
    -----
    The *dose* of a group is the standard deviation :math:`\sqrt{\hat p (1 - \hat p)}` of its rewards:
    what GRPO's advantages add up to on it, times the score of a right answer; 0 for a group with one
    reward only, and for pilots, which are not trained on. Which groups a scheduler dropped is not in
    the log; those it drops for want of a spread have dose 0 anyway.
    """
    rate_V = evidence.success_V / evidence.trial_V
    dose_V = np.where(evidence.is_pilot_V, 0.0, np.sqrt(rate_V * (1.0 - rate_V)))
    updates = int(evidence.step_V.max())
    dose_U = np.asarray(
        np.bincount(evidence.step_V, dose_V, minlength=updates + 1)[:updates], dtype=np.float64
    )
    segment_U = _segments(dose_U, segments)
    segments = int(segment_U.max(initial=0)) + 1
    # dose before each step, by segment: differences give the dose of any interval
    dose_until = np.zeros((updates + 1, segments))
    np.cumsum(dose_U[:, None] * (segment_U[:, None] == np.arange(segments)), 0, out=dose_until[1:])

    chosen = _chosen(evidence.prompt_V, most_prompts, seed)
    key = np.stack([evidence.prompt_V, evidence.step_V])[:, chosen]
    (prompt, step), group = np.unique(key, axis=1, return_inverse=True)
    success, trial = (
        np.bincount(group, column[chosen]).astype(np.int64)
        for column in (evidence.success_V, evidence.trial_V)
    )
    dose = np.bincount(group, dose_V[chosen])
    is_first = np.append(True, prompt[1:] != prompt[:-1])
    before = np.where(is_first, 0, np.append(0, step[:-1]))
    own = np.where(is_first, 0.0, np.append(0.0, dose[:-1]))
    shared = dose_until[step] - dose_until[before]
    start = np.flatnonzero(is_first)
    number = np.diff(np.append(start, prompt.size))
    start = start[np.argsort(-number, kind="stable")]
    number = np.sort(number)[::-1]
    rounds = []
    for r in range(int(number[0])):
        row = start[number > r] + r
        updates_since = (step - before)[row].astype(np.float64)
        rounds.append(Round(success[row], trial[row], updates_since, own[row], shared[row]))
    everyone = int(np.unique(evidence.prompt_V).size)
    return Visits(tuple(rounds), dose_U, segment_U, everyone)


def _segments(dose_U: FloatArray, most: int) -> IntArray:
    """Parts of about equal dose, numbered without gaps."""
    until_U = np.cumsum(dose_U)
    total = until_U[-1] if until_U.size else 0.0
    part_U = np.zeros(dose_U.size, dtype=np.int64)
    if total > 0.0:
        part_U = np.minimum((most * (until_U - dose_U / 2.0) / total).astype(np.int64), most - 1)
    return np.unique(part_U, return_inverse=True)[1].astype(np.int64)


def _chosen(prompt_V: IntArray, most: int, seed: int) -> BoolArray:
    """Marks the lines of at most ``most`` prompts."""
    prompts = np.unique(prompt_V)
    if prompts.size <= most:
        return np.ones(prompt_V.size, dtype=bool)
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    return np.isin(prompt_V, generator.choice(prompts, most, replace=False))
