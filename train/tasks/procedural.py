"""Generated questions as a task, by reasoning-gym.

Each generator is asked for one question after the other, by place in a seeded sequence; what came
before is passed over. The first questions of a generator are held out and the next ones trained on, so
that no question is on both sides. A reward is 1 where reasoning-gym's own score reaches 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cures.checks import IntArray, as_choice, fail
from train.benchmarks.answering import Verify
from train.engines.protocol import Decoding
from train.prompts import Prompts
from train.seeds import Stream, numpy_generator
from train.tasks.procedural_config import ProceduralConfig
from train.tasks.procedural_score import Source, digest, generator_of
from train.tasks.text_prompts import TextPrompts
from train.tasks.text_questions import TextQuestions
from train.verifiers.pool import VerifierPool

TRIES = 20  # questions looked at per question wanted, before a generator counts as exhausted
CHECKED = 8  # questions of each generator whose own answers are judged before anything else is


@dataclass(frozen=True, slots=True)
class Item:
    """One question before it is tokens."""

    question: str
    answer: str
    reference: str
    category: int
    ids: list[int]


@dataclass(frozen=True, eq=False)
class ProceduralTask:
    """Generated questions (train/tasks/protocol.py).

    Attributes
    ----------
    pool, held_out : TextQuestions
    decoding : Decoding
    category_N, held_out_category_N : ndarray of int64
        Generator of each question.
    category_names : tuple of str
    dropped : dict of str to int
        Questions passed over, by reason.
    language : TextPrompts
    """

    pool: TextQuestions
    held_out: TextQuestions
    decoding: Decoding
    category_N: IntArray
    held_out_category_N: IntArray
    category_names: tuple[str, ...]
    dropped: dict[str, int]
    language: TextPrompts

    known_success_rate_N: None = None
    features_N_D: None = None
    prior_success_rate_N: None = None

    @property
    def vocabulary_size(self) -> int:
        """Token ids lie below it."""
        return len(self.language.tokenizer)

    def save_tokenizer(self, folder: Path) -> None:
        """The tokenizer's files."""
        self.language.save(folder)


def build(config: ProceduralConfig, decode_temperature: float = 1.0) -> ProceduralTask:
    """Generate pool and held-out questions.

    Parameters
    ----------
    config : ProceduralConfig
    decode_temperature : float
        Of training rollouts.

    Raises
    ------
    ValueError
        If reasoning-gym is not installed, a generator is unknown, or one has too few questions.
    """
    known = _known_generators()
    for name in config.names:
        as_choice("[task]", "generators", name, known)
    language = TextPrompts.of(config)
    verify = VerifierPool(
        "train.tasks.procedural_score:is_right",
        config.verifier_workers,
        config.verifier_time_limit_s,
        config.verifier_on_failure,
        memory_limit=int(config.verifier_memory_gib * 2**30),
    )
    verify.start()
    held: list[Item] = []
    pool: list[Item] = []
    dropped: dict[str, int] = {}
    kinds = len(config.names)
    for category, name in enumerate(config.names):
        wanted = [
            _share(size, kinds, category) for size in (config.held_out_size, config.pool_size)
        ]
        items = _items(config, language, name, category, sum(wanted), dropped)
        for side, count in zip((held, pool), wanted, strict=True):
            side += [next(items) for _ in range(count)]
        _check_repeats(verify, name, [*held, *pool], category)
    order = numpy_generator(config.seed, Stream.PROBLEMS).permutation(len(held))
    held = [held[i] for i in order]  # of all kinds, whatever part of them is looked at
    return ProceduralTask(
        pool=_questions(pool, language, verify),
        held_out=_questions(held, language, verify),
        decoding=language.decoding(config.max_new_tokens, decode_temperature),
        category_N=np.array([item.category for item in pool]),
        held_out_category_N=np.array([item.category for item in held]),
        category_names=tuple(config.names),
        dropped=dropped,
        language=language,
    )


def _known_generators() -> tuple[str, ...]:
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ValueError(
            "[task]: kind 'procedural' needs the package reasoning-gym: "
            "pip install 'cures[procedural]', or pip install reasoning-gym"
        ) from error
    return tuple(sorted(DATASETS))


def _check_repeats(verify: VerifierPool, name: str, items: Sequence[Item], category: int) -> None:
    """Refuse a generator whose questions or answers are others in a worker process.

    Raises
    ------
    ValueError
        Naming it, and the question.
    """
    checked = [item for item in items if item.category == category][:CHECKED]
    answers = [rf"\boxed{{{item.answer}}}" for item in checked]
    verdict_C = verify(answers, [item.reference for item in checked])
    for item, verdict in zip(checked, verdict_C, strict=True):
        if verdict != 1.0:
            legal = (
                "ones that repeat themselves in another process, and give full score to their own "
                f"answers in a box; {name} does not: {verify.last_error or 'score below 1'}"
            )
            fail("[task]", "generators", legal, item.question)


def _share(total: int, kinds: int, place: int) -> int:
    """As even as can be; the first get one more."""
    return total // kinds + (place < total % kinds)


def _items(
    config: ProceduralConfig,
    language: TextPrompts,
    name: str,
    category: int,
    wanted: int,
    dropped: dict[str, int],
) -> Iterator[Item]:
    """Distinct questions of one generator that fit, without end.

    Raises
    ------
    ValueError
        When it is exhausted.
    """
    seed = int(numpy_generator(config.seed, Stream.PROBLEMS, 1 + category).integers(2**31))
    try:
        generator = generator_of(name, seed, TRIES * wanted)
    except Exception as error:  # what its settings lack is its author's choice
        legal = f"ones that need no settings; {name} says: {type(error).__name__}: {error}"
        fail("[task]", "generators", legal, name)
    seen: set[str] = set()
    for index in range(TRIES * wanted):
        entry: dict[str, Any] = generator[index]
        question = str(entry["question"]).strip()
        if " ".join(question.split()) in seen:
            dropped["duplicate"] = dropped.get("duplicate", 0) + 1
            continue
        seen.add(" ".join(question.split()))
        ids = language.encode([language.written(question)])[0]
        if len(ids) > config.max_prompt_tokens:
            dropped["too long"] = dropped.get("too long", 0) + 1
            continue
        source: Source = {
            "name": name, "seed": seed, "size": TRIES * wanted, "index": index,
            "digest": digest(entry),
        }  # fmt: skip
        yield Item(question, str(entry["answer"]), json.dumps(source), category, ids)
    longest = config.max_prompt_tokens
    legal = f"one with at least {wanted} different questions of at most {longest} tokens"
    fail("[task]", "generators", legal, name)


def _questions(items: Sequence[Item], language: TextPrompts, verify: Verify) -> TextQuestions:
    return TextQuestions(
        tuple(item.question for item in items),
        tuple(item.answer for item in items),
        tuple(item.reference for item in items),
        Prompts.of([item.ids for item in items]),
        language,
        verify,
    )
