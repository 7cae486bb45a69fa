"""Run arms in one process or several; the number of processes changes nothing but the time.

A worker whose parent was killed leaves within a fraction of a second, so that a second start of the
same command never waits long for a folder.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sim.arm import StoppedError, run_arm
from sim.settings import Settings
from sim.task import ArmTask

_shared: dict[str, Any] = {}


def run_arms(
    settings: Settings,
    tasks: Sequence[ArmTask],
    root: Path,
    *,
    jobs: int,
    checkpoint_every_s: float,
    on_progress: Callable[[int, int], None],
) -> None:
    """Run every task that is not finished yet.

    Parameters
    ----------
    settings : Settings
    tasks : sequence of ArmTask
    root : Path
        Run folder.
    jobs : int
        Worker processes; 1 runs here.
    checkpoint_every_s : float
    on_progress : callable
        Told (position of the task, rollouts generated).

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C; with several workers, each has saved a checkpoint by then.
    """
    if jobs == 1:
        for position, task in enumerate(tasks):
            run_arm(
                settings,
                task,
                root,
                checkpoint_every_s=checkpoint_every_s,
                on_progress=partial(on_progress, position),
            )
        return
    context = multiprocessing.get_context("spawn")
    progress, stop = context.Array("q", len(tasks), lock=False), context.Event()
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (progress, stop, os.getpid()))
    try:
        with _without_ctrl_c():  # the first submit starts the workers, which inherit the mask
            futures = [
                pool.submit(_work, settings, task, root, checkpoint_every_s, position)
                for position, task in enumerate(tasks)
            ]
        left = set(futures)
        while left:
            done, left = wait(left, timeout=0.2, return_when=FIRST_EXCEPTION)
            for position in range(len(tasks)):
                on_progress(position, int(progress[position]))
            for future in done:
                future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Hold SIGINT back. Ctrl-C is the parent's business, also while a worker is still importing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(progress: Any, stop: Any, parent: int) -> None:
    _shared.update(progress=progress, stop=stop)
    threading.Thread(target=leave_with, args=(parent,), daemon=True).start()


def leave_with(parent: int) -> None:
    """End this worker once its parent is gone: an idle worker would wait for tasks forever."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _work(
    settings: Settings, task: ArmTask, root: Path, checkpoint_every_s: float, position: int
) -> None:
    def on_progress(generated: int) -> None:
        _shared["progress"][position] = generated

    is_stopping = _shared["stop"].is_set
    if is_stopping():
        return
    # StoppedError: the checkpoint is saved, and the parent knows that it asked
    with suppress(StoppedError):
        run_arm(
            settings,
            task,
            root,
            checkpoint_every_s=checkpoint_every_s,
            on_progress=on_progress,
            is_stopping=is_stopping,
        )
