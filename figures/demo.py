"""``make demo``: a simulator comparison and a real tiny language model, honest whichever way it falls.

1. ``sim compare``: uniform, cures, speed and the oracle on the chain-of-skills population.
2. ``train run``: a 0.2-million-parameter Qwen2 learns arithmetic by GRPO under ``uniform`` and ``cures``
   at equal generated rollouts, two paired seeds, two processes at a time.
3. A table and the figures, named on screen.

Everything lands in one run folder; the same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from figures import learning_curves, quota_by_success_rate
from figures.training_runs import training_command
from figures.training_table import rows
from sim.picture import save

ARMS = ("uniform", "cures")
SEEDS = (0, 1)
CONFIG = "configs/tiny_cpu.toml"
QUICK = {"run.rollouts": 2048, "evaluation.every": 1024, "warm_start.steps": 100}


def demo(root: Path, *, quick: bool = False) -> None:
    """Run everything into ``root`` and print what came out.

    Parameters
    ----------
    root : Path
        Run folder of the demo.
    quick : bool
        A few seconds of everything, to check that it is connected.
    """
    console = Console(highlight=False)
    started = time.monotonic()
    console.rule("1. simulator: chain of skills, known success rates")
    simulate(root / "sim", quick=quick)
    console.rule("2. a real language model on this CPU")
    seeds = SEEDS[:1] if quick else SEEDS
    train_all(root / "train", seeds, console, quick=quick)
    console.rule("3. what came out")
    folders = [run_folder(root / "train", arm, seed) for seed in seeds for arm in ARMS]
    console.print(table(folders))
    console.print(verdict(folders))
    paths = [root / "sim" / "curves.png", *draw_all(folders, root)]
    console.print("\nFigures:")
    for path in paths:
        console.print(f"  {path}", soft_wrap=True)
    console.print(
        f"Run folders: {root}/sim, {root}/train/*  ({time.monotonic() - started:.0f} s)\n"
        "So few seeds are a demonstration, not evidence: docs/results has the measured comparisons."
    )


def simulate(folder: Path, *, quick: bool) -> None:
    """The simulator comparison, in a process of its own."""
    size = ["--rollouts", "6000", "--seeds", "2", "--dev-seeds", "2", "--pool", "500"]
    if not quick:
        size = ["--rollouts", "100000", "--seeds", "6", "--dev-seeds", "6"]
    command = [sys.executable, "-m", "sim", "compare", "--schedulers", "uniform", "cures", "speed"]
    command += ["oracle", *size, "--jobs", "2", "--out", str(folder)]
    print("$ " + " ".join(["python", *command[1:]]), flush=True)
    subprocess.run(command, check=True)


def run_folder(root: Path, arm: str, seed: int) -> Path:
    """Where one training run lives."""
    return root / f"{arm}-seed{seed}"


def command_of(root: Path, arm: str, seed: int, *, quick: bool) -> list[str]:
    """One training run; both arms of a seed share its warm start and all but the scheduler."""
    settings = {"run.seed": seed, "warm_start.seed": seed, "run.cache": f"{root}/warm_start"}
    config, own = ("configs/smoke.toml", QUICK) if quick else (CONFIG, {})
    return training_command(config, arm, run_folder(root, arm, seed), {**settings, **own})


def train_all(root: Path, seeds: tuple[int, ...], console: Console, *, quick: bool) -> None:
    """The arms of a seed side by side, one process and one thread each."""
    root.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for seed in seeds:
        running: list[subprocess.Popen[bytes]] = []
        try:
            for arm in ARMS:
                command = command_of(root, arm, seed, quick=quick)
                console.print("$ " + " ".join(["python", *command[1:]]), soft_wrap=True)
                with open(root / f"{arm}-seed{seed}.log", "ab") as log:
                    running.append(
                        subprocess.Popen(
                            command, stdout=log, stderr=subprocess.STDOUT, env=environment
                        )
                    )
            watch(running, root, seed, console)
        finally:
            for process in running:
                process.terminate()
                process.wait()


def watch(running: list[subprocess.Popen[bytes]], root: Path, seed: int, console: Console) -> None:
    """Show the last line of every log until all processes end."""
    with console.status("starting") as status:
        while any(process.poll() is None for process in running):
            lines = []
            for arm in ARMS:
                text = (root / f"{arm}-seed{seed}.log").read_text(errors="replace").strip()
                lines.append(f"{arm}: {text.splitlines()[-1] if text else 'warm start'}")
            status.update(" | ".join(lines))
            time.sleep(0.5)
    for arm, process in zip(ARMS, running, strict=True):
        log = root / f"{arm}-seed{seed}.log"
        if process.returncode:
            sys.exit(f"{arm} ended with code {process.returncode}; its output is in {log}")
        console.print(f"{arm}, seed {seed}: {_result_line(log)}")


def _result_line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if "updates" in line]
    return lines[-1] if lines else "finished before"


def table(folders: list[Path]) -> Table:
    """Final success and where the rollouts went, mean over seeds."""
    result = Table(title="Tiny language model at equal generated rollouts", title_justify="left")
    result.add_column("arm")
    headings = ("held-out before", "after", "rollouts", "pilots", "trained on", "updates", "wasted")
    for heading in headings:
        result.add_column(heading, justify="right")
    for arm, row in rows(folders).items():
        result.add_row(
            arm,
            f"{row.before:.3f}",
            f"{row.after:.3f}",
            f"{row.generated:,.0f}",
            f"{row.pilot:.0%}",
            f"{row.trained:.0%}",
            f"{row.updates:.0f}",
            f"{row.wasted:.0%}",
        )
    return result


def verdict(folders: list[Path]) -> str:
    """The paired difference in words, with what so few seeds can say."""
    row = rows(folders)["cures"]
    assert row.difference is not None
    count = row.difference.seeds
    seeds = "1 paired seed" if count == 1 else f"{count} paired seeds"
    return (
        f"cures minus uniform: {row.difference.mean:+.3f} in held-out success at equal rollouts "
        f"({seeds}: {row.verdict}). wasted: share of the trained rollouts whose advantage is 0."
    )


def draw_all(folders: list[Path], root: Path) -> list[Path]:
    """Every figure of the training runs."""
    return [
        save(module.draw(module.compute(folders)), root / f"{module.__name__.split('.')[-1]}.png")
        for module in (learning_curves, quota_by_success_rate)
    ]
