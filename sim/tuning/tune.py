"""A study from settings to files; the same call resumes one that was interrupted.

Run folder::

    config.json          the study
    runs/KEY/            runs of a setting, as :mod:`sim.arm` writes them; for the recommended one,
                         ``exposure/``: success rates that it met
    study.db             the trials, for Optuna's tools
    trials.jsonl         the same for eyes and other programs
    recommendation.json  written last of the numbers
    *.png                profiles, slices, confirmation
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cures.checks import InWords, as_float, as_int, fail
from cures.storage import read_json, write_json
from sim.run_folder import refuse_foreign
from sim.tuning.confirmation import choose, confirm
from sim.tuning.exposure import exposure
from sim.tuning.objective import Objective
from sim.tuning.protocol import Study
from sim.tuning.runs import Laboratory
from sim.tuning.search import Trial, best_first, importances, search
from sim.tuning.sensitivity import count_profile_runs, profiles

EXPOSURE_SEEDS = 8


def planned_runs(study: Study) -> dict[str, int]:
    """Most runs of every stage; equal settings share theirs."""
    return {
        "search": (study.trials + 1) * study.trial_seeds,
        "selection": (study.top + 2) * study.select_seeds,
        "confirmation": 4 * study.confirm_seeds,
        "profiles": count_profile_runs(study),
        "exposure": min(EXPOSURE_SEEDS, study.confirm_seeds),
    }


def tune(
    study: Study,
    folder: Path,
    *,
    jobs: int | None = 1,
    checkpoint_every_s: float = 5.0,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_run: Callable[[], None] = lambda: None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> dict[str, Any]:
    """Search, look again on fresh seeds, and write ``recommendation.json``.

    Parameters
    ----------
    study : Study
    folder : Path
        Run folder.
    jobs : int, optional
        Processes, >= 1; -1: one per core; ``None``: what the active ``joblib.parallel_config`` says.
    checkpoint_every_s : float
        Least seconds between checkpoints of a run, >= 0.
    on_stage, on_run, on_trial : callable
        Told the name of every stage as it begins, every finished run, every finished trial.

    Returns
    -------
    dict
        The content of ``recommendation.json``.

    Raises
    ------
    ValueError
        If the folder holds something else, or another study (one with fewer trials but otherwise
        equal grows).
    FloatingPointError
        If training diverged in every trial.
    RuntimeError
        If another process is tuning in the folder.
    """
    if jobs is not None and jobs != -1:
        as_int("tune", "jobs", jobs, 1)
    as_float("tune", "checkpoint_every", checkpoint_every_s, 0.0)
    claim(study, folder)
    with _alone(folder):
        return _tune(study, folder, jobs, checkpoint_every_s, on_stage, on_run, on_trial)


def _tune(
    study: Study,
    folder: Path,
    jobs: int | None,
    checkpoint_every_s: float,
    on_stage: Callable[[str], None],
    on_run: Callable[[], None],
    on_trial: Callable[[Trial], None],
) -> dict[str, Any]:
    """Arguments as in :func:`tune`, checked."""
    laboratory = Laboratory(
        study.protocol, folder, jobs=jobs, checkpoint_every_s=checkpoint_every_s, on_run=on_run
    )
    on_stage("search")
    objective = Objective.of(study, laboratory)
    trials = search(study, folder, objective, on_trial=on_trial)
    on_stage("selection")
    choice = choose(study, objective, trials)
    on_stage("confirmation")
    report = confirm(study, objective, choice)
    on_stage("profiles")
    centre = best_first(trials)[0]
    if not choice.is_default:
        centre = next(t for t in trials if t.setting.key == choice.chosen.setting.key)
    found = profiles(study, study.space, objective, centre.point)
    on_stage("exposure")
    shown = study.confirm_indices[:EXPOSURE_SEEDS]
    recommended = choice.defaults.setting if report["is_default"] else choice.chosen.setting
    met = exposure(study.protocol, recommended, shown, folder, jobs=jobs, on_run=on_run)
    report = {
        **report,
        "defaults_won": choice.is_default,
        "objective": objective.label,
        "candidates": [candidate.as_json() for candidate in choice.candidates],
        "importance": importances(folder),
        "is_log": {name: study.space.is_log(name) for name in study.space.axes},
        "profile_centre": f"trial {centre.number}",
        "profiles": [profile.as_json(study.protocol.margin) for profile in found],
        "exposure": met,
    }
    write_json(folder / "recommendation.json", report)
    return report


def claim(study: Study, folder: Path) -> None:
    """Make the run folder ours, or check that it is."""
    refuse_foreign("tune", "folder", folder, marker="config.json", what="a run folder of tune")
    path = folder / "config.json"
    if path.exists():
        stored = read_json(path)
        _check_same(study, stored, folder)
        if stored != study.as_json():
            write_json(path, study.as_json())
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, study.as_json())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which dies with the process: trials are numbered by one writer."""
    with open(folder / ".lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"tune: another process is tuning in {folder}") from error
        yield


def _check_same(study: Study, stored: Any, folder: Path) -> None:
    """Trials may grow: a batch's proposals rest on the batches before it alone."""
    ours = study.as_json()
    if not isinstance(stored, Mapping) or stored.get("format") != ours["format"]:
        fail(
            "tune",
            f"{folder}/config.json",
            f"of format {ours['format']!r}",
            InWords("something else"),
        )
    for key in sorted(ours.keys() | stored.keys()):
        old, new = stored.get(key), ours.get(key)
        if old == new or (key == "trials" and isinstance(old, int) and study.trials > old):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            part = next(k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k))
            key, old, new = f"{key}.{part}", old.get(part), new.get(part)
        more = " or more" if key == "trials" else ""
        legal = f"{old!r}{more} as in {folder}/config.json (or choose another --folder)"
        fail("tune", key, legal, new)
