"""The run folder of a validation: kept checks, refusals, and an order that changes nothing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cures.storage import read_json, write_json
from sim.validation import FAMILIES, run
from sim.validation.check import Check, Result
from sim.validation.pictures import FIGURES
from sim.validation.report import show
from sim.validation.run import ValidationSettings, validate

QUICK = ValidationSettings(draws=run.FEWEST)


def counted(calls, name, value=1.0, *, is_random=False):
    """A check that notes its call and draws one number."""

    def measure(setting):
        calls.append(name)
        drawn = setting.generator.random()
        return Result("z", value, 0.0, 4.0, 9.0, drawn, 0.0, arrays={"drawn": np.array([drawn])})

    return Check(name, ("4.2",), "a number", "another", measure, is_random)


@pytest.fixture
def family(monkeypatch):
    """Two checks instead of the real ones; returns the list of their calls."""
    calls: list[str] = []
    checks = counted(calls, "first", is_random=True), counted(calls, "second")
    monkeypatch.setattr(run, "checks_of", lambda name: checks)
    return calls


def test_finished_checks_are_kept(tmp_path, family):
    first = validate(QUICK, ["bound"], tmp_path)
    content = (tmp_path / "validate.json").read_bytes()
    seen = []
    again = validate(QUICK, ["bound"], tmp_path, on_check=lambda row, origin: seen.append(origin))
    assert family == ["first", "second"]
    assert seen == ["kept", "kept"]
    assert again == first
    assert (tmp_path / "validate.json").read_bytes() == content
    assert first["passes"]
    assert first["is_complete"]
    assert first["false_alarm_at_most"] == first["false_alarm_per_random_check"]  # one is random


def test_an_interrupted_run_goes_on(tmp_path, family):
    whole, part = tmp_path / "whole", tmp_path / "part"
    expected = validate(QUICK, ["bound"], whole)

    def stop(row, origin):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate(QUICK, ["bound"], part, on_check=stop)
    readable = read_json(part / "validate.json")
    assert not readable["is_complete"]
    assert not readable["passes"]
    assert [row["name"] for row in readable["checks"]] == ["first"]
    assert validate(QUICK, ["bound"], part) == expected
    assert family == ["first", "second", "first", "second"]


def test_a_half_written_check_is_run_again(tmp_path, family):
    validate(QUICK, ["bound"], tmp_path)
    (tmp_path / "checks" / "bound" / "second.json").unlink()  # the arrays came first
    validate(QUICK, ["bound"], tmp_path)
    assert family == ["first", "second", "second"]


def damaged_row(**changes):
    """A file of the right source whose row is not what a check writes."""

    def damage(path):
        stored = read_json(path)
        stored["row"].update(changes)
        write_json(path, {**stored, "row": {k: v for k, v in stored["row"].items() if v != "gone"}})

    return damage


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(
            (name, lambda path, content=content: path.write_bytes(content))
            for name in ("second.json", "second.npz")
            for content in (b"", b"{", b"[]", b'{"source": 1}', b"\xff", b"null")
        ),
        ("second.json", lambda path: path.write_bytes(path.read_bytes()[:-20])),
        ("second.npz", lambda path: path.write_bytes(path.read_bytes()[:-20])),
        ("second.npz", Path.unlink),
        ("second.json", damaged_row(passes="gone")),
        ("second.json", damaged_row(passes="yes")),
        ("second.json", damaged_row(value="much")),
        ("second.json", damaged_row(further=1)),
        ("second.json", damaged_row(name="first")),
    ],
)
def test_a_damaged_check_is_run_again_and_said(tmp_path, family, name, damage):
    first = validate(QUICK, ["bound"], tmp_path)
    damage(tmp_path / "checks" / "bound" / name)
    seen = []
    again = validate(QUICK, ["bound"], tmp_path, on_check=lambda row, origin: seen.append(origin))
    assert family == ["first", "second", "second"]
    assert seen == ["kept", "damaged"]
    assert again == {**first, "damaged": ["bound/second"]}
    console = Console(width=80, record=True, force_terminal=False)
    show(again, {}, tmp_path, console)
    assert "1 of 2 results kept from before were damaged" in console.export_text()
    assert validate(QUICK, ["bound"], tmp_path) == first, "and is whole again"


def test_an_archive_of_an_impossible_kind_is_damaged(tmp_path, family):
    validate(QUICK, ["bound"], tmp_path)
    path = tmp_path / "checks" / "bound" / "first.npz"
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # flag bit 0 of the directory: encrypted
    path.write_bytes(content)
    assert validate(QUICK, ["bound"], tmp_path)["damaged"] == ["bound/first"]


def test_a_damaged_check_of_other_source_is_merely_old(tmp_path, family, monkeypatch):
    validate(QUICK, ["bound"], tmp_path)
    damaged_row(passes="gone")(tmp_path / "checks" / "bound" / "second.json")
    monkeypatch.setattr(run, "source_of_truth", lambda: "changed")
    assert validate(QUICK, ["bound"], tmp_path)["damaged"] == []


def test_other_source_means_other_verdicts(tmp_path, family, monkeypatch):
    validate(QUICK, ["bound"], tmp_path)
    monkeypatch.setattr(run, "source_of_truth", lambda: "changed")
    validate(QUICK, ["bound"], tmp_path)
    assert family == ["first", "second", "first", "second"]


def test_the_digest_sees_every_file_that_is_measured():
    """Modules of the simulator that the checks import, or these, pictures and folders aside."""
    folder = Path(run.__file__).parent
    measured = [folder.parent / f"{name}.py" for name in run.SIMULATOR]
    imported = {
        name.split(".")[1]
        for path in [*folder.glob("*.py"), *measured]
        for name in re.findall(r"from (sim\.\w+)", path.read_text())
    }
    assert imported - {"validation", "picture", "run_folder"} == set(run.SIMULATOR)


def test_the_digest_changes_with_a_file(monkeypatch):
    before = run.source_of_truth()
    assert run.source_of_truth() == before
    monkeypatch.setattr(run, "SIMULATOR", run.SIMULATOR[1:])
    assert run.source_of_truth() != before


def test_numbers_do_not_depend_on_which_checks_run(tmp_path, monkeypatch):
    calls: list[str] = []
    first, second = counted(calls, "first"), counted(calls, "second")
    monkeypatch.setattr(run, "checks_of", lambda name: (first, second))
    both = validate(QUICK, ["bound"], tmp_path / "both")
    monkeypatch.setattr(run, "checks_of", lambda name: (second,))
    alone = validate(QUICK, ["bound"], tmp_path / "alone")
    assert alone["checks"] == both["checks"][1:]
    assert both["checks"][0]["measured"] != both["checks"][1]["measured"]
    other = validate(dataclasses.replace(QUICK, seed=1), ["bound"], tmp_path / "other")
    assert other["checks"][0]["measured"] != alone["checks"][0]["measured"]


def test_folders_of_something_else_are_refused(tmp_path, family):
    validate(QUICK, ["bound"], tmp_path / "a")
    with pytest.raises(ValueError, match="validate: out must be a new folder or one of .*seed.: 1"):
        validate(dataclasses.replace(QUICK, seed=1), ["bound"], tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="validate: out must be empty or a folder of a validation"):
        validate(QUICK, ["bound"], tmp_path / "b")
    with pytest.raises(ValueError, match="validate: out must be a folder"):
        validate(QUICK, ["bound"], tmp_path / "b" / "notes.txt")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["notes.txt"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": -1}, r"validate: seed must be an int in \[0, inf[\])], got -1"),
        ({"draws": 100}, r"validate: draws must be an int in \[20000, 1000000000\], got 100"),
    ],
)
def test_settings_are_checked(given, words):
    with pytest.raises(ValueError, match=words):
        ValidationSettings(**given)


def test_a_statistic_that_is_no_number_is_a_failure_in_json(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "checks_of", lambda name: (counted([], "bad", float("nan")),))
    summary = validate(QUICK, ["bound"], tmp_path)
    assert summary["checks"][0]["value"] is None
    assert not summary["passes"]


def test_the_screen_says_what_fails_and_why(tmp_path, monkeypatch):
    checks = counted([], "right"), counted([], "wrong", 7.5)
    monkeypatch.setattr(run, "checks_of", lambda name: checks)
    summary = validate(QUICK, ["bound"], tmp_path)
    console = Console(width=80, record=True, force_terminal=False)
    show(summary, {"bound.png": "a picture"}, tmp_path, console)
    text = console.export_text()
    assert "1 of 2 checks pass" in text
    assert "FAIL bound/wrong (claims 4.2): a number; measured" in text
    assert "z 7.5 outside [0.0, 4.0]" in text
    assert "FAIL bound/right" not in text
    rows = [line for line in text.splitlines() if line.startswith(("right 4.2", "wrong 4.2"))]
    assert [line.rstrip().rpartition(" ")[2] for line in rows] == ["pass", "FAIL"]


def test_every_family_has_a_figure():
    assert list(FIGURES) == list(FAMILIES)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "config.json is not valid JSON"),
        ("{}", "validate: out must be a new folder or one of .*, got {}"),
    ],
)
def test_damaged_settings_are_refused(tmp_path, family, content, words):
    validate(QUICK, ["bound"], tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        validate(QUICK, ["bound"], tmp_path)
    assert family == ["first", "second"]
