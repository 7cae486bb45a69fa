"""Configurations as TOML files: reading, overriding single values, comparing, explaining."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cures.checks import InWords, fail
from train.config import KINDS, SECTIONS, Config, from_dict
from train.section import limits_text


def load(
    path: str | Path, overrides: Sequence[str] = (), tuned: str | Path | None = None
) -> Config:
    """Read a TOML file and apply ``section.key=value`` overrides.

    An override's value is read as TOML; what is not TOML (a bare word) is a string. ``tuned`` is a file
    of ``python -m sim tune``: its scheduler, group size and options take the place of the file's, before
    the overrides.
    """
    content = _read(Path(path))
    if tuned is not None:
        _take_tuned(content, _read(Path(tuned)), tuned)
    for override in overrides:
        _apply(content, override)
    for override in overrides:
        _refuse_shadowed(content, override)
    _resolve_group_size(content)
    return from_dict(content)


def _read(source: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"config: cannot read {source}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config: {source} is not valid TOML: {error}") from error


def _take_tuned(content: dict[str, Any], tuned: Mapping[str, Any], source: object) -> None:
    """The scheduler of a tuned file, with its own table and nothing left of the old one."""
    where = f"--scheduler {source}"
    legal = (
        "tables [scheduler], [scheduler.NAME] and [scheduler.tuned], as python -m sim tune writes"
    )
    new = tuned.get("scheduler")
    if list(tuned) != ["scheduler"] or not isinstance(new, Mapping):
        fail(where, "content", legal, list(tuned))
    for key in ("name", "group_size", "tuned"):
        if key not in new:
            fail(where, f"[scheduler] {key}", "given", InWords("nothing"))
    name = new["name"]
    for key in new:
        if key not in ("name", "group_size", "tuned", name):
            fail(where, f"[scheduler] {key}", f"left out, or in [scheduler.{name}]", new[key])
    old = content.setdefault("scheduler", {})
    if not isinstance(old, dict):
        fail("config", "scheduler", "a table, written [scheduler]", old)
    for key in ("batch_size", "group_size", name):
        old.pop(key, None)
    old.update(new)


def _resolve_group_size(content: dict[str, Any]) -> None:
    """``group_size`` of ``[scheduler]`` becomes ``batch_size = budget / group_size``."""
    scheduler = content.get("scheduler")
    if not isinstance(scheduler, dict) or "group_size" not in scheduler:
        return
    size, budget = scheduler["group_size"], scheduler.get("budget")
    if "batch_size" in scheduler:
        fail("[scheduler]", "batch_size", "left out: group_size gives it", scheduler["batch_size"])
    if type(budget) is not int or type(size) is not int or size < 1 or budget % size:
        fail("[scheduler]", "group_size", f"a divisor of budget = {budget!r}", size)
    del scheduler["group_size"]
    scheduler["batch_size"] = budget // size


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or len(path) < 2 or not all(path):
        fail("--set", "override", "section.key=value", override)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = content
    for name in path[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            fail("--set", "override", f"section.key=value, and {name} is a value", override)
    table[path[-1]] = value


def _refuse_shadowed(content: Mapping[str, Any], override: str) -> None:
    """An override that says nothing: the scheduler's own table wins, or another scheduler's is meant."""
    path = override.partition("=")[0].strip().split(".")
    scheduler = content.get("scheduler")
    if path[0] != "scheduler" or not isinstance(scheduler, Mapping):
        return
    name = scheduler.get("name", "uniform")
    own = scheduler.get(name) if isinstance(name, str) else None
    if len(path) == 2 and isinstance(own, Mapping) and path[1] in own:
        key = path[1]
        legal = (
            f"scheduler.{name}.{key}=..., because the table [scheduler.{name}] holds {key} and wins"
        )
        fail("--set", "override", legal, override)
    if len(path) == 3 and path[1] != name:
        fail("--set", "override", f"about the scheduler of this run, {name!r}", override)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ between two plain configurations, with both values."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {a!r} and is {b!r}")
    return found


def describe() -> str:
    """All sections and keys with meaning, default and limits, for ``--help``."""
    lines = []
    classes = [*(c for kinds in KINDS.values() for c in kinds.values()), *SECTIONS.values()]
    for cls in classes:
        title = cls.TITLE
        lines.append(f"[{title}]  {(cls.__doc__ or '').splitlines()[0]}")
        for f in fields(cls):
            if f.metadata:
                required = f.default is dataclasses.MISSING
                default = "required" if required else f"default {_toml(f.default)}"
                legal = limits_text(f.metadata)
                lines.append(f"  {f.name:<18} {f.metadata['help']} ({default}; {legal})")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, tuple):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
