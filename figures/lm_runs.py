"""The tiny language model's runs behind its figures, named once; ``python -m figures lm_runs``.

Every comparison is a folder of training runs, ``ARM-seedK``. The arms of a seed share their warm start
and everything but the scheduler's settings. Runs that are missing are made, or gone on with; a
comparison that is complete is left alone, whatever code made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cures.checks import as_choice
from figures.results import stamp
from figures.training_runs import Report, TrainingRun, say, train_all

PILOTS = (4, 8, 16)  # N' of the paper's grid
GROUP_SIZES = (8, 16, 32)  # and n
CONTROL = "uniform@again"
AGAIN = 1000  # added to the control's seed of rollouts and scheduler, not to that of the warm start
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
    seeds : range
        Of the warm starts; one run of every arm each.
    settings : dict
        ``section.key`` of the configuration -> value, of every run.
    """

    arms: tuple[Arm, ...]
    seeds: range
    settings: Mapping[str, Any]


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
    settings : dict
        ``section.key`` -> value, over the file.
    """

    config: str
    batch: int
    rollouts: int
    every: int
    seeds: int
    few_seeds: int
    settings: Mapping[str, Any] = field(default_factory=dict)


FULL = Size("configs/tiny_cpu.toml", 128, 61_440, 4096, 6, 2)
# a pool so small that even 16 pilots leave rollouts to train on
QUICK = Size("configs/smoke.toml", 32, 4096, 512, 2, 1, {"task.pool_size": 400})


def comparisons(size: Size) -> dict[str, Comparison]:
    """Name -> runs."""
    base = {**size.settings, "run.rollouts": size.rollouts, "evaluation.every": size.every}
    uniform, cures = Arm("uniform"), Arm("cures")
    found = {
        "best": Comparison((uniform, Arm(CONTROL), cures), range(size.seeds), base),
        "best-dev": Comparison((uniform,), range(DEV, DEV + size.few_seeds), base),
        "trace": Comparison(
            (cures, Arm("cures@moments", {"use_moments": True})),
            range(size.few_seeds),
            {**base, "rollout.gradient_moments": True},
        ),
    }
    for group_size in GROUP_SIZES:
        arms = [Arm(f"cures@pilots{pilots}", {"pilots": pilots}) for pilots in PILOTS]
        budget = {
            "evaluation.every": 2 * size.every,
            "scheduler.budget": size.batch * group_size,
        }
        found[f"grid-n{group_size}"] = Comparison(
            (uniform, *arms), range(size.few_seeds), {**base, **budget}
        )
    return found


def training_runs(root: Path, size: Size, name: str) -> list[TrainingRun]:
    """The runs of a comparison, seed by seed.

    Examples
    --------
    >>> [str(run.out) for run in training_runs(Path("runs/lm"), FULL, "best-dev")]
    ['runs/lm/best-dev/uniform-seed100', 'runs/lm/best-dev/uniform-seed101']
    """
    comparison = comparisons(size)[name]
    return [
        TrainingRun(
            size.config,
            arm.scheduler,
            {
                **comparison.settings,
                **{f"scheduler.{arm.scheduler}.{key}": value for key, value in arm.options.items()},
                "run.seed": seed + AGAIN if arm.label == CONTROL else seed,
                "warm_start.seed": seed,
                "run.cache": f"{root}/warm_start",
            },
            root / name / f"{arm.label}-seed{seed}",
        )
        for seed in comparison.seeds
        for arm in comparison.arms
    ]


def make_runs(
    root: Path,
    size: Size,
    *,
    names: Sequence[str] | None = None,
    jobs: int = 2,
    report: Report = say,
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
        Told how much it is, and of every run before it starts.

    Raises
    ------
    ValueError
        If a name is unknown, a folder holds runs with other settings, or a comparison was begun, and
        not completed, at another commit.
    subprocess.CalledProcessError
        If a run fails.
    """
    known = comparisons(size)
    for name in names or ():
        as_choice("figures lm_runs", "--only", name, tuple(known))
    missing: list[TrainingRun] = []
    for name in names or known:
        runs = training_runs(root, size, name)
        left = [run for run in runs if not run.is_finished()]
        report(f"{name}: {len(runs)} runs of {size.rollouts:,} rollouts, {len(left)} to make")
        if left:
            stamp(root / name)
        missing += left
    train_all(missing, jobs, report=report)
