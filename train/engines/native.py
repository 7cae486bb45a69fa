"""Generation in this process: one prefill per distinct prompt, then one step per token for all rows.

A prompt with quota n is read once and its keys and values are repeated n times; rows that emitted EOS
leave the batch. Works with any causal model of transformers whose cache can be indexed by rows; prompts
of one call have one length, so that no padding is needed on their side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from cures.checks import fail
from train.errors import TrainingDivergedError
from train.policy import log_policy, token_log_prob
from train.tasks.characters import EOS, PAD


@dataclass(frozen=True, slots=True)
class Completions:
    """What was generated, one row per rollout."""

    token_R_T: Tensor  # int64, EOS included, PAD after it
    log_prob_R_T: Tensor  # float32, of the policy that sampled; 0 after EOS
    length_R: Tensor  # int64, generated tokens, EOS included


def generate(
    model: PreTrainedModel,
    prompt_P_L: Tensor,
    quota_P: Tensor,
    *,
    max_new_tokens: int,
    decode_temperature: float,
    generator: torch.Generator,
    max_rows: int = 2048,
) -> Completions:
    """Sample ``quota_P[i]`` completions of prompt i; rows come prompt by prompt.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode.
    prompt_P_L : Tensor of int64, shape (P, L)
        Prompts of one length.
    quota_P : Tensor of int64, shape (P,)
        Rollouts per prompt, >= 0.
    max_new_tokens : int
        A row that has not emitted EOS by then is truncated.
    decode_temperature : float
        > 0.
    generator : torch.Generator
        The only source of randomness. A row's numbers depend on its place and step alone, never on
        how long other rows live, so two models are sampled with the same numbers.
    max_rows : int
        Rollouts generated at once; another value gives other samples.

    Raises
    ------
    TrainingDivergedError
        If a probability is not finite.
    """
    if prompt_P_L.ndim != 2 or quota_P.shape != prompt_P_L.shape[:1]:
        fail("generate", "quota_P", f"of shape ({prompt_P_L.shape[0]},)", tuple(quota_P.shape))
    prompt_R = torch.repeat_interleave(torch.arange(quota_P.numel()), quota_P)
    parts = [
        _generate_rows(model, prompt_P_L, rows, max_new_tokens, decode_temperature, generator)
        for rows in torch.split(prompt_R, max_rows)
    ]
    return Completions(
        torch.cat([p.token_R_T for p in parts]),
        torch.cat([p.log_prob_R_T for p in parts]),
        torch.cat([p.length_R for p in parts]),
    )


@torch.no_grad()
def _generate_rows(
    model: PreTrainedModel,
    prompt_P_L: Tensor,
    prompt_R: Tensor,
    max_new_tokens: int,
    decode_temperature: float,
    generator: torch.Generator,
) -> Completions:
    rows = prompt_R.numel()
    token_R_T = torch.full((rows, max_new_tokens), PAD)
    log_prob_R_T = torch.zeros(rows, max_new_tokens)
    if rows == 0:
        return Completions(token_R_T, log_prob_R_T, torch.zeros(0, dtype=torch.int64))
    distinct, row_of = torch.unique_consecutive(prompt_R, return_inverse=True)
    cache = DynamicCache(config=model.config)
    logits = _last_logits(model, prompt_P_L[distinct], cache)[row_of]
    cache.batch_select_indices(row_of)
    live = torch.arange(rows)
    for t in range(max_new_tokens):
        log_policy_R_V = log_policy(logits, decode_temperature)
        if not bool(log_policy_R_V.isfinite().all()):
            raise TrainingDivergedError(
                "generate: the model's probabilities are not finite; try smaller learning rates"
            )
        token = _draw(log_policy_R_V, live, rows, generator)
        token_R_T[live, t] = token
        log_prob_R_T[live, t] = token_log_prob(log_policy_R_V, token)
        going = (token != EOS).nonzero().squeeze(1)
        if t + 1 == max_new_tokens or going.numel() == 0:
            break
        if going.numel() < live.numel():
            cache.batch_select_indices(going)
            live, token = live[going], token[going]
        logits = _last_logits(model, token.unsqueeze(1), cache)
    return Completions(token_R_T, log_prob_R_T, (token_R_T != PAD).sum(dim=1))


def _last_logits(model: PreTrainedModel, ids: Tensor, cache: DynamicCache) -> Tensor:
    output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = output.logits[:, -1]
    return logits


def _draw(log_policy_R_V: Tensor, live: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """One token per row: the smallest of independent exponentials with rates p falls on token v
    with probability p_v. Drawn in float64: a float32 uniform has only 2^24 values, too coarse for
    tokens of probability 1e-7, which matter because their log-probability enters the loss."""
    shape = (rows, log_policy_R_V.shape[-1])  # numbers for finished rows too, and unused
    wait = torch.empty(shape, dtype=torch.float64).exponential_(generator=generator)[live]
    return (wait.log() - log_policy_R_V.double()).argmin(dim=-1)
