"""Table 1 of the paper beside what was measured here: other models, other tasks, other units.

The paper's numbers are copied (percent, eight mathematics benchmarks); ours are read from run folders of
the simulator and, where the pages exist, from the tables of ``docs/results``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cures.checks import InWords, fail
from figures.sim_folders import by_label
from figures.style import ESTIMATORS, POOLS
from sim.wording import difference_text, verdict_text
from train.benchmarks.paper import TABLE_1

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
        f"| before training | {TABLE_1['1.5B']['base'][-1]:.2f} | {TABLE_1['7B']['base'][-1]:.2f} | "
        + " | ".join(f"{_any(arrays, pool)['start']:.3f}" for pool in pools)
        + " |",
    ]
    for prefix, arm in METHODS.items():
        for estimator, short in SHORT.items():
            cells = []
            for pool in pools:
                row = arrays.get(f"{pool}/{estimator}", {}).get(arm)
                cells.append("" if row is None else _cell(row))
            paper = [f"{TABLE_1[size][prefix + short][-1]:.2f}" for size in TABLE_1]
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
    for size, rows in TABLE_1.items():
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
            "measured_table",
            str(page),
            "with a table '| arm | final | minus uniform ...'",
            InWords("none"),
        )
    return found


def introduction(arrays: dict[str, Any]) -> str:
    """What the two halves are."""
    return INTRODUCTION.format(rollouts=int(arrays["rollouts"]), seeds=int(arrays["seeds"]))
