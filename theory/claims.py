"""A claim: formulas, what kind of truth they are, and three independent ways of checking them.

A claim's checks receive its formulas as an argument and compare them with what they derive on their own.
A wrong formula must therefore fail, and the tests make sure of it: they change a factor, a sign or an
exponent and watch the claim break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np
import sympy as sp

from theory.decide import is_nonnegative, is_zero
from theory.typeset import latex, lines, width

Formulas = Mapping[str, sp.Expr]
Relation = Literal["=", "<", "<=", ">", ">=", "!="]

BAND = 4.0  # standard errors
WIDE = 80.0  # digits that a line of the report holds


class Status(Enum):
    """What became of a statement."""

    PROVED = "proved"
    CONDITIONAL = "proved under an extra condition"
    FALSE = "false as stated"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a proof: ``left = right``, or ``left >= right`` by a certificate.

    Parameters
    ----------
    words : str
        What is done in this line; mathematics between dollar signs, in LaTeX.
    left, right : sympy expression or number
        The two sides.
    certificate : sympy expression, optional
        If given, the line reads ``left >= right``: sympy must find ``left - right = certificate`` and
        see from the assumptions on the symbols alone that the certificate is not negative.
    name : str
        LaTeX of what the left side is (with a certificate: of what the difference is), printed in its
        place, where the computed form would be too long or, printing like the right side, say nothing.
    """

    words: str
    left: sp.Expr | int
    right: sp.Expr | int
    certificate: sp.Expr | None = None
    name: str = ""

    def holds(self) -> bool:
        """Whether sympy can decide that the line is true."""
        difference = sp.sympify(self.left) - sp.sympify(self.right)
        if self.certificate is None:
            return is_zero(difference)
        return is_zero(difference - self.certificate) and is_nonnegative(self.certificate)

    def latex(self) -> list[str]:
        """The line as LaTeX, without dollar signs; in several parts if it is too long for one line.

        Where both sides print alike, for one was computed and the other written down, the line is what
        they are.
        """
        left = [self.name] if self.name else lines(self.left, WIDE)
        right = lines(self.right, WIDE - 5)
        if self.certificate is not None:
            left += [] if self.name else _subtracted(sp.sympify(self.right))
            right = lines(self.certificate, WIDE - 5)
            right[-1] += r" \ge 0"
        elif not self.name and latex(self.left) == latex(self.right):
            return [" ".join(left)] if width(" ".join(left)) <= WIDE else left
        right[0] = f"= {right[0]}"
        whole = " ".join([*left, *right])
        if width(whole) <= WIDE:
            return [whole]
        if width(" ".join(left)) <= WIDE:
            left = [" ".join(left)]
        return [left[0], *(rf"\quad {part}" for part in (*left[1:], *right))]


def _subtracted(value: sp.Expr) -> list[str]:
    """`` - value``, or nothing if it is zero."""
    if value == 0:
        return []
    if value.is_Add:
        return [rf"- \left({latex(value)}\right)"]
    tex = latex(value)
    return [f"+ {tex[1:].lstrip()}" if tex.startswith("-") else f"- {tex}"]


