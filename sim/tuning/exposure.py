"""Which success rates the recommended settings meet: the population that the trainer compares with.

The run is cut into phases, short ones first, since an early warning is worth most. In each phase and
stratum (:func:`cures.population_shift.stratum_of`), the true success rates of the prompts that were
rolled out, as shares of bins. Atoms at 0 and 1 stand alone, because prompts that teach nothing are what
most schedulers are about.

Runs on one population differ, more so where a scheduler visits few prompts often: their groups are not
independent, and no test that counts groups would know. So every run is held against the others, and a
phase's ``limit`` is where one further run of the same kind would land with chance 0.001: the upper end
of Student's prediction interval of the excess, but at least :data:`LEAST_LIMIT`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import t

from cures import loop
from cures.checks import FloatArray
from cures.population_shift import population_shift, stratum_of
from cures.records import Outcome, Plan, outcome_rows
from cures.storage import read_json, write_json
from sim.settings import Settings
from sim.task import ArmTask, build
from sim.tuning.setting import Setting

PHASE_END = (0.05, 0.15, 0.35, 0.65, 1.0)  # as shares of the rollouts
FALSE_ALARM = 0.001  # per phase
LEAST_LIMIT = 0.05  # nats per group: less is too small to matter
LEAST_SHARE = 0.01  # of a phase's groups: rarer strata say little and are left out
STREAM = 4  # of the root seed; 0 to 3 are runs, analysis and search
DRAWS = 199  # simulated data sets behind the mean of an excess
# Inner edges; narrow at the ends, where a binomial's shape changes fastest.
EDGES = np.array([0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94,
                  0.97, 0.99])  # fmt: skip
BINS = EDGES.size + 3  # an atom at 0, the bins between, an atom at 1

Stratum = tuple[int, bool, int]  # phase, is it fresh, octave of the rollouts


@dataclass(slots=True)
class RunExposure:
    """What one run met; extra axis suffix ``_K``: bins.

    Attributes
    ----------
    totals : dict of Stratum to ndarray, shape (2, K)
        Groups, and their summed true success rates.
    groups : list of (Stratum, success, trial)
    """

    totals: dict[Stratum, FloatArray] = field(default_factory=dict)
    groups: list[tuple[Stratum, int, int]] = field(default_factory=list)

    def add(self, stratum: Stratum, row: dict[str, Any], rate: float) -> None:
        """Book one group."""
        slot = int(np.searchsorted(EDGES, rate, side="right")) + 1
        slot = 0 if rate == 0.0 else BINS - 1 if rate == 1.0 else slot
        self.totals.setdefault(stratum, np.zeros((2, BINS)))[:, slot] += (1.0, rate)
        self.groups.append((stratum, row["success"], row["trial"]))


def exposure(
    protocol: Settings, setting: Setting, indices: range, *, jobs: int | None = 1
) -> dict[str, Any]:
    """Run the setting on these development seeds, at least two, and look.

    Returns
    -------
    dict
        ``phase_end`` and ``limit`` (nats per group) of every phase; ``success_rate``, the support: mean
        success rate of every bin that was met, ascending; ``met``, a list with a dict per stratum:
        ``phase``, ``is_fresh``, ``octave``, ``groups`` (of all seeds together), ``weight`` (share of
        groups per support point). Phases in which fewer than two runs had groups are left out.
    """
    calls = [
        delayed(run_exposure)(setting.under(protocol), setting.scheduler, index)
        for index in indices
    ]
    runs = list(Parallel(n_jobs=jobs)(calls))
    limit_F, found = _limits(runs, protocol.root_seed), _met(runs)
    return {
        "phase_end": list(PHASE_END),
        "limit": [LEAST_LIMIT if limit is None else limit for limit in limit_F],
        "success_rate": found["success_rate"],
        "met": [m for m in found["met"] if limit_F[m["phase"]] is not None],
    }


def kept_exposure(
    path: Path, protocol: Settings, setting: Setting, indices: range, *, jobs: int | None
) -> dict[str, Any]:
    """As :func:`exposure`, kept at ``path`` for a second start of the same command."""
    if path.exists():
        kept = read_json(path)
        if kept["setting"] == setting.as_json():
            return dict(kept["exposure"])
    found = exposure(protocol, setting, indices, jobs=jobs)
    write_json(path, {"setting": setting.as_json(), "exposure": found})
    return found


def run_exposure(settings: Settings, arm: str, index: int) -> RunExposure:
    """One run, group by group."""
    scheduler, host = build(settings, ArmTask(arm, index, True))
    found, visited, answered = RunExposure(), set[int](), 0
    ends = [round(end * settings.rollouts) for end in PHASE_END[:-1]]

    def look(plan: Plan, outcome: Outcome) -> None:
        nonlocal answered
        rate_N = host.true_success_rate()  # no update since the rollouts
        for row in outcome_rows(plan, outcome, 0):
            phase = int(np.searchsorted(ends, answered, side="right"))
            found.add((phase, *stratum_of(row, visited)), row, float(rate_N[row["prompt"]]))
            answered += row["trial"]

    for _ in loop.run(scheduler, host, rollouts=settings.rollouts, on_outcome=look):
        pass
    return found


def _met(runs: Iterable[RunExposure]) -> dict[str, Any]:
    """Support and strata of these runs together."""
    totals: dict[Stratum, FloatArray] = defaultdict(lambda: np.zeros((2, BINS)))
    phase_groups: dict[int, float] = defaultdict(float)
    for run in runs:
        for stratum, counts in run.totals.items():
            totals[stratum] += counts
            phase_groups[stratum[0]] += counts[0].sum()
    group_K, rate_K = np.sum(list(totals.values()), axis=0)
    was_met_K = group_K > 0
    met = []
    for (phase, is_fresh, octave), (count_K, _) in sorted(totals.items()):
        groups = count_K.sum()
        if groups >= LEAST_SHARE * phase_groups[phase]:
            weight = [round(share, 8) for share in (count_K[was_met_K] / groups).tolist()]
            met.append({
                "phase": phase, "is_fresh": is_fresh, "octave": octave, "groups": int(groups),
                "weight": weight,
            })  # fmt: skip
    support_K = rate_K[was_met_K] / group_K[was_met_K]
    return {"success_rate": [round(p, 5) for p in support_K.tolist()], "met": met}


def _limits(runs: list[RunExposure], seed: int) -> list[float | None]:
    """Per phase, where a further run lands with chance :data:`FALSE_ALARM`; ``None``: unknown."""
    excess_S_F = np.array([
        _excesses(run, [other for other in runs if other is not run], seed) for run in runs
    ])  # fmt: skip
    limits: list[float | None] = []
    for column in excess_S_F.T:
        known = column[~np.isnan(column)]
        if known.size < 2:
            limits.append(None)
            continue
        reach = t.ppf(1.0 - FALSE_ALARM, known.size - 1) * np.sqrt(1.0 + 1.0 / known.size)
        limits.append(float(max(known.mean() + reach * known.std(ddof=1), LEAST_LIMIT)))
    return limits


def _excesses(run: RunExposure, others: list[RunExposure], seed: int) -> list[float]:
    """Excess of a run over the others, per phase; NaN without groups that they met, too."""
    known = _met(others)
    row = {(m["phase"], m["is_fresh"], m["octave"]): q for q, m in enumerate(known["met"])}
    excesses = []
    for phase in range(len(PHASE_END)):
        groups = [
            (success, trial, row[stratum])
            for stratum, success, trial in run.groups
            if stratum[0] == phase and stratum in row
        ]
        if not groups:
            excesses.append(np.nan)
            continue
        success_B, trial_B, stratum_B = np.array(groups, dtype=np.int64).T
        shift = population_shift(
            success_B,
            trial_B,
            stratum_B,
            known["success_rate"],
            [m["weight"] for m in known["met"]],
            generator=np.random.default_rng(
                np.random.SeedSequence(seed, spawn_key=(STREAM, phase))
            ),
            draws=DRAWS,
        )
        excesses.append(shift.excess)
    return excesses
