"""A comparison from settings to files; the same call resumes one that was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cures.checks import as_float, as_int
from cures.storage import read_json, write_json
from sim.analysis import compare_arms
from sim.run_folder import refuse_foreign
from sim.settings import REFERENCE, Settings, check_same
from sim.task import ArmTask, check_arms
from sim.workers import run_arms


def tasks_of(settings: Settings) -> list[ArmTask]:
    """Every run, development first: the targets are fixed before any compared arm is read."""
    development = [ArmTask(REFERENCE, s, True) for s in range(settings.dev_seeds)]
    return development + [
        ArmTask(arm, s, False) for s in range(settings.seeds) for arm in settings.arms
    ]


def prepare(settings: Settings, root: Path) -> None:
    """Check every arm's options and claim the run folder.

    Raises
    ------
    ValueError
        If a scheduler refuses its options, or the folder holds another comparison (one with fewer
        seeds but otherwise equal settings grows).
    """
    check_folder(settings, root)
    check_arms(settings)
    root.mkdir(parents=True, exist_ok=True)
    path = root / "config.json"
    if not path.exists() or read_json(path)["seeds"] != settings.seeds:
        write_json(path, settings.as_json())


def check_folder(settings: Settings, root: Path) -> None:
    """Refuse a folder that is not, and cannot become, that of these settings; nothing is touched.

    Raises
    ------
    ValueError
        See :func:`prepare`.
    """
    refuse_foreign("compare", "out", root, marker="config.json", what="a run folder")
    if (root / "config.json").exists():
        check_same(settings, read_json(root / "config.json"), root)


def check_means(jobs: int, checkpoint_every_s: float) -> None:
    """Refuse a number of processes or a time between checkpoints that is none."""
    as_int("compare", "jobs", jobs, 1)
    as_float("compare", "checkpoint_every", checkpoint_every_s, 0.0)


def compare(
    settings: Settings,
    root: Path,
    *,
    jobs: int = 1,
    checkpoint_every_s: float = 5.0,
    on_progress: Callable[[int, int], None] = lambda position, generated: None,
) -> dict[str, Any]:
    """Run what is missing, then write ``comparison.json``.

    Parameters
    ----------
    settings : Settings
    root : Path
        Run folder.
    jobs : int
        Worker processes, >= 1.
    checkpoint_every_s : float
        Least seconds between checkpoints of a run, >= 0.
    on_progress : callable
        Told (position in :func:`tasks_of`, rollouts generated).

    Returns
    -------
    dict
        The content of ``comparison.json``.

    Notes
    -----
    The last bits of a run, and through them its sampled answers, depend on the number of BLAS
    threads. ``python -m sim`` sets one thread before numpy is imported; a Python caller who wants
    the same bits has to start with ``OMP_NUM_THREADS``, ``OPENBLAS_NUM_THREADS`` and
    ``MKL_NUM_THREADS`` at 1.
    """
    check_means(jobs, checkpoint_every_s)
    prepare(settings, root)
    run_arms(
        settings,
        tasks_of(settings),
        root,
        jobs=jobs,
        checkpoint_every_s=checkpoint_every_s,
        on_progress=on_progress,
    )
    comparison = compare_arms(settings, root)
    write_json(root / "comparison.json", comparison)
    return comparison
