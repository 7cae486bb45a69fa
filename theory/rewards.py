"""Mean rewards by simulation: what a change of the policy does to success rates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[np.float64]]


def drawn_improvements(
    rng: np.random.Generator,
    rate_N: ArrayLike,
    improvement_N: ArrayLike,
    prob_N: ArrayLike,
    *,
    rollouts: int,
    draws: int = 400,
) -> Array:
    """Average reward of the new policy less the old success rate, shape (S,).

    Every draw gives each prompt ``rollouts`` rollouts of the new policy, whose success rates are
    ``rate_N + improvement_N``, and averages over prompts with weights ``prob_N``.
    """
    old_N, prob = np.asarray(rate_N, dtype=np.float64), np.asarray(prob_N, dtype=np.float64)
    new_N = old_N + np.asarray(improvement_N, dtype=np.float64)
    right_S_N = rng.binomial(rollouts, new_N, size=(draws, old_N.size))
    mean_S: Array = (right_S_N / rollouts - old_N) @ prob
    return mean_S
