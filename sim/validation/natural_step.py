"""Exact natural-gradient steps of the simulator's policies, and what they gain and spend.

A pool is a policy, its parameters and a distribution over its prompts; a single prompt is a pool with
all the mass on it. Gain is the increase of the mean success rate, spent is the mean divergence of the
old answers from the new ones, the trust region of Eq. (1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq

from cures.checks import FloatArray
from sim.policy import FloatMatrix, Policy
from sim.validation.answers import AnswerLaw, answer_chances, answer_law, divergence
from sim.validation.expected import expected
from theory.bound import natural
from theory.symbols import delta


@dataclass(frozen=True, eq=False)
class Pool:
    """Prompts of one policy and their shares.

    Attributes
    ----------
    policy : Policy
        One that :func:`sim.validation.answers.answer_law` knows.
    theta_D : ndarray of float64, shape (D,)
    share_N : ndarray of float64, shape (N,)
        Distribution over all prompts of the policy.
    """

    policy: Policy
    theta_D: FloatArray
    share_N: FloatArray

    @cached_property
    def law_N(self) -> list[AnswerLaw]:
        """Law of every prompt, also of those without a share."""
        return [answer_law(self.policy, self.theta_D, i) for i in range(self.share_N.size)]

    @cached_property
    def rate_N(self) -> FloatArray:
        """Success rates."""
        return np.array([law.success_rate for law in self.law_N])

    @cached_property
    def gradient_D(self) -> FloatArray:
        """Of the mean success rate."""
        parts = [w * law.gradient_D for w, law in zip(self.share_N, self.law_N, strict=True)]
        return np.asarray(sum(parts))

    @cached_property
    def fisher_D_D(self) -> FloatMatrix:
        """Mean Fisher matrix."""
        live = zip(self.share_N, self.law_N, strict=True)
        return np.asarray(sum(w * law.fisher_D_D for w, law in live if w > 0.0))

    @cached_property
    def direction_D(self) -> FloatArray:
        """``F^+ g``; the null space of F moves no chance."""
        inverse_D_D = np.linalg.pinv(self.fisher_D_D, rcond=1e-12, hermitian=True)
        return np.asarray(inverse_D_D @ self.gradient_D)

    @property
    def natural_norm(self) -> float:
        """``g^T F^+ g``."""
        return float(self.gradient_D @ self.direction_D)

    def after(self, step_D: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gain and divergence of every prompt after a step of the parameters, shapes (N,)."""
        gain_N, spent_N = np.zeros((2, self.share_N.size))
        for i in np.flatnonzero(self.share_N):
            old_K = self.law_N[i].chance_K
            new_K = answer_chances(self.policy, self.theta_D + step_D, int(i))
            gain_N[i] = float((new_K - old_K) @ self.law_N[i].is_right_K)
            spent_N[i] = divergence(old_K, new_K)
        return gain_N, spent_N

    def nominal(self, radius: float) -> tuple[FloatArray, FloatArray]:
        """Gains and divergences of the natural-gradient step of Eq. (8)."""
        length = expected("1.1", "multiplier", {natural: self.natural_norm, delta: radius})
        return self.after(self.direction_D / float(length))

    def stretched(self, radius: float) -> tuple[FloatArray, FloatArray]:
        """Gains and divergences of the step in the same direction that spends the radius exactly."""
        direction_D = self.direction_D

        def excess(scale: float) -> float:
            spent = min(float(self.share_N @ self.after(scale * direction_D)[1]), 1e6 * radius)
            return (spent - radius) / (spent + radius)  # in [-1, 1], also far outside

        scale = to_root(excess, np.sqrt(2.0 * radius / self.natural_norm))
        return self.after(scale * direction_D)


def to_root(excess: Callable[[float], float], start: float) -> float:
    """Root of an increasing function that is negative at 0; ``start`` is a first guess."""
    high = start
    while excess(high) < 0.0:
        high *= 2.0
    return float(brentq(excess, 0.0, high, xtol=1e-14 * start, rtol=1e-14))


def alone(policy: Policy, theta_D: FloatArray, prompt: int) -> Pool:
    """The pool in which one prompt has all the mass."""
    share_N = np.zeros(policy.num_prompts)
    share_N[prompt] = 1.0
    return Pool(policy, theta_D, share_N)
