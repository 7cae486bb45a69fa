"""Name of a verifier -> its function: one of ours, or anybody's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cures.checks import fail

OURS = ("math", "exact", "regex")
LEGAL = f"one of {', '.join(OURS)}, package.module:function or path/file.py:function"


def place_of(verifier: str | Callable[..., Any], where: str = "VerifierPool") -> str:
    """``module:function`` or ``file.py:function`` of a verifier.

    Parameters
    ----------
    verifier : str or callable
        A name, or a function that is defined at the top of a module that others can import.
    where : str
        For the error.

    Raises
    ------
    ValueError
        If it is no such name or function. Whether it exists shows when it is loaded.

    Examples
    --------
    >>> place_of("exact"), place_of("folder/mine.py:is_right")
    ('train.verifiers.exact:is_right', 'folder/mine.py:is_right')
    """
    if callable(verifier):
        module = getattr(verifier, "__module__", None)
        name = getattr(verifier, "__qualname__", "<locals>")
        if module in (None, "__main__") or not name.isidentifier():
            fail(where, "verifier", "a function at the top of a module to import", verifier)
        return f"{module}:{name}"
    if verifier in OURS:
        return f"train.verifiers.{verifier}:is_right"
    if not isinstance(verifier, str):
        fail(where, "verifier", LEGAL, verifier)
    module, _, name = verifier.rpartition(":")
    is_module = all(part.isidentifier() for part in module.split("."))
    if not name.isidentifier() or not (is_module or module.endswith(".py")):
        fail(where, "verifier", LEGAL, verifier)
    return verifier


def load(place: str) -> Callable[..., Any]:
    """The function at a place; runs the code of its module.

    Raises
    ------
    ValueError
        If there is no such module, file or function.
    """
    module_name, _, name = place.rpartition(":")
    if module_name.endswith(".py"):
        path = Path(module_name).resolve()
        spec = importlib.util.spec_from_file_location("verifier_of_a_file", path)
        if spec is None or spec.loader is None or not path.is_file():
            fail("verifier", "file", "one that exists", module_name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look there
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(module_name)
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        fail("verifier", f"function of {module_name}", "defined there", name)
    return function
