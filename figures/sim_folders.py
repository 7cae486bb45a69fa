"""Reading the run folders of ``sim compare``: arms, curves, updates and evidence, as arrays.

Additional axis suffixes: ``_S`` seeds, ``_E`` points of the common grid of generated rollouts, ``_U``
updates, 0 (before the first one) included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cures.checks import FloatArray, as_choice, fail
from cures.comparison import paired_difference
from cures.storage import load_state, read_jsonl
from figures.run_folders import read_fields
from sim.wording import difference_text

FloatMatrix = NDArray[np.float64]
FRACTION = 0.8  # of uniform's gain on development seeds: the level to reach
CONFIG = (
    "arms", "options", "population", "estimator", "optimiser", "seeds", "rollouts", "batch_size",
    "group_size",
)  # fmt: skip


class AnyComparison(Protocol):
    """What a figure needs of a comparison, simulated or of a language model."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """Settings by name."""
        ...

    @property
    def arms(self) -> list[str]:
        """Compared arms."""
        ...

    @property
    def seeds(self) -> int:
        """Paired seeds of every arm."""
        ...

    def options(self, arm: str) -> dict[str, Any]:
        """Of the arm's scheduler."""
        ...

    def curve(self, arm: str) -> tuple[FloatArray, FloatMatrix]:
        """Grid of generated rollouts (E,) and held-out success on it (S, E)."""
        ...

    def by_update(self, arm: str) -> FloatMatrix:
        """Held-out success after 0, 1, 2 ... updates, (S, U)."""
        ...

    def outcomes(self, arm: str) -> list[list[dict[str, Any]]]:
        """Rows of ``outcomes.jsonl`` per seed."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison.

    Attributes
    ----------
    folder : Path
    config, result : dict
        ``config.json`` and ``comparison.json``.
    """

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def arms(self) -> list[str]:
        """Arms, in the order of the settings."""
        return list(self.config["arms"])

    @property
    def seeds(self) -> int:
        """Paired seeds of every arm."""
        return int(self.config["seeds"])

    def options(self, arm: str) -> dict[str, Any]:
        """Keyword arguments that the arm's scheduler was given."""
        return dict(self.config["options"].get(arm, {}))

    def curve(self, arm: str) -> tuple[FloatArray, FloatMatrix]:
        """Grid of generated rollouts (E,) and held-out success on it (S, E)."""
        curves = [load_state(folder / "curve.npz") for folder in self._folders(arm)]
        grid_E = np.asarray(curves[0]["grid_E"])
        return grid_E, np.array([curve["held_out_E"] for curve in curves])

    def by_update(self, arm: str) -> FloatMatrix:
        """Held-out success after 0, 1, 2 ... updates, as many as every seed has, (S, U)."""
        curves = [load_state(folder / "curve.npz") for folder in self._folders(arm)]
        rows = [[curve["start"], *np.asarray(curve["held_out_U"])] for curve in curves]
        shortest = min(map(len, rows))
        return np.array([row[:shortest] for row in rows], dtype=np.float64)

    def metric(self, arm: str, key: str) -> FloatMatrix:
        """A column of ``metrics.jsonl``, as many updates as every seed has, (S, U - 1)."""
        rows = [
            [row[key] for row in read_jsonl(folder / "metrics.jsonl")]
            for folder in self._folders(arm)
        ]
        shortest = min(map(len, rows))
        return np.array([row[:shortest] for row in rows], dtype=np.float64)

    def outcomes(self, arm: str) -> list[list[dict[str, Any]]]:
        """Rows of ``outcomes.jsonl`` per seed."""
        paths = [folder / "outcomes.jsonl" for folder in self._folders(arm)]
        for path in paths:
            if not path.exists():
                fail("figures", "run folder", f"with {path.name} (--outcomes)", str(path.parent))
        return [read_jsonl(path) for path in paths]

    def _folders(self, arm: str) -> list[Path]:
        as_choice("figures", f"arm of {self.folder}", arm, tuple(self.arms))
        return [self.folder / "arms" / f"{arm}-{seed}" for seed in range(self.seeds)]


def read(folder: Path) -> Comparison:
    """A finished comparison.

    Raises
    ------
    ValueError
        If the folder does not hold one.
    """
    for name in ("config.json", "comparison.json"):
        if not (folder / name).is_file():
            legal = f"a finished comparison with {name} (python -m figures runs makes them)"
            fail("figures", "run folder", legal, str(folder))
    config = read_fields(folder / "config.json", CONFIG)
    return Comparison(folder, config, read_fields(folder / "comparison.json", ("start", "arms")))


def difference(arm_S: FloatArray, reference_S: FloatArray) -> FloatArray:
    """Mean of the paired differences with the ends of its 95 % interval: NaN below six seeds."""
    result = paired_difference(arm_S, reference_S)
    values = np.array([result.mean, result.low, result.high])
    return np.where(np.isfinite(values), values, np.nan)


def in_words(values: FloatArray) -> str:
    """What :func:`difference` returns, as text.

    Examples
    --------
    >>> in_words(np.array([0.01, -0.002, 0.022])), in_words(np.array([0.01, np.nan, np.nan]))
    ('+0.010 [-0.002, +0.022]', '+0.010')
    """
    return difference_text(dict(zip(("mean", "low", "high"), values, strict=True)), digits=3)


One = TypeVar("One", bound=AnyComparison)


def by_label(
    folders: Iterable[Path], key: Callable[[Comparison], str], where: str
) -> dict[str, Comparison]:
    """Comparisons of folders by a label that must be unique among them.

    Raises
    ------
    ValueError
        If two folders have the same label.
    """
    return labelled([read(folder) for folder in folders], key, where)


def labelled(comparisons: Iterable[One], key: Callable[[One], str], where: str) -> dict[str, One]:
    """Comparisons by a label that must be unique among them.

    Raises
    ------
    ValueError
        If two have the same label.
    """
    found: dict[str, One] = {}
    for comparison in comparisons:
        label = key(comparison)
        if label in found:
            pair = [str(found[label].folder), str(comparison.folder)]
            fail(where, "run folders", f"one of {label}", pair)
        found[label] = comparison
    return found
