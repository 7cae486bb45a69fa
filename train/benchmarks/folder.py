"""A folder of answers belongs to one model, one way of asking and one process group at a time."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cures.checks import InWords, fail
from cures.storage import read_json, write_json
from train.benchmarks.answering import Exam
from train.errors import reading
from train.lock import folder_lock

FORMAT = "cures-eval-1"  # what tells our files from everybody else's
CONFIG = "config.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and keep it for one command.

    Raises
    ------
    ValueError
        If ``folder`` is a file, or holds anything but an evaluation; nothing is touched then.
    FolderInUseError
        If another process has it.
    """
    if folder.exists():
        if not folder.is_dir():
            fail("bench", "--out", "a folder", InWords(f"the file {folder}"))
        names = sorted(entry.name for entry in folder.iterdir() if entry.name[0] != ".")
        if names and CONFIG not in names:
            fail("bench", "--out", f"empty, or with the {CONFIG} of an evaluation", str(folder))
    with folder_lock(folder, "bench: another process is evaluating"):
        yield


def claim(settings_of: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write what answers depend on into new files, and check that old ones say the same.

    Parameters
    ----------
    settings_of : mapping of Path to mapping
        ``config.json`` and the file of each benchmark -> JSON values, nested mappings allowed.

    Raises
    ------
    ValueError
        If a file is there with other settings, all of which are named, or of another program. Nothing
        has been written then.
    """
    wanted = {
        path: json.loads(json.dumps({"format": FORMAT, **settings}))
        for path, settings in settings_of.items()
    }
    for path, content in wanted.items():
        if path.exists():
            _check_same(path, content)
    for path, content in wanted.items():
        if not path.exists():
            write_json(path, content)


def _check_same(path: Path, wanted: Mapping[str, Any]) -> None:
    with reading(path, "restore it, or give another --out"):
        there = read_json(path)
    if not isinstance(there, dict) or there.get("format") != FORMAT:
        fail("bench", str(path), f"of an evaluation (format {FORMAT!r})", InWords("something else"))
    old, new = _flat(there), _flat(wanted)
    changed = [
        f"{name} {old.get(name)!r} there, {new.get(name)!r} now"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    if changed:
        raise ValueError(  # not cures.checks.fail, which cuts what is long
            f"bench: {path} has answers under other settings: {'; '.join(changed)}. "
            "Give another --out, or the old values"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        is_nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if is_nested else {f"{prefix}{name}": value}
    return flat


def exam_hash(exam: Exam) -> str:
    """Fingerprint of token ids and references: another data file, template or tokenizer changes it."""
    digest = hashlib.sha256()
    for place, problem in enumerate(exam.problems):
        row = [exam.prompts.row(place).tolist(), problem.reference]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def weights_hash(named: Mapping[str, Tensor]) -> str:
    """Fingerprint of a model's weights, by name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name in sorted(named):
        value = named[name].detach().to("cpu").contiguous()
        content = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data)
        row = [name, str(value.dtype), list(value.shape), content]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
