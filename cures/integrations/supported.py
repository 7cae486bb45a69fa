"""Which versions of a trainer an adapter was run with; any other one is refused in one sentence."""

from __future__ import annotations

import os
import re
from importlib import metadata

ANYWAY = "CURES_UNTESTED_VERSIONS"  # environment variable


def require(adapter: str, package: str, oldest: str, newest: str) -> None:
    """Refuse a package that is not there or of a version that the adapter was not run with.

    Parameters
    ----------
    adapter : str
        Module that needs it.
    package : str
        Name of the distribution.
    oldest, newest : str
        First and last supported release, ``"major.minor"``, the first one with a patch if it matters;
        every patch release of the last one is.

    Raises
    ------
    ImportError
        Saying which releases are supported. Later ones are let through by the environment variable
        ``CURES_UNTESTED_VERSIONS=1``.
    """
    supported = f"{package} {oldest} to {newest}"
    if oldest.startswith(f"{newest}."):
        supported = f"{package} {newest} from {oldest} on"
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise ImportError(f"{adapter}: needs {supported}, which is not installed") from None
    if _release(found, oldest) < _release(oldest, oldest):
        raise ImportError(f"{adapter}: needs {supported}, got {found}")
    if _release(found, newest) > _release(newest, newest) and os.environ.get(ANYWAY) != "1":
        raise ImportError(f"{adapter}: needs {supported}, got {found} ({ANYWAY}=1 tries it anyway)")


def _release(version: str, like: str) -> list[int]:
    """Its numbers, as many as the other one has."""
    numbers = [int(part) for part in re.findall(r"\d+", version)]
    return [*numbers, 0, 0][: like.count(".") + 1]
