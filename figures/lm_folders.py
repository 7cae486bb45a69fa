"""A comparison of training runs with the interface of :class:`figures.sim_folders.Comparison`.

So that one module draws a figure from the simulator and from the language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cures.checks import FloatArray, InWords, as_choice, fail
from figures.run_folders import check_comparable, read_run, scheduler_options
from figures.sim_folders import FloatMatrix

LABEL = "tiny language model"


@dataclass(frozen=True, slots=True)
class LmComparison:
    """Finished runs of a folder, ``ARM-seedK``.

    Attributes
    ----------
    folder : Path
    runs : dict of str to list
        Arm -> its runs by ascending seed, as :func:`figures.run_folders.read_run` gives them.
    """

    folder: Path
    runs: dict[str, list[dict[str, Any]]]

    @property
    def config(self) -> dict[str, Any]:
        """What figures ask of a comparison's settings."""
        one = next(iter(self.runs.values()))[0]["config"]
        batch = one["scheduler"]["batch_size"]
        return {
            "population": LABEL,
            "estimator": one["learner"]["estimator"],
            "optimiser": "adam",
            "batch_size": batch,
            "group_size": one["scheduler"]["budget"] // batch,
            "rollouts": one["run"]["rollouts"],
            "seeds": self.seeds,
        }

    @property
    def arms(self) -> list[str]:
        """Uniform first."""
        return sorted(self.runs, key=lambda arm: (arm != "uniform", _natural(arm)))

    @property
    def seeds(self) -> int:
        """Paired seeds of every arm."""
        return len(next(iter(self.runs.values())))

    def options(self, arm: str) -> dict[str, Any]:
        """Keywords that the arm's scheduler was given."""
        return scheduler_options(self._of(arm)[0]["config"])

    def curve(self, arm: str) -> tuple[FloatArray, FloatMatrix]:
        """Grid of generated rollouts (E,) and sampled held-out success on it (S, E)."""
        rows = [run["evaluation"] for run in self._of(arm)]
        shortest = min(map(len, rows))
        grid_E = np.array([row["generated"] for row in rows[0][:shortest]], dtype=np.float64)
        return grid_E, np.array([[row["held_out"] for row in run[:shortest]] for run in rows])

    def by_update(self, arm: str) -> FloatMatrix:
        """Held-out success after 0, 1, 2 ... updates (S, U): straight lines between evaluations."""
        rows = [run["evaluation"] for run in self._of(arm)]
        last = min(run[-1]["step"] for run in rows)
        curves = []
        for run in rows:
            held_out = {row["step"]: row["held_out"] for row in run}  # the latest of each update
            curves.append(np.interp(np.arange(last + 1), list(held_out), list(held_out.values())))
        return np.array(curves)

    def outcomes(self, arm: str) -> list[list[dict[str, Any]]]:
        """Rows of ``outcomes.jsonl`` per seed."""
        return [run["outcomes"] for run in self._of(arm)]

    def _of(self, arm: str) -> list[dict[str, Any]]:
        as_choice("figures", f"arm of {self.folder}", arm, tuple(self.runs))
        return self.runs[arm]


def read_lm(folder: Path) -> LmComparison:
    """All runs of a folder.

    Raises
    ------
    ValueError
        If there is none, one is not finished, arms have different warm starts, or two runs differ in
        more than scheduler and seeds.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-seed*")):
        arm, _, _ = path.name.rpartition("-seed")
        runs.setdefault(arm, []).append(read_run(path))
    if not runs:
        legal = "with training runs ARM-seedK (python -m figures lm_runs makes them)"
        fail("figures", str(folder), legal, InWords("none"))
    first = next(iter(runs.values()))
    first.sort(key=_seed)
    for arm, found in runs.items():
        found.sort(key=_seed)
        if [_seed(run) for run in found] != [_seed(run) for run in first]:
            legal = f"those of the other arms, {[_seed(run) for run in first]}"
            fail("figures", f"warm starts of {arm}", legal, [_seed(run) for run in found])
        for run in found:
            check_comparable(first[0]["config"], run["config"], arm)
    return LmComparison(folder, runs)


def _seed(run: dict[str, Any]) -> int:
    """Arms share the seed of the warm start; that of the rollouts may be another on purpose."""
    return int(run["config"]["warm_start"]["seed"])


def _natural(arm: str) -> tuple[str, int]:
    """``pilots4`` before ``pilots16``."""
    name = arm.rstrip("0123456789")
    return name, int(arm[len(name) :] or 0)
