"""What a rollout engine is: prompts with their own quota and seed in, sampled tokens out.

An engine holds the weights of one *version*, which the trainer counts in policy updates. While new
weights are loaded the engine has no version, and it refuses to sample under another version than the
one asked for: rollouts of a stale cache or of a half-updated model cannot come about unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cures.checks import IntArray, as_float, as_int, fail
from train.errors import TrainError
from train.prompts import Prompts


class Finish(IntEnum):
    """Why a completion ended."""

    STOP = 0  # with an end token
    LENGTH = 1  # max_new_tokens: truncated, a failure
    MISSING = 2  # time-out, abort, lost: no completion, missing data


class StaleEngineError(TrainError):
    """The engine does not hold the weights that were asked for."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How completions are sampled.

    Attributes
    ----------
    max_new_tokens : int
        >= 1; a row that has not ended by then is truncated.
    end_tokens : tuple of int
        Each of them ends a completion and belongs to it.
    pad_token : int
        Fills the rows after their end.
    temperature : float
        >= 0; 0 takes the likeliest token, which has log-probability 0 then.
    forbidden_tokens : tuple of int
        Never sampled; their probability is moved to the others, in the sampler and in the loss.
    """

    max_new_tokens: int
    end_tokens: tuple[int, ...]
    pad_token: int
    temperature: float = 1.0
    forbidden_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        as_int("Decoding", "max_new_tokens", self.max_new_tokens, 1)
        as_float("Decoding", "temperature", self.temperature, low=0.0)
        if set(self.end_tokens) & set(self.forbidden_tokens):
            fail("Decoding", "end_tokens", "allowed tokens", self.end_tokens)


@dataclass(frozen=True, slots=True, eq=False)
class Completions:
    """What was generated: one row per planned rollout, prompt by prompt."""

    token_R_T: Tensor  # int64, end token included, padding after it
    log_prob_R_T: Tensor  # float32, under the policy that sampled; 0 after the end
    length_R: Tensor  # int64, tokens generated, end token included; 0 if missing
    finish_R: IntArray  # int64, values of Finish
    # inputs of the head that each token was sampled from; 0 after the end; None if not kept
    hidden_R_T_h: Tensor | None = None

    def __len__(self) -> int:
        return int(self.length_R.numel())

    @classmethod
    def concatenate(cls, parts: Sequence[Completions]) -> Completions:
        """All rows of ``parts``, of one width, in order; hidden states if all have them."""
        hidden = [part.hidden_R_T_h for part in parts if part.hidden_R_T_h is not None]
        return cls(
            torch.cat([part.token_R_T for part in parts]),
            torch.cat([part.log_prob_R_T for part in parts]),
            torch.cat([part.length_R for part in parts]),
            np.concatenate([part.finish_R for part in parts]),
            torch.cat(hidden) if hidden and len(hidden) == len(parts) else None,
        )

    def take(self, index_R: IntArray) -> Completions:
        """Rows at ``index_R``."""
        index = torch.from_numpy(index_R)
        return Completions(
            self.token_R_T[index],
            self.log_prob_R_T[index],
            self.length_R[index],
            self.finish_R[index_R],
            None if self.hidden_R_T_h is None else self.hidden_R_T_h[index],
        )

    @classmethod
    def missing(cls, rows: int, decoding: Decoding, hidden_size: int | None = None) -> Completions:
        """``rows`` rollouts that were lost; with a size, of hidden states that were kept."""
        width = decoding.max_new_tokens
        return cls(
            torch.full((rows, width), decoding.pad_token),
            torch.zeros(rows, width),
            torch.zeros(rows, dtype=torch.int64),
            np.full(rows, int(Finish.MISSING)),
            None if hidden_size is None else torch.zeros(rows, width, hidden_size),
        )


class Engine(Protocol):
    """Generates completions under the weights it was given last."""

    @property
    def version(self) -> int | None:
        """Policy updates that its weights have seen; None without weights or amid a change."""
        ...

    @property
    def lost(self) -> Mapping[str, int]:
        """Rollouts that went missing since the engine was made, by reason."""
        ...

    def load_weights(self, named: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take over all weights, by their name in the model's ``state_dict``, and drop caches.

        If it fails part-way, ``version`` is None until a later call succeeds.
        """
        ...

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
        """Sample ``quota_P[i]`` completions of prompt i.

        Parameters
        ----------
        prompts : Prompts
            Of one plan.
        quota_P : ndarray of int64, shape (P,)
            >= 0.
        seed_P : ndarray of int64, shape (P,)
            A prompt's tokens depend on its seed, the decoding and the weights; where the engine can
            promise it, not on the other prompts of the call.
        decoding : Decoding
        version : int
            The weights that the caller means.
        time_limit_s : float, optional
            What is not finished by then is ``Finish.MISSING``; nothing is raised.
        keeps_hidden : bool
            Return the hidden states too, where the engine has them; others give None.

        Raises
        ------
        StaleEngineError
            If the engine holds other weights.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds outside this process's own objects."""
        ...


def check_call(
    engine: Engine, prompts: Prompts, quota_P: IntArray, seed_P: IntArray, version: int
) -> None:
    """What every engine checks first.

    Raises
    ------
    ValueError
        If shapes do not fit or a quota is negative.
    StaleEngineError
        If the engine holds other weights than ``version``.
    """
    for name, values in (("quota_P", quota_P), ("seed_P", seed_P)):
        if values.shape != (len(prompts),):
            fail("generate", name, f"of shape ({len(prompts)},)", values.shape)
    if (quota_P < 0).any():
        fail("generate", "quota_P", ">= 0", int(quota_P.min()))
    if engine.version != version:
        raise StaleEngineError(
            f"generate: the engine holds the weights of update {engine.version}, "
            f"asked for those of {version}; call load_weights first"
        )
