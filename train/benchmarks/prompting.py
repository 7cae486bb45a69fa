"""Questions -> token ids, through the tokenizer's chat template and with the paper's instruction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import GenerationConfig, PreTrainedTokenizerBase

from cures.checks import IntArray, as_choice, fail
from train.benchmarks.instruction import STYLES, messages, plain_text
from train.benchmarks.loading import Problem
from train.prompts import Prompts


def encode(
    tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], style: str = "system"
) -> Prompts:
    """Token ids of the problems' prompts.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        With a chat template, unless ``style`` is 'plain'.
    problems : sequence of Problem
    style : str
        Of ``train.benchmarks.instruction.STYLES``.

    Raises
    ------
    ValueError
        If the style is unknown, or the tokenizer has no chat template or one that refuses the messages.
    """
    return Prompts.of([_encode_one(tokenizer, problem.question, style) for problem in problems])


def _encode_one(tokenizer: PreTrainedTokenizerBase, question: str, style: str) -> list[int]:
    as_choice("bench", "--prompt", style, tuple(STYLES))
    if style == "plain":
        ids: list[int] = tokenizer.encode(plain_text(question))
        return ids
    if not tokenizer.chat_template:
        fail("bench", "--prompt", "plain: the tokenizer has no chat template", style)
    try:
        text: Any = tokenizer.apply_chat_template(
            messages(question, style), tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # what a template raises is its author's choice
        raise ValueError(
            f"bench: the tokenizer's chat template refuses --prompt {style} ({error}); try user"
        ) from error
    # the template writes whatever special tokens there are to be
    ids = tokenizer.encode(text, add_special_tokens=False)
    return ids


def end_tokens(
    tokenizer: PreTrainedTokenizerBase,
    published: GenerationConfig | None,
    extra: Sequence[str] = (),
) -> tuple[int, ...]:
    """Tokens that end an answer: the tokenizer's, those published with the model, and ``extra``.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    published : GenerationConfig, optional
        ``model.generation_config``.
    extra : sequence of str
        Further tokens by their text, such as ``<|im_end|>``.

    Raises
    ------
    ValueError
        If one of ``extra`` is no token, or there is no end token at all.
    """
    found = {tokenizer.eos_token_id}
    ids = None if published is None else published.eos_token_id
    found |= set(ids) if isinstance(ids, list) else {ids}
    for text in extra:
        token = tokenizer.convert_tokens_to_ids(text)
        if token is None or token == tokenizer.unk_token_id:
            fail("bench", "--end-token", "a token of the tokenizer", text)
        found.add(token)
    found.discard(None)
    if not found:
        fail("bench", "--end-token", "given: neither tokenizer nor model has an end token", extra)
    return tuple(sorted(found))


def answer_limits(
    prompts: Prompts, max_new_tokens: int, positions: int | None, name: str
) -> IntArray:
    """Tokens that an answer to each prompt may have, shape (N,).

    Parameters
    ----------
    prompts : Prompts
    max_new_tokens : int
    positions : int, optional
        Of the model: what a long prompt leaves of them may be less than ``max_new_tokens``.
    name : str
        Of the benchmark, for the error.

    Raises
    ------
    ValueError
        If a prompt leaves nothing.
    """
    if positions is None:
        return np.full(len(prompts), max_new_tokens)
    room_N = positions - prompts.length_N
    if (room_N < 1).any():
        place = int(room_N.argmin())
        legal = f"shorter than the model's {positions} positions"
        fail("bench", f"the prompt of {name}, problem {place}", legal,
             f"{int(prompts.length_N[place])} tokens")  # fmt: skip
    return np.minimum(room_N, max_new_tokens)
