"""VIP: success rates predicted by a Gaussian process over prompt features; quotas of least variance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from cures.checks import (
    FloatArray,
    IntArray,
    InWords,
    as_array,
    as_float,
    as_float_array,
    as_int,
    fail,
)
from cures.quota import allocate, allocate_by_value
from cures.records import Plan, Selection
from cures.schedulers.driver.checkpoint import SchedulerState, fingerprint
from cures.schedulers.driver.randomness import Stream, derived_generator
from cures.schedulers.uniform import Uniform
from cures.storage import State, StateValue

NEGLIGIBLE = 1e-10  # eigenvalues below this share of the largest are rounding


def sq_distances(x_AD: FloatArray, y_BD: FloatArray) -> FloatArray:
    """Squared Euclidean distances between rows, shape (A, B), >= 0."""
    square_A, square_B = (x_AD**2).sum(axis=1), (y_BD**2).sum(axis=1)
    square_AB = square_A[:, None] + square_B[None, :] - 2.0 * (x_AD @ y_BD.T)
    return np.asarray(np.maximum(square_AB, 0.0))


def median_bandwidth(x_AD: FloatArray) -> float:
    """Median of the distances between different rows; 1 if no two rows differ."""
    above = np.triu_indices(len(x_AD), 1)
    distance = np.sqrt(sq_distances(x_AD, x_AD)[above])
    apart = distance[distance > 1e-7 * max(float(np.abs(x_AD).max(initial=0.0)), 1e-300)]
    return float(np.median(apart)) if apart.size else 1.0


def split_by_variance(
    success_rate: FloatArray,
    budget: int,
    *,
    estimator: str,
    min_quota: int,
    max_quota: int | None,
) -> IntArray:
    r"""Quotas that make the sum of the prompts' gradient variances as small as whole numbers allow.

    With :math:`a = p (1-p)` the variance of a prompt with n rollouts is proportional to

    * ``dr_grpo``: :math:`a (n-1) / n^2`, convex for n >= 3 (and 0 at n = 1, where nothing is learned);
    * all others, as for RLOO: :math:`a / (n-1)`, so that :math:`n - 1 \propto \sqrt a` up to rounding.

    Parameters
    ----------
    success_rate : ndarray of float, shape (B,)
        p, in [0, 1].
    budget : int
        Sum of the quotas.
    estimator : str
        Whose variance.
    min_quota : int
        At least 3 for ``dr_grpo``, else at least 2.
    max_quota : int, optional

    Returns
    -------
    ndarray of int64, shape (B,)
    """
    variance = success_rate * (1.0 - success_rate)
    size = variance.size
    if estimator == "dr_grpo":

        def gain(n: IntArray) -> FloatArray:
            return np.asarray(variance * ((n - 1) / n**2 - n / (n + 1) ** 2))

        most = budget if max_quota is None else max_quota
        reach = min(4 * -(-budget // size), most)
        while True:  # a bound that nobody reaches changes nothing: the value is concave
            quota = allocate_by_value(
                gain, budget, min_quota=min_quota, max_quota=reach, num_groups=size
            )
            if reach == most or quota.max() < reach:
                return quota
            reach = min(2 * reach, most)
    highest = None if max_quota is None else max_quota - 1
    return 1 + allocate(
        np.sqrt(variance), budget - size, min_quota=min_quota - 1, max_quota=highest
    )


def solve_low_rank(phi_B_R: FloatArray, diagonal_B: FloatArray, y_B: FloatArray) -> FloatArray:
    """Solve ``(phi phi' + diag(diagonal)) x = y`` through the smaller of B x B and R x R."""
    size, rank = phi_B_R.shape
    if rank >= size:
        return np.asarray(np.linalg.solve(phi_B_R @ phi_B_R.T + np.diag(diagonal_B), y_B))
    scaled_B_R = phi_B_R / diagonal_B[:, None]  # Woodbury
    small = np.eye(rank) + phi_B_R.T @ scaled_B_R
    return np.asarray(y_B / diagonal_B - scaled_B_R @ np.linalg.solve(small, scaled_B_R.T @ y_B))


class PromptProcess:
    r"""Prior mean and covariance of the latent values of N prompts, in factors.

    The covariance of prompts i and j is :math:`\phi_i \cdot \phi_j + \delta_i [i = j]` with
    :math:`\phi = k(x, Z) K_{ZZ}^{-1/2}` for R landmarks Z among the prompts, k the Gaussian kernel
    :math:`\exp(-|x - z|^2 / 2 h^2)`, and :math:`\delta = 1 - |\phi|^2`, which restores the variance 1.
    With R = N this is the exact kernel, without features the identity.

    Parameters
    ----------
    features_N_D : ndarray, shape (N, D), or None
    bandwidth : float or None
        h; None is the median distance between landmarks.
    rank : int
        R, at most N.
    seed : int
        Landmarks are drawn uniformly.
    """

    def __init__(
        self, features_N_D: NDArray[Any] | None, bandwidth: float | None, rank: int, seed: int
    ) -> None:
        self._features_N_D = features_N_D
        self.bandwidth = 1.0 if bandwidth is None else bandwidth
        self.rank = 0
        if features_N_D is None:
            return
        num_prompts = len(features_N_D)
        generator = derived_generator(seed, 0, Stream.LANDMARK)
        chosen = np.sort(generator.choice(num_prompts, min(rank, num_prompts), replace=False))
        self._landmark_R_D = features_N_D[chosen].astype(np.float64)
        if bandwidth is None:
            self.bandwidth = median_bandwidth(self._landmark_R_D)
        value, vector = np.linalg.eigh(self._kernel(self._landmark_R_D))
        is_real = value > NEGLIGIBLE * value[-1]
        self._whitening = vector[:, is_real] / np.sqrt(value[is_real])
        self.rank = int(np.count_nonzero(is_real))

    def _kernel(self, x_B_D: FloatArray) -> FloatArray:
        scaled = sq_distances(x_B_D, self._landmark_R_D) / (2.0 * self.bandwidth**2)
        return np.asarray(np.exp(-scaled))

    def factors(self, prompt_B: IntArray) -> tuple[FloatArray, FloatArray]:
        """phi, shape (B, R), and delta >= 0, shape (B,), of these prompts."""
        if self._features_N_D is None:
            return np.zeros((prompt_B.size, 0)), np.ones(prompt_B.size)
        x_B_D = self._features_N_D[prompt_B].astype(np.float64)
        phi_B_R = self._kernel(x_B_D) @ self._whitening
        return phi_B_R, np.maximum(1.0 - (phi_B_R**2).sum(axis=1), 0.0)


class Vip(Uniform):
    r"""Shuffled passes; the budget is split by success rates predicted before the batch is rolled out.

    The success rate of a prompt is :math:`p = 1 / (1 + e^{-g})`, g a Gaussian process over the prompts'
    features with mean :math:`m_t` (:math:`m_0 = 0`) and the Gaussian kernel k. After each plan, with the
    groups' mean rewards :math:`\bar r` clipped to [``clip``, 1 - ``clip``] and :math:`y = \log (\bar r /
    (1 - \bar r))`, the posterior mean becomes the next prior mean:

    .. math:: m_{t+1}(x) = m_t(x) + k(x, B)\,(K_{BB} + s^2 I)^{-1}\,(y - m_t(B)).

    Prompts that were never visited learn from those near them. Quotas: :func:`split_by_variance`.

    Expected cost of an update: exactly ``budget`` rollouts.

    Parameters
    ----------
    num_prompts, batch_size, budget, seed, max_quota, estimator
        See :class:`~cures.schedulers.driver.Scheduler`; ``batch_size <= num_prompts``.
    min_quota : int, optional
        L; default and least 3 for ``estimator="dr_grpo"`` (see :func:`split_by_variance`), else 2.
    features_N_D : array_like of float, shape (N, D), optional
        One row per prompt, e.g. a sentence embedding (384 numbers as published); private copy.
        Default: prompts share nothing (k is 1 for a prompt with itself, else 0).
    bandwidth : float, optional
        h of the kernel, > 0; default the median distance, as published.
    clip : float
        In [1e-12, 1/2].
    noise : float
        :math:`s^2`, variance of an observed y, >= 1e-8.
    rank : int
        Landmarks R, at least 1; the process is exact up to a pool of R.

    Notes
    -----
    The public repository holds no code; facts are from summaries of the paper. Not given there and
    chosen here: ``clip`` .01, ``noise`` .1, kernel variance 1, :math:`m_0 = 0`, L, and no upper bound U.

    Deviations: (a) beyond ``rank`` prompts the kernel is of low rank: landmarks (Nystrom) with the
    lost variance given back to each prompt on its own (as in FITC), the median over landmarks; a step
    then costs O(B R (D + R + min(B, R))), whatever N. (b) The paper treats Dr.GRPO and RLOO; the other
    estimators get the quotas of RLOO. (c) The paper's bisection with greedy rounding is replaced by
    the exact optimum over whole numbers. (d) Groups of which nothing came back are left out of y.
    (e) Streamed quotas are proportional to sqrt(p (1-p)), and each streamed prompt is an update of m.

    References
    ----------
    .. [1] Nguyen et al., "Adaptive Rollout Allocation for Online Reinforcement Learning with
       Verifiable Rewards", arXiv 2602.01601.
    .. [2] Snelson and Ghahramani, "Sparse Gaussian Processes using Pseudo-inputs", NIPS 2005.
    """

    name = "vip"

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        min_quota: int | None = None,
        estimator: str = "grpo",
        features_N_D: ArrayLike | None = None,
        bandwidth: float | None = None,
        clip: float = 0.01,
        noise: float = 0.1,
        rank: int = 512,
        **common: Any,
    ) -> None:
        fewest = 3 if estimator == "dr_grpo" else 2
        if min_quota is None:
            min_quota = fewest
        super().__init__(
            num_prompts,
            batch_size,
            budget,
            seed,
            min_quota=as_int(self.name, "min_quota", min_quota, fewest),
            estimator=estimator,
            **common,
        )
        self.clip = as_float(self.name, "clip", clip, 1e-12, 0.5)
        self.noise = as_float(self.name, "noise", noise, 1e-8)
        self.rank = as_int(self.name, "rank", rank, 1)
        if bandwidth is not None:
            bandwidth = as_float(self.name, "bandwidth", bandwidth, 0.0, open_low=True)
        self._bandwidth = str(bandwidth)
        features = None if features_N_D is None else self._as_features(features_N_D)
        self._features_digest = "none" if features is None else fingerprint(features)
        self._process = PromptProcess(features, bandwidth, self.rank, self.seed)
        self._weight_R = np.zeros(self._process.rank)  # what prompts share
        self._own_N = np.zeros(self.num_prompts)  # what is each prompt's own

    def _as_features(self, features_N_D: ArrayLike) -> NDArray[Any]:
        legal = f"real numbers up to 1e100 of shape ({self.num_prompts}, D), D >= 1"
        given = as_array(self.name, "features_N_D", features_N_D, legal)
        if given.dtype.kind not in "iuf" or given.ndim != 2 or len(given) != self.num_prompts:
            fail(
                self.name,
                "features_N_D",
                legal,
                InWords(f"dtype {given.dtype}, shape {given.shape}"),
            )
        # an embedding in float32 stays in it: the copy of a large pool is the largest array here
        copy = given.astype(np.float32 if given.dtype == np.float32 else np.float64)
        is_legal = np.abs(copy) <= 1e100  # their squares are finite; NaN is not
        if copy.shape[1] == 0 or not is_legal.all():
            shown = copy[~is_legal][0].item() if copy.size else InWords(f"shape {given.shape}")
            fail(self.name, "features_N_D", legal, shown)
        return copy

    def success_rate(self, prompt: IntArray) -> FloatArray:
        """Predicted success rate of these prompts, in [0, 1]."""
        phi_B_R, _ = self._process.factors(prompt)
        return np.asarray(expit(phi_B_R @ self._weight_R + self._own_N[prompt]))

    def _condition(self, prompt: IntArray, success: IntArray, trial: IntArray) -> None:
        """Move the mean to the posterior mean given the groups' mean rewards."""
        phi_B_R, delta_B = self._process.factors(prompt)
        y_B = logit(np.clip(success / trial, self.clip, 1.0 - self.clip))
        residual_B = y_B - phi_B_R @ self._weight_R - self._own_N[prompt]
        gain_B = solve_low_rank(phi_B_R, delta_B + self.noise, residual_B)
        self._weight_R = self._weight_R + phi_B_R.T @ gain_B
        self._own_N[prompt] += delta_B * gain_B

    def _quotas(self, prompt_B: IntArray) -> IntArray:
        return split_by_variance(
            self.success_rate(prompt_B),
            self.budget,
            estimator=self.estimator,
            min_quota=self.min_quota,
            max_quota=self.max_quota,
        )

    def _sigma(self, prompt_B: IntArray, generator: np.random.Generator) -> float:
        rate = float(self.success_rate(prompt_B)[0])
        return float(np.sqrt(rate * (1.0 - rate)))

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        rows = self.live.rows(plan.group_B)
        is_back = self.live.trial[rows] > 0
        if is_back.any():  # once per plan, not in the parts in which it was reported
            rows = rows[is_back]
            self._condition(plan.prompt_B[is_back], self.live.success[rows], self.live.trial[rows])
        return super()._closed(plan, is_streamed)

    def _extended(self, count: int) -> None:
        super()._extended(count)
        if self._features_digest != "none":
            legal = "None in a pool that grows: it has no rows for new prompts"
            fail(f"{self.name}.extend", "features_N_D", legal, self._features_digest)
        self._own_N = np.concatenate([self._own_N, np.zeros(count)])

    def _config(self) -> dict[str, StateValue]:
        return {
            "features_N_D": self._features_digest,
            "bandwidth": self._bandwidth,
            "clip": self.clip,
            "noise": self.noise,
            "rank": self.rank,
        }

    def _rule_state(self) -> State:
        return {
            **super()._rule_state(),
            "weight_R": self._weight_R.copy(),
            "own_N": self._own_N.copy(),
        }

    def _load_rule_state(self, state: SchedulerState) -> None:
        super()._load_rule_state(state)
        where, size = "load_state_dict", self._process.rank
        weight_R, own_N = state.floats("weight_R"), state.floats("own_N")
        self._weight_R = as_float_array(where, "weight_R", weight_R, length=size)
        self._own_N = as_float_array(where, "own_N", own_N, length=self.num_prompts)
