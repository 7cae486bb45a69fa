"""Whatever one text does to its verifier, the others of the batch keep their verdicts."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from train.verifiers.pool import MAX_CHARACTERS, VerifierPool
from train.verifiers.process import LateError, wait_for

ROOT = Path(__file__).parents[2]
LIMIT_S = 3.0
SLACK_S = 30.0  # a busy machine starts a new worker for every one that was killed
HOSTILE = {
    "10 MB without an answer": ("x " * 5_000_000, 0.0),
    "10 MB, then the answer": ("x " * 5_000_000 + r"\boxed{3}", 1.0),
    "nested braces": (r"\boxed{" + "{" * 20_000 + "3" + "}" * 20_000 + "}", 0.0),
    "braces that never close": (r"\boxed{" + "{" * 60_000, 0.0),
    "nested boxes": (r"\boxed{" * 5000 + "3" + "}" * 5000, 1.0),  # the innermost is the last
    "null bytes": ("\x00\x00\\boxed{3\x00}\x00", 1.0),  # invisible: they do not count
    "right-to-left marks": ("\u202e\\boxed{\u200f3\u200e}\u202c", 1.0),
    "lone surrogates": ("\ud800\\boxed{3\udfff}", 0.0),  # not invisible, and no digit
    "factorial": (r"\boxed{100000!}", 0.0),
    "program's power": (r"\boxed{10**10**10}", 0.0),
    "empty": ("", 0.0),
    "spaces": (" \n\t" * 10_000, 0.0),
    "empty box": (r"\boxed{}", 0.0),
}
# sympy multiplies until it is killed, or has no more memory: no verdict can be had
ENDLESS = [r"\boxed{9^{9^{9^9}}}", r"\boxed{10^{10^{10}}}"]


def mine(tmp_path, body):
    """A user's function in a file of its own."""
    path = tmp_path / "mine.py"
    path.write_text(f"import os, sys, time\n\ndef is_right(completion, reference):\n{body}\n")
    return f"{path}:is_right"


