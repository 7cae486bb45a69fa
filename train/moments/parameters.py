"""Which parameters a score is taken with respect to: weights and biases of linear layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from torch import nn
from transformers.pytorch_utils import Conv1D

from cures.checks import fail
from train.policy import Policy

WHERE = "[moments]"
HEAD, LAST_BLOCK, LINEAR = "head", "last-block", "linear"
LINEAR_MODULES = (
    nn.Linear,
    Conv1D,
)  # the latter (GPT-2) keeps its weight transposed: same products


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What is chosen of one linear layer."""

    name: str
    module: nn.Module
    has_weight: bool
    has_bias: bool

    @property
    def weight(self) -> nn.Parameter:
        """The layer's weight, chosen or not."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The layer's bias, chosen or not."""
        bias = self.module.bias
        assert bias is None or isinstance(bias, nn.Parameter)
        return bias

    @property
    def widths(self) -> tuple[int, int]:
        """Columns of its inputs, a constant 1 for the bias included, and of its errors."""
        out, in_ = self.weight.shape
        if isinstance(self.module, Conv1D):
            out, in_ = in_, out
        return self.has_weight * in_ + self.has_bias, out


@dataclass(frozen=True, slots=True, eq=False)
class ParameterSet:
    """The chosen layers; the head apart, because its errors have a closed form.

    Attributes
    ----------
    layers : tuple of Part
        Without the head.
    head : Part or None
    embedding : nn.Embedding or None
        Has the same weight as the chosen head: a second term of the score.
    """

    layers: tuple[Part, ...]
    head: Part | None
    embedding: nn.Embedding | None

    @property
    def needs_backward(self) -> bool:
        """Whether a pass has to be differentiated."""
        return bool(self.layers) or self.embedding is not None

    def entries(self, positions: int, completion_tokens: int) -> int:
        """Numbers kept of a rollout for exact inner products.

        Parameters
        ----------
        positions : int
            Tokens of prompt and completion that a pass computes.
        completion_tokens : int
        """
        kept = positions * sum(sum(part.widths) for part in self.layers)
        if self.head is not None:
            hidden = self.head.weight.shape[1]
            kept += hidden * completion_tokens
            if self.embedding is not None:
                kept += hidden * positions
        return kept


def parameter_set(policy: Policy, chosen: str) -> ParameterSet:
    """Find the layers that are meant.

    Parameters
    ----------
    policy : Policy
    chosen : str
        ``head``; ``last-block``, the linear layers of the last decoder layer; ``linear``, all linear
        layers of the model, head included; or names as in ``named_modules`` of the model, of layers
        (weight and bias) or with ``.weight`` or ``.bias`` of one of the two. Several with commas.

    Raises
    ------
    ValueError
        If a name is none of these, or if a weight is shared in a way that scores would miss.
    """
    model, head = policy.model, policy.head
    linear: dict[str, nn.Module] = {
        name: module for name, module in model.named_modules() if isinstance(module, LINEAR_MODULES)
    }
    head_name = next((n for n, m in linear.items() if m is head and isinstance(m, nn.Linear)), None)
    found: dict[str, set[str]] = {}
    for word in (word.strip() for word in chosen.split(",")):
        for name, kinds in _meant(policy, word, linear, head_name).items():
            found.setdefault(name, set()).update(kinds)
    parts = {
        name: Part(name, linear[name], "weight" in kinds, "bias" in kinds)
        for name, kinds in found.items()
    }
    tied = _require_unshared(policy, parts, head_name)
    head_part = parts.pop(head_name, None) if head_name is not None else None
    return ParameterSet(tuple(parts.values()), head_part, tied)


def _meant(
    policy: Policy, word: str, linear: dict[str, nn.Module], head_name: str | None
) -> dict[str, set[str]]:
    """Layer -> ``weight``, ``bias`` of one word."""
    if word == HEAD and head_name is not None:
        return {head_name: _kinds(policy.head)}
    if word == LAST_BLOCK:
        prefix = _last_block(policy) + "."
        return {n: _kinds(m) for n, m in linear.items() if n.startswith(prefix)}
    if word == LINEAR:
        return {n: _kinds(m) for n, m in linear.items()}
    if word in linear:
        return {word: _kinds(linear[word])}
    owner, _, kind = word.rpartition(".")
    if owner in linear and kind in _kinds(linear[owner]):
        return {owner: {kind}}
    _refuse(
        f"{HEAD}, {LAST_BLOCK}, {LINEAR}, or linear layers such as {next(iter(linear))!r}", word
    )


def _kinds(module: nn.Module) -> set[str]:
    return {kind for kind in ("weight", "bias") if getattr(module, kind, None) is not None}


def _last_block(policy: Policy) -> str:
    depth = policy.model.config.num_hidden_layers
    for name, module in policy.model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return f"{name}.{depth - 1}"
    _refuse(f"names of layers: the model has no list of {depth} decoder layers", LAST_BLOCK)


def _require_unshared(
    policy: Policy, parts: dict[str, Part], head_name: str | None
) -> nn.Embedding | None:
    """Refuse weights that act in several places, but for the head's in the embedding."""
    owners: dict[int, list[str]] = {}
    for name, module in policy.model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    for name, part in parts.items():
        others = [o for o in owners[id(part.weight)] if o != name]
        if not (others and part.has_weight):
            continue
        embedding = policy.model.get_input_embeddings()
        if name != head_name or [policy.model.get_submodule(o) for o in others] != [embedding]:
            _refuse("layers with weights of their own", f"{name}, shared with {', '.join(others)}")
        # a subclass may scale what it looks up, and these options change gradients
        if (
            type(embedding) is nn.Embedding
            and embedding.max_norm is None
            and not embedding.scale_grad_by_freq
        ):
            return embedding
        legal = f"another set, such as {LAST_BLOCK}: the head shares its weight with a special "
        _refuse(legal + "embedding", f"{name}, with a {type(embedding).__name__}")
    return None


def _refuse(legal: str, value: str) -> NoReturn:
    fail(WHERE, "parameters", legal, value)
