"""Command line: ``python -m theory check`` and ``python -m theory report``."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console

from cures.checks import as_int, fail
from theory.check import Verdict, run
from theory.claims import Claim, Status
from theory.registry import all_claims

_STATUS_WIDTH = max(len(status.value) for status in Status)
EXAMPLES = """\
examples:
  python -m theory check                  all claims
  python -m theory check 1 4.2            all of chapter 1, and claim 4.2
  python -m theory report --out docs/theory
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if every claim holds, 1 if one fails, 2 on bad input."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        jobs = as_int("theory", "--jobs", options.jobs, 1)
        seed = as_int("theory", "--seed", options.seed, 0)
        claims = _selected(options.numbers)
        if options.command == "report":
            _check_folder(options.out)  # before the checks, which take a minute
        verdicts = _checked(console, claims, seed=seed, jobs=jobs)
    except ValueError as error:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    console.print(_last_line(claims, verdicts))
    if options.command == "report":
        from theory.report import write

        for path in write(options.out, claims, verdicts):
            console.print(f"wrote {path}")
    return 0 if all(v.holds for v in verdicts) else 1


def _checked(console: Console, claims: Sequence[Claim], *, seed: int, jobs: int) -> list[Verdict]:
    verdicts = []
    for claim, verdict in zip(
        claims, run([c.number for c in claims], seed=seed, jobs=jobs), strict=True
    ):
        verdicts.append(verdict)
        console.print(_line(claim, verdict))
        for failure in verdict.failures:
            console.print(f"      {failure}")
    return verdicts


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(
            "theory", "--out", "a folder that exists or can be made", f"{folder} ({error.strerror})"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m theory",
        description="The formulas of the paper, each proved or corrected, and checked three ways:\n"
        "by algebra, by exact enumeration in rationals, and by simulation with a wrong\n"
        "formula beside it that the simulation must reject.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("check", "run the checks, one line per claim"),
        ("report", "run the checks and write report.md and report.html"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "numbers", nargs="*", metavar="N", help="a claim (4.2) or a chapter (4); default all"
        )
        command.add_argument("--seed", type=int, default=0, help="of the simulations (default 0)")
        command.add_argument(
            "--jobs",
            type=int,
            default=min(2, os.cpu_count() or 1),
            help="processes (default 2); the results do not depend on it",
        )
        if name == "report":
            command.add_argument(
                "--out", type=Path, default=Path("docs/theory"), help="folder (default docs/theory)"
            )
    return parser


def _selected(numbers: Sequence[str]) -> list[Claim]:
    claims = all_claims()
    if not numbers:
        return claims
    legal = {c.number for c in claims} | {c.number.split(".")[0] for c in claims}
    for number in numbers:
        if number not in legal:
            fail("theory", "N", f"a chapter or a claim: {_ranges(claims)}", number)
    return [c for c in claims if {c.number, c.number.split(".")[0]} & set(numbers)]


def _ranges(claims: Sequence[Claim]) -> str:
    """``1, 1.1-1.8; 3, 3.1-3.6``."""
    found = []
    for chapter, members in groupby(claims, lambda c: c.number.split(".")[0]):
        numbers = [c.number for c in members]
        found.append(f"{chapter}, {numbers[0]}-{numbers[-1]}")
    return "; ".join(found)


def _line(claim: Claim, verdict: Verdict) -> str:
    symbolic, exact, numerical = verdict.counts()
    done = "ok    " if verdict.holds else "FAILED"
    return (
        f"{claim.number:>5}  {done}  {claim.status.value:<{_STATUS_WIDTH}}  {claim.title} "
        f"[{claim.source}]  ({symbolic} steps, {exact} exact, {numerical} numerical, "
        f"{verdict.cpu_s:.1f} s)"
    )


def _last_line(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    kinds = Counter(claim.status for claim in claims)
    failed = [v.number for v in verdicts if not v.holds]
    parts = ", ".join(f"{kinds[status]} {status.value}" for status in Status)
    end = "every check holds" if not failed else f"FAILED: {', '.join(failed)}"
    return f"{len(claims)} claims: {parts}; {end}"


if __name__ == "__main__":
    sys.exit(main())
