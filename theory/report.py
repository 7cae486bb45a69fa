"""The report: every claim with its proof and its numbers, as markdown and as one HTML page.

The page is the same text, rendered; formulas become MathML, which browsers draw without any script,
and every simulation gets a small picture.
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import sympy as sp
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from cures.storage import atomic_write
from theory.check import Verdict
from theory.claims import BAND, WIDE, Claim, Estimate, Exact, Search, Status, Step
from theory.mathml import mathml
from theory.picture import picture
from theory.registry import chapter_of
from theory.typeset import latex, width

STYLE = Path(__file__).parent / "report.css"
TITLE = "The formulas of CurES, proved or corrected"
_RELATION_SIGN = {"<=": "≤", ">=": "≥", "!=": "≠", "<": "&lt;", ">": "&gt;"}
_MATH = re.compile(r"(\$\$.*?\$\$|\$[^$]*\$)", re.DOTALL)
_REFERENCE = re.compile(r"(?<![\w.(\[/-])(\(?)(\d\.\d{1,2})(?![\w%]|\.\d)")
_AFTER_MATH = re.compile(
    r'(\(?)(<span class="math inline">(?:(?!</math>).)*</math></span>)([,.;:)?!]+|-\w+)?', re.DOTALL
)

INTRODUCTION = rf"""
The formulas of the paper that an implementation relies on, and some that it needs and the paper does
not give. Each claim is checked in three independent ways:

- **Proof.** Each numbered line is an identity, or an inequality with a remainder that is visibly not
  negative, and sympy decides it. The words between the lines are the argument, and are ours.
- **Enumeration.** The formula against brute force over all outcomes of a small case, in exact
  rational arithmetic.
- **Simulation.** The mean of a simulation lies within {BAND:g} standard errors of the formula and not
  within {BAND:g} of a wrong formula, the *control*: an experiment too small to tell right from wrong
  fails. Where a claim is about an optimum, a numerical search besides has to end there and to beat a
  wrong one.

