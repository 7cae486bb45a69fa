"""Questions in words, judged by a verifier (train/tasks/protocol.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cures.checks import FloatArray, IntArray
from train.benchmarks.answering import Verify
from train.engines.protocol import Completions, Finish
from train.prompts import Prompts
from train.tasks.text_prompts import TextPrompts
from train.verifiers.pool import VerifierPool


@dataclass(frozen=True, eq=False)
class TextQuestions:
    """Prompts with their references.

    Attributes
    ----------
    text_N : tuple of str
        The questions, as people read them.
    answer_N : tuple of str
        What is right, as people read it.
    reference_N : tuple of str
        What the verifier gets.
    prompts : Prompts
    language : TextPrompts
        Turns tokens into words.
    verify : callable
        See :class:`train.benchmarks.answering.Verify`.
    """

    text_N: tuple[str, ...]
    answer_N: tuple[str, ...]
    reference_N: tuple[str, ...]
    prompts: Prompts
    language: TextPrompts
    verify: Verify

    @property
    def verifier_counters(self) -> Mapping[str, int]:
        """Those of a :class:`train.verifiers.pool.VerifierPool`; shared by all questions it judges."""
        return self.verify.counters if isinstance(self.verify, VerifierPool) else {}

    def text(self, index: int) -> str:
        """A prompt as people read it."""
        return self.text_N[index]

    def answer(self, index: int) -> str:
        """The right answer as people read it."""
        return self.answer_N[index]

    def completion_text(self, token_T: Sequence[int]) -> str:
        """What was said before the first end token."""
        return self.language.completion_text(token_T)

    def reward(
        self, index_R: IntArray, completions: Completions, luck_R: FloatArray | None = None
    ) -> FloatArray:
        """The verifier's verdicts; 0 for what was truncated, NaN for what is missing, shape (R,).

        Parameters
        ----------
        index_R : ndarray of int64, shape (R,)
        completions : Completions
        luck_R : ndarray of float64, optional
            Not used: nothing here is random.
        """
        reward_R = np.where(completions.finish_R == Finish.MISSING, np.nan, 0.0)
        row_J = np.flatnonzero(completions.finish_R == Finish.STOP).tolist()
        texts = [
            self.completion_text(
                completions.token_R_T[row, : int(completions.length_R[row])].tolist()
            )
            for row in row_J
        ]
        references = [self.reference_N[index_R[row]] for row in row_J]
        reward_R[row_J] = self.verify(texts, references)
        return reward_R
