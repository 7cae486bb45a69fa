"""What tasks of written questions have in common in section ``[task]``."""

from __future__ import annotations

from dataclasses import dataclass

from cures.checks import fail
from train.section import MAX_COUNT, MAX_SEED, MAX_SIZE, MAX_THREADS, Section, option

TEMPLATES = ("chat", "plain")
INSTRUCTIONS = ("system", "user", "released", "none")


@dataclass(frozen=True, kw_only=True)
class TextConfig(Section):
    """Questions in words, for a model with a tokenizer (train/tasks/text_prompts.py)."""

    TITLE = "task"

    tokenizer: str = option("folder of from_pretrained, or a name on the Hub", "text")
    tokenizer_revision: str = option("branch, tag or commit on the Hub", "text", "main")
    template: str = option(
        "chat: the tokenizer's chat template; plain: the text alone", "choice", "chat",
        choices=TEMPLATES,
    )  # fmt: skip
    instruction: str = option(
        "where the paper's instruction goes (train/benchmarks/instruction.py); prompts that are "
        "chat messages already get none", "choice", "system", choices=INSTRUCTIONS,
    )  # fmt: skip
    max_prompt_tokens: int = option(
        "longer prompts are left out, and counted", "int", 1024, low=1, high=MAX_COUNT
    )
    max_new_tokens: int = option(
        "longer completions are truncated, and wrong", "int", 3072, low=1, high=MAX_SIZE
    )
    verifier_workers: int = option(
        "processes that judge, for each process of torchrun", "int", 1, low=1, high=MAX_THREADS
    )
    verifier_time_limit_s: float = option(
        "seconds for one verdict", "float", 10.0, low=0.0, high=1e6, open_low=True
    )
    verifier_on_failure: str = option(
        "what a verifier's time-out or crash gives: missing data, or reward zero", "choice",
        "missing", choices=("missing", "zero"),
    )  # fmt: skip
    verifier_memory_gib: float = option(
        "address space of a judging process", "float", 4.0, low=0.25, high=1e6
    )
    seed: int = option("seed of whatever is drawn from the data", "int", 0, low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template == "plain" and self.instruction == "released":
            legal = "system, user or none with template plain"
            fail("[task]", "instruction", legal, self.instruction)
