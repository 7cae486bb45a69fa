"""Shapes of language models, as far as generation and training costs depend on them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from cures.checks import as_float, as_int, fail

BYTES_PER_NUMBER = 2  # weights and cache in bf16


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense decoder-only transformer with grouped-query attention.

    Attributes
    ----------
    name : str
    parameters : float
        All of them, embeddings included.
    layers : int
    attention_width : int
        Heads x head dimension.
    kv_width : int
        Key-value heads x head dimension.
    looked_up : float
        Of the parameters, those that are looked up, not multiplied: input embeddings that the output
        does not share.
    """

    name: str
    parameters: float
    layers: int
    attention_width: int
    kv_width: int
    looked_up: float = 0.0

    def __post_init__(self) -> None:
        as_float("ModelShape", "parameters", self.parameters, 1e3, 1e14)
        for name in ("layers", "attention_width", "kv_width"):
            as_int("ModelShape", name, getattr(self, name), 1, 10**6)
        as_float("ModelShape", "looked_up", self.looked_up, 0.0, self.parameters)

    @property
    def weight_bytes(self) -> float:
        """Weights of the inference engine."""
        return BYTES_PER_NUMBER * self.parameters

    @property
    def read_bytes(self) -> float:
        """Weights that every forward pass reads."""
        return BYTES_PER_NUMBER * (self.parameters - self.looked_up)

    @property
    def cache_bytes(self) -> int:
        """Key-value cache per token: one key and one value per layer.

        Examples
        --------
        >>> MODELS["Qwen2.5-Math-7B"].cache_bytes  # 2 x 28 layers x 512 x 2 bytes
        57344
        """
        return 2 * self.layers * self.kv_width * BYTES_PER_NUMBER

    def forward_flops(self, tokens: float, context: float) -> float:
        """FLOPs of a forward pass over ``tokens`` tokens that see ``context`` tokens on average.

        Two per multiplied parameter and token (a multiplication and an addition), and 4 x layers x
        width x context for the two products of attention.
        """
        attention = 4.0 * self.layers * self.attention_width * context
        return tokens * (2.0 * (self.parameters - self.looked_up) + attention)


def dense_parameters(
    *, layers: int, width: int, heads: int, kv_heads: int, feed_forward: int, vocab: int, tied: bool
) -> int:
    """Parameters of a Qwen2 decoder from the numbers in its ``config.json``.

    Per layer: query, key, value (with biases) and output projections, three feed-forward matrices, two
    norms; one norm at the end; embeddings once if tied, else twice.

    Examples
    --------
    Published as 1.54 billion, 1.31 without embeddings:

    >>> dense_parameters(layers=28, width=1536, heads=12, kv_heads=2, feed_forward=8960,
    ...                  vocab=151936, tied=True)
    1543714304
    """
    head = width // heads
    kv = kv_heads * head
    attention = (width * width + width) + 2 * (width * kv + kv) + width * width
    layer = attention + 3 * width * feed_forward + 2 * width
    return layers * layer + width + vocab * width * (1 if tied else 2)


def _qwen(
    name: str, layers: int, width: int, heads: int, kv_heads: int, feed_forward: int, vocab: int,
    *, tied: bool,
) -> ModelShape:  # fmt: skip
    count = dense_parameters(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=feed_forward,
        vocab=vocab,
        tied=tied,
    )
    looked_up = 0.0 if tied else float(vocab * width)
    return ModelShape(name, float(count), layers, width, kv_heads * (width // heads), looked_up)


# config.json of the published checkpoints; the Math models differ from their base in no number here.
_TABLE = (
    _qwen("Qwen2.5-0.5B", 24, 896, 14, 2, 4864, 151936, tied=True),
    _qwen("Qwen2.5-Math-1.5B", 28, 1536, 12, 2, 8960, 151936, tied=True),
    _qwen("Qwen2.5-3B", 36, 2048, 16, 2, 11008, 151936, tied=True),
    _qwen("Qwen2.5-Math-7B", 28, 3584, 28, 4, 18944, 152064, tied=False),
    _qwen("Qwen2.5-14B", 48, 5120, 40, 8, 13824, 152064, tied=False),
    _qwen("Qwen2.5-32B", 64, 5120, 40, 8, 27648, 152064, tied=False),
)
MODELS = {shape.name: shape for shape in _TABLE}


def shape_of(
    model: str | None = None,
    *,
    parameters: float | None = None,
    layers: int | None = None,
    attention_width: int | None = None,
    kv_width: int | None = None,
) -> ModelShape:
    """A model by name, or by its number of parameters.

    Given only a number of parameters, layers and widths are those of the table's model that is nearest
    in size, and the name says so; each can be given instead. So are the embeddings that are looked up.

    Examples
    --------
    >>> shape_of(parameters=8e9).name
    '8B (layers and widths of Qwen2.5-Math-7B)'
    """
    if (model is None) == (parameters is None):
        fail("plan", "model", "given by name, or else by parameters", model)
    own = {"layers": layers, "attention_width": attention_width, "kv_width": kv_width}
    given: dict[str, Any] = {key: value for key, value in own.items() if value is not None}
    if model is not None:
        if model not in MODELS:
            fail("plan", "model", f"one of {list(MODELS)} (or give --parameters)", model)
        return replace(MODELS[model], **given)
    count = as_float("plan", "parameters", parameters, 1e3, 1e14)
    nearest = min(_TABLE, key=lambda shape: abs(math.log(shape.parameters / count)))
    name = f"{count / 1e9:g}B"
    if len(given) < len(own):
        name += f" (layers and widths of {nearest.name})"
    return replace(nearest, name=name, parameters=count, **given)
