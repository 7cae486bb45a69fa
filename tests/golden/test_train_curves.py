"""Loss and success of short runs of a real language model: the same seed gives the same numbers.

``train_curves.json`` was written by ``OMP_NUM_THREADS=1 python -m tests.golden.test_train_curves``.
Counts are compared exactly; losses, norms and entropies to 1 %: kernels of another CPU round
otherwise, which ten updates amplify, while a changed sign, weight or seed moves them by far more, as the
control shows. A change of these numbers needs a line in CHANGELOG.md that says why.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cures.storage import read_jsonl
from train.config_file import load
from train.progress import TrainingProgress
from train.run import train

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("train_curves.json")
EXACT = ("generated", "rollouts", "trained", "groups")
CLOSE = ("loss", "grad_norm", "entropy", "reward")
RTOL = 0.01
CASES = {
    "uniform-grpo": ["scheduler.name=uniform"],
    "cures-reinforce++": ["scheduler.name=cures", "learner.estimator=reinforce++"],
}


def curve_of(overrides: list[str], cache: Path) -> dict[str, list[Any]]:
    """Ten updates of configs/smoke.toml after a short warm start, which all of them share."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["warm_start.steps=150", f"run.cache={cache}", "run.rollouts=2560"]
        config = load(ROOT / "configs" / "smoke.toml", [*wanted, *overrides])
        with TrainingProgress(Console(quiet=True)) as progress:
            train(config, Path(folder) / "run", progress)
        rows = read_jsonl(Path(folder) / "run" / "metrics.jsonl")
    return {name: [row[name] for row in rows] for name in (*EXACT, *CLOSE)}


def is_close(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> bool:
    """Whether two curves are the same but for roundings; a loss near 0 counts by the largest."""
    for name in CLOSE:
        slack = RTOL * np.abs(expected[name]).max()
        if not np.allclose(found[name], expected[name], rtol=0.0, atol=slack):
            return False
    return True


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("warm_start")


@pytest.mark.parametrize("case", CASES)
def test_curves_are_what_they_were(case, cache):
    expected = json.loads(FILE.read_text())[case]
    found = curve_of(CASES[case], cache)
    assert {name: found[name] for name in EXACT} == {name: expected[name] for name in EXACT}
    assert is_close(found, expected), (found, expected)


def test_another_loss_would_be_seen(cache):
    expected = json.loads(FILE.read_text())["uniform-grpo"]
    other = curve_of([*CASES["uniform-grpo"], "learner.aggregation=token"], cache)
    assert not is_close(other, expected)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        curves = {case: curve_of(values, Path(folder)) for case, values in CASES.items()}
    FILE.write_text(json.dumps(curves) + "\n")
