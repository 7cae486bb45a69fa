"""Configuration -> task."""

from __future__ import annotations

from train.config import Config
from train.tasks.arithmetic import ArithmeticTask
from train.tasks.arithmetic_config import ArithmeticConfig
from train.tasks.dataset_config import DatasetConfig
from train.tasks.protocol import Task


def make_task(config: Config) -> Task:
    """The task of ``[task]``, sampled at the temperature of ``[rollout]``."""
    temperature = config.rollout.decode_temperature
    if isinstance(config.task, ArithmeticConfig):
        return ArithmeticTask(config.task, temperature)
    # the characters need no tokenizer's libraries, and not every environment has reasoning-gym
    if isinstance(config.task, DatasetConfig):
        from train.tasks import dataset

        return dataset.build(config.task, temperature)
    from train.tasks import procedural

    return procedural.build(config.task, temperature)
