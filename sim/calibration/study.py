"""A calibration from evidence to a value: everything is computed before anything is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cures.storage import State
from sim.calibration.dynamics import Dynamics, fit_dynamics
from sim.calibration.evidence import Evidence, join, read_evidence
from sim.calibration.learning import Learning, Protocol, match_learning_rate
from sim.calibration.mixture import Mixture, fit, rate_grid
from sim.calibration.pilots import Progress, counts_of, describe, source_of, starting_evidence
from sim.calibration.settings import FEWEST_VISITED_TWICE, CalibrationSettings
from sim.calibration.smooth import smooth
from sim.calibration.visits import visits_of
from sim.population_file import EmpiricalLaw

SEGMENTS, UPDATES_PER_SEGMENT = 4, 5  # of a log that may differ in how fast everything improves


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The result of a calibration.

    Attributes
    ----------
    report : dict
        What ``calibration.json`` holds.
    arrays : dict
        What ``arrays.npz`` holds, and figures are drawn from.
    law : EmpiricalLaw
        What ``population.json`` holds.
    """

    report: dict[str, Any]
    arrays: State
    law: EmpiricalLaw


def calibrate(
    settings: CalibrationSettings, on_progress: Progress = lambda stage: None
) -> Calibration:
    """Estimate a population, and from a log how it moves.

    Raises
    ------
    ValueError
        If a file is malformed (:func:`sim.calibration.evidence.read_evidence`), has no pilots, or its
        counts fit no population.
    """
    evidence = read_evidence(Path(settings.pilots))
    start = starting_evidence(settings, evidence)
    log = (
        evidence if settings.log is None else _with_pilots(read_evidence(Path(settings.log)), start)
    )
    counts, source = counts_of(start), source_of(start, len(evidence))
    rate_K = rate_grid()
    best = fit(counts, rate_K)
    simulated = smooth(counts, best)
    static, arrays = describe(settings, counts, best, simulated, on_progress)
    law = _law(settings, simulated, source)

    report: dict[str, Any] = {"pilots": source, **static, "dynamics": None, "learning": None}
    training = log.only(~log.is_pilot_V)
    reason = _why_no_dynamics(log, training)
    if reason is not None:
        report["why_no_dynamics"] = reason
    else:
        dynamics = _dynamics(settings, log, on_progress)
        law = _moving(law, dynamics)
        learning = _learning(settings, law, training, log, dynamics, on_progress)
        law = replace(law, learning_rate=learning.learning_rate, transfer=learning.transfer)
        report |= {"dynamics": asdict(dynamics), "learning": asdict(learning)}
        arrays |= _progress_arrays(training, dynamics)
        del report["dynamics"]["shared_U"]  # in the arrays
    report["population"] = {
        key: getattr(law, key) for key in ("drift_sd", "transfer", "policy", "learning_rate")
    }
    return Calibration(report, arrays, law)


def _with_pilots(log: Evidence, start: Evidence) -> Evidence:
    """A training log of the same prompts, with what is known of them before it began."""
    has_own = bool((log.is_pilot_V & (log.step_V == 0)).any())
    return log if has_own or start.step_V[0] != 0 else join(start.as_pilots(), log)


def _law(settings: CalibrationSettings, simulated: Mixture, source: dict[str, Any]) -> EmpiricalLaw:
    keep = simulated.weight_K > 1e-9
    weight = simulated.weight_K[keep]
    return EmpiricalLaw(
        name=settings.name,
        success_rate_K=simulated.rate_K[keep],
        weight_K=weight / weight.sum(),
        policy=settings.policy,
        source={"pilots": Path(settings.pilots).name, **source, "made_by": "sim calibrate"},
    )


def _why_no_dynamics(log: Evidence, training: Evidence) -> str | None:
    """What a log lacks to say how success rates move; ``None`` if nothing."""
    if not len(training):
        return "no training in the log"
    is_mixed_V = (training.success_V > 0) & (training.success_V < training.trial_V)
    if not (is_mixed_V & (training.step_V < log.step_V.max())).any():
        return "no group with both rewards before the last step: nothing was learned from"
    prompt_step = np.unique(np.stack([log.prompt_V, log.step_V]), axis=1)
    visits = np.unique(prompt_step[0], return_counts=True)[1]
    if (visits > 1).sum() < FEWEST_VISITED_TWICE:
        return f"fewer than {FEWEST_VISITED_TWICE} prompts were visited twice"
    return None


def _dynamics(settings: CalibrationSettings, log: Evidence, on_progress: Progress) -> Dynamics:
    visits = visits_of(
        log,
        segments=min(SEGMENTS, max(1, int(log.step_V.max()) // UPDATES_PER_SEGMENT)),
        most_prompts=settings.most_prompts,
        seed=settings.seed,
    )
    return fit_dynamics(
        visits,
        confidence=settings.confidence,
        on_progress=lambda: on_progress("drift and transfer"),
    )


def _moving(law: EmpiricalLaw, dynamics: Dynamics) -> EmpiricalLaw:
    """Drift only where the log shows any; transfer where the policy can have any that is asked."""
    drift, transfer = dynamics.drift_sd, dynamics.transfer
    told = None
    if transfer is not None and law.policy == "item_response":
        told = float(np.clip(transfer.value, 0.0, 1.0))
    return replace(law, drift_sd=drift.value if drift.low > 0.0 else 0.0, transfer=told)


def _learning(
    settings: CalibrationSettings,
    law: EmpiricalLaw,
    training: Evidence,
    log: Evidence,
    dynamics: Dynamics,
    on_progress: Progress,
) -> Learning:
    prompts = int(np.unique(log.prompt_V).size)
    rate = training.success_V / training.trial_V
    own = dynamics.own.value * float(np.sqrt(rate * (1.0 - rate)).sum()) / prompts
    groups = np.bincount(training.step_V)
    protocol = Protocol(
        updates=int(log.step_V.max()),
        batch_size=int(np.median(groups[groups > 0])),
        group_size=max(2, int(np.median(training.trial_V))),
        pool=settings.pool or prompts,
        logit_gain=dynamics.shared_U[-1] + own,
        seed=settings.seed,
    )
    return match_learning_rate(law, protocol, lambda: on_progress("learning rate"))


def _progress_arrays(training: Evidence, dynamics: Dynamics) -> State:
    trials = np.bincount(training.step_V, training.trial_V)
    successes = np.bincount(training.step_V, training.success_V)
    step = np.flatnonzero(trials)
    return {
        "training_step": step,
        "training_trials": trials[step],
        "training_success": successes[step] / trials[step],
        "shared_U": np.array(dynamics.shared_U),
    }
