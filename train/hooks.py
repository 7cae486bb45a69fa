"""What passes through a module of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """What a module is given, call by call, without graph."""
    inputs: list[Tensor] = []

    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append(arguments[0].detach())

    handle = module.register_forward_pre_hook(hook)
    try:
        yield inputs
    finally:
        handle.remove()
