"""What a simulated policy is: pure functions of its parameters, no state of its own.

A rollout of a prompt is one integer, its *answer*; whether an answer is right is the policy's
``is_right``. Parameters are a flat vector ``theta_D`` that the host owns and passes in, so a
policy is a frozen description and one object serves every arm. Updates see sampled answers and
rewards only; the closed-form success rates are for evaluation and tests.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cures.checks import BoolArray, FloatArray, IntArray

FloatMatrix = NDArray[np.float64]
IntMatrix = NDArray[np.int64]


class Policy(Protocol):
    """The functions a host and a test need of a policy.

    ``prompt_B`` and ``prompt_R`` are int64 ids, possibly repeated. Extra axis suffixes: ``_D``
    policy parameters, ``_L`` coordinates of one prompt's score.
    """

    @property
    def num_prompts(self) -> int:
        """Prompts the policy can answer: pool and held-out together."""
        ...

    @property
    def num_parameters(self) -> int:
        """Length D of ``theta_D``."""
        ...

    def success_rate(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatArray:
        """Exact chance that a sampled answer is right, shape (B,)."""
        ...

    def success_gradient(
        self, theta_D: FloatArray, prompt_B: IntArray, weight_B: FloatArray
    ) -> FloatArray:
        """Exact gradient of ``sum_b weight_b success_rate_b``, shape (D,). Never used to train."""
        ...

    def generate(
        self, theta_D: FloatArray, prompt_R: IntArray, generator: np.random.Generator
    ) -> IntArray:
        """One sampled answer per entry of ``prompt_R``."""
        ...

    def is_right(self, prompt_R: IntArray, answer_R: IntArray) -> BoolArray:
        """Verdict on each answer."""
        ...

    def num_tokens(self, prompt_R: IntArray, answer_R: IntArray) -> IntArray:
        """Length of each answer, >= 1."""
        ...

    def score_sum(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray, weight_R: FloatArray
    ) -> FloatArray:
        """``sum_r weight_r grad log pi(answer_r | prompt_r)``, shape (D,)."""
        ...

    def local_score(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray
    ) -> FloatMatrix:
        """Scores in coordinates of their prompt, shape (R, L).

        Inner products between two rollouts *of the same prompt* equal those of the full scores;
        between prompts they mean nothing.
        """
        ...
