"""One run of one scheduler on one seed: resumable at any update, finished exactly once.

Folder of an arm::

    metrics.jsonl     one line per update
    outcomes.jsonl    on request: one line per group of every plan, those after the last update too
    checkpoint.npz    while in flight: scheduler, host, curve so far, lengths of the logs
    curve.npz         at the end: held-out success per update and on the common grid; on the same
                      grid, under ``watch/``, the columns of :mod:`sim.watch`
    timing.json       CPU seconds; all other files of a run made again have the same bytes
    summary.json      written last; its presence means that the run is complete
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cures import loop
from cures.checks import InWords, fail
from cures.comparison import on_grid
from cures.records import Outcome, Plan, outcome_rows
from cures.schedulers.driver import Scheduler
from cures.storage import JsonlLog, State, load_state, read_json, save_state, write_json
from sim.host import SimHost
from sim.settings import Settings
from sim.task import ArmTask, build
from sim.watch import Watch

WATCHED = "watch/"  # prefix in curve.npz
TOTALS = ("trained", "zero_advantage", "empty_groups")


class Clock:
    """CPU time of a run over all its sittings, in seconds.

    Written with every checkpoint: updates that a killed run has to make anew count once.
    """

    def __init__(self, path: Path, *, is_resumed: bool) -> None:
        self._path = path
        is_known = is_resumed and path.exists()
        self._before_s = float(read_json(path)["cpu_s"]) if is_known else 0.0
        self._start_s = time.process_time()

    def write(self) -> None:
        """Write the sum down."""
        write_json(self._path, {"cpu_s": self._before_s + time.process_time() - self._start_s})


class StoppedError(RuntimeError):
    """The run was asked to stop; its checkpoint is on disk."""


@dataclass(slots=True)
class Trace:
    """The curve so far, and sums of what the host measured."""

    generated: list[int] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0))

    def add(self, record: loop.UpdateRecord, held_out: float) -> None:
        """Book one update."""
        self.generated.append(record.generated)
        self.held_out.append(held_out)
        for key in TOTALS:
            self.totals[key] += int(record.metrics[key])

    def state_dict(self) -> State:
        """Flat arrays and ints."""
        totals: State = {f"total/{key}": value for key, value in self.totals.items()}
        return {
            "generated_U": np.array(self.generated, dtype=np.int64),
            "held_out_U": np.array(self.held_out, dtype=np.float64),
            **totals,
        }

    @classmethod
    def from_state(cls, state: State) -> Trace:
        """Inverse of :meth:`state_dict`."""
        return cls(
            np.asarray(state["generated_U"]).tolist(),
            np.asarray(state["held_out_U"]).tolist(),
            {key: int(np.asarray(state[f"total/{key}"])) for key in TOTALS},
        )


def run_arm(
    settings: Settings,
    task: ArmTask,
    root: Path,
    *,
    checkpoint_every_s: float = 5.0,
    on_progress: Callable[[int], None] = lambda generated: None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Run (or go on with, or leave alone) one arm.

    Parameters
    ----------
    settings : Settings
    task : ArmTask
    root : Path
        Run folder.
    checkpoint_every_s : float
        Least seconds between checkpoints; 0: after every update.
    on_progress : callable
        Told the generated rollouts after every update.
    is_stopping : callable
        Asked after every update.

    Raises
    ------
    StoppedError
        If ``is_stopping`` said so; the checkpoint is up to date then.
    FloatingPointError
        If training diverged; the sentence names arm, seed, update and learning rate.
    """
    folder = root / task.folder
    folder.mkdir(parents=True, exist_ok=True)
    with _sole_writer(folder):
        if not (folder / "summary.json").exists():
            try:
                _run_to_the_end(
                    settings, task, folder, checkpoint_every_s, on_progress, is_stopping
                )
            except FloatingPointError as error:  # among hundreds of runs: which one?
                raise FloatingPointError(f"{task}: {error}") from error
        (folder / "checkpoint.npz").unlink(missing_ok=True)
    on_progress(settings.rollouts)


