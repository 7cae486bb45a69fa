"""Item response policy: one ability vector, every prompt loads on it: the simplest transfer.

Prompt i is answered right with probability :math:`p_i = \\sigma(a_i \\cdot \\theta - b_i)`; the
answer is 1 (right) or 0. The score of a rollout is :math:`(r - p_i)\\, a_i`, so training a prompt
moves every prompt whose loading has a component along :math:`a_i`. Cost follows the prompts
touched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from cures.checks import BoolArray, FloatArray, IntArray, InWords, as_float_array, fail
from sim.policy import FloatMatrix

# Loadings (as numbers) of a plan that are kept for its update; larger plans are a large pool's pilots.
MOST_KEPT = 2**22


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

    Notes
    -----
    What :meth:`generate` looks up is kept, because the scores of the same rollouts under the same
    parameters are asked for next; it changes no result.
    """

    loading_N_D: FloatMatrix
    threshold_N: FloatArray
    _last: _Rollouts | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        loading = np.array(self.loading_N_D, dtype=np.float64)
        if loading.ndim != 2 or not np.isfinite(loading).all():
            fail(
                "ItemResponse",
                "loading_N_D",
                "finite, of shape (N, D)",
                InWords(f"shape {loading.shape}"),
            )
        object.__setattr__(self, "loading_N_D", loading)
        threshold = as_float_array(
            "ItemResponse", "threshold_N", self.threshold_N, length=loading.shape[0]
        )
        object.__setattr__(self, "threshold_N", threshold)

    @property
    def num_prompts(self) -> int:
        """Pool and held-out prompts together."""
        return int(self.loading_N_D.shape[0])

    @property
    def num_parameters(self) -> int:
        """Dimensions of the ability."""
        return int(self.loading_N_D.shape[1])

    def success_rate(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatArray:
        """Logistic function of ``a_i . theta - b_i``."""
        return self._rows(prompt_B).success_rate(theta_D)

    def success_gradient(
        self, theta_D: FloatArray, prompt_B: IntArray, weight_B: FloatArray
    ) -> FloatArray:
        """``sum_b weight_b p_b (1 - p_b) a_b``."""
        rows = self._rows(prompt_B)
        p = rows.success_rate(theta_D)
        return (weight_B * p * (1.0 - p)) @ rows.loading_B_D

    def generate(
        self, theta_D: FloatArray, prompt_R: IntArray, generator: np.random.Generator
    ) -> IntArray:
        """1 with probability p, else 0."""
        object.__setattr__(self, "_last", None)  # before another plan's loadings are in memory
        rollouts = self._look_up(theta_D, prompt_R)
        is_small = rollouts.loading_R_D.size <= MOST_KEPT
        object.__setattr__(self, "_last", rollouts if is_small else None)
        return (generator.random(prompt_R.size) < rollouts.success_rate_R).astype(np.int64)

    def is_right(self, prompt_R: IntArray, answer_R: IntArray) -> BoolArray:
        """Answer 1 is right."""
        return np.asarray(answer_R == 1)

    def num_tokens(self, prompt_R: IntArray, answer_R: IntArray) -> IntArray:
        """Every answer is one token."""
        return np.ones(prompt_R.size, dtype=np.int64)

    def score_sum(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray, weight_R: FloatArray
    ) -> FloatArray:
        """``sum_r weight_r (answer_r - p_r) a_r``."""
        rollouts = self._of_rollouts(theta_D, prompt_R)
        residual = answer_R - rollouts.success_rate_R
        return np.asarray((weight_R * residual) @ rollouts.loading_R_D)

    def local_score(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray
    ) -> FloatMatrix:
        """``(answer - p) |a|``, shape (R, 1): all scores of a prompt lie on one line."""
        rollouts = self._of_rollouts(theta_D, prompt_R)
        length = np.linalg.norm(rollouts.loading_R_D, axis=1)
        return np.asarray(((answer_R - rollouts.success_rate_R) * length)[:, None])

    def _of_rollouts(self, theta_D: FloatArray, prompt_R: IntArray) -> _Rollouts:
        """What :meth:`generate` has just looked up, where the scores asked for are of these rollouts."""
        last = self._last
        if last is not None and last.is_of(theta_D, prompt_R, self.threshold_N):
            return last
        return self._look_up(theta_D, prompt_R)

    def _look_up(self, theta_D: FloatArray, prompt_R: IntArray) -> _Rollouts:
        rows = self._rows(prompt_R)
        p = rows.success_rate(theta_D)
        return _Rollouts(theta_D.copy(), prompt_R.copy(), self.threshold_N, rows.loading_B_D, p)

    def _rows(self, prompt_B: IntArray) -> _Rows:
        """Loadings and thresholds of these prompts, one row per entry.

        Rows of a large pool are far from every cache. Consecutive ids (the whole pool, the held-out
        set) are a view; a prompt whose rollouts follow each other is fetched once.
        """
        if prompt_B.size > 1 and prompt_B[-1] - prompt_B[0] == prompt_B.size - 1:
            start = int(prompt_B[0])
            if start >= 0 and (np.diff(prompt_B) == 1).all():
                pool = slice(start, start + prompt_B.size)
                return _Rows(self.loading_N_D[pool], self.threshold_N[pool])
        change = np.flatnonzero(prompt_B[1:] != prompt_B[:-1]) + 1
        if 2 * change.size >= prompt_B.size:
            return _Rows(self.loading_N_D.take(prompt_B, axis=0), self.threshold_N.take(prompt_B))
        first = np.concatenate([[0], change])
        once = prompt_B[first]
        times = np.diff(first, append=prompt_B.size)
        return _Rows(
            np.repeat(self.loading_N_D.take(once, axis=0), times, axis=0),
            np.repeat(self.threshold_N.take(once), times),
        )


class _Rows(NamedTuple):
    """What the policy knows of some prompts."""

    loading_B_D: FloatMatrix
    threshold_B: FloatArray

    def success_rate(self, theta_D: FloatArray) -> FloatArray:
        """Logistic function of ``a . theta - b``."""
        return np.asarray(expit(self.loading_B_D @ theta_D - self.threshold_B))


class _Rollouts(NamedTuple):
    """Loadings and success rates by rollout, and what they were asked with: a drift moves thresholds."""

    theta_D: FloatArray
    prompt_R: IntArray
    threshold_N: FloatArray
    loading_R_D: FloatMatrix
    success_rate_R: FloatArray

    def is_of(self, theta_D: FloatArray, prompt_R: IntArray, threshold_N: FloatArray) -> bool:
        """Whether looking up anew would give the same."""
        return (
            self.threshold_N is threshold_N
            and np.array_equal(self.theta_D, theta_D)
            and np.array_equal(self.prompt_R, prompt_R)
        )
