"""The settings of a calibration: validated at birth, dumped with the results."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cures.checks import as_choice, as_float, as_int, fail
from sim.calibration.evidence import WHERE
from sim.population_file import NAME, POLICIES
from sim.populations import POPULATIONS

FEWEST_VISITED_TWICE = 100  # prompts; with fewer, movement is not told from chance


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings:
    """What is estimated from what; checked at birth.

    Attributes
    ----------
    pilots : str
        Path of ``outcomes.jsonl`` with pilots.
    log : str, optional
        Path of the ``outcomes.jsonl`` of a training run, for drift, transfer and learning rate.
    name : str
        Of the population.
    at_step : int, optional
        Take every group that the policy of this step answered, pilot or not; ``None``: the pilots of
        the earliest step that has any.
    group_size : int
        Rollouts of one group, for the chance that it is mixed; >= 2.
    pool : int, optional
        Prompts of the simulated pool when the learning rate is matched; ``None``: those in the log.
    policy : str
        Simulated policy.
    confidence : float in (0, 1)
    bootstrap : int
        Draws, >= 2.
    most_prompts : int
        Prompts of the log that drift and transfer are estimated from, at most.
    seed : int
    """

    pilots: str
    log: str | None = None
    name: str = "calibrated"
    at_step: int | None = None
    group_size: int = 8
    pool: int | None = None
    policy: str = "item_response"
    confidence: float = 0.95
    bootstrap: int = 200
    most_prompts: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.name) is None:
            fail(WHERE, "name", "1 to 64 letters, digits, '.', '_' or '-'", self.name)
        if self.name in POPULATIONS:
            fail(WHERE, "name", f"none of {list(POPULATIONS)}, which are built in", self.name)
        as_int(WHERE, "group_size", self.group_size, 2)
        as_choice(WHERE, "policy", self.policy, POLICIES)
        as_float(
            WHERE, "confidence", self.confidence, 0.0, 1.0, open_low=True, open_high=True
        )  # fmt: skip
        as_int(WHERE, "bootstrap", self.bootstrap, 2)
        as_int(WHERE, "most_prompts", self.most_prompts, FEWEST_VISITED_TWICE)
        as_int(WHERE, "seed", self.seed, 0)
        if self.pool is not None:
            as_int(WHERE, "pool", self.pool, 1)
        if self.at_step is not None:
            as_int(WHERE, "at_step", self.at_step, 0)

    def as_json(self) -> dict[str, Any]:
        """What ``config.json`` holds: the settings, and which bytes they were applied to."""
        files = {"pilots": self.pilots, **({"log": self.log} if self.log else {})}
        digest = {
            f"{key}_sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for key, path in files.items()
        }
        return {**asdict(self), **digest}
