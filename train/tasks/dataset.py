"""A data set as a task: rows -> questions, cleaned, with some of them held out.

What is left out is counted (:attr:`DatasetTask.dropped`), in this order: rows without an answer (if
``missing_answers = "drop"``), prompts that are too long, prompts whose text came before, answers that
verifier ``math`` cannot read (if ``missing_answers = "drop"``), prompts that are held out in a file of
their own, prompts beyond ``limit``. Texts are compared without regard to white space. Duplicates go
before questions are held out, so that none is on both sides.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cures.checks import FloatArray, IntArray, as_float, fail
from train.benchmarks.answering import Verify
from train.benchmarks.references import after_hashes, boxed, listed, plain
from train.engines.protocol import Decoding
from train.prompts import Prompts
from train.seeds import Stream, numpy_generator
from train.tasks.dataset_config import DatasetConfig
from train.tasks.rows import Row, rows_of
from train.tasks.text_prompts import Conversation, TextPrompts
from train.tasks.text_questions import TextQuestions
from train.verifiers.pool import VerifierPool

CHECK_LIMIT_S = 60.0  # for one reference: a generous one, so that a busy machine changes no pool
# These are read for sure, and most references are of this kind.
NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")


def as_text(value: Any) -> str | None:
    """Text or a number, nothing left out; None if it is neither, or empty.

    Examples
    --------
    >>> as_text(" $007 "), as_text(7), as_text(""), as_text(True)
    ('$007', '7', None, None)
    """
    is_text = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value).strip() or None if is_text else None


READING = {
    "plain": plain, "boxed": boxed, "hashes": after_hashes, "list": listed, "text": as_text,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One question before it is tokens, and the row it comes from."""

    place: str
    prompt: str | Conversation
    reference: str
    category: str | None
    prior: float | None

    @property
    def text(self) -> str:
        """As people read it."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(message["content"] for message in self.prompt)

    @property
    def key(self) -> str:
        """Equal for prompts that are the same but for white space."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return " ".join(prompt.split())
        return json.dumps([[m["role"], " ".join(m["content"].split())] for m in prompt])


@dataclass(frozen=True, eq=False)
class DatasetTask:
    """Questions of a data set (train/tasks/protocol.py).

    Attributes
    ----------
    pool, held_out : TextQuestions
    decoding : Decoding
    category_N, held_out_category_N : ndarray of int64 or None
    category_names : tuple of str
    prior_success_rate_N : ndarray of float64 or None
    dropped : dict of str to int
        What was left out, by reason; of the pool and, with the prefix ``held-out: ``, of held-out
        questions in a file of their own.
    language : TextPrompts
    """

    pool: TextQuestions
    held_out: TextQuestions
    decoding: Decoding
    category_N: IntArray | None
    held_out_category_N: IntArray | None
    category_names: tuple[str, ...]
    prior_success_rate_N: FloatArray | None
    dropped: dict[str, int]
    language: TextPrompts

    known_success_rate_N: None = None
    features_N_D: None = None

    @property
    def vocabulary_size(self) -> int:
        """Token ids lie below it."""
        return len(self.language.tokenizer)

    def save_tokenizer(self, folder: Path) -> None:
        """The tokenizer's files."""
        self.language.save(folder)


