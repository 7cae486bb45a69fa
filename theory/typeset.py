r"""Formulas as LaTeX that reads as one would write it.

sympy pulls positive factors out of a root and orders sums by degree; a reader prefers one root,
:math:`\sqrt{2 \delta p (1 - p)}`, a sum that does not begin with a minus sign, q - p, a product
without one, p (1 - p) for -p (p - 1), and a slash where a fraction stands in an exponent or in
another fraction.
"""

from __future__ import annotations

import re
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE

HALF = sp.Rational(1, 2)
SHORT = 16.0  # a fraction this narrow is printed with a slash inside another fraction
_TOKEN = re.compile(r"\\(?:operatorname|mathbb|mathrm|text|tfrac)|\\[a-zA-Z]+|\\.|\s+|.", re.DOTALL)
_RATE = re.compile(r"[pq]|\\?(?:pi|lambda|rho)(?:_\w+)?")
_NOTHING = frozenset(
    (r"\left", r"\right", r"\limits", r"\operatorname", r"\mathbb", r"\mathrm", r"\text", ".")
)


def latex(expression: sp.Expr | int, *, in_line: bool = False) -> str:
    r"""The expression as LaTeX, without dollar signs; ``in_line`` with slashes for fraction bars.

    Examples
    --------
    >>> x, y = sp.symbols("x y", positive=True)
    >>> print(latex(sp.sqrt(x / (2 * y))), latex(y - x), latex(x / y, in_line=True))
    \sqrt{\frac{x}{2 y}} y - x x / y
    """
    printer = _Printer()
    value = sp.sympify(expression)
    tex = printer.in_line(value) if in_line else str(printer.doprint(value))
    return tex.replace(r"\int\limits", r"\int")


def lines(expression: sp.Expr | int, widest: float) -> list[str]:
    r"""The expression as LaTeX, a sum in as many lines as it takes to keep each below ``widest``.

    Examples
    --------
    >>> x, y = sp.symbols("x y", positive=True)
    >>> lines(x + x * y + y**2, widest=6)
    ['x y + x', '+ y^{2}']
    """
    value = sp.sympify(expression)
    whole = latex(value)
    if not value.is_Add or width(whole) <= widest:
        return [whole]
    found = [""]
    for term in _Printer().signed_terms(value):
        if found[-1] and width(f"{found[-1]} {term}") > widest:
            found.append("")
        found[-1] = f"{found[-1]} {term}".lstrip()
    return found


def width(tex: str) -> float:
    r"""Roughly how wide the LaTeX is when set, in digits.

    Examples
    --------
    >>> width("x"), width(r"\frac{x y}{z}"), width("x + y")
    (1.0, 2.8, 4.0)
    """
    tokens = [t for t in _TOKEN.findall(tex) if t not in _NOTHING and not t.isspace()]
    return round(_width(tokens), 6)


def _width(tokens: list[str]) -> float:
    total = 0.0
    while tokens:
        token = tokens.pop(0)
        if token in (r"\frac", r"\tfrac", r"\binom"):
            total += max(_width(_group(tokens)), _width(_group(tokens))) + 0.8
        elif token in ("^", "_"):
            total += 0.7 * _width(_group(tokens))
        elif token == "{":
            tokens.insert(0, token)
            total += _width(_group(tokens))
        elif token == r"\sqrt":
            total += 1.5 + _width(_group(tokens))
        elif token in ("+", "-", "=", r"\ge", r"\to"):
            total += 2.0
        elif token in (r"\log", r"\lim", r"\max", r"\min", r"\exp"):
            total += 3.3
        elif token in "()|,":
            total += 0.7
        else:
            total += 1.0
    return total


def _group(tokens: list[str]) -> list[str]:
    """Take the next argument, in braces or a single token, off the list."""
    if not tokens or tokens[0] != "{":
        return [tokens.pop(0)] if tokens else []
    depth, taken = 0, []
    while tokens:
        token = tokens.pop(0)
        depth += {"{": 1, "}": -1}.get(token, 0)
        taken.append(token)
        if depth == 0:
            break
    return taken[1:-1]


class _Root(sp.Symbol):  # type: ignore[misc, unused-ignore]
    """A finished root, which goes by its LaTeX and stands last in a product."""

    @classmethod
    def class_key(cls) -> tuple[int, int, str]:
        return 9, 0, cls.__name__


