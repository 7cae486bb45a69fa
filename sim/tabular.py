"""Tabular softmax policy: K answers per prompt, any of them right, as in the paper's bounds.

Without features every prompt has K logits of its own and nothing transfers: the policy for which
Eq. (11) holds with equality. With features the logits are ``offset_i + features_i . W`` with
shared W. Gradients are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logit, logsumexp, softmax

from cures.checks import BoolArray, FloatArray, IntArray, InWords, fail
from sim.policy import FloatMatrix


def logits_for_success_rate(
    logit_N_K: FloatMatrix, is_right_N_K: BoolArray, rate_N: FloatArray
) -> FloatMatrix:
    """Logits with the wanted success rates; within a kind, answers keep their relative chances.

    Parameters
    ----------
    logit_N_K : ndarray of float64, shape (N, K)
    is_right_N_K : ndarray of bool, shape (N, K)
        Of every prompt some answers, not all.
    rate_N : ndarray of float64, shape (N,)
        In (0, 1).
    """
    odds_N = logsumexp(np.where(is_right_N_K, logit_N_K, -np.inf), axis=1) - logsumexp(
        np.where(is_right_N_K, -np.inf, logit_N_K), axis=1
    )
    return np.asarray(logit_N_K + is_right_N_K * (logit(rate_N) - odds_N)[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Tabular:
    """Softmax over K answers per prompt.

    Attributes
    ----------
    is_right_N_K : ndarray of bool, shape (N, K)
        Which answers are right; any subset, also none or all.
    features_N_F : ndarray of float64, shape (N, F), optional
        Shared features; ``None``: a table with N K parameters.
    offset_N_K : ndarray of float64, shape (N, K), optional
        Fixed part of the logits; default 0.
    """

    is_right_N_K: BoolArray
    features_N_F: FloatMatrix | None = None
    offset_N_K: FloatMatrix | None = None

    def __post_init__(self) -> None:
        right = np.asarray(self.is_right_N_K)
        if right.ndim != 2 or right.dtype.kind != "b" or right.shape[1] < 2:
            fail(
                "Tabular",
                "is_right_N_K",
                "bool, of shape (N, K >= 2)",
                InWords(f"{right.dtype} {right.shape}"),
            )
        n, k = right.shape
        features, offset = (
            None if given is None else np.asarray(given, dtype=np.float64)
            for given in (self.features_N_F, self.offset_N_K)
        )
        for name, array in (
            ("is_right_N_K", right),
            ("features_N_F", features),
            ("offset_N_K", offset),
        ):
            object.__setattr__(self, name, array)  # lists are welcome, arrays are kept
        if features is not None and (features.ndim != 2 or features.shape[0] != n):
            fail(
                "Tabular", "features_N_F", f"of shape ({n}, F)", InWords(f"shape {features.shape}")
            )
        if offset is not None and offset.shape != (n, k):
            fail("Tabular", "offset_N_K", f"of shape ({n}, {k})", InWords(f"shape {offset.shape}"))
        for name, array in (("features_N_F", features), ("offset_N_K", offset)):
            if array is not None and not np.isfinite(array).all():
                fail("Tabular", name, "finite", InWords("a value that is not"))

    @property
    def num_prompts(self) -> int:
        """Pool and held-out prompts together."""
        return int(self.is_right_N_K.shape[0])

    @property
    def num_answers(self) -> int:
        """K."""
        return int(self.is_right_N_K.shape[1])

    @property
    def num_parameters(self) -> int:
        """N K for a table, F K with features."""
        rows = self.num_prompts if self.features_N_F is None else self.features_N_F.shape[1]
        return rows * self.num_answers

    def logits(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatMatrix:
        """Shape (B, K)."""
        weight = theta_D.reshape(-1, self.num_answers)
        features = self.features_N_F
        logits = weight[prompt_B] if features is None else features[prompt_B] @ weight
        return logits if self.offset_N_K is None else logits + self.offset_N_K[prompt_B]

    def probability(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatMatrix:
        """Chance of each answer, shape (B, K), rows sum to 1."""
        return np.asarray(softmax(self.logits(theta_D, prompt_B), axis=1))

    def success_rate(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatArray:
        """Total chance of the right answers."""
        return np.asarray(
            (self.probability(theta_D, prompt_B) * self.is_right_N_K[prompt_B]).sum(1)
        )

    def logit_gradient(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatMatrix:
        """Gradient of each success rate in its own logits: ``pi_k (right_k - p)``, (B, K)."""
        pi = self.probability(theta_D, prompt_B)
        right = self.is_right_N_K[prompt_B]
        p = (pi * right).sum(axis=1, keepdims=True)
        return np.asarray(pi * (right - p))

    def success_gradient(
        self, theta_D: FloatArray, prompt_B: IntArray, weight_B: FloatArray
    ) -> FloatArray:
        """Chain rule through the logits."""
        return self._pull_back(prompt_B, weight_B[:, None] * self.logit_gradient(theta_D, prompt_B))

    def generate(
        self, theta_D: FloatArray, prompt_R: IntArray, generator: np.random.Generator
    ) -> IntArray:
        """Answer indices by inversion of the cumulative distribution."""
        cumulative = np.cumsum(self.probability(theta_D, prompt_R), axis=1)
        # scaled by the last entry, which rounding can leave below 1
        level = generator.random(prompt_R.size) * cumulative[:, -1]
        return np.asarray((level[:, None] >= cumulative).sum(axis=1), dtype=np.int64)

    def is_right(self, prompt_R: IntArray, answer_R: IntArray) -> BoolArray:
        """Look-up."""
        return np.asarray(self.is_right_N_K[prompt_R, answer_R])

    def num_tokens(self, prompt_R: IntArray, answer_R: IntArray) -> IntArray:
        """Every answer is one token."""
        return np.ones(prompt_R.size, dtype=np.int64)

    def score_sum(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray, weight_R: FloatArray
    ) -> FloatArray:
        """``sum_r weight_r (e_answer - pi)`` pulled back to the parameters."""
        score = self._logit_score(theta_D, prompt_R, answer_R)
        return self._pull_back(prompt_R, weight_R[:, None] * score)

    def local_score(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray
    ) -> FloatMatrix:
        """``(e_answer - pi) |features|``, shape (R, K)."""
        score = self._logit_score(theta_D, prompt_R, answer_R)
        if self.features_N_F is None:
            return score
        return np.asarray(
            score * np.linalg.norm(self.features_N_F[prompt_R], axis=1, keepdims=True)
        )

    def _logit_score(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray
    ) -> FloatMatrix:
        score = -self.probability(theta_D, prompt_R)
        score[np.arange(prompt_R.size), answer_R] += 1.0
        return score

    def _pull_back(self, prompt_B: IntArray, logit_B_K: FloatMatrix) -> FloatArray:
        if self.features_N_F is not None:
            return np.asarray(self.features_N_F[prompt_B].T @ logit_B_K).ravel()
        gradient = np.zeros((self.num_prompts, self.num_answers))
        np.add.at(gradient, prompt_B, logit_B_K)
        return gradient.ravel()
