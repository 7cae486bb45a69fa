"""All claims, in reading order."""

from __future__ import annotations

from importlib import import_module

from theory.claims import Claim

# reading order: from one prompt to many, from gradients to counts, then the rivals
CONCEPTS = (
    "bound",
    "dataset",
    "sampling",
    "quota",
    "gradient_std",
    "finite_groups",
    "posterior",
    "signal",
    "rivals",
)


def all_claims() -> list[Claim]:
    """Every claim of every concept; numbers are unique and in order."""
    claims = [c for name in CONCEPTS for c in import_module(f"theory.{name}").CLAIMS]
    numbers = [claim.number for claim in claims]
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"all_claims: numbers must be unique, got {numbers}")
    return claims
