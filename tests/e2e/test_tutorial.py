"""The tutorial's commands, one after the other, as printed but for sizes.

The outcomes that `sim calibrate` reads are cut to those of the first policy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cures.storage import read_json, read_jsonl
from tests.unit.test_pages_commands import commands_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
POOL = (
    "--policy item_response --pool 100 --held-out 20 --rollouts 800 --batch-size 8 --grid-points 9"
)
MODEL = {
    "task.pool_size": 200, "task.held_out_size": 20, "warm_start.steps": 20, "run.rollouts": 2048,
    "scheduler.budget": 256, "model.hidden_size": 32, "model.ffn_size": 32, "model.layers": 1,
    "evaluation.every": 2048, "evaluation.samples": 1,
}  # fmt: skip
# what a later option of the same name makes smaller
SMALLER = {
    "sim compare": f"{POOL} --seeds 2 --dev-seeds 2".split(),
    "sim tune": f"{POOL} --trials 4 --batch 2 --top 1".split(),
    "train run": [word for key, value in MODEL.items() for word in ("--set", f"{key}={value}")],
    "sim calibrate": [],
    "train eval": ["--samples", "1"],
    "figures report": [],
}
# a part of what each prints, as the page shows it
SHOWN = {
    "sim compare": "Held-out success at equal rollouts",
    "sim tune": "further seeds, final held-out success [95 %]:",
    "train run": "held-out success",
    "train eval": "one sampled answer each, least significant digit first:",
    "figures report": "report/posterior.csv",
    "sim calibrate": "rollouts of the policy of step 0",
}


@pytest.mark.slow
def test_it_runs(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    commands = [words[2:] for words in commands_of(PAGE) if words[:2] == ["python", "-m"]]
    for words in commands:
        kind = " ".join(words[:2])
        if kind == "sim calibrate":  # so short a run does not tell how fast it learns
            log = tmp_path / words[2]
            first = [row for row in read_jsonl(log) if row["step"] == 0]
            log.write_text("".join(json.dumps(row) + "\n" for row in first))
        done = subprocess.run(
            [sys.executable, "-m", *words, *SMALLER[kind]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        assert SHOWN[kind] in PAGE
        dry = "rollouts over 200 prompts" if "--dry-run" in words else SHOWN[kind]
        assert dry in done.stdout
    assert {" ".join(words[:2]) for words in commands} == set(SMALLER)
    made = tmp_path / "runs" / "tutorial"
    for run in ("uniform", "tuned"):
        assert (made / run / "report" / "report.html").exists()
    tuned = tomllib.loads((made / "tuned.toml").read_text())["scheduler"]
    assert read_json(made / "tuned" / "config.json")["scheduler"]["name"] == tuned["name"]
    # what calibration wrote is a population, as the page says
    population = made / "pool" / "population.json"
    again = ["sim", "compare", "--schedulers", "uniform", "--population", str(population)]
    small = "--rollouts 800 --batch-size 8 --grid-points 9 --seeds 2 --dev-seeds 2 --out again"
    done = subprocess.run(
        [sys.executable, "-m", *again, *small.split()],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
