r"""Policies over K answers, exactly: scores, gradient of the success rate, Fisher matrix, natural norm.

A softmax policy is written in its weights :math:`w_k = e^{\theta_k} > 0`, so that everything is a
rational function, and rational weights give rational numbers. Answers are numbered from 0; ``right`` is
the set of right ones. A restricted policy has logits ``features @ theta``, features of shape (K, D); the
table is the case of the identity. Vectors are sympy columns, scores a matrix of shape (K, D) whose row k
is the score of answer k.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sympy as sp


def weights(size: int) -> tuple[sp.Symbol, ...]:
    """Positive symbols w_1 .. w_K, the exponentials of the logits."""
    symbols: tuple[sp.Symbol, ...] = sp.symbols(f"w_1:{size + 1}", positive=True)
    return symbols


def softmax_probabilities(weight_K: Sequence[sp.Expr]) -> sp.Matrix:
    """Chance of each answer, ``w_k / sum w``, shape (K, 1)."""
    total = sp.Add(*weight_K)
    return sp.Matrix([sp.sympify(w) / total for w in weight_K])


def softmax_scores(pi_K: sp.Matrix, features: sp.Matrix | None = None) -> sp.Matrix:
    """Gradients of ``log pi_k``: rows ``e_k - pi``, times the features if there are any."""
    size = pi_K.rows
    table = sp.eye(size) - sp.ones(size, 1) * pi_K.T
    return table if features is None else table * features


def scores_by_differentiation(weight_K: Sequence[sp.Symbol]) -> sp.Matrix:
    """The table's scores from their definition, by d/d theta_j = w_j d/d w_j."""
    log_pi_K = softmax_probabilities(weight_K).applyfunc(sp.log)
    return sp.Matrix(
        len(weight_K), len(weight_K), lambda k, j: weight_K[j] * sp.diff(log_pi_K[k], weight_K[j])
    ).applyfunc(sp.cancel)


def reward(size: int, right: Collection[int]) -> sp.Matrix:
    """1 for right answers and 0 for the others, shape (K, 1)."""
    return sp.Matrix([int(k in right) for k in range(size)])


def mean(pi_K: sp.Matrix, value_K: sp.Matrix) -> sp.Matrix:
    """Expectation over answers of the rows of ``value_K``, as a column."""
    return (pi_K.T * value_K).T


def success_rate(pi_K: sp.Matrix, right: Collection[int]) -> sp.Expr:
    """Total chance of the right answers."""
    return sp.Add(*(pi_K[k] for k in right))


def gradient(pi_K: sp.Matrix, score: sp.Matrix, right: Collection[int]) -> sp.Matrix:
    """Gradient of the success rate, ``E[r s]``, shape (D, 1)."""
    return mean(pi_K, sp.diag(*reward(pi_K.rows, right)) * score)


def fisher(pi_K: sp.Matrix, score: sp.Matrix) -> sp.Matrix:
    """Covariance of the scores, ``E[s s^T]``, shape (D, D)."""
    return score.T * sp.diag(*pi_K) * score


def pseudo_inverse(matrix: sp.Matrix) -> sp.Matrix:
    """Moore-Penrose inverse of a symmetric matrix, singular or not.

    With P the orthogonal projector on the null space, ``matrix + P`` is invertible and its inverse is
    the pseudo-inverse plus P. Instant for numbers, slow for more than three symbolic answers: see
    :func:`table_pseudo_inverse`.
    """
    null = sp.Matrix(matrix).applyfunc(sp.cancel).nullspace(simplify=sp.cancel)
    projector = sp.zeros(*matrix.shape)
    if null:
        basis = sp.Matrix.hstack(*null)
        projector = basis * (basis.T * basis).inv() * basis.T
    inverse = (matrix + projector).applyfunc(sp.cancel).inv(method="ADJ") - projector
    return inverse.applyfunc(sp.cancel)


def table_pseudo_inverse(pi_K: sp.Matrix) -> sp.Matrix:
    """Moore-Penrose inverse of the table's Fisher matrix ``diag(pi) - pi pi^T`` in closed form.

    ``C diag(1/pi) C`` with C the projector on vectors that sum to 0, since the null space is the
    constants: adding one number to all logits changes nothing.
    """
    size = pi_K.rows
    centre = sp.eye(size) - sp.ones(size, size) / size
    return centre * sp.diag(*(1 / x for x in pi_K)) * centre


def natural_norm_sq(gradient_D: sp.Matrix, fisher_D_D: sp.Matrix) -> sp.Expr:
    """``g^T F^+ g``."""
    return sp.cancel((gradient_D.T * pseudo_inverse(fisher_D_D) * gradient_D)[0])
