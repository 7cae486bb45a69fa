"""Versions of a trainer that an adapter was not run with are refused in one sentence."""

from __future__ import annotations

from importlib import metadata

import pytest

from cures.integrations.supported import require


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.delenv("CURES_UNTESTED_VERSIONS", raising=False)

    def say(version):
        monkeypatch.setattr(metadata, "version", lambda package: version)

    return say


@pytest.mark.parametrize(
    "version", ["0.25.0", "0.25.1", "1.0.0", "1.9.2", "1.16.0", "1.16rc1", "1.16.3.post1"]
)
def test_what_was_run_passes(version, installed):
    installed(version)
    require("cures.integrations.trl", "trl", "0.25", "1.16")


@pytest.mark.parametrize("version", ["0.9.6", "0.24.0"])
def test_older_ones_are_refused(version, installed, monkeypatch):
    installed(version)
    monkeypatch.setenv("CURES_UNTESTED_VERSIONS", "1")
    with pytest.raises(ImportError) as error:
        require("cures.integrations.trl", "trl", "0.25", "1.16")
    assert str(error.value) == f"cures.integrations.trl: needs trl 0.25 to 1.16, got {version}"


def test_later_ones_are_refused_with_a_way_out(installed, monkeypatch):
    installed("2.0rc1")
    with pytest.raises(ImportError, match="got 2.0rc1"):
        require("cures.integrations.trl", "trl", "0.25", "1.16")
    installed("1.17.0")
    with pytest.raises(ImportError) as error:
        require("cures.integrations.trl", "trl", "0.25", "1.16")
    assert str(error.value) == (
        "cures.integrations.trl: needs trl 0.25 to 1.16, got 1.17.0 "
        "(CURES_UNTESTED_VERSIONS=1 tries it anyway)"
    )
    monkeypatch.setenv("CURES_UNTESTED_VERSIONS", "1")
    require("cures.integrations.trl", "trl", "0.25", "1.16")


@pytest.mark.parametrize("version", ["0.9.1", "0.9.1rc1", "0.9.2", "0.9.10.post1"])
def test_a_first_patch_release_that_is_enough(version, installed):
    installed(version)
    require("cures.integrations.verl", "verl", "0.9.1", "0.9")


@pytest.mark.parametrize("version", ["0.8.9", "0.9", "0.9.0", "0.9.0.post2"])
def test_patch_releases_before_it_are_refused(version, installed):
    installed(version)
    with pytest.raises(ImportError) as error:
        require("cures.integrations.verl", "verl", "0.9.1", "0.9")
    assert str(error.value) == (
        f"cures.integrations.verl: needs verl 0.9 from 0.9.1 on, got {version}"
    )


def test_nothing_installed():
    with pytest.raises(ImportError) as error:
        require("cures.integrations.trl", "no-such-trainer", "0.25", "1.16")
    assert str(error.value) == (
        "cures.integrations.trl: needs no-such-trainer 0.25 to 1.16, which is not installed"
    )
