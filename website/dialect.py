"""Python-Markdown with GitHub's lists and formulas.

Here the content of a list item begins wherever its text does, not four columns in; ``$...$`` and
``$$...$$`` are formulas, which become MathML when the site is built (website/formulas.py).
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

from website.formulas import DISPLAY, INLINE, html
from website.lists import indented


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
        return self.md.htmlStash.store(html(m[1], display=self._display)), m.start(0), m.end(0)


class Dialect(Extension):
    """Both."""

    def extendMarkdown(self, md: Markdown) -> None:
        # code is out of the way by then: of 25 are fences, of 190 back-ticks; of 180 backslashes
        md.preprocessors.register(_Lists(md), "github-lists", 15)
        md.inlinePatterns.register(_Formula(DISPLAY, md, display=True), "display-math", 188)
        md.inlinePatterns.register(_Formula(INLINE, md, display=False), "inline-math", 186)


def makeExtension(**kwargs: Any) -> Dialect:
    """What Python-Markdown asks a module for."""
    return Dialect(**kwargs)
