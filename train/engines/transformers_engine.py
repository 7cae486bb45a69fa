"""Generation by ``model.generate`` of transformers: whatever it can generate with, this engine can.

Slower than `native` (every row reads its prompt anew, and rows that have ended are computed on), but it
makes no assumption about the model's cache. For the same seeds it samples what `native` samples, up to
the rounding of logits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from cures.checks import FloatArray, IntArray, as_int
from train.engines.drawing import draw, uniforms
from train.engines.protocol import Completions, Decoding, Finish, check_call
from train.engines.weights import WeightNames
from train.prompts import Prompts


class TransformersEngine:
    """Samples from a model of this process.

    A prompt's tokens do not depend on the other prompts of the call.

    Parameters
    ----------
    model : PreTrainedModel
        Its weights are the engine's. The trainer's own model may be given: then :meth:`load_weights`
        finds them in place and copies nothing.
    max_rows : int
        Rollouts generated at once; bounds memory.

    Attributes
    ----------
    lost : Counter
        Rows missing since the engine was made, by reason.
    """

    def __init__(self, model: PreTrainedModel, *, max_rows: int = 256) -> None:
        self.model = model
        self.max_rows = as_int("TransformersEngine", "max_rows", max_rows, 1)
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
        deadline = None if time_limit_s is None else monotonic() + time_limit_s
        uniform_R_T = uniforms(seed_P, quota_P, decoding.max_new_tokens)
        # prompts of like length together: little padding
        prompt_R = np.repeat(np.arange(quota_P.size), quota_P)
        order = np.argsort(prompts.length_N[prompt_R], kind="stable")
        with _plainly(self.model):
            parts = [
                _generate_rows(
                    self.model, prompts.take(prompt_R[rows]), uniform_R_T[rows], decoding, deadline
                )
                for rows in np.split(order, np.arange(self.max_rows, order.size, self.max_rows))
            ]
        completions = Completions.concatenate(parts).take(np.argsort(order, kind="stable"))
        self.lost.update({"time limit": int((completions.finish_R == Finish.MISSING).sum())})
        return completions

    def close(self) -> None:
        """Nothing is held outside this process's objects."""


@contextmanager
def _plainly(model: PreTrainedModel) -> Iterator[None]:
    """Neither dropout nor the published defaults of a model.

    ``generate`` takes over whatever ``generation_config.json`` says and the caller does not: Qwen2.5
    comes with top_p, top_k and a repetition penalty, which would be another policy than the loss's.
    """
    published, was_training = model.generation_config, model.training
    model.generation_config = GenerationConfig()
    model.eval()
    try:
        yield
    finally:
        model.generation_config = published
        model.train(was_training)


class _Draw(LogitsProcessor):
    """Chooses the next token of every row itself and leaves ``generate`` no other.

    ``generate`` would draw from torch's global generator, which knows no seeds of prompts.
    """

    def __init__(self, uniform_R_T: Tensor, decoding: Decoding, prompt_width: int) -> None:
        self.uniform_R_T, self.decoding, self.prompt_width = uniform_R_T, decoding, prompt_width
        self.log_prob_R_T = torch.zeros(uniform_R_T.shape, device=uniform_R_T.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        t = input_ids.shape[1] - self.prompt_width
        if t == self.uniform_R_T.shape[1]:  # on a GPU it may go a step too far, and take it back
            return scores
        token, log_prob = draw(scores, self.uniform_R_T[:, t], self.decoding)
        self.log_prob_R_T[:, t] = log_prob
        return torch.full_like(scores, -torch.inf).scatter(1, token.unsqueeze(1), 0.0)


class _Deadline(StoppingCriteria):
    """Ends all rows when the time is up."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        is_late = monotonic() > self.deadline
        return torch.full((len(input_ids),), is_late, device=input_ids.device)


def _generate_rows(
    model: PreTrainedModel,
    prompts: Prompts,
    uniform_R_T: FloatArray,
    decoding: Decoding,
    deadline: float | None,
) -> Completions:
    """One call of ``generate``, a prompt per row."""
    completions = Completions.missing(len(prompts), decoding)
    if len(prompts) == 0 or (deadline is not None and monotonic() > deadline):
        return completions
    ids, mask = prompts.padded_left(decoding.pad_token)
    drawn = _Draw(torch.from_numpy(uniform_R_T).to(model.device), decoding, ids.shape[1])
    found = cast(Any, model).generate(
        ids.to(model.device),
        attention_mask=mask.long().to(model.device),
        generation_config=GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            eos_token_id=list(decoding.end_tokens) or None,
            pad_token_id=decoding.pad_token,
        ),
        logits_processor=LogitsProcessorList([drawn]),
        stopping_criteria=StoppingCriteriaList([] if deadline is None else [_Deadline(deadline)]),
    )
    token_R_T = found[:, ids.shape[1] :].cpu()
    width = token_R_T.shape[1]
    is_end_R_T = torch.isin(token_R_T, torch.tensor(decoding.end_tokens, dtype=torch.int64))
    has_ended_R = is_end_R_T.any(dim=1)
    length_R = torch.where(has_ended_R, is_end_R_T.int().argmax(dim=1) + 1, width)
    is_whole_R = has_ended_R | (width == decoding.max_new_tokens)
    length_R = length_R * is_whole_R
    is_real_R_T = torch.arange(width).unsqueeze(0) < length_R.unsqueeze(1)
    completions.token_R_T[:, :width][is_real_R_T] = token_R_T[is_real_R_T]
    log_prob_R_T = drawn.log_prob_R_T[:, :width].cpu()
    completions.log_prob_R_T[:, :width][is_real_R_T] = log_prob_R_T[is_real_R_T]
    completions.length_R.copy_(length_R)
    finish_R = np.where(has_ended_R.numpy(), int(Finish.STOP), int(Finish.LENGTH))
    completions.finish_R[is_whole_R.numpy()] = finish_R[is_whole_R.numpy()]
    return completions
