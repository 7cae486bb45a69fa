"""The page of all figures, ``docs/results/figures.md``, from the records beside the pictures."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from cures.storage import atomic_write, read_json
from figures import measured_table
from figures.catalogue import ENTRIES

HEADER = """\
# Every figure of the paper, from our own runs

The figures of CurES (arXiv 2510.01037) in our own design, and the ablations that its reviewers asked
for, drawn from the simulator and from a tiny language model. None of them reproduces the paper: models,
tasks and sizes are others. Each says what the paper's figure shows and what came out here.

- The two *pools* stand where the paper has two model sizes. **Natural**: success rates are products of
  shared skills and start at about 0.2. **U-shaped**: the same skills, initial success rates mostly
  near 0 or 1. The policy is a chain of skills, trained by Adam unless a figure says otherwise;
  held-out success is exact.
- Every generated rollout counts: pilots, screening, dropped groups, discarded surplus.
- Schedulers run at their default settings; learning rates were chosen on uniform sampling alone.
- Which method wins depends on the optimiser and on the share of dead prompts: under Adam updates count,
  and pilots cost updates. Figs. 2-10 are one case (Adam, no dead prompts), "Where CurES pays" is the
  opposite one.
- Beside each picture lie a PDF and a JSON file with the settings of every run behind it.

`make figures` makes the simulator's runs that are missing and draws everything; single steps are
`python -m figures runs` and `python -m figures NAME`. The language model's runs are made on their own,
in half an hour of two cores each:

```sh
python -m figures tiny_lm   # seven methods, six seeds: curves, rates, quotas, norms
python -m figures lm_runs   # N' x n, the way to the baseline's best, quotas by iteration
python -m figures all
```
"""
MANY = 12
TABLE = "## Table 1 of the paper beside ours"


def write(out: Path, runs: Path, page: Path, *, results: Path = Path("docs/results")) -> None:
    """Write the page from the JSON records in ``out`` and the table from the runs.

    Parameters
    ----------
    out : Path
        Folder of the pictures.
    runs : Path
        Folder of the simulator's run folders, for the table.
    page : Path
        Markdown file to write.
    results : Path
        Folder of the pages ``simulator.md`` and ``tiny_lm.md``, quoted where they exist.
    """
    parts = [HEADER]
    for entry in ENTRIES:
        path = out / f"{entry.name}.json"
        if path.exists():
            parts.append(section(read_json(path), os.path.relpath(out, page.parent)))
    parts.append(table_section(runs, results))
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(page, "\n".join(parts).encode())


def section(record: dict[str, Any], folder: str) -> str:
    """One figure: picture, caption, finding, command and commits."""
    name = record["figure"]
    made_at = sorted({run["made_at"] for run in record["runs"]})
    folders = ", ".join(f"`{folder}`" for folder in _short(record["runs"]))
    runs = f" Runs: {folders}, made at `{'`, `'.join(made_at)}`." if record["runs"] else ""
    return (
        f"## {record['title']}\n\n![{record['title']}]({folder}/{name}.png)\n\n"
        f"{record['caption']}\n\n**What came out.** {record['finding']}\n\n"
        f"`{record['command']}`, commit `{record['drawn_at']}`; [PDF]({folder}/{name}.pdf), "
        f"[settings]({folder}/{name}.json).{runs}\n"
    )


def _short(runs: list[dict[str, Any]]) -> list[str]:
    """Folders of the runs; a folder of many runs stands for them, a first word for :data:`MANY`."""
    folders = [run["folder"] for run in runs]
    parents = [os.path.dirname(folder) for folder in folders]
    is_many = [os.path.basename(folder).find("-seed") > 0 for folder in folders]
    shown = [p if many else f for f, p, many in zip(folders, parents, is_many, strict=True)]
    shown = list(dict.fromkeys(shown))
    alike = Counter(map(_family, shown))
    return list(dict.fromkeys(_family(f) if alike[_family(f)] >= MANY else f for f in shown))


def _family(folder: str) -> str:
    """All folders beside this one whose name has the same first word."""
    parent, name = os.path.split(folder)
    return f"{parent}/{name.split('-')[0]}-*"


def table_section(runs: Path, results: Path) -> str:
    """Table 1 beside ours, the order of the methods, and the tables of ``docs/results``, short."""
    folders = sorted(path for path in runs.glob("against-*") if path.is_dir())
    arrays = measured_table.compute(folders)
    lines = [TABLE, "", measured_table.introduction(arrays), "", measured_table.table(arrays)]
    lines += [measured_table.ranking(arrays), ""]
    for name in ("tiny_lm.md", "simulator.md"):
        if (results / name).exists():
            lines += [f"From [{name}]({name}), its settings and its commit:", ""]
            lines += [
                "| where | arm | final | minus uniform [95 %] | verdict |",
                "|---|---|---|---|---|",
            ]
            for where, rows in measured_table.page_rows(results / name).items():
                shown = [row for row in rows if row[0] in measured_table.METHODS.values()]
                lines += [f"| {where} | {' | '.join(row)} |" for row in shown]
            lines.append("")
    return "\n".join(lines)