class _Printer(LatexPrinter):  # type: ignore[misc, unused-ignore]
    _inline = 0  # how many exponents and points of evaluation enclose what is being printed
    _bars = 0  # how many fractions

    def signed_terms(self, expr: sp.Expr) -> list[str]:
        """The terms of a sum as LaTeX, each but the first with its sign before it."""
        found = []
        for i, term in enumerate(self._as_ordered_terms(expr)):
            is_negative = _is_negative(term)
            body = self.parenthesize(-term if is_negative else term, PRECEDENCE["Add"])
            sign = "- " if is_negative else "+ " if i else ""
            found.append(sign + body)
        return found

    def _as_ordered_terms(self, expr: sp.Expr, order: Any = None) -> list[sp.Expr]:
        terms: list[sp.Expr] = [_signed(t) for t in super()._as_ordered_terms(expr, order)]
        first = next((t for t in terms if not _is_negative(t)), terms[0])
        if (
            terms[-1].is_Rational
            and terms[-1] > 0
            and any(t.is_Mul and len(_roots(t)[2]) < len(t.args) for t in terms)
        ):
            first = terms[-1]  # 1 + a correction
        return [first, *(t for t in terms if t is not first)]

    def _print_Add(self, expr: sp.Expr, order: Any = None) -> str:
        return " ".join(self.signed_terms(expr))

    def _print_Mul(self, expr: sp.Expr) -> str:
        product = _signed(expr)
        above, below, rest = _roots(product) if product.is_Mul else ([], [], [])
        if len(above) + len(below) >= 2:
            if above:
                rest.append(_Root(rf"\sqrt{{{self._print(sp.Mul(*above) / sp.Mul(*below))}}}"))
            else:
                rest.append(1 / _Root(rf"\sqrt{{{self._print(sp.Mul(*below))}}}"))
            product = sp.Mul(*rest)
        if not (product.is_Mul or product.is_Pow):
            return str(self._print(product))
        over, under = sp.fraction(product, exact=True)
        if under == 1:
            return str(super()._print_Mul(product))
        if _is_negative(product):
            return f"- {self._print(-product)}"
        if self._inline or self._bars:
            slashed = self._slashed(over, under)
            outside = re.sub(r"\^\{[^{}]*\}", "", slashed)  # of exponents
            if self._inline or (width(slashed) <= SHORT and outside.count("/") == 1):
                return slashed
        self._bars += 1
        try:
            return str(super()._print_Mul(product))
        finally:
            self._bars -= 1

    def _slashed(self, over: sp.Expr, under: sp.Expr) -> str:
        self._inline += 1
        try:
            top, bottom = self.parenthesize(over, PRECEDENCE["Add"]), self._print(under)
        finally:
            self._inline -= 1
        is_one = under.is_Atom or (under.is_Pow and under.exp.is_positive)
        return f"{top} / {bottom}" if is_one else rf"{top} / \left({bottom}\right)"

    def in_line(self, expr: sp.Expr) -> str:
        """Fractions with a slash, as in an exponent."""
        self._inline += 1
        try:
            return str(self._print(expr))
        finally:
            self._inline -= 1

    def _print_Rational(self, expr: sp.Rational) -> str:
        if expr.q == 1 or not (self._inline or self._bars):
            return str(super()._print_Rational(expr))
        return f"- {-expr.p} / {expr.q}" if expr.p < 0 else f"{expr.p} / {expr.q}"

    def _print_Pow(self, expr: sp.Expr) -> str:
        base, power = expr.args
        if power.is_Integer and power % 2 == 0 and _is_rate_less_one(base):
            return str(self._print((-base) ** power))
        return str(super()._print_Pow(expr))

    def _helper_print_standard_power(self, expr: sp.Expr, template: str) -> str:
        base = self.parenthesize(expr.base, PRECEDENCE["Pow"])
        if expr.base.is_Symbol:
            base = self.parenthesize_super(base)
        return template % (base, self.in_line(expr.exp))

    def _print_ExpBase(self, expr: sp.Expr, exp: str | None = None) -> str:
        return str(self._do_exponent(f"e^{{{self.in_line(expr.args[0])}}}", exp))

    def _print_Subs(self, expr: sp.Expr) -> str:
        inner, old, new = expr.args
        body = self._print(inner)
        if inner.is_Add:
            body = rf"\left({body}\right)"
        point = r",\, ".join(
            self._print(a) + (r" \to " if b.has(a) else " = ") + self.in_line(b)
            for a, b in zip(old, new, strict=True)
        )
        return rf"\left. {body} \right|_{{{point}}}"

    def _print_Limit(self, expr: sp.Expr) -> str:
        inner, symbol, point, side = expr.args
        arrow = r" \downarrow " if str(side) == "+" and not point.is_infinite else r" \to "
        at = self._print(symbol) + arrow + self._print(point)
        body = self._print(inner)
        return rf"\lim_{{{at}}} " + (rf"\left({body}\right)" if inner.is_Add else body)


def _is_rate_less_one(expr: sp.Expr) -> bool:
    """Whether it is p - 1 or the like: a reader expects 1 - p of a chance, n - 1 of a count."""
    if not expr.is_Add:
        return False
    constant, rest = expr.as_coeff_Add()
    return constant == -1 and all(
        term.is_Symbol and _RATE.fullmatch(term.name) for term in sp.Add.make_args(rest)
    )


def _signed(term: sp.Expr) -> sp.Expr:
    """The same product with its signs where a reader expects them: p (1 - p) for -p (p - 1)."""
    if not term.is_Mul or any(f.is_Number for f in term.args[1:]):
        return term
    factors = list(term.args)
    odd = [
        i
        for i, f in enumerate(factors)
        if f.as_base_exp()[0].is_Add and f.as_base_exp()[1].is_Integer and f.as_base_exp()[1] % 2
    ]
    flips = [i for i in odd if _is_rate_less_one(factors[i].as_base_exp()[0])]
    if _is_negative(term) != (len(flips) % 2 == 1):
        # a minus sign would stand before: one more sum turns if it is not written as it should be
        spare = [
            i for i in odd if i not in flips and _minus_share(factors[i]) >= (0.5 if flips else 0.6)
        ]
        flips += spare[:1]
    for i in flips:
        base, power = factors[i].as_base_exp()
        factors[i] = (-base) ** power
    if len(flips) % 2:
        factors[0:1] = [-factors[0]] if factors[0].is_Number else [sp.S.NegativeOne, factors[0]]
    factors = [f for f in factors if f != 1]
    return sp.Mul(*factors, evaluate=False) if len(factors) > 1 else factors[0]


def _minus_share(factor: sp.Expr) -> float:
    terms = factor.as_base_exp()[0].args
    if any(t.is_Number and t.is_positive for t in terms):
        return 0.0  # 1 - a - b is as it should be
    return sum(_is_negative(t) for t in terms) / len(terms)


def _is_negative(term: sp.Expr) -> bool:
    """Whether a minus sign stands before it."""
    if term.is_Mul:
        term = term.args[0]
    return bool(term.is_Number and term.is_negative)


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
