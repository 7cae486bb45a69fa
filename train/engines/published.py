"""Weights handed over through a folder that vLLM reads: a configuration and safetensors files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PretrainedConfig

SHARD_BYTES = 2 * 2**30  # held in memory at once


def publish(
    folder: Path,
    config: PretrainedConfig,
    named: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write ``folder`` in one step: it is there whole, or not at all.

    Parameters
    ----------
    folder : Path
        Must not exist.
    config : PretrainedConfig
    named : iterable of (str, Tensor)
        Gone through once.
    dtype : torch.dtype
        Of the file.
    shard_bytes : int
        A file holds at least one weight and at most about as much.
    """
    unfinished = folder.with_name(f".{folder.name}.partial")
    unfinished.mkdir(parents=True)
    try:
        for number, shard in enumerate(_shards(named, dtype, shard_bytes)):
            save_file(shard, unfinished / f"model-{number:05d}.safetensors")
        config.save_pretrained(unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def _shards(
    named: Iterable[tuple[str, Tensor]], dtype: torch.dtype, shard_bytes: int
) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    for name, value in named:
        shard[name] = value.detach().to("cpu", dtype, copy=True).contiguous()
        if sum(tensor.nbytes for tensor in shard.values()) >= shard_bytes:
            yield shard
            shard = {}
    if shard:
        yield shard
