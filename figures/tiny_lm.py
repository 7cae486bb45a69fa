"""``python -m figures tiny_lm``: schedulers on the real tiny language model, paired seeds.

Every seed has its own warm start, shared by its arms, and its own rollouts. Runs (or resumes) whatever
is missing and writes the page with command, commit and machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from cures.checks import as_choice, as_int, fail
from cures.storage import atomic_write
from figures import learning_curves
from figures.demo import run_folder
from figures.provenance import EXACT, provenance
from figures.results import stamp
from figures.run_folders import by_arm
from figures.training_runs import run_quietly, training_command
from figures.training_table import MARGIN, rows
from sim.picture import save
from sim.settings import REFERENCE
from sim.wording import difference_text

ARMS = ("uniform", "cures", "cures-released", "gvm", "speed", "dapo", "band")
SEEDS = 6
CONFIG = "configs/tiny_cpu.toml"
HEADER = """\
# Tiny language model: schedulers at equal generated rollouts

A Qwen2 of 0.2 million parameters learns arithmetic by GRPO on a CPU: {pool} prompts, {batch} groups x
{group} rollouts an update, AdamW, {rollouts} generated rollouts, pilots and discarded ones included.
{seeds} paired seeds, each with a warm start of its own; held-out success is sampled on {held_out}
unseen problems, {samples} answers each. Schedulers at their default settings. Verdict:
non-inferiority at a margin of {margin} in held-out success.

![learning curves](../figures/tiny_lm.png)
"""


def measure(
    root: Path,
    page: Path,
    picture: Path,
    jobs: int,
    command: str,
    *,
    arms: Sequence[str] = ARMS,
    seeds: int = SEEDS,
) -> None:
    """Train every arm on every seed under ``root``, then write the page and its picture.

    ``command`` is what the page says that it was made by.

    Raises
    ------
    ValueError
        If an arm is unknown, or the reference is not among them.
    """
    for arm in arms:
        as_choice("tiny_lm", "arms", arm, ARMS)
    if REFERENCE not in arms:
        fail("tiny_lm", "arms", f"with {REFERENCE} among them", list(arms))
    as_int("tiny_lm", "seeds", seeds, 1)
    made_at = stamp(root)
    first, *others = arms
    for seed in range(seeds):  # the first arm of a seed makes the warm start, the others reuse it
        _train(root, first, seed)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda arm, seed=seed: _train(root, arm, seed), others))
    folders = [run_folder(root, arm, seed) for arm in arms for seed in range(seeds)]
    save(learning_curves.draw(learning_curves.compute(folders)), picture)
    page.parent.mkdir(parents=True, exist_ok=True)
    origin = provenance(command, made_at=made_at, speed=EXACT) + "\n"
    atomic_write(page, "\n".join([header(folders), origin, table(folders)]).encode())


def header(folders: list[Path]) -> str:
    """What was run, from the configuration that ran."""
    runs = by_arm(folders)[REFERENCE]
    config = runs[0]["config"]
    batch = config["scheduler"]["batch_size"]
    return HEADER.format(
        pool=config["task"]["pool_size"],
        batch=batch,
        group=config["scheduler"]["budget"] // batch,
        rollouts=config["run"]["rollouts"],
        seeds=len(runs),
        held_out=config["task"]["held_out_size"],
        samples=config["evaluation"]["samples"],
        margin=MARGIN,
    )


def _train(root: Path, arm: str, seed: int) -> None:
    settings = {"run.seed": seed, "warm_start.seed": seed, "run.cache": f"{root}/warm_start"}
    print(f"{arm}, seed {seed}", flush=True)
    run_quietly(training_command(CONFIG, arm, run_folder(root, arm, seed), settings))


def table(folders: list[Path]) -> str:
    """Means over seeds, paired differences to uniform."""
    arms = rows(folders)
    lines = [
        f"Held-out success starts at {arms[REFERENCE].before:.3f}.",
        "",
        "| arm | final | minus uniform [95 %] | verdict | pilots | trained on | wasted | updates |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, row in arms.items():
        difference = None if row.difference is None else asdict(row.difference)
        cells = (
            arm,
            f"{row.after:.3f}",
            difference_text(difference, digits=3),
            row.verdict,
            f"{row.pilot:.0%}",
            f"{row.trained:.0%}",
            f"{row.wasted:.0%}",
            f"{row.updates:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
