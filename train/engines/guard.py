"""Runs a command that cannot outlive the process that wanted it: ``python guard.py PARENT COMMAND...``.

vLLM's server leaves its engine and worker processes behind, and with them a GPU's memory, when it is
killed; and nobody stops a server whose trainer was killed. This process adopts whatever the command
leaves behind and ends all of it as soon as the command ends, the process PARENT is gone (also by
SIGKILL), or SIGTERM comes. Linux; standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

SET_PARENT_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36  # <sys/prctl.h>
POLL_S = 0.2
GRACE_S = 10.0


def run(parent: int, command: list[str]) -> int:
    """Run it; the exit status of the command, negative if a signal ended it."""
    prctl = ctypes.CDLL(None).prctl
    prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    is_told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, frame: is_told.append(got))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # should this process be killed itself
        preexec_fn=lambda: prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0),
    )
    while child.poll() is None and os.getppid() == parent and not is_told:
        time.sleep(POLL_S)
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
    status = child.wait()
    _end_orphans()
    return status


def _end_orphans() -> None:
    """Kill every child until there is none: the children of the killed become ours."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            for pid in file.read().split():
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    status = run(int(sys.argv[1]), sys.argv[2:])
    sys.exit(status if status >= 0 else 128 - status)
