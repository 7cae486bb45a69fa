"""Seconds: of a call on a device, and what is left of the time."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch


class TimeIsUpError(BaseException):
    """A part was stopped because its time was up; as Ctrl-C, no handler of errors is to swallow it."""


@dataclass(frozen=True)
class Deadline:
    """When everything has to be over, on the clock ``time.monotonic``, s."""

    end: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """That much from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds, negative when it is over."""
        return self.end - time.monotonic()

    @contextmanager
    def part(self, limit_s: float) -> Iterator[None]:
        """Raise :class:`TimeIsUpError` inside after ``limit_s``, or at the end if that is sooner."""
        limit_s = min(limit_s, self.left())
        if limit_s <= 0.0:
            raise TimeIsUpError("no time was left")

        def stop(number: int, frame: FrameType | None) -> None:
            raise TimeIsUpError(f"stopped after {limit_s:.0f} s, its share of the time")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)


def seconds(call: Callable[[], object], device: torch.device, rounds: int) -> list[float]:
    """Of every round, after one that does not count."""
    call()
    return [once(call, device) for _ in range(rounds)]


def once(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call; on a GPU by its own events, what is left on its queue included."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3


def further_rounds(left_s: float, round_s: float) -> int:
    """How many more rounds fit, each taken to be a tenth longer than measured.

    Examples
    --------
    >>> further_rounds(100.0, 30.0), further_rounds(32.0, 30.0), further_rounds(-1.0, 30.0)
    (3, 0, 0)
    """
    return max(0, math.floor(left_s / (1.1 * round_s)))
