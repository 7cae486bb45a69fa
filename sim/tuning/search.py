"""The search: Optuna proposes, the simulator answers, the study lies on disk.

Trials come in batches. A batch of proposals is a function of the seed, its number and the trials of
the batches before it (Optuna's tree-structured Parzen estimator, started afresh on an in-memory copy
of these), so neither the number of processes nor a kill changes what is tried. Trial 0 is the
scheduler's defaults. Finished trials are added to ``study.db`` (SQLite, to be opened by any Optuna
tool) in the order of their numbers.

No trial is cut short. A pruner compares learning curves in mid-air, and they cross: a setting that
spends rollouts on pilots is behind early by design.
"""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from cures.checks import FloatArray
from cures.storage import atomic_write
from sim.tuning.knobs import Value
from sim.tuning.objective import Objective
from sim.tuning.protocol import Study
from sim.tuning.runs import Run
from sim.tuning.setting import Setting
from sim.tuning.space import Space

STREAM = 3  # of the root seed: 0 and 1 are runs, 2 is the analysis of compare
STARTUP_TRIALS = 10  # random, before the estimator has something to estimate


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished trial.

    Attributes
    ----------
    number : int
    point : dict
        Names and values of the space.
    setting : Setting
    value_S : ndarray of float64, shape (S,), or None
        Objective per trial seed; ``None``: training diverged.
    """

    number: int
    point: dict[str, Value]
    setting: Setting
    value_S: FloatArray | None

    @property
    def mean(self) -> float:
        """Objective; -inf if training diverged."""
        return -np.inf if self.value_S is None else float(self.value_S.mean())

    def as_json(self) -> dict[str, Any]:
        """A line of ``trials.jsonl``."""
        return {
            "number": self.number,
            "value": None if self.value_S is None else self.mean,
            "value_S": None if self.value_S is None else self.value_S.tolist(),
            "point": self.point,
            **self.setting.as_json(),
            "runs": f"runs/{self.setting.key}",
        }


def search(
    study: Study,
    folder: Path,
    objective: Objective,
    *,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Run the trials that are missing; return all of them by number.

    Parameters
    ----------
    study : Study
    folder : Path
        Holds ``study.db`` and ``trials.jsonl``.
    objective : Objective
    on_trial : callable
        Told every trial, those found on disk too.

    Raises
    ------
    ValueError
        If the trials on disk are not those of this study.
    """
    space = study.space
    with quiet_optuna():
        stored = _open(folder)
        for start in range(0, study.trials, study.batch):
            known = stored.get_trials(deepcopy=False)[:start]
            points = propose(study, space, known, start // study.batch)
            numbered = enumerate(points[: study.trials - start], start)
            batch = [Trial(n, point, space.setting(point), None) for n, point in numbered]
            _evaluate(stored, space, batch, study, objective, on_trial)
            finished = [_read(space, frozen) for frozen in stored.get_trials(deepcopy=False)]
            write_trials(folder, finished)
    return finished[: study.trials]


def propose(
    study: Study, space: Space, known: Sequence[FrozenTrial], batch: int
) -> list[dict[str, Value]]:
    """The points of a batch; a pure function of its arguments."""
    key = (STREAM, batch)
    state = np.random.SeedSequence(study.protocol.root_seed, spawn_key=key).generate_state(1)
    sampler = optuna.samplers.TPESampler(
        seed=int(state[0]), n_startup_trials=STARTUP_TRIALS, constant_liar=True
    )
    copy = optuna.create_study(direction="maximize", sampler=sampler)
    copy.add_trials(known)
    default = space.default_point(study.protocol.group_size)
    points = []
    for position in range(study.batch):
        if batch == position == 0 and default is not None:
            copy.enqueue_trial(default)
        points.append(space.suggest(copy.ask()))
    return points


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """Distinct settings that did not diverge, best mean first, earlier trials first among equals."""
    distinct: dict[str, Trial] = {}
    for trial in trials:
        if trial.value_S is not None:
            distinct.setdefault(trial.setting.key, trial)
    return sorted(distinct.values(), key=lambda trial: (-trial.mean, trial.number))


def importances(folder: Path) -> dict[str, float]:
    """Share of the spread of good trials that each parameter explains (PED-ANOVA).

    Parameters that not every trial has (what a switch turns off) are left out.
    """
    with quiet_optuna():
        stored = _open(folder)
        complete = [t for t in stored.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
        shared = set.intersection(*(set(t.params) for t in complete)) if complete else set()
        varied = [p for p in sorted(shared) if len({t.params[p] for t in complete}) > 1]
        if len(complete) < STARTUP_TRIALS or not varied:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            try:
                found = optuna.importance.get_param_importances(
                    stored, evaluator=evaluator, params=varied
                )
            except UserWarning:  # good trials and all trials are the same: nothing to explain
                return {}
    return {name: float(share) for name, share in found.items()}


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Warnings and errors of Optuna only: progress is shown elsewhere."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def write_trials(folder: Path, trials: Sequence[Trial]) -> None:
    """``trials.jsonl``: what ``study.db`` holds, for eyes and other programs."""
    lines = [json.dumps(trial.as_json(), allow_nan=False) for trial in trials]
    atomic_write(folder / "trials.jsonl", ("\n".join(lines) + "\n").encode())


def _open(folder: Path) -> optuna.Study:
    """The study on disk; not by a URL, in which ``?``, ``%`` and ``{`` of a path mean something else."""
    engine = {"creator": partial(sqlite3.connect, folder / "study.db")}
    return optuna.create_study(
        storage=optuna.storages.RDBStorage("sqlite://", engine_kwargs=engine),
        study_name="tune",
        direction="maximize",
        load_if_exists=True,
    )


def _evaluate(
    stored: optuna.Study,
    space: Space,
    batch: Sequence[Trial],
    study: Study,
    objective: Objective,
    on_trial: Callable[[Trial], None],
) -> None:
    """Run a batch; add each trial to the study as soon as it and those before it are finished."""
    runs = [Run(trial.setting, index) for trial in batch for index in study.search_indices]
    done = stored.get_trials(deepcopy=False)
    last = study.search_indices[-1]
    pending = iter(batch)
    for run in objective.laboratory.stream(runs):
        if run.index != last:
            continue
        trial = next(pending)
        if trial.number < len(done):
            _check_same(space, done[trial.number], trial)
        else:
            value_S = objective.value_S(trial.setting, study.search_indices)
            trial = Trial(trial.number, trial.point, trial.setting, value_S)
            stored.add_trial(_frozen(space, trial))
        on_trial(trial)


def _frozen(space: Space, trial: Trial) -> FrozenTrial:
    """A finished trial in Optuna's terms, with the distributions its point came from."""
    fixed = optuna.trial.FixedTrial(trial.point)
    space.suggest(fixed)  # type: ignore[arg-type]  # has the same methods
    attributes = {"value_S": None if trial.value_S is None else trial.value_S.tolist()}
    if trial.value_S is None:
        return optuna.trial.create_trial(
            state=TrialState.FAIL,
            params=trial.point,
            distributions=fixed.distributions,
            user_attrs=attributes,
        )
    return optuna.trial.create_trial(
        value=trial.mean,
        params=trial.point,
        distributions=fixed.distributions,
        user_attrs=attributes,
    )


def _read(space: Space, frozen: FrozenTrial) -> Trial:
    values = frozen.user_attrs["value_S"]
    value_S = None if values is None else np.array(values, dtype=np.float64)
    return Trial(frozen.number, frozen.params, space.setting(frozen.params), value_S)


def _check_same(space: Space, frozen: FrozenTrial, trial: Trial) -> None:
    if frozen.params != trial.point:
        raise ValueError(
            f"tune: trial {trial.number} of study.db must be {trial.point}, got {frozen.params}: "
            "it was written by another version; choose another --folder"
        )
