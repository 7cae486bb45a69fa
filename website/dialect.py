"""Python-Markdown with GitHub's lists and formulas.

Here the content of a list item begins wherever its text does, not four columns in; ``$...$`` and
``$$...$$`` are formulas, which become MathML when the site is built, so that a browser needs neither a
script nor a network to show them.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

from theory.mathml import mathml
from website.lists import indented

_DISPLAY = r"(?<!\\)\$\$(.+?)\$\$"
_INLINE = r"(?<![\\$])\$(?=[^\s$])([^$]*[^\s$\\])\$(?![\d$])"


class _Lists(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return list(indented(lines))


class _Formula(InlineProcessor):
    def __init__(self, pattern: str, md: Markdown, *, display: bool) -> None:
        super().__init__(pattern, md)
        self._display = display

    def handleMatch(  # type: ignore[override]
        self, m: re.Match[str], data: str
    ) -> tuple[Element | str, int, int]:
        tex = " ".join(m[1].split())
        kind = "display" if self._display else "formula"
        found = f'<span class="{kind}">{mathml(tex, display=self._display)}</span>'
        return self.md.htmlStash.store(found), m.start(0), m.end(0)


class Dialect(Extension):
    """Both."""

    def extendMarkdown(self, md: Markdown) -> None:
        # code is out of the way by then: of 25 are fences, of 190 back-ticks; of 180 backslashes
        md.preprocessors.register(_Lists(md), "github-lists", 15)
        md.inlinePatterns.register(_Formula(_DISPLAY, md, display=True), "display-math", 188)
        md.inlinePatterns.register(_Formula(_INLINE, md, display=False), "inline-math", 186)


def makeExtension(**kwargs: Any) -> Dialect:
    """What Python-Markdown asks a module for."""
    return Dialect(**kwargs)
