"""What a person sees while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """One bar over rollouts; held-out success appears above it as it is measured.

    Parameters
    ----------
    console : Console
        Not a terminal: only the lines above the bar are printed.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            BarColumn(bar_width=6),  # everything fits into 80 columns
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._warm_start = self._progress.add_task(
            "warm start", unit="steps of warm start", status="", total=1, visible=False
        )
        self._training = self._progress.add_task(
            "training", unit="rollouts", status="", total=1, visible=False
        )
        self._held_out: float | None = None
        self._last: tuple[float, int] | None = None  # time and tokens at the update before

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def warm_start_step(self, step: int, steps: int) -> None:
        """One supervised step is done."""
        is_done = step == steps
        self._progress.update(self._warm_start, completed=step, total=steps, visible=not is_done)

    def start(self, generated: int, rollouts: int) -> None:
        """RL begins, possibly in the middle."""
        self._progress.update(self._warm_start, visible=False)
        self._progress.reset(self._training, completed=generated, total=rollouts, visible=True)

    def held_out(self, step: int, generated: int, success: float) -> None:
        """Held-out success was measured."""
        self._held_out = success
        self.console.print(
            f"step {step:>5}  rollouts {generated:>8}  held-out success {success:.3f}",
            highlight=False,
        )

    def update(self, row: Mapping[str, Any]) -> None:
        """One policy update is done; ``row`` is its line of ``metrics.jsonl``."""
        parts = [f"step {row['step']}"]
        if row["reward"] is not None:
            parts += [f"reward {row['reward']:.2f}", f"wasted {row['wasted']:.0%}"]
        if row["effective_sample_size"] is not None:
            parts.append(f"ess {row['effective_sample_size']:.0f}")
        if self._held_out is not None:
            parts.append(f"held-out {self._held_out:.3f}")
        now = time.monotonic()
        if self._last is not None and now > self._last[0]:
            speed = (row["tokens"] - self._last[1]) / (now - self._last[0])
            parts.append(f"{speed:,.0f} tok/s")
        self._last = (now, row["tokens"])
        self._progress.update(self._training, completed=row["generated"], status=" ".join(parts))
