"""All claims, in reading order: from one prompt to many, from gradients to counts, then the rivals."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from theory.claims import Claim


@dataclass(frozen=True, slots=True)
class Chapter:
    """A concept: the number before the dot, a title, and the modules that hold its claims."""

    number: int
    title: str
    modules: tuple[str, ...]


CHAPTERS = (
    Chapter(1, "One prompt: the bound", ("bound", "cramer_rao", "exact_problem", "finite_radius")),
    Chapter(
        2,
        "Many prompts: the bound on a dataset",
        ("average_bound", "average_radius", "average_sampling", "own_objective"),
    ),
    Chapter(3, "Which prompts: sampling", ("sampling", "temperature", "effective_size")),
    Chapter(
        4,
        "How many rollouts: the quota",
        ("estimate_variance", "quota", "integer_quota", "wrong_sigma", "duplicates"),
    ),
    Chapter(
        5,
        "Variance of one rollout's gradient",
        ("gradient_std", "gradient_shape", "two_answers", "few_answers"),
    ),
    Chapter(
        6,
        "Finite groups of rollouts",
        (
            "finite_groups",
            "group_variance",
            "group_normalisation",
            "group_scale",
            "group_worth",
            "finite_quota",
            "signal_quota",
        ),
    ),
    Chapter(
        7,
        "What is known of a success rate: the posterior",
        ("posterior", "beta_moments", "plug_in", "pilots", "forgetting", "wrong_side"),
    ),
    Chapter(
        8,
        "What a prompt can teach: signal",
        ("signal", "squared_gradient", "mean_distance", "objective_gain", "coin_detection"),
    ),
    Chapter(9, "The rivals in the same language", ("gvm", "speed", "screened_groups", "refill")),
)


def all_claims() -> list[Claim]:
    """Every claim, by number.

    Raises
    ------
    ValueError
        If a number is taken twice or belongs to another chapter.
    """
    claims = [
        (chapter.number, claim)
        for chapter in CHAPTERS
        for name in chapter.modules
        for claim in import_module(f"theory.{name}").CLAIMS
    ]
    numbers = [claim.number for _, claim in claims]
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"all_claims: numbers must be unique, got {numbers}")
    for chapter_number, claim in claims:
        if number_key(claim.number)[0] != chapter_number:
            raise ValueError(f"all_claims: {claim.number} stands in chapter {chapter_number}")
    return sorted((claim for _, claim in claims), key=lambda claim: number_key(claim.number))


def number_key(number: str) -> tuple[int, ...]:
    """``"4.10"`` as (4, 10), which sorts after (4, 9)."""
    return tuple(int(part) for part in number.split("."))


def chapter_of(claim: Claim) -> Chapter:
    """Where a claim stands."""
    return next(c for c in CHAPTERS if c.number == number_key(claim.number)[0])
