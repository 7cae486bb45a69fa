"""Generation in this process: one prefill per distinct prompt, then one step per token for all rows.

A prompt with quota n is read once and its keys and values are repeated n times; rows that have ended
leave the batch; keys and values live in buffers that are written in place. Works with any causal model
of transformers whose layers attend to everything before them.

How numbers become tokens is in drawing.py.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from cures.checks import FloatArray, IntArray, as_int
from train.engines.drawing import draw, uniforms
from train.engines.protocol import Completions, Decoding, Finish, check_call
from train.engines.weights import WeightNames
from train.hooks import inputs_of
from train.prompts import Prompts


class NativeEngine:
    """Samples from a model of this process.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode; its weights are the engine's. The trainer's own model may be given: then
        :meth:`load_weights` finds them in place and copies nothing.
    max_rows : int
        Rollouts generated at once; bounds memory.
    """

    def __init__(self, model: PreTrainedModel, *, max_rows: int = 2048) -> None:
        self.model = model
        self.max_rows = as_int("NativeEngine", "max_rows", max_rows, 1)
        self.lost: Counter[str] = Counter()
        self._names = WeightNames(model)
        self._version: int | None = None

    @property
    def version(self) -> int | None:
        """See :class:`train.engines.protocol.Engine`."""
        return self._version

    @torch.no_grad()
    def load_weights(self, named: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See :class:`train.engines.protocol.Engine`; other names or shapes are refused."""
        self._version = None
        own = self.model.state_dict()
        for name, value in self._names.checked(named):
            if own[name].data_ptr() != value.data_ptr():
                own[name].copy_(value)
        self._version = version

    def generate(
        self,
        prompts: Prompts,
        quota_P: IntArray,
        seed_P: IntArray,
        decoding: Decoding,
        *,
        version: int,
        time_limit_s: float | None = None,
        keeps_hidden: bool = False,
    ) -> Completions:
        """See :class:`train.engines.protocol.Engine`."""
        check_call(self, prompts, quota_P, seed_P, version)
        deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
        uniform_R_T = uniforms(seed_P, quota_P, decoding.max_new_tokens)
        # prompts of like length together: little padding
        prompt_R = np.repeat(np.arange(quota_P.size), quota_P)
        order = np.argsort(prompts.length_N[prompt_R], kind="stable")
        parts = [
            _generate_rows(
                self.model,
                prompts,
                prompt_R[rows],
                uniform_R_T[rows],
                decoding,
                deadline,
                keeps_hidden=keeps_hidden,
            )
            for rows in np.split(order, np.arange(self.max_rows, order.size, self.max_rows))
        ]
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        completions = Completions.concatenate(parts).take(back)
        self.lost.update({"time limit": int((completions.finish_R == Finish.MISSING).sum())})
        return completions

    def close(self) -> None:
        """Nothing is held outside this process's objects."""


class _Buffer(DynamicLayer):
    """Keys and values of one layer in a buffer of fixed length: a step writes, and copies nothing."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity, self.used = capacity, 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = self._empty(key_states), self._empty(value_states)
        assert self.keys is not None
        assert self.values is not None
        stop = self.used + key_states.shape[-2]
        self.keys[..., self.used : stop, :] = key_states
        self.values[..., self.used : stop, :] = value_states
        self.used = stop
        return self.keys[..., :stop, :], self.values[..., :stop, :]

    def _empty(self, like: Tensor, rows: int | None = None) -> Tensor:
        batch, heads, _, width = like.shape
        return like.new_empty((batch if rows is None else rows, heads, self.capacity, width))

    def get_seq_length(self) -> int:
        return self.used

    def select_rows(self, index: Tensor) -> None:
        """Keep the rows at ``index``, repeats allowed."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = self._empty(old, index.numel())
            new[..., : self.used, :] = old[index, :, : self.used]
            setattr(self, name, new)


@torch.no_grad()
def _generate_rows(
    model: PreTrainedModel,
    prompts: Prompts,
    prompt_R: IntArray,
    uniform_R_T: FloatArray,
    decoding: Decoding,
    deadline: float | None,
    *,
    keeps_hidden: bool,
) -> Completions:
    """Rows of adjacent equal prompts."""
    rows, width, device = prompt_R.size, decoding.max_new_tokens, model.device
    hidden_size = model.config.hidden_size if keeps_hidden else None
    completions = Completions.missing(rows, decoding, hidden_size)
    if rows == 0 or _is_late(deadline):
        return completions
    distinct, row_of = np.unique(prompt_R, return_inverse=True)
    ids, mask = prompts.take(distinct).padded_left(decoding.pad_token)
    index = torch.from_numpy(row_of)
    layers = [_Buffer(ids.shape[1] + width) for _ in range(model.config.num_hidden_layers)]
    step = _Step(model, layers, None if bool(mask.all()) else mask.to(device))
    logits, hidden = (found[index] for found in step(ids.to(device)))
    step.select_rows(index.to(device))
    live = torch.arange(rows)
    uniform = torch.from_numpy(uniform_R_T).to(device)
    end = torch.tensor(decoding.end_tokens, dtype=torch.int64, device=device)
    for t in range(width):
        token, log_prob = draw(logits, uniform[live.to(device), t], decoding)
        completions.token_R_T[live, t] = token.cpu()
        completions.log_prob_R_T[live, t] = log_prob.cpu()
        if completions.hidden_R_T_h is not None:
            completions.hidden_R_T_h[live, t] = hidden.float().cpu()
        has_ended = torch.isin(token, end).cpu()
        completions.finish_R[live[has_ended].numpy()] = Finish.STOP
        completions.length_R[live] = t + 1
        going = (~has_ended).nonzero().squeeze(1)
        live = live[going]
        if t + 1 == width or going.numel() == 0:
            completions.finish_R[live.numpy()] = Finish.LENGTH
            break
        if _is_late(deadline):
            _lose(completions, live, decoding)
            break
        if going.numel() < token.numel():
            step.select_rows(going.to(device))
            token = token[going.to(device)]
        logits, hidden = step(token.unsqueeze(1))
    return completions


def _is_late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline


def _lose(completions: Completions, rows: Tensor, decoding: Decoding) -> None:
    """What has not ended in time never was."""
    completions.token_R_T[rows] = decoding.pad_token
    completions.log_prob_R_T[rows] = 0.0
    completions.length_R[rows] = 0
    if completions.hidden_R_T_h is not None:
        completions.hidden_R_T_h[rows] = 0.0


class _Step:
    """A forward pass over new tokens of the live rows: logits of the next one, and the head's input."""

    def __init__(self, model: PreTrainedModel, layers: list[_Buffer], mask: Tensor | None) -> None:
        self.model, self.layers, self.mask = model, layers, mask
        self.cache = Cache(layers=[*layers])
        self.is_prefill = True

    def __call__(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        options: dict[str, Tensor] = {}
        if self.mask is not None:  # some row has padding before it
            if not self.is_prefill:
                self.mask = torch.cat([self.mask, self.mask.new_ones((len(self.mask), 1))], dim=1)
            position = (self.mask.long().cumsum(dim=1) - 1).clamp(min=0)
            options = {
                "attention_mask": self.mask,
                "position_ids": position[:, -ids.shape[1] :],
            }
        self.is_prefill = False
        with inputs_of(self.model.get_output_embeddings()) as inputs:
            output = self.model(
                input_ids=ids,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
                **options,
            )
        return output.logits[:, -1], inputs[0][:, -1]

    def select_rows(self, index: Tensor) -> None:
        for layer in self.layers:
            layer.select_rows(index)
        if self.mask is not None:
            self.mask = self.mask[index]
