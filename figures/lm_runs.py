"""The tiny language model's runs behind its figures, named once; ``python -m figures lm_runs``.

Every comparison is a folder of training runs, ``ARM-seedK``. The arms of a seed share their warm start
and everything but the scheduler's settings. Runs that are missing are made, or gone on with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cures.checks import as_choice, as_int
from figures.results import stamp
from figures.training_runs import run_quietly, training_command

CONFIG, QUICK_CONFIG = "configs/tiny_cpu.toml", "configs/smoke.toml"
PILOTS = (4, 8, 16)  # N' of the paper's grid
GROUP_SIZES = (8, 16, 32)  # and n
AGAIN = 1000  # added to the seed of rollouts and scheduler, not to that of the warm start
DEV = 100  # first seed of the development runs


@dataclass(frozen=True, slots=True)
class Arm:
    """A scheduler with its options; ``label`` is what its folders are called."""

    label: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scheduler(self) -> str:
        """Name before the ``@``."""
        return self.label.partition("@")[0]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arms under the same settings.

    Attributes
    ----------
    arms : tuple of Arm
    seeds : int
        Paired seeds, counted from ``first_seed``.
    settings : dict
        ``section.key`` of the configuration -> value, of every run.
    first_seed : int
    """

    arms: tuple[Arm, ...]
    seeds: int
    settings: Mapping[str, Any]
    first_seed: int = 0


@dataclass(frozen=True, slots=True)
class Size:
    """How large the runs are.

    Attributes
    ----------
    config : str
        TOML file.
    batch, rollouts, every : int
        Draws per update; rollouts of a run; rollouts between evaluations, twice as many in the grid.
    seeds, few_seeds : int
        Of the comparison to the baseline's best; of the others.
    """

    config: str
    batch: int
    rollouts: int
    every: int
    seeds: int
    few_seeds: int


FULL = Size(CONFIG, 128, 61_440, 4096, 6, 2)
QUICK = Size(QUICK_CONFIG, 32, 2048, 512, 2, 1)


def comparisons(size: Size) -> dict[str, Comparison]:
    """Name -> runs."""
    budget = 8 * size.batch
    base = {"run.rollouts": size.rollouts, "evaluation.every": size.every}
    uniform, cures = Arm("uniform"), Arm("cures")
    found = {
        "best": Comparison((uniform, Arm("uniform@again"), cures), size.seeds, base),
        "best-dev": Comparison((uniform,), size.few_seeds, base, first_seed=DEV),
        "trace": Comparison(
            (cures, Arm("cures@moments", {"use_moments": True})),
            size.few_seeds,
            {**base, "rollout.gradient_moments": True},
        ),
    }
    for group_size in GROUP_SIZES:
        arms = [Arm(f"cures@pilots{pilots}", {"pilots": pilots}) for pilots in PILOTS]
        found[f"grid-n{group_size}"] = Comparison(
            (uniform, *arms),
            size.few_seeds,
            {
                "run.rollouts": size.rollouts,
                "evaluation.every": max(2 * size.every, size.batch * group_size),
                "scheduler.budget": budget // 8 * group_size,
            },
        )
    return found


def make_runs(
    root: Path,
    size: Size,
    *,
    names: Sequence[str] | None = None,
    jobs: int = 2,
    report: Callable[[str], None] = print,
) -> None:
    """Make (or go on with) the runs below ``root``.

    Parameters
    ----------
    root : Path
    size : Size
    names : sequence of str, optional
        These comparisons alone.
    jobs : int
        Runs at a time.
    report : callable
        Told of every run before it starts.

    Raises
    ------
    ValueError
        If a name is unknown.
    subprocess.CalledProcessError
        If a run fails.
    """
    everything = comparisons(size)
    for name in names or ():
        as_choice("figures lm_runs", "--only", name, tuple(everything))
    as_int("figures lm_runs", "--jobs", jobs, 1)
    chosen = {name: everything[name] for name in names or everything}
    for name in chosen:
        stamp(root / name)
    # seed by seed: the first arm of a seed makes its warm start, before the others need it
    first, rest = [], []
    for name, comparison in chosen.items():
        for seed in range(comparison.first_seed, comparison.first_seed + comparison.seeds):
            for arm in comparison.arms:
                is_first = not any(s == seed for _, _, s in first)
                (first if is_first else rest).append((name, arm, seed))

    def train(work: tuple[str, Arm, int]) -> None:
        name, arm, seed = work
        report(f"{name}: {arm.label}, seed {seed}")
        run_quietly(command(root, size, name, everything[name], arm, seed))

    for some in (first, rest):
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(train, some))


def command(
    root: Path, size: Size, name: str, comparison: Comparison, arm: Arm, seed: int
) -> list[str]:
    """The training run as a command line."""
    rollout_seed = seed + AGAIN if arm.label.endswith("@again") else seed
    settings = {
        **comparison.settings,
        "run.seed": rollout_seed,
        "warm_start.seed": seed,
        "run.cache": f"{root}/warm_start",
    }
    out = root / name / f"{arm.label}-seed{seed}"
    return training_command(size.config, arm.scheduler, out, settings, arm.options)
