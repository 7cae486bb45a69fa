"""Which success rates the recommended settings meet: the population that the trainer compares with.

The run is cut into phases, short ones first, since an early warning is worth most. In each phase and
stratum (:func:`cures.population_shift.stratum_of`), the true success rates of the prompts that were
rolled out, as shares of bins. Atoms at 0 and 1 stand alone, because prompts that teach nothing are what
most schedulers are about.

Runs on one population differ, more so where a scheduler visits few prompts often: their groups are not
independent, and no test that counts groups would know. So every run is held against the others, and a
phase's ``limit`` is the upper end of Student's prediction interval of the excess of one further run, at
0.001, but at least :data:`LEAST_LIMIT`. Excesses are skewed to the right, so it is passed more often
than that: expect a false alarm in a few runs of a hundred. Limits on the scale of square roots
keep 0.001, but they missed other populations in short runs.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from cures import loop
from cures.checks import FloatArray
from cures.population_shift import population_shift, stratum_of
from cures.records import Outcome, Plan, outcome_rows
from cures.storage import State, load_state, save_state
from sim.settings import Settings
from sim.task import ArmTask, build
from sim.tuning.runs import leave_with_caller, parallel
from sim.tuning.setting import Setting

PHASE_END = (0.05, 0.15, 0.35, 0.65, 1.0)  # as shares of the rollouts
FALSE_ALARM = 0.001  # per phase, if excesses were normal
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

    def state_dict(self) -> State:
        """Flat arrays; :meth:`from_state` is the inverse."""
        groups = [(*stratum, success, trial) for stratum, success, trial in self.groups]
        return {
            "stratum_Q_3": np.array(list(self.totals), dtype=np.int64).reshape(-1, 3),
            "total_Q_2_K": np.array(list(self.totals.values())).reshape(-1, 2, BINS),
            "group_B_5": np.array(groups, dtype=np.int64).reshape(-1, 5),
        }

    @classmethod
    def from_state(cls, state: State) -> RunExposure:
        """What :meth:`state_dict` wrote."""
        strata = [(p, bool(f), o) for p, f, o in np.asarray(state["stratum_Q_3"]).tolist()]
        groups = [
            ((phase, bool(is_fresh), octave), success, trial)
            for phase, is_fresh, octave, success, trial in np.asarray(state["group_B_5"]).tolist()
        ]
        return cls(dict(zip(strata, np.array(state["total_Q_2_K"]), strict=True)), groups)

    def add(self, stratum: Stratum, row: dict[str, Any], rate: float) -> None:
        """Book one group."""
        slot = int(np.searchsorted(EDGES, rate, side="right")) + 1
        slot = 0 if rate == 0.0 else BINS - 1 if rate == 1.0 else slot
        self.totals.setdefault(stratum, np.zeros((2, BINS)))[:, slot] += (1.0, rate)
        self.groups.append((stratum, row["success"], row["trial"]))


def exposure(
    protocol: Settings,
    setting: Setting,
    indices: range,
    folder: Path,
    *,
    jobs: int | None = 1,
    on_run: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run the setting on these development seeds, at least two, and look.

    Parameters
    ----------
    protocol : Settings
    setting : Setting
    indices : range
    folder : Path
        A study's; what a run met is kept beside the setting's other runs, and not run again.
    jobs : int, optional
        As in :func:`sim.tuning.tune.tune`.
    on_run : callable
        Told after every run.

    Returns
    -------
    dict
        ``phase_end`` and ``limit`` (nats per group) of every phase; ``success_rate``, the support: mean
        success rate of every bin that was met, ascending; ``met``, a list with a dict per stratum:
        ``phase``, ``is_fresh``, ``octave``, ``groups`` (of all seeds together), ``weight`` (share of
        groups per support point). Phases in which fewer than two runs had groups are left out.
    """
    place = folder / "runs" / setting.key / "exposure"
    place.mkdir(parents=True, exist_ok=True)
    calls = [
        (setting.under(protocol), setting.scheduler, index, place / f"{index}.npz", os.getpid())
        for index in indices
    ]
    runs = []
    for run in parallel(kept_run, calls, jobs):
        runs.append(run)
        on_run()
    limit_F, found = _limits(runs, protocol.root_seed), _met(runs)
    return {
        "phase_end": list(PHASE_END),
        "limit": [LEAST_LIMIT if limit is None else limit for limit in limit_F],
        "success_rate": found["success_rate"],
        "met": [m for m in found["met"] if limit_F[m["phase"]] is not None],
    }


def kept_run(settings: Settings, arm: str, index: int, path: Path, caller: int) -> RunExposure:
    """As :func:`run_exposure`, kept at ``path`` for a second start of the same command."""
    leave_with_caller(caller)
    if path.exists():
        return RunExposure.from_state(load_state(path))
    found = run_exposure(settings, arm, index)
    save_state(path, found.state_dict())
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
    """Per phase, the end of the prediction interval at :data:`FALSE_ALARM`; ``None``: unknown."""
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
