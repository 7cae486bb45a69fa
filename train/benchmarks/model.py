"""A model's folder or name on the Hub -> model, tokenizer, decoding, engine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from train.benchmarks.prompting import end_tokens
from train.engines.protocol import Decoding, Engine
from train.world import World


def dtype_of(name: str, device: torch.device) -> str:
    """The type meant by ``--dtype``: 'auto' is bfloat16 on a GPU, float32 elsewhere."""
    if name != "auto":
        return name
    return "bfloat16" if device.type == "cuda" else "float32"


def load_model(
    name: str, revision: str, dtype: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model in main memory and in evaluation mode, and its tokenizer.

    Raises
    ------
    ValueError
        If one of them cannot be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, revision=revision)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype=getattr(torch, dtype)
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"bench: model {name!r} cannot be loaded: {reason}") from error
    model.train(False)
    return model, tokenizer


def decoding_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    temperature: float,
    max_new_tokens: int,
    extra_ends: Sequence[str] = (),
) -> Decoding:
    """How answers are sampled: the model's own distribution, up to one of its end tokens.

    ``top_p``, ``top_k`` and penalties that were published with the model are not applied.

    Raises
    ------
    ValueError
        If there is no end token, or one of ``extra_ends`` is no token.
    """
    ends = end_tokens(tokenizer, model.generation_config, extra_ends)
    pad = tokenizer.pad_token_id
    return Decoding(
        max_new_tokens=max_new_tokens,
        end_tokens=ends,
        pad_token=ends[0] if pad is None else pad,
        temperature=temperature,
    )


def engine_of(
    options: argparse.Namespace,
    model: PreTrainedModel,
    device: torch.device,
    folder: Path,
    world: World,
) -> Engine:
    """The engine of ``--engine``, with the model's weights as version 0.

    Parameters
    ----------
    options : argparse.Namespace
        ``engine``, ``max_rows``, ``gpu_memory_share``.
    model : PreTrainedModel
    device : torch.device
        Where the engines of this process compute.
    folder : Path
        For a server's log and weights.
    world : World
    """
    engine = _empty_engine(options, model, device, folder, world)
    engine.load_weights(model.state_dict().items(), 0)
    return engine


def _empty_engine(
    options: argparse.Namespace,
    model: PreTrainedModel,
    device: torch.device,
    folder: Path,
    world: World,
) -> Engine:
    if options.engine in ("native", "transformers"):
        torch.nn.Module.to(model, device)  # in place; the model's own `to` has lost its types
    if options.engine == "native":
        from train.engines.native import NativeEngine

        return NativeEngine(model, max_rows=options.max_rows)
    if options.engine == "transformers":
        from train.engines.transformers_engine import TransformersEngine

        return TransformersEngine(model, max_rows=options.max_rows)
    from train.engines.engine_config import VllmConfig

    vllm = VllmConfig(
        dtype=str(model.dtype).removeprefix("torch."),
        gpu_memory_share=options.gpu_memory_share,
        max_rows=options.max_rows,
    )
    if options.engine == "vllm":
        from train.engines.vllm_engine import VllmEngine

        return VllmEngine(model, vllm)
    from train.engines.vllm_server import VllmServerEngine

    return VllmServerEngine(model, vllm, folder, world)
