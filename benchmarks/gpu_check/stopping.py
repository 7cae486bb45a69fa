"""A run that is stopped on purpose, as Ctrl-C stops it, to be gone on with."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from train.progress import TrainingProgress


class StoppedError(BaseException):
    """Stands for Ctrl-C: nothing catches it."""


class StoppingProgress(TrainingProgress):
    """Says nothing, and stops the run after so many updates of this process."""

    def __init__(self, updates: int) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.left = updates

    def update(self, row: Mapping[str, Any]) -> None:
        """See :class:`TrainingProgress`."""
        super().update(row)
        self.left -= 1
        if self.left == 0:
            raise StoppedError
