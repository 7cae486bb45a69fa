r"""Verifier ``math``: equal as mathematics, by math-verify.

The answer is the content of the last ``\boxed{}`` that closes; of a completion without one it is what
math-verify takes for the final answer of its last :data:`TAIL` characters: a formula or number after
"the answer is", else the last one. Nothing there: wrong. What math-verify cannot read is wrong unless it
is the reference's own text.

math-verify's time limits are signals, which neither reach into a long multiplication nor work outside
a main thread. They are switched off: the limit is the pool's, which ends the process.
"""

from __future__ import annotations

import logging

from math_verify import parse, verify
from sympy import Integer

from train.benchmarks.references import last_boxed
from train.verifiers.normalization import normalized, visible

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of the limits that are off
NESTING = 100  # deeper braces are no formula that people write; reading them takes minutes
TAIL = (
    1000  # of texts without a box; math-verify's search takes minutes for a loop of 10,000 digits
)
OTHER = Integer(-987654321)  # what a reference is compared with to see whether that can be done
# Grammars are loaded with this module, not within the limit of the first verdict.
parse(r"\boxed{1}", parsing_timeout=None)


def is_right(completion: str, reference: str) -> bool:
    r"""Whether the final answer equals the reference.

    Parameters
    ----------
    completion : str
    reference : str
        LaTeX without dollar signs (train/benchmarks/references.py).

    Examples
    --------
    >>> is_right(r"First \boxed{1}, no: \boxed{0.5}.", r"\frac{1}{2}"), is_right("None.", "1")
    (True, False)
    """
    boxed = last_boxed(completion)
    if boxed is not None:
        answer = normalized(boxed)
        if not answer:
            return False
        if answer == normalized(reference):
            return True
    text = visible(completion[-TAIL:]) if boxed is None else _in_box(boxed)
    if nesting(text) > NESTING:
        return False
    gold = parse(_in_box(reference), parsing_timeout=None)
    found = parse(text, parsing_timeout=None)
    return bool(gold and found and verify(gold, found, timeout_seconds=None))


def is_readable(completion: str, reference: str) -> bool:
    r"""Whether math-verify can read a reference and compare it with something else.

    A reference that it cannot read is met by its own text alone; one that it cannot compare in time
    costs every answer its verdict.

    Parameters
    ----------
    completion : str
        Not used: this is called as verifiers are (train/verifiers/pool.py).
    reference : str

    Examples
    --------
    >>> is_readable("", r"\frac{1}{2}"), is_readable("", "あ")
    (True, False)
    """
    gold = [x for x in parse(_in_box(reference), parsing_timeout=None) if not isinstance(x, str)]
    if not gold:
        return False
    verify(gold, [OTHER], timeout_seconds=None)
    return True


def _in_box(text: str) -> str:
    return f"\\boxed{{{visible(text)}}}"


def nesting(text: str) -> int:
    """How deep braces, brackets and parentheses open within each other at most.

    Examples
    --------
    >>> nesting("{()}{}")
    2
    """
    depth = deepest = 0
    for sign in text:
        if sign in "{[(":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "}])":
            depth = max(0, depth - 1)
    return deepest
