"""The code of the README runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import cures

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_example(capsys):
    code = BLOCKS[0]
    assert code.count("\n") <= 14  # a first screen, not a tutorial
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["uniform", "cures"]
    for line in lines:
        assert 0.4 < float(line.split()[1]) < 1.0


def test_the_trainer_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = BLOCKS[1].replace("[...]", "np.ones(len(plan), dtype=int)")
    exec(compile(code, "README.md", "exec"), {"cures": cures, "np": np})
    assert (tmp_path / "scheduler.npz").exists()
