r"""Verifier of generated questions: reasoning-gym's own score of the last ``\boxed{}``.

A question's score needs all that its generator knows of it. The reference therefore says where the
question comes from, and the worker process generates it again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any, TypedDict

from train.benchmarks.references import last_boxed

THRESHOLD = 1.0


class Source(TypedDict):
    """Where a question comes from."""

    name: str
    seed: int
    size: int
    index: int
    digest: str


@functools.lru_cache(maxsize=128)
def generator_of(name: str, seed: int, size: int) -> Any:
    """A generator with its usual settings.

    Parameters
    ----------
    name : str
    seed : int
    size : int
        Of its sequence.
    """
    import reasoning_gym

    return reasoning_gym.create_dataset(name, seed=seed, size=size)


def digest(entry: dict[str, Any]) -> str:
    """Of a question and its answer."""
    text = json.dumps([str(entry["question"]), str(entry["answer"])])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_right(completion: str, reference: str) -> bool:
    r"""Whether the content of the last ``\boxed{}`` scores at least 1; without one it is wrong.

    Parameters
    ----------
    completion : str
    reference : str
        A :class:`Source` as JSON.

    Raises
    ------
    RuntimeError
        If the generator gives another question here than where the task was built.
    """
    answer = last_boxed(completion)
    if answer is None or not answer.strip():
        return False
    source: Source = json.loads(reference)
    generator = generator_of(source["name"], source["seed"], source["size"])
    entry = generator[source["index"]]
    if digest(entry) != source["digest"]:
        raise RuntimeError(f"generator {source['name']} does not repeat itself")
    return bool(generator.score_answer(answer.strip(), entry) >= THRESHOLD)
