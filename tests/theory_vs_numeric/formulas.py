"""The formulas of a claim, by number and name: what the report prints and the proof is about."""

from __future__ import annotations

from types import ModuleType

import sympy as sp

from theory.claims import Claim


def formula(module: ModuleType, number: str, name: str) -> sp.Expr:
    """Formula ``name`` of claim ``number`` in a module of ``theory``."""
    claim: Claim = next(c for c in module.CLAIMS if c.number == number)
    return claim.formulas[name]
