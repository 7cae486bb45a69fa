r"""Marginal likelihood of a training log: logits that learn and drift, seen through few rollouts.

The logit of prompt i moves from visit to visit by

.. math:: x_v = x_{v-1} + \sum_{k} a_k\, D_{vk} + b\, d_{v-1} + \varepsilon_v,\qquad
          \varepsilon_v \sim N(0, \sigma^2 \Delta_v),

with :math:`D_{vk}` the dose given to all prompts in between (in segment k of the log),
:math:`d_{v-1}` the dose that the prompt's own visit gave, and :math:`\Delta_v` the updates in
between; what is seen is :math:`\mathrm{Bin}(t_v, \mathrm{expit}\, x_v)`. The initial law is the
exponential of a spline. Everything unseen is summed out on a grid of logits. Shift and blur are a
product in Fourier space, exact for any size of either, and one backward pass gives every prompt's
score. Additional axis suffixes: ``_X`` points of the grid, ``_J`` parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, rfft
from scipy.interpolate import BSpline
from scipy.special import gammaln, log_expit, softmax

from cures.checks import FloatArray, IntArray
from sim.calibration.visits import Visits

INITIAL_REACH, GRID_REACH = 8.0, 16.0  # logits: of the initial law, and of the periodic grid
SPLINE_SIZE, ROUGHNESS = 9, 0.05
# Logits, of b per unit of dose and of the shared gain in a segment: far above any, so that it only
# speaks where the log is silent.
GAIN_SD = 5.0
# Prompts at a time, and at most so many rounds x points of the grid x prompts: bounds memory, half a GB.
CHUNK, CHUNK_NUMBERS = 512, 2**25
SMALLEST = 1e-300
OWN, SHARED = 1, 2  # positions in a parameter vector; the variance is at 0


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Penalised log-likelihood at one parameter vector.

    Attributes
    ----------
    value : float
    slope_J : ndarray of float64
        Gradient.
    information_J_J : ndarray of float64
        Number of prompts times the covariance of their scores, and the penalty's curvature: the
        expected curvature, from first derivatives alone.
    """

    value: float
    slope_J: FloatArray
    information_J_J: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class StateSpace:
    """The model of one log; see :func:`state_space`.

    Attributes
    ----------
    visits : Visits
    logit_X : ndarray of float64
        Grid.
    basis_X_J : ndarray of float64
        Splines of the logarithm of the initial law.
    seen_X : ndarray of float64, shape (kinds, X)
        Chance of each distinct (success, trial) at every logit.
    kind : tuple of ndarray of int64
        Per round, the row of ``seen_X`` of each visit.
    """

    visits: Visits
    logit_X: FloatArray
    basis_X_J: FloatArray
    seen_X: FloatArray
    kind: tuple[IntArray, ...]

    @property
    def segments(self) -> int:
        """Number of a_k."""
        return int(self.visits.rounds[0].shared.shape[1])

    @property
    def first_spline(self) -> int:
        """Position of the first spline coefficient."""
        return SHARED + self.segments

    @property
    def num_parameters(self) -> int:
        """:math:`\\sigma^2`, b, a_1 ... a_k, spline coefficients."""
        return self.first_spline + int(self.basis_X_J.shape[1])

    @property
    def chunk(self) -> int:
        """Prompts that are worked on at a time."""
        per_prompt = len(self.visits.rounds) * self.logit_X.size
        return max(1, min(CHUNK, CHUNK_NUMBERS // per_prompt))

    # a wild step of the search overflows; its value is not finite then, and it is not taken
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def evaluate(self, parameter_J: FloatArray) -> Evaluation:
        """Log-likelihood, minus small penalties on gains and on the spline's second differences.

        They only settle what the log leaves open.
        """
        spline = parameter_J[self.first_spline :]
        is_initial_X = np.abs(self.logit_X) <= INITIAL_REACH
        initial_X = softmax(np.where(is_initial_X, self.basis_X_J @ spline, -np.inf))
        # second differences; the first coefficient is 0 and no parameter
        bend = np.diff(np.eye(spline.size + 1)[:, 1:], 2, axis=0)
        curvature = np.zeros((self.num_parameters, self.num_parameters))
        curvature[self.first_spline :, self.first_spline :] = ROUGHNESS * bend.T @ bend
        curvature[OWN, OWN] = 1.0 / GAIN_SD**2
        segment = np.arange(SHARED, self.first_spline)
        curvature[segment, segment] = (self.visits.dose_W / GAIN_SD) ** 2
        prompts, value, score = self.kind[0].size, 0.0, []
        for start in range(0, prompts, self.chunk):
            log_likelihood, score_P_J = self._chunk(start, parameter_J, initial_X)
            value += log_likelihood
            score.append(score_P_J)
        score_P_J = np.concatenate(score)
        slope_J = score_P_J.sum(axis=0)
        centred_P_J = score_P_J - slope_J / prompts
        return Evaluation(
            value - 0.5 * float(parameter_J @ curvature @ parameter_J),
            slope_J - curvature @ parameter_J,
            centred_P_J.T @ centred_P_J + curvature,
        )

    def _chunk(
        self, start: int, parameter_J: FloatArray, initial_X: FloatArray
    ) -> tuple[float, FloatArray]:
        """Log-likelihood of :attr:`chunk` prompts, and the score of each."""
        stop = start + self.chunk
        cut = [(r.first(start, stop), kind[start:stop])
               for r, kind in zip(self.visits.rounds, self.kind, strict=True)]  # fmt: skip
        cut = [(r, kind) for r, kind in cut if kind.size]
        size = self.logit_X.size
        frequency = 2.0 * np.pi * np.fft.rfftfreq(size, self.logit_X[1] - self.logit_X[0])
        by_shift, by_variance = -1j * frequency, -0.5 * frequency**2
        shared = parameter_J[SHARED : self.first_spline]
        belief = np.tile(initial_X, (cut[0][1].size, 1))
        trail, value = [], 0.0
        for r, kind in cut:
            shift = r.shared @ shared + parameter_J[OWN] * r.own
            move = np.exp(
                by_shift * shift[:, None] + by_variance * (parameter_J[0] * r.updates)[:, None]
            )
            moved = rfft(belief[: kind.size]) * move
            joint = irfft(moved, size) * self.seen_X[kind]
            # the tails of a spectral shift may be negative by rounding, their sum hardly ever
            norm = np.maximum(joint.sum(axis=1, keepdims=True), SMALLEST)
            belief = joint / norm
            trail.append((r, kind, move, moved, norm))
            value += float(np.log(norm).sum())

        score = np.zeros((cut[0][1].size, parameter_J.size))
        later = np.zeros((0, size))
        for r, kind, move, moved, norm in reversed(trail):
            rest = np.ones((kind.size - len(later), size))  # their last visit is this one
            adjoint = self.seen_X[kind] * np.concatenate([later, rest]) / norm
            per_shift = (adjoint * irfft(by_shift * moved, size)).sum(axis=1)
            per_variance = (adjoint * irfft(by_variance * moved, size)).sum(axis=1)
            score[: kind.size, 0] += per_variance * r.updates
            score[: kind.size, OWN] += per_shift * r.own
            score[: kind.size, SHARED : self.first_spline] += per_shift[:, None] * r.shared
            later = irfft(rfft(adjoint) * move.conj(), size)
        score[:, self.first_spline :] = (initial_X * (later - 1.0)) @ self.basis_X_J
        return value, score


def state_space(visits: Visits) -> StateSpace:
    """The model of a log, on a grid fine enough for what is known of its best known prompt.

    Notes
    -----
    After t trials a logit is known to no better than ``2 / sqrt(t)``. With 1.6 points on that, what a
    Gaussian has beyond the grid's highest frequency is below one part in 10^3.
    """
    most = sum(int(r.trial.max()) for r in visits.rounds)
    step = min(0.25, 1.25 / np.sqrt(most))
    size = 2 ** int(np.ceil(np.log2(2.0 * GRID_REACH / step)))
    logit = np.linspace(-GRID_REACH, GRID_REACH, size, endpoint=False)
    degree = 3
    knots = np.linspace(-INITIAL_REACH, INITIAL_REACH, SPLINE_SIZE - 2)
    knots = np.concatenate([np.full(degree, knots[0]), knots, np.full(degree, knots[-1])])
    inside = np.clip(logit, -INITIAL_REACH, INITIAL_REACH)
    # one column less: the splines sum to 1, and a constant changes no law
    basis = BSpline.design_matrix(inside, knots, degree).toarray()[:, 1:]
    kinds, row = np.unique(
        np.concatenate([np.stack([r.success, r.trial]) for r in visits.rounds], axis=1),
        axis=1,
        return_inverse=True,
    )
    edges = np.cumsum([len(r.trial) for r in visits.rounds])[:-1]
    success, trial = kinds[:, :, None]
    choices = gammaln(trial + 1) - gammaln(success + 1) - gammaln(trial - success + 1)
    seen = np.exp(choices + success * log_expit(logit) + (trial - success) * log_expit(-logit))
    return StateSpace(visits, logit, basis, seen, tuple(np.split(row, edges)))
