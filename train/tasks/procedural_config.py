"""Section ``[task]`` of kind "procedural"."""

from __future__ import annotations

from dataclasses import dataclass

from cures.checks import fail
from train.section import MAX_SIZE, option
from train.tasks.text_config import TextConfig


@dataclass(frozen=True, kw_only=True)
class ProceduralConfig(TextConfig):
    """Generated questions of reasoning-gym (train/tasks/procedural.py)."""

    kind: str = option("what is asked", "choice", "procedural", choices=("procedural",))
    generators: str = option(
        "names of reasoning-gym's data sets, separated by commas; each is a category", "text"
    )
    pool_size: int = option("prompts to train on", "int", low=1, high=MAX_SIZE)
    held_out_size: int = option("unseen questions for evaluation", "int", 500, low=2, high=MAX_SIZE)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.names
        legal = "distinct names separated by commas, at most as many as pool_size and held_out_size"
        if not all(names) or len(set(names)) < len(names):
            fail("[task]", "generators", legal, self.generators)
        if len(names) > min(self.pool_size, self.held_out_size):
            fail("[task]", "generators", legal, self.generators)

    @property
    def names(self) -> list[str]:
        """The data sets."""
        return [name.strip() for name in self.generators.split(",")]
