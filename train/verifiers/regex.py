"""Verifier ``regex``: the text that a pattern finds is the answer."""

from __future__ import annotations

import re

from cures.checks import fail
from train.verifiers.normalization import normalized


def check_pattern(where: str, name: str, pattern: str | None) -> str:
    """A pattern that can be used.

    Raises
    ------
    ValueError
        If it is none, cannot be compiled or does not have exactly one group.
    """
    legal = "a regular expression of Python with exactly one group (...)"
    if not isinstance(pattern, str):
        fail(where, name, legal, pattern)
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        fail(where, name, legal, pattern)
    if compiled.groups != 1:
        fail(where, name, legal, pattern)
    return pattern


def is_right(completion: str, reference: str, *, pattern: str) -> bool:
    """Whether the group of the last match is the reference (train/verifiers/normalization.py).

    Parameters
    ----------
    completion, reference : str
    pattern : str
        See :func:`check_pattern`.

    Examples
    --------
    >>> is_right("#### 7 ... #### 1 ", "1", pattern="#### *([0-9]+)")
    True
    """
    found = [match.group(1) for match in re.finditer(pattern, completion)]
    answer = normalized(found[-1] or "") if found else ""  # a group need not take part in a match
    return answer != "" and answer == normalized(reference)
