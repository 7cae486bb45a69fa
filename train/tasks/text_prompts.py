"""Questions in words -> token ids, and completions -> words, by one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from cures.checks import fail
from train.benchmarks.instruction import messages, plain_text
from train.engines.protocol import Decoding
from train.tasks.text_config import TextConfig

CHUNK = 10_000  # prompts tokenised at once
MARK = "0"  # a turn to see what the template writes after it; any text does

Conversation = list[dict[str, str]]


@dataclass(frozen=True, eq=False)
class TextPrompts:
    """How prompts are written, and what ends a completion.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
    template, instruction : str
        Of train/tasks/text_config.py.
    end_tokens : tuple of int
        The tokenizer's end token, and what its chat template ends an assistant's turn with.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str
    instruction: str
    end_tokens: tuple[int, ...]

    @classmethod
    def of(cls, config: TextConfig) -> TextPrompts:
        """The tokenizer of a configuration.

        Raises
        ------
        ValueError
            If it cannot be loaded, has no end token, or no chat template where one is needed.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                config.tokenizer, revision=config.tokenizer_revision
            )
        except Exception as error:  # of files, the network, the Hub, JSON: all kinds
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"[task]: tokenizer {config.tokenizer!r} cannot be loaded: {reason}"
            ) from error
        if config.template == "chat" and not tokenizer.chat_template:
            legal = "plain: the tokenizer has no chat template"
            fail("[task]", "template", legal, config.template)
        ends = {tokenizer.eos_token_id}
        if config.template == "chat":
            ends.add(_turn_end(tokenizer))
        ends.discard(None)
        if not ends:
            fail("[task]", "tokenizer", "one with an end token", config.tokenizer)
        return cls(tokenizer, config.template, config.instruction, tuple(sorted(ends)))

    def decoding(self, max_new_tokens: int, temperature: float) -> Decoding:
        """How completions are sampled; rows are filled with the padding token, else an end token."""
        pad = self.tokenizer.pad_token_id
        return Decoding(
            max_new_tokens=max_new_tokens,
            end_tokens=self.end_tokens,
            pad_token=self.end_tokens[0] if pad is None else pad,
            temperature=temperature,
        )

    def written(self, prompt: str | Conversation) -> str:
        """The prompt as the model sees it.

        Raises
        ------
        ValueError
            If the chat template refuses the messages.
        """
        if self.template == "plain":
            if not isinstance(prompt, str):
                fail("[task]", "prompt", "a text with template plain", prompt)
            return prompt if self.instruction == "none" else plain_text(prompt)
        if not isinstance(prompt, str):
            conversation = prompt
        elif self.instruction == "none":
            conversation = [{"role": "user", "content": prompt}]
        else:
            conversation = messages(prompt, self.instruction)
        return _rendered(self.tokenizer, conversation, add_generation_prompt=True)

    def encode(self, written: Sequence[str]) -> list[list[int]]:
        """Token ids of written prompts; special tokens are added only where no template wrote them."""
        ids: list[list[int]] = []
        for start in range(0, len(written), CHUNK):
            chunk = list(written[start : start + CHUNK])
            found = self.tokenizer(chunk, add_special_tokens=self.template == "plain")
            ids += found["input_ids"]
        return ids

    def completion_text(self, token_T: Sequence[int]) -> str:
        """What was said before the first end token, without special tokens."""
        end = next((i for i, token in enumerate(token_T) if token in self.end_tokens), None)
        return str(self.tokenizer.decode(list(token_T[:end]), skip_special_tokens=True))

    def save(self, folder: Path) -> None:
        """The tokenizer's files, for ``from_pretrained``."""
        self.tokenizer.save_pretrained(folder)


def _rendered(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, **how: Any) -> str:
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, **how)
    except Exception as error:  # what a template raises is its author's choice
        raise ValueError(
            f"[task]: the tokenizer's chat template refuses {conversation!r:.80} ({error}); "
            "instruction = 'user' needs no system message"
        ) from error
    return str(text)


def _turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template writes after an assistant's turn, if any.

    Base models' tokenizers have an end token of texts and a template with another one for turns.
    """
    turns = [{"role": "user", "content": MARK}, {"role": "assistant", "content": MARK}]
    tail = _rendered(tokenizer, turns).rpartition(MARK)[2]
    ids = tokenizer.encode(tail, add_special_tokens=False)
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return ids[0] if ids and ids[0] in special else None
