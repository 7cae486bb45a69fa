"""Chain-of-skills policy: a prompt is a sequence of steps, each on one shared skill.

Step j of prompt i is passed with probability :math:`q_{ij} = \\sigma(\\theta_{k(i,j)} - b_i)`,
independently; the rollout stops at the first failed step and is right iff it passes all, so
:math:`p_i = \\prod_j q_{ij}`. A rollout is the number of steps it passed; its length in tokens is
the number of steps it tried. Training a prompt helps every prompt, held-out ones too, that uses its
skills, and a prompt with one hopeless step teaches only the steps before it, as in long reasoning.

Parameters need not be aligned with skills: with a rotation, skill strengths are ``rotation @
theta``. Nothing changes for plain gradient ascent; but an optimiser that scales every parameter by
itself, as Adam does, then spreads the noise of every skill over all of them, as in a network, and
a learning rate can be too large.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, log_expit

from cures.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    InWords,
    as_float_array,
    as_int,
    as_int_array,
    fail,
)
from sim.policy import FloatMatrix, IntMatrix


@dataclass(frozen=True, slots=True, eq=False)
class Skills:
    """Products of shared skills.

    Attributes
    ----------
    chain_N_L : ndarray of int64, shape (N, L)
        Skill of each step; a skill may come twice. Entries past a prompt's length are ignored.
    length_N : ndarray of int64, shape (N,)
        Steps of each prompt, in [1, L].
    num_skills : int
    threshold_N : ndarray of float64, shape (N,)
        b_i, subtracted from every skill of the prompt: how demanding its steps are.
    rotation_K_K : ndarray of float64, shape (num_skills, num_skills), optional
        Orthogonal; ``None``: parameters are the skills themselves.
    """

    chain_N_L: IntMatrix
    length_N: IntArray
    num_skills: int
    threshold_N: FloatArray
    rotation_K_K: FloatMatrix | None = None
    _is_step_N_L: BoolArray = field(init=False, repr=False)
    _first_N_L: IntMatrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        where, set_ = "Skills", object.__setattr__
        as_int(where, "num_skills", self.num_skills, 1)
        chain = np.asarray(self.chain_N_L)
        if chain.ndim != 2 or chain.dtype.kind not in "iu" or chain.shape[1] < 1:
            fail(
                where,
                "chain_N_L",
                "int, of shape (N, L >= 1)",
                InWords(f"{chain.dtype} {chain.shape}"),
            )
        size, width = chain.shape
        length = as_int_array(where, "length_N", self.length_N, length=size, low=1, high=width)
        is_step = np.arange(width) < length[:, None]
        chain = np.where(is_step, chain, 0).astype(np.int64)
        if chain.size and (chain.min() < 0 or chain.max() >= self.num_skills):
            fail(
                where,
                "chain_N_L",
                f"in [0, {self.num_skills - 1}]",
                [int(chain.min()), int(chain.max())],
            )
        set_(self, "chain_N_L", chain)
        set_(self, "length_N", length)
        threshold = as_float_array(where, "threshold_N", self.threshold_N, length=size)
        set_(self, "threshold_N", threshold)
        set_(self, "_is_step_N_L", is_step)
        if self.rotation_K_K is not None:
            _check_orthogonal(self.rotation_K_K, self.num_skills)
        # steps that use one skill share its coordinate: the first step that does
        same = chain[:, :, None] == chain[:, None, :]
        set_(self, "_first_N_L", np.argmax(same & is_step[:, None, :], axis=2))

    @property
    def num_prompts(self) -> int:
        """Pool and held-out prompts together."""
        return int(self.chain_N_L.shape[0])

    @property
    def num_parameters(self) -> int:
        """One per skill."""
        return self.num_skills

    def _logit(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatMatrix:
        skill = theta_D if self.rotation_K_K is None else self.rotation_K_K @ theta_D
        return skill[self.chain_N_L[prompt_B]] - self.threshold_N[prompt_B][:, None]

    def success_rate(self, theta_D: FloatArray, prompt_B: IntArray) -> FloatArray:
        """Product of the pass probabilities, summed in logarithms."""
        log_pass = log_expit(self._logit(theta_D, prompt_B))
        return np.asarray(np.exp((log_pass * self._is_step_N_L[prompt_B]).sum(axis=1)))

    def success_gradient(
        self, theta_D: FloatArray, prompt_B: IntArray, weight_B: FloatArray
    ) -> FloatArray:
        """``sum_b weight_b p_b (1 - q_bj)`` on the skill of every step j."""
        fail_B_L = expit(-self._logit(theta_D, prompt_B)) * self._is_step_N_L[prompt_B]
        weight = (weight_B * self.success_rate(theta_D, prompt_B))[:, None] * fail_B_L
        return self._scatter(prompt_B, weight)

    def generate(
        self, theta_D: FloatArray, prompt_R: IntArray, generator: np.random.Generator
    ) -> IntArray:
        """Steps passed before the first failure; the chain's length where there is none."""
        pass_R_L = expit(self._logit(theta_D, prompt_R))
        is_failed = (generator.random(pass_R_L.shape) >= pass_R_L) & self._is_step_N_L[prompt_R]
        first = np.argmax(is_failed, axis=1)
        return np.where(is_failed.any(axis=1), first, self.length_N[prompt_R])

    def is_right(self, prompt_R: IntArray, answer_R: IntArray) -> BoolArray:
        """Right iff every step was passed."""
        return np.asarray(answer_R == self.length_N[prompt_R])

    def num_tokens(self, prompt_R: IntArray, answer_R: IntArray) -> IntArray:
        """Steps tried."""
        return np.minimum(answer_R + 1, self.length_N[prompt_R])

    def score_sum(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray, weight_R: FloatArray
    ) -> FloatArray:
        """Sum of weighted scores on the skills."""
        score = self._step_score(theta_D, prompt_R, answer_R)
        return self._scatter(prompt_R, weight_R[:, None] * score)

    def local_score(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray
    ) -> FloatMatrix:
        """Score on each distinct skill of the chain, at its first step, shape (R, L)."""
        score = self._step_score(theta_D, prompt_R, answer_R)
        local = np.zeros_like(score)
        np.add.at(local, (np.arange(prompt_R.size)[:, None], self._first_N_L[prompt_R]), score)
        return local

    def _step_score(
        self, theta_D: FloatArray, prompt_R: IntArray, answer_R: IntArray
    ) -> FloatMatrix:
        """1 - q on a passed step, -q on the failed one, 0 on steps never tried."""
        q = expit(self._logit(theta_D, prompt_R))
        step = np.arange(q.shape[1])
        is_passed = step < answer_R[:, None]
        is_tried = step < self.num_tokens(prompt_R, answer_R)[:, None]
        return np.asarray((is_passed - q) * is_tried)

    def _scatter(self, prompt_B: IntArray, step_B_L: FloatMatrix) -> FloatArray:
        chain = self.chain_N_L[prompt_B]
        total = np.bincount(chain.ravel(), weights=step_B_L.ravel(), minlength=self.num_skills)
        skill = np.asarray(total, dtype=np.float64)
        return skill if self.rotation_K_K is None else skill @ self.rotation_K_K


