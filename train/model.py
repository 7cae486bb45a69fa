"""The language model: a new Qwen2 of a few hundred thousand weights, or one that exists.

The head of a new one is not tied to the embedding: the closed form of the last layer's score
(train/gradient_moments.py) is exact only then.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from cures.checks import fail
from train.config import Config
from train.model_config import PretrainedConfig, ScratchConfig
from train.seeds import Stream, torch_seed
from train.tasks.characters import BOS, EOS, PAD, VOCABULARY_SIZE
from train.tasks.protocol import Task


def longest_text(task: Task) -> int:
    """Tokens of the longest prompt with its answer."""
    longest = max(int(q.prompts.length_N.max()) for q in (task.pool, task.held_out))
    return longest + task.decoding.max_new_tokens


def new_model(config: ScratchConfig, *, max_length: int, seed: int) -> Qwen2ForCausalLM:
    """A freshly initialised model in float32.

    Parameters
    ----------
    config : ScratchConfig
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


def new_model_of(config: Config, task: Task) -> Qwen2ForCausalLM:
    """The model before any step: also the shell that a checkpoint's weights are loaded into."""
    assert isinstance(config.model, ScratchConfig)
    assert config.warm_start is not None
    return new_model(config.model, max_length=longest_text(task), seed=config.warm_start.seed)


def pretrained_model(config: PretrainedConfig, task: Task, device: torch.device) -> PreTrainedModel:
    """Weights from a folder or the Hub, in evaluation mode.

    Raises
    ------
    ValueError
        If it cannot be read, or is too small for the task's texts or vocabulary.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            config.path,
            revision=config.revision,
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attention,
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"[model]: path {config.path!r} cannot be loaded: {reason}") from error
    check_fits(model, task)
    model.train(False)
    torch.nn.Module.to(model, device)  # in place; the model's own `to` has lost its types
    return model


def empty_model(
    config: PretrainedConfig, folder: str | Path, device: torch.device
) -> PreTrainedModel:
    """The architecture that a folder's ``config.json`` describes, its weights yet to come."""
    with device:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder),
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attention,
        )
    model.train(False)
    return model


def architecture_of(config: PretrainedConfig, architectures: Path) -> Path:
    """The folder with the model's ``config.json``: ``path`` itself, or one below ``architectures``.

    Raises
    ------
    ValueError
        If neither has it.
    """
    name = config.path.rstrip("/").rpartition("/")[2]
    for folder in (Path(config.path), architectures / name):
        if (folder / "config.json").is_file():
            return folder
    legal = (
        f"a folder with config.json, or one of {sorted(p.name for p in architectures.glob('*'))}"
    )
    fail("[model]", "path", legal, config.path)


def check_fits(model: PreTrainedModel, task: Task) -> None:
    """Refuse a model that a task's texts do not fit into.

    Raises
    ------
    ValueError
        Naming positions or vocabulary.
    """
    places = getattr(model.config, "max_position_embeddings", None)
    if places is not None and places < longest_text(task):
        fail(
            "[model]",
            "max_position_embeddings",
            f">= {longest_text(task)} (prompt and answer)",
            places,
        )
    if model.config.vocab_size < task.vocabulary_size:
        fail(
            "[model]",
            "vocab_size",
            f">= {task.vocabulary_size}, as the tokenizer's",
            model.config.vocab_size,
        )


def device_of(name: str, local_rank: int = 0) -> torch.device:
    """The device meant by ``[model] device`` or ``--device``; 'auto' is this process's GPU, if any.

    Raises
    ------
    ValueError
        If there is no such kind of device.
    """
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError:
            fail("train", "device", "auto, cpu, cuda or cuda:N", name)
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
