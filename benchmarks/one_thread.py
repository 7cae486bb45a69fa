"""Measurements on one thread, whatever the environment says."""

from __future__ import annotations

import os
import sys

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def on_one_thread(module: str) -> None:
    """Start ``python -m module`` over with the same arguments, unless all of :data:`THREADS` are 1.

    They are read when numpy and torch are imported, hence too late for a process that has them.
    """
    if any(os.environ.get(name) != "1" for name in THREADS):
        command = [sys.executable, "-m", module, *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **dict.fromkeys(THREADS, "1")})
