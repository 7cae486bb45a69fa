"""Item response policy: one ability vector, every prompt loads on it: the simplest transfer.

Prompt i is answered right with probability :math:`p_i = \\sigma(a_i \\cdot \\theta - b_i)`; the
answer is 1 (right) or 0. The score of a rollout is :math:`(r - p_i)\\, a_i`, so training a prompt
moves every prompt whose loading has a component along :math:`a_i`. Cost follows the prompts
touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from cures.checks import BoolArray, FloatArray, IntArray, as_float_array, fail
from sim.policy import FloatMatrix


@dataclass(frozen=True, slots=True, eq=False)
class ItemResponse:
    """Bernoulli answers with a logit linear in a shared ability.

    Attributes
    ----------
    loading_N_D : ndarray of float64, shape (N, D)
        a_i: how much each ability helps on prompt i.
    threshold_N : ndarray of float64, shape (N,)
        b_i: ability at which prompt i is right half of the time.

    Examples
    --------
    >>> policy = ItemResponse(np.array([[1.0], [2.0]]), np.array([0.0, 2.0]))
    >>> policy.success_rate(np.array([1.0]), np.array([1])).tolist()
    [0.5]
    """

    loading_N_D: FloatMatrix
    threshold_N: FloatArray

    def __post_init__(self) -> None:
        loading = np.array(self.loading_N_D, dtype=np.float64)
        if loading.ndim != 2 or not np.isfinite(loading).all():
            fail("ItemResponse", "loading_N_D", "finite, of shape (N, D)", f"shape {loading.shape}")
        object.__setattr__(self, "loading_N_D", loading)
        threshold = as_float_array(
            "ItemResponse", "threshold_N", self.threshold_N, length=loading.shape[0]
        )
        object.__setattr__(self, "threshold_N", threshold)

    @property
    def num_prompts(self) -> int:
        """Pool and held-out prompts together."""
        return self.loading_N_D.shape[0]

    @property
    def num_parameters(self) -> int:
        """Dimensions of the ability."""
        return self.loading_N_D.shape[1]

    def success_rate(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatArray:
        """Logistic function of ``a_i . theta - b_i``."""
        logit = self.loading_N_D[prompt_B] @ theta_D - self.threshold_N[prompt_B]
        return np.asarray(expit(logit))

    def success_gradient(
        self, theta_D: FloatArray, prompt_B: IntArray, weight_B: FloatArray
    ) -> FloatArray:
        """``sum_b weight_b p_b (1 - p_b) a_b``."""
        p = self.success_rate(theta_D, prompt_B)
        return (weight_B * p * (1.0 - p)) @ self.loading_N_D[prompt_B]

    def generate(
        self, theta_D: FloatArray, prompt_R: IntArray, generator: np.random.Generator
    ) -> IntArray:
        """1 with probability p, else 0."""
        p = self.success_rate(theta_D, prompt_R)
        return (generator.random(prompt_R.size) < p).astype(np.int64)

    def is_right(self, prompt_R: IntArray, answer_R: IntArray) -> BoolArray:
        """Answer 1 is right."""
        return answer_R == 1

    def num_tokens(self, prompt_R: IntArray, answer_R: IntArray) -> IntArray:
        """Every answer is one token."""
        return np.ones(prompt_R.size, dtype=np.int64)

    def score_sum(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray, weight_R: FloatArray
    ) -> FloatArray:
        """``sum_r weight_r (answer_r - p_r) a_r``."""
        residual = answer_R - self.success_rate(theta_D, prompt_R)
        return (weight_R * residual) @ self.loading_N_D[prompt_R]

    def local_score(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray
    ) -> FloatMatrix:
        """``(answer - p) |a|``, shape (R, 1): all scores of a prompt lie on one line."""
        length = np.linalg.norm(self.loading_N_D[prompt_R], axis=1)
        return ((answer_R - self.success_rate(theta_D, prompt_R)) * length)[:, None]
