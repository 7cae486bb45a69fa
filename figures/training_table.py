"""Training runs in numbers: one row per arm, read from run folders, for the demo and docs/results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cures.comparison import PairedDifference, harm_verdict, paired_difference
from cures.ledger import shares
from figures.run_folders import by_arm
from sim.settings import REFERENCE

MARGIN = 0.01  # largest loss of held-out success that counts as no harm on a real model


@dataclass(frozen=True, slots=True)
class ArmRow:
    """Means over the seeds of one arm.

    Attributes
    ----------
    before, after : float
        Held-out success rate.
    generated : float
        Rollouts of a run.
    pilot, trained : float
        Shares of the generated rollouts (:func:`cures.ledger.shares`).
    wasted : float
        Share of the trained rollouts whose advantage is 0.
    updates : float
    difference : PairedDifference or None
        ``after`` minus the reference's; ``None`` for the reference.
    """

    before: float
    after: float
    generated: float
    pilot: float
    trained: float
    wasted: float
    updates: float
    difference: PairedDifference | None

    @property
    def verdict(self) -> str:
        """Non-inferiority at :data:`MARGIN`."""
        return "reference" if self.difference is None else harm_verdict(self.difference, MARGIN)


def rows(folders: list[Path]) -> dict[str, ArmRow]:
    """A row per arm, the reference first.

    Raises
    ------
    ValueError
        If the runs cannot be compared (:func:`figures.run_folders.by_arm`).
    """
    arms = by_arm(folders)
    end = {arm: _summaries(runs, "held_out_end") for arm, runs in arms.items()}
    result = {}
    for arm, runs in arms.items():
        share = [shares(run["summary"]["ledger"]) for run in runs]
        result[arm] = ArmRow(
            before=float(np.mean(_summaries(runs, "held_out_start"))),
            after=float(np.mean(end[arm])),
            generated=float(np.mean(_summaries(runs, "generated"))),
            pilot=float(np.mean([row["pilot"] for row in share])),
            trained=float(np.mean([row["trained"] for row in share])),
            wasted=float(np.mean([wasted(run) for run in runs])),
            updates=float(np.mean(_summaries(runs, "updates"))),
            difference=None if arm == REFERENCE else paired_difference(end[arm], end[REFERENCE]),
        )
    return result


def _summaries(runs: list[dict[str, Any]], key: str) -> list[float]:
    return [run["summary"][key] for run in runs]


def wasted(run: dict[str, Any]) -> float:
    """Share of a run's trained rollouts whose advantage is 0."""
    updates = [row for row in run["metrics"] if row["trained"]]
    return float(
        np.average([row["wasted"] for row in updates], weights=[row["trained"] for row in updates])
    )
