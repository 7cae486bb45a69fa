"""Scripts about finished runs of ``python -m train run``: what they read of one, and their page."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from cures.checks import fail
from cures.storage import atomic_write, read_jsonl
from figures.provenance import EXACT, provenance
from figures.run_folders import read_fields
from figures.visits import Visits
from train.folder import read_config

READ = f"The runs were made before, each by a commit and on a machine of its own. {EXACT}"


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the runs and the page, for the script with this docstring."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs")
    parser.add_argument("--page", type=Path, help="markdown page to write")
    return parser


def visits_of(run: Path) -> tuple[Visits, int, int]:
    """What a run saw, the prompts of its pool and those of an update.

    Raises
    ------
    ValueError
        If it saw nothing.
    """
    num_prompts = read_fields(run / "questions.json", ("prompts",))["prompts"]
    seen = Visits.of(read_jsonl(run / "outcomes.jsonl"), num_prompts)
    if not len(seen):
        fail("finished_runs", "RUN", "a run with outcomes", str(run))
    return seen, num_prompts, read_config(run)["scheduler"]["batch_size"]


def publish(
    script: str,
    options: argparse.Namespace,
    about: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Sequence[str] = (),
) -> None:
    """Print a page, and write it where the options name one.

    Parameters
    ----------
    script : str
        Its name in ``benchmarks/``.
    options : argparse.Namespace
        Of a parser from :func:`parser_of`.
    about : str
        Title and introduction, in markdown.
    heads : sequence of str
        Of the table.
    rows : iterable of sequence of str
        Its cells.
    words : sequence of str
        Of the command, after the runs.
    """
    runs = [run.as_posix() for run in options.runs]
    command = shlex.join(["python", "-m", f"benchmarks.{script}", *runs, *words])
    lines = [about, provenance(command, speed=READ), "", "| " + " | ".join(heads) + " |"]
    lines += ["|---" * len(heads) + "|", *("| " + " | ".join(row) + " |" for row in rows), ""]
    text = "\n".join(lines)
    print(text)
    if options.page is not None:
        atomic_write(options.page, text.encode())
