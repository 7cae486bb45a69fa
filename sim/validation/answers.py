"""The law of one prompt's answer, exactly: chance, score and verdict of every answer.

All policies of the simulator have few answers per prompt, so that every moment of a rollout is a sum.
Scores come from the policy's own ``score_sum``, chances from its parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from scipy.special import expit

from cures.checks import BoolArray, FloatArray
from sim.item_response import ItemResponse
from sim.policy import FloatMatrix, Policy
from sim.skills import Skills
from sim.tabular import Tabular


@singledispatch
def answer_chances(policy: Policy, theta_D: FloatArray, prompt: int) -> FloatArray:
    """Chance of each answer of a prompt, shape (K,), sums to 1."""
    raise ValueError(f"answer_chances: policy must be one of sim's, got {type(policy).__name__}")


@answer_chances.register
def _(policy: Tabular, theta_D: FloatArray, prompt: int) -> FloatArray:
    return np.asarray(policy.probability(theta_D, np.array([prompt]))[0])


@answer_chances.register
def _(policy: ItemResponse, theta_D: FloatArray, prompt: int) -> FloatArray:
    rate = float(policy.success_rate(theta_D, np.array([prompt]))[0])
    return np.array([1.0 - rate, rate])


@answer_chances.register
def _(policy: Skills, theta_D: FloatArray, prompt: int) -> FloatArray:
    skill_K = theta_D if policy.rotation_K_K is None else policy.rotation_K_K @ theta_D
    chain_L = policy.chain_N_L[prompt, : policy.length_N[prompt]]
    logit_L = skill_K[chain_L] - policy.threshold_N[prompt]
    passed_K = np.cumprod(np.concatenate([[1.0], expit(logit_L)]))  # all steps so far
    return np.asarray(passed_K * np.concatenate([expit(-logit_L), [1.0]]))


@dataclass(frozen=True, slots=True, eq=False)
class AnswerLaw:
    """Chances, scores and verdicts of the K answers of one prompt.

    Attributes
    ----------
    chance_K : ndarray of float64, shape (K,)
    score_K_D : ndarray of float64, shape (K, D)
        Row k is the gradient of ``log chance_k``.
    is_right_K : ndarray of bool, shape (K,)
    """

    chance_K: FloatArray
    score_K_D: FloatMatrix
    is_right_K: BoolArray

    @property
    def success_rate(self) -> float:
        """Total chance of the right answers."""
        return float(self.chance_K @ self.is_right_K)

    @property
    def gradient_D(self) -> FloatArray:
        """Of the success rate: the mean of reward times score."""
        return np.asarray((self.chance_K * self.is_right_K) @ self.score_K_D)

    @property
    def fisher_D_D(self) -> FloatMatrix:
        """Mean of score times its transpose."""
        return np.asarray(self.score_K_D.T @ (self.chance_K[:, None] * self.score_K_D))

    @property
    def contribution_K_D(self) -> FloatMatrix:
        """What a rollout adds to the gradient estimate: ``(r - p) s``."""
        return np.asarray((self.is_right_K - self.success_rate)[:, None] * self.score_K_D)

    @property
    def squared_distance_K(self) -> FloatArray:
        """Of each answer's contribution from their mean; its mean is sigma squared, by definition."""
        contribution_K_D = self.contribution_K_D
        return np.asarray(((contribution_K_D - self.chance_K @ contribution_K_D) ** 2).sum(axis=1))

    def mean_given(self, is_right: bool, value_K: FloatMatrix) -> FloatArray:
        """Mean of a function of the answer over the right or the wrong answers."""
        weight_K = self.chance_K * (self.is_right_K == is_right)
        return np.asarray(weight_K @ value_K / weight_K.sum())

    def square_norm(self, is_right: bool) -> float:
        """``E[|s|^2 | r]``."""
        return float(self.mean_given(is_right, (self.score_K_D**2).sum(axis=1)))

    def mean_norm(self, is_right: bool) -> float:
        """``E[|s| | r]``."""
        return float(self.mean_given(is_right, np.linalg.norm(self.score_K_D, axis=1)))

    @property
    def difference_D(self) -> FloatArray:
        """``E[s | r=1] - E[s | r=0]``."""
        return self.mean_given(True, self.score_K_D) - self.mean_given(False, self.score_K_D)


def answer_law(policy: Policy, theta_D: FloatArray, prompt: int) -> AnswerLaw:
    """The law of a prompt's answer.

    Parameters
    ----------
    policy : Tabular, ItemResponse or Skills
    theta_D : ndarray of float64, shape (D,)
    prompt : int

    Examples
    --------
    >>> policy = ItemResponse(np.array([[2.0]]), np.zeros(1))
    >>> answer_law(policy, np.zeros(1), 0).gradient_D  # p (1 - p) times the loading
    array([0.5])
    """
    chance_K = answer_chances(policy, theta_D, prompt)
    answer_K = np.arange(chance_K.size)
    prompt_K = np.full(chance_K.size, prompt)
    one = np.ones(1)
    score = [
        policy.score_sum(theta_D, prompt_K[:1], answer_K[k : k + 1], one) for k in answer_K.tolist()
    ]
    return AnswerLaw(chance_K, np.array(score), policy.is_right(prompt_K, answer_K))


def divergence(old_K: FloatArray, new_K: FloatArray) -> float:
    """Kullback-Leibler divergence, accurate for laws that hardly differ.

    ``sum old (x - log(1 + x))`` with x the relative change: the terms linear in x add up to nothing
    and are not there to be cancelled.
    """
    live_K = old_K > 0.0
    with np.errstate(divide="ignore"):
        change_K = new_K[live_K] / old_K[live_K] - 1.0
        return float(old_K[live_K] @ (change_K - np.log1p(change_K)))
