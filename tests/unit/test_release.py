"""What a release says of itself is said alike everywhere."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

import cures

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_one_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert cures.__version__ == CITATION["version"] == PROJECT["version"]
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == PROJECT["version"]
    assert date.fromisoformat(newest[2]) == CITATION["date-released"]


def test_the_citation_has_what_its_schema_asks_for():
    # schema 1.2.0 of the Citation File Format: these four keys are required, of a reference those three
    assert CITATION["cff-version"] == "1.2.0"
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert CITATION["type"] == "software"
    assert CITATION["title"] == PROJECT["name"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["authors"] == [{"name": "The cures authors"}]
    (paper,) = CITATION["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert all(a.keys() == {"family-names", "given-names"} for a in paper["authors"])
    assert [i["value"] for i in paper["identifiers"]] == ["arXiv:2510.01037"]


@pytest.mark.parametrize("extra", ["sim", "train", "data", "theory", "docs", "dev"])
def test_what_is_installed_is_pinned(extra):
    """The extras that constraints.txt is for; the others have files or environments of their own."""

    def normal(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    names = {normal(name) for name in pinned}
    assert len(names) == len(pinned)
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra]
    for requirement in wanted:
        assert normal(re.match(r"[\w.-]+", requirement)[0]) in names, requirement
