"""Selection weight and quota of every method as functions of the success rate, side by side.

All are scaled to a largest value of 1, by the closed forms that chapters 5 and 9 prove.
"""

from __future__ import annotations

import sympy as sp

from theory.finite_groups import binomial_mean, mixed
from theory.gradient_std import L
from theory.gvm import gvm_weight, peak_weight, power, regulariser
from theory.speed import band_odds, screening_quota
from theory.speed import continued as continued_symbol
from theory.symbols import n, p, potential
from theory.two_answers import two_answers

half = sp.Rational(1, 2)
TEMPERATURE = sp.Rational(1, 20)  # this and the others as the schedulers' defaults
BAND = (sp.Rational(1, 5), sp.Rational(4, 5))
REGULARISER = sp.Rational(1, 1000)


def selection_shapes(
    *,
    temperature: sp.Expr | float = TEMPERATURE,
    pilots: int = 4,
    group: int = 24,
    band: tuple[sp.Expr, sp.Expr] = BAND,
) -> dict[str, sp.Expr]:
    """How often a prompt is trained on, relative to the success rate that a method likes best.

    Parameters
    ----------
    temperature : sympy number or float
        Of Eq. (14).
    pilots : int
        Of SPEED's screening, at least 2.
    group : int
        Rollouts per prompt of ``dapo`` and ``band``, at least 2.
    band : pair of sympy rationals
        Observed success rates that are kept; it must shut out groups without a spread.

    Returns
    -------
    dict of str to sympy expression
        By scheduler name, in ``theory.symbols.p``, on (0, 1).

    Raises
    ------
    ValueError
        If the band keeps nothing, or groups of one kind.
    """
    first, last = sp.ceiling(band[0] * group), sp.floor(band[1] * group)
    if not 1 <= first <= last < group:
        legal = f"keep some of 1 ... {group - 1} right answers of {group}, and not 0 or {group}"
        raise ValueError(f"selection_shapes: band must {legal}, got {band}")
    odds = band_odds(group, int(first), int(last))
    kept = binomial_mean(group, sp.Integer(1), int(first), int(last))
    return {
        "uniform": sp.Integer(1),
        "cures": sp.exp((potential - half) / temperature),  # Eq. (14)
        "speed": _relative(mixed.subs(n, pilots), half),
        "dapo": _relative(mixed.subs(n, group), half),
        "band": _relative(kept, odds / (1 + odds)),
    }


def quota_shapes(
    *, pilots: int = 4, continued: int = 20, a: sp.Expr = REGULARISER
) -> dict[str, sp.Expr]:
    """Mean number of rollouts of a visited prompt, relative to the success rate that gets most.

    Parameters
    ----------
    pilots, continued : int
        SPEED's screening and what follows it.
    a : sympy rational
        GVM's regulariser, with b = 2, in (0, 1).

    Returns
    -------
    dict of str to sympy expression
        By scheduler name, in ``theory.symbols.p``, on (0, 1); ``cures`` is Eq. (20) with the
        sigma of (21) for scores of one law, ``cures, two answers`` for a policy of two answers.
    """
    screened = screening_quota.subs({n: pilots, continued_symbol: continued})
    at = {regulariser: a, power: 2}
    return {
        "uniform": sp.Integer(1),
        "cures": 2 * potential,
        "cures, two answers": 4 * sp.sqrt(two_answers.subs(L, 1)),  # the top is 1/16 (5.5)
        "gvm": gvm_weight.subs(at) / peak_weight.subs(at),
        "speed": _relative(screened, half),
    }


def _relative(weight: sp.Expr, best: sp.Expr) -> sp.Expr:
    return weight / weight.subs(p, best)
