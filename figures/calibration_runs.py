"""The runs behind docs/results/calibration.md: pilots, a log, a prediction, and the real arms.

All of them start from one warm start: a calibration is of one model. The simulated arms run before
the real ones. Every run is resumable; a finished one is recognised by ``train`` or ``sim`` itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures.training_runs import run_quietly, training_command

CONFIG = "configs/tiny_cpu.toml"
POOL, BATCH, GROUP, PILOTS = 4000, 128, 8, 8
LOG_SEED = 1000  # of the run whose log is calibrated on; no compared run has it
NAME = "tiny-lm"
SIMULATED = (
    "sim"  # folder of the calibrated prediction, beside the one of the simulator as it comes
)
CONTROL = ("sim-default", "skills")


@dataclass(frozen=True, slots=True)
class Arm:
    """A scheduler and its options, and what they are called in the tables."""

    label: str
    scheduler: str
    options: Mapping[str, Any]


ARMS = (
    Arm("uniform", "uniform", {}),
    Arm("cures", "cures", {"temperature": 0.05}),
    Arm("cures@whole", "cures", {"temperature": 0.05, "num_subsets": 1, "pilots": 2}),
    Arm("cures@flat", "cures", {"temperature": 0.5}),
    Arm("gvm", "gvm", {}),
    Arm("speed", "speed", {}),
    Arm("dapo", "dapo", {}),
    Arm("band", "band", {}),
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run.

    Attributes
    ----------
    labels : tuple of str
        Arms compared.
    seeds, simulated_seeds : int
        Runs of every arm, real and simulated.
    rollouts : int
        Of every run.
    """

    labels: tuple[str, ...]
    seeds: int
    simulated_seeds: int
    rollouts: int

    @property
    def arms(self) -> tuple[Arm, ...]:
        """In the order of :data:`ARMS`."""
        return tuple(arm for arm in ARMS if arm.label in self.labels)


FULL = Size(tuple(arm.label for arm in ARMS), seeds=4, simulated_seeds=16, rollouts=61_440)
QUICK = Size(
    ("uniform", "cures", "cures@whole", "gvm", "speed", "dapo"), seeds=2, simulated_seeds=16,
    rollouts=30_720,
)  # fmt: skip


def arm_folder(root: Path, label: str, seed: int) -> Path:
    """Where a real run lives."""
    return root / "train" / f"{label}-seed{seed}"


def make_runs(root: Path, size: Size) -> None:
    """Make whatever is missing, one process after the other.

    Raises
    ------
    subprocess.CalledProcessError
        If a command fails.
    """
    pilots, log = root / "pilots", root / "log"
    whole = Arm("pilots", "cures", {"num_subsets": 1, "pilots": PILOTS})
    _train(root, pilots, whole, LOG_SEED, POOL * PILOTS)  # ends before the first update
    _train(root, log, ARMS[0], LOG_SEED, size.rollouts)
    _simulate(*calibrate_command(root))
    for folder, population in ((SIMULATED, f"{root}/calibration/population.json"), CONTROL):
        _simulate(*compare_command(root / folder, population, size))
    for seed in range(size.seeds):
        for arm in size.arms:
            _train(root, arm_folder(root, arm.label, seed), arm, seed, size.rollouts)


def calibrate_command(root: Path) -> tuple[str, ...]:
    """Arguments of ``python -m sim`` that estimate the population."""
    return (
        "calibrate", f"{root}/pilots/outcomes.jsonl", "--log", f"{root}/log/outcomes.jsonl",
        "--name", NAME, "--group-size", f"{GROUP}", "--out", f"{root}/calibration",
    )  # fmt: skip


def compare_command(folder: Path, population: str, size: Size) -> tuple[str, ...]:
    """Arguments of ``python -m sim`` that predict the arms on some population."""
    options = [
        f"{arm.label}.{key}={json.dumps(value)}"
        for arm in size.arms
        for key, value in arm.options.items()
    ]
    return (
        "compare", "--schedulers", *size.labels, "--set", *options,
        "--population", population, "--pool", f"{POOL}",
        "--batch-size", f"{BATCH}", "--group-size", f"{GROUP}", "--rollouts", f"{size.rollouts}",
        "--seeds", f"{size.simulated_seeds}", "--dev-seeds", "2", "--outcomes",
        "--out", f"{folder}",
    )  # fmt: skip


def _train(root: Path, folder: Path, arm: Arm, seed: int, rollouts: int) -> None:
    settings = {"run.seed": seed, "run.rollouts": rollouts, "run.cache": f"{root}/warm_start"}
    _say_and_run(training_command(CONFIG, arm.scheduler, folder, settings, arm.options))


def _simulate(*arguments: str) -> None:
    _say_and_run([sys.executable, "-m", "sim", *arguments])


def _say_and_run(command: list[str]) -> None:
    print("$ " + " ".join(["python", *command[1:]]), flush=True)
    run_quietly(command)
