r"""Score norms of pilot rollouts from the last layer alone, in closed form (inputs of Eq. 21).

For a bias-free head W that is not tied to the embedding, the score of a rollout is

.. math:: s = \nabla_W \log\pi(y|x) = \frac1\tau \sum_t (e_{y_t} - \pi_t)\, h_t^\top

with hidden states h, decode temperature :math:`\tau`, and no backward pass. Inner products of two
rollouts of a group need no matrix of the size of W either:

.. math:: \langle s, s' \rangle = \frac1{\tau^2} \sum_{t,t'} (h_t \cdot h'_{t'})
          \bigl((e_{y_t} - \pi_t) \cdot (e_{y'_{t'}} - \pi'_{t'})\bigr)

The Gram matrix of a group holds all that Eq. 21 asks for. The squared difference of the two mean scores
uses products of *different* rollouts only: the plug-in would add the noise of the means to it.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from cures.checks import FloatArray, IntArray
from cures.records import Moments
from train.policy import Policy, log_policy
from train.prompts import Prompts
from train.rollouts import Rollouts, slots
from train.sequences import Sequences, cut_by_tokens

MAX_GRAM_ENTRIES = 2**24  # token products held at once; as float32, twice 64 MB


def gradient_moments(
    policy: Policy,
    prompts: Prompts,
    rollouts: Rollouts,
    group_B: IntArray,
    *,
    pass_tokens: int,
) -> Moments:
    """Moments of the last-layer scores of each group of a plan.

    Parameters
    ----------
    policy : Policy
        Its head must not be tied or biased.
    prompts : Prompts
        Of each rollout.
    rollouts : Rollouts
        Rows of one group adjacent, groups in the order of ``group_B``.
    group_B : ndarray of int64, shape (B,)
    pass_tokens : int
        Padded tokens per forward pass.

    Returns
    -------
    Moments
        NaN where no rollout of a kind exists; the difference is NaN with fewer than two of either.
    """
    hidden, residual = score_factors(policy, prompts, rollouts, pass_tokens=pass_tokens)
    reward_R = rollouts.reward_R.numpy()
    slot_R = slots(rollouts.group_R.numpy(), group_B)
    size_B = np.bincount(slot_R, minlength=group_B.size)
    start_B = np.cumsum(size_B) - size_B
    columns: dict[str, FloatArray] = {
        f.name: np.full(group_B.size, np.nan) for f in fields(Moments)
    }
    for size in np.unique(size_B[size_B > 0]).tolist():
        block = max(1, MAX_GRAM_ENTRIES // (size * hidden.shape[1]) ** 2)
        same_size = np.flatnonzero(size_B == size)
        for part in np.split(same_size, np.arange(block, same_size.size, block)):
            rows = start_B[part][:, None] + np.arange(size)
            index = torch.from_numpy(rows)
            gram = score_gram(hidden[index], residual[index]).double().numpy()
            for b, gram_nn, reward_n in zip(part, gram, reward_R[rows], strict=True):
                for name, value in moments_of_gram(gram_nn, reward_n).items():
                    columns[name][b] = value
    return Moments(**columns)


@torch.no_grad()
def score_factors(
    policy: Policy, prompts: Prompts, rollouts: Rollouts, *, pass_tokens: int
) -> tuple[Tensor, Tensor]:
    """Hidden states (R, T, h) and residuals ``(e_y - pi) / temperature`` (R, T, V), 0 after EOS."""
    head = policy.head
    is_tied = policy.model.config.tie_word_embeddings
    if is_tied or getattr(head, "bias", None) is not None:
        raise ValueError(
            "gradient_moments: model must be one with an untied, bias-free head, "
            f"got tie_word_embeddings={is_tied}"
        )
    rows, width = rollouts.token_R_T.shape
    length_R = prompts.length_N + rollouts.length_R.numpy() - 1
    hidden_R_T_h = torch.zeros(rows, width, policy.model.config.hidden_size)
    residual_R_T_V = torch.zeros(rows, width, policy.model.config.vocab_size)
    place_T = torch.arange(width).unsqueeze(0)
    for part in cut_by_tokens(length_R, pass_tokens):
        index = torch.from_numpy(part)
        token_R_T, length = rollouts.token_R_T[index], rollouts.length_R[index]
        sequences = Sequences.of(prompts.take(part), token_R_T, length)
        hidden_F_h = policy.hidden(sequences)
        policy_F_V = log_policy(head(hidden_F_h), policy.decoding).exp()
        taken_F_V = torch.nn.functional.one_hot(sequences.target_F, policy_F_V.shape[-1])
        is_real = place_T < length.unsqueeze(1)
        hidden, residual = (
            torch.zeros_like(hidden_R_T_h[index]),
            torch.zeros_like(residual_R_T_V[index]),
        )
        hidden[is_real] = hidden_F_h
        residual[is_real] = (taken_F_V - policy_F_V) / policy.decoding.temperature
        hidden_R_T_h[index], residual_R_T_V[index] = hidden, residual
    return hidden_R_T_h, residual_R_T_V


def score_gram(hidden_B_n_T_h: Tensor, residual_B_n_T_V: Tensor) -> Tensor:
    """Inner products of the scores within each group, shape (B, n, n).

    The T^2 times larger products of tokens are made for as many rows of the result at a time as
    ``MAX_GRAM_ENTRIES`` allows, at least one.
    """
    groups, size, width, _ = hidden_B_n_T_h.shape
    hidden, residual = hidden_B_n_T_h.flatten(1, 2), residual_B_n_T_V.flatten(1, 2)
    rows = max(1, MAX_GRAM_ENTRIES // (groups * size * width**2))
    parts = []
    for some_hidden, some_residual in zip(
        torch.split(hidden, rows * width, dim=1),
        torch.split(residual, rows * width, dim=1),
        strict=True,
    ):
        products = (some_hidden @ hidden.mT) * (some_residual @ residual.mT)
        parts.append(products.view(groups, -1, width, size, width).sum(dim=(2, 4)))
    return torch.cat(parts, dim=1)


def moments_of_gram(gram_nn: FloatArray, reward_n: FloatArray) -> dict[str, float]:
    """The five moments of one group from the Gram matrix of its scores.

    Parameters
    ----------
    gram_nn : ndarray of float64, shape (n, n)
    reward_n : ndarray of float64, shape (n,)
        0 or 1.

    Examples
    --------
    Four scores on a line, right at 1 and 3, wrong at 0 and 2: products of different rollouts give
    1*3 + 0*2 - 2 * mean(1, 3) * mean(0, 2) = -1, while the means differ by 1.

    >>> s = np.array([1.0, 3.0, 0.0, 2.0])
    >>> moments_of_gram(np.outer(s, s), np.array([1.0, 1.0, 0.0, 0.0]))["sq_norm_difference"]
    -1.0
    """
    right, wrong = np.flatnonzero(reward_n == 1.0), np.flatnonzero(reward_n == 0.0)
    # rounding may leave the square of a vanishing score a hair below 0
    square_n = np.maximum(np.diagonal(gram_nn), 0.0)
    difference = np.nan
    if min(right.size, wrong.size) >= 2:
        difference = (
            _mean_of_distinct(gram_nn, right)
            + _mean_of_distinct(gram_nn, wrong)
            - 2.0 * gram_nn[np.ix_(right, wrong)].mean()
        )
    return {
        "sq_norm_correct": square_n[right].mean() if right.size else np.nan,
        "sq_norm_wrong": square_n[wrong].mean() if wrong.size else np.nan,
        "sq_norm_difference": float(difference),
        "norm_correct": np.sqrt(square_n[right]).mean() if right.size else np.nan,
        "norm_wrong": np.sqrt(square_n[wrong]).mean() if wrong.size else np.nan,
    }


def _mean_of_distinct(gram_nn: FloatArray, index: IntArray) -> float:
    """Mean product of two different rollouts: unbiased for the squared norm of the mean score."""
    block = gram_nn[np.ix_(index, index)]
    count = index.size * (index.size - 1)
    return float((block.sum() - np.trace(block)) / count)
