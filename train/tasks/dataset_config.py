"""Section ``[task]`` of kind "dataset"."""

from __future__ import annotations

from dataclasses import dataclass

from cures.checks import fail
from train.hub import FILES
from train.section import MAX_SIZE, option
from train.tasks.text_config import TextConfig
from train.verifiers.naming import place_of
from train.verifiers.regex import check_pattern

ANSWER_FORMATS = ("plain", "boxed", "hashes", "list", "text")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(TextConfig):
    """A data set of questions and answers (train/tasks/dataset.py)."""

    kind: str = option("what is asked", "choice", "dataset", choices=("dataset",))
    data: str = option(
        "a file .jsonl or .parquet, a pattern of such files (train-*.parquet), or a data set on the "
        "Hub", "text",
    )  # fmt: skip
    subset: str | None = option(
        "configuration of a data set on the Hub", "text", None, is_optional=True
    )
    split: str = option("part of a data set on the Hub", "text", "train")
    revision: str = option("branch, tag or commit on the Hub", "text", "main")
    prompt_column: str = option("holds a text, or a list of chat messages", "text", "problem")
    answer_column: str = option("holds the right answer", "text", "answer")
    answer_format: str = option(
        "plain: the answer itself; boxed: a solution with \\boxed{} (Numina-Math, MATH); "
        "hashes: a solution with #### (GSM8K); list: several answers, all wanted; text: the answer "
        "itself, of which not even a dollar sign or a leading zero is left out",
        "choice", "plain", choices=ANSWER_FORMATS,
    )  # fmt: skip
    category_column: str | None = option(
        "holds a kind, for schedulers and tables; absent: none", "text", None, is_optional=True
    )
    prior_column: str | None = option(
        "holds a guess of the success rate in [0, 1]; absent: none", "text", None, is_optional=True
    )
    missing_answers: str = option(
        "rows without an answer, or with one that verifier math cannot read: refused by name, or "
        "left out and counted",
        "choice", "refuse", choices=("refuse", "drop"),
    )  # fmt: skip
    unanswered: str | None = option(
        "texts that stand for no answer, separated by commas, such as proof, notfound", "text", None,
        is_optional=True,
    )  # fmt: skip
    limit: int | None = option(
        "train on so many prompts, drawn by seed; absent: on all", "int", None,
        low=1, high=MAX_SIZE, is_optional=True,
    )  # fmt: skip
    held_out_data: str | None = option(
        "a file or data set of its own for held-out questions, with the same columns; absent: data",
        "text", None, is_optional=True,
    )  # fmt: skip
    held_out_split: str | None = option(
        "part of a data set on the Hub for held-out questions", "text", None, is_optional=True
    )
    held_out_size: int | None = option(
        "so many held-out questions, drawn by seed", "int", None,
        low=2, high=MAX_SIZE, is_optional=True,
    )  # fmt: skip
    held_out_share: float | None = option(
        "the same as a share of the questions", "float", None,
        low=0.0, high=1.0, open_low=True, open_high=True, is_optional=True,
    )  # fmt: skip
    verifier: str = option(
        "math, exact, regex, package.module:function or path/file.py:function, called with "
        "(completion, reference)", "text", "math",
    )  # fmt: skip
    verifier_pattern: str | None = option(
        "regular expression of verifier regex, whose one group is the answer", "text", None,
        is_optional=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        place_of(self.verifier, "[task]")
        if self.verifier == "regex":
            check_pattern("[task]", "verifier_pattern", self.verifier_pattern)
        elif self.verifier_pattern is not None:
            fail("[task]", "verifier_pattern", "left out without verifier = 'regex'",
                 self.verifier_pattern)  # fmt: skip
        if self.held_out_size is not None and self.held_out_share is not None:
            fail("[task]", "held_out_share", "left out with held_out_size", self.held_out_share)
        if self.held_out_split is not None and (self.held_out_data or self.data).endswith(FILES):
            legal = "left out: a file has no splits"
            fail("[task]", "held_out_split", legal, self.held_out_split)
        is_own = self.held_out_data is not None or self.held_out_split is not None
        if not is_own and self.held_out_size is None and self.held_out_share is None:
            legal = "given, or one of held_out_share, held_out_data, held_out_split"
            fail("[task]", "held_out_size", legal, None)

    @property
    def unanswered_texts(self) -> tuple[str, ...]:
        """Texts that stand for no answer."""
        return tuple(text.strip() for text in (self.unanswered or "").split(","))
