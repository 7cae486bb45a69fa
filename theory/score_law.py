r"""The law of one rollout's score and reward over finitely many answers, exactly and by simulation.

Answer k has chance :math:`\pi_k`, reward :math:`r_k \in \{0, 1\}` and score :math:`s_k`. Any vectors
with :math:`E s = 0` are the scores of some softmax policy: take them as its features. What training
sums up is the contribution :math:`(r - p) s` of a rollout, whose mean is :math:`\nabla p`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import sympy as sp

from theory.claims import Estimate
from theory.policies import fisher, mean, reward, softmax_probabilities, softmax_scores
from theory.symbols import p

Array = np.ndarray[Any, np.dtype[Any]]

# root mean square of |s| over right and over wrong answers, and the distance of the two mean scores
G_1, G_0, D = sp.symbols("G_1 G_0 D", positive=True)
M_1 = sp.Symbol("M_1", positive=True)  # |E[s | r=1]|
N_1, N_0 = sp.symbols("N_1 N_0", positive=True)  # E[|s| | r]

# Eq. (21)
variance = p * (1 - p) ** 2 * G_1**2 + p**2 * (1 - p) * G_0**2 - p**2 * (1 - p) ** 2 * D**2


@dataclass(frozen=True, slots=True, eq=False)
class ScoreLaw:
    """Chances, scores and rewards of K answers.

    Attributes
    ----------
    pi_K : sympy column, shape (K, 1)
        Positive, sums to 1.
    score_K_D : sympy matrix, shape (K, D)
        Row k is the score of answer k.
    reward_K : sympy column, shape (K, 1)
        0 or 1.
    """

    pi_K: sp.Matrix
    score_K_D: sp.Matrix
    reward_K: sp.Matrix

    @property
    def p(self) -> sp.Expr:
        """Success rate."""
        return mean(self.pi_K, self.reward_K)[0]

    def given(self, outcome: int) -> sp.Matrix:
        """Chances of the answers given their reward."""
        chance = self.p if outcome else 1 - self.p
        kind = self.reward_K if outcome else sp.ones(*self.reward_K.shape) - self.reward_K
        return self.pi_K.multiply_elementwise(kind) / chance

    def mean_score(self, outcome: int) -> sp.Matrix:
        """``E[s | r]``, shape (D, 1)."""
        return mean(self.given(outcome), self.score_K_D)

    def square_norm(self, outcome: int) -> sp.Expr:
        """``E[|s|^2 | r]``."""
        return sp.trace(fisher(self.given(outcome), self.score_K_D))

    def mean_norm(self, outcome: int) -> sp.Expr:
        """``E[|s| | r]``."""
        norms = [self.score_K_D.row(k).norm() for k in range(self.pi_K.rows)]
        return sp.Add(*(x * norm for x, norm in zip(self.given(outcome), norms, strict=True)))

    @property
    def difference(self) -> sp.Matrix:
        """``E[s | r=1] - E[s | r=0]``, shape (D, 1)."""
        return self.mean_score(1) - self.mean_score(0)

    @property
    def gradient(self) -> sp.Matrix:
        """``E[r s]``, the gradient of the success rate, shape (D, 1)."""
        return self.p * self.mean_score(1)

    @property
    def contribution_K_D(self) -> sp.Matrix:
        """``(r - p) s`` of each answer."""
        return sp.diag(*(r - self.p for r in self.reward_K)) * self.score_K_D

    @property
    def covariance(self) -> sp.Matrix:
        """Of one contribution, from the definition, shape (D, D)."""
        centred = self.contribution_K_D.copy()
        middle = mean(self.pi_K, centred)
        return fisher(self.pi_K, centred - sp.ones(centred.rows, 1) * middle.T)

    def covariance_given(self, outcome: int) -> sp.Matrix:
        """Covariance matrix of the score given the reward."""
        middle = self.mean_score(outcome)
        return fisher(self.given(outcome), self.score_K_D - sp.ones(self.pi_K.rows, 1) * middle.T)

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> Array:
        """Independent answers."""
        return rng.choice(self.pi_K.rows, size=tuple(shape), p=as_array(self.pi_K).ravel())


def moments(law: ScoreLaw) -> dict[sp.Symbol, sp.Expr]:
    """The values of the symbols of (21) for a policy."""
    return {
        p: law.p,
        G_1: sp.sqrt(law.square_norm(1)),
        G_0: sp.sqrt(law.square_norm(0)),
        D: law.difference.norm(),
        M_1: law.mean_score(1).norm(),
        N_1: law.mean_norm(1),
        N_0: law.mean_norm(0),
    }


def softmax_law(
    weight_K: Sequence[Any], right: Collection[int], features: sp.Matrix | None = None
) -> ScoreLaw:
    """Softmax policy with weights ``exp(logit)``; a table, or restricted by features."""
    pi_K = softmax_probabilities([sp.sympify(w) for w in weight_K])
    return ScoreLaw(pi_K, softmax_scores(pi_K, features), reward(pi_K.rows, right))


def as_array(matrix: sp.Matrix) -> Array:
    """As float64."""
    return np.array(matrix.tolist(), dtype=np.float64)


def mean_and_variance(
    chances: Sequence[Sequence[Any]], statistic: Callable[[tuple[int, ...]], Any]
) -> tuple[sp.Expr, sp.Expr]:
    """Of a statistic of independent answers, by enumeration of all outcomes.

    ``chances[j]`` holds the chances of the answers of rollout j.
    """
    first = second = sp.Integer(0)
    for outcome in product(*(range(len(chance)) for chance in chances)):
        weight = sp.Mul(*(chance[k] for chance, k in zip(chances, outcome, strict=True)))
        if weight != 0:
            value = statistic(outcome)
            first += weight * value
            second += weight * value**2
    return first, second - first**2


def half_squared_distance(
    what: str,
    law: ScoreLaw,
    rng: np.random.Generator,
    expected: sp.Expr,
    control: sp.Expr,
    control_is: str,
) -> Estimate:
    """The variance of a contribution by simulation: half the squared distance of two of them."""
    pairs = as_array(law.contribution_K_D)[law.draw(rng, [60_000, 2])]
    return Estimate.of(
        f"half the squared distance of two contributions; {what}",
        0.5 * ((pairs[:, 0] - pairs[:, 1]) ** 2).sum(axis=1),
        expected=float(expected),
        control=float(control),
        control_is=control_is,
    )
