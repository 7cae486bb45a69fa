"""Which weights an engine must be given: all of the model's, by the names of its ``state_dict``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from transformers import PreTrainedModel

from cures.checks import InWords, fail


class WeightNames:
    """Names and shapes of a model's weights, without the weights.

    Tied weights, one tensor under several names, count as one.

    Parameters
    ----------
    model : PreTrainedModel
        Not kept; it may be on the meta device.

    Attributes
    ----------
    shape : dict of str to tuple of int
        By name.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.shape = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        first_name: dict[int, str] = {}
        tied = model.named_parameters(remove_duplicate=False)
        self._tied_to = {name: first_name.setdefault(id(value), name) for name, value in tied}

    def untied(self, named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Hand on every weight under each of its names; errors as of :meth:`checked`."""
        for weight, value in self.checked(named):
            first = self._tied_to.get(weight, weight)
            for name in self.shape:
                if self._tied_to.get(name, name) == first:
                    yield name, value

    def checked(self, named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Hand on every weight once.

        Raises
        ------
        ValueError
            At an unknown name or another shape; at the end, if a weight has not come.
        """
        missing = {self._tied_to.get(name, name) for name in self.shape}
        for name, value in named:
            if name not in self.shape:
                fail("load_weights", "name", f"one of the model's {len(self.shape)} weights", name)
            if tuple(value.shape) != self.shape[name]:
                fail("load_weights", name, f"of shape {self.shape[name]}", tuple(value.shape))
            weight = self._tied_to.get(name, name)
            if weight in missing:
                missing.discard(weight)
                yield name, value
        if missing:
            legal = f"all {len(self.shape)} weights of the model"
            fail("load_weights", "named", legal, InWords(f"none called {sorted(missing)[0]}"))
