"""Command line: ``python -m figures runs``, ``... all``, ``... NAME``, ``... report``, ``... demo``."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

# Before numpy is imported, as in sim/__main__.py: the number of BLAS threads changes last bits.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

from cures.checks import as_choice  # noqa: E402
from cures.storage import atomic_write  # noqa: E402
from figures import (  # noqa: E402
    calibration_study,
    league,
    league_curves,
    league_heat_map,
    league_oracle,
    league_rows,
    league_table,
    learning_curves,
    lm_runs,
    page,
    paper_runs,
    quota_by_success_rate,
    results,
    simulator_league,
    simulator_league_rows,
    simulator_league_table,
    tiny_lm,
)
from figures.catalogue import BY_NAME, ENTRIES, SOURCES, Entry, folders_of, render  # noqa: E402
from figures.demo import demo  # noqa: E402
from figures.making import make_runs  # noqa: E402
from sim.picture import save  # noqa: E402

TRAINED = {"learning_curves": learning_curves, "quota_by_success_rate": quota_by_success_rate}
RUNS, LM_RUNS = SOURCES["paper"].folder, SOURCES["lm"].folder
QUICK_RUNS, QUICK_LM_RUNS = Path("runs/paper-quick"), Path("runs/lm-quick")
OUT, PAGE = Path("docs/figures"), Path("docs/results/figures.md")
# options that change no number: runs at a time, none at all, and where to
QUIET = ("jobs", "page_only", "page", "picture", "simulator_picture")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it worked, 2 on bad input, 1 if a run failed, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, FloatingPointError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: this command failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    command = options.command
    if command == "demo":
        demo(options.out, quick=options.quick)
    elif command == "runs":
        size = paper_runs.QUICK if options.quick else paper_runs.FULL
        root = options.runs or (QUICK_RUNS if options.quick else RUNS)
        make_runs(root, size, names=options.only, jobs=options.jobs)
    elif command == "lm_runs":
        size = lm_runs.QUICK if options.quick else lm_runs.FULL
        root = options.runs or (QUICK_LM_RUNS if options.quick else LM_RUNS)
        lm_runs.make_runs(root, size, names=options.only, jobs=options.jobs)
    elif command == "all":
        _draw_all(options)
    elif command == "results":
        results.measure(options.runs, options.page, options.jobs, _said(options))
    elif command == "tiny_lm":
        tiny_lm.measure(
            options.runs,
            options.page,
            options.picture,
            options.jobs,
            _said(options),
            arms=options.arms,
            seeds=options.seeds,
        )
    elif command == "league":
        _league(options)
    elif command == "calibration":
        calibration_study.measure(
            options.runs or calibration_study.runs_folder(quick=options.quick),
            options.page,
            options.picture,
            _said(options),
            quick=options.quick,
        )
    elif command == "report":
        from figures import report  # with torch, which nothing else here needs

        _show(list(report.write(options.run, options.out or options.run / "report")))
    elif command in TRAINED:
        module = TRAINED[command]
        print(save(module.draw(module.compute(options.runs)), options.out))
    else:
        entry = BY_NAME[command]
        _show(_draw(entry, options.runs, options.out))


def _said(options: argparse.Namespace) -> str:
    """The command with every option that is not at its default, but for those of :data:`QUIET`."""
    default = vars(_parser().parse_args([options.command]))
    words = ["python", "-m", "figures", options.command]
    for name, value in vars(options).items():
        if name in QUIET or value == default[name]:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words += map(str, value if isinstance(value, list) else [value])
    return shlex.join(words)


def _league(options: argparse.Namespace) -> None:
    """Make what is missing; the page and its pictures from all that is there."""
    book = league.Book(options.entries / league.checked_series(options.series))
    simulated = simulator_league.Book(options.simulator_entries or options.entries / "simulator")
    if not options.page_only:
        _make_league(options, book, simulated)
    by_series = league.read_all(options.entries)
    numbers = league_rows.numbers_of(by_series)
    cells = simulated.everything()
    simulated_numbers = simulator_league_rows.numbers_of(cells)
    text = simulator_league_table.section(cells, simulated_numbers)
    said = _said(options)
    command = "make league" if said == "python -m figures league" else said
    atomic_write(options.page, league_table.page(by_series, numbers, command, text).encode())
    pictures = []
    if by_series:
        pictures.append(save(league_curves.draw(numbers), options.picture))
    if text:
        pictures.append(save(league_heat_map.draw(simulated_numbers), options.simulator_picture))
    _show([*pictures, options.page])


def _make_league(
    options: argparse.Namespace, book: league.Book, simulated: simulator_league.Book
) -> None:
    """Both halves or one: first how long they take, then the simulator's, then the model's."""
    arms = {
        "simulator": (*simulator_league.ARMS, simulator_league.BEST),
        "model": (*league.ARMS, league.BEST),
    }
    if options.only:
        arms = {options.only: arms[options.only]}
    if options.arms:
        for arm in options.arms:
            as_choice("league", "--arms", arm, tuple(dict.fromkeys(sum(arms.values(), ()))))
        arms = {half: tuple(arm for arm in options.arms if arm in arms[half]) for half in arms}
    size = replace(simulator_league.FULL, seeds=options.simulator_seeds)
    cells = simulator_league.wanted(options.populations, options.estimators)
    found = league.read_all(options.entries)
    done = [
        (pool, seed)
        for pool in league.POOLS
        for seed in league_oracle.developed(pool, league.of_pool(found, pool))
    ]
    seeds = range(options.seeds)
    runs = league.wanted(options.pools, arms.get("model", ()), seeds, done=done)
    if arms.get("simulator"):
        named = arms["simulator"]
        print(simulator_league.estimate(cells, simulated, named, size, jobs=options.jobs))
    if arms.get("model"):
        print(f"language model: {league.estimate(book, runs, jobs=options.jobs)}")
    if arms.get("simulator"):
        root = options.simulator_runs
        simulator_league.make_with_progress(root, simulated, cells, named, size, jobs=options.jobs)
    if arms.get("model"):
        root = options.runs / options.series
        league.make(root, book, runs, jobs=options.jobs)
        found = league.read_all(options.entries)
        best = league_oracle.best_runs(found, options.pools, arms["model"], seeds)
        if best:
            league.make(root, book, best, jobs=options.jobs)


def _draw_all(options: argparse.Namespace) -> None:
    """Every figure and the page; those of the language model where its runs are."""
    for entry in ENTRIES:
        try:
            _show(_draw(entry, getattr(options, _attribute(entry.source)), options.out))
        except ValueError as error:
            if entry.source == "paper":
                raise
            # the language model's runs take half an hour: whoever has none still gets the others
            print(f"{entry.name}: left as it is ({error})")
    page.write(options.out, options.runs, options.page)
    print(options.page)


def _attribute(source: str) -> str:
    return SOURCES[source].option.lstrip("-").replace("-", "_")


def _draw(entry: Entry, root: Path, out: Path) -> list[Path]:
    command = f"python -m figures {entry.name}"
    if entry.runs and root != SOURCES[entry.source].folder:
        command += f" --runs {root.as_posix()}"
    return render(entry, folders_of(entry, root), out, command)


def _show(paths: list[Path]) -> None:
    print(" ".join(map(str, paths)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m figures",
        description="Draw every figure from run folders; make the runs that are missing.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_runs(commands)
    _add_drawing(commands)
    _add_measuring(commands)
    return parser


def _path(parser: argparse._ActionsContainer, flag: str, what: str, default: Path) -> None:
    """A path with its default in the help."""
    parser.add_argument(
        flag, type=Path, default=default, metavar="PATH", help=f"{what} ({default})"
    )


def _add_runs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, what, folder, quick in (
        ("runs", "simulator", RUNS, QUICK_RUNS),
        ("lm_runs", "language-model", LM_RUNS, QUICK_LM_RUNS),
    ):
        run = commands.add_parser(name, help=f"make (or go on with) the {what} runs of the figures")
        run.add_argument("--runs", type=Path, help=f"folder of the run folders ({folder})")
        run.add_argument("--jobs", type=int, default=2, help="worker processes (2)")
        run.add_argument("--only", nargs="+", metavar="NAME", help="these comparisons alone")
        run.add_argument(
            "--quick", action="store_true", help=f"seconds instead of minutes, in {quick}"
        )


def _add_drawing(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    everything = commands.add_parser("all", help="draw every figure and write the page")
    _path(everything, "--page", "page to write", PAGE)
    _path(everything, "--out", "folder of the pictures", OUT)
    for source in SOURCES.values():
        _path(everything, source.option, "folder of the run folders", source.folder)
    for entry in ENTRIES:
        one = commands.add_parser(entry.name, help=entry.title)
        _path(one, "--runs", "folder of the run folders", SOURCES[entry.source].folder)
        _path(one, "--out", "folder of the pictures", OUT)


def _add_measuring(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("demo", help="simulate, train, compare, draw (make demo)")
    run.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (runs/demo)")
    run.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes; proves nothing"
    )
    _add_page(commands, "results", "simulator.md", "run the simulator comparisons of docs/results")
    lm = _add_page(
        commands, "tiny_lm", "tiny_lm.md", "run the language-model comparison of docs/results"
    )
    lm.add_argument("--arms", nargs="+", default=tiny_lm.ARMS, help="schedulers (all seven)")
    lm.add_argument(
        "--seeds", type=int, default=tiny_lm.SEEDS, help=f"paired seeds ({tiny_lm.SEEDS})"
    )
    _path(lm, "--picture", "picture to draw", OUT / "tiny_lm.png")
    _add_league(commands)
    calibration_study.add_arguments(
        commands.add_parser(
            "calibration", help="does the calibrated simulator predict the real run?"
        )
    )
    for name, module in TRAINED.items():
        one = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        one.add_argument("runs", type=Path, nargs="+", help="folders of python -m train run")
        one.add_argument("--out", type=Path, default=Path(f"{name}.png"), help="PNG to write")
    report = commands.add_parser(
        "report", help="one page about one training run, and its posterior as a CSV"
    )
    report.add_argument("run", type=Path, help="folder of python -m train run")
    report.add_argument("--out", type=Path, help="folder of the two files (RUN/report)")


def _add_page(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, file: str, text: str
) -> argparse.ArgumentParser:
    """A command that makes runs and writes a page of docs/results about them."""
    one = commands.add_parser(name, help=f"{text} and write {file}")
    runs, page = Path("runs") / name, Path("docs/results") / file
    _path(one, "--runs", "folder of the run folders", runs)
    _path(one, "--page", "page to write", page)
    one.add_argument("--jobs", type=int, default=2, help="worker processes (2)")
    return one


def _add_league(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    table = commands.add_parser(
        "league",
        help="all schedulers in the simulator, most on the language model: hours, told first, resumable",
    )
    table.add_argument("--only", choices=("simulator", "model"), help="one half (both)")
    table.add_argument(
        "--arms", nargs="+", metavar="ARM", help="those of them that a half has (all)"
    )
    table.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    table.add_argument(
        "--page-only", action="store_true", help="write it of what is there; make no runs"
    )
    _path(table, "--page", "page to write", Path("docs/results/league.md"))
    model = table.add_argument_group("language model")
    _path(model, "--runs", "folder of the run folders, by series", Path("runs/league"))
    _path(model, "--entries", "folder of what is kept of runs", Path("docs/results/league"))
    model.add_argument(
        "--series",
        default=league.SERIES[-1],
        metavar="NAME",
        help="runs with the same warm starts, one for each kind of processor: "
        f"{', '.join(league.SERIES)} or a new one ({league.SERIES[-1]})",
    )
    _path(model, "--picture", "picture to draw", OUT / "league.png")
    model.add_argument("--pools", nargs="+", default=list(league.POOLS), help="pools (all four)")
    model.add_argument("--seeds", type=int, default=len(league.SEEDS), help="the first so many (8)")
    simulator = table.add_argument_group("simulator")
    _path(simulator, "--simulator-runs", "folder of the run folders", Path("runs/simulator_league"))
    simulator.add_argument(
        "--simulator-entries",
        type=Path,
        metavar="PATH",
        help="folder of what is kept of runs (folder simulator of --entries)",
    )
    _path(simulator, "--simulator-picture", "picture to draw", OUT / "simulator-league.png")
    simulator.add_argument(
        "--populations",
        nargs="+",
        default=list(simulator_league.POPULATIONS),
        help="populations (all four)",
    )
    simulator.add_argument(
        "--estimators",
        nargs="+",
        default=list(simulator_league.ESTIMATORS),
        help="estimators (all four)",
    )
    simulator.add_argument(
        "--simulator-seeds",
        type=int,
        default=simulator_league.FULL.seeds,
        metavar="N",
        help=f"paired seeds ({simulator_league.FULL.seeds}; at most {simulator_league.MOST_SEEDS})",
    )


if __name__ == "__main__":
    sys.exit(main())
