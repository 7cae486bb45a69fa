"""Does the trainer learn? Five seeds of the CPU default, and one run of the longer comparison.

Every seed has a warm start of its own, stopped as soon as the success rate on problems that it never saw
reaches 0.35. Whatever is missing under ``--runs`` is run or resumed; ``--page`` writes the table::

    python benchmarks/learning.py --page docs/results/learning.md
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cures.storage import atomic_write, read_json, read_jsonl
from figures.provenance import provenance
from figures.results import stamp
from figures.run_folders import cpu_clock
from figures.training_runs import run_quietly, training_command


@dataclass(frozen=True)
class Case:
    """A configuration, what is set in it, and what is asked of it."""

    name: str
    config: str
    settings: Mapping[str, Any]
    seeds: int
    aim: str


RUNS = Path("runs/learning")
WARM_START = {
    "warm_start.target_success": 0.35,
    "warm_start.steps": 2000,
    "warm_start.check_problems": 1000,
}
CASES = (
    Case(
        "tiny_cpu",
        "configs/tiny_cpu.toml",
        {**WARM_START, "run.rollouts": 119_808},
        5,
        "at least 0.15 above the start on 5 of 5 seeds",
    ),
    Case(
        "bench_cpu",
        "configs/bench_cpu.toml",
        {**WARM_START, "run.rollouts": 499_712},
        1,
        "at least 0.70",
    ),
)
HEADER = """\
# Does the trainer learn?

The tiny language model under uniform sampling, plain GRPO: every row has a warm start of its own,
stopped by the success rate on 1,000 problems that it had never seen, then so many generated rollouts.
Held-out success is sampled on 500 other unseen problems, 8 answers each, among which one-digit
problems are more frequent, hence the higher start.
"""
SPEED = "The CPU minutes depend on the machine's speed, no other number does."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"folder of the runs ({RUNS})")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--page", type=Path, help="markdown page to write")
    options = parser.parse_args(arguments)
    made_at = stamp(options.runs)
    work = [(case, seed) for case in reversed(CASES) for seed in range(case.seeds)]
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            list(pool.map(lambda one: _train(options.runs, *one), work))
        except subprocess.CalledProcessError as error:
            sys.exit(f"this command failed: {' '.join(map(str, error.cmd))}")
    text = table(options.runs)
    print(text)
    if options.page:
        command = "python benchmarks/learning.py"
        if options.runs != RUNS:
            command += f" --runs {options.runs.as_posix()}"
        origin = provenance(command, made_at=made_at, speed=SPEED) + "\n"
        atomic_write(options.page, "\n".join([HEADER, origin, text]).encode())
    return 0


def _folder(root: Path, case: Case, seed: int) -> Path:
    return root / f"{case.name}-seed{seed}"


def _train(root: Path, case: Case, seed: int) -> None:
    own = {"run.seed": seed, "warm_start.seed": seed, "run.cache": f"{root}/warm_start"}
    settings = {**case.settings, **own}
    run_quietly(training_command(case.config, "uniform", _folder(root, case, seed), settings))


def table(root: Path) -> str:
    """One row per run."""
    lines = [
        "| configuration | seed | warm start, unseen problems | held-out before | after | gain | "
        "rollouts | updates | CPU min |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for case in CASES:
        rows = [_row(root, case, seed) for seed in range(case.seeds)]
        lines += ["| " + " | ".join(row["cells"]) + " |" for row in rows]
        if case.name == "tiny_cpu":
            reached = sum(row["gain"] >= 0.15 for row in rows)
            verdicts.append(f"{case.config}: aim {case.aim}; reached by {reached}.")
        else:
            verdicts.append(f"{case.config}: aim {case.aim}; reached {rows[0]['after']:.3f}.")
    return "\n".join([*lines, "", *verdicts]) + "\n"


def _row(root: Path, case: Case, seed: int) -> dict[str, Any]:
    folder = _folder(root, case, seed)
    summary = read_json(folder / "summary.json")
    about = [
        read_json(path)
        for path in (root / "warm_start").glob("*/about.json")
        if _made(read_json(path), read_json(folder / "config.json"))
    ]
    minutes = cpu_clock(read_jsonl(folder / "timing.jsonl"))[-1] / 60
    before, after = summary["held_out_start"], summary["held_out_end"]
    cells = (
        case.config, f"{seed}", f"{about[0]['success']:.3f}", f"{before:.3f}", f"{after:.3f}",
        f"{after - before:+.3f}", f"{summary['generated']:,}", f"{summary['updates']}",
        f"{minutes:.1f}",
    )  # fmt: skip
    return {"cells": cells, "gain": after - before, "after": after}


def _made(about: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether a cached warm start is that of a run."""
    depends_on = about["depends_on"]
    return all(depends_on[key] == config[key] for key in ("model", "warm_start")) and all(
        config["task"][key] == value for key, value in depends_on["task"].items()
    )


if __name__ == "__main__":
    sys.exit(main())
