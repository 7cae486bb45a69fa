"""What docstrings have of Sphinx's markup, as Markdown: formulas, tables, links between names."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, GriffeError, Module, Object

_MATH = re.compile(r":math:`([^`]+)`")
_BLOCK = re.compile(r"^([ ]*)\.\. math:: *((?:.+\n?)+)", flags=re.MULTILINE)
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")
_LITERAL = re.compile(r"^::$|:(?=:$)", flags=re.MULTILINE)
_TABLE = re.compile(r"^([ ]*)(=+ +)=+\n(.*?)^\1=+ +=+$", flags=re.MULTILINE | re.DOTALL)
# of {1, 2} the first is taken for the default
_CHOICES = re.compile(r"^(\w+(?:, \w+)*) : \{(.+)\}$", flags=re.MULTILINE)
_CITED = re.compile(r"^([ ]*)\.\. (\[\d+\]) ", flags=re.MULTILINE)


class Roles(Extension):
    """Rewrites every docstring of a package once it is loaded."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """See :class:`griffe.Extension`."""
        self._rewrite(pkg)

    def _rewrite(self, thing: Object) -> None:
        if thing.docstring:
            thing.docstring.value = markdown(thing.docstring.value, thing)
        for member in thing.members.values():
            if not member.is_alias:
                self._rewrite(member)


def markdown(text: str, scope: Object) -> str:
    """A docstring without roles; names are looked up where it stands."""
    text = _TABLE.sub(_table, text)
    text = _CHOICES.sub(lambda found: f"{found[1]} : {found[2].replace(', ', ' | ')}", text)
    text = _MATH.sub(r"$\1$", text)
    text = _BLOCK.sub(lambda found: f"{found[1]}$${' '.join(found[2].split())}$$\n", text)
    text = _ROLE.sub(lambda found: _link(found[2], is_short=bool(found[1]), scope=scope), text)
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


def _link(name: str, *, is_short: bool, scope: Object) -> str:
    shown = name.rpartition(".")[2] if is_short else name
    path = _path(name, scope)
    if path is None:
        return f"`{shown}`"
    # optional: what has no place in the site, such as a private method, is a name and no link
    return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'


def _path(name: str, scope: Object) -> str | None:
    """Full name of the thing of that name, if there is one."""
    around: Object | None = scope
    while around is not None:
        try:
            return str(around[name].canonical_path)
        except (GriffeError, KeyError):
            around = around.parent
    try:
        return str(scope.package.modules_collection[name].canonical_path)
    except (GriffeError, KeyError):
        return None