def is_gone(pid):
    """Whether a process has ended, within a few seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def pids(pool):
    return [p._process.pid for p in pool._processes if p is not None]


@pytest.mark.parametrize("on_failure", ["missing", pytest.param("zero", marks=pytest.mark.slow)])
def test_hostile_texts_and_mathematics(on_failure):
    texts = [text for text, _ in HOSTILE.values()] + ENDLESS
    lost = np.nan if on_failure == "missing" else 0.0
    expected = [verdict for _, verdict in HOSTILE.values()] + [lost] * len(ENDLESS)
    # each between two honest answers, which keep their verdicts
    batch = [r"\boxed{3}"] + [t for text in texts for t in (text, r"\boxed{3}")]
    with VerifierPool("math", 2, LIMIT_S, on_failure) as verify:
        began = time.monotonic()
        verdict_R = verify(batch, ["3"] * len(batch))
        took_s = time.monotonic() - began
        counters = dict(verify.counters)
    names = [*HOSTILE, *ENDLESS]
    assert dict(zip(names, map(str, verdict_R[1::2]), strict=True)) == dict(
        zip(names, map(str, expected), strict=True)
    )
    assert (verdict_R[::2] == 1.0).all()
    assert counters["judged"] == len(batch) - len(ENDLESS)
    assert counters["timeout"] + counters["crash"] + counters["exception"] == len(ENDLESS)
    assert took_s < len(ENDLESS) * LIMIT_S + SLACK_S


@pytest.mark.parametrize("verifier", ["exact", "regex"])
def test_hostile_texts_and_texts(verifier):
    options = {"pattern": r"\\boxed\{([^{}]*)\}"} if verifier == "regex" else {}
    names = [name for name in HOSTILE if name not in ("nested braces", "braces that never close")]
    with VerifierPool(verifier, 1, LIMIT_S, options=options) as verify:
        verdict_R = verify([HOSTILE[name][0] for name in names], ["3"] * len(names))
        assert verify(["{" * 60_000], ["3"]).tolist() == [0.0]
    assert dict(zip(names, verdict_R.tolist(), strict=True)) == {n: HOSTILE[n][1] for n in names}


def test_a_catastrophic_pattern_costs_one_verdict():
    # (a+)+b on a^n without b takes 2^n steps; re holds the interpreter meanwhile
    options = {"pattern": "(a(?:a+)+)b"}
    with VerifierPool("regex", 2, 1.0, options=options) as verify:
        verdict_R = verify(["aab", "a" * 60, "aab", "ab"], ["aa"] * 4)
        assert verify.counters == {"judged": 3, "timeout": 1, "crash": 0, "exception": 0}
    assert np.array_equal(verdict_R, [1.0, np.nan, 1.0, 0.0], equal_nan=True)


@pytest.mark.parametrize(
    ("deed", "kind"),
    [
        ("time.sleep(600)", "timeout"),
        ("os._exit(0)", "crash"),
        ("os.kill(os.getpid(), 11)", "crash"),
        ("os.close(3); os.close(4); os._exit(1)", "crash"),
        ("raise KeyError('x')", "exception"),
        ("sys.exit(0)", "exception"),
        ("raise KeyboardInterrupt", "exception"),
        ("bytearray(2**40)", "exception"),  # more than the worker may have
        ("return 'yes'", "exception"),
        ("return None", "exception"),
        ("return 0.5", "exception"),
        ("is_right(completion, reference)", "exception"),  # calls itself for ever
    ],
)
def test_failures_are_counted_by_kind_and_replaced(deed, kind, tmp_path):
    body = f"    if completion == 'evil':\n        {deed}\n    return completion == reference"
    for on_failure, lost in (("missing", np.nan), ("zero", 0.0)):
        with VerifierPool(mine(tmp_path, body), 1, 1.0, on_failure) as verify:
            verdict_R = verify(["a", "evil", "a", "b", "evil", "a"], ["a"] * 6)
            assert np.array_equal(verdict_R, [1, lost, 1, 0, lost, 1], equal_nan=True)
            failures = {**dict.fromkeys(("timeout", "crash", "exception"), 0), kind: 2}
            assert verify.counters == {"judged": 4, **failures}
            assert (verify.last_error is not None) == (kind == "exception")


def test_what_a_verifier_prints_or_reads_is_not_taken_for_a_verdict(tmp_path):
    body = """    print('{"right": true}', flush=True)
    os.write(1, b'{"right": true}\\n')
    sys.stderr.write("x" * 100_000)
    assert sys.stdin.read() == ""
    return False"""
    with VerifierPool(mine(tmp_path, body), 1, 5.0) as verify:
        assert verify(["a", "b"], ["a", "b"]).tolist() == [0.0, 0.0]


def test_order_is_kept_by_many_workers(tmp_path):
    # later texts take less time than earlier ones
    body = "    time.sleep(float(completion) / 100)\n    return int(completion) % 3 == 0"
    texts = [str(i) for i in range(29, -1, -1)]
    with VerifierPool(mine(tmp_path, body), 4, 10.0) as verify:
        assert verify(texts, [""] * 30).tolist() == [float(int(t) % 3 == 0) for t in texts]


def test_the_end_of_a_long_completion_is_judged(tmp_path):
    body = "    return len(completion) == int(reference) and completion[-1] == 'z'"
    texts = ["y" * MAX_CHARACTERS + "z", "y" * (MAX_CHARACTERS - 1) + "z", "z"]
    with VerifierPool(mine(tmp_path, body)) as verify:
        references = [str(MAX_CHARACTERS), str(MAX_CHARACTERS), "1"]
        assert verify(texts, references).tolist() == [1.0] * 3


def test_text_arrives_as_it_is(tmp_path):
    body = "    return completion == reference"
    texts = ["\x00", "\ud800", "\u202e", "😀", "\n\r\u2028", '"\\', ""]
    with VerifierPool(mine(tmp_path, body), 2) as verify:
        assert verify(texts, texts).tolist() == [1.0] * len(texts)
        assert verify(texts, texts[::-1]).sum() == 1.0  # negative control: the middle one


def test_numpy_verdicts_and_no_texts(tmp_path):
    body = "    import numpy\n    return numpy.bool_(True) if completion else numpy.int64(0)"
    with VerifierPool(mine(tmp_path, body)) as verify:
        assert verify([], []).shape == (0,)
        assert verify(["a", ""], ["", ""]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError"),
        ("def other(): pass", "is_right"),
        ("syntax error", "SyntaxError"),
        ("import os; os._exit(3)", "CrashedError"),
    ],
)
def test_a_verifier_that_cannot_be_loaded_is_refused(content, reason, tmp_path):
    (tmp_path / "mine.py").write_text(content)
    with (
        VerifierPool(f"{tmp_path}/mine.py:is_right") as verify,
        pytest.raises(ValueError, match=f"mine.py:is_right cannot be loaded: .*{reason}"),
    ):
        verify(["a"], ["a"])


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"workers": 0}, "workers"),
        ({"time_limit_s": 0.0}, "time_limit_s"),
        ({"on_failure": "raise"}, "on_failure"),
        ({"memory_limit": 1}, "memory_limit"),
    ],
)
def test_bad_arguments_are_named(values, name):
    with pytest.raises(ValueError, match=f"VerifierPool: {name} must be"):
        VerifierPool("exact", **values)
    with VerifierPool("exact") as verify, pytest.raises(ValueError, match="references must be 1"):
        verify(["a"], [])


def test_a_closed_pool_has_no_processes_and_judges_no_more():
    pool = VerifierPool("exact", 2)
    pool(["a", "b", "c"], ["a", "b", "c"])
    found = pids(pool)
    assert found
    pool.close()
    pool.close()
    assert all(is_gone(pid) for pid in found)
    with pytest.raises(ValueError, match="pool must be open, got closed"):
        pool(["a"], ["a"])
    forgotten = VerifierPool("exact")
    forgotten(["a"], ["a"])
    found = pids(forgotten)
    del forgotten
    gc.collect()
    assert all(is_gone(pid) for pid in found)


@pytest.mark.parametrize("deed", ["while True: pass", "import re; re.match('(a+)+b', 'a' * 60)"])
def test_workers_do_not_outlive_a_killed_trainer(deed, tmp_path):
    pid_file = tmp_path / "pid"
    body = f"    open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n    {deed}"
    program = f"""
