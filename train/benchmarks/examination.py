"""The whole of an evaluation: model in, answers, scores and table out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cures.storage import atomic_write, write_json
from train.benchmarks.answer_file import Answer
from train.benchmarks.answering import Candidate, Exam, Verify, answer_all
from train.benchmarks.command import Question
from train.benchmarks.folder import CONFIG, claim, exam_hash, locked, weights_hash
from train.benchmarks.loading import Problem
from train.benchmarks.model import decoding_of, dtype_of, engine_of, load_model
from train.benchmarks.progress import ExamProgress
from train.benchmarks.prompting import answer_limits, encode
from train.benchmarks.scores import score
from train.benchmarks.table import as_dict, markdown
from train.engines.protocol import Decoding
from train.model import device_of
from train.verifiers.pool import VerifierPool
from train.world import World


def examine(
    options: argparse.Namespace,
    questions: Sequence[Question],
    problems: Sequence[tuple[Problem, ...]],
    folder: Path,
    world: World,
    console: Console,
    verify: Verify,
) -> None:
    """Load the model, answer what is not answered yet, write scores and table.

    Parameters
    ----------
    options : argparse.Namespace
        Checked.
    questions, problems : sequence
        Benchmarks, and the problems of each.
    folder : Path
        Of the answers; made if it is not there.
    world : World
        Only its first process writes settings and results, and speaks.
    console : Console
    verify : callable

    Raises
    ------
    ValueError
        If the model cannot be loaded or is too small, or ``folder`` holds something else.
    """
    console = console if world.is_first else Console(quiet=True)
    if options.limit is None:
        _warn_of_sizes(questions, problems, console)
    with locked(folder) if world.is_first else nullcontext():
        world.barrier()
        exams, answers = _answered(options, questions, problems, folder, world, console, verify)
        if world.is_first:
            _tabulate(options.model, exams, answers, folder, console)


def _warn_of_sizes(
    questions: Sequence[Question], problems: Sequence[Sequence[Problem]], console: Console
) -> None:
    for question, found in zip(questions, problems, strict=True):
        benchmark = question.benchmark
        if len(found) != benchmark.problems:
            text = f"{benchmark.name} has {len(found)} problems here, {benchmark.problems} in the paper"
            console.print(f"warning: {text}", style="yellow", soft_wrap=True)


def _answered(
    options: argparse.Namespace,
    questions: Sequence[Question],
    problems: Sequence[tuple[Problem, ...]],
    folder: Path,
    world: World,
    console: Console,
    verify: Verify,
) -> tuple[list[Exam], dict[str, list[Answer]]]:
    device = device_of(options.device, world.local_rank)
    model, tokenizer = load_model(options.model, options.revision, dtype_of(options.dtype, device))
    decoding = decoding_of(
        model,
        tokenizer,
        temperature=options.temperature,
        max_new_tokens=options.max_new_tokens,
        extra_ends=options.end_token,
    )
    exams = _exams(options, questions, problems, model, tokenizer)
    _warn_of_limits(exams, decoding.max_new_tokens, console)
    if world.is_first:
        asked = {
            folder / f"{exam.name}.json": _asked(question, exam)
            for question, exam in zip(questions, exams, strict=True)
        }
        claim({folder / CONFIG: _settings(options, model, decoding, verify), **asked})
    world.barrier()
    with closing(engine_of(options, model, device, folder / ".engine", world)) as engine:
        candidate = Candidate(
            engine=engine,
            version=0,
            decoding=decoding,
            text_of=lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)),
            seed=options.seed,
            time_limit_s=options.time_limit,
        )
        answers: dict[str, list[Answer]] = {}
        with ExamProgress(console) as progress:
            for exam in exams:
                answers[exam.name] = answer_all(
                    candidate,
                    exam,
                    verify,
                    folder,
                    world=world,
                    batch_answers=options.batch,
                    report=progress.report_of(exam.name),
                )
    return exams, answers


def _exams(
    options: argparse.Namespace,
    questions: Sequence[Question],
    problems: Sequence[tuple[Problem, ...]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Exam]:
    exams = []
    for question, found in zip(questions, problems, strict=True):
        name = question.benchmark.name
        prompts = encode(tokenizer, found, options.prompt)
        limit_N = answer_limits(prompts, options.max_new_tokens, _positions(model), name)
        exam = Exam(
            name=name, problems=found, prompts=prompts, samples=question.samples, limit_N=limit_N
        )
        exams.append(exam)
    return exams


def _positions(model: PreTrainedModel) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)


def _warn_of_limits(exams: Sequence[Exam], max_new_tokens: int, console: Console) -> None:
    for exam in exams:
        short = int((exam.limit_N < max_new_tokens).sum())
        if short:
            text = (
                f"{exam.name}: {short} prompts leave fewer than {max_new_tokens} of the model's "
                f"positions, {int(exam.limit_N.min())} at least; answers end there"
            )
            console.print(f"warning: {text}", style="yellow", soft_wrap=True)


def _settings(
    options: argparse.Namespace, model: PreTrainedModel, decoding: Decoding, verify: Verify
) -> dict[str, Any]:
    """What all answers in a folder depend on."""
    return {
        "model": options.model,
        "revision": options.revision,
        "weights": weights_hash(model.state_dict()),
        "engine": options.engine,
        "dtype": str(model.dtype).removeprefix("torch."),
        "prompt": options.prompt,
        "temperature": decoding.temperature,
        "max_new_tokens": decoding.max_new_tokens,
        "positions": _positions(model),
        "end_tokens": list(decoding.end_tokens),
        "seed": options.seed,
        "time_limit_s": options.time_limit,
        "verifier": _name_of(verify),
    }


def _asked(question: Question, exam: Exam) -> dict[str, Any]:
    """What the answers to one benchmark depend on besides."""
    benchmark, is_file = question.benchmark, question.file is not None
    return {
        "source": str(question.file) if is_file else benchmark.source,
        "subset": None if is_file else benchmark.subset,
        "split": None if is_file else benchmark.split,
        "problems": len(exam.problems),
        "samples": exam.samples,
        "prompts_and_references": exam_hash(exam),
    }


def _name_of(verify: Verify) -> str:
    if isinstance(verify, VerifierPool):
        return verify.place
    kind = verify if hasattr(verify, "__qualname__") else type(verify)
    return f"{kind.__module__}.{kind.__qualname__}"


def _tabulate(
    model: str,
    exams: Sequence[Exam],
    answers: dict[str, list[Answer]],
    folder: Path,
    console: Console,
) -> None:
    scores = {exam.name: score(answers[exam.name], exam.samples) for exam in exams}
    write_json(folder / "scores.json", as_dict(model, scores))
    text = markdown(model, scores)
    atomic_write(folder / "table.md", text.encode())
    console.print(f"{text}\n{folder}", soft_wrap=True, highlight=False, markup=False)
