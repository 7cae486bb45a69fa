"""Wrong versions of a formula: another factor, another sign, another exponent, a term too few."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp


def mutants(formula: sp.Expr) -> Iterator[tuple[str, sp.Expr]]:
    """Name and wrong formula, for the whole and for every part of it.

    Some may be the same function as ``formula``, as one written in another way is, or not defined.
    """
    yield "twice", 2 * formula
    yield "a tenth more", sp.Rational(11, 10) * formula
    yield "negated", -formula
    if not formula.has(sp.Pow):
        yield "squared", formula**2
    for power in _parts(formula, sp.Pow):
        yield f"exponent of {power} plus 1", formula.xreplace({power: power * power.base})
    for total in _parts(formula, sp.Add):
        for term in total.args:
            yield f"sign of {term} in {total}", formula.xreplace({total: total - 2 * term})
            yield f"{total} without {term}", formula.xreplace({total: total - term})
    for product in _parts(formula, sp.Mul):
        yield f"{product} times 3/2", formula.xreplace({product: sp.Rational(3, 2) * product})
    for value in _parts(formula, sp.Function):
        yield f"{value} twice", formula.xreplace({value: 2 * value})


def _parts(formula: sp.Expr, kind: type) -> list[sp.Expr]:
    """All parts of one kind, in an order that does not change between runs."""
    return sorted(formula.atoms(kind), key=sp.default_sort_key)
