"""A section of a configuration: a frozen record whose fields know their meaning and legal set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from cures.checks import as_bool, as_choice, as_float, as_int, fail, interval

# Far beyond what a machine can do, so that a slip of the keyboard is refused by name at once.
MAX_SEED = 2**63 - 1
MAX_SIZE = 10**7  # what is held in memory at one time
MAX_COUNT = 10**12  # what is only counted
MAX_WIDTH = 10**5
MAX_RATE = 10.0
MAX_THREADS = 1024


def option(help_: str, kind: str, default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A field that knows its meaning and its legal set; both appear in ``--help``."""
    metadata = {"help": help_, "kind": kind, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


def limits_text(metadata: Mapping[str, Any]) -> str:
    """The legal set of a field in words."""
    kind, limits = metadata["kind"], metadata["limits"]
    if "choices" in limits:
        return ("out of " if kind == "list" else "one of ") + ", ".join(map(str, limits["choices"]))
    if kind in ("bool", "text"):
        return "true or false" if kind == "bool" else "not empty"
    is_open = {side: limits.get(side, False) for side in ("open_low", "open_high")}
    return f"{kind} in {interval(limits.get('low'), limits.get('high'), **is_open)}"


def _checked(where: str, name: str, value: Any, metadata: Mapping[str, Any]) -> Any:
    kind, limits = metadata["kind"], dict(metadata["limits"])
    if limits.pop("is_optional", False) and value is None:
        return None
    if kind == "int":
        return as_int(where, name, value, limits.get("low"), limits.get("high"))
    if kind == "float":
        return as_float(where, name, value, **limits)
    if kind == "bool":
        return as_bool(where, name, value)
    if kind == "choice":
        return as_choice(where, name, value, limits["choices"])
    if kind == "text":
        if not isinstance(value, str) or not value:
            fail(where, name, "a non-empty string", value)
        return value
    return _checked_list(where, name, value, limits)


def _checked_list(where: str, name: str, value: Any, limits: Mapping[str, Any]) -> tuple[Any, ...]:
    legal = f"a list of distinct values out of {list(limits['choices'])}, at least one"
    if not isinstance(value, list | tuple) or not value:
        fail(where, name, legal, value)
    is_legal = all(type(v) is type(limits["choices"][0]) and v in limits["choices"] for v in value)
    if not is_legal or len(set(value)) != len(value):
        fail(where, name, legal, value)
    return tuple(value)


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of all sections: validates every field at construction."""

    TITLE: ClassVar[str]

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.metadata:
                value = _checked(f"[{self.TITLE}]", f.name, getattr(self, f.name), f.metadata)
                object.__setattr__(self, f.name, value)
