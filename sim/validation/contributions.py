"""What a rollout contributes to the gradient, (r - p) s: exact moments and sampled spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import sympy as sp

from cures.checks import FloatArray
from sim.policy import Policy
from sim.validation.answers import AnswerLaw, answer_law
from sim.validation.check import Arrays, rate_in_words
from theory.score_law import G_0, G_1, N_0, N_1, D
from theory.symbols import p

RATE_P = np.linspace(0.1, 0.9, 17)  # further out right or wrong rollouts become too few to count
at_rate = partial(rate_in_words, RATE_P)
Values = dict[sp.Symbol, FloatArray]


def laws(built: tuple[Policy, FloatArray]) -> list[AnswerLaw]:
    """Of every prompt."""
    policy, theta_D = built
    return [answer_law(policy, theta_D, i) for i in range(policy.num_prompts)]


def moments(law_P: Sequence[AnswerLaw]) -> Values:
    """Exact values of the symbols of Eq. (21), shapes (P,)."""
    columns: dict[sp.Symbol, Callable[[AnswerLaw], float]] = {
        p: lambda law: law.success_rate,
        G_1: lambda law: law.square_norm(True) ** 0.5,
        G_0: lambda law: law.square_norm(False) ** 0.5,
        D: lambda law: float(np.linalg.norm(law.difference_D)),
        N_1: lambda law: law.mean_norm(True),
        N_0: lambda law: law.mean_norm(False),
    }
    return {s: np.array([value(law) for law in law_P]) for s, value in columns.items()}


def rollouts_of(
    built: tuple[Policy, FloatArray], draws: int, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Mean squared distance of sampled contributions from their exact mean, and its error, (P,).

    Rollouts come from the policy's own ``generate``, scores from its ``local_score``.
    """
    policy, theta_D = built
    each = max(2, draws // policy.num_prompts)
    mean_P, error_P = np.zeros((2, policy.num_prompts))
    for i, law in enumerate(laws(built)):
        prompt_R = np.full(each, i)
        answer_R = policy.generate(theta_D, prompt_R, generator)
        residual_R = policy.is_right(prompt_R, answer_R) - law.success_rate
        part_R_L = residual_R[:, None] * policy.local_score(theta_D, prompt_R, answer_R)
        every_K = np.arange(law.chance_K.size)
        score_K_L = policy.local_score(theta_D, np.full(every_K.size, i), every_K)
        centre_L = (law.chance_K * (law.is_right_K - law.success_rate)) @ score_K_L
        mean_P[i] = float(((part_R_L - centre_L) ** 2).sum(axis=1).mean())
        error_P[i] = standard_error(law, each)
    return mean_P, error_P


def answers_of(
    law_P: Sequence[AnswerLaw], draws: int, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """The same for laws that are given as such."""
    each = max(2, draws // len(law_P))
    mean_P = [
        float(generator.choice(law.squared_distance_K, size=each, p=law.chance_K).mean())
        for law in law_P
    ]
    return np.array(mean_P), np.array([standard_error(law, each) for law in law_P])


def variance(law: AnswerLaw) -> float:
    """Of one contribution, by definition."""
    return float(law.chance_K @ law.squared_distance_K)


def standard_error(law: AnswerLaw, size: int) -> float:
    """Of the mean squared distance over ``size`` rollouts, exactly."""
    rest_K = law.squared_distance_K - variance(law)
    return float(np.sqrt(law.chance_K @ rest_K**2 / size))


def curves(
    mean_P: FloatArray, right_P: FloatArray, error_P: FloatArray, rate_P: FloatArray = RATE_P
) -> Arrays:
    """What the figure shows of a policy."""
    return {"rate_P": rate_P, "measured_P": mean_P, "expected_P": right_P, "error_P": error_P}
