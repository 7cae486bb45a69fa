"""``python -m sim validate`` from the outside: status, files, and a kill in the middle."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sympy as sp

from cures.storage import read_json
from sim.cli import main
from theory import average_bound

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "sim", "validate", "--draws", "20000"]


def content(root):
    """All files, without the digest of the source, which someone may be editing meanwhile."""
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and p.suffix != ".json")
    texts = (p for p in sorted(root.rglob("*.json")))
    whole = {str(p.relative_to(root)): p.read_bytes() for p in files}
    return whole | {
        str(p.relative_to(root)): re.sub(r'"source": "\w+"', "", p.read_text()) for p in texts
    }


@pytest.mark.slow
def test_a_killed_validation_goes_on_and_ends_with_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    families = ["--only", "dataset"]
    done = subprocess.run(
        [*COMMAND, *families, "--out", str(whole)], cwd=ROOT, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9 checks pass" in done.stdout
    summary = read_json(whole / "validate.json")
    assert summary["passes"]
    assert summary["families"] == ["dataset"]  # a verdict on these, not on all
    assert {row["family"] for row in summary["checks"]} == {"dataset"}
    assert (whole / "dataset.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list(read_json(whole / "figures.json")) == ["dataset.png"]

    process = subprocess.Popen(
        [*COMMAND, *families, "--out", str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    until = time.monotonic() + 60.0
    while not (killed / "checks" / "dataset" / "split.json").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert not (killed / "figures.json").exists()
    for path in killed.rglob(".*.partial"):  # what a kill in the middle of a write leaves
        path.unlink()
    assert main(["validate", "--draws", "20000", *families, "--out", str(killed)]) == 0
    assert content(killed) == content(whole)


def test_a_wrong_theory_is_status_1(tmp_path, monkeypatch, capsys):
    claim = next(c for c in average_bound.CLAIMS if c.number == "2.1")
    wrong = claim.formulas["improvement"] / sp.sqrt(2)  # as if Eq. (9) had delta for 2 delta
    monkeypatch.setitem(claim.formulas, "improvement", wrong)
    assert main(["validate", "--quick", "--only", "dataset", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAIL dataset/leading (claims 2.1, 2.4)" in printed
    assert not read_json(tmp_path / "validate.json")["passes"]


def test_bad_input_is_status_2(tmp_path, capsys):
    assert main(["validate", "--only", "bounds", "--out", str(tmp_path)]) == 2
    assert "validate: only must be" in capsys.readouterr().err
    assert main(["validate", "--draws", "10", "--out", str(tmp_path)]) == 2
    assert "validate: draws must be" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
