"""Bytes of tensors that are alive at one time, counted and not measured: the same at every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes:
    """The most bytes, over all moments at which a tensor was added, of those added and still there."""

    def __init__(self) -> None:
        self.peak = 0
        self._size: dict[StorageWeakRef, int] = {}

    def add(self, tensor: Tensor) -> None:
        """From now on count the memory of ``tensor``, once however many tensors share it."""
        storage = tensor.untyped_storage()
        self._size[StorageWeakRef(storage)] = storage.nbytes()
        self._size = {ref: size for ref, size in self._size.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self._size.values()))


class KeptForBackward(torch.autograd.graph.saved_tensors_hooks):
    """While entered, counts what autograd keeps for backward, apart from ``weights``."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.live = LiveBytes()
        self._weights = {w.untyped_storage().data_ptr() for w in weights}
        super().__init__(self._keep, lambda tensor: tensor)

    def _keep(self, tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in self._weights:
            self.live.add(tensor)
        return tensor.detach()  # a result that holds itself would never go


class Computed(TorchDispatchMode):
    """While entered, counts all results of operations that ``is_counted`` picks."""

    def __init__(self, is_counted: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.live = LiveBytes()
        self._is_counted = is_counted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and self._is_counted(leaf):
                self.live.add(leaf)
        return found
