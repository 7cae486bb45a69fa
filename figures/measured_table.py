"""Table 1 of the paper beside what was measured here: other models, other tasks, other units.

The paper's numbers are copied (percent, eight mathematics benchmarks); ours are read from run folders of
the simulator and, where the pages exist, from the tables of ``docs/results``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cures.checks import fail
from figures.sim_folders import by_label
from figures.style import ESTIMATORS, POOLS
from sim.wording import difference_text, verdict_text

BENCHMARKS = (
    "MATH500", "GSM8K", "GAO23", "Minerva", "Olympiad", "AIME24", "AIME25", "AMC23",
)  # fmt: skip
# The last column is the average as printed. Of the 1.5B base model it recomputes to 19.99.
PAPER = {
    "1.5B": {
        "base": (40.20, 43.90, 25.19, 11.40, 21.04, 1.67, 1.67, 14.84, 20.00),
        "GRPO": (73.80, 86.43, 48.83, 27.94, 35.41, 8.54, 6.67, 45.47, 41.64),
        "RPP": (64.80, 82.94, 42.08, 21.32, 29.19, 4.17, 3.33, 39.06, 35.86),
        "Speed-RL-GRPO": (68.80, 85.67, 47.14, 27.40, 35.56, 12.08, 6.88, 47.19, 41.34),
        "Speed-RL-RPP": (65.80, 85.67, 48.31, 27.94, 36.30, 12.58, 10.08, 47.34, 41.75),
        "GVM-GRPO": (74.80, 84.23, 48.83, 27.21, 35.56, 10.21, 11.25, 50.47, 42.82),
        "GVM-RPP": (75.40, 84.00, 49.61, 24.63, 35.56, 11.46, 6.04, 50.94, 42.21),
        "CurES-GRPO": (77.20, 85.97, 51.43, 31.62, 37.33, 13.33, 10.42, 52.19, 44.94),
        "CurES-RPP": (75.40, 85.82, 51.43, 28.31, 37.04, 12.71, 11.46, 50.94, 44.14),
    },
    "7B": {
        "base": (60.20, 72.40, 44.68, 22.79, 30.81, 7.92, 1.88, 27.19, 33.48),
        "GRPO": (80.00, 91.43, 51.43, 31.99, 38.37, 20.00, 10.00, 57.50, 47.59),
        "RPP": (81.20, 91.89, 55.58, 39.71, 40.00, 18.54, 11.67, 62.81, 50.18),
        "Speed-RL-GRPO": (82.80, 88.70, 55.58, 29.41, 42.37, 20.21, 11.46, 60.16, 48.84),
        "Speed-RL-RPP": (78.60, 91.81, 53.77, 37.13, 42.96, 17.29, 12.08, 62.81, 49.56),
        "GVM-GRPO": (81.60, 91.28, 54.03, 32.72, 42.67, 23.54, 15.00, 64.31, 50.64),
        "GVM-RPP": (81.60, 90.07, 55.32, 29.04, 40.30, 17.50, 8.33, 53.44, 46.95),
        "CurES-GRPO": (84.80, 92.27, 56.62, 37.87, 43.56, 24.58, 15.21, 64.38, 52.41),
        "CurES-RPP": (81.80, 91.89, 54.55, 33.09, 40.59, 23.33, 12.92, 58.75, 49.62),
    },
}
# Names of the paper's rows without the estimator, and the scheduler that stands for each.
METHODS = {"": "uniform", "Speed-RL-": "speed", "GVM-": "gvm", "CurES-": "cures"}
SHORT = {"grpo": "GRPO", "reinforce++": "RPP"}
INTRODUCTION = """\
Left: the paper's averages over eight mathematics benchmarks, in percent, copied from its Table 1.
Right: held-out success rates (not percent) of the same methods in the simulator, after
{rollouts:,} generated rollouts, mean of {seeds} paired seeds. **These are different tasks: the
right half reproduces nothing of the left**; it asks whether the order of the methods is the same
where all rollouts count."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Held-out success per pool, estimator and method.

    Returns
    -------
    dict
        ``rollouts``, ``seeds``, and per ``population/estimator``: ``start`` and, per arm, ``final``,
        ``difference`` and ``verdict`` as in ``comparison.json``.
    """
    comparisons = by_label(
        folders, lambda c: f"{c.config['population']}/{c.config['estimator']}", "measured_table"
    )
    first = next(iter(comparisons.values()))
    arrays: dict[str, Any] = {"rollouts": first.config["rollouts"], "seeds": first.seeds}
    for label, comparison in comparisons.items():
        arms = comparison.result["arms"]
        arrays[label] = {
            "start": comparison.result["start"],
            **{
                arm: {
                    "final": arms[arm]["final"],
                    "difference": difference_text(arms[arm].get("difference"), digits=3),
                    "verdict": verdict_text(arms[arm]),
                }
                for arm in METHODS.values()
            },
        }
    return arrays


def table(arrays: dict[str, Any]) -> str:
    """Both halves as one markdown table."""
    columns = [key for key in arrays if "/" in key]
    pools = list(dict.fromkeys(key.split("/")[0] for key in columns))
    headings = [f"simulator, {POOLS.get(pool, pool)}" for pool in pools]
    lines = [
        "| method | paper, 1.5B | paper, 7B | " + " | ".join(headings) + " |",
        "|---" * (3 + len(pools)) + "|",
        f"| before training | {PAPER['1.5B']['base'][-1]:.2f} | {PAPER['7B']['base'][-1]:.2f} | "
        + " | ".join(f"{_any(arrays, pool)['start']:.3f}" for pool in pools)
        + " |",
    ]
    for prefix, arm in METHODS.items():
        for estimator, short in SHORT.items():
            cells = []
            for pool in pools:
                row = arrays.get(f"{pool}/{estimator}", {}).get(arm)
                cells.append("" if row is None else _cell(row))
            paper = [f"{PAPER[size][prefix + short][-1]:.2f}" for size in PAPER]
            name = f"{prefix}{short}" if prefix else f"{short} (`uniform`)"
            lines.append(f"| {name} | {' | '.join(paper)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _any(arrays: dict[str, Any], pool: str) -> dict[str, Any]:
    """A panel of the pool; its start is common to the estimators."""
    return next(arrays[key] for key in arrays if key.startswith(f"{pool}/"))


def _cell(row: dict[str, Any]) -> str:
    text = f"{row['final']:.3f}"
    return text if not row["difference"] else f"{text} ({row['difference']}, {row['verdict']})"


def ranking(arrays: dict[str, Any]) -> str:
    """Order of the methods, the paper's and ours."""
    parts = []
    for size, rows in PAPER.items():
        for short in SHORT.values():
            ours = {prefix + short: rows[prefix + short][-1] for prefix in METHODS}
            ordered = sorted(ours, key=lambda name: -ours[name])
            parts.append(f"paper, {size}: {' > '.join(ordered)}")
    for label in (key for key in arrays if "/" in key):
        pool, estimator = label.split("/")
        final = {arm: arrays[label][arm]["final"] for arm in METHODS.values()}
        ordered = sorted(final, key=lambda arm: -final[arm])
        name = f"simulator, {POOLS.get(pool, pool)}, {ESTIMATORS[estimator]}"
        parts.append(f"{name}: {' > '.join(ordered)}")
    return "Order of the averages, " + "; ".join(parts) + "."


def page_rows(page: Path) -> dict[str, list[tuple[str, str, str, str]]]:
    """Tables of a page of ``docs/results``: heading -> rows of (arm, final, minus uniform, verdict).

    Raises
    ------
    ValueError
        If the page has no such table: its format is another one.
    """
    found: dict[str, list[tuple[str, str, str, str]]] = {}
    heading = page.stem
    is_inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").strip()
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| arm | final | minus uniform"):
            is_inside = True
        elif not line.startswith("|"):
            is_inside = False
        elif is_inside and not set(line) <= set("|-: "):
            found.setdefault(heading, []).append((cells[0], cells[1], cells[2], cells[3]))
    if not found:
        fail(
            "measured_table", str(page), "with a table '| arm | final | minus uniform ...'", "none"
        )
    return found


def introduction(arrays: dict[str, Any]) -> str:
    """What the two halves are."""
    return INTRODUCTION.format(rollouts=int(arrays["rollouts"]), seeds=int(arrays["seeds"]))
