"""Section ``[task]`` of kind "arithmetic"."""

from __future__ import annotations

from dataclasses import dataclass

from cures.checks import fail
from train.section import MAX_SEED, MAX_SIZE, Section, option

FAMILIES = ("add", "sub", "mul", "dig")


@dataclass(frozen=True, kw_only=True)
class ArithmeticConfig(Section):
    """Arithmetic in fixed slots (train/tasks/arithmetic.py)."""

    TITLE = "task"

    kind: str = option("what is asked", "choice", "arithmetic", choices=("arithmetic",))
    families: tuple[str, ...] = option("operators", "list", FAMILIES, choices=FAMILIES)
    digits: tuple[int, ...] = option(
        "numbers of digits of the operands", "list", (1, 2, 3, 4), choices=(1, 2, 3, 4)
    )
    pool_size: int = option("prompts to train on", "int", low=1, high=MAX_SIZE)
    held_out_size: int = option("unseen problems for evaluation", "int", 500, low=2, high=MAX_SIZE)
    dead_never: float = option(
        "share of the pool that is never right", "float", 0.0, low=0.0, high=1.0
    )
    dead_always: float = option(
        "share of the pool that is always right", "float", 0.0, low=0.0, high=1.0
    )
    coins: float = option(
        "share of the pool whose reward is a fair coin", "float", 0.0, low=0.0, high=1.0
    )
    seed: int = option("seed of the prompts", "int", 0, low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        total = self.dead_never + self.dead_always + self.coins
        if total > 1.0 + 1e-9:  # 0.6 + 0.3 + 0.1 may exceed 1 in the last bit
            fail("[task]", "dead_never + dead_always + coins", "at most 1", total)
