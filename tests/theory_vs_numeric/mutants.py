"""Wrong versions of a formula: another factor, another sign, another exponent."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp


def mutants(formula: sp.Expr) -> Iterator[tuple[str, sp.Expr]]:
    """Name and wrong formula; each differs from ``formula`` as a function."""
    yield "twice", 2 * formula
    yield "a tenth more", sp.Rational(11, 10) * formula
    yield "negated", -formula
    powers = sorted(formula.atoms(sp.Pow), key=sp.default_sort_key)
    if not powers:
        yield "squared", formula**2
    for power in powers:
        wrong = sp.Pow(power.base, power.exp + 1)
        yield f"exponent of {power} plus 1", formula.xreplace({power: wrong})
