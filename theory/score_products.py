r"""Products of different rollouts: unbiased where the square of a mean counts the noise as signal.

With :math:`X_j = (r_j - p) s_j` the contribution of rollout j, its mean is :math:`g = \nabla p`, its
covariance :math:`\Sigma`. The claims that rest on such products are in :mod:`theory.squared_gradient`,
:mod:`theory.mean_distance`, :mod:`theory.objective_gain` and :mod:`theory.coin_detection`.
"""

from __future__ import annotations

import numpy as np
import sympy as sp

from theory.score_law import Array, ScoreLaw, softmax_law
from theory.symbols import n


def named(latex: str) -> sp.Symbol:
    """A positive number that prints as the LaTeX given."""
    return sp.Symbol(latex, positive=True)


slope = named("|g|")
slope_sq = slope**2
spread = named(r"\operatorname{Tr}\Sigma")
spread_sq = named(r"\operatorname{Tr}\Sigma^{2}")
along = named(r"g^{\top}\Sigma g")

variance_u = 4 * along / n + 2 * spread_sq / (n * (n - 1))  # of the mean product, claim 8.5

# three answers and two parameters, on which the claims enumerate
LAW = softmax_law([3, 1, 2], right={0}, features=sp.Matrix([[2, 0], [0, 1], [1, -1]]))


def gram(vector_K_D: sp.Matrix) -> sp.Matrix:
    """Inner products of the rows."""
    return vector_K_D * vector_K_D.T


def distinct_mean(gram_K_K: sp.Matrix, outcome: tuple[int, ...]) -> sp.Expr:
    """Mean product of two different rollouts."""
    size = len(outcome)
    pairs = sp.Add(
        *(gram_K_K[a, b] for j, a in enumerate(outcome) for k, b in enumerate(outcome) if j != k)
    )
    return pairs / (size * (size - 1))


def distinct_mean_of(vector_S_n_D: Array) -> Array:
    """The same for draws, shape (S,)."""
    size = vector_S_n_D.shape[1]
    total = (vector_S_n_D.sum(axis=1) ** 2).sum(axis=1)
    return np.asarray((total - (vector_S_n_D**2).sum(axis=(1, 2))) / (size * (size - 1)))


def quadratic(vector: sp.Matrix, matrix: sp.Matrix) -> sp.Expr:
    """``v^T A v``."""
    return (vector.T * matrix * vector)[0]


def noise(law: ScoreLaw) -> dict[sp.Symbol, sp.Expr]:
    """The values of the symbols above for a policy."""
    covariance = law.covariance
    return {
        slope_sq: law.gradient.dot(law.gradient),
        spread: sp.trace(covariance),
        spread_sq: sp.trace(covariance**2),
        along: quadratic(law.gradient, covariance),
    }
