"""Speeds beside what the card itself reaches: products, copies, and memory beside the plan."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_check.clock import once, seconds
from benchmarks.gpu_check.counts import decode_bytes, shape_of_model, update_flops
from benchmarks.gpu_check.material import Setting, Subject, config_of, native
from train.config import Config
from train.dry_run.memory import Memory, memory
from train.engines.protocol import Engine

REPEATS = 20  # products or copies in a row: the queue is never empty


def throughput(setting: Setting) -> dict[str, Any]:
    """Generation for every number of rows, in float32 and bfloat16, and an update in bfloat16."""
    profile, device = setting.profile, setting.device
    matmul = matmul_rate(profile.matmul_width, device)
    copied = copy_rate(profile.copied_bytes, device)
    subject = Subject.long(setting)
    config = config_of(profile, pass_tokens=profile.pass_tokens, precision="bfloat16")
    # what python -m train run --dry-run says
    plan = memory(config, copy.deepcopy(subject.model).to("meta"), subject.decoding, 1)
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        own = replace(subject, model=copy.deepcopy(subject.model).to(dtype))
        rows += [generation_row(setting, own.first(n), plan, copied) for n in profile.rows]
        del own  # or it would be in the update's memory
    rows.append(update_row(setting, subject.first(min(profile.rows)), config, plan, matmul))
    return {
        "rows": rows,
        "products": matmul / 1e12,
        "copies": copied / 1e9,
        "parameters": plan.parameters,
    }


def generation_row(
    setting: Setting, subject: Subject, plan: Memory, copied: float
) -> dict[str, Any]:
    """Speed of engine ``native``; peak and plan are of keys and values, without weights."""
    dtype = subject.model.dtype
    tokens = subject.rows * (subject.prompt_tokens + subject.decoding.max_new_tokens)
    before = _forget_peak(setting.device)
    found = decoding_speed(setting, subject, native(subject.model), copied)
    peak = _peak(setting.device)
    return {
        "what": f"native, {str(dtype).removeprefix('torch.')}",
        **found,
        "peak_bytes": None if peak is None else peak - before,
        "planned_bytes": tokens * plan.kv_cache_token * dtype.itemsize / torch.float32.itemsize,
    }


def decoding_speed(
    setting: Setting, subject: Subject, engine: Engine, copied: float
) -> dict[str, Any]:
    """Tokens per second, and the share of ``copied`` bytes per second that had to be read."""
    rows, new_tokens = subject.rows, subject.decoding.max_new_tokens
    (took,) = seconds(lambda: subject.generate(engine), setting.device, 1)
    read = decode_bytes(
        shape_of_model(subject.model), rows=rows, prompt_tokens=subject.prompt_tokens,
        new_tokens=new_tokens, number_bytes=subject.model.dtype.itemsize,
    )  # fmt: skip
    return {
        "rollouts": rows,
        "tokens_per_s": rows * new_tokens / took,
        "bandwidth_share": read / took / copied,
    }


def update_row(
    setting: Setting, subject: Subject, config: Config, plan: Memory, matmul: float
) -> dict[str, Any]:
    """Speed and memory of an update, optimiser included."""
    device = setting.device
    batch = subject.batch(subject.generate(native(subject.model)))
    learner = subject.learner(config)
    batch.update(learner)  # makes the optimiser's state
    _forget_peak(device)
    rounds = range(setting.profile.rounds)
    took = float(np.median([once(lambda: batch.update(learner), device) for _ in rounds]))
    tokens = int(batch.row_tokens_R.sum())
    flops = update_flops(shape_of_model(subject.model), batch.row_tokens_R.tolist())
    return {
        "what": "update, products in bfloat16",
        "rollouts": len(batch.rollouts),
        "tokens_per_s": tokens / took,
        "matmul_share": flops / took / matmul,
        "peak_bytes": _peak(device),
        "planned_bytes": plan.training,
    }


def matmul_rate(width: int, device: torch.device) -> float:
    """FLOP/s of square products in bfloat16: the fastest of five turns."""
    left, right = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(REPEATS):
            torch.mm(left, right)

    return 2.0 * width**3 * REPEATS / min(seconds(products, device, 5))


def copy_rate(size: int, device: torch.device) -> float:
    """Bytes/s read and written by copies within the device's memory: the fastest of five turns."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copies() -> None:
        for _ in range(REPEATS):
            target.copy_(source)

    return 2.0 * size * REPEATS / min(seconds(copies, device, 5))


def _forget_peak(device: torch.device) -> int:
    """Bytes that tensors hold now; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    gc.collect()  # models have cycles
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))


def _peak(device: torch.device) -> int | None:
    """Bytes that tensors held at most; None on a CPU."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