from train.verifiers.pool import VerifierPool
VerifierPool({mine(tmp_path, body)!r}, 1, 1000.0)(["a"], ["a"])
"""
    # a worker gives itself up GRACE_S after the limit: 0.1 s here
    worker = "import train.verifiers.worker as w; w.GRACE_S = -999.0; w.main()"
    program = f"""
import subprocess, sys
real = subprocess.Popen
subprocess.Popen = lambda command, **rest: real([sys.executable, "-c", {worker!r}], **rest)
{program}"""
    trainer = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    try:
        for _ in range(600):
            if pid_file.exists() and pid_file.read_text():
                break
            time.sleep(0.1)
    finally:
        trainer.kill()
        trainer.wait()
    assert is_gone(int(pid_file.read_text()))


def test_ctrl_c_ends_the_batch_and_not_the_pool(tmp_path):
    body = "    time.sleep(float(completion))\n    return completion == reference"
    program = f"""
import signal, sys, threading
from train.verifiers.pool import VerifierPool
with VerifierPool({mine(tmp_path, body)!r}, 2, 3.0) as verify:
    print(verify(["0", "0", "0"], ["0", "1", "0"]).tolist(), flush=True)
    try:
        verify(["0.5"] * 1000, ["0"] * 1000)  # minutes
    except KeyboardInterrupt:
        print(verify(["0", "0", "0"], ["1", "0", "0"]).tolist(), flush=True)
"""
    trainer = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert trainer.stdout.readline() == "[1.0, 0.0, 1.0]\n"
    time.sleep(1.0)
    os.killpg(trainer.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    rest, _ = trainer.communicate(timeout=120)
    assert rest == "[0.0, 1.0, 1.0]\n"
    assert trainer.returncode == 0


def test_workers_import_no_torch(tmp_path):
    body = "    import train.verifiers.math\n    return 'torch' not in sys.modules"
    with VerifierPool(mine(tmp_path, body)) as verify:
        assert verify(["a"], ["a"]).tolist() == [1.0]


def test_an_answer_that_is_there_after_the_deadline_counts():
    # a machine that is suspended, or a process that is stopped, must not turn verdicts into time-outs
    ours, theirs = os.pipe()
    try:
        with pytest.raises(LateError):
            wait_for(ours, select.POLLIN, time.monotonic() - 10.0)
        os.write(theirs, b"x")
        wait_for(ours, select.POLLIN, time.monotonic() - 10.0)
    finally:
        os.close(ours)
        os.close(theirs)
