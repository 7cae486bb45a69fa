"""Docstrings of a package as Markdown (website/docstrings.py), names looked up where they stand."""

from __future__ import annotations

from functools import partial
from typing import Any

from griffe import Extension, GriffeError, Module, Object

from website.docstrings import markdown


class Roles(Extension):
    """Rewrites every docstring of a package once it is loaded."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """See :class:`griffe.Extension`."""
        self._rewrite(pkg)

    def _rewrite(self, thing: Object) -> None:
        if thing.docstring:
            thing.docstring.value = markdown(thing.docstring.value, partial(_path, thing))
        for member in thing.members.values():
            if not member.is_alias:
                self._rewrite(member)


def _path(scope: Object, name: str) -> str | None:
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