def build(config: DatasetConfig, decode_temperature: float = 1.0) -> DatasetTask:
    """Read, clean and split a data set.

    Parameters
    ----------
    config : DatasetConfig
    decode_temperature : float
        Of training rollouts.

    Raises
    ------
    ValueError
        If data, tokenizer or verifier cannot be loaded, a row is not what is needed (named by file and
        line), or too few questions are left.
    """
    language = TextPrompts.of(config)
    options = {"pattern": config.verifier_pattern} if config.verifier == "regex" else {}
    verify = VerifierPool(
        config.verifier,
        config.verifier_workers,
        config.verifier_time_limit_s,
        config.verifier_on_failure,
        options=options,
        memory_limit=int(config.verifier_memory_gib * 2**30),
    )
    verify.start()  # a misspelt function is found before anything is generated
    dropped: Counter[str] = Counter()
    own = _own_held_out(config)
    items, ids = _cleaned(config, language, config.data, config.split, dropped)
    if own is None:
        held_items, held_ids, items, ids = _split(config, items, ids)
    else:
        counted: Counter[str] = Counter()
        held_items, held_ids = _cleaned(config, language, *own, counted)
        held_items, held_ids = _drawn(config, held_items, held_ids)
        dropped.update({f"held-out: {reason}": count for reason, count in counted.items()})
        seen = {item.key for item in held_items}
        items, ids = _kept(
            items, ids, [i for i, item in enumerate(items) if item.key not in seen], dropped,
            "also held out",
        )  # fmt: skip
    if config.limit is not None and config.limit < len(items):
        chosen = _chance(config, 1).choice(len(items), size=config.limit, replace=False)
        items, ids = _kept(items, ids, sorted(chosen.tolist()), dropped, "beyond limit")
    _check_enough(config, items, held_items)
    names = tuple(sorted({item.category for item in (*items, *held_items) if item.category}))
    return DatasetTask(
        pool=_questions(items, ids, language, verify),
        held_out=_questions(held_items, held_ids, language, verify),
        decoding=language.decoding(config.max_new_tokens, decode_temperature),
        category_N=_categories(items, names),
        held_out_category_N=_categories(held_items, names),
        category_names=names,
        prior_success_rate_N=(
            None
            if config.prior_column is None
            else np.array([item.prior for item in items], dtype=np.float64)
        ),
        dropped=dict(dropped),
        language=language,
    )


def _own_held_out(config: DatasetConfig) -> tuple[str, str] | None:
    """Data set and split of held-out questions, if they are not drawn from the pool's."""
    if config.held_out_data is None and config.held_out_split is None:
        return None
    return config.held_out_data or config.data, config.held_out_split or config.split


def _cleaned(
    config: DatasetConfig, language: TextPrompts, data: str, split: str, dropped: Counter[str]
) -> tuple[list[Item], list[list[int]]]:
    """Questions that can be used and their token ids, each text once."""
    is_pool = data == config.data
    columns = [
        name
        for name in (
            config.prompt_column,
            config.answer_column,
            config.category_column,
            config.prior_column if is_pool and split == config.split else None,
        )
        if name is not None
    ]
    rows = rows_of(
        data,
        columns,
        subset=config.subset if is_pool else None,
        split=split,
        revision=config.revision if is_pool else "main",
    )
    items: list[Item] = []
    for row in rows:
        item = _item(row, config, needs_prior=config.prior_column in columns)
        if item is None:
            dropped["no answer"] += 1
        else:
            items.append(item)
    ids = language.encode([language.written(item.prompt) for item in items])
    short = [i for i, row_ids in enumerate(ids) if len(row_ids) <= config.max_prompt_tokens]
    items, ids = _kept(items, ids, short, dropped, "too long")
    first: dict[str, int] = {}
    for i, item in enumerate(items):
        first.setdefault(item.key, i)
    items, ids = _kept(items, ids, list(first.values()), dropped, "duplicate")
    unreadable = _unreadable(config, items)
    readable = [i for i, item in enumerate(items) if item.reference not in unreadable]
    return _kept(items, ids, readable, dropped, "unreadable answer")


def _unreadable(config: DatasetConfig, items: Sequence[Item]) -> set[str]:
    """References that verifier ``math`` cannot read, or not compare within :data:`CHECK_LIMIT_S`.

    Raises
    ------
    ValueError
        Naming the first such row, unless they may be left out.
    """
    references = sorted({i.reference for i in items if not NUMBER.fullmatch(i.reference)})
    if config.verifier != "math" or not references:
        return set()
    with VerifierPool(
        "train.verifiers.math:is_readable",
        config.verifier_workers,
        CHECK_LIMIT_S,
        "zero",
        memory_limit=int(config.verifier_memory_gib * 2**30),
    ) as check:
        is_readable_R = check([""] * len(references), references)
    found = {references[i] for i in np.flatnonzero(is_readable_R == 0.0)}
    first = next((item for item in items if item.reference in found), None)
    if first is not None and config.missing_answers == "refuse":
        legal = "an answer that math-verify can read, or missing_answers = 'drop'"
        fail(first.place, config.answer_column, legal, first.reference)
    return found


