r"""Verifier ``exact``: the same text, but for what train/verifiers/normalization.py lets pass.

The answer is the content of the last ``\boxed{}``; of a completion without one it is all of it.
"""

from __future__ import annotations

from train.benchmarks.references import last_boxed
from train.verifiers.normalization import normalized


def is_right(completion: str, reference: str) -> bool:
    r"""Whether the answer is the reference.

    Examples
    --------
    >>> is_right(r"It is \boxed{Tuesday}.", "tuesday"), is_right("42", "42"), is_right("", "")
    (True, True, False)
    """
    boxed = last_boxed(completion)
    answer = normalized(completion if boxed is None else boxed)
    return answer != "" and answer == normalized(reference)
