"""A worker process of a pool: one verdict after the other, JSON lines in and out.

In: a line with ``place``, ``options``, ``time_limit_s``, ``memory_limit``; then a line per text, with
``completion`` and ``reference``. Out: ``ready``, or ``failed`` with a reason; then, per text, ``right``,
or ``error`` with a reason and whether the worker is ``leaving`` after it.

The pool kills a worker that is late. If the pool itself has died, a timer of the kernel does: a verifier
deep in a regular expression runs no Python code that could notice.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any, TextIO

from train.verifiers.naming import load
from train.verifiers.process import START_LIMIT_S

GRACE_S = 5.0  # by which the pool's own kill comes before the timer


def main() -> None:
    """Serve until there is no more input."""
    requests, replies = _private_streams()
    order = json.loads(requests.readline())
    signal.setitimer(signal.ITIMER_REAL, START_LIMIT_S)
    try:
        judge = load(order["place"])
    except BaseException as error:  # of anybody's module
        _say(replies, failed=reason(error))
        return
    # after loading, which may need more than a verdict may
    resource.setrlimit(resource.RLIMIT_AS, (order["memory_limit"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    _say(replies, ready=True)
    for line in requests:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, order["time_limit_s"] + GRACE_S)
        try:
            text = json.loads(line)
            verdict = judge(text["completion"], text["reference"], **order["options"])
            _say(replies, right=as_verdict(verdict))
        except MemoryError as error:  # what it has left of its memory may be little
            _say(replies, error=reason(error), leaving=True)
            return
        except BaseException as error:  # SystemExit of anybody's function included
            _say(replies, error=reason(error), leaving=False)
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def as_verdict(value: Any) -> bool:
    """What a verifier returned, if it is a verdict.

    Raises
    ------
    TypeError
        If it is anything but True, False, 1 and 0.
    """
    plain = value.item() if type(value).__module__ == "numpy" else value
    if not isinstance(plain, bool | int | float) or plain not in (0, 1):
        raise TypeError(f"a verdict must be True or False, got {value!r:.80}")
    return bool(plain)


def reason(error: BaseException) -> str:
    """One line, of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _private_streams() -> tuple[TextIO, TextIO]:
    """Input and output of this process alone; what a verifier prints or reads goes nowhere."""
    requests = os.fdopen(os.dup(0), encoding="ascii", newline="\n")
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", newline="\n")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nowhere, stream)
    return requests, replies


def _say(replies: TextIO, **message: Any) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
    sys.exit(0)
