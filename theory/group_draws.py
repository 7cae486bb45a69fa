"""Groups of rollouts by simulation: one gradient estimate per group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from theory.outcomes import SmallPolicy

Array = np.ndarray[Any, np.dtype[np.float64]]


def draw_gradients(
    policy: SmallPolicy,
    rng: np.random.Generator,
    draws: int,
    size: int,
    scale: Callable[[Array], Array | float],
) -> Array:
    """``sum_j A_j s_j / n`` with ``A = (r - mean r) * scale(k)``, k right of n; shape (S, D).

    ``scale`` sees the k of every group; its value in constant groups does not matter if it is finite.
    """
    pi_K = np.array([float(x) for x in policy.pi_K])
    score_K_D = np.array([[float(x) for x in row] for row in policy.score_K])
    answer_S_J = rng.choice(pi_K.size, size=(draws, size), p=pi_K)
    reward_S_J = np.isin(answer_S_J, list(policy.right)).astype(np.float64)
    scale_S = np.broadcast_to(scale(reward_S_J.sum(axis=1)), draws)
    advantage_S_J = (reward_S_J - reward_S_J.mean(axis=1, keepdims=True)) * scale_S[:, None]
    gradient_S_D: Array = np.einsum("sj,sjd->sd", advantage_S_J, score_K_D[answer_S_J]) / size
    return gradient_S_D


def gradient_of(policy: SmallPolicy) -> Array:
    """Gradient of the success rate, shape (D,)."""
    pi_K = np.array([float(x) for x in policy.pi_K])
    score_K_D = np.array([[float(x) for x in row] for row in policy.score_K])
    reward_K = np.isin(np.arange(pi_K.size), list(policy.right))
    gradient_D: Array = (pi_K * reward_K) @ score_K_D
    return gradient_D


def half_square_distance(gradient_S_D: Array) -> Array:
    """Half the squared distance of one draw and the next: its mean is the total variance."""
    pairs = gradient_S_D[: gradient_S_D.shape[0] // 2 * 2].reshape(-1, 2, gradient_S_D.shape[1])
    distance_S: Array = 0.5 * ((pairs[:, 0] - pairs[:, 1]) ** 2).sum(axis=1)
    return distance_S
