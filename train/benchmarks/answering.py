"""Problems -> answers of a model, judged: batch after batch, resumed where it stopped.

A problem's seed comes from the run's seed, the benchmark's name and the problem's place. How problems
are dealt to processes and cut into batches therefore changes no answer, with engines whose rows do not
depend on each other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from cures.checks import FloatArray, IntArray, as_int, fail
from train.benchmarks import answer_file
from train.benchmarks.answer_file import FINISHES, Answer
from train.benchmarks.loading import Problem
from train.benchmarks.references import last_boxed
from train.engines.protocol import Completions, Decoding, Engine, Finish
from train.prompts import Prompts
from train.world import World

EVALUATION_TAG = 2  # schedulers' and the trainer's random streams begin otherwise (train/seeds.py)


class Verify(Protocol):
    """Judges texts."""

    def __call__(self, completions: Sequence[str], references: Sequence[str]) -> FloatArray:
        """1 right, 0 wrong, NaN where no verdict was reached in time; shape (R,)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """A benchmark ready to be put to a model.

    Attributes
    ----------
    name : str
    problems : tuple of Problem
    prompts : Prompts
        One per problem.
    samples : int
        Answers to each.
    limit_N : ndarray of int64, shape (N,)
        Tokens that an answer to each may have; at most the candidate's ``max_new_tokens``.
    """

    name: str
    problems: tuple[Problem, ...]
    prompts: Prompts
    samples: int
    limit_N: IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """Who answers, and how it is listened to.

    Attributes
    ----------
    engine : Engine
    version : int
        Of its weights.
    decoding : Decoding
    text_of : callable
        Token ids of a completion -> text without special tokens.
    seed : int
        >= 0.
    time_limit_s : float or None
        For a batch; what is not finished by then is missing.
    """

    engine: Engine
    version: int
    decoding: Decoding
    text_of: Callable[[list[int]], str]
    seed: int = 0
    time_limit_s: float | None = None


Report = Callable[[int, int, Sequence[Answer]], None]


def problem_seeds(seed: int, name: str, index_P: IntArray) -> IntArray:
    """63-bit seeds of a benchmark's problems, shape (P,).

    Examples
    --------
    >>> problem_seeds(0, "aime24", np.array([0, 1])).tolist() == [
    ...     int(problem_seeds(0, "aime24", np.array([i]))[0]) for i in (0, 1)]
    True
    """
    key = zlib.crc32(name.encode())
    states = [
        np.random.SeedSequence(seed, spawn_key=(EVALUATION_TAG, key, int(i))).generate_state(
            1, np.uint64
        )[0]
        for i in index_P
    ]
    return (np.array(states, dtype=np.uint64) >> np.uint64(1)).astype(np.int64)


