"""Every claim holds, every wrong version of every formula is found out."""

from __future__ import annotations

import pytest
import sympy as sp

from tests.theory_vs_numeric.mutants import mutants
from theory.check import is_refuted, verdict
from theory.claims import Claim
from theory.decide import is_zero
from theory.registry import all_claims

CLAIMS = all_claims()
by_number = pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.number)


def test_there_are_enough_claims_in_order():
    numbers = [tuple(int(part) for part in claim.number.split(".")) for claim in CLAIMS]
    assert numbers == sorted(numbers)
    assert len(numbers) >= 25  # what the theory set out to cover


@by_number
def test_claim_holds(claim: Claim):
    found = verdict(claim)
    assert found.failures == ()
    assert min(found.counts()) >= 1


@by_number
def test_wrong_formulas_are_refuted(claim: Claim):
    survivors = [
        f"{name}: {what}"
        for name, formula in claim.formulas.items()
        for what, wrong in mutants(formula)
        if not _is_same(wrong, formula) and not is_refuted(claim, {**claim.formulas, name: wrong})
    ]
    assert survivors == []


def _is_same(wrong: sp.Expr, formula: sp.Expr) -> bool:
    """Whether a mutant is none: the same function, or undefined."""
    if wrong.has(sp.zoo, sp.nan):
        return True
    try:
        return is_zero(wrong - formula)
    except ValueError:  # undecided: it has to be refuted like any other
        return False


@by_number
def test_text_is_complete(claim: Claim):
    for text in (claim.statement, claim.condition, claim.correction, claim.title):
        assert claim.tex(text).count("$") % 2 == 0
    assert claim.source.startswith(("Eq. (", "Section", "Lemma", "Figure", "not in the paper")) or (
        "Eq" in claim.source
    )
