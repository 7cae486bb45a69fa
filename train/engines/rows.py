"""Rows of tokens as other programs return them -> :class:`Completions`, checked on the way."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cures.checks import fail
from train.engines.drawing import require_finite
from train.engines.protocol import Completions, Decoding, Finish


class Rows:
    """Completions that fill up row by row; a row that is never filled is missing.

    Parameters
    ----------
    rows : int
        Of the call.
    decoding : Decoding

    Attributes
    ----------
    completions : Completions
        As filled so far.
    """

    def __init__(self, rows: int, decoding: Decoding) -> None:
        self.completions = Completions.missing(rows, decoding)
        self._decoding = decoding
        self._forbidden = frozenset(decoding.forbidden_tokens)

    @property
    def missing(self) -> int:
        """Rows not filled."""
        return int((self.completions.finish_R == Finish.MISSING).sum())

    def fill(self, row: int, tokens: Sequence[int], log_probs: Sequence[float]) -> None:
        """Enter a finished completion.

        Parameters
        ----------
        row : int
        tokens : sequence of int
            With its end token, or ``max_new_tokens`` of them.
        log_probs : sequence of float
            Of these tokens; taken for 0 at temperature 0.

        Raises
        ------
        ValueError
            If it could not have come from the decoding.
        TrainingDivergedError
            If a log-probability is not finite.
        """
        decoding, size = self._decoding, len(tokens)
        ends = [i for i, token in enumerate(tokens) if token in decoding.end_tokens]
        has_ended = ends == [size - 1]
        is_legal = (
            (has_ended or (not ends and size == decoding.max_new_tokens))
            and size <= decoding.max_new_tokens
            and size == len(log_probs)
            and self._forbidden.isdisjoint(tokens)
        )
        if not is_legal:
            legal = (
                f"up to an end token or {decoding.max_new_tokens} long, none forbidden, "
                "one log_prob each"
            )
            fail("generate", "tokens", legal, (list(tokens), len(log_probs)))
        log_prob_T = torch.tensor(log_probs, dtype=torch.float32)
        require_finite(log_prob_T)
        self.completions.token_R_T[row, :size] = torch.tensor(tokens)
        if decoding.temperature > 0.0:
            self.completions.log_prob_R_T[row, :size] = log_prob_T
        self.completions.length_R[row] = size
        self.completions.finish_R[row] = Finish.STOP if has_ended else Finish.LENGTH