def _item(row: Row, config: DatasetConfig, *, needs_prior: bool) -> Item | None:
    """A row as a question; None if it has no answer and may be left out.

    Raises
    ------
    ValueError
        Naming the row and the column.
    """
    values, place = row.values, row.place
    prompt = _prompt(values.get(config.prompt_column), place, config)
    reference = READING[config.answer_format](values.get(config.answer_column))
    if reference is None or reference in config.unanswered_texts:
        if config.missing_answers == "drop":
            return None
        legal = f"an answer of format {config.answer_format!r}, or missing_answers = 'drop'"
        fail(place, config.answer_column, legal, values.get(config.answer_column))
    category = None
    if config.category_column is not None:
        category = plain(values.get(config.category_column))
        if category is None:
            legal = "a text or a number"
            fail(place, config.category_column, legal, values.get(config.category_column))
    prior = None
    if needs_prior and config.prior_column is not None:
        prior = as_float(place, config.prior_column, values.get(config.prior_column), 0.0, 1.0)
    return Item(place, prompt, reference, category, prior)


def _prompt(value: Any, place: str, config: DatasetConfig) -> str | Conversation:
    """A text, or messages of which the user's is the last."""
    name = config.prompt_column
    if isinstance(value, str) and value.strip():
        return value.strip()
    if config.template == "plain" or not isinstance(value, list) or not value:
        fail(place, name, "a text that is not empty, or chat messages with template chat", value)
    for message in value:
        is_message = isinstance(message, dict) and all(
            isinstance(message.get(key), str) for key in ("role", "content")
        )
        if not is_message:
            fail(place, name, "messages with the texts role and content", message)
    if value[-1]["role"] != "user":
        fail(place, name, "messages that end with the user's", value[-1])
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _kept(
    items: Sequence[Item],
    ids: Sequence[list[int]],
    places: Sequence[int],
    dropped: Counter[str],
    reason: str,
) -> tuple[list[Item], list[list[int]]]:
    """The questions at ``places``; the others are counted under ``reason``."""
    if len(places) < len(items):
        dropped[reason] += len(items) - len(places)
    return [items[i] for i in places], [ids[i] for i in places]


def _held_out_count(config: DatasetConfig, available: int) -> int | None:
    if config.held_out_share is not None:
        return round(config.held_out_share * available)
    return config.held_out_size


def _drawn(
    config: DatasetConfig, items: list[Item], ids: list[list[int]]
) -> tuple[list[Item], list[list[int]]]:
    """So many held-out questions as are asked for, all without such a number, in random order."""
    order = _chance(config, 0).permutation(len(items)).tolist()
    count = _held_out_count(config, len(items))
    if count is not None and count > len(items):
        fail("[task]", "held_out_size", f"at most {len(items)}, as many are left", count)
    return _kept(items, ids, order[:count], Counter(), "")


def _split(
    config: DatasetConfig, items: list[Item], ids: list[list[int]]
) -> tuple[list[Item], list[list[int]], list[Item], list[list[int]]]:
    """Held-out questions in random order, and the others as they came."""
    order = _chance(config, 0).permutation(len(items)).tolist()
    count = _held_out_count(config, len(items))
    if count is None or count >= len(items):
        legal = f"fewer than the {len(items)} questions that are left"
        fail("[task]", "held_out_size", legal, count)
    held = _kept(items, ids, order[:count], Counter(), "")
    rest = _kept(items, ids, sorted(order[count:]), Counter(), "")
    return *held, *rest


def _chance(config: DatasetConfig, index: int) -> np.random.Generator:
    return numpy_generator(config.seed, Stream.PROBLEMS, index)


def _check_enough(config: DatasetConfig, items: list[Item], held_items: list[Item]) -> None:
    if not items:
        raise ValueError(f"[task]: {config.data} has no question left to train on")
    if len(held_items) < 2:
        raise ValueError(f"[task]: at least 2 held-out questions are needed, {len(held_items)} are")


def _questions(
    items: list[Item], ids: list[list[int]], language: TextPrompts, verify: Verify
) -> TextQuestions:
    answers = tuple(item.reference for item in items)
    texts = tuple(item.text for item in items)
    return TextQuestions(texts, answers, answers, Prompts.of(ids), language, verify)


def _categories(items: list[Item], names: tuple[str, ...]) -> IntArray | None:
    """Place of each question's category; None where there are none."""
    place = {name: i for i, name in enumerate(names)}
    if not names:
        return None
    return np.array([place[str(item.category)] for item in items], dtype=np.int64)
