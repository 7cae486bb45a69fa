"""Operations and bytes that a model cannot do without, by the planner's formulas (sim/planning)."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedModel

from sim.planning.models import BYTES_PER_NUMBER, ModelShape
from sim.planning.training import FORWARD_BACKWARD


def shape_of_model(model: PreTrainedModel) -> ModelShape:
    """Its parameters, layers and widths; input embeddings of its own are looked up."""
    config = model.config
    head_width = config.hidden_size // config.num_attention_heads
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return ModelShape(
        type(model).__name__,
        float(sum(p.numel() for p in model.parameters())),
        config.num_hidden_layers,
        config.num_attention_heads * head_width,
        config.num_key_value_heads * head_width,
        looked_up=0.0 if embedding is head else float(embedding.numel()),
    )


def update_flops(shape: ModelShape, length_R: Iterable[int]) -> float:
    """Of forward and backward passes over rows of so many tokens, each token seeing half of its row:
    6 x parameters x tokens, and attention."""
    return FORWARD_BACKWARD * sum(shape.forward_flops(length, length / 2.0) for length in length_R)


def decode_bytes(
    shape: ModelShape, *, rows: int, prompt_tokens: int, new_tokens: int, number_bytes: int
) -> float:
    """Read by the steps that generate ``new_tokens`` for each row: all weights and every row's cache.

    The first token comes from reading the prompt, so there is one step less. ``number_bytes`` are
    those of a weight and of a number of the cache, which the planner takes to be bf16.
    """
    cached = sum(prompt_tokens + step for step in range(1, new_tokens))
    planned = (new_tokens - 1) * shape.read_bytes + rows * cached * shape.cache_bytes
    return planned * number_bytes / BYTES_PER_NUMBER
