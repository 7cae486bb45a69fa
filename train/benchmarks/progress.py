"""What a person sees while a model is examined."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from train.benchmarks.answer_file import Answer


class ExamProgress:
    """One bar per benchmark, over answers; the share of right ones and the time left beside it.

    With several processes the bar is about the answers of the first one.

    Parameters
    ----------
    console : Console
        Not a terminal: nothing is drawn.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> ExamProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def report_of(self, name: str) -> _Bar:
        """What :func:`train.benchmarks.answering.answer_all` reports to."""
        return _Bar(self._progress, name)


class _Bar:
    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self._task: TaskID | None = None
        self._right = self._judged = 0

    def __call__(self, done: int, total: int, answers: Sequence[Answer]) -> None:
        """``done`` of ``total`` answers are there; ``answers`` are the new ones."""
        rewards = [answer.reward for answer in answers if answer.reward is not None]
        self._judged += len(rewards)
        self._right += int(sum(rewards))
        status = f"right {self._right / self._judged:.1%}" if self._judged else ""
        if self._task is None:  # what was there before must not count as speed
            self._task = self._progress.add_task(
                self._name, completed=done, total=total, status=status
            )
        else:
            self._progress.update(self._task, completed=done, total=total, status=status)
