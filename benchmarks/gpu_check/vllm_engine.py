"""vLLM inside this process, where it is installed and there is a GPU: the same policy? how fast?"""

from __future__ import annotations

import copy
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.gpu_check.correctness import BFLOAT16, FLOAT32, agreement_row, differences
from benchmarks.gpu_check.material import MissingError, Setting, Subject
from benchmarks.gpu_check.throughput import copy_rate, decoding_speed
from train.engines.engine_config import VllmConfig
from train.policy import Policy


def why_missing(device: torch.device) -> str | None:
    """A sentence, or None where vLLM can be measured."""
    if device.type != "cuda":
        return "engine vllm is measured on a GPU alone"
    if find_spec("vllm") is None:
        return 'vLLM is not installed (pip install "cures[vllm]" in an environment of its own)'
    return None


def vllm(setting: Setting) -> dict[str, Any]:
    """Agreement with the learner in both precisions, tokens per second in bfloat16.

    Raises
    ------
    MissingError
        Without vLLM or without a GPU.
    """
    reason = why_missing(setting.device)
    if reason is not None:
        raise MissingError(reason)
    rows: list[dict[str, Any]] = []
    failures = []
    for dtype in ("bfloat16", "float32"):
        try:
            rows.append(measured(setting, dtype))
        except Exception as error:  # vLLM has many; what is known of the other precision stays
            failures.append(f"{dtype}: {' '.join(str(error).split()):.300}")
    if not rows:
        raise RuntimeError("; ".join(failures))
    holds = not failures and all(row["holds"] for row in rows)
    return {"rows": rows, "note": "; ".join(["In nats", *failures]), "holds": holds}


def measured(setting: Setting, dtype: str) -> dict[str, Any]:
    """Agreement in one precision; in bfloat16 its speed as well, for which vLLM compiles the model."""
    from train.engines.vllm_engine import VllmEngine

    is_timed = dtype == "bfloat16"
    rows = setting.profile.rows[1]
    short, long = Subject.short(setting), Subject.long(setting).first(rows)
    model = long.model  # has room for both
    engine = VllmEngine(
        model,
        VllmConfig(dtype=dtype, gpu_memory_share=0.5, max_rows=rows, enforce_eager=not is_timed),
    )
    try:
        engine.load_weights(model.state_dict().items(), 0)
        batch = short.batch(short.generate(engine))
        policy = Policy(model, short.decoding, torch.bfloat16 if is_timed else None)
        learner, limits = ("products in bfloat16", BFLOAT16) if is_timed else ("float32", FLOAT32)
        row = agreement_row(f"vllm, {dtype}", learner, differences(policy, batch), limits)
        if not is_timed:
            return row
        copied = copy_rate(setting.profile.copied_bytes, setting.device)
        own = replace(long, model=copy.deepcopy(model).to(torch.bfloat16))
        return {**row, **decoding_speed(setting, own, engine, copied)}
    finally:
        engine.close()
