"""Completions that a script says: for tests of everything that lives on an engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cures.checks import IntArray, as_float
from train.engines.protocol import Completions, Decoding, check_call
from train.engines.rows import Rows
from train.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a script is asked for."""

    prompt: tuple[int, ...]
    slot: int  # place among the prompt's rows
    seed: int  # of the prompt
    version: int  # of the weights


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a script says.

    Attributes
    ----------
    tokens : sequence of int
        Cut after ``max_new_tokens``; a shorter completion must come to an end token.
    log_probs : sequence of float, optional
        One per token; absent: zeros.
    takes_s : float
        Seconds of no clock: a row is missing if it takes longer than the call's time limit.
    """

    tokens: Sequence[int]
    log_probs: Sequence[float] | None = None
    takes_s: float = 0.0

    def __post_init__(self) -> None:
        as_float("Line", "takes_s", self.takes_s, 0.0)


Script = Callable[[Rollout], Line | Sequence[int] | None]


class ScriptedEngine:
    """Says what its script says, the same at every call.

    Parameters
    ----------
    script : callable
        Of a :class:`Rollout`: a :class:`Line`, or its tokens alone, or None for a missing row. An
        exception that it raises is raised.

    Attributes
    ----------
    version : int or None
        May be set, to be wrong.
    calls : list of tuple
        (prompts, quota_P, seed_P, version) of every call so far.
    weights : dict of str to Tensor
        Those loaded last; not copied.
    lost : Counter
        Rows missing since the engine was made, by reason.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self.version: int | None = None
        self.calls: list[tuple[Prompts, IntArray, IntArray, int]] = []
        self.weights: dict[str, Tensor] = {}
        self.lost: Counter[str] = Counter()

    @classmethod
    def of_table(
        cls, table: Mapping[tuple[int, ...], Sequence[Line | Sequence[int] | None]]
    ) -> ScriptedEngine:
        """Lines by prompt; rows of a prompt go through them in turn, over and over."""
        return cls(lambda rollout: table[rollout.prompt][rollout.slot % len(table[rollout.prompt])])

    def load_weights(self, named: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See :class:`train.engines.protocol.Engine`."""
        self.version = None
        self.weights = dict(named)
        self.version = version

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
        self.calls.append((prompts, quota_P, seed_P, version))
        rows = Rows(int(quota_P.sum()), decoding)
        prompt_R = np.repeat(np.arange(quota_P.size), quota_P)
        first_P = np.cumsum(quota_P) - quota_P
        for row, i in enumerate(prompt_R.tolist()):
            prompt = tuple(prompts.row(i).tolist())
            said = self._script(Rollout(prompt, row - int(first_P[i]), int(seed_P[i]), version))
            line = said if isinstance(said, Line | None) else Line(tokens=said)
            if line is None:
                self.lost["script"] += 1
            elif time_limit_s is not None and line.takes_s > time_limit_s:
                self.lost["time limit"] += 1
            else:
                tokens = list(line.tokens)[: decoding.max_new_tokens]
                log_probs = [0.0] * len(tokens) if line.log_probs is None else line.log_probs
                rows.fill(row, tokens, log_probs[: decoding.max_new_tokens])
        return rows.completions

    def close(self) -> None:
        """Nothing is held outside this process's objects."""
