"""Deciding that an expression is zero, or not negative: refute by numbers first, then prove by algebra.

A number can refute and never prove; simplification can prove and, on an expression that is not zero,
take forever. So numbers go first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache

import sympy as sp

from theory.symbols import own_share, p, q, share

POINTS = 12  # some fall outside a formula's range, as s > n does, and say nothing
DIGITS = 40


def is_zero(expression: sp.Expr | int) -> bool:
    """True iff sympy proves that ``expression`` vanishes identically.

    Raises
    ------
    ValueError
        If no point refutes it and no simplification proves it: the step has to be made smaller.
    """
    return _is_zero(sp.sympify(expression))


@cache  # most steps of a proof stay the same when one formula is changed
def _is_zero(value: sp.Expr) -> bool:
    if value == 0:
        return True
    value = value.doit()
    if any(_is_off_zero(_at(value, point)) for point in _points(value)):
        return False
    routes: tuple[Callable[[sp.Expr], sp.Expr], ...] = (
        sp.expand, sp.cancel, lambda e: sp.expand(sp.expand_func(e), power_base=True),
        sp.gammasimp, sp.radsimp, sp.simplify,
    )  # fmt: skip
    if any(route(value) == 0 for route in routes):
        return True
    raise ValueError(f"is_zero: expression must be decidable, got {value}")


@cache  # a proof asks again for every formula that is tried in it
def solution(equation: sp.Expr, symbol: sp.Symbol) -> sp.Expr:
    """The first root of an expression in one symbol."""
    return sp.solve(equation, symbol)[0]


def is_nonnegative(expression: sp.Expr) -> bool:
    """True iff the assumptions on the symbols show that it is not negative.

    Success rates and shares, which sympy only knows to be positive, are written as odds / (1 + odds),
    so that 1 - p is seen to be positive too.
    """
    value = sp.sympify(expression)
    if value.is_nonnegative:
        return True
    odds = {r: sp.Symbol(f"odds_{r}", positive=True) for r in (p, q, share, own_share)}
    value = value.subs({r: x / (1 + x) for r, x in odds.items()})
    return any(bool(route(value).is_nonnegative) for route in (sp.factor, sp.cancel, sp.simplify))


def _points(expression: sp.Expr) -> Iterator[dict[sp.Symbol, sp.Expr]]:
    """Rational points that respect the assumptions; the same ones every time."""
    dice = random.Random(0)
    symbols = sorted(expression.free_symbols, key=str)
    for _ in range(POINTS if symbols else 1):
        yield {symbol: _value(symbol, dice) for symbol in symbols}


def _value(symbol: sp.Symbol, dice: random.Random) -> sp.Expr:
    if symbol.is_integer:
        return sp.Integer(dice.randint(3, 9))
    value = sp.Rational(dice.randint(3, 97), 101)  # (0, 1), where success rates live
    return value if symbol.is_positive or dice.random() < 0.5 else -value


def _at(expression: sp.Expr, point: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """The value at a point; a plain replacement is several times faster where no symbol is bound."""
    if expression.has(sp.Integral, sp.Limit, sp.Derivative, sp.Subs, sp.Sum, sp.Product):
        return expression.subs(point)
    return expression.xreplace(point)


def _is_off_zero(value: sp.Expr) -> bool:
    """A number that is clearly not zero; anything unclear refutes nothing."""
    try:
        number = sp.N(value, DIGITS)
    except (TypeError, ValueError):
        return False
    return bool(number.is_number and number.is_finite and abs(number) > sp.Float(10) ** -25)
