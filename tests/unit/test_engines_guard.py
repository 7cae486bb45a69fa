"""What a guard guards ends with the one that it is guarded for, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.processes import are_gone, family, living
from train.engines import guard

# A server that starts an engine, which starts a worker in a session of its own that is deaf to SIGTERM;
# all of them print a line before they sleep.
SERVER = """
    import os, signal, subprocess, sys, time
    depth = int(sys.argv[1])
    if depth:
        subprocess.Popen([sys.executable, "-c", sys.argv[2], str(depth - 1), sys.argv[2]],
                         start_new_session=depth == 1)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(600)
"""
TRAINER = """
    import subprocess, sys, os, time
    subprocess.Popen([sys.executable, sys.argv[1], str(os.getpid()), *sys.argv[2:]])
    time.sleep(600)
"""


def code(text: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text)]


def server() -> list[str]:
    return [*code(SERVER), "2", textwrap.dedent(SERVER)]


def wait_for_lines(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    for _ in range(count):
        assert process.stdout.readline() == "ready\n"


@pytest.fixture
def guarded():
    """A guard of this process, with server, engine and worker."""
    command = [sys.executable, guard.__file__, str(os.getpid()), *server()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for_lines(process, 3)
        pids = family(process.pid)
        assert len(pids) == 4
        yield process, pids
        for pid in living(pids):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_parent_takes_all_with_it():
    command = [*code(TRAINER), guard.__file__, *server()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        wait_for_lines(trainer, 3)
        pids = family(trainer.pid)
        assert len(pids) == 5
        trainer.kill()
        assert are_gone(pids, within_s=15.0)


def test_a_told_guard_takes_all_with_it(guarded):
    process, pids = guarded
    process.terminate()
    process.wait(15.0)
    assert not living(pids), "all are gone when the guard is"


def test_a_killed_command_leaves_nothing(guarded):
    process, pids = guarded
    (command,) = family(process.pid) - {process.pid} - family_below(process.pid)
    os.kill(command, signal.SIGKILL)
    assert process.wait(15.0) == 128 + signal.SIGKILL
    assert not living(pids)


def family_below(pid: int) -> set[int]:
    """Grandchildren and further."""
    return {below for child in family(pid) - {pid} for below in family(child) - {child}}


def test_a_killed_guard_takes_the_command_with_it(guarded):
    process, _ = guarded
    (command,) = family(process.pid) - {process.pid} - family_below(process.pid)
    process.kill()
    assert are_gone({process.pid, command}, within_s=15.0)


def test_the_status_is_the_commands():
    command = [sys.executable, guard.__file__, str(os.getpid()), *code("raise SystemExit(7)")]
    assert subprocess.run(command).returncode == 7


def test_a_parent_that_is_gone_already_gets_nothing():
    parent = subprocess.Popen(code("pass"))
    parent.wait()
    command = [
        sys.executable,
        guard.__file__,
        str(parent.pid),
        *code("import time; time.sleep(60)"),
    ]
    assert subprocess.run(command, timeout=30.0).returncode == 128 + signal.SIGTERM
