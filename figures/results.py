"""``python -m figures results``: the simulator comparisons behind docs/results, from one command.

Runs ``sim compare`` on every setting below (about 10 minutes on 2 cores) and writes the tables with
the command, the commit and the machine. Nothing in the tables is typed by hand.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from cures.storage import atomic_write, read_json

ARMS = (
    "cures", "cures-released", "gvm", "speed", "dapo", "band", "oracle", "oracle@learnable",
)  # fmt: skip
SIZE = ("--rollouts", "200000", "--seeds", "16", "--dev-seeds", "16")
OPTIONS = ("oracle@learnable.learnable=true",)
# population, optimiser; sgd at the rate that sim.settings chooses for it on uniform alone
SETTINGS = (
    ("skills", "adam"),
    ("skills", "sgd"),
    ("dead", "adam"),
    ("dead", "sgd"),
    ("coins", "adam"),
    ("coins", "sgd"),
    ("mostly_hard", "adam"),
    ("mostly_hard", "sgd"),
)
HEADER = """\
# Simulator: every scheduler at equal generated rollouts

Chain-of-skills policy (success rates in closed form), 4000 prompts, batch 64 draws x 8 rollouts,
GRPO advantages, 200 000 generated rollouts a run, pilots and every discarded rollout included; 16
paired seeds (same prompts, initial policy and held-out set), target levels fixed by uniform on 16
other seeds. Schedulers at their default settings (`cures`: T = 15, N' = 4, M = 10, temperature
0.05). Learning rates were chosen on uniform alone. Verdict: non-inferiority at a margin of 0.005 in
held-out success.

`oracle` is the paper's rule fed the true success rates, for free; `oracle@learnable` is also told
which prompts can be learned. They are references, not contenders.

Adam moves as far on one informative group as on a hundred, so it rewards the number of updates;
plain gradient ascent (`sgd`) rewards the rollouts that carry an advantage. Both are shown, because
which arm wins depends on it.
"""


def measure(root: Path, page: Path, jobs: int) -> None:
    """Run (or resume) all comparisons under ``root`` and write ``page``."""
    parts = [HEADER, provenance("python -m figures results")]
    for population, optimiser in SETTINGS:
        folder = root / f"{population}-{optimiser}"
        command = [sys.executable, "-m", "sim", "compare", "--schedulers", *ARMS, *SIZE]
        command += ["--set", *OPTIONS, "--population", population, "--optimiser", optimiser]
        subprocess.run([*command, "--jobs", str(jobs), "--out", str(folder)], check=True)
        shown = " ".join(["python", *command[1:]])
        comparison = read_json(folder / "comparison.json")
        parts.append(section(population, optimiser, shown, comparison))
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(page, "\n".join(parts).encode())


def provenance(command: str) -> str:
    """Command, commit and machine."""
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else ():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return (
        f"Command: `{command}`. Commit: `{commit}`. Machine: {model}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}. The numbers do not depend on "
        "the machine's speed.\n"
    )


def section(population: str, optimiser: str, command: str, comparison: dict[str, Any]) -> str:
    """One setting as a markdown table."""
    lines = [
        f"## {population}, {optimiser}",
        "",
        f"`{command}`",
        "",
        f"Held-out success starts at {comparison['start']:.3f}.",
        "",
        "| arm | final | minus uniform [95 %] | verdict | speed-up to 50 % | to 80 % | pilots | "
        "trained on | wasted | updates |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, row in comparison["arms"].items():
        targets = {target["fraction"]: target for target in row["targets"]}
        difference, verdict = "", "reference"
        if "difference" in row:
            d = row["difference"]
            difference = f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
            verdict = d["verdict"]
        shares = row["shares"]
        cells = (
            arm,
            f"{row['final']:.4f}",
            difference,
            verdict,
            _speed_up(targets.get(0.5)),
            _speed_up(targets.get(0.8)),
            f"{shares['pilot']:.0%}",
            f"{shares['trained']:.0%}",
            f"{row['wasted']:.0%}",
            f"{row['steps']:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _speed_up(target: dict[str, Any] | None) -> str:
    """Uniform's median rollouts over the arm's; a bound where runs never arrived."""
    if target is None or "ratio" not in target:
        return "1" if target is not None else ""
    if target["ratio"] is None:
        return "undefined"
    sign = {"exact": "", "at least": "≥ ", "at most": "≤ "}[target["bound"]]
    high = "inf" if target["high"] is None else f"{target['high']:.2f}"
    out = f", {target['arm_censored']} out" if target["arm_censored"] else ""
    return f"{sign}{target['ratio']:.2f} [{target['low']:.2f}, {high}]{out}"