def _check_orthogonal(rotation: FloatMatrix, size: int) -> None:
    if rotation.shape != (size, size):
        fail(
            "Skills",
            "rotation_K_K",
            f"of shape ({size}, {size})",
            InWords(f"shape {rotation.shape}"),
        )
    error = np.abs(rotation @ rotation.T - np.eye(size)).max()
    if not error < 1e-9:  # local_score relies on it: inner products of scores must not change
        fail("Skills", "rotation_K_K", "orthogonal to 1e-9", InWords(f"off by {error:.3g}"))


def threshold_for_success_rate(
    skill_K: FloatArray, chain_N_L: IntMatrix, length_N: IntArray, success_rate_N: FloatArray
) -> FloatArray:
    """Thresholds b at which each chain has the wanted success rate, by bisection.

    Parameters
    ----------
    skill_K : ndarray of float64, shape (num_skills,)
        Strength of each skill.
    chain_N_L, length_N : ndarray of int64
        As in :class:`Skills`.
    success_rate_N : ndarray of float64, shape (N,)
        In (0, 1).
    """
    skill = skill_K[chain_N_L]
    is_step = np.arange(chain_N_L.shape[1]) < length_N[:, None]
    low = np.full(length_N.size, float(skill.min()) - 50.0)  # success rate 1 to rounding
    high = np.full(length_N.size, float(skill.max()) + 50.0)  # success rate below e^-50
    for _ in range(80):  # 100 / 2^80 is far below the spacing of floats
        middle = 0.5 * (low + high)
        log_rate = (log_expit(skill - middle[:, None]) * is_step).sum(axis=1)
        is_too_easy = log_rate > np.log(success_rate_N)
        low, high = np.where(is_too_easy, middle, low), np.where(is_too_easy, high, middle)
    return np.asarray(0.5 * (low + high))
