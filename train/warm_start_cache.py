"""Warm starts on disk, under a hash of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Qwen2ForCausalLM

from cures.checks import as_int
from cures.storage import read_json, write_json
from train.checkpoint import sync
from train.config import Config
from train.errors import reading

FORMAT = 6  # raise when a change makes cached models differ from what would be trained now


def fingerprint(config: Config) -> str:
    """Name of a cached warm start: hash of all that determines its weights."""
    text = json.dumps(dependencies(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dependencies(config: Config) -> dict[str, Any]:
    """What determines the weights of a warm start."""
    plain = config.as_dict()
    # the stress switches change rewards, not problems: arms with and without share the warm start
    task = {
        k: v for k, v in plain["task"].items() if k not in ("dead_never", "dead_always", "coins")
    }
    is_measured = config.warm_start is not None and config.warm_start.target_success is not None
    generation = plain["rollout"] if is_measured else None
    return {
        "format": FORMAT,
        "task": task,
        "model": plain["model"],
        "warm_start": plain["warm_start"],
        "rollout": generation,  # only the measurement of target_success generates anything
        "threads": config.run.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def fill(model: Qwen2ForCausalLM, folder: Path) -> tuple[int, float | None, float | None]:
    """Put the weights of a cached warm start into ``model``; return steps, final loss and success.

    Raises
    ------
    ValueError
        If a file is missing or damaged; the message names it.
    """
    remedy = f"delete {folder}, and the warm start is made again"
    with reading(folder / "about.json", remedy):
        about = read_json(folder / "about.json")
        steps = as_int("warm_start", "steps", about["steps"], 0)
        final_loss, success = (
            None if about[key] is None else float(about[key]) for key in ("final_loss", "success")
        )
    with reading(folder / "model.safetensors", remedy):
        model.load_state_dict(load_file(folder / "model.safetensors"))
    return steps, final_loss, success


def store(folder: Path, model: Qwen2ForCausalLM, about: dict[str, Any]) -> None:
    """Fill a temporary folder and rename it: another process sees all of it or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
        inner = Path(partial) / folder.name
        inner.mkdir()
        save_file(model.state_dict(), inner / "model.safetensors")
        sync(inner / "model.safetensors")
        write_json(inner / "about.json", about)
        sync(inner)
        try:
            os.rename(inner, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another run stored the same model first
                raise
        sync(folder.parent)
