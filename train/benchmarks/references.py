r"""What a data set says is right -> the reference that a verifier gets: LaTeX without dollar signs.

Data sets write answers as text, as numbers, as lists, after ``####`` or inside the ``\boxed{}`` of a
solution; there is one function for each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

BOXED = r"\boxed{"


def last_boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}``; None without one, or if it never closes.

    Parameters
    ----------
    text : str
        Escaped braces, ``\{`` and ``\}``, are part of the content and close nothing.

    Examples
    --------
    >>> last_boxed(r"first \boxed{1}, then \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> last_boxed(r"\boxed{\{1, 2\}}"), last_boxed(r"\boxed{1"), last_boxed("none")
    ('\\{1, 2\\}', None, None)
    """
    start = text.rfind(BOXED)
    if start < 0:
        return None
    first = start + len(BOXED)
    depth = 1
    for sign in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, first):
        depth += {"{": 1, "}": -1}.get(sign.group(), 0)
        if depth == 0:
            return text[first : sign.start()]
    return None


def plain(value: Any) -> str | None:
    """Text or a number as it stands; None if it is neither, or empty.

    Examples
    --------
    >>> plain("$\\\\frac{1}{2}$"), plain(27.0), plain("025"), plain(0.5), plain(" ")
    ('\\\\frac{1}{2}', '27', '25', '0.5', None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    text = re.sub(r"(?<!\\)\$", "", str(value)).strip()
    return re.sub(r"^0+(?=\d+$)", "", text) or None  # of AIME's three-digit answers


def after_hashes(value: Any) -> str | None:
    """What follows ``####``, without thousands separators: answers of GSM8K.

    Examples
    --------
    >>> after_hashes("7 * 10,000 = 70,000.\\n#### 70,000")
    '70000'
    """
    if not isinstance(value, str) or "####" not in value:
        return None
    return plain(value.rpartition("####")[2].replace(",", ""))


def boxed(value: Any) -> str | None:
    """The last boxed part of a written solution."""
    return plain(last_boxed(value)) if isinstance(value, str) else None


def listed(value: Any) -> str | None:
    """A list of answers, all of which are wanted.

    Examples
    --------
    >>> listed(["$2n-2$"]), listed(["1", "-1"]), listed([])
    ('2n-2', '1, -1', None)
    """
    if not isinstance(value, list | tuple) or not value:
        return None
    answers = [plain(answer) for answer in value]
    return None if None in answers else ", ".join(str(answer) for answer in answers)


Reading = Callable[[Any], str | None]
