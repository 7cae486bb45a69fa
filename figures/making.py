"""``python -m figures runs``: make what is missing of :mod:`figures.paper_runs`, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cures.checks import as_choice, as_int, fail
from cures.storage import read_json, write_json
from figures.paper_runs import Recipe, Size, comparisons
from figures.provenance import commit
from sim.compare import compare, tasks_of
from sim.settings import Settings, check_same

# Of one core, roughly, and what a run takes to start: for the estimate that is printed.
ROLLOUTS_PER_SECOND, SECONDS_TO_START = 300_000, 0.2


def make_runs(root: Path, size: Size, *, names: Sequence[str] | None, jobs: int) -> None:
    """Say how much it is, then make what is missing.

    Parameters
    ----------
    root : Path
        Folder of the run folders.
    size : Size
    names : sequence of str, optional
        Comparisons to make; default all.
    jobs : int
        Worker processes, >= 1.
    """
    as_int("figures", "jobs", jobs, 1)
    runs, rollouts = estimate(size, names)
    console = Console()
    seconds = (rollouts / ROLLOUTS_PER_SECOND + runs * SECONDS_TO_START) / jobs
    console.print(
        f"{runs} runs, {rollouts:,} rollouts into {root}: about "
        f"{max(1.0, seconds / 60.0):.0f} min with {jobs} process(es) on idle cores; "
        "what is there is left alone",
        soft_wrap=True,
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("runs", total=rollouts)
        finished = current = 0

        def on_start(name: str, its_rollouts: int) -> None:
            nonlocal finished, current
            finished, current = finished + current, its_rollouts
            progress.update(bar, description=name, completed=finished)

        def on_progress(generated: int) -> None:
            progress.update(bar, completed=finished + generated)

        produce(root, size, names=names, jobs=jobs, on_start=on_start, on_progress=on_progress)
        progress.update(bar, description="all there", completed=rollouts)


def produce(
    root: Path,
    size: Size,
    *,
    names: Sequence[str] | None = None,
    jobs: int = 1,
    on_start: Callable[[str, int], None] = lambda name, rollouts: None,
    on_progress: Callable[[int], None] = lambda generated: None,
) -> None:
    """Run what is missing; finished comparisons are left alone, interrupted ones go on.

    Parameters
    ----------
    root : Path
        Folder of the run folders.
    size : Size
    names : sequence of str, optional
        Comparisons to make; default all.
    jobs : int
        Worker processes, >= 1.
    on_start : callable
        Told (name, rollouts of all its runs) when a comparison begins or is found finished.
    on_progress : callable
        Told the rollouts generated of the comparison that runs.

    Raises
    ------
    ValueError
        If a folder holds runs with other settings, or unfinished ones of another commit.
    """
    known = comparisons(size)
    made_by = _made_by(root)
    for name in _chosen(names, known):
        settings = known[name]()
        tasks = tasks_of(settings)
        on_start(name, len(tasks) * settings.rollouts)
        if is_finished(root / name, settings):
            on_progress(len(tasks) * settings.rollouts)
            continue
        if (root / name).exists() and made_by.get(name) != commit():
            legal = f"begun at commit {commit()} (remove it to make it anew)"
            fail("figures", str(root / name), legal, made_by.get(name))
        made_by[name] = commit()
        root.mkdir(parents=True, exist_ok=True)
        write_json(root / "made_by.json", made_by)
        done = [0] * len(tasks)

        def book(position: int, generated: int, done: list[int] = done) -> None:
            done[position] = generated
            on_progress(sum(done))

        compare(settings, root / name, jobs=jobs, on_progress=book)


def is_finished(folder: Path, settings: Settings) -> bool:
    """Whether the folder holds this comparison, complete.

    Raises
    ------
    ValueError
        If it holds another one.
    """
    if not (folder / "config.json").exists():
        return False
    stored = read_json(folder / "config.json")
    check_same(settings, stored, folder)
    return (folder / "comparison.json").exists() and bool(stored["seeds"] == settings.seeds)


def _chosen(names: Sequence[str] | None, known: dict[str, Recipe]) -> Sequence[str]:
    """All, or those that are named, each of them known."""
    for name in names or ():
        as_choice("figures", "only", name, tuple(known))
    return names or tuple(known)


def _made_by(root: Path) -> dict[str, str]:
    path = root / "made_by.json"
    return dict(read_json(path)) if path.exists() else {}


def estimate(size: Size, names: Sequence[str] | None = None) -> tuple[int, int]:
    """Runs, and rollouts of all of them together.

    Examples
    --------
    >>> from figures.paper_runs import FULL
    >>> estimate(FULL, ["budget-x1"])
    (41, 8200000)
    """
    known = comparisons(size)
    runs = rollouts = 0
    for name in _chosen(names, known):
        # the cut itself does not matter for the size: five runs of one pass
        if name.startswith("cut-seed"):
            count, length = 5, size.one_pass
        else:
            settings = known[name]()
            count, length = len(tasks_of(settings)), settings.rollouts
        runs += count
        rollouts += count * length
    return runs, rollouts
