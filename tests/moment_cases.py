"""Rollouts of small models of several architectures, and their scores by one backward pass each."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from train.engines.protocol import Decoding
from train.policy import Policy
from train.prompts import Prompts
from train.rollouts import Rollouts

WIDTH, VOCABULARY = 7, 23
GROUP_B = np.array([30, 10, 50, 20, 40, 60])  # group 60 has lost all its rollouts
SIZE_B = [5, 1, 2, 4, 5, 0]
REWARD = [1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1]
DECODING = Decoding(
    max_new_tokens=WIDTH, end_tokens=(2,), pad_token=0, temperature=0.7, forbidden_tokens=(0, 1)
)


def model_of(kind: str) -> PreTrainedModel:
    """Random weights large enough for opinions; ``tied``: head and embedding share theirs."""
    common = {"vocab_size": VOCABULARY, "initializer_range": 0.3, "use_cache": False}
    sizes = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model: PreTrainedModel
        if kind.startswith("qwen2"):  # biases at queries, keys and values
            is_tied = kind == "qwen2-tied"
            model = Qwen2ForCausalLM(Qwen2Config(**common, **sizes, tie_word_embeddings=is_tied))
        elif kind == "llama":
            model = LlamaForCausalLM(LlamaConfig(**common, **sizes, mlp_bias=True))
        elif kind == "gpt2":  # Conv1D, learned positions, tied
            model = GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=VOCABULARY,
                    n_embd=16,
                    n_layer=2,
                    n_head=2,
                    n_positions=32,
                    initializer_range=0.3,
                    bos_token_id=1,
                    eos_token_id=2,
                )
            )
        else:
            raise AssertionError(kind)
        for name, parameter in model.named_parameters():  # which transformers starts at 0
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.3)
    model.train(False)
    return model


def with_head_bias(model: PreTrainedModel) -> PreTrainedModel:
    """The same with a bias at the head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model.get_output_embeddings().bias = nn.Parameter(torch.randn(VOCABULARY))
    return model


def random_rollouts(seed: int = 0, *, has_padding_token: bool = True) -> tuple[Prompts, Rollouts]:
    """Tokens at random: ragged prompts and completions, some truncated, groups in any order.

    Prompts contain the padding token, as they do where it is the end token, if that is wanted.
    """
    generator = np.random.default_rng(seed)
    group_R = np.repeat(GROUP_B, SIZE_B)
    prompt_of = {int(g): generator.integers(3, VOCABULARY, 2 + i) for i, g in enumerate(GROUP_B)}
    if has_padding_token:
        for prompt in prompt_of.values():
            prompt[0] = 0
    length_R = generator.integers(1, WIDTH + 1, group_R.size)
    length_R[:3] = WIDTH
    token_R_T = np.zeros((group_R.size, WIDTH), dtype=np.int64)
    for row, length in enumerate(length_R):
        token_R_T[row, :length] = generator.integers(3, VOCABULARY, length)
        if length < WIDTH:
            token_R_T[row, length - 1] = 2
    order = generator.permutation(group_R.size)
    rollouts = Rollouts(
        group_R=torch.from_numpy(group_R),
        prompt_R=torch.from_numpy(group_R // 10),
        token_R_T=torch.from_numpy(token_R_T),
        log_prob_R_T=torch.zeros(group_R.size, WIDTH),
        length_R=torch.from_numpy(length_R),
        reward_R=torch.tensor(REWARD, dtype=torch.float64),
        is_truncated_R=torch.from_numpy(length_R == WIDTH),
    ).take(torch.from_numpy(order))
    prompts = Prompts.of([prompt_of[g] for g in rollouts.group_R.tolist()])
    return prompts, rollouts


def scores_by_autograd(
    model: PreTrainedModel,
    prompts: Prompts,
    rollouts: Rollouts,
    decoding: Decoding,
    names: list[str],
) -> np.ndarray:
    """Gradients of each rollout's log-probability by the named parameters, (R, all their entries).

    One forward and one backward pass per rollout, in float64, without anything of train.policy.
    """
    double = copy.deepcopy(model).double()
    by_name = dict(double.named_parameters())
    rows = []
    for i in range(len(rollouts)):
        prompt = prompts.row(i)
        completion = rollouts.token_R_T[i, : rollouts.length_R[i]]
        ids = torch.cat([prompt, completion])[None]
        logits = double(input_ids=ids).logits[0, len(prompt) - 1 : -1] / decoding.temperature
        logits[:, list(decoding.forbidden_tokens)] = -torch.inf
        log_prob = logits.log_softmax(dim=-1).gather(1, completion[:, None]).sum()
        found = torch.autograd.grad(log_prob, [by_name[name] for name in names])
        rows.append(torch.cat([gradient.flatten() for gradient in found]).numpy())
    return np.stack(rows)


@dataclass(frozen=True)
class Expected:
    """Moments of one group by their definitions."""

    sq_norm_correct: float
    sq_norm_wrong: float
    unbiased: float
    plug_in: float
    norm_correct: float
    norm_wrong: float


def expected_moments(scores: np.ndarray, rollouts: Rollouts, group: int) -> Expected:
    """From scores as vectors.

    The unbiased difference is the average, over all choices of two different right rollouts a, b and
    two different wrong ones c, d, of (a - c) . (b - d), whose factors are independent draws.
    """
    mine = rollouts.group_R.numpy() == group
    right = scores[mine & (rollouts.reward_R.numpy() == 1)]
    wrong = scores[mine & (rollouts.reward_R.numpy() == 0)]
    unbiased = [
        (a - c) @ (b - d)
        for i, a in enumerate(right)
        for j, b in enumerate(right)
        if i != j
        for k, c in enumerate(wrong)
        for m, d in enumerate(wrong)
        if k != m
    ]
    has_both = len(right) > 0 and len(wrong) > 0

    def mean(values: Any) -> float:
        return float(np.mean(values)) if len(values) else float("nan")

    return Expected(
        sq_norm_correct=mean((right**2).sum(1)),
        sq_norm_wrong=mean((wrong**2).sum(1)),
        unbiased=mean(unbiased),
        plug_in=float(((right.mean(0) - wrong.mean(0)) ** 2).sum()) if has_both else float("nan"),
        norm_correct=mean(np.linalg.norm(right, axis=1)),
        norm_wrong=mean(np.linalg.norm(wrong, axis=1)),
    )


def policy_of(model: PreTrainedModel, decoding: Decoding = DECODING, **options: Any) -> Policy:
    """A policy under :data:`DECODING`."""
    return Policy(model, decoding, **options)
