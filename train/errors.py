"""What can go wrong in a run without being a fault of the program; bad input is a ValueError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TrainError(RuntimeError):
    """Base of all of them: the command line prints the message and no traceback."""


class TrainingDivergedError(TrainError):
    """A loss, gradient, weight or probability is not finite; the last checkpoint is from before."""


class TargetNotReachedError(TrainError):
    """The supervised steps ended below ``target_success``; ``success``: when it was last measured."""

    def __init__(self, message: str, success: float | None) -> None:
        super().__init__(message)
        self.success = success


class NothingJudgedError(TrainError):
    """Engine or verifier lost the answers to nearly all held-out questions."""


class FolderInUseError(TrainError):
    """Another process trains in the run folder."""


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Whatever the content of a missing or damaged file leads to becomes a ValueError that names it.

    Only for reading: what is wrong inside is the file's fault, never the caller's.
    """
    try:
        yield
    except Exception as error:  # parsers of damaged files raise anything, MemoryError included
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path} is missing or damaged ({reason}); {remedy}") from error
