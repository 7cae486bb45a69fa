"""The run folder of a calibration, written after everything is computed; the population last.

::

    config.json       settings, and digests of the files they were applied to
    arrays.npz        what the figures are drawn from
    calibration.png   populations that fit, observed and fitted counts, progress in training
    calibration.json  every number, with both kinds of intervals
    population.json   for --population of the other commands; there only if all the rest is
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cures.checks import fail
from cures.storage import read_json, save_state, write_json
from sim.calibration.evidence import WHERE
from sim.calibration.picture import draw
from sim.calibration.study import Calibration
from sim.picture import save
from sim.population_file import write_population
from sim.run_folder import refuse_foreign


def check_folder(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a folder of something else, before anything is computed; nothing is touched.

    Raises
    ------
    ValueError
        If ``folder`` is a file, holds other files without a ``config.json``, or a calibration with
        other settings or of other evidence (the first difference is named).
    """
    refuse_foreign(WHERE, "out", folder, marker="config.json", what="a calibration")
    path = folder / "config.json"
    if not path.exists():
        return
    stored = read_json(path)
    if not isinstance(stored, dict):
        fail(WHERE, str(path), "a JSON object of settings", stored)
    for key in sorted(config.keys() | stored.keys()):
        if config.get(key) != stored.get(key):
            legal = f"{stored.get(key)!r} as in {path} (or choose another --out)"
            fail(WHERE, key, legal, config.get(key))


def write(folder: Path, config: dict[str, Any], result: Calibration) -> None:
    """Write everything; each file is whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    save_state(folder / "arrays.npz", result.arrays)
    save(draw(result.report, result.arrays), folder / "calibration.png")
    write_json(folder / "calibration.json", result.report)
    write_population(folder / "population.json", result.law)
