"""Gradient ascent on a flat parameter vector: a step is a function, the memory is a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cures.checks import FloatArray

OPTIMISERS = ("adam", "sgd", "normalised")


@dataclass(frozen=True, slots=True, eq=False)
class OptimiserState:
    """Running means of the gradient and its square (for ``adam`` alone), and the step count."""

    first_D: FloatArray
    second_D: FloatArray
    count: int

    @classmethod
    def zeros(cls, size: int) -> OptimiserState:
        """Before the first step."""
        return cls(np.zeros(size), np.zeros(size), 0)


def ascend(
    name: str,
    theta_D: FloatArray,
    gradient_D: FloatArray,
    state: OptimiserState,
    learning_rate: float,
) -> tuple[FloatArray, OptimiserState]:
    """One ascent step: Adam (betas 0.9 and 0.999, epsilon 1e-8; no weight decay), plain, or normalised.

    Parameters
    ----------
    name : {'adam', 'sgd', 'normalised'}
        ``normalised``: along the gradient, ``learning_rate`` long whatever its norm; no step where it
        is zero. A curriculum that makes gradients longer gains nothing from that alone.
    theta_D, gradient_D : ndarray of float64, shape (D,)
    state : OptimiserState
    learning_rate : float

    Returns
    -------
    theta_D : ndarray of float64
    state : OptimiserState
    """
    count = state.count + 1
    if name in ("sgd", "normalised"):
        length = float(np.linalg.norm(gradient_D)) if name == "normalised" else 1.0
        step_D = gradient_D * (learning_rate / length) if length else np.zeros_like(gradient_D)
        return theta_D + step_D, OptimiserState(state.first_D, state.second_D, count)
    first = 0.9 * state.first_D + 0.1 * gradient_D
    second = 0.999 * state.second_D + 0.001 * gradient_D**2
    mean = first / (1.0 - 0.9**count)
    scale = np.sqrt(second / (1.0 - 0.999**count)) + 1e-8
    return theta_D + learning_rate * mean / scale, OptimiserState(first, second, count)
