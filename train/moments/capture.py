"""One pass of the policy -> inputs and errors of the chosen layers at every token.

Rows of a pass do not see each other, so the derivative of the *sum* of their log-probabilities by a
layer's output is, row by row, the derivative of that row's own: one backward pass for all rollouts, and
none of the weights' gradients is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.distributed.fsdp import FSDPModule

from cures.checks import IntArray, InWords, fail
from train.hooks import inputs_of
from train.moments.parameters import WHERE, ParameterSet, Part
from train.policy import Policy
from train.sequences import Sequences


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """What scores are made of, float32, rows of rollouts padded with zeros.

    Attributes
    ----------
    layers : list of (inputs (R, L, a), errors (R, L, b))
        Of ``ParameterSet.layers``, without a column for the bias.
    hidden_R_T_h : Tensor or None
        Inputs of the head at the positions that predict completion tokens.
    derivative_R_L_h : Tensor or None
        Of the log-probability by the embedding of each position.
    """

    layers: list[tuple[Tensor, Tensor]]
    hidden_R_T_h: Tensor | None = None
    derivative_R_L_h: Tensor | None = None

    @classmethod
    def together(cls, parts: Sequence[Captured], places: Sequence[IntArray]) -> Captured:
        """All rows of several passes: row i of part p becomes row ``places[p][i]``."""

        def joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
            given = [tensor for tensor in tensors if tensor is not None]
            return _together(given, places) if given else None

        layers = [
            (_together([i for i, _ in calls], places), _together([e for _, e in calls], places))
            for calls in zip(*(part.layers for part in parts), strict=True)
        ]
        return cls(
            layers,
            joined([part.hidden_R_T_h for part in parts]),
            joined([part.derivative_R_L_h for part in parts]),
        )


def _together(tensors: Sequence[Tensor], places: Sequence[IntArray]) -> Tensor:
    rows, width = sum(map(len, tensors)), max(tensor.shape[1] for tensor in tensors)
    table = tensors[0].new_zeros(rows, width, tensors[0].shape[2])
    for tensor, place in zip(tensors, places, strict=True):
        table[torch.from_numpy(place).to(table.device), : tensor.shape[1]] = tensor
    return table


def capture(policy: Policy, sequences: Sequences, chosen: ParameterSet) -> Captured:
    """Run one pass.

    Parameters
    ----------
    policy : Policy
        All ranks together if it is sharded.
    sequences : Sequences
        On the policy's device.
    chosen : ParameterSet

    Raises
    ------
    ValueError
        If a chosen layer does not see every token of a row once.
    """
    if not chosen.needs_backward:
        return Captured([], _by_row(_last_hidden(policy, sequences), sequences))
    parts = [*chosen.layers]
    if chosen.embedding is not None:
        parts.append(Part("embedding", chosen.embedding, has_weight=True, has_bias=False))
    # a compiled body has no place for hooks
    with torch.enable_grad(), torch.compiler.set_stance("force_eager"):
        with _recorded(parts) as calls, inputs_of(policy.head) as hidden:
            log_prob = policy(sequences).log_prob_F.sum()
        for part, found in zip(parts, calls, strict=True):
            _require_rows(part, found, sequences)
        errors = torch.autograd.grad(log_prob, [found[0].edge for found in calls])
    layers = [
        (found[0].input.float(), error.float()) for found, error in zip(calls, errors, strict=True)
    ]
    derivative = layers.pop()[1] if chosen.embedding is not None else None
    states = None if chosen.head is None else _by_row(torch.cat(hidden), sequences)
    return Captured(layers, states, derivative)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    input: Tensor
    edge: GradientEdge  # of the output as it was, should somebody change it in place


@contextmanager
def _recorded(parts: Sequence[Part]) -> Iterator[list[list[_Call]]]:
    """Calls of the layers; of forward passes alone, though checkpointing repeats them later."""
    calls: list[list[_Call]] = [[] for _ in parts]

    def hook_into(found: list[_Call]) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.requires_grad:  # nothing before it is trained
                output.requires_grad_()
            found.append(_Call(arguments[0].detach(), get_gradient_edge(output)))

        return hook

    handles = [
        part.module.register_forward_hook(hook_into(found))
        for part, found in zip(parts, calls, strict=True)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _require_rows(part: Part, calls: list[_Call], sequences: Sequences) -> None:
    shape = tuple(sequences.ids_R_L.shape)
    found = [tuple(call.input.shape[:2]) for call in calls]
    if found != [shape]:
        legal = f"layers that see every token of a row, once (here one call, {shape} tokens)"
        fail(WHERE, "parameters", legal, InWords(f"{part.name}, called with {found}"))


@torch.no_grad()
def _last_hidden(policy: Policy, sequences: Sequences) -> Tensor:
    """Hidden states (F, h) before the head."""
    if isinstance(policy, FSDPModule):  # whose weights are gathered by its own call alone
        with inputs_of(policy.head) as hidden:
            policy(sequences)
        return torch.cat(hidden)
    device = sequences.ids_R_L.device.type
    has_autocast = policy.autocast is not None
    with torch.autocast(device, policy.autocast) if has_autocast else nullcontext():
        return policy.hidden(sequences)


def _by_row(hidden_F_h: Tensor, sequences: Sequences) -> Tensor:
    """Flat completion tokens -> (R, T, h), float32, zeros after the end."""
    length_R = sequences.predicts_R_L.sum(dim=1)
    width = int(length_R.max())
    place_T = torch.arange(width, device=length_R.device)
    table = hidden_F_h.new_zeros((len(length_R), width, hidden_F_h.shape[1]), dtype=torch.float32)
    table[place_T < length_R.unsqueeze(1)] = hidden_F_h.float()
    return table
