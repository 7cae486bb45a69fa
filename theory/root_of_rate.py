"""Means of powers of the root of a success rate, exactly: with p = x^2 they are rational."""

from __future__ import annotations

import sympy as sp

x = sp.Symbol("x", positive=True)  # p = x^2


def mean_over_roots(value: sp.Expr, counts: tuple[int, int]) -> sp.Rational:
    """Expectation of sums of whole powers of x, where x^2 follows a Beta law with whole counts."""
    density = 2 * x ** (2 * counts[0] - 1) * (1 - x**2) ** (counts[1] - 1)
    whole, mass = (
        sp.integrate(sp.expand(integrand), (x, 0, 1)) for integrand in (value * density, density)
    )
    return sp.Rational(whole / mass)
