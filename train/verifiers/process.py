"""A worker process seen from the pool: it is asked, and it is killed when it is late."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

MAX_ANSWER = 2**16  # bytes; a line of a worker has less than a thousand
START_LIMIT_S = 120.0  # importing sympy from a busy disk takes seconds
ROOT = Path(__file__).parents[2]


class FailedToStartError(Exception):
    """The worker could not load its verifier; the message says why."""


class LateError(Exception):
    """No answer in time; the process is gone."""


class CrashedError(Exception):
    """The process ended without an answer."""


class RaisedError(Exception):
    """The verifier raised; the message is its error."""


class WorkerProcess:
    """One worker, from its start to its end.

    Parameters
    ----------
    order : mapping
        See train/verifiers/worker.py.

    Raises
    ------
    FailedToStartError
        If it has not loaded the verifier within :data:`START_LIMIT_S` seconds.
    """

    def __init__(self, order: Mapping[str, Any]) -> None:
        # the modules that can be imported here can be imported there
        paths = [str(ROOT), *(path or os.getcwd() for path in sys.path)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "train.verifiers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # hostile text has no business on the screen
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the trainer, which then closes the pool
        )
        self._received = b""
        try:
            answer = self._ask(order, START_LIMIT_S)
        except (LateError, CrashedError) as error:
            raise FailedToStartError(f"no worker process: {type(error).__name__}") from error
        if "failed" in answer:
            self.end()
            raise FailedToStartError(answer["failed"])

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def judge(self, completion: str, reference: str, time_limit_s: float) -> bool:
        """The verdict.

        Raises
        ------
        LateError, CrashedError, RaisedError
            If there is none. The process lives on only after the last of them.
        """
        answer = self._ask({"completion": completion, "reference": reference}, time_limit_s)
        if "right" in answer:
            return bool(answer["right"])
        if answer["leaving"]:
            self.end()
        raise RaisedError(answer["error"])

    def end(self) -> None:
        """Kill it, whatever it does, and free what it held."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)  # with whatever the verifier has started
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()

    def _ask(self, message: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        assert self._process.stdin is not None
        try:
            self._write(json.dumps(message).encode("ascii") + b"\n", deadline)
            answer: dict[str, Any] = json.loads(self._line(deadline))
        except (LateError, CrashedError):
            self.end()
            raise
        except (OSError, ValueError) as error:  # a broken pipe; half a line
            self.end()
            raise CrashedError from error
        return answer

    def _write(self, content: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        rest = memoryview(content)
        file = self._process.stdin.fileno()
        while rest:
            wait_for(file, select.POLLOUT, deadline)
            rest = rest[os.write(file, rest[: select.PIPE_BUF]) :]

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        while b"\n" not in self._received:
            wait_for(file, select.POLLIN, deadline)
            found = os.read(file, 2**16)
            if not found or len(self._received) > MAX_ANSWER:
                raise CrashedError
            self._received += found
        line, _, self._received = self._received.partition(b"\n")
        return line


def wait_for(file: int, event: int, deadline: float) -> None:
    """Return when a pipe is ready; raise :class:`LateError` if it is not by the deadline."""
    poll = select.poll()
    poll.register(file, event)
    # what is there already counts, even if this process was stopped until after the deadline
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000.0):
        raise LateError
