"""Is a run that was stopped at a checkpoint and gone on with the run that was left alone?"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.gpu_check.curriculum import FOLDER, run_config
from benchmarks.gpu_check.material import Setting
from benchmarks.gpu_check.stopping import StoppedError, StoppingProgress
from train.checkpoint import model_folder
from train.progress import TrainingProgress
from train.run import train

UPDATES, SAVED = 4, 2
# Of the way that the weights went. On a CPU it is 0, and logs are equal too; on a GPU some kernels add
# up in an order of their own. A run resumed without its optimiser's state is farther
# away (the control in tests/unit/test_gpu_check.py).
GPU_LIMIT = 0.05
LOGS = ("metrics", "outcomes", "evaluation")


def resume(setting: Setting) -> dict[str, Any]:
    """Two runs of four updates of ``adaptive``, one of them stopped after the third, when the latest
    checkpoint is that of the second, and gone on with."""
    budget = setting.profile.sections["scheduler"]["budget"]
    config = run_config(
        setting, "adaptive", 0,
        evaluation={"every": 2 * budget, "samples": 1},
        run={"rollouts": UPDATES * budget, "checkpoint_every": SAVED},
    )  # fmt: skip
    root = setting.out / "resume"
    shutil.rmtree(root, ignore_errors=True)
    # kernels that add up in an order of their own would make two uninterrupted runs differ as well
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=setting.has_gpu)
    silent, was_stopped = TrainingProgress(Console(file=io.StringIO())), False
    try:
        train(config, root / "alone", silent)
        try:
            train(config, root / "stopped", StoppingProgress(SAVED + 1))
        except StoppedError:
            was_stopped = True
            train(config, root / "stopped", silent)
    finally:
        torch.use_deterministic_algorithms(before)
    start = load_file(setting.out / FOLDER / "model" / "model.safetensors")
    found = compare(root / "alone", root / "stopped", start)
    limit = GPU_LIMIT if setting.has_gpu else 0.0
    is_same = found["distance"] <= limit and (found["logs_are_equal"] or setting.has_gpu)
    holds = was_stopped and found["way"] > 0.0 and is_same
    shutil.rmtree(root)
    return {"rows": [{**found, "limit": limit, "holds": holds}], "updates": UPDATES, "holds": holds}


def compare(alone: Path, stopped: Path, start: Mapping[str, Tensor]) -> dict[str, Any]:
    """Logs byte for byte, and the distance of the last weights in units of the way they went."""
    logs = [[(run / f"{log}.jsonl").read_bytes() for log in LOGS] for run in (alone, stopped)]
    one, other = (
        load_file(model_folder(run / "checkpoint") / "model.safetensors")
        for run in (alone, stopped)
    )
    way, apart = _norm(one, start), _norm(one, other)
    return {
        "logs_are_equal": logs[0] == logs[1],
        "way": way,
        "distance": apart / way if way else float(apart > 0.0),
    }


def _norm(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    squares = [float((one[name].double() - other[name].double()).square().sum()) for name in one]
    return float(sum(squares) ** 0.5)
