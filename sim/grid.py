"""Several estimators and populations in one command: a comparison per cell, one table over all.

Folder of a grid::

    grid.json                     names of its cells; its presence means that the folder is a grid
    POPULATION-ESTIMATOR/         a run folder like that of any comparison, readable on its own
    summary.json, summary.png     written when the cells asked for are finished

Cells share the root seed and nothing else. A grid may grow: asking for further cells leaves finished
ones alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cures.checks import fail
from cures.storage import read_json, write_json
from sim.compare import check_folder
from sim.run_folder import refuse_foreign
from sim.settings import REFERENCE, Settings
from sim.task import check_arms

Cells = dict[str, Settings]


def cells_of(settings: Sequence[Settings]) -> Cells:
    """Settings by the name of their cell.

    Raises
    ------
    ValueError
        If two cells have one name.

    Examples
    --------
    >>> list(cells_of([Settings(arms=("cures",), estimator=e) for e in ("grpo", "rloo")]))
    ['skills-grpo', 'skills-rloo']
    """
    cells: Cells = {}
    for one in settings:
        name = f"{one.population}-{one.estimator}"
        if name in cells:
            fail("compare", "populations and estimators", "named once each", name)
        cells[name] = one
    return cells


def prepare_grid(cells: Cells, root: Path) -> None:
    """Check every cell's options and folder before the first one runs, and claim the folder.

    Raises
    ------
    ValueError
        If a scheduler refuses its options in some cell, or the folder, or that of a cell, holds
        something else.
    """
    refuse_foreign("compare", "out", root, marker="grid.json", what="a folder of cells")
    for name, settings in cells.items():
        check_folder(settings, root / name)
    for settings in cells.values():
        check_arms(settings)
    path = root / "grid.json"
    stored: Any = []
    if path.is_file():
        content = read_json(path)
        stored = content.get("cells") if isinstance(content, Mapping) else None
        if not isinstance(stored, list) or not all(isinstance(name, str) for name in stored):
            fail("compare", str(path), "an object with a list of names, 'cells'", content)
    root.mkdir(parents=True, exist_ok=True)
    write_json(path, {"cells": list(dict.fromkeys([*stored, *cells]))})


def summarise(cells: Cells, comparisons: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What ``summary.json`` holds: final success and difference of every arm in every cell."""
    rows = []
    for name, settings in cells.items():
        for arm, row in comparisons[name]["arms"].items():
            rows.append(
                {
                    "cell": name,
                    "population": settings.population,
                    "estimator": settings.estimator,
                    "arm": arm,
                    "seeds": comparisons[name]["seeds"],
                    "told_true_rates": row["told_true_rates"],
                    "final": row["final"],
                    **({} if arm == REFERENCE else {"difference": row["difference"]}),
                }
            )
    return {"reference": REFERENCE, "rows": rows}
