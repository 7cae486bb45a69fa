"""Uniform numbers -> tokens, by the inverse of the cumulative distribution: one number per token.

The numbers come from the prompt's seed and the row's place among the prompt's rows, so a row depends
neither on the other prompts, nor on its prompt's quota, nor on how a batch is cut; and two models that
are sampled with the same seeds are coupled.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cures.checks import FloatArray, IntArray
from train.engines.protocol import Decoding
from train.errors import TrainingDivergedError
from train.policy import log_policy


def uniforms(seed_P: IntArray, quota_P: IntArray, width: int) -> FloatArray:
    """One number in [0, 1) per row and step, shape (R, width).

    Of float64, because a float32 has only 2^24 values, too coarse for tokens of probability 1e-7, whose
    log-probability enters the loss.
    """
    parts = [
        np.random.default_rng(seed).random((quota, width))
        for seed, quota in zip(seed_P.tolist(), quota_P.tolist(), strict=True)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, width))


def draw(logits: Tensor, uniform_R: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """A token per row and its log-probability under the policy that it was drawn from.

    Parameters
    ----------
    logits : Tensor, shape (R, V)
        Of the next token; left as it is.
    uniform_R : Tensor of float64, shape (R,)
        In [0, 1); unused at temperature 0.
    decoding : Decoding

    Returns
    -------
    token_R : Tensor of int64, shape (R,)
    log_prob_R : Tensor of float32, shape (R,)

    Raises
    ------
    TrainingDivergedError
        If a probability is not finite.
    """
    if decoding.temperature == 0.0:
        legal = logits.clone()
        legal[:, list(decoding.forbidden_tokens)] = -torch.inf
        require_finite(legal.amax(dim=-1))
        return legal.argmax(dim=-1), torch.zeros(len(logits), device=logits.device)
    log_policy_R_V = log_policy(logits, decoding)
    require_finite(log_policy_R_V)
    cumulative_R_V = log_policy_R_V.double().exp().cumsum(dim=-1)
    total_R = cumulative_R_V[:, -1]
    # below the total even where the product is rounded up: the first token that exceeds it exists
    point_R = torch.minimum(uniform_R * total_R, torch.nextafter(total_R, total_R.new_zeros(())))
    token_R = torch.searchsorted(cumulative_R_V, point_R.unsqueeze(1), right=True).squeeze(1)
    log_prob_R = log_policy_R_V.gather(-1, token_R.unsqueeze(-1)).squeeze(-1)
    # a GPU adds in another order at each place, so that a token of probability 0 may seem to have some
    is_legal_R = log_prob_R.double().exp() > 0.0
    if bool(is_legal_R.all()):  # nearly always: no further pass over the vocabulary
        return token_R, log_prob_R
    likeliest_log_prob_R, likeliest_R = log_policy_R_V.max(dim=-1)
    return (
        torch.where(is_legal_R, token_R, likeliest_R),
        torch.where(is_legal_R, log_prob_R, likeliest_log_prob_R),
    )


def require_finite(values: Tensor) -> None:
    """Refuse what a model that has diverged gives.

    Raises
    ------
    TrainingDivergedError
        If logits or log-probabilities are not finite.
    """
    if not bool(values.isfinite().all()):
        raise TrainingDivergedError(
            "generate: the model's probabilities are not finite; try smaller learning rates"
        )
