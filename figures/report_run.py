"""One run of ``python -m train run`` as its report needs it, finished or not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cures.checks import as_int, fail
from cures.ledger import Ledger
from cures.posterior import BetaPosterior
from cures.storage import State, load_state, read_json
from figures.run_folders import read_fields
from figures.visits import Visits
from train import checkpoint
from train.building import build_scheduler
from train.config import Config, from_dict
from train.folder import check_questions, read_config
from train.oracle import SuccessProbe
from train.tasks.making import make_task
from train.tasks.protocol import Task

FIELDS = {
    "metrics": ("step", "generated", "trained", "reward", "wasted", "effective_sample_size"),
    "evaluation": ("generated", "held_out", "standard_error"),
    "outcomes": ("prompt", "step", "success", "trial"),
    "timing": ("unix_time_s", "rollout_cpu_time_s", "update_cpu_time_s"),
}
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ReportedRun:
    """What is known of a run.

    Attributes
    ----------
    folder : Path
    config : dict
        As in ``config.json``.
    is_finished : bool
        It has a summary. Of any other run everything here is as at its latest checkpoint, from which
        it would go on.
    ledger : Ledger
    metrics, evaluation, timing : list of dict
    seen : Visits
    posterior : BetaPosterior
    posterior_is : str
        Where it comes from.
    text_of : callable or None
        Prompt id -> question.
    notes : list of str
        What is missing, and why.
    """

    folder: Path
    config: dict[str, Any]
    is_finished: bool
    ledger: Ledger
    metrics: list[Row]
    evaluation: list[Row]
    timing: list[Row]
    seen: Visits
    posterior: BetaPosterior
    posterior_is: str
    text_of: Callable[[int], str] | None
    notes: list[str]


def read_run(folder: Path) -> ReportedRun:
    """Read a run folder; nothing in it is changed.

    Raises
    ------
    ValueError
        If it holds no run, one that has neither a summary nor a checkpoint yet, or logs that lack what
        a report shows; the sentence names the file.
    """
    config = read_config(folder)
    if not (folder / "questions.json").is_file():
        fail("report", "RUN", "a training run with questions.json", str(folder))
    questions = read_fields(folder / "questions.json", ("prompts",))
    num_prompts = as_int("questions.json", "prompts", questions["prompts"], 1)
    is_finished = (folder / "summary.json").is_file()
    notes: list[str] = []
    state, position = _saved(folder, is_finished, notes)
    if is_finished:
        flat = read_fields(folder / "summary.json", ("ledger",))["ledger"]
    else:
        flat = {k.removeprefix("ledger/"): v for k, v in state.items() if k.startswith("ledger/")}
    lengths = {} if is_finished or position is None else position.log_bytes
    logs = {name: _read_log(folder, name, lengths.get(name)) for name in FIELDS}
    if [row["step"] for row in logs["metrics"]] != list(range(1, len(logs["metrics"]) + 1)):
        fail("report", "metrics.jsonl", "a line per update, in order", str(folder))
    if not logs["evaluation"]:
        fail("report", "evaluation.jsonl", "at least one line", str(folder))
    seen = Visits.of(logs["outcomes"], num_prompts)
    settings, task = _task(config, folder, questions, notes)
    posterior = None
    if settings is not None and task is not None and state:
        posterior = _saved_posterior(settings, task, state, notes)
    posterior_is = "the scheduler's own, as in the latest checkpoint"
    if posterior is None:
        posterior = BetaPosterior(num_prompts)
        posterior.update(seen.prompt_V, seen.success_V, seen.trial_V)
        posterior_is = "Beta(1, 1) told all rollouts of the run, none of them forgotten"
    return ReportedRun(
        folder=folder,
        config=config,
        is_finished=is_finished,
        ledger=Ledger.from_state(flat),
        metrics=logs["metrics"],
        evaluation=logs["evaluation"],
        timing=logs["timing"],
        seen=seen,
        posterior=posterior,
        posterior_is=posterior_is,
        text_of=None if task is None else task.pool.text,
        notes=notes,
    )


def _saved(
    folder: Path, is_finished: bool, notes: list[str]
) -> tuple[State, checkpoint.Position | None]:
    """State of the scheduler at the latest checkpoint, and where that stands."""
    root = folder / "checkpoint"
    try:
        position = checkpoint.latest_position(root)
        if position is not None:
            saved = checkpoint.model_folder(root).parent
            with checkpoint.reading(root, "scheduler.npz"):
                return load_state(saved / "scheduler.npz"), position
    except ValueError as error:  # a finished run has its summary
        if not is_finished:
            raise
        notes.append(f"The checkpoint cannot be read: {error}.")
        return {}, None
    if not is_finished:
        fail("report", "RUN", "a run with a summary.json or a checkpoint", str(folder))
    notes.append("There is no checkpoint.")
    return {}, None


def _read_log(folder: Path, name: str, length: int | None) -> list[Row]:
    """Rows of a log, or of its first ``length`` bytes: what comes after a checkpoint may be torn."""
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        fail("report", "RUN", f"a training run with {path.name}", str(folder))
    content = path.read_bytes()
    if length is not None and len(content) < length:
        legal = f"at least {length} bytes long, as at the checkpoint"
        fail("report", str(path), legal, len(content))
    rows = []
    for number, line in enumerate(content[:length].splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"report: {path}, line {number}: {error}") from error
        missing = [key for key in FIELDS[name] if not isinstance(row, dict) or key not in row]
        if missing:
            fail("report", f"{path}, line {number}", f"with {', '.join(missing)}", row)
        rows.append(row)
    return rows


def _task(
    config: dict[str, Any], folder: Path, questions: dict[str, Any], notes: list[str]
) -> tuple[Config | None, Task | None]:
    """The run's settings and questions, where this version reads the first and still has the second."""
    try:
        settings = from_dict(config)
        task = make_task(settings)
    except (ValueError, OSError, ImportError) as error:
        notes.append(f"The questions cannot be made here, so prompts have no text: {error}.")
        return None, None
    with tempfile.TemporaryDirectory() as empty:  # that of the run is not to be written
        check_questions(task, Path(empty))
        now = read_json(Path(empty) / "questions.json")
    if now != questions:
        notes.append("The questions have changed since the run, so prompts have no text.")
        return None, None
    return settings, task


def _saved_posterior(
    settings: Config, task: Task, state: State, notes: list[str]
) -> BetaPosterior | None:
    """The scheduler's own, if it keeps one."""
    try:
        scheduler = build_scheduler(settings, task, SuccessProbe(settings, task))
        scheduler.load_state_dict(state)
    except ValueError as error:
        notes.append(f"The scheduler's state is of another version, and not shown: {error}.")
        return None
    return scheduler.posterior
