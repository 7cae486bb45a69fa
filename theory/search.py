"""Numerical optimisers that know nothing of the formulas they are to confirm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize

Vector = np.ndarray[Any, np.dtype[np.float64]]


def largest(
    value: Callable[[Vector], float],
    start: Vector,
    *,
    inside: Callable[[Vector], float] | None = None,
    total: float | None = None,
) -> tuple[float, Vector]:
    """Local maximum of ``value``, gradients by differences.

    Parameters
    ----------
    value : callable
        Vector -> float.
    start : ndarray of float64
        Where the search begins.
    inside : callable, optional
        The search keeps ``inside(x) >= 0``.
    total : float, optional
        The search keeps ``x.sum() == total``.

    Returns
    -------
    best : float
    where : ndarray of float64
    """
    constraints: list[Any] = []
    if inside is not None:
        constraints.append({"type": "ineq", "fun": inside})
    if total is not None:
        constraints.append({"type": "eq", "fun": lambda x: x.sum() - total})
    options = {"gtol": 1e-10} if not constraints else {"ftol": 1e-14, "maxiter": 500}
    found: Any = minimize(
        lambda x: -value(x),
        np.array(start, dtype=np.float64),
        method="SLSQP" if constraints else "BFGS",
        constraints=constraints,
        options=options,  # type: ignore[arg-type, call-overload, unused-ignore]
    )
    return -float(found.fun), np.asarray(found.x, dtype=np.float64)


def to_boundary(room: Callable[[float], float], longest: float) -> float:
    """The step length at which ``room`` (positive at 0) is used up."""
    return float(brentq(room, 0.0, longest, xtol=1e-15, rtol=1e-14))
