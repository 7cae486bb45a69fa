"""A tiny tokenizer with a chat template, data files with real schemas, and scripted completions."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from train.engines.protocol import Completions, Decoding, Finish

SPECIAL = ["<pad>", "<end>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tokenizer(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    """One token per printable character; the chat template has Qwen's form."""
    ids = {name: i for i, name in enumerate([*SPECIAL, *string.printable])}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.decoder = Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=SPECIAL[2:],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """``.jsonl`` or ``.parquet``."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def said(
    texts: Sequence[str], tokenizer: Any, decoding: Decoding, finishes: Any = None
) -> Completions:
    """Completions with these texts, ended by an end token unless a finish says otherwise."""
    finish_R = np.array([Finish.STOP] * len(texts) if finishes is None else finishes)
    rows = []
    for text, finish in zip(texts, finish_R, strict=True):
        ids = [] if finish == Finish.MISSING else tokenizer.encode(text, add_special_tokens=False)
        rows.append(ids + [decoding.end_tokens[-1]] * int(finish == Finish.STOP))
    width = max(len(row) for row in rows)
    token_R_T = torch.full((len(rows), width), decoding.pad_token)
    for i, row in enumerate(rows):
        token_R_T[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    length_R = torch.tensor([len(row) for row in rows])
    return Completions(token_R_T, torch.zeros(len(rows), width), length_R, finish_R)