The formulas are printed from the very objects that are checked; only where the left side of a line
would be too long, or print like the right one, the line has in its place what it stands for, in our
words. Equation numbers in parentheses, such as (11), are those of the paper; numbers with a dot, such
as 1.7, are claims. [All claims](#claims) are listed by chapter below.

**Notation.** A prompt has success rate $p$, with $0 < p < 1$ unless stated; it is *dead* if $p = 0$ or
$p = 1$. The reward $r$ of a rollout is 0 or 1, $s = \nabla\log\pi$ is its score, $g = \nabla p$ the
gradient of the success rate and $F = \mathbb{{E}}\,s s^\top$ the Fisher matrix. $\rho$ is a
distribution over prompts; for two prompts, of success rates $p$ and $q$, it is the share of the
first. $\delta$ is the radius of the trust region in nats, $\tau$ the temperature of (14), $n$ the
size of a group and $N$ the rollouts of one update. The *potential* is $\sqrt{{p(1-p)}}$, that is
(11) up to a factor. A *table* is a softmax policy with a logit for every answer of every prompt. A
group is *mixed* if it has right and wrong answers; *pilots* are rollouts made to estimate $p$. The
letter $q$ is in 1.5 to 1.8 the success rate of the *same* prompt after the update, in 8.2 and 8.3
the chance to pass a step, in 9.6 and 9.9 the share of mixed groups, and elsewhere the success rate
of another prompt. """


def write(folder: Path, claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> tuple[Path, Path]:
    """Write ``report.md`` and ``report.html`` into ``folder`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "report.md", folder / "report.html"
    atomic_write(paths[0], markdown(claims, verdicts).encode())
    atomic_write(paths[1], page(claims, verdicts).encode())
    return paths


def markdown(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    """The report in markdown, mathematics between dollar signs, for a code-hosting site."""
    text = _text(claims, verdicts, lambda row: "")
    # such sites refuse \operatorname, and a dollar sign that touches a letter
    text = text.replace(r"\operatorname", r"\mathrm")
    parts = _MATH.split(text)
    for i in range(1, len(parts), 2):
        if re.search(r"\w$", parts[i - 1]):
            parts[i] = f" {parts[i]}"
    return "".join(parts)


def page(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    """The report as one self-contained HTML page."""
    reader = MarkdownIt("commonmark").enable("table")
    dollarmath_plugin(reader, renderer=_mathml, double_inline=True, allow_space=False)
    body = reader.render(_text(claims, verdicts, picture))
    for status in Status:
        body = body.replace(
            f"<em>{status.value}</em>", f'<em class="{status.name.lower()}">{status.value}</em>'
        )
    body = body.replace("<table>", '<div class="scroll"><table>')
    body = body.replace("</table>", "</table></div>")
    body = _AFTER_MATH.sub(_joined, body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}</title>\n"
        f"<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _joined(found: re.Match[str]) -> str:
    """No line ends between a formula and the bracket before it or the comma after it."""
    before, formula, after = found[1], found[2], found[3] or ""
    if not before + after:
        return formula
    return f'<span class="joined">{before}{formula}{after}</span>'


def _mathml(content: str, options: Mapping[str, Any]) -> str:
    # white space before & would end a cell of the source, not of the formula
    tex = html.unescape(content.strip())
    if not options["display_mode"]:
        return mathml(tex)
    kind = "display wide" if width(tex) > WIDE else "display"
    return f'<span class="{kind}">{mathml(tex, display=True)}</span>'


def _text(
    claims: Sequence[Claim], verdicts: Sequence[Verdict], drawn: Callable[[Estimate], str]
) -> str:
    verdict_of = {v.number: v for v in verdicts}
    lines = [f"# {TITLE}", "", INTRODUCTION.strip(), "", *_legend(drawn), *_overview(claims)]
    lines += _contents(claims)
    for chapter, members in groupby(claims, chapter_of):
        lines += [
            "",
            f'## <a id="chapter-{chapter.number}"></a>{chapter.number} {chapter.title}',
            "",
            _linked(chapter.summary, {c.number for c in claims}),
            "",
        ]
        for claim in members:
            section = "\n".join(_section(claim, verdict_of[claim.number], drawn))
            lines.append(_linked(section, {c.number for c in claims} - {claim.number}))
    return "\n".join(lines) + "\n"


def _linked(text: str, numbers: set[str]) -> str:
    """The text with the claims it mentions, outside mathematics, made links."""

    def link(found: re.Match[str]) -> str:
        number = found[2]
        return f"{found[1]}{_link(number)}" if number in numbers else found[0]

    lines = text.split("\n")
    for i, line in enumerate(lines):
        if not line.startswith("### "):
            parts = _MATH.split(line)
            parts[::2] = [_REFERENCE.sub(link, part) for part in parts[::2]]
            lines[i] = "".join(parts)
    return "\n".join(lines)


def _link(number: str) -> str:
    return f"[{number}](#claim-{number})"


def _legend(drawn: Callable[[Estimate], str]) -> Iterator[str]:
    sample = drawn(
        Estimate("", mean=1.02, standard_error=0.02, expected=1.0, control=1.3, control_is="")
    )
    if sample:
        yield (
            f"Beside each simulation {sample} the bar is its mean with {BAND:g} standard errors to "
            f"either "
            "side, the circle the formula, the cross the control."
        )
        yield ""


def _overview(claims: Sequence[Claim]) -> Iterator[str]:
    kinds = Counter(claim.status for claim in claims)
    yield "| | claims |"
    yield "|---|---|"
    for status in Status:
        yield f"| *{status.value}* | {kinds[status]} |"
    yield ""
    wrong = [c for c in claims if c.status is not Status.PROVED]
    if wrong:
        yield "## What a reader of the paper should know first"
        yield ""
        numbers = {c.number for c in claims}
        for claim in sorted(wrong, key=lambda c: c.status is not Status.FALSE):
            what = claim.correction.split("\n\n")[0] or _first_sentence(claim.condition)
            lead = "" if claim.correction else "Condition: "
            yield (
                f"- {_link(claim.number)} **{claim.title}** [{_source(claim)}] *{claim.status.value}*  "
            )
            body = _linked(f"{lead}{claim.tex(what).strip()}", numbers)
            yield from (f"  {line}" for line in body.split("\n"))
        yield ""


def _contents(claims: Sequence[Claim]) -> Iterator[str]:
    yield '## <a id="claims"></a>All claims'
    yield ""
    yield "| | claim | equation | |"
    yield "|---|---|---|---|"
    for chapter, members in groupby(claims, chapter_of):
        yield f"| **[{chapter.number}](#chapter-{chapter.number})** | **{chapter.title}** | | |"
        for claim in members:
            yield (
                f"| {_link(claim.number)} | {_cell(claim.title)} | {_cell(_where(claim))} "
                f"| *{claim.status.value}* |"
            )


def _source(claim: Claim) -> str:
    return claim.source.replace(")-(", ")–(")


def _where(claim: Claim) -> str:
    return "—" if claim.source == "not in the paper" else _source(claim)


def _first_sentence(text: str) -> str:
    """Up to the first full stop outside mathematics that ends a sentence."""
    parts = _MATH.split(text.strip())
    for i in range(0, len(parts), 2):
        end = re.search(r"\.(?=\s+[A-Z$]|\s*$)", parts[i])
        if end:
            return "".join([*parts[:i], parts[i][: end.end()]])
    return "".join(parts)


def _section(
    claim: Claim, verdict: Verdict, drawn: Callable[[Estimate], str] = lambda row: ""
) -> Iterator[str]:
    yield f'### <a id="claim-{claim.number}"></a>{claim.number} {claim.title}'
    yield ""
    yield f"{_source(claim)} · *{claim.status.value}* · [all claims](#claims)"
    yield ""
    yield claim.tex(claim.statement).strip()
    if claim.condition:
        yield ""
        yield f"**Condition.** {claim.tex(claim.condition).strip()}"
    if claim.correction:
        yield ""
        yield f"**Correction.** {claim.tex(claim.correction).strip()}"
    if verdict.failures:
        yield ""
        yield "**THIS CLAIM FAILED ITS CHECKS:** " + html.escape("; ".join(verdict.failures))
    steps = [e for e in verdict.evidence if isinstance(e, Step)]
    yield ""
    yield "**Proof.**"
    yield ""
    for number, step in enumerate(steps, 1):
        indent = " " * len(f"{number}. ")
        yield f"{number}. {step.words}"
        yield ""
        for line in step.latex():
            yield f"{indent}$${line}$$"
            yield ""
    yield from _exact_table([e for e in verdict.evidence if isinstance(e, Exact)])
    yield from _estimate_table([e for e in verdict.evidence if isinstance(e, Estimate)], drawn)
    yield from _search_table([e for e in verdict.evidence if isinstance(e, Search)])


def _exact_table(rows: Sequence[Exact]) -> Iterator[str]:
    if not rows:
        return
    yield "| by enumeration | enumerated | | formula |"
    yield "|---|---|---|---|"
    for row in rows:
        yield (
            f"| {_cell(row.what)} | {_number(row.enumerated)} | "
            f"{_RELATION_SIGN.get(row.relation, row.relation)} | {_number(row.formula)} |"
        )
    yield ""


def _estimate_table(rows: Sequence[Estimate], drawn: Callable[[Estimate], str]) -> Iterator[str]:
    if not rows:
        return
    pictures = [drawn(row) for row in rows]
    extra = " |" if any(pictures) else ""
    yield "| by simulation | mean ± standard error | formula | control, rejected |" + extra
    yield "|---|---|---|---|" + ("---|" if extra else "")
    for row, shown in zip(rows, pictures, strict=True):
        digits = (
            max(0, -math.floor(math.log10(row.standard_error)) + 1) if row.standard_error else 6
        )
        numbers = [
            f"{x:.{digits}f}".replace("-", "−")
            for x in (row.mean, row.standard_error, row.expected, row.control)
        ]
        yield (
            f"| {_cell(row.what)} | {numbers[0]}\u00a0±\u00a0{numbers[1]} | {numbers[2]} | "
            f"{numbers[3]} ({_cell(row.control_is)}) |" + (f" {shown} |" if extra else "")
        )
    yield ""


def _search_table(rows: Sequence[Search]) -> Iterator[str]:
    if not rows:
        return
    yield "| by search | found | formula | control, beaten |"
    yield "|---|---|---|---|"
    for row in rows:
        yield (
            f"| {_cell(row.what)} ({row.sense}) | {_decimal(row.found)} | "
            f"{_decimal(row.claimed)} | {_decimal(row.control)} ({_cell(row.control_is)}) |"
        )
    yield ""


def _number(value: Any) -> str:
    """A fraction as it is if short, a short root too; what is longer as a decimal."""
    number = sp.sympify(value)
    if number.is_Rational and len(str(number)) <= 25:
        return str(number).replace("-", "−")
    if not number.is_Rational and width(latex(number, in_line=True)) <= 10:
        return f"${latex(number, in_line=True)}$"
    return f"{sp.N(number, 10)}".replace("-", "−") + "…"


def _decimal(value: float) -> str:
    """Six digits; powers of ten as one writes them."""
    digits, _, power = f"{value:.6g}".partition("e")
    if power:
        return rf"${digits} \cdot 10^{{{int(power)}}}$"
    return digits.replace("-", "−")


def _cell(text: str) -> str:
    r"""A bar would end the cell; inside mathematics ``\vert`` means the same."""
    parts = text.split("$")
    for i, part in enumerate(parts):
        parts[i] = part.replace("|", r"\vert " if i % 2 else r"\|")
    return "$".join(parts)
