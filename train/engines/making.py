"""Configuration -> the engine that generates a run's rollouts."""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import PreTrainedModel

from train.config import Config
from train.engines.protocol import Engine
from train.world import World


def make_engine(config: Config, model: PreTrainedModel, folder: Path, world: World) -> Engine:
    """The engine of ``[rollout]``; it has no weights yet.

    Parameters
    ----------
    config : Config
    model : PreTrainedModel
        The trainer's, before it is sharded. Engines of this process sample from it directly; where it
        will be sharded, and cannot generate by itself, from a copy.
    folder : Path
        Run folder: a server's log and the weights that it is handed.
    world : World
    """
    rollout = config.rollout
    if rollout.engine in ("native", "transformers"):
        is_sharded = config.learner.sharding == "fsdp" and world.size > 1
        own = copy.deepcopy(model) if is_sharded else model
        if rollout.engine == "native":
            from train.engines.native import NativeEngine

            return NativeEngine(own, max_rows=rollout.max_rows)
        from train.engines.transformers_engine import TransformersEngine

        return TransformersEngine(own, max_rows=rollout.max_rows)
    # vLLM is imported where it is wanted and nowhere else
    if rollout.engine == "vllm":
        from train.engines.vllm_engine import VllmEngine

        return VllmEngine(model, config.vllm)
    from train.engines.vllm_server import VllmServerEngine

    return VllmServerEngine(model, config.vllm, folder, world)
