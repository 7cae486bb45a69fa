"""Data sets of the Hugging Face Hub, and the files that may be given instead of one."""

from __future__ import annotations

from typing import Any

FILES = (".jsonl", ".parquet")


def data_set(
    where: str, name: str, *, subset: str | None, split: str, revision: str, remedy: str
) -> Any:
    """A ``datasets.Dataset``.

    Parameters
    ----------
    where : str
        Who asks, for the error.
    name, subset, split, revision : str
        As ``datasets.load_dataset`` takes them.
    remedy : str
        What to do without it, for the error.

    Raises
    ------
    ValueError
        If it cannot be loaded, with the reason.
    """
    import datasets  # takes a second, and a file needs none of it

    try:
        return datasets.load_dataset(name, subset, split=split, revision=revision)
    except Exception as error:  # of the network, the Hub, the data set, the disk: all kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{where}: {name} cannot be loaded from the Hub ({reason}); {remedy}"
        ) from error