def _run_to_the_end(
    settings: Settings,
    task: ArmTask,
    folder: Path,
    checkpoint_every_s: float,
    on_progress: Callable[[int], None],
    is_stopping: Callable[[], bool],
) -> None:
    """From the last checkpoint, if there is one; arguments as in :func:`run_arm`."""
    scheduler, host = build(settings, task)
    watch = Watch(scheduler, host, settings.grid_E)
    clock = Clock(folder / "timing.json", is_resumed=(folder / "checkpoint.npz").exists())
    start = host.held_out_success()
    with (
        JsonlLog(folder / "metrics.jsonl") as metrics,
        JsonlLog(folder / "outcomes.jsonl") as outcomes,
    ):
        logs = {"metrics": metrics, "outcomes": outcomes}
        trace = _resume(folder, scheduler, host, watch, logs)
        watch.mark(scheduler.ledger.generated)
        saved_at = time.monotonic()

        def log_outcome(plan: Plan, outcome: Outcome) -> None:
            if settings.has_outcomes:
                for row in outcome_rows(plan, outcome, outcome.policy_step or 0):
                    outcomes.append(row)

        for record in loop.run(
            scheduler, watch, rollouts=settings.rollouts, on_outcome=log_outcome
        ):
            held_out = host.held_out_success()
            trace.add(record, held_out)
            watch.mark(record.generated)
            metrics.append(_row(record, scheduler, held_out))
            on_progress(record.generated)
            stop = is_stopping()
            if stop or time.monotonic() - saved_at >= checkpoint_every_s:
                _save(folder, scheduler, host, watch, trace, logs)
                clock.write()
                saved_at = time.monotonic()
            if stop:
                raise StoppedError(f"stopped at {record.generated} rollouts")
    clock.write()
    _finish(folder, settings, scheduler, start, trace, watch)


def _row(record: loop.UpdateRecord, scheduler: Scheduler, held_out: float) -> dict[str, Any]:
    """One line of ``metrics.jsonl``."""
    return {
        "step": record.step,
        "generated": record.generated,
        "tokens": scheduler.ledger.tokens,
        "pilots": scheduler.ledger.pilots,
        "discarded": scheduler.ledger.discarded,
        "missing": scheduler.ledger.missing,
        "held_out": held_out,
        **record.metrics,
    }


def _save(
    folder: Path,
    scheduler: Scheduler,
    host: SimHost,
    watch: Watch,
    trace: Trace,
    logs: dict[str, JsonlLog],
) -> None:
    state = trace.state_dict()
    state.update({f"{WATCHED}{k}": v for k, v in watch.state_dict().items()})
    state.update({f"scheduler/{k}": v for k, v in scheduler.state_dict().items()})
    state.update({f"host/{k}": v for k, v in host.state_dict().items()})
    state.update({f"position/{k}": log.position for k, log in logs.items()})
    save_state(folder / "checkpoint.npz", state)


def _resume(
    folder: Path, scheduler: Scheduler, host: SimHost, watch: Watch, logs: dict[str, JsonlLog]
) -> Trace:
    """Load the checkpoint, or clear what a run killed before its first one left behind."""
    for torn in folder.glob(".*.partial"):
        torn.unlink()
    if not (folder / "checkpoint.npz").exists():
        for log in logs.values():
            log.truncate(0)
        return Trace()
    state = load_state(folder / "checkpoint.npz")
    watched = _section(state, WATCHED)
    if not watched:
        legal = "of this version (remove the file: the run starts afresh)"
        fail(
            "compare",
            f"{folder}/checkpoint.npz",
            legal,
            InWords("one without a record of the posterior"),
        )
    watch.load_state_dict(watched)
    scheduler.load_state_dict(_section(state, "scheduler/"))
    host.load_state_dict(_section(state, "host/"))
    for key, log in logs.items():
        log.truncate(int(np.asarray(state[f"position/{key}"])))
    return Trace.from_state(state)


def _section(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _finish(
    folder: Path,
    settings: Settings,
    scheduler: Scheduler,
    start: float,
    trace: Trace,
    watch: Watch,
) -> None:
    """Write what the analysis reads; the summary last, because it marks the run as complete."""
    curve_E = on_grid(trace.generated, trace.held_out, settings.grid_E, start=start)
    curve: State = {"start": start, "grid_E": settings.grid_E, "held_out_E": curve_E}
    for key, value in trace.state_dict().items():
        if not key.startswith("total/"):
            curve[key] = value
    curve.update({f"{WATCHED}{key}": value for key, value in watch.columns().items()})
    save_state(folder / "curve.npz", curve)
    if not settings.has_outcomes:
        (folder / "outcomes.jsonl").unlink(missing_ok=True)
    summary = {
        "start": start,
        "final": float(curve_E[-1]),
        **trace.totals,
        "generated": scheduler.ledger.generated,
        "counters": dict(sorted(scheduler.counters.items())),
        "ledger": scheduler.ledger.as_dict(),
    }
    write_json(folder / "summary.json", summary)


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: a worker orphaned by SIGKILL keeps it until it has left."""
    with open(folder / ".lock", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
