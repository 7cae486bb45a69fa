"""The benchmarks of the paper's Table 1: where their problems are, and how many samples each gets.

The numbers of problems and samples are those that the printed percentages are whole numbers of
(tests/unit/test_benchmarks_paper.py): of its 144 numbers all but five are such shares, to the second
decimal. Other sizes that are about (674 problems of OlympiadBench, 83 of AMC) fit far fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cures.checks import fail
from train.benchmarks.references import Reading, after_hashes, boxed, listed, plain

COMPETITION_SAMPLES = 16  # AIME and AMC: average of 16 samples


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a data set keeps question and answer, and how the answer is written."""

    question: str
    answer: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Problems with answers that can be verified.

    Attributes
    ----------
    name : str
        On the command line.
    label : str
        Its column in Table 1.
    problems : int
        In the paper.
    samples : int
        Answers per problem in the paper; pass@1 is their mean.
    source : str
        Data set on the Hugging Face Hub.
    subset : str or None
        Its configuration.
    split : str
    columns : tuple of Columns
        Schemas under which the problems are about; the first whose columns are all there counts.
    unanswered : int
        Problems that were published with an empty answer. They are part of the benchmark, and nobody
        can solve them.
    """

    name: str
    label: str
    problems: int
    samples: int
    source: str
    subset: str | None
    split: str
    columns: tuple[Columns, ...]
    unanswered: int = 0


PROBLEM = Columns("problem", "answer", plain)
QUESTION = Columns("question", "answer", plain)
BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("math500", "MATH500", 500, 1, "HuggingFaceH4/MATH-500", None, "test", (PROBLEM,)),
        Benchmark(
            "gsm8k", "GSM8K", 1319, 1, "openai/gsm8k", "main", "test",
            (Columns("question", "answer", after_hashes),),
        ),
        Benchmark(
            "gaokao2023en", "GAO23", 385, 1, "MARIO-Math-Reasoning/Gaokao2023-Math-En", None,
            "train", (QUESTION,), unanswered=2,
        ),
        Benchmark(
            "minerva", "Minerva", 272, 1, "math-ai/minervamath", None, "test",
            (QUESTION, Columns("problem", "solution", boxed)),  # the second: Qwen2.5-Math's file
        ),
        Benchmark(
            "olympiadbench", "Olympiad", 675, 1, "math-ai/olympiadbench", None, "test",
            (Columns("question", "final_answer", listed),),
        ),
        Benchmark(
            "aime24", "AIME24", 30, COMPETITION_SAMPLES, "HuggingFaceH4/aime_2024", None, "train",
            (PROBLEM,),
        ),
        Benchmark(
            "aime25", "AIME25", 30, COMPETITION_SAMPLES, "math-ai/aime25", None, "test", (PROBLEM,)
        ),
        Benchmark(
            "amc23", "AMC23", 40, COMPETITION_SAMPLES, "math-ai/amc23", None, "test",
            (QUESTION, PROBLEM),
        ),
    )
}  # fmt: skip


def benchmarks_named(names: Sequence[str]) -> tuple[Benchmark, ...]:
    """Benchmarks by name, in the order of Table 1.

    Raises
    ------
    ValueError
        If a name is unknown or comes twice, or there is none.
    """
    legal = f"one or more of {list(BENCHMARKS)}, each once"
    for name in names:
        if name not in BENCHMARKS:
            fail("bench", "--benchmarks", legal, name)
    if not names or len(set(names)) != len(names):
        fail("bench", "--benchmarks", legal, list(names))
    return tuple(benchmark for name, benchmark in BENCHMARKS.items() if name in names)
