"""Random generators derived from (seed, stream, index), never carried from step to step.

A generator that is derived can be derived again: a resumed run draws what the uninterrupted one drew,
and no generator state has to be stored. Streams keep the uses apart, so that for instance switching
coins on does not change which tokens are sampled.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch

from cures.checks import IntArray


class Stream(IntEnum):
    """What a generator is for. Values are part of the reproducibility contract: append only."""

    PROBLEMS = 0
    INITIAL_WEIGHTS = 1
    EXAMPLES = 2
    SUPERVISED_ORDER = 3
    GENERATION = 4
    COINS = 5
    MINIBATCHES = 6
    EVALUATION = 7
    ORACLE = 8
    WARM_START_CHECK = 9
    TUNED_POPULATION = 10
    SKETCHES = 11


# Schedulers derive theirs from keys of two numbers; three can never meet them, also under one seed.
TRAINER_TAG = 1


def _sequence(seed: int, stream: Stream, index: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(TRAINER_TAG, int(stream), index))


def numpy_generator(seed: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """NumPy generator of one use."""
    return np.random.default_rng(_sequence(seed, stream, index))


def torch_seed(seed: int, stream: Stream, index: int = 0) -> int:
    """63-bit seed of one use."""
    return int(_sequence(seed, stream, index).generate_state(1, np.uint64)[0] >> 1)


def prompt_seeds(seed: int, stream: Stream, index: int, count: int) -> IntArray:
    """63-bit seeds of the prompts of one use, shape (count,); a prompt's is that of its place."""
    state = _sequence(seed, stream, index).generate_state(count, np.uint64)
    return (state >> np.uint64(1)).astype(np.int64)


def torch_generator(seed: int, stream: Stream, index: int = 0) -> torch.Generator:
    """Torch CPU generator of one use."""
    return torch.Generator().manual_seed(torch_seed(seed, stream, index))
