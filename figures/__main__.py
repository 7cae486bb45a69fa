"""Command line: ``python -m figures demo``, ``... all``, ``... NAME RUN...``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from figures import learning_curves, quota_by_success_rate, results, tiny_lm
from figures.demo import ARMS, SEEDS, demo, draw_all, run_folder
from sim.picture import save

FIGURES = {"learning_curves": learning_curves, "quota_by_success_rate": quota_by_success_rate}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it worked, 2 on bad input, 1 if a run failed, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "demo":
            demo(options.out, quick=options.quick)
        elif options.command == "all":
            folders = [run_folder(options.out / "train", a, s) for s in SEEDS for a in ARMS]
            for path in draw_all(folders, options.out):
                print(path)
        elif options.command == "results":
            results.measure(options.runs, options.page, options.jobs)
        elif options.command == "tiny_lm":
            tiny_lm.measure(options.runs, options.page, options.picture, options.jobs)
        else:
            module = FIGURES[options.command]
            print(save(module.draw(module.compute(options.runs)), options.out))
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: this command failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("demo", help="simulate, train, compare, draw (make demo)")
    run.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (runs/demo)")
    run.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes; proves nothing"
    )
    everything = commands.add_parser("all", help="redraw the demo's figures from its run folders")
    everything.add_argument("--out", type=Path, default=Path("runs/demo"), help="(runs/demo)")
    pages = {
        "results": ("simulator.md", "run the simulator comparisons of docs/results"),
        "tiny_lm": ("tiny_lm.md", "run the language-model comparison of docs/results"),
    }
    for name, (page, text) in pages.items():
        one = commands.add_parser(name, help=f"{text} and write {page}")
        one.add_argument("--runs", type=Path, default=Path("runs") / name, help=f"(runs/{name})")
        one.add_argument("--page", type=Path, default=Path("docs/results") / page)
        one.add_argument("--jobs", type=int, default=2, help="worker processes (2)")
    one.add_argument("--picture", type=Path, default=Path("docs/figures/tiny_lm.png"))
    for name, module in FIGURES.items():
        one = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        one.add_argument("runs", type=Path, nargs="+", help="folders of python -m train run")
        one.add_argument("--out", type=Path, default=Path(f"{name}.png"), help="PNG to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
