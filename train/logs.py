"""The logs of a run: what each line holds, and cutting them back to a checkpoint.

``metrics.jsonl``, ``outcomes.jsonl`` and ``evaluation.jsonl`` hold no times, so that a resumed run
writes them byte for byte like an uninterrupted one; times are in ``timing.jsonl``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from cures.checks import fail
from cures.loop import UpdateRecord
from cures.records import Outcome, Plan, outcome_rows
from cures.sampling import effective_sample_size
from cures.schedulers import Scheduler
from cures.storage import JsonlLog, read_jsonl
from train.errors import reading

LOGS = ("metrics", "outcomes", "evaluation", "timing")
READ_BACK = {
    "evaluation": ("generated", "held_out", "standard_error"),
    "metrics": ("generated", "wasted"),
    "outcomes": ("prompt", "success", "trial", "is_pilot"),
}
MEASURED = (
    "trained", "groups", "empty_groups", "reward", "wasted", "informative", "learned_from",
    "truncated", "trained_tokens", "loss", "grad_norm", "entropy", "clip_share", "kl", "mismatch",
    "learning_rate", "step_scale",
)  # fmt: skip


class RunLogs:
    """The four logs of a run folder."""

    def __init__(self, folder: Path) -> None:
        self._logs = {name: JsonlLog(folder / f"{name}.jsonl") for name in LOGS}

    def __enter__(self) -> RunLogs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as stack:  # closes all of them even if one fails
            for log in self._logs.values():
                stack.callback(log.close)

    def positions(self) -> dict[str, int]:
        """Bytes of each log, all of them on disk."""
        return {name: log.position for name, log in self._logs.items()}

    def cut(self, positions: Mapping[str, int]) -> None:
        """Drop what was written after a checkpoint.

        Raises
        ------
        ValueError
            If a log is shorter than at the checkpoint; none is cut then.
        """
        if sorted(positions) != sorted(LOGS):
            fail("RunLogs.cut", "positions", f"for {list(LOGS)}", sorted(positions))
        for name, log in self._logs.items():
            if log.position < positions[name]:
                fail(
                    "RunLogs.cut",
                    str(log.path),
                    f"at least {positions[name]} bytes long, as at the checkpoint (restore it, or "
                    "train anew in another --out)",
                    log.position,
                )
        for name, log in self._logs.items():
            log.truncate(positions[name])

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """One line to one log."""
        self._logs[name].append(row)

    def append_outcome(self, plan: Plan, outcome: Outcome) -> list[dict[str, Any]]:
        """Evidence of one plan, also returned; ``step`` counts the updates its policy had seen."""
        rows = list(outcome_rows(plan, outcome, outcome.policy_step or 0))
        for row in rows:
            self._logs["outcomes"].append(row)
        return rows


class SilentLogs:
    """Logs of a rank that writes none."""

    def __enter__(self) -> SilentLogs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open."""

    def positions(self) -> dict[str, int]:
        """None."""
        return {}

    def cut(self, positions: Mapping[str, int]) -> None:
        """Nothing to cut."""

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Written elsewhere."""

    def append_outcome(self, plan: Plan, outcome: Outcome) -> list[dict[str, Any]]:
        """The rows that the first rank writes."""
        return list(outcome_rows(plan, outcome, outcome.policy_step or 0))


def read_log(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a log of ours; a damaged line is a ValueError that names the file."""
    path = folder / f"{name}.jsonl"
    with reading(path, "restore it, or train anew in another --out"):
        rows = read_jsonl(path)
        for number, row in enumerate(rows, start=1):
            missing = [key for key in READ_BACK[name] if key not in row]
            if missing:
                raise ValueError(f"line {number} lacks {missing}")
        if not rows and name == "evaluation":
            raise ValueError("it has no row for the warm start")
    return rows


def metrics_row(
    record: UpdateRecord,
    scheduler: Scheduler,
    held_out: float | None,
    verifier: Mapping[str, int] | None,
) -> dict[str, Any]:
    """A line of ``metrics.jsonl``; null where there was nothing to measure.

    Parameters
    ----------
    record : UpdateRecord
    scheduler : Scheduler
    held_out : float, optional
        Held-out success, if it was measured since the update before.
    verifier : mapping of str to int, optional
        Verdicts on the rollouts since the update before, reached and not.
    """
    ledger = scheduler.ledger
    trials = sum(int(outcome.trial_B.sum()) for outcome in record.outcomes)
    successes = sum(int(outcome.success_B.sum()) for outcome in record.outcomes)
    return {
        "step": record.step,
        "generated": record.generated,
        "pilots": ledger.pilots,
        "discarded": ledger.discarded,
        "missing": ledger.missing,
        "tokens": ledger.tokens,
        "plans": len(record.plans),
        "rollouts": trials,  # since the previous update, for any purpose
        "success": successes / trials if trials else None,
        "held_out": held_out,
        "verifier": verifier,
        "effective_sample_size": _effective_sample_size(scheduler),
        **{name: record.metrics.get(name) for name in MEASURED},
    }


def _effective_sample_size(scheduler: Scheduler) -> float | None:
    """Prompts that the scheduler's distribution amounts to, for those that have one."""
    distribution = getattr(scheduler, "sampling_distribution", None)  # not part of the protocol
    return None if distribution is None else float(effective_sample_size(distribution()))
