"""Memory of one process, from the model's ``config.json`` alone.

The model is built on PyTorch's *meta* device, where tensors have shapes and no content: parameters are
counted, and one training pass of ``learner.pass_tokens`` is traced to add up what it keeps for backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from transformers import PreTrainedModel

from train.config import Config
from train.engines.protocol import Decoding
from train.model import architecture_of, empty_model
from train.model_config import PretrainedConfig
from train.policy import MAX_LOGITS, Policy

# config.json of the models of the shipped files
ARCHITECTURES = Path(__file__).resolve().parents[2] / "configs" / "architectures"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process, by what they hold."""

    parameters: int  # a count, not bytes
    weights: float
    gradients: float
    optimizer: float
    reference: float
    engine: float  # weights of its own, on the device while training
    engine_asleep: float  # the same in main memory while training, with vllm.sleep
    activations: float
    logits: float
    kv_cache_token: float  # of one token of one rollout

    @property
    def training(self) -> float:
        """Held at the same time in an update."""
        held = (self.weights, self.gradients, self.optimizer, self.reference, self.engine)
        return sum(held) + self.activations + self.logits


def memory(config: Config, model: PreTrainedModel, decoding: Decoding, processes: int) -> Memory:
    """Estimate for one process.

    Parameters
    ----------
    config : Config
    model : PreTrainedModel
        On the meta device.
    decoding : Decoding
    processes : int
        That weights, gradients and optimiser are sharded over, with ``learner.sharding = "fsdp"``.
    """
    learner = config.learner
    count = sum(p.numel() for p in model.parameters())
    width = next(model.parameters()).element_size()
    is_sharded = learner.sharding == "fsdp" and processes > 1
    share = processes if is_sharded else 1
    text = getattr(model.config, "text_config", model.config)
    own = _engine_weights(config, model, is_sharded=is_sharded)
    sleeps = config.rollout.engine == "vllm" and config.vllm.sleep
    heads = getattr(text, "num_key_value_heads", text.num_attention_heads)
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Memory(
        parameters=count,
        weights=count * width / share,
        gradients=count * width / share,
        optimizer=2 * count * width / share,
        reference=count * width / share if learner.kl != "none" else 0.0,
        engine=0.0 if sleeps else own,
        engine_asleep=own if sleeps else 0.0,
        activations=_kept_for_backward(config, model, decoding),
        logits=3.0 * 4.0 * min(MAX_LOGITS, learner.pass_tokens * model.config.vocab_size),
        kv_cache_token=2.0
        * text.num_hidden_layers
        * heads
        * head_width
        * _cache_width(config, width),
    )


def _engine_weights(config: Config, model: PreTrainedModel, *, is_sharded: bool) -> float:
    """Bytes of the engine's own weights on this process's device (train/engines/making.py)."""
    if config.rollout.engine == "vllm":  # which ties none (train/engines/vllm_sampling.py)
        every_name = model.named_parameters(remove_duplicate=False)
        return float(sum(p.numel() for _, p in every_name) * _bytes(config.vllm.dtype))
    if config.rollout.engine == "vllm-server" or not is_sharded:
        return 0.0  # on devices of its own; the trainer's
    return float(sum(p.numel() * p.element_size() for p in model.parameters()))


def _cache_width(config: Config, width: int) -> int:
    """Bytes of a number of keys and values: vLLM has a dtype of its own, other engines the model's."""
    return _bytes(config.vllm.dtype) if config.rollout.engine.startswith("vllm") else width


def _bytes(dtype: str) -> int:
    return int(getattr(torch, dtype).itemsize)


def _kept_for_backward(config: Config, model: PreTrainedModel, decoding: Decoding) -> float:
    """Bytes that one pass of ``pass_tokens`` saves, weights not counted."""
    learner = config.learner
    precision = torch.bfloat16 if learner.precision == "bfloat16" else None
    policy = Policy(
        model, decoding, precision, recomputes_activations=learner.activation_checkpointing
    )
    tokens = learner.pass_tokens
    places = getattr(model.config, "max_position_embeddings", tokens)
    rows, length = max(1, tokens // min(tokens, places)), min(tokens, places)
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no storage's number is given to another one
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:  # on a real device's kernels: attention on the meta device keeps all its scores
        body = policy.model.base_model
        fake = {name: torch.empty_like(p, device="cpu") for name, p in body.named_parameters()}
        fake = {name: value.requires_grad_() for name, value in fake.items()}
        fake |= {name: torch.empty_like(b, device="cpu") for name, b in body.named_buffers()}
    weights = {value.untyped_storage()._cdata for value in fake.values()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with (
        mode,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", precision, enabled=precision is not None),
    ):
        ids = torch.zeros((rows, length), dtype=torch.int64)
        functional_call(body, fake, (ids,), {"use_cache": False})
    return float(sum(kept.values()))


def meta_model(config: PretrainedConfig, architectures: Path = ARCHITECTURES) -> PreTrainedModel:
    """The model of ``[model]`` without weights.

    Its ``config.json`` comes from ``path``, if that is a folder, or from ``architectures``, where those
    of the shipped configurations lie under the last part of the name.

    Raises
    ------
    ValueError
        If neither has it.
    """
    return empty_model(config, architecture_of(config, architectures), torch.device("meta"))
