"""Section ``[model]``: a new model, or one from a folder or the Hub."""

from __future__ import annotations

from dataclasses import dataclass

from cures.checks import fail
from train.section import MAX_WIDTH, Section, option

DTYPES = ("float32", "bfloat16")
ATTENTION = ("sdpa", "eager", "flash_attention_2")


@dataclass(frozen=True, kw_only=True)
class ScratchConfig(Section):
    """A new Qwen2 causal language model with an untied head (train/model.py)."""

    TITLE = "model"

    kind: str = option("where the model comes from", "choice", "scratch", choices=("scratch",))
    hidden_size: int = option("width, a multiple of 2 * heads", "int", 96, low=8, high=MAX_WIDTH)
    layers: int = option("transformer layers", "int", 2, low=1, high=1024)
    heads: int = option("attention heads", "int", 4, low=1, high=MAX_WIDTH)
    kv_heads: int = option("key-value heads, a divisor of heads", "int", 4, low=1, high=MAX_WIDTH)
    ffn_size: int = option("width of the feed-forward layers", "int", 256, low=8, high=MAX_WIDTH)
    rope_theta: float = option(
        "base of the rotary positions; prompts are short", "float", 100.0,
        low=1.0, high=1e9, open_low=True,
    )  # fmt: skip
    initializer_range: float = option(
        "std of the initial weights", "float", 0.1, low=0.0, high=10.0, open_low=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of coordinates
            fail("[model]", "hidden_size", f"a multiple of 2 * heads = {2 * self.heads}",
                 self.hidden_size)  # fmt: skip
        if self.heads % self.kv_heads:
            fail("[model]", "kv_heads", f"a divisor of heads = {self.heads}", self.kv_heads)


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(Section):
    """A causal language model of transformers (train/model.py)."""

    TITLE = "model"

    kind: str = option(
        "where the model comes from", "choice", "pretrained", choices=("pretrained",)
    )
    path: str = option("folder of from_pretrained, or a name on the Hub", "text")
    revision: str = option("branch, tag or commit on the Hub", "text", "main")
    dtype: str = option(
        "of the weights that are trained; bfloat16 alone loses small updates", "choice", "float32",
        choices=DTYPES,
    )  # fmt: skip
    attention: str = option("implementation of attention", "choice", "sdpa", choices=ATTENTION)
    device: str = option(
        "cpu, cuda or cuda:N; auto: the GPU of this process if there is one", "text", "auto"
    )