def answer_all(
    candidate: Candidate,
    exam: Exam,
    verify: Verify,
    folder: Path,
    *,
    world: World = World(),  # noqa: B008  frozen
    batch_answers: int = 512,
    report: Report = lambda done, total, answers: None,
) -> list[Answer]:
    """Answers to all problems, those of earlier commands included.

    Parameters
    ----------
    candidate : Candidate
    exam : Exam
    verify : callable
        See :class:`Verify`.
    folder : Path
        Of the answers; seen by all processes.
    world : World
        Processes that share the problems.
    batch_answers : int
        Generated between two writes, at least one problem's; a kill loses those of one batch.
    report : callable
        Called with (done, total, answers): this process's numbers of answers, and the batch's.

    Returns
    -------
    list of Answer
        By problem and sample, the same for any number of processes.

    Raises
    ------
    ValueError
        If a file in ``folder`` is damaged or the verifier returns anything but 0, 1 and NaN.
    """
    batch = max(1, as_int("bench", "--batch", batch_answers, 1) // exam.samples)
    whole = answer_file.whole_path(folder, exam.name)
    if world.is_first:
        _tidy(folder, exam)
    world.barrier()
    if not whole.exists():
        done = [a for p in answer_file.part_paths(folder, exam.name) for a in answer_file.read(p)]
        world.barrier()  # everybody has read before anybody writes: all deal the same problems
        todo = np.setdiff1d(np.arange(len(exam.problems)), [a.problem for a in done])
        mine = todo[world.rank :: world.size]
        part = answer_file.part_path(folder, exam.name, world.rank)
        # the first process reports what was there before, so that its bar is about the whole
        before = done if world.is_first else []
        total = len(before) + mine.size * exam.samples
        report(len(before), total, before)
        reached = len(before)
        for index_P in _batches(mine, exam.limit_N, batch):
            found = _answer_batch(candidate, exam, verify, index_P)
            answer_file.append(part, found)
            reached += len(found)
            report(reached, total, found)
        world.barrier()
        if world.is_first:
            answer_file.merge(folder, exam.name, len(exam.problems), exam.samples)
        world.barrier()
    answers = answer_file.read(whole)
    answer_file.check_complete(whole, answers, len(exam.problems), exam.samples)
    return answers


def _tidy(folder: Path, exam: Exam) -> None:
    """Leave nothing that a kill left half done."""
    if answer_file.whole_path(folder, exam.name).exists():
        answer_file.drop_parts(folder, exam.name)
    for part in answer_file.part_paths(folder, exam.name):
        answer_file.repair(part, exam.samples)


def _batches(mine: IntArray, limit_N: IntArray, size: int) -> Iterator[IntArray]:
    """Problems of one answer limit each, at most ``size`` of them."""
    for limit in np.unique(limit_N[mine]):
        alike = mine[limit_N[mine] == limit]
        for start in range(0, alike.size, size):
            yield alike[start : start + size]


def _answer_batch(
    candidate: Candidate, exam: Exam, verify: Verify, index_P: IntArray
) -> list[Answer]:
    completions = candidate.engine.generate(
        exam.prompts.take(index_P),
        np.full(index_P.size, exam.samples),
        problem_seeds(candidate.seed, exam.name, index_P),
        replace(candidate.decoding, max_new_tokens=int(exam.limit_N[index_P[0]])),
        version=candidate.version,
        time_limit_s=candidate.time_limit_s,
    )
    texts = _texts(completions, candidate.text_of)
    problem_R = np.repeat(index_P, exam.samples).tolist()
    references = [exam.problems[problem].reference for problem in problem_R]
    verdict_R = judged(verify, texts, references, completions.finish_R)
    answers = []
    for row, (problem, text) in enumerate(zip(problem_R, texts, strict=True)):
        finish = Finish(int(completions.finish_R[row]))
        verdict = None if np.isnan(verdict_R[row]) else float(verdict_R[row])
        answers.append(
            Answer(
                problem=problem,
                sample=row % exam.samples,
                completion=text,
                extracted=last_boxed(text),
                reference=references[row],
                verdict=verdict,
                reward=0.0 if finish is Finish.LENGTH else verdict,
                finish=FINISHES[finish],
                tokens=int(completions.length_R[row]),
            )
        )
    return answers


def _texts(completions: Completions, text_of: Callable[[list[int]], str]) -> list[str]:
    """What was said, row by row."""
    return [
        text_of(completions.token_R_T[row, : int(length)].tolist())
        for row, length in enumerate(completions.length_R)
    ]


def judged(
    verify: Verify, texts: Sequence[str], references: Sequence[str], finish_R: IntArray
) -> FloatArray:
    """Verdicts on all texts but the missing ones, which get NaN, shape (R,).

    Truncated texts are judged too: what they would count if truncation were no failure is reported
    beside the result. Where no right answer is known, everything is wrong.

    Raises
    ------
    ValueError
        If the verifier returns another shape, or anything but 0, 1 and NaN.
    """
    verdict_R = np.where(finish_R == Finish.MISSING, np.nan, 0.0)
    there = [row for row in np.flatnonzero(np.isfinite(verdict_R)).tolist() if references[row]]
    if not there:
        return verdict_R
    given = np.asarray(
        verify([texts[row] for row in there], [references[row] for row in there]), dtype=np.float64
    )
    if given.shape != (len(there),):
        fail("bench", "the verifier's result", f"of shape ({len(there)},)", given.shape)
    strange = ~(np.isnan(given) | (given == 0.0) | (given == 1.0))
    if strange.any():
        fail("bench", "a verdict", "0, 1 or NaN", float(given[strange][0]))
    verdict_R[there] = given
    return verdict_R
