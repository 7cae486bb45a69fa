"""Configuration -> task."""

from __future__ import annotations

from train.config import Config
from train.tasks.arithmetic import ArithmeticTask
from train.tasks.protocol import Task


def make_task(config: Config) -> Task:
    """The task of ``[task]``, sampled at the temperature of ``[rollout]``."""
    return ArithmeticTask(config.task, config.rollout.decode_temperature)
