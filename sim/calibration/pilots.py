"""Pilots to a population: which lines count, what fits them, and how sure one can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cures.checks import InWords, fail
from cures.storage import State
from sim.calibration.bootstrap import bootstrap_intervals
from sim.calibration.compatible import compatible_intervals, confidence_region
from sim.calibration.evidence import WHERE, Evidence
from sim.calibration.mixture import Counts, Mixture
from sim.calibration.quantities import quantities_of, share_below
from sim.calibration.settings import CalibrationSettings

CURVE_POINTS = 41  # where the band of the distribution function is computed
Progress = Callable[[str], None]  # told the stage, at every unit of work


def starting_evidence(settings: CalibrationSettings, evidence: Evidence) -> Evidence:
    """The lines that the population is estimated from.

    Raises
    ------
    ValueError
        If there are none.
    """
    if settings.at_step is not None:
        start = evidence.only(evidence.step_V == settings.at_step)
        if not len(start):
            steps = [int(evidence.step_V.min()), int(evidence.step_V.max())]
            fail(WHERE, "at_step", f"a step of {settings.pilots} (from {steps})", settings.at_step)
        return start
    pilots = evidence.only(evidence.is_pilot_V)
    if not len(pilots):
        fail(
            WHERE,
            settings.pilots,
            "a file with pilots (is_pilot true), or --at-step S given, which takes every group that "
            "the policy of step S answered",
            InWords(f"{len(evidence)} lines of training"),
        )
    return pilots.only(pilots.step_V == pilots.step_V.min())


def counts_of(start: Evidence) -> Counts:
    """Lines of one prompt are added up."""
    _, group = np.unique(start.prompt_V, return_inverse=True)
    success, trial = (
        np.bincount(group, column).astype(np.int64) for column in (start.success_V, start.trial_V)
    )
    return Counts.of(success, trial)


def source_of(start: Evidence, lines: int) -> dict[str, Any]:
    counts = counts_of(start)
    trial, which = np.unique(counts.trial_C, return_inverse=True)
    prompts = np.bincount(which, counts.prompts_C).astype(int)
    return {
        "step": int(start.step_V[0]),
        "prompts": counts.prompts,
        "rollouts": int(start.trial_V.sum()),
        "prompts_by_rollouts": {str(t): int(n) for t, n in zip(trial, prompts, strict=True)},
        "lines_used": len(start),
        "lines_of_other_steps_or_training": lines - len(start),
    }


def describe(
    settings: CalibrationSettings,
    counts: Counts,
    best: Mixture,
    simulated: Mixture,
    on_progress: Progress,
) -> tuple[dict[str, Any], State]:
    """Quantities with both kinds of intervals, the band of the distribution function, the fit."""
    rate_K = best.rate_K
    quantities = quantities_of(rate_K, settings.group_size)
    region = confidence_region(counts, rate_K, settings.confidence)
    point_E = rate_K[np.linspace(0, rate_K.size - 1, CURVE_POINTS).round().astype(int)]
    curve = [share_below(rate_K, float(p)) for p in point_E]
    bounds = compatible_intervals(
        region, [*quantities, *curve], lambda: on_progress("populations that fit")
    )
    resampled = bootstrap_intervals(
        counts,
        rate_K,
        quantities,
        draws=settings.bootstrap,
        seed=settings.seed,
        confidence=settings.confidence,
        on_progress=lambda: on_progress("bootstrap"),
    )
    table = {
        q.name: {
            "meaning": q.text,
            "best_fit": q.of(best.weight_K),
            "simulated": q.of(simulated.weight_K),
            "compatible": bounds[i].tolist(),
            "bootstrap": resampled[i].tolist(),
        }
        for i, q in enumerate(quantities)
    }
    fitted = {"best": best, "simulated": simulated}
    inside = {
        key: bool(
            np.all(region.event_E_K @ m.weight_K >= region.low_E - 1e-9)
            and np.all(region.event_E_K @ m.weight_K <= region.high_E + 1e-9)
        )
        for key, m in fitted.items()
    }
    report = {
        "confidence": settings.confidence,
        "group_size": settings.group_size,
        "quantities": table,
        "fit": {
            "log_likelihood": best.log_likelihood,
            "certified_gap": best.gap,
            "point_masses": int((best.weight_K > 1e-6).sum()),
            "simulated_deficit": best.log_likelihood - simulated.log_likelihood,
            "counts_within_simultaneous_limits": inside,
        },
    }
    arrays: State = {
        "rate_K": rate_K,
        "best_K": best.weight_K,
        "simulated_K": simulated.weight_K,
        "point_E": point_E,
        "at_most_low_E": bounds[len(quantities) :, 0],
        "at_most_high_E": bounds[len(quantities) :, 1],
        "success_C": counts.success_C,
        "trial_C": counts.trial_C,
        "prompts_C": counts.prompts_C,
        "fitted_best_C": counts.likelihood(rate_K) @ best.weight_K,
        "fitted_simulated_C": counts.likelihood(rate_K) @ simulated.weight_K,
    }
    return report, arrays
