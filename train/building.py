"""Configuration -> scheduler, model, host: what a run, an evaluation and a dry run have in common."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import cures
from cures.checks import fail
from train import checkpoint
from train.config import Config, from_dict
from train.errors import reading
from train.folder import read_config
from train.host import LanguageModelHost
from train.model import device_of, empty_model, new_model_of, pretrained_model
from train.model_config import PretrainedConfig
from train.oracle import SuccessProbe
from train.tasks.arithmetic import ArithmeticTask
from train.tasks.making import make_task
from train.tasks.protocol import Task
from train.warm_start import warm_start
from train.world import World


def fix_numerics(config: Config) -> None:
    """One thread count and deterministic kernels: the same run gives the same bits."""
    torch.set_num_threads(config.run.threads)
    if not torch.cuda.is_available():  # on a GPU some kernels have no deterministic form
        torch.use_deterministic_algorithms(True)


def build_scheduler(config: Config, task: Task, probe: SuccessProbe) -> cures.Scheduler:
    """The scheduler of ``[scheduler]``; keywords it requires and this host knows are filled in."""
    chosen = config.scheduler
    offered = {
        "category_N": task.category_N,
        "features_N_D": task.features_N_D,
        "prior_success_rate_N": task.prior_success_rate_N,
        "total_rollouts": config.run.rollouts,
        "true_success_rate": probe,
        "learnable": probe.learnable_N,
    }
    known_to_host = {keyword: value for keyword, value in offered.items() if value is not None}
    options: dict[str, Any] = {"seed": config.run.seed}
    for keyword, default in cures.scheduler_settings(chosen.name).items():
        if default is inspect.Parameter.empty and keyword in known_to_host:
            options[keyword] = known_to_host[keyword]
    for keyword, value in chosen.resolved_options().items():
        if isinstance(value, str) and value == "host":
            if keyword not in known_to_host:
                fail("[scheduler]", f"{keyword} = 'host'", f"one of {list(known_to_host)}", keyword)
            value = known_to_host[keyword]
        options[keyword] = value
    return cures.make_scheduler(
        chosen.name,
        num_prompts=len(task.pool.prompts),
        batch_size=chosen.batch_size,
        budget=chosen.budget,
        estimator=config.learner.estimator,
        **options,
    )


def initial_model(
    config: Config,
    task: Task,
    world: World,
    *,
    report: Callable[[int, int], None] = lambda step, steps: None,
) -> PreTrainedModel:
    """The model before the first update: warm started, or as it was published."""
    if isinstance(config.model, PretrainedConfig):
        return pretrained_model(
            config.model, task, device_of(config.model.device, world.local_rank)
        )
    assert isinstance(task, ArithmeticTask)  # or the configuration is refused
    if world.is_first:
        return _agreed(warm_start(config, task, report=report).model, world)
    return _agreed(new_model_of(config, task), world)


def _agreed(model: PreTrainedModel, world: World) -> PreTrainedModel:
    """The first rank's weights everywhere."""
    with torch.no_grad():
        for value in model.state_dict().values():
            if not world.is_first:
                value.zero_()
            world.add_up([value])
    return model


def build_host(
    config: Config,
    task: Task,
    world: World,
    root: Path,
    *,
    report: Callable[[int, int], None] = lambda step, steps: None,
) -> LanguageModelHost:
    """The host of a run, with the weights of the latest checkpoint or of the beginning.

    Parameters
    ----------
    config : Config
    task : Task
    world : World
    root : Path
        Of the checkpoints.
    report : callable
        Called with (step, steps) of a warm start.
    """
    reference = None
    is_new = checkpoint.latest_position(root) is None
    if is_new or config.learner.kl != "none":
        model = initial_model(config, task, world, report=report)
        reference = copy.deepcopy(model) if config.learner.kl != "none" else None
    if not is_new:
        model = _shell(config, task, world, root)
        checkpoint.load_weights(root, model)
    return LanguageModelHost(
        config, task, model, reference=reference, world=world, folder=root.parent
    )


def _shell(config: Config, task: Task, world: World, root: Path) -> PreTrainedModel:
    """A model that the weights of the latest checkpoint fit into."""
    if isinstance(config.model, PretrainedConfig):
        device = device_of(config.model.device, world.local_rank)
        with checkpoint.reading(root, "model/config.json"):
            return empty_model(config.model, checkpoint.model_folder(root), device)
    return new_model_of(config, task)


def restore(
    root: Path, host: LanguageModelHost, probe: SuccessProbe, saved: checkpoint.Checkpoint
) -> None:
    """Put what a checkpoint holds beside the weights into host and probe."""
    prefix = "oracle/"
    oracle = {k: v for k, v in saved.host_tensors.items() if k.startswith(prefix)}
    rest = {k: v for k, v in saved.host_tensors.items() if k not in oracle}
    with checkpoint.reading(root, "host-0.safetensors"):
        host.load_state(rest, generated=saved.position.generated, updates=saved.position.updates)
        probe.load_state_tensors({k.removeprefix(prefix): v for k, v in oracle.items()})


def load_run(folder: Path) -> tuple[Config, Task, LanguageModelHost]:
    """Configuration, task and host of a run folder, at its latest checkpoint.

    Raises
    ------
    ValueError
        If ``folder`` holds no run, no checkpoint, or a damaged one.
    """
    content = read_config(folder)
    with reading(folder / "config.json", "restore it, or train anew in another --out"):
        config = from_dict(content)
    root, world = folder / "checkpoint", World()
    position = checkpoint.latest_position(root)
    if position is None:
        fail("load_run", "folder", "a run folder with a checkpoint", str(folder))
    fix_numerics(config)
    task = make_task(config)
    host = build_host(config, task, world, root)
    host.at(generated=position.generated, updates=position.updates)
    return config, task, host
