"""One setting on one seed, and many of them in parallel through joblib.

Results are those of :func:`sim.arm.run_arm`: a finished run is never repeated, one in flight goes on
from its checkpoint, and equal settings share their runs. Nothing depends on the number of processes or
on the backend, except the order in which runs finish.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from joblib import Parallel, delayed

from cures.checks import FloatArray
from cures.storage import load_state
from sim.arm import run_arm
from sim.settings import Settings
from sim.task import ArmTask
from sim.tuning.setting import Setting
from sim.workers import leave_with

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Run:
    """A setting and the index of its development seed."""

    setting: Setting
    index: int

    @property
    def key(self) -> tuple[str, int]:
        """What makes two runs the same run."""
        return self.setting.key, self.index


class Laboratory:
    """Where runs happen and their curves are kept.

    Parameters
    ----------
    protocol : Settings
    folder : Path
        ``folder/runs/KEY`` holds the runs of a setting.
    jobs : int, optional
        Processes; ``None``: what the active ``joblib.parallel_config`` says, else one.
    checkpoint_every_s : float
    on_run : callable
        Told after every finished run.
    """

    def __init__(
        self,
        protocol: Settings,
        folder: Path,
        *,
        jobs: int | None = 1,
        checkpoint_every_s: float = 5.0,
        on_run: Callable[[], None] = lambda: None,
    ) -> None:
        self.protocol = protocol
        self.folder = folder
        self.jobs = jobs
        self.checkpoint_every_s = checkpoint_every_s
        self.on_run = on_run
        self._curve: dict[tuple[str, int], FloatArray | None] = {}

    def run(self, runs: Iterable[Run]) -> None:
        """Do the runs that this laboratory has not done."""
        for _ in self.stream(runs):
            pass

    def stream(self, runs: Iterable[Run]) -> Iterator[Run]:
        """As :meth:`run`, yielding every run as soon as it and those before it are done."""
        wanted = list(runs)
        missing = list({r.key: r for r in wanted if r.key not in self._curve}.values())
        results = parallel(run_once, [self._call(run) for run in missing], self.jobs)
        arrived = zip(missing, results, strict=True)
        for run in wanted:
            while run.key not in self._curve:
                done, curve_E = next(arrived)
                self._curve[done.key] = curve_E
                self.on_run()
            yield run

    def _call(self, run: Run) -> tuple[Settings, str, int, Path, float, int]:
        """Arguments of :func:`run_once`."""
        place = self.folder / "runs" / run.setting.key
        settings, arm = run.setting.under(self.protocol), run.setting.scheduler
        return settings, arm, run.index, place, self.checkpoint_every_s, os.getpid()

    def curves(self, setting: Setting, indices: Sequence[int]) -> FloatArray | None:
        """Held-out success on the common grid, shape (S, E); ``None`` if a run diverged."""
        self.run(Run(setting, index) for index in indices)
        curves = [self._curve[setting.key, index] for index in indices]
        finite = [curve for curve in curves if curve is not None]
        return np.array(finite) if len(finite) == len(curves) else None

    def sound_curves(self, setting: Setting, indices: Sequence[int]) -> FloatArray:
        """As :meth:`curves`, where a run that diverged is an error."""
        curves = self.curves(setting, indices)
        if curves is None:
            raise FloatingPointError(
                f"tune: {setting.scheduler} with {setting.options} diverged on a seed of "
                f"{list(indices)}; give a smaller --learning-rate"
            )
        return curves


def run_once(
    settings: Settings, arm: str, index: int, folder: Path, checkpoint_every_s: float, caller: int
) -> FloatArray | None:
    """One run from wherever it stands to its end; its curve, or ``None`` if training diverged."""
    leave_with_caller(caller)
    task = ArmTask(arm, index, True)
    try:
        run_arm(settings, task, folder, checkpoint_every_s=checkpoint_every_s)
    except FloatingPointError:
        return None
    return np.asarray(load_state(folder / task.folder / "curve.npz")["held_out_E"])


@cache
def leave_with_caller(caller: int) -> None:
    """End a worker process soon after its parent was killed: a second start need not wait for it.

    A thread or a process of a cluster has another parent and is left alone.
    """
    if os.getppid() == caller:
        threading.Thread(target=leave_with, args=(caller,), daemon=True).start()


def parallel(
    function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], jobs: int | None
) -> Iterator[Result]:
    """Results in order, one by one where the active backend can."""
    if not arguments:
        return iter(())
    calls = [delayed(function)(*entry) for entry in arguments]
    try:
        return iter(Parallel(n_jobs=jobs, return_as="generator")(calls))
    except ValueError as error:  # Ray's backend returns everything at the end
        if "return_as" not in str(error):
            raise
        return iter(Parallel(n_jobs=jobs)(calls))
