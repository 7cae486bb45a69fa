r"""Formulas as LaTeX that reads as one would write it.

sympy pulls positive factors out of a root and orders sums by degree; a reader prefers one root,
:math:`\sqrt{2 \delta p (1 - p)}`, and a sum that does not begin with a minus sign, q - p.
"""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter

HALF = sp.Rational(1, 2)


def latex(expression: sp.Expr | int) -> str:
    r"""The expression as LaTeX, without dollar signs.

    Examples
    --------
    >>> x, y = sp.symbols("x y", positive=True)
    >>> print(latex(sp.sqrt(x / (2 * y))), latex(y - x))
    \sqrt{\frac{x}{2 y}} y - x
    """
    return str(_Printer().doprint(sp.sympify(expression)))


class _Root(sp.Symbol):  # type: ignore[misc, unused-ignore]
    """A finished root, which goes by its LaTeX and stands last in a product."""

    @classmethod
    def class_key(cls) -> tuple[int, int, str]:
        return 9, 0, cls.__name__


class _Printer(LatexPrinter):  # type: ignore[misc, unused-ignore]
    def _as_ordered_terms(self, expr: sp.Expr, order: Any = None) -> list[sp.Expr]:
        terms: list[sp.Expr] = super()._as_ordered_terms(expr, order)
        first = next((t for t in terms if not t.could_extract_minus_sign()), terms[0])
        if (
            terms[-1].is_Rational
            and terms[-1] > 0
            and any(t.is_Mul and len(_roots(t)[2]) < len(t.args) for t in terms)
        ):
            first = terms[-1]  # 1 + a correction
        return [first, *(t for t in terms if t is not first)]

    def _print_Mul(self, expr: sp.Expr) -> str:
        above, below, rest = _roots(expr)
        if len(above) + len(below) < 2:
            return str(super()._print_Mul(expr))
        if not above:
            rest.append(1 / _Root(rf"\sqrt{{{self._print(sp.Mul(*below))}}}"))
        else:
            rest.append(_Root(rf"\sqrt{{{self._print(sp.Mul(*above) / sp.Mul(*below))}}}"))
        product = sp.Mul(*rest)
        return str(super()._print_Mul(product) if product.is_Mul else self._print(product))


def _roots(product: sp.Expr) -> tuple[list[sp.Expr], list[sp.Expr], list[sp.Expr]]:
    """Radicands above and below the bar, and the factors that are no square roots."""
    above: list[sp.Expr] = []
    below: list[sp.Expr] = []
    rest: list[sp.Expr] = []
    for factor in product.args:
        base, power = factor.as_base_exp()
        if abs(power) != HALF or base.is_negative:
            rest.append(factor)
            continue
        if base.is_Pow and base.exp == -1:  # the root of 1 / (1 - p)
            base, power = base.base, -power
        (above if power > 0 else below).append(base)
    coefficient = product.args[0]
    if 2 in above and len(above) > 1 and coefficient.is_Rational and coefficient.q % 2 == 0:
        above.remove(sp.Integer(2))  # sqrt(2) / 2 is the root of 1/2
        below.append(sp.Integer(2))
        rest[rest.index(coefficient)] = 2 * coefficient
    return above, below, rest
