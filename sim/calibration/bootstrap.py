"""How much the best fit moves when prompts are drawn anew: sampling error alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cures.checks import FloatArray, as_int
from sim.calibration.mixture import Counts, fit
from sim.calibration.quantities import Quantity


def bootstrap_intervals(
    counts: Counts,
    rate_K: FloatArray,
    quantities: Sequence[Quantity],
    *,
    draws: int,
    seed: int,
    confidence: float = 0.95,
    on_progress: Callable[[], None] = lambda: None,
) -> FloatArray:
    """Percentile intervals over prompts drawn with replacement, each refitted.

    Blind to what the pilots cannot identify: every refit makes the same choice among the populations
    that fit equally well. Reported beside :func:`sim.calibration.compatible.compatible_intervals` to
    show how much of the uncertainty it misses.

    Parameters
    ----------
    counts : Counts
    rate_K : ndarray of float64, shape (K,)
    quantities : sequence of Quantity
    draws : int
        At least 2.
    seed : int
    confidence : float in (0, 1)
    on_progress : callable
        Called after every draw.

    Returns
    -------
    ndarray of float64, shape (len(quantities), 2)
    """
    as_int("bootstrap_intervals", "draws", draws, 2)
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    value = np.array([quantity.value_K for quantity in quantities])
    share = counts.prompts_C / counts.prompts
    results = []
    for _ in range(draws):
        drawn = generator.multinomial(counts.prompts, share)
        seen = drawn > 0
        again = Counts(counts.success_C[seen], counts.trial_C[seen], drawn[seen])
        results.append(value @ fit(again, rate_K).weight_K)
        on_progress()
    tail = (1.0 - confidence) / 2.0
    return np.quantile(np.array(results), (tail, 1.0 - tail), axis=0).T
