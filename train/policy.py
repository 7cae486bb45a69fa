"""Logits -> log-probabilities of the sampled policy: the one definition for sampler, loss and scores.

The policy is the model's distribution at ``decode_temperature`` over the tokens that may follow. If
sampler and loss disagreed on either, the PPO ratio would differ from 1 before the first step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from train.tasks.characters import FORBIDDEN_TOKENS

# exp(-1e4) is 0 in float32, while -inf would make the entropy's 0 * -inf a NaN
FORBIDDEN_LOGIT = -1e4


def log_policy(logits: Tensor, decode_temperature: float) -> Tensor:
    """Log-probabilities over the vocabulary, same shape as ``logits``; PAD and BOS get none."""
    forbidden = torch.zeros(logits.shape[-1], dtype=torch.bool)
    forbidden[list(FORBIDDEN_TOKENS)] = True
    largest = logits.float().masked_fill(forbidden, -torch.inf).amax(dim=-1, keepdim=True)
    # measured from the largest legal logit, so that no temperature brings a forbidden one near
    scaled = (logits.float() - largest.detach()) / decode_temperature
    return scaled.masked_fill(forbidden, FORBIDDEN_LOGIT).log_softmax(dim=-1)


def completion_log_policy(
    model: PreTrainedModel, prompt_R_L: Tensor, token_R_T: Tensor, decode_temperature: float
) -> Tensor:
    """Teacher-forced log-probabilities at every completion position, shape (R, T, vocabulary).

    Completions are padded on the right, so positions equal those of generation and, attention being
    causal, no padding is ever attended to by a real token.
    """
    length = prompt_R_L.shape[1]
    ids = torch.cat([prompt_R_L, token_R_T[:, :-1]], dim=1)  # the last token predicts nothing
    logits = model(input_ids=ids, use_cache=False).logits
    return log_policy(logits[:, length - 1 :], decode_temperature)


@torch.no_grad()
def is_finite(
    model: PreTrainedModel, prompt_R_L: Tensor, token_R_T: Tensor, decode_temperature: float
) -> bool:
    """Whether weights and log-probabilities are finite: large finite weights can give NaN."""
    weights = all(bool(p.isfinite().all()) for p in model.parameters())
    policy = completion_log_policy(model, prompt_R_L, token_R_T, decode_temperature)
    return weights and bool(policy.isfinite().all())


def token_log_prob(log_policy_R_T_V: Tensor, token_R_T: Tensor) -> Tensor:
    """Log-probability of the tokens taken, shape (R, T)."""
    return log_policy_R_T_V.gather(-1, token_R_T.unsqueeze(-1)).squeeze(-1)


def token_mask(length_R: Tensor, width: int) -> Tensor:
    """True at the tokens that were generated (EOS included), shape (R, T)."""
    return torch.arange(width).unsqueeze(0) < length_R.unsqueeze(1)
