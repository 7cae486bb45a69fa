"""What can go wrong in a run without being a fault of the program; bad input is a ValueError."""

from __future__ import annotations


class TrainError(RuntimeError):
    """Base of all of them: the command line prints the message and no traceback."""


class TrainingDivergedError(TrainError):
    """A loss, gradient or weight is not finite; the last checkpoint is from before that."""


class TargetNotReachedError(TrainError):
    """The supervised steps ended below ``target_success``."""


class FolderInUseError(TrainError):
    """Another process trains in the run folder."""
