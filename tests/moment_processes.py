"""What one rank of the test of moments under several processes does: measure, write, train on.

torchrun --nproc-per-node 2 -m tests.moment_processes FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

from cures.records import Moments
from tests.moment_cases import GROUP_B, model_of, policy_of, random_rollouts
from train.gradient_moments import gradient_moments
from train.moments_config import MomentsConfig
from train.sequences import Sequences
from train.sharding import reshard, shard
from train.tensors import whole
from train.world import World, joined_world

KINDS = ("qwen2", "qwen2-tied")
CONFIGS = {
    "head": MomentsConfig(),
    "last-block": MomentsConfig(parameters="last-block"),
    "linear, sketched": MomentsConfig(parameters="linear", exact_entries=0, sketch_size=8),
}
PASS_TOKENS = 30


def measured(world: World, *, is_sharded: bool) -> dict[str, np.ndarray]:
    """Moments of all cases, and a gradient that is taken afterwards."""
    prompts, rollouts = random_rollouts()
    found = {}
    for kind in KINDS:
        policy = policy_of(model_of(kind))
        if is_sharded:
            shard(policy, world, None)
        for name, config in CONFIGS.items():
            moments = gradient_moments(
                policy, prompts, rollouts, GROUP_B, config,
                pass_tokens=PASS_TOKENS, seed=5, world=world,
            )  # fmt: skip
            for f in fields(Moments):
                found[f"{kind}/{name}/{f.name}"] = getattr(moments, f.name)
        sequences = Sequences.of(prompts, rollouts.token_R_T, rollouts.length_R)
        policy(sequences).log_prob_F.sum().backward()
        reshard(policy)
        for name, parameter in policy.model.named_parameters():
            found[f"{kind}/gradient/{name}"] = whole(parameter.grad).numpy()
    return found


def main() -> None:
    """Write one file per rank and kind of sharding."""
    with joined_world() as world:
        for is_sharded in (False, True):
            found = measured(world, is_sharded=is_sharded)
            np.savez(Path(sys.argv[1]) / f"{world.rank}-{is_sharded}.npz", **found)


if __name__ == "__main__":
    main()
