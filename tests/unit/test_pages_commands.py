"""Every command that a page shows is one that its program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import figures.__main__
import sim.cli
import theory.__main__
import train.__main__
from train.config_file import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE)
VARIABLES = re.findall(r"^([A-Z_]+) \?=", MAKEFILE, flags=re.MULTILINE)
PROGRAMS = ("sim", "train", "figures", "theory")


def commands_of(text: str) -> list[list[str]]:
    """Commands in blocks of a shell, as words; of ours those that need no other package."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    shown = "\n".join(block for language, block in blocks if language in ("", "sh"))
    lines = shown.replace("\\\n", " ").split("\n")
    starts = [line for line in lines if re.match(r"make |python -m |torchrun ", line)]
    return [shlex.split(line, comments=True) for line in starts]


def check(words: list[str]) -> None:
    """Raise if a command is not taken, SystemExit if a parser says so."""
    if words[0] == "make":
        for word in words[1:]:
            variable, is_given, _ = word.partition("=")
            assert variable in (VARIABLES if is_given else TARGETS), word
        return
    module = words.index("-m") + 1
    name, rest = words[module], words[module + 1 :]
    if name == "sim":
        sim.cli.parser().parse_args(rest)
    elif name == "figures":
        figures.__main__._parser().parse_args(rest)
    elif name == "theory":
        theory.__main__._parser().parse_args(rest)
    else:
        options = train.__main__._parser().parse_args(rest)
        if options.command == "run" and options.config.suffix == ".toml":
            name = options.scheduler or "uniform"
            named = [] if name.endswith(".toml") else [f'scheduler.name="{name}"']
            load(ROOT / options.config, [*options.overrides, *named], None)  # its settings exist


COMMANDS = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)[:60]}")
    for page in PAGES
    for words in commands_of(page.read_text())
    if words[0] == "make" or set(PROGRAMS) & set(words)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_it_is_taken(words):
    if "[--out" in words:  # how options are written in a synopsis
        words = words[: words.index("[--out")]
    check(words)


def shared_folders(text):
    """Comparisons of a page that would land in the folder of another one, and be refused."""
    found = [words for words in commands_of(text) if words[2:4] == ["sim", "compare"]]
    options = [sim.cli.parser().parse_args(words[3:]) for words in found]
    folders = [str(o.out or o.population) for o in options]
    return [folder for folder in folders if folders.count(folder) > 1]


def test_no_two_comparisons_of_a_page_share_a_folder():
    assert [page for page in PAGES if shared_folders(page.read_text())] == []
    line = "python -m sim compare --schedulers uniform cures --population dead"
    assert shared_folders(f"```sh\n{line}\n{line} --seeds 3\n```") == ["dead", "dead"]
    assert shared_folders(f"```sh\n{line}\n{line} --out b\n```") == []


def test_all_of_them_are_found():
    programs = [word for case in COMMANDS for word in case.values[0] if word in PROGRAMS]
    assert set(programs) == set(PROGRAMS)
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^(?:make|python -m|torchrun) ", readme, flags=re.MULTILINE)
    assert len(shown) == len([case for case in COMMANDS if case.id.startswith("README")])


@pytest.mark.parametrize(
    "line",  # the control: a program, an option, a setting and a target that are not there
    [
        "python -m sim compete",
        "python -m sim compare --schedulers uniform --rollout-count 3",
        "python -m train eval",
        "python -m train run configs/tiny_cpu.toml --set learner.learning_speed=1",
        "python -m figures raport x",
        "python -m theory prove",
        "make coffee",
        "make demo TORCH_INDEXES=x",
    ],
)
def test_what_is_wrong_is_refused(line):
    with pytest.raises((SystemExit, ValueError, AssertionError)):
        check(shlex.split(line))
