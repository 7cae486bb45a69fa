"""Loss and success of short runs of a real language model: the same seed gives the same numbers.

``train_curves.json`` was written by ``OMP_NUM_THREADS=1 python -m tests.golden.test_train_curves``.
Counts are compared exactly; losses, norms and entropies to a thousandth: kernels of another CPU (or
``ATEN_CPU_CAPABILITY=default``) round otherwise, which ten updates do not amplify to as much, while a
changed sign, weight or seed moves them by far more, as the control shows. A change of these numbers
needs a line in CHANGELOG.md that says why.

All begin with the weights of ``warm_start/``, made by the same command where there are none: a warm
start made on another CPU is another model, as hundreds of steps amplify roundings.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cures.storage import read_json, read_jsonl
from train.config_file import load
from train.progress import TrainingProgress
from train.run import train
from train.warm_start_cache import dependencies, fingerprint

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("train_curves.json")
START = Path(__file__).with_name("warm_start")
EXACT = ("generated", "rollouts", "trained", "groups")
CLOSE = ("loss", "grad_norm", "entropy", "reward")
RTOL = 1e-3
LIBRARIES = ("torch", "transformers")  # of any version
CASES = {
    "uniform-grpo": ["scheduler.name=uniform"],
    "cures-reinforce++": ["scheduler.name=cures", "learner.estimator=reinforce++"],
}


def curve_of(overrides: list[str], *, makes_start: bool = False) -> dict[str, list[Any]]:
    """Ten updates of configs/smoke.toml with a smaller model."""
    assert START.exists() != makes_start, f"{START} is there once and for all"
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        wanted = ["model.hidden_size=32", "model.ffn_size=64", "warm_start.steps=500"]
        wanted += [f"run.cache={cache}", "run.rollouts=2560"]
        config = load(ROOT / "configs" / "smoke.toml", [*wanted, *overrides])
        if START.exists():
            about, now = read_json(START / "about.json")["depends_on"], dependencies(config)
            assert {k: about[k] for k in now if k not in LIBRARIES} == {
                k: v for k, v in now.items() if k not in LIBRARIES
            }, f"remove {START} and make it anew"
            shutil.copytree(START, cache / fingerprint(config))
        with TrainingProgress(Console(quiet=True)) as progress:
            train(config, Path(folder) / "run", progress)
        if makes_start:
            shutil.copytree(cache / fingerprint(config), START)
        rows = read_jsonl(Path(folder) / "run" / "metrics.jsonl")
    return {name: [row[name] for row in rows] for name in (*EXACT, *CLOSE)}


def is_close(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> bool:
    """Whether two curves are the same but for roundings; a loss near 0 counts by the largest."""
    for name in CLOSE:
        slack = RTOL * np.abs(expected[name]).max()
        if not np.allclose(found[name], expected[name], rtol=0.0, atol=slack):
            return False
    return True


@pytest.mark.parametrize("case", CASES)
def test_curves_are_what_they_were(case):
    expected = json.loads(FILE.read_text())[case]
    found = curve_of(CASES[case])
    assert {name: found[name] for name in EXACT} == {name: expected[name] for name in EXACT}
    assert is_close(found, expected), (found, expected)


def test_another_loss_would_be_seen():
    expected = json.loads(FILE.read_text())["uniform-grpo"]
    other = curve_of([*CASES["uniform-grpo"], "learner.aggregation=token"])
    assert not is_close(other, expected)


if __name__ == "__main__":
    if not START.exists():
        curve_of([], makes_start=True)
    curves = {case: curve_of(values) for case, values in CASES.items()}
    FILE.write_text(json.dumps(curves) + "\n")
