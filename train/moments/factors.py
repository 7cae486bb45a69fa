r"""The score of a linear layer as a sum of outer products over tokens.

For outputs :math:`W v_t + b` with inputs :math:`v_t` and errors
:math:`u_t = \partial \log\pi(y|x) / \partial (W v_t + b)`,

.. math:: \nabla_W \log\pi(y|x) = \sum_t u_t v_t^\top, \qquad \nabla_b \log\pi(y|x) = \sum_t u_t ,

so a bias is a weight of the constant input 1. Errors of hidden layers come from a backward pass
(train/moments/capture.py). Those of the head are known: at decode temperature :math:`\tau`

.. math:: u_t = \frac1\tau (e_{y_t} - \pi_t) .

They are as wide as the vocabulary, so they are made in blocks of columns and never kept. If the
embedding has the head's weight, each position p adds :math:`e_{x_p} \delta_p^\top` with the token
:math:`x_p` and the derivative :math:`\delta_p` of the log-probability by its embedding: more tokens,
whose "errors" are one-hot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, threshold

from train.engines.protocol import Decoding

MAX_ENTRIES = 2**22  # of what is made on the way, in float32 16 MB: more leaves the caches

# Products of smaller probabilities are subnormal numbers, which a CPU multiplies three times as slowly
NEGLIGIBLE = 1e-18


class Factors(Protocol):
    """Inputs and errors of one layer over R rollouts, padded to T tokens with products 0."""

    @property
    def inputs_R_T_a(self) -> Tensor:
        """Float32, a constant 1 for a bias last."""
        ...

    @property
    def error_width(self) -> int:
        """Columns of the errors."""
        ...

    def errors(self, columns: int) -> Iterator[Tensor]:
        """Float32 errors in blocks (R, T, c) of at most so many columns, in order."""
        ...

    def rows(self, first: int, last: int) -> Factors:
        """The rollouts ``first`` to ``last``, the latter not included."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LayerFactors:
    """Of a hidden layer."""

    inputs_R_T_a: Tensor
    errors_R_T_o: Tensor

    @classmethod
    def of(
        cls, inputs_R_T_a: Tensor, errors_R_T_o: Tensor, *, has_weight: bool, has_bias: bool
    ) -> LayerFactors:
        """From what a pass captured and what is chosen of the layer."""
        if not has_bias:
            return cls(inputs_R_T_a, errors_R_T_o)
        parts = [inputs_R_T_a] if has_weight else []
        parts.append(torch.ones_like(errors_R_T_o[:, :, :1]))
        return cls(torch.cat(parts, dim=2), errors_R_T_o)

    @property
    def error_width(self) -> int:
        """See :class:`Factors`."""
        return self.errors_R_T_o.shape[2]

    def errors(self, columns: int) -> Iterator[Tensor]:
        """See :class:`Factors`."""
        yield from torch.split(self.errors_R_T_o, columns, dim=2)

    def rows(self, first: int, last: int) -> LayerFactors:
        """See :class:`Factors`."""
        return LayerFactors(self.inputs_R_T_a[first:last], self.errors_R_T_o[first:last])


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingFactors:
    """Second term of a head that shares its weight with the embedding."""

    derivative_R_L_h: Tensor  # by the embedding of each position; 0 at padding
    ids_R_L: Tensor

    def errors(self, first: int, last: int) -> Tensor:
        """One-hot, these columns alone."""
        shape = (*self.ids_R_L.shape, last - first)
        block = torch.zeros(shape, device=self.derivative_R_L_h.device)
        _add_one_hot(block, self.ids_R_L, first, 1.0)
        return block

    def rows(self, first: int, last: int) -> EmbeddingFactors:
        """The rollouts ``first`` to ``last``, the latter not included."""
        return EmbeddingFactors(self.derivative_R_L_h[first:last], self.ids_R_L[first:last])


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The head as a function from hidden states to probabilities."""

    weight_V_h: Tensor
    bias_V: Tensor | None
    decoding: Decoding
    autocast: torch.dtype | None
    has_weight: bool  # whether the score has a part of the weight, of the bias
    has_bias: bool

    @property
    def vocabulary(self) -> int:
        """Number of tokens V."""
        return len(self.weight_V_h)

    def logits(self, hidden: Tensor, first: int, last: int) -> Tensor:
        """Before the temperature, of the tokens ``first`` to ``last``; float32."""
        bias = None if self.bias_V is None else self.bias_V[first:last]
        with torch.autocast(hidden.device.type, self.autocast, enabled=self.autocast is not None):
            found = linear(hidden.to(self.weight_V_h.dtype), self.weight_V_h[first:last], bias)
        return found.float()

    def probabilities(self, hidden: Tensor, columns: int) -> Iterator[tuple[int, Tensor]]:
        """Of the sampled policy, as ``log_policy`` has it: (first token, block), in order."""
        if columns >= self.vocabulary:
            yield 0, self._scaled(hidden, 0, columns).softmax(dim=-1)
            return
        # made twice, first for the sum over the whole vocabulary
        log_total = hidden.new_full(hidden.shape[:-1], torch.finfo(torch.float32).min)
        for first in range(0, self.vocabulary, columns):
            block = self._scaled(hidden, first, columns)
            log_total = torch.logaddexp(log_total, block.logsumexp(dim=-1))
        for first in range(0, self.vocabulary, columns):
            block = self._scaled(hidden, first, columns)
            yield first, block.sub_(log_total.unsqueeze(-1)).exp_()

    def _scaled(self, hidden: Tensor, first: int, columns: int) -> Tensor:
        """Logits over the temperature, -inf where a token is forbidden."""
        last = min(first + columns, self.vocabulary)
        logits = self.logits(hidden, first, last)
        if self.decoding.temperature != 1.0:
            logits = logits / self.decoding.temperature
        inside = [t - first for t in self.decoding.forbidden_tokens if first <= t < last]
        logits[..., inside] = -torch.inf
        return logits


@dataclass(frozen=True, slots=True, eq=False)
class HeadFactors:
    """Of the head."""

    head: Head
    hidden_R_T_h: Tensor  # float32, 0 after the end
    target_R_T: Tensor
    length_R: Tensor
    embedding: EmbeddingFactors | None = None

    @property
    def inputs_R_T_a(self) -> Tensor:
        """See :class:`Factors`; positions of the embedding follow the completion tokens.

        With sign and temperature of the errors, because inputs are far fewer.
        """
        parts = [self.hidden_R_T_h] if self.head.has_weight else []
        if self.head.has_bias:
            place_T = torch.arange(self.target_R_T.shape[1], device=self.length_R.device)
            is_real_R_T = place_T < self.length_R.unsqueeze(1)
            parts.append(is_real_R_T.unsqueeze(2).to(self.hidden_R_T_h.dtype))
        inputs = torch.cat(parts, dim=2) / -self.head.decoding.temperature
        if self.embedding is None:
            return inputs
        more = self.embedding.derivative_R_L_h
        if self.head.has_bias:
            more = torch.nn.functional.pad(more, (0, 1))
        return torch.cat([inputs, more], dim=1)

    @property
    def error_width(self) -> int:
        """See :class:`Factors`."""
        return self.head.vocabulary

    def errors(self, columns: int) -> Iterator[Tensor]:
        """See :class:`Factors`."""
        for first, block in self.head.probabilities(self.hidden_R_T_h, columns):
            threshold(block, NEGLIGIBLE, 0.0, inplace=True)
            _add_one_hot(block, self.target_R_T, first, -1.0)
            if self.embedding is not None:
                last = first + block.shape[2]
                block = torch.cat([block, self.embedding.errors(first, last)], dim=1)
            yield block

    def rows(self, first: int, last: int) -> HeadFactors:
        """See :class:`Factors`."""
        return HeadFactors(
            self.head,
            self.hidden_R_T_h[first:last],
            self.target_R_T[first:last],
            self.length_R[first:last],
            None if self.embedding is None else self.embedding.rows(first, last),
        )


def _add_one_hot(block_R_T_c: Tensor, token_R_T: Tensor, first: int, value: float) -> None:
    """Add a value at each position's token where it is among the block's columns, in place."""
    column_R_T = token_R_T - first
    is_inside = (column_R_T >= 0) & (column_R_T < block_R_T_c.shape[2])
    column_R_T = column_R_T.clamp(0, block_R_T_c.shape[2] - 1)
    block_R_T_c.scatter_add_(2, column_R_T.unsqueeze(2), (value * is_inside).unsqueeze(2))
