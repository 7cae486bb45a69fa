"""``python -m figures results``: the simulator comparisons behind docs/results, from one command.

Runs ``sim compare`` on every setting below (about 10 minutes on 2 cores) and writes the tables with
the command, the commit and the machine. Nothing in the tables is typed by hand.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from cures.checks import fail
from cures.storage import atomic_write, read_json, write_json
from figures.provenance import EXACT, commit, provenance
from sim.wording import difference_text, speed_up_text, verdict_text

ARMS = (
    "adaptive", "mopps", "cures", "cures-released", "gvm", "speed", "dapo", "band", "oracle",
    "oracle@learnable",
)  # fmt: skip
ROLLOUTS, SEEDS, POOL, BATCH, GROUP, MARGIN = 200_000, 16, 4000, 64, 8, 0.005
SIZE = (
    *("--rollouts", f"{ROLLOUTS}", "--seeds", f"{SEEDS}", "--dev-seeds", f"{SEEDS}"),
    *("--pool", f"{POOL}", "--batch-size", f"{BATCH}", "--group-size", f"{GROUP}"),
    *("--margin", f"{MARGIN}"),
)
OPTIONS = ("oracle@learnable.learnable=true",)
SETTINGS = tuple(
    (population, optimiser)
    for population in ("skills", "dead", "coins", "mostly_hard")
    for optimiser in ("adam", "sgd")
)
HEADER = f"""\
# Simulator: schedulers at equal generated rollouts

Chain-of-skills policy (success rates in closed form), {POOL} prompts, batch {BATCH} draws x {GROUP}
rollouts, GRPO advantages, {ROLLOUTS} generated rollouts a run, pilots and every discarded rollout
included; {SEEDS} paired seeds (same prompts, initial policy and held-out set), target levels fixed by
uniform on {SEEDS} other seeds. Schedulers at their default settings ([league.md](league.md) has every
one of them, under Adam). Learning rates were chosen on uniform alone. Verdict: non-inferiority at a
margin of {MARGIN} in held-out success.

`oracle` is the paper's rule fed the true success rates, for free; `oracle@learnable` is also told
which prompts can be learned. They are references, not contenders.

Adam moves as far on one informative group as on a hundred, so it rewards the number of updates;
plain gradient ascent (`sgd`) rewards the rollouts that carry an advantage. Both are shown, because
which arm wins depends on it.

Speed-up: uniform's median rollouts to the level over the arm's [95 % bootstrap interval]; "a, b out"
counts the runs of uniform and of the arm that never arrived, and the ratio is then a bound where a
median rests on them. The row of uniform shows its median rollouts.
"""


def measure(root: Path, page: Path, jobs: int, command: str) -> None:
    """Run (or resume) all comparisons under ``root`` and write ``page``, made by ``command``."""
    made_at = stamp(root)
    parts = [HEADER, provenance(command, made_at=made_at, speed=EXACT) + "\n"]
    for population, optimiser in SETTINGS:
        folder = root / f"{population}-{optimiser}"
        compare = [sys.executable, "-m", "sim", "compare", "--schedulers", *ARMS, *SIZE]
        compare += ["--set", *OPTIONS, "--population", population, "--optimiser", optimiser]
        subprocess.run([*compare, "--jobs", str(jobs), "--out", str(folder)], check=True)
        shown = " ".join(["python", *compare[1:]])
        comparison = read_json(folder / "comparison.json")
        parts.append(section(population, optimiser, shown, comparison))
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(page, "\n".join(parts).encode())


def stamp(root: Path) -> str:
    """Note which code a folder's runs are made by; refuse to mix them with another's.

    Returns
    -------
    str
        Its commit.

    Raises
    ------
    ValueError
        If the folder was begun at another commit.
    """
    path, made_at = root / "made_by.json", commit()
    if path.exists() and read_json(path)["commit"] != made_at:
        legal = f"begun at commit {made_at} (remove it to measure anew)"
        fail("figures", str(root), legal, read_json(path)["commit"])
    root.mkdir(parents=True, exist_ok=True)
    write_json(path, {"commit": made_at})
    return made_at


def section(population: str, optimiser: str, command: str, comparison: dict[str, Any]) -> str:
    """One setting as a markdown table."""
    lines = [
        f"## {population}, {optimiser}",
        "",
        f"`{command}`",
        "",
        f"Held-out success starts at {comparison['start']:.3f}.",
        "",
        "| arm | final | minus uniform [95 %] | verdict | speed-up to 50 % | to 80 % | to 95 % "
        "| pilots | trained on | wasted | used | updates |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, row in comparison["arms"].items():
        targets = {target["fraction"]: target for target in row["targets"]}
        shares = row["shares"]
        cells = (
            arm,
            f"{row['final']:.4f}",
            difference_text(row.get("difference")),
            verdict_text(row),
            *(speed_up_text(targets.get(fraction)) for fraction in (0.5, 0.8, 0.95)),
            f"{shares['pilot']:.0%}",
            f"{shares['trained']:.0%}",
            f"{row['wasted']:.0%}",
            f"{row['used']:.0%}",
            f"{row['steps']:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
