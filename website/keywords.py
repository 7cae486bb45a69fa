"""Keywords that a class hands on to its base class, shown where the class is."""

from __future__ import annotations

from typing import Any

from griffe import Class, Extension, Function, Module, ParameterKind, Parameters

from website.docstrings import apart


class Keywords(Extension):
    """``**common`` of an ``__init__`` becomes the keywords that the base classes take."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """See :class:`griffe.Extension`."""
        self._complete(pkg)

    def _complete(self, thing: Module | Class) -> None:
        for member in thing.members.values():
            if member.is_alias:
                continue
            if isinstance(member, Class):
                _hand_on(member)
            if isinstance(member, Module | Class):
                self._complete(member)


def _hand_on(cls: Class) -> None:
    own = cls.members.get("__init__")
    if not isinstance(own, Function) or not _has_more(own):
        return
    if cls.docstring:
        cls.docstring.value = apart(cls.docstring.value)
    taken = {p.name: p for p in own.parameters if p.kind is not ParameterKind.var_keyword}
    for base in cls.mro():
        init = base.members.get("__init__")
        if isinstance(init, Function):
            for parameter in init.parameters:
                if parameter.kind is not ParameterKind.var_keyword:
                    taken.setdefault(parameter.name, parameter)
            if not _has_more(init):
                own.parameters = Parameters(*taken.values())
                return


def _has_more(init: Function) -> bool:
    return any(p.kind is ParameterKind.var_keyword for p in init.parameters)
