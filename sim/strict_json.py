"""JSON from outside, read strictly: no NaN, no infinity, no field that is given twice."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse(text: str) -> Any:
    """Parse JSON text.

    Raises
    ------
    ValueError
        If it is no JSON, holds a number that is not finite, or an object with a field given twice; the
        sentence says what, not where.
    RecursionError
        If brackets are nested too deeply.

    Examples
    --------
    >>> parse('{"success_rate": [0.5], "name": "half"}')
    {'success_rate': [0.5], 'name': 'half'}
    """
    return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"a field is given twice: {double!r}")
    return content
