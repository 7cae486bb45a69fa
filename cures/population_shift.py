r"""Do outcomes still come from the population that settings were tuned on? A log-loss answers.

Tuned settings are advice for what they were tuned on. There, the groups of a stratum (see below) had
success rates with a known distribution: support points :math:`p_k`, weights :math:`w_k`. It predicts the
right answers s of a group of n rollouts,

.. math:: m(s \mid n) = (1 - \epsilon) \sum_k w_k \binom{n}{s} p_k^s (1 - p_k)^{n-s}
          + \epsilon / (n + 1),

where the last term, :math:`\epsilon = 10^{-3}`, keeps every loss finite. What the population costs is
the mean of :math:`-\log m(s \mid n)` less the same mean under the groups' own empirical distribution
(per stratum and n): the divergence of what is seen from what was expected.

A scheduler chooses prompts by their answers and quotas by its posterior, so success rates depend on
both. Strata keep apart what must not be mixed: whether a group is *fresh*, its prompt not chosen for its
own answers (pilots and first visits), and the octave of its number of rollouts.

Additional axis suffixes: ``_K`` support points, ``_Q`` strata, ``_C`` cells (n, s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from cures.checks import FloatArray, IntArray, InWords, as_float_array, as_int, as_int_array, fail

__all__ = ["PopulationShift", "population_shift", "predicted_success", "stratum_of"]

UNIFORM_SHARE = 1e-3  # epsilon
_WEIGHT_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class PopulationShift:
    """How far outcomes are from a population, in nats per group.

    Attributes
    ----------
    loss : float
        Mean log-loss under the population.
    own_loss : float
        Mean log-loss under the outcomes' own distribution, never above ``loss``.
    excess : float
        ``loss - own_loss`` less its mean under the population itself, where own distributions fit
        noise; about 0 if nothing moved.
    p_value : float
        Chance that outcomes of the population lose as much; exact by simulation.
    groups : int
    """

    loss: float
    own_loss: float
    excess: float
    p_value: float
    groups: int


def stratum_of(row: Mapping[str, Any], visited: set[int]) -> tuple[bool, int]:
    """Stratum of a line of ``outcomes.jsonl``: is it fresh, and the octave of its rollouts.

    Parameters
    ----------
    row : mapping
        ``prompt``, ``trial`` >= 1, ``is_pilot``.
    visited : set of int
        Prompts with rollouts so far; the row's prompt is added.

    Examples
    --------
    >>> visited = {7}
    >>> stratum_of({"prompt": 7, "trial": 9, "is_pilot": False}, visited)
    (False, 3)
    >>> stratum_of({"prompt": 8, "trial": 4, "is_pilot": False}, visited), sorted(visited)
    ((True, 2), [7, 8])
    """
    is_fresh = bool(row["is_pilot"]) or row["prompt"] not in visited
    visited.add(row["prompt"])
    return is_fresh, int(row["trial"]).bit_length() - 1


def predicted_success(trial: int, support_K: FloatArray, weight_K: FloatArray) -> FloatArray:
    """Chance of 0, 1, ..., ``trial`` right answers out of ``trial``, shape (trial + 1,).

    Examples
    --------
    >>> predicted_success(1, np.array([0.5]), np.array([1.0]))
    array([0.5, 0.5])
    """
    chance_K_s = binom.pmf(np.arange(trial + 1)[None, :], trial, support_K[:, None])
    predicted: FloatArray = weight_K @ chance_K_s
    return (1.0 - UNIFORM_SHARE) * predicted + UNIFORM_SHARE / (trial + 1)


def population_shift(
    success_B: ArrayLike,
    trial_B: ArrayLike,
    stratum_B: ArrayLike,
    support_K: ArrayLike,
    weight_Q_K: ArrayLike,
    *,
    generator: np.random.Generator,
    draws: int = 1999,
) -> PopulationShift:
    """Test outcomes against a population.

    Parameters
    ----------
    success_B, trial_B : array_like of int, shape (B,)
        Right answers and answers of groups, ``0 <= success <= trial``, ``trial >= 1``.
    stratum_B : array_like of int, shape (B,)
        Row of ``weight_Q_K`` that each group belongs to.
    support_K : array_like of float, shape (K,)
        Success rates in [0, 1].
    weight_Q_K : array_like of float, shape (Q, K)
        Their weights in every stratum, >= 0, each row of sum 1.
    generator : numpy.random.Generator
    draws : int
        Simulated data sets, >= 1; the least p-value is ``1 / (draws + 1)``.

    Returns
    -------
    PopulationShift

    Raises
    ------
    ValueError
        On bad input, or without any group.

    Notes
    -----
    The p-value is that of a Monte Carlo test [1]_: the rank of the loss among losses of data sets
    simulated from the population with the same numbers of trials. It is valid at every sample size, if
    within a stratum success rates do not depend on the number of trials.

    References
    ----------
    .. [1] A. C. A. Hope, "A simplified Monte Carlo significance test procedure", Journal of the Royal
       Statistical Society B 30(3), 1968.

    Examples
    --------
    >>> shift = population_shift(
    ...     [0, 0, 0, 0, 4, 0], [4] * 6, [0] * 6, [0.5], [[1.0]], generator=np.random.default_rng(0)
    ... )
    >>> shift.p_value
    0.0005
    """
    where = "population_shift"
    trial = as_int_array(where, "trial_B", trial_B, low=1)
    success = as_int_array(where, "success_B", success_B, length=trial.size, low=0)
    if trial.size == 0:
        fail(where, "trial_B", "of shape (B,) with B >= 1", InWords("shape (0,)"))
    if (success > trial).any():
        index = int(np.flatnonzero(success > trial)[0])
        fail(where, "success_B", f"<= trial_B ({trial[index]} at index {index})", success[index])
    support = as_float_array(where, "support_K", support_K, low=0.0, high=1.0)
    rows = [
        as_float_array(where, f"weight_Q_K[{q}]", row, length=support.size, low=0.0)
        for q, row in enumerate(np.asarray(weight_Q_K))
    ]
    for q, row in enumerate(rows):
        if abs(row.sum() - 1.0) > _WEIGHT_TOLERANCE:
            fail(where, f"weight_Q_K[{q}]", "of sum 1", InWords(f"sum {row.sum():.6g}"))
    stratum = as_int_array(
        where, "stratum_B", stratum_B, length=trial.size, low=0, high=len(rows) - 1
    )
    as_int(where, "draws", draws, 1)
    loss = own_loss = 0.0
    simulated = np.zeros(draws)
    for q, n in np.unique(np.column_stack([stratum, trial]), axis=0).tolist():
        chance_C = predicted_success(n, support, rows[q] / rows[q].sum())
        chance_C /= chance_C.sum()  # to the last bit, for the draws
        count_C = np.bincount(success[(stratum == q) & (trial == n)], minlength=n + 1)
        loss -= float(count_C @ np.log(chance_C))
        own_loss += float(_entropy(count_C[None, :])[0])
        drawn_d_C = generator.multinomial(int(count_C.sum()), chance_C, size=draws)
        simulated += -(drawn_d_C @ np.log(chance_C)) - _entropy(drawn_d_C)
    gap = loss - own_loss
    # ties count as losing as much, whatever the order of the sums left in the last bits
    as_much = int(np.count_nonzero(simulated >= gap - 1e-9))
    return PopulationShift(
        loss=loss / trial.size,
        own_loss=own_loss / trial.size,
        excess=float(gap - simulated.mean()) / trial.size,
        p_value=(1 + as_much) / (draws + 1),
        groups=int(trial.size),
    )


def _entropy(count_d_C: IntArray) -> FloatArray:
    """Summed log-loss of counts under their own shares, per row."""
    total = count_d_C.sum(axis=1, keepdims=True)
    share = np.where(count_d_C > 0, count_d_C / total, 1.0)
    loss: FloatArray = -(count_d_C * np.log(share)).sum(axis=1)
    return loss
