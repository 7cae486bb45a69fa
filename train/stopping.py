"""SIGTERM asks a run to stop: it ends its update, saves and leaves; a second one ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from train.errors import TrainError

EXIT_STATUS = 128 + signal.SIGTERM  # what a shell reports of a process that SIGTERM ended


class TerminatedError(TrainError):
    """The run was asked to stop and has saved."""


class StopRequest:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        self.has_come = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.has_come = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Listen for SIGTERM; afterwards it means what it meant before."""
    request = StopRequest()
    before = signal.signal(signal.SIGTERM, request._on_signal)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
