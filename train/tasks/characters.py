"""Characters to token ids and back: one character, one token.

The vocabulary is closed and known in advance, so it needs no file and cannot drift between the warm
start, the trainer and an evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from cures.checks import IntArray, InWords, fail

PAD, BOS, EOS = 0, 1, 2
PAD_NAME, BOS_NAME, EOS_NAME = "<pad>", "<bos>", "<eos>"
CHARACTERS = "0123456789+-*@="
FORBIDDEN_TOKENS = (PAD, BOS)  # never a legal continuation: masked in the sampler and in the loss
VOCABULARY_SIZE = 3 + len(CHARACTERS)

_ID_OF = {character: 3 + i for i, character in enumerate(CHARACTERS)}


def encode(text: str) -> list[int]:
    """Token ids of ``text``, without BOS or EOS.

    Raises
    ------
    ValueError
        If a character is not in the vocabulary.

    Examples
    --------
    >>> encode("12+")
    [4, 5, 13]
    """
    unknown = [c for c in text if c not in _ID_OF]
    if unknown:
        fail("characters.encode", "text", f"made of {CHARACTERS!r}", unknown[0])
    return [_ID_OF[c] for c in text]


def decode(token_T: Sequence[int]) -> str:
    """Text of the tokens before the first EOS; PAD and BOS are left out.

    Examples
    --------
    >>> decode([BOS, 4, 5, 13, EOS, PAD])
    '12+'
    """
    characters = []
    for token in token_T:
        if token == EOS:
            break
        if token >= 3:
            characters.append(CHARACTERS[token - 3])
    return "".join(characters)


def encode_prompts(text_N: Sequence[str]) -> IntArray:
    """BOS and the text of each prompt, shape (N, L); all texts must have one length."""
    return _table([[BOS, *encode(text)] for text in text_N])


def encode_answers(text_N: Sequence[str]) -> IntArray:
    """The text of each answer and EOS, shape (N, A); all texts must have one length."""
    return _table([[*encode(text), EOS] for text in text_N])


def save_tokenizer(folder: Path) -> None:
    """The same vocabulary as a tokenizer that ``AutoTokenizer`` loads; it puts BOS in front.

    Beside a model's ``config.json`` it is loaded as that model's kind of tokenizer, which would add a
    token of its own for what is unknown, if none were named.
    """
    ids = {PAD_NAME: PAD, BOS_NAME: BOS, EOS_NAME: EOS, **_ID_OF}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=PAD_NAME))
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.decoder = Fuse()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS_NAME} $A", special_tokens=[(BOS_NAME, BOS)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_NAME,
        bos_token=BOS_NAME,
        eos_token=EOS_NAME,
        unk_token=PAD_NAME,
    ).save_pretrained(folder)


def _table(rows: list[list[int]]) -> IntArray:
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1:
        fail(
            "characters",
            "text_N",
            "non-empty, of texts of one length",
            InWords(f"lengths {lengths}"),
        )
    return np.array(rows, dtype=np.int64)
