"""What a task is: questions to train on, questions held out, and what is right.

Everything else (which prompts, how many rollouts, what to learn from them) belongs to `cures` and to
the learner, so that a data set, a procedural task and the tiny arithmetic run through the same host.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cures.checks import FloatArray, IntArray
from train.engines.protocol import Completions, Decoding
from train.prompts import Prompts


class Questions(Protocol):
    """Prompts whose completions can be judged."""

    @property
    def prompts(self) -> Prompts:
        """Their token ids, N prompts."""
        ...

    @property
    def verifier_counters(self) -> Mapping[str, int]:
        """Verdicts of this process so far, reached and not, by kind; empty if nothing counts them."""
        ...

    def text(self, index: int) -> str:
        """A prompt as people read it."""
        ...

    def answer(self, index: int) -> str:
        """The right answer as people read it."""
        ...

    def completion_text(self, token_T: list[int]) -> str:
        """A completion as people read it, without what follows its end."""
        ...

    def reward(
        self, index_R: IntArray, completions: Completions, luck_R: FloatArray | None = None
    ) -> FloatArray:
        """Reward of each completion, shape (R,): 1 right, 0 wrong, NaN where there is none.

        Parameters
        ----------
        index_R : ndarray of int64, shape (R,)
            Question of each completion.
        completions : Completions
            A truncated one is wrong; a missing one stays missing.
        luck_R : ndarray of float64, shape (R,), optional
            Uniform numbers in [0, 1), for whatever is random about a verdict (coins).
        """
        ...


class Task(Protocol):
    """One experiment's questions."""

    @property
    def pool(self) -> Questions:
        """Questions to train on; a prompt's id is its place."""
        ...

    @property
    def held_out(self) -> Questions:
        """Questions never trained on."""
        ...

    @property
    def decoding(self) -> Decoding:
        """Of training rollouts."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """Token ids lie below it."""
        ...

    @property
    def category_N(self) -> IntArray | None:
        """Kind of each pool prompt, for schedulers that use it."""
        ...

    @property
    def held_out_category_N(self) -> IntArray | None:
        """Kind of each held-out prompt, for the evaluation's table."""
        ...

    @property
    def category_names(self) -> tuple[str, ...]:
        """What the kinds are called."""
        ...

    @property
    def known_success_rate_N(self) -> FloatArray | None:
        """Success rates that no policy changes, NaN where it can; None: nowhere known."""
        ...

    @property
    def features_N_D(self) -> FloatArray | None:
        """What can be said of each pool prompt before any rollout."""
        ...

    @property
    def prior_success_rate_N(self) -> FloatArray | None:
        """A guess of each success rate before any rollout."""
        ...

    @property
    def dropped(self) -> Mapping[str, int]:
        """Questions that were left out, by reason."""
        ...

    def save_tokenizer(self, folder: Path) -> None:
        """Put what turns text into tokens beside a model's weights."""
        ...
