"""Command line of the simulator: ``python -m sim COMMAND ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from types import ModuleType

from rich.console import Console

from sim.commands import calibrate, compare, plan, tune, validate

COMMANDS: dict[str, ModuleType] = {
    "calibrate": calibrate,
    "compare": compare,
    "plan": plan,
    "tune": tune,
    "validate": validate,
}
TOP = "Which prompts, how many rollouts each: tried on simulated policies, without a GPU."


def parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m sim", description=TOP)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        one = commands.add_parser(
            name, help=module.SUMMARY, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(one)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; status 0, 1: a run or a check failed, 2: bad input, 130: Ctrl-C."""
    arguments = parser().parse_args(argv)
    console = Console()
    try:
        return int(COMMANDS[arguments.command].run(arguments, console))
    except ValueError as error:
        _print_error(error)
        return 2
    except KeyboardInterrupt:
        console.print(f"\nStopped. {COMMANDS[arguments.command].STOPPED}")
        return 130
    except BrokenProcessPool:
        _print_error("a worker process was killed; the same command goes on from here")
        return 1
    except (OSError, FloatingPointError, RuntimeError, MemoryError) as error:
        _print_error(error)
        return 1


def _print_error(message: object) -> None:
    console = Console(stderr=True)
    console.print(f"error: {message}", style="red", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
