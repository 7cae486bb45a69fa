"""What docstrings have of Sphinx's and numpy's markup, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable

_MATH = re.compile(r":math:`([^`]+)`")
_BLOCK = re.compile(r"^([ ]*)\.\. math:: *((?:.+\n?)+)", flags=re.MULTILINE)
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")
_LITERAL = re.compile(r"^::$|:(?=:$)", flags=re.MULTILINE)
_TABLE = re.compile(r"^([ ]*)(=+ +)=+\n(.*?)^\1=+ +=+$", flags=re.MULTILINE | re.DOTALL)
# of {1, 2} the first is taken for the default
_CHOICES = re.compile(r"^(\w+(?:, \w+)*) : \{(.+)\}$", flags=re.MULTILINE)
_CITED = re.compile(r"^([ ]*)\.\. (\[\d+\]) ", flags=re.MULTILINE)
_TOGETHER = re.compile(r"^(\w+(?:, \w+)+)\n((?:[ ]{4}.*\n?)+)", flags=re.MULTILINE)


def markdown(text: str, path_of: Callable[[str], str | None]) -> str:
    """A docstring without roles: formulas, tables, links between names.

    Parameters
    ----------
    text : str
    path_of : callable
        Full name of the thing that a name means where the docstring stands; None if there is none.

    Examples
    --------
    >>> markdown("The :math:`\\\\sigma` of :func:`~a.f`; see :mod:`b`::", {"a.f": "c.a.f"}.get)
    'The $\\\\sigma$ of <autoref optional identifier="c.a.f"><code>f</code></autoref>; see `b`:'
    """
    text = _TABLE.sub(_table, text)
    text = _CHOICES.sub(lambda found: f"{found[1]} : {found[2].replace(', ', ' | ')}", text)
    text = _MATH.sub(r"$\1$", text)
    text = _BLOCK.sub(lambda found: f"{found[1]}$${' '.join(found[2].split())}$$\n", text)
    text = _ROLE.sub(lambda found: _link(found[2], bool(found[1]), path_of(found[2])), text)
    text = _LITERAL.sub("", text)
    return _CITED.sub(r"\1\2 ", text)


def _table(found: re.Match[str]) -> str:
    """Two columns; a line without the first one goes on with the second."""
    margin, width = found[1], len(found[2])
    rows: list[list[str]] = []
    for line in found[3].splitlines():
        left, right = (
            part.strip() for part in (line[len(margin) :][:width], line[len(margin) :][width:])
        )
        if left:
            rows.append([left, right])
        else:
            rows[-1][1] += f" {right}"
    body = [f"{margin}| {left} | {right} |" for left, right in rows]
    return "\n".join([f"{margin}| | |", f"{margin}|---|---|", *body])


def _link(name: str, is_short: bool, path: str | None) -> str:
    shown = name.rpartition(".")[2] if is_short else name
    if path is None:
        return f"`{shown}`"
    # optional: what has no place in the site, such as a private method, is a name and no link
    return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'


def apart(text: str) -> str:
    """Several parameters that one sentence is about, one by one: each has a type and a default.

    Examples
    --------
    >>> apart("low, high\\n    Ends.\\n")
    'low\\n    Ends.\\nhigh\\n    Ends.\\n'
    """
    return _TOGETHER.sub(_one_by_one, text)


def _one_by_one(found: re.Match[str]) -> str:
    text = found[2].rstrip("\n")
    return "".join(f"{name}\n{text}\n" for name in found[1].split(", "))
