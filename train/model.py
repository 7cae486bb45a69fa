"""The language model: an ordinary Qwen2 causal LM from transformers, a few hundred thousand weights.

The head is not tied to the embedding: the closed form of the last layer's score
(train/gradient_moments.py) is exact only then.
"""

from __future__ import annotations

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from train.config import ModelConfig
from train.seeds import Stream, torch_seed
from train.tasks.characters import BOS, EOS, PAD, VOCABULARY_SIZE


def build_model(config: ModelConfig, *, max_length: int, seed: int) -> Qwen2ForCausalLM:
    """A freshly initialised model in float32.

    Parameters
    ----------
    config : ModelConfig
    max_length : int
        Tokens of the longest prompt with its answer.
    seed : int
        Seed of the initial weights; the global generator of torch is left as it was.
    """
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    architecture = Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        intermediate_size=config.ffn_size,
        initializer_range=config.initializer_range,
        rope_parameters=rope,
        max_position_embeddings=max_length,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):  # transformers initialises from the global generator
        torch.manual_seed(torch_seed(seed, Stream.INITIAL_WEIGHTS))
        model = Qwen2ForCausalLM(architecture)
    model.train(False)
    return model
