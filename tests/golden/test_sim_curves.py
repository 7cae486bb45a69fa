"""Learning curves of small runs: the same configuration and seed give the same numbers for ever.

``sim_curves.json`` was written by ``python -m tests.golden.test_sim_curves`` at commit 8dee42e, before
runs kept any other record than these curves. Success rates and rollout counts are compared to 1e-9: the
last bits depend on the machine's linear algebra, sampled answers practically never. A change of these
numbers needs a line in CHANGELOG.md that says why.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cures.storage import load_state
from sim.arm import run_arm
from sim.settings import Settings
from sim.task import ArmTask

FILE = Path(__file__).with_name("sim_curves.json")
CASES = [
    ("skills", "skills", "cures"),
    ("u_shaped", "skills", "speed"),
    ("coins", "item_response", "cures"),
    ("dead", "tabular", "uniform"),
]


def curve_of(population: str, policy: str, arm: str) -> dict[str, list[float]]:
    """Rollouts and held-out success after every update."""
    settings = Settings(
        arms=(arm,),
        population=population,
        policy=policy,
        pool=200,
        held_out=20,
        rollouts=3000,
        batch_size=8,
        seeds=1,
        dev_seeds=1,
        missing_rate=0.05,
        learning_rate=0.05,
    )
    task = ArmTask(arm, 0, False)
    with tempfile.TemporaryDirectory() as folder:
        run_arm(settings, task, Path(folder))
        curve = load_state(Path(folder) / task.folder / "curve.npz")
    return {name: np.asarray(curve[name]).tolist() for name in ("generated_U", "held_out_U")}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_curves_are_what_they_were(case):
    expected = json.loads(FILE.read_text())["-".join(case)]
    curve = curve_of(*case)
    assert curve["generated_U"] == expected["generated_U"]
    np.testing.assert_allclose(curve["held_out_U"], expected["held_out_U"], rtol=1e-9)


if __name__ == "__main__":
    FILE.write_text(json.dumps({"-".join(case): curve_of(*case) for case in CASES}) + "\n")