_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: is_zero(a - b),
    "!=": lambda a, b: not is_zero(a - b),
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@dataclass(frozen=True, slots=True)
class Exact:
    """Two exact numbers from different routes, usually an enumeration in rationals and a formula.

    ``enumerated`` and ``formula`` are sympy numbers (rationals, or algebraic): no floating point.
    """

    what: str
    enumerated: sp.Expr | int
    formula: sp.Expr | int
    relation: Relation = "="

    def holds(self) -> bool:
        """Whether the relation is true."""
        left, right = sp.sympify(self.enumerated), sp.sympify(self.formula)
        for side in (left, right):
            if side.has(sp.Float) or side.free_symbols:
                raise ValueError(f"Exact: sides must be exact numbers, got {side} ({self.what})")
        return bool(_RELATIONS[self.relation](left, right))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A Monte Carlo mean with its standard error, the formula's value, and a wrong value.

    The band of four standard errors must hold ``expected`` and must not hold ``control``, so that an
    experiment too small to tell right from wrong fails too.
    """

    what: str
    mean: float
    standard_error: float
    expected: float
    control: float
    control_is: str  # which wrong formula the control is

    def holds(self) -> bool:
        """Whether the band separates the formula from the control."""
        band = BAND * self.standard_error
        inside = abs(self.mean - self.expected) <= band
        outside = abs(self.mean - self.control) > band
        return bool(np.isfinite(band)) and inside and outside

    @classmethod
    def of(
        cls,
        what: str,
        draw_S: np.ndarray[Any, np.dtype[np.float64]],
        expected: float,
        control: float,
        control_is: str,
    ) -> Estimate:
        """From independent draws, shape (S,)."""
        error = float(draw_S.std(ddof=1) / np.sqrt(draw_S.size))
        return cls(what, float(draw_S.mean()), error, float(expected), float(control), control_is)


@dataclass(frozen=True, slots=True)
class Search:
    """An optimum against what a numerical search finds, and a rival that the search must beat.

    ``claimed`` is the optimum by the formula, ``found`` the best of the search over the same set; they
    agree within ``tolerance``, relative. ``control`` is the value of a wrong optimum: it must be worse
    than ``found`` by more than the tolerance. ``sense`` says whether larger or smaller is better.
    """

    what: str
    claimed: float
    found: float
    control: float
    control_is: str
    sense: Literal["max", "min"]
    tolerance: float = 1e-6

    def holds(self) -> bool:
        """Whether the search arrives at the claimed optimum and past the control."""
        slack = self.tolerance * max(abs(self.claimed), abs(self.found))
        gain = self.found - self.control if self.sense == "max" else self.control - self.found
        return abs(self.found - self.claimed) <= slack and gain > slack


Evidence = Step | Exact | Estimate | Search


@dataclass(frozen=True, kw_only=True)
class Claim:
    r"""One numbered statement.

    Attributes
    ----------
    number : str
        ``"4.2"``: concept and place.
    source : str
        ``"Eq. (20)"``, or ``"not in the paper"``.
    title : str
        At most ten words.
    status : Status
    statement : str
        Sentences; mathematics between dollar signs, in LaTeX; ``<<name>>`` inside mathematics stands
        for the formula of that name, so that the report prints the object that is checked.
    condition : str
        What has to be assumed beyond the paper; given iff the status is CONDITIONAL.
    correction : str
        What is true instead; given iff the status is FALSE.
    formulas : mapping of str to sympy expression
        What the checks are about.
    prove : callable
        Formulas -> steps of a proof.
    enumerate : callable
        Formulas -> exact comparisons.
    sample : callable
        Formulas, numpy generator -> at least one Monte Carlo estimate; searches beside it.
    """

    number: str
    source: str
    title: str
    status: Status
    statement: str
    formulas: Formulas
    prove: Callable[[Formulas], Iterable[Step]]
    enumerate: Callable[[Formulas], Iterable[Exact]]
    sample: Callable[[Formulas, np.random.Generator], Iterable[Estimate | Search]]
    condition: str = ""
    correction: str = ""

    def __post_init__(self) -> None:
        wanted = {"condition": Status.CONDITIONAL, "correction": Status.FALSE}
        for name, status in wanted.items():
            if bool(getattr(self, name)) != (self.status is status):
                raise ValueError(f"Claim {self.number}: {name} must be given iff it is {status}")

    def evidence(self, formulas: Formulas | None = None, seed: int = 0) -> Iterator[Evidence]:
        """All checks, lazily: symbolic first, then exact, then numerical.

        Parameters
        ----------
        formulas : mapping, optional
            Instead of the claim's own; tests pass wrong ones.
        seed : int
            Of the Monte Carlo part.
        """
        used = self.formulas if formulas is None else formulas
        yield from self.prove(used)
        yield from self.enumerate(used)
        key = tuple(int(part) for part in self.number.split("."))
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
        yield from self.sample(used, generator)

    def tex(self, text: str) -> str:
        """``text`` with every ``<<name>>`` replaced by the formula's LaTeX."""
        for name, formula in self.formulas.items():
            text = text.replace(f"<<{name}>>", latex(formula))
        if "<<" in text:
            raise ValueError(
                f"Claim {self.number}: unknown formula in {text[text.index('<<') :]!r}"
            )
        return text


def kinds_missing(evidence: Iterable[Evidence]) -> list[str]:
    """Which of the three kinds of check did not take place."""
    kinds = {"symbolic": (Step,), "exact": (Exact,), "Monte Carlo": (Estimate,)}
    seen = {type(item) for item in evidence}
    return [name for name, kind in kinds.items() if not seen.intersection(kind)]


def numeric(
    expression: sp.Expr, symbols: Sequence[sp.Symbol] | sp.Symbol
) -> Callable[..., np.ndarray[Any, np.dtype[np.float64]]]:
    """The expression as a numpy function: the bridge from a claim to tests, figures and simulator."""
    function: Callable[..., np.ndarray[Any, np.dtype[np.float64]]]
    function = sp.lambdify(symbols, expression, modules=["scipy", "numpy"])
    return function
