"""Verdicts on many completions at once, each in a process, within its own limits.

Whatever a completion does to its verifier costs that completion's verdict at most: the worker that is
late is killed and replaced, one that crashes is replaced, an exception is caught, all are counted, and
the other answers of the batch keep theirs.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cures.checks import FloatArray, InWords, as_choice, as_float, as_int, fail
from train.verifiers.naming import place_of
from train.verifiers.process import (
    CrashedError,
    FailedToStartError,
    LateError,
    RaisedError,
    WorkerProcess,
)

MAX_CHARACTERS = 2**16  # of a completion; of a longer one its end is judged, where the answer is
FAILURES = {"missing": np.nan, "zero": 0.0}
MEMORY_LIMIT = 4 * 2**30


class VerifierPool:
    """Worker processes that judge with one verifier; a ``Verify`` (train/benchmarks/answering.py).

    Processes start when they are needed and stay. They import what the verifier needs, and no torch.

    Parameters
    ----------
    verifier : str or callable
        Name (train/verifiers/naming.py) or function ``(completion, reference) -> bool``.
    workers : int
        Processes, >= 1.
    time_limit_s : float
        > 0, for one verdict.
    on_failure : {'missing', 'zero'}
        What a time-out, a crash or an exception gives: NaN or 0.
    options : mapping, optional
        Further keywords of the verifier, plain values.
    memory_limit : int
        Bytes of address space of a worker; beyond it the verifier gets a ``MemoryError``.

    Attributes
    ----------
    counters : dict of str to int
        ``judged``, and without a verdict ``timeout``, ``crash``, ``exception``.
    place : str
        Of the verifier, as its processes are told.
    last_error : str or None
        Of the latest exception.

    Examples
    --------
    >>> with VerifierPool("exact") as verify:
    ...     verify(["so \\\\boxed{4}", ""], ["4", "4"]).tolist()
    [1.0, 0.0]
    """

    def __init__(
        self,
        verifier: str | Callable[..., Any],
        workers: int = 1,
        time_limit_s: float = 10.0,
        on_failure: str = "missing",
        *,
        options: Mapping[str, Any] | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        where = "VerifierPool"
        self.workers = as_int(where, "workers", workers, 1)
        self.time_limit_s = as_float(where, "time_limit_s", time_limit_s, 0.0, open_low=True)
        self.on_failure = as_choice(where, "on_failure", on_failure, tuple(FAILURES))
        self.counters = dict.fromkeys(("judged", "timeout", "crash", "exception"), 0)
        self.last_error: str | None = None
        self.place = place_of(verifier)
        self._order = {
            "place": self.place,
            "options": dict(options or {}),
            "time_limit_s": self.time_limit_s,
            "memory_limit": as_int(where, "memory_limit", memory_limit, 2**26),
        }
        self._processes: list[WorkerProcess | None] = [None] * self.workers
        self._has_started = False  # the verifier can be loaded
        self._lock = threading.Lock()
        self._is_closed = False
        self._finalizer = weakref.finalize(self, _end_all, self._processes)

    def __call__(self, completions: Sequence[str], references: Sequence[str]) -> FloatArray:
        """Verdicts in the order of the completions, shape (R,): 1 right, 0 wrong, or a failure's.

        Parameters
        ----------
        completions : sequence of str
            Of more than :data:`MAX_CHARACTERS` characters the last so many are judged.
        references : sequence of str, one per completion

        Raises
        ------
        ValueError
            If the lengths differ, the pool is closed, or the verifier cannot be loaded.
        """
        if len(completions) != len(references):
            fail(
                "VerifierPool", "references", f"{len(completions)}, as completions", len(references)
            )
        if not completions:
            return np.zeros(0)
        self.start()
        verdict_R = np.empty(len(completions))
        rows = iter(range(len(completions)))  # shared: whoever is free takes the next one

        def work(place: int) -> None:
            for row in rows:
                verdict_R[row] = self._judge(place, completions[row], references[row])

        count = min(self.workers, len(completions))
        with ThreadPoolExecutor(count) as threads:
            try:
                list(threads.map(work, range(count)))
            finally:  # after Ctrl-C nobody waits for the rest
                for _ in rows:
                    pass
        return verdict_R

    def start(self) -> None:
        """Start the first worker, if none has been: the verifier can be loaded.

        Raises
        ------
        ValueError
            If not, or the pool is closed.
        """
        if self._is_closed:
            fail("VerifierPool", "pool", "open", InWords("closed"))
        if self._has_started:
            return
        try:
            self._processes[0] = WorkerProcess(self._order)
        except FailedToStartError as error:
            place = self._order["place"]
            raise ValueError(f"verifier: {place} cannot be loaded: {error}") from error
        self._has_started = True

    def close(self) -> None:
        """End the workers; the pool judges no more. Closing twice does nothing."""
        self._is_closed = True
        _end_all(self._processes)

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _judge(self, place: int, completion: str, reference: str) -> float:
        try:
            worker = self._processes[place]
            if worker is None or not worker.is_alive:
                if worker is not None:
                    worker.end()
                worker = self._processes[place] = WorkerProcess(self._order)
            verdict = worker.judge(completion[-MAX_CHARACTERS:], reference, self.time_limit_s)
        except LateError:
            return self._failed("timeout")
        except (CrashedError, FailedToStartError, OSError):  # OSError: no process to be had
            return self._failed("crash")
        except RaisedError as error:
            return self._failed("exception", str(error))
        with self._lock:
            self.counters["judged"] += 1
        return float(verdict)

    def _failed(self, kind: str, message: str | None = None) -> float:
        with self._lock:
            self.counters[kind] += 1
            self.last_error = message or self.last_error
        return FAILURES[self.on_failure]


def _end_all(processes: list[WorkerProcess | None]) -> None:
    for place, process in enumerate(processes):
        if process is not None:
            process.end()
            processes[place] = None
