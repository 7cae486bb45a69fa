"""Prompts and completions -> log-probabilities of the sampled policy: one definition for everybody.

The policy is the model's distribution at the decoding's temperature over the tokens that may follow. If
sampler and loss disagreed on either, the PPO ratio would differ from 1 before the first step.

The body of the model runs over padded rows, its head over completion tokens alone and over so many at
a time that the logits stay small: at a vocabulary of 150,000 they are most of the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from cures.checks import fail
from train.engines.protocol import Decoding
from train.sequences import Sequences
from train.tensors import local

# exp(-1e4) is 0 in float32, while -inf would make the entropy's 0 * -inf a NaN
FORBIDDEN_LOGIT = -1e4
MAX_LOGITS = 2**25  # held at once, in float32 128 MB
# settings under which logits are not head(hidden); such a model would be sampled as another one
CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def log_policy(logits: Tensor, decoding: Decoding) -> Tensor:
    """Log-probabilities over the vocabulary, float32, same shape; forbidden tokens get none."""
    logits = logits.float()
    if not decoding.forbidden_tokens:
        return (logits / decoding.temperature).log_softmax(dim=-1)
    forbidden = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    forbidden[list(decoding.forbidden_tokens)] = True
    largest = logits.masked_fill(forbidden, -torch.inf).amax(dim=-1, keepdim=True)
    # measured from the largest legal logit, so that no temperature brings a forbidden one near
    scaled = (logits - largest.detach()) / decoding.temperature
    return scaled.masked_fill(forbidden, FORBIDDEN_LOGIT).log_softmax(dim=-1)


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """What the loss needs of every completion token, flat."""

    log_prob_F: Tensor  # float32, of the token taken
    entropy_F: Tensor  # float32, nats, of the distribution that it was taken from


class Policy(nn.Module):
    """A causal language model under a decoding.

    Parameters
    ----------
    model : PreTrainedModel
        With a body (``base_model``) and a linear head over its last hidden states.
    decoding : Decoding
        Of positive temperature.
    autocast : torch.dtype, optional
        The dtype that matrix products run in, bfloat16 for instance; log-probabilities are float32.
    recomputes_activations : bool
        Keep the input of each decoder layer only, and compute the layer once more in backward.
    is_compiled : bool
        Run the body through ``torch.compile``; generation keeps the plain one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        decoding: Decoding,
        autocast: torch.dtype | None = None,
        *,
        recomputes_activations: bool = False,
        is_compiled: bool = False,
    ) -> None:
        super().__init__()
        for name in CHANGED_LOGITS:
            value = getattr(model.config, name, None)
            if value not in (None, 1, 1.0):
                fail("Policy", f"{name} of the model", "absent: logits must be the head's", value)
        if decoding.temperature == 0.0:
            fail("Policy", "temperature", "> 0", 0.0)
        self.model = model
        self.decoding = decoding
        self.autocast = autocast
        if recomputes_activations:
            for layer in decoder_layers(model):
                layer.forward = _recomputed(layer.forward)
        body = model.base_model
        # in a tuple, so that it is no second owner of the weights
        self._body = (torch.compile(body, dynamic=True) if is_compiled else body,)

    @property
    def head(self) -> nn.Module:
        """Hidden states -> logits."""
        head: nn.Module = self.model.get_output_embeddings()
        return head

    def states(self, ids_R_L: Tensor) -> Tensor:
        """Last hidden states of whole rows, shape (R, L, h)."""
        (body,) = self._body
        states: Tensor = body(input_ids=ids_R_L, use_cache=False).last_hidden_state
        return states

    def hidden(self, sequences: Sequences) -> Tensor:
        """Last hidden states at the positions that predict completion tokens, shape (F, h).

        Rows are padded on the right, so positions equal those of generation and, attention being
        causal, no padding is ever attended to by a real token.
        """
        hidden: Tensor = self.states(sequences.ids_R_L)[sequences.predicts_R_L]
        return hidden

    def forward(self, sequences: Sequences) -> TokenTerms:
        """Teacher-forced terms of every completion token, in the order of ``target_F``."""
        with torch.autocast(
            sequences.ids_R_L.device.type, self.autocast, enabled=self.autocast is not None
        ):
            hidden_F_h = self.hidden(sequences)
            size = max(1, MAX_LOGITS // self.model.config.vocab_size)
            terms = self._terms if len(hidden_F_h) <= size else _recomputed(self._terms)
            parts = [
                terms(hidden, target)
                for hidden, target in zip(
                    torch.split(hidden_F_h, size),
                    torch.split(sequences.target_F, size),
                    strict=True,
                )
            ]
        return TokenTerms(
            torch.cat([log_prob for log_prob, _ in parts]),
            torch.cat([entropy for _, entropy in parts]),
        )

    def _terms(self, hidden_F_h: Tensor, target_F: Tensor) -> tuple[Tensor, Tensor]:
        log_policy_F_V = log_policy(self.head(hidden_F_h), self.decoding)
        log_prob_F = log_policy_F_V.gather(-1, target_F.unsqueeze(-1)).squeeze(-1)
        return log_prob_F, -(log_policy_F_V.exp() * log_policy_F_V).sum(dim=-1)


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The layers that a model's body is a stack of.

    Raises
    ------
    ValueError
        If its body has no ``layers``.
    """
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        fail("decoder_layers", "model", "one whose body has a list of layers", type(model).__name__)
    return layers


def _recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; what it computes on the way is made anew in backward."""

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*arguments, **options)
        return checkpoint(function, *arguments, use_reentrant=False, **options)

    return call


@torch.no_grad()
def is_finite(policy: Policy, sequences: Sequences) -> bool:
    """Whether weights and log-probabilities are finite: large finite weights can give NaN.

    Of a sharded policy, this rank's part of the weights.
    """
    weights = all(bool(local(p).isfinite().all()) for p in policy.parameters())
    terms = policy(sequences)
    return weights and bool(terms.log_prob_F.isfinite().all() & terms.entropy_F.isfinite().all())
