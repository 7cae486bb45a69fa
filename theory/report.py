"""The report: every claim with its proof and its numbers, as markdown and as one HTML page.

The page is the markdown, rendered; formulas become MathML, which browsers draw without any script.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sympy as sp
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from cures.storage import atomic_write
from theory.check import Verdict
from theory.claims import BAND, Claim, Estimate, Exact, Search, Status, Step
from theory.registry import Chapter, chapter_of

STYLE = Path(__file__).parent / "report.css"

INTRODUCTION = f"""\
Each claim is checked three ways: **by algebra** (each line of the proof is an identity that sympy
decides), **by enumeration** in exact rationals, and **by simulation**: the mean must lie within
{BAND:g} standard errors of the formula and outside {BAND:g} standard errors of a wrong formula (the
*control*), so that an experiment too small to tell them apart fails. Formulas are printed from the
objects that are checked. Numbers in brackets are the equations of the paper.
"""


def write(folder: Path, claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> tuple[Path, Path]:
    """Write ``report.md`` and ``report.html`` into ``folder`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(claims, verdicts)
    paths = folder / "report.md", folder / "report.html"
    atomic_write(paths[0], text.encode())
    atomic_write(paths[1], page(text).encode())
    return paths


def markdown(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    """The report in markdown, mathematics between dollar signs."""
    verdict_of = {v.number: v for v in verdicts}
    lines = ["# The formulas of CurES, proved or corrected", "", INTRODUCTION, *_overview(claims)]
    chapter: Chapter | None = None
    for claim in claims:
        if chapter_of(claim) != chapter:
            chapter = chapter_of(claim)
            lines += ["", f"## {chapter.number} {chapter.title}", ""]
        lines += _section(claim, verdict_of[claim.number])
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The markdown as one self-contained HTML page."""
    reader = MarkdownIt("commonmark").enable("table")
    dollarmath_plugin(reader, renderer=_mathml, double_inline=True, allow_space=False)
    body = reader.render(text)
    for status in Status:
        body = body.replace(
            f"<em>{status.value}</em>", f'<em class="{status.name.lower()}">{status.value}</em>'
        )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>The formulas of CurES, proved or corrected</title>\n"
        f"<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _mathml(content: str, options: Mapping[str, Any]) -> str:
    display = "block" if options["display_mode"] else "inline"
    # white space before & would end a cell of the source, not of the formula
    return str(convert(html.unescape(content.strip()), display=display))


def _overview(claims: Sequence[Claim]) -> Iterator[str]:
    kinds = Counter(claim.status for claim in claims)
    yield "| what | claims |"
    yield "|---|---|"
    for status in Status:
        yield f"| *{status.value}* | {kinds[status]} |"
    yield ""
    wrong = [c for c in claims if c.status is not Status.PROVED]
    if wrong:
        yield "What a reader of the paper should know first:"
        yield ""
        for claim in wrong:
            what = claim.correction or f"holds if {_lower_first(claim.condition)}"
            yield (
                f"- **{claim.number} {claim.title}** [{claim.source}], *{claim.status.value}*. "
                + (claim.tex(what))
            )


def _section(claim: Claim, verdict: Verdict) -> Iterator[str]:
    yield f"### {claim.number} {claim.title}"
    yield ""
    yield f"{claim.source} · *{claim.status.value}*"
    yield ""
    yield claim.tex(claim.statement)
    if claim.condition:
        yield ""
        yield f"**Condition.** {claim.tex(claim.condition)}"
    if claim.correction:
        yield ""
        yield f"**Correction.** {claim.tex(claim.correction)}"
    if verdict.failures:
        yield ""
        yield "**THIS CLAIM FAILED ITS CHECKS:** " + html.escape("; ".join(verdict.failures))
    steps = [e for e in verdict.evidence if isinstance(e, Step)]
    yield ""
    yield "**Proof.**"
    yield ""
    for number, step in enumerate(steps, 1):
        yield f"{number}. {step.words}"
        yield ""
        for line in step.latex():
            yield f"   $${line}$$"
            yield ""
    yield from _exact_table([e for e in verdict.evidence if isinstance(e, Exact)])
    yield from _estimate_table([e for e in verdict.evidence if isinstance(e, Estimate)])
    yield from _search_table([e for e in verdict.evidence if isinstance(e, Search)])


def _exact_table(rows: Sequence[Exact]) -> Iterator[str]:
    if not rows:
        return
    yield "| by enumeration | enumerated | | formula |"
    yield "|---|---|---|---|"
    for row in rows:
        yield (
            f"| {_cell(row.what)} | {_number(row.enumerated)} | {html.escape(row.relation)} | "
            f"{_number(row.formula)} |"
        )
    yield ""


def _estimate_table(rows: Sequence[Estimate]) -> Iterator[str]:
    if not rows:
        return
    yield "| by simulation | mean ± standard error | formula | control, rejected |"
    yield "|---|---|---|---|"
    for row in rows:
        error = f"{row.standard_error:.1g}"
        digits = (
            max(0, -math.floor(math.log10(row.standard_error)) + 1) if row.standard_error else 6
        )
        yield (
            f"| {_cell(row.what)} | {row.mean:.{digits}f} ± {error} | {row.expected:.{digits}f} | "
            f"{row.control:.{digits}f} ({_cell(row.control_is)}) |"
        )
    yield ""


def _search_table(rows: Sequence[Search]) -> Iterator[str]:
    if not rows:
        return
    yield "| by search | found | formula | control, beaten |"
    yield "|---|---|---|---|"
    for row in rows:
        yield (
            f"| {_cell(row.what)} ({row.sense}) | {row.found:.6g} | {row.claimed:.6g} | "
            f"{row.control:.6g} ({_cell(row.control_is)}) |"
        )
    yield ""


def _number(value: Any) -> str:
    """A fraction as it is if short; long ones and roots as a decimal."""
    number = sp.sympify(value)
    if number.is_Rational and len(str(number)) <= 25:
        return str(number).replace("-", "−")
    return f"${sp.latex(sp.N(number, 12))}$"


def _cell(text: str) -> str:
    r"""A bar would end the cell; inside mathematics ``\vert`` means the same."""
    parts = text.split("$")
    for i, part in enumerate(parts):
        parts[i] = part.replace("|", r"\vert " if i % 2 else r"\|")
    return "$".join(parts)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
