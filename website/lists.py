"""GitHub's list items, whose content begins wherever their text does, as Python-Markdown reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MARKER = re.compile(r"(?:[-*+]|\d+[.)]) +")


def indented(lines: list[str]) -> Iterator[str]:
    """Lines with what belongs to a list item four columns in per level.

    Examples
    --------
    >>> list(indented(["1. one", "", "   more", "   - two", "     more", "end"]))
    ['1. one', '', '    more', '    - two', '        more', 'end']
    """
    columns: list[int] = []  # where the content of the items around a line begins
    for line in lines:
        text = line.lstrip(" ")
        if not text:
            yield line
            continue
        indent = len(line) - len(text)
        while columns and indent < columns[-1]:
            columns.pop()
        beyond = indent - columns[-1] if columns else indent
        yield " " * (4 * len(columns) + beyond) + text
        marker = _MARKER.match(text)
        if marker and beyond < 4:  # more is code
            columns.append(indent + marker.end())
