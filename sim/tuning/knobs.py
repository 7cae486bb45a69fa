"""The table of what may vary: keywords, ranges, scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GROUP_SIZE = "group_size"
Value = bool | int | float


@dataclass(frozen=True, slots=True)
class Knob:
    """A keyword and where it is searched.

    Attributes
    ----------
    key : str
        Keyword of the scheduler, or ``group_size``.
    low, high : float
        Inclusive.
    is_log, is_whole : bool
    meaning : str
    can_be_zero : bool
        Zero is tried beside the range: a switch ``KEY>0`` decides, the range applies if it is on.
    times : {'', 'batch_size', 'group_size'}
        The keyword is the searched factor times this, rounded; so a range means the same at any size.
    default : float, optional
        Where the scheduler's own default is ``None`` or is expressed by a factor.
    """

    key: str
    low: float
    high: float
    is_log: bool
    is_whole: bool
    meaning: str
    can_be_zero: bool = False
    times: str = ""
    default: float | None = None

    @property
    def name(self) -> str:
        """Of the searched number: ``screening_batch/batch_size`` where it is a factor."""
        return f"{self.key}/{self.times}" if self.times else self.key

    @property
    def switch(self) -> str:
        """Of the decision whether the keyword is above zero."""
        return f"{self.key}>0"

    def grid(self, points: int) -> list[Value]:
        """At most ``points`` >= 2 values from ``low`` to ``high``, evenly spaced on the knob's scale."""
        space = np.geomspace if self.is_log else np.linspace
        values = space(self.low, self.high, points)
        if not self.is_whole:
            return [float(f"{value:.6g}") for value in values]
        return [int(value) for value in np.unique(np.rint(values).astype(int))]


# Ranges are wide enough that both ends are known to be poor, or to make no difference, somewhere.
TABLE = (
    Knob("temperature", 0.005, 1.0, True, False, "tau of the prompt distribution"),
    Knob("num_subsets", 1, 64, True, True, "T, parts of the pool", default=15),
    Knob("pilots", 1, 16, True, True, "N', rollouts per prompt before a subset's first step"),
    Knob("steps_per_subset", 1, 256, True, True, "M, updates per subset"),
    Knob("forgetting", 0.003, 0.5, True, False, "evidence lost per update", can_be_zero=True),
    Knob("rollouts_per_copy", 2, 8, False, True, "rollouts of one copy of a prompt"),
    Knob("alpha", 1e-4, 1.0, True, False, "regulariser of the quota weight"),
    Knob("beta", 0.0, 4.0, False, False, "exponent of the quota weight"),
    Knob("screening_size", 0.2, 0.8, False, False, "share of a group that screens it",
         times="group_size", default=0.5),
    Knob("screening_batch", 1.0, 8.0, True, False, "new prompts per plan, in batches",
         times="batch_size", default=4.0),
    Knob("refill_size", 1.0, 6.0, True, False, "prompts per generation batch, in batches",
         times="batch_size", default=3.0),
    Knob("memory_passes", 0.25, 16.0, True, False, "passes over the pool until evidence fades, to "
         "begin with where the memory is chosen along the way (choose_memory)"),
    Knob("threshold", 0.03, 1.0, True, False, "chance of a mixed group at which a prompt has half of "
         "the largest share"),
    Knob("rest", 1, 16, True, True, "least updates between visits of a prompt, on average"),
    Knob("candidates_per_prompt", 1, 32, True, True, "candidates per prompt of the batch"),
    Knob("low", 0.0, 0.45, False, False, "least success share of a group that is kept"),
    Knob("high", 0.55, 1.0, False, False, "largest success share of a group that is kept"),
    Knob("num_stages", 1, 10, False, True, "parts of the curriculum"),
)  # fmt: skip
WHOLE_BATCHES = ("cures-released", "staged")  # their parts of the pool hold at least one batch
GROUP_SIZES = (4, 32)  # n: divisors of an update's rollouts in this range
