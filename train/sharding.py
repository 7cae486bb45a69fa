"""A policy spread over the ranks (FSDP2), and its whole weights brought together again.

Every decoder layer is a unit of its own: its weights are gathered for its part of a pass and dropped
afterwards. Gradients come back as *means* over the ranks (the only reduction that all backends have).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from train.policy import Policy, decoder_layers
from train.tensors import whole
from train.world import World


def shard(policy: Policy, world: World, precision: torch.dtype | None) -> None:
    """Replace the policy's weights by this rank's part of them, in place.

    Parameters
    ----------
    policy : Policy
        Whole and equal on all ranks.
    world : World
    precision : torch.dtype, optional
        That passes compute in; gradients are summed in float32.
    """
    device = next(policy.parameters()).device.type
    mesh = init_device_mesh(device, (world.size,))
    mixed = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
    for layer in decoder_layers(policy.model):
        fully_shard(layer, mesh=mesh, mp_policy=mixed)
    fully_shard(policy, mesh=mesh, mp_policy=mixed)


def reshard(policy: nn.Module) -> None:
    """Drop weights that a pass without backward has left gathered; nothing where nothing is sharded.

    Until then the policy's parameters are other objects than those of the optimiser.
    """
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight by its name, gathered one at a time; all ranks must go through all of them."""
    for name, value in model.state_dict().items():
        yield name, whole(value)
