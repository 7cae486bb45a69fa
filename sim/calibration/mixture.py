r"""The population of success rates that fits counts best: a mixture of binomials, by maximum likelihood.

Prompt i has a success rate :math:`p_i \sim G` and shows :math:`s_i \sim \mathrm{Bin}(t_i, p_i)`. The
log-likelihood :math:`\sum_i \log \int \mathrm{Bin}(s_i; t_i, p)\, dG(p)` is concave in G. On a grid it
is maximised exactly, with a certificate: by concavity no population on the grid is better than the
one returned by more than :math:`\max_k D_k`, the largest directional derivative towards a point mass.

Different numbers of trials per prompt are allowed if they do not depend on the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import binom

from cures.checks import FloatArray, IntArray, InWords, fail

SHARE_LIMITS = (0.05, 0.95)  # always points of the grid: shares beyond them are reported
GRID_INTERVALS = 400
MAX_GAP = 1e-6  # nats: no test can see it
MAX_ITERATIONS = 500


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """How many prompts show each pair of successes and trials.

    Attributes
    ----------
    success_C, trial_C : ndarray of int64, shape (C,)
        Distinct pairs, sorted by trials, then successes.
    prompts_C : ndarray of int64, shape (C,)
        Prompts with that pair, >= 1.
    """

    success_C: IntArray
    trial_C: IntArray
    prompts_C: IntArray

    @classmethod
    def of(cls, success: IntArray, trial: IntArray) -> Counts:
        """Tabulate prompts, one entry each.

        Examples
        --------
        >>> counts = Counts.of(np.array([1, 0, 1]), np.array([2, 2, 2]))
        >>> counts.success_C.tolist(), counts.prompts_C.tolist()
        ([0, 1], [1, 2])
        """
        pair, number = np.unique(np.stack([trial, success]), axis=1, return_counts=True)
        return cls(pair[1], pair[0], number.astype(np.int64))

    @property
    def prompts(self) -> int:
        """All prompts."""
        return int(self.prompts_C.sum())

    def likelihood(self, rate_K: FloatArray) -> FloatArray:
        """Chance of every cell at every rate, shape (C, K)."""
        return np.asarray(binom.pmf(self.success_C[:, None], self.trial_C[:, None], rate_K))


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A population on a grid.

    Attributes
    ----------
    rate_K, weight_K : ndarray of float64, shape (K,)
        Weights are >= 0 and sum to 1.
    log_likelihood : float
        Without the constant that depends on the counts alone.
    gap : float
        No population on this grid has a log-likelihood above ``log_likelihood + gap``.
    """

    rate_K: FloatArray
    weight_K: FloatArray
    log_likelihood: float
    gap: float


def rate_grid(intervals: int = GRID_INTERVALS) -> FloatArray:
    r"""Success rates at equal distances in :math:`\arcsin\sqrt p`, where binomials are equally sharp.

    0 and 1 included, and :data:`SHARE_LIMITS`.
    """
    angle = np.linspace(0.0, np.pi / 2.0, intervals + 1)
    rate = np.sin(angle) ** 2
    rate[-1] = 1.0
    return np.union1d(rate, SHARE_LIMITS)


def fit(counts: Counts, rate_K: FloatArray) -> Mixture:
    r"""Non-parametric maximum likelihood on a grid.

    Parameters
    ----------
    counts : Counts
    rate_K : ndarray of float64, shape (K,)
        Ascending, from 0 to 1.

    Returns
    -------
    Mixture
        With a gap of at most :data:`MAX_GAP`.

    Raises
    ------
    ValueError
        If there is no prompt.
    RuntimeError
        If the certificate is not reached.

    Notes
    -----
    Constrained Newton [1]_: the log-likelihood is replaced by its quadratic expansion, whose optimum
    over the weights is a non-negative least-squares problem; a step is shortened until it improves.
    The points are those with weight and the local maxima of the directional derivative. The bound
    on what is left to gain is Lindsay's [2]_.

    With t trials per prompt G enters through its first t moments only. The fitted chance of every
    count is unique, G itself is not: see :mod:`sim.calibration.compatible`.

    References
    ----------
    .. [1] Y. Wang, "On fast computation of the non-parametric maximum likelihood estimate of a mixing
       distribution", JRSS B 69(2), 2007.
    .. [2] B. Lindsay, "The geometry of mixture likelihoods", Annals of Statistics 11(1), 1983.
    """
    if counts.prompts == 0:
        fail("mixture.fit", "counts", "of at least one prompt", InWords("none"))
    likelihood = counts.likelihood(rate_K)
    share_C = counts.prompts_C / counts.prompts
    weight = np.full(rate_K.size, 1.0 / rate_K.size)
    for _ in range(MAX_ITERATIONS):
        fitted_C = likelihood @ weight
        slope_K = likelihood.T @ (share_C / fitted_C) - 1.0
        gap = counts.prompts * float(slope_K.max())
        if gap <= MAX_GAP:
            value = float(counts.prompts_C @ np.log(fitted_C))
            return Mixture(rate_K, weight, value, gap)
        weight = _newton_step(likelihood, share_C, weight, fitted_C, slope_K)
    raise RuntimeError(
        f"mixture.fit: still {gap:.2g} nats from the optimum; please report the counts"
    )


def _newton_step(
    likelihood: FloatArray,
    share_C: FloatArray,
    weight_K: FloatArray,
    fitted_C: FloatArray,
    slope_K: FloatArray,
) -> FloatArray:
    """Towards the optimum of the quadratic expansion, as far as the likelihood rises."""
    padded = np.concatenate([[-np.inf], slope_K, [-np.inf]])
    is_peak = (slope_K >= padded[:-2]) & (slope_K >= padded[2:]) & (slope_K > 0.0)
    chosen = np.flatnonzero((weight_K > 0.0) | is_peak)
    # sum c log f(w') = const - 1/2 sum c (S w' - 2)^2 to second order, with S = A / f(w); as the
    # weights sum to 1, S w' - 2 = (S - 2) w', and a further row asks for the sum
    ratio = likelihood[:, chosen] / fitted_C[:, None]
    rows = np.vstack([np.sqrt(share_C)[:, None] * (ratio - 2.0), np.ones(chosen.size)])
    target = np.append(np.zeros(share_C.size), 1.0)
    aim = np.zeros(weight_K.size)
    aim[chosen] = nnls(rows, target, maxiter=50 * chosen.size)[0]
    direction = aim / aim.sum() - weight_K
    toward_C = likelihood @ direction
    promise = float(slope_K @ direction)
    before = share_C @ np.log(fitted_C)
    length = 1.0
    while length > 1e-12:
        fitted = fitted_C + length * toward_C
        if fitted.min() > 0.0 and share_C @ np.log(fitted) >= before + length * promise / 3.0:
            break
        length /= 2.0
    weight = np.maximum(weight_K + length * direction, 0.0)  # rounding may leave -1e-17
    return np.asarray(weight / weight.sum())
