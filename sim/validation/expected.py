"""Numbers from the theory's claims: their own expressions, made numeric, and nothing typed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from cures.checks import FloatArray
from theory.claims import Claim, numeric
from theory.registry import all_claims


@cache
def _claims() -> dict[str, Claim]:
    return {claim.number: claim for claim in all_claims()}


@cache  # by the expression, not by its name: a changed formula is a new entry
def _function(
    expression: sp.Expr, symbols: tuple[sp.Symbol, ...]
) -> Callable[..., np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    return numeric(expression, symbols)


def formula(number: str, name: str) -> sp.Expr:
    """Formula ``name`` of claim ``number``, as the theory's report prints it.

    Raises
    ------
    ValueError
        If there is no such claim or formula.

    Examples
    --------
    >>> formula("4.2", "minimum")
    s**2/(N*m**2)
    """
    claim = _claims().get(number)
    if claim is None or name not in claim.formulas:
        known = "a claim of the theory" if claim is None else f"among {list(claim.formulas)}"
        raise ValueError(f"formula: {number} {name!r} must be {known}")
    return sp.sympify(claim.formulas[name])


def expected(number: str, name: str, at: Mapping[sp.Symbol, Any]) -> FloatArray:
    """Values of a claim's formula.

    Parameters
    ----------
    number, name : str
        As in :func:`formula`.
    at : mapping of sympy symbol to array_like of float
        A value for every symbol of the formula, broadcast against each other; others are ignored.

    Returns
    -------
    ndarray of float64
        Broadcast shape of all values.

    Raises
    ------
    ValueError
        If a symbol of the formula has no value.

    Examples
    --------
    >>> from theory.symbols import delta, p
    >>> expected("1.8", "stated", {p: [0.5, 0.1], delta: 0.005}).round(3)
    array([0.05, 0.03])
    """
    expression = formula(number, name)
    missing = expression.free_symbols - set(at)
    if missing:
        raise ValueError(
            f"expected: at must have {sorted(map(str, missing))} for {number} {name!r}"
        )
    symbols = tuple(symbol for symbol in at if symbol in expression.free_symbols)
    values = [np.asarray(at[symbol], dtype=np.float64) for symbol in symbols]
    result = np.asarray(_function(expression, symbols)(*values), dtype=np.float64)
    shape = np.broadcast_shapes(*(np.shape(value) for value in at.values()))
    return np.broadcast_to(result, shape).copy()
