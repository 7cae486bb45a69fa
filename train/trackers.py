"""Metrics for people's dashboards, beside ``metrics.jsonl``: TensorBoard and Weights & Biases."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cures.checks import fail
from train.config import RunConfig


class Tracker(Protocol):
    """Takes numbers by name."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """What was measured at an update."""
        ...

    def close(self) -> None:
        """Put everything where it belongs."""
        ...


class _TensorBoard:
    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # hides what was written after the checkpoint that a run resumes from
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, project: str, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=project,
            name=folder.name,
            id=run_id(folder),
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def run_id(folder: Path) -> str:
    """What a run folder is called at Weights & Biases: the same for the same place alone.

    Folders of one name in two places are two runs; one that is moved begins a new one.
    """
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    return f"{folder.name}-{place[:8]}"


def check_installed(config: RunConfig) -> None:
    """Refuse trackers that are not installed.

    Raises
    ------
    ValueError
        Naming the key of ``[run]``.
    """
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        fail("[run]", "tensorboard", "false, or: pip install tensorboard", True)
    if config.wandb is not None and importlib.util.find_spec("wandb") is None:
        fail("[run]", "wandb", "left out, or: pip install wandb", config.wandb)


def trackers(
    config: RunConfig, folder: Path, plain: Mapping[str, Any], first_step: int
) -> list[Tracker]:
    """Those that ``[run]`` asks for.

    Parameters
    ----------
    config : RunConfig
    folder : Path
        Run folder.
    plain : mapping
        The whole configuration.
    first_step : int
        The next update.
    """
    found: list[Tracker] = []
    if config.tensorboard:
        found.append(_TensorBoard(folder, first_step))
    if config.wandb is not None:
        found.append(_WeightsAndBiases(config.wandb, folder, plain))
    return found


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The values of a row that can be drawn; those of a mapping inside it as ``name/key``.

    Examples
    --------
    >>> numbers({"step": 3, "reward": 0.5, "held_out": None, "is_final": True})
    {'step': 3.0, 'reward': 0.5}
    >>> numbers({"verifier": {"judged": 8, "timeout": 0}})
    {'verifier/judged': 8.0, 'verifier/timeout': 0.0}
    """
    found: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{key}/{name}": number for name, number in numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = float(value)
    return found
