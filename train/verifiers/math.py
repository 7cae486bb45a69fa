r"""Verifier ``math``: equal as mathematics, by math-verify.

The answer is the content of the last ``\boxed{}`` that closes; of a completion without one it is what
math-verify takes for its final answer: a formula or number after "the answer is", else the last one.
Nothing there: wrong. What math-verify cannot read is wrong unless it is the reference's own text.

math-verify's time limits are signals, which neither reach into a long multiplication nor work outside
a main thread. They are switched off: the limit is the pool's, which ends the process.
"""

from __future__ import annotations

import logging

from math_verify import parse, verify

from train.benchmarks.references import last_boxed
from train.verifiers.normalization import normalized, visible

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of the limits that are off
NESTING = 100  # deeper braces are no formula that people write; reading them takes minutes


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
    text = visible(completion) if boxed is None else f"\\boxed{{{visible(boxed)}}}"
    if nesting(text) > NESTING:
        return False
    gold = parse(f"\\boxed{{{visible(reference)}}}", parsing_timeout=None)
    found = parse(text, parsing_timeout=None)
    return bool(gold and found and verify(gold, found, timeout_seconds=None))


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
