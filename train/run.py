"""One training run: a folder, the loop of `cures`, logs, checkpoints, resuming.

What differs from the paper's algorithm, beside the scheduler chosen:

1. A model of 0.2 million parameters and arithmetic instead of mathematics problems.
2. No KL term; an entropy bonus instead (train/loss.py).
3. The learning rate falls linearly with rollouts generated; the paper's is constant.
4. Progress is counted in rollouts generated for any purpose, pilots included, not in updates.

::

    python -m train run configs/tiny_cpu.toml --scheduler cures --out runs/first
    python -m train eval runs/first
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cures
from cures.checks import FloatArray, fail
from cures.loop import UpdateRecord
from cures.schedulers.driver import Scheduler
from cures.storage import read_json, read_jsonl, write_json
from train import checkpoint
from train.config import Config, differences, from_dict
from train.curve import draw_curve
from train.evaluation import held_out_success
from train.host import LanguageModelHost
from train.logs import RunLogs, metrics_row
from train.oracle import SuccessProbe
from train.progress import TrainingProgress
from train.tasks import Task
from train.warm_start import warm_start


@dataclass(slots=True)
class _Run:
    """The parts of a run that is going on."""

    config: Config
    folder: Path
    host: LanguageModelHost
    scheduler: Scheduler
    probe: SuccessProbe
    logs: RunLogs
    progress: TrainingProgress


def train(config: Config, folder: Path, progress: TrainingProgress) -> dict[str, Any]:
    """Run or resume until ``config.run.rollouts`` rollouts; return the summary.

    Parameters
    ----------
    config : Config
    folder : Path
        Run folder; may hold a checkpoint of the same configuration.
    progress : TrainingProgress

    Raises
    ------
    ValueError
        If ``folder`` belongs to a run with another configuration, naming what differs.
    RuntimeError
        If another process works in ``folder``; if training diverges.
    """
    _claim(config, folder)
    with _locked(folder):
        fix_numerics(config)
        task = Task(config.task)
        model = warm_start(config, task, report=progress.warm_start_step).model
        host = LanguageModelHost(config, task, model)
        probe = SuccessProbe(config, host)
        scheduler = build_scheduler(config, task, probe)
        with RunLogs(folder) as logs:
            run = _Run(config, folder, host, scheduler, probe, logs, progress)
            _resume(run)
            progress.start(host.generated, config.run.rollouts)
            for record in cures.loop.run(scheduler, host, rollouts=config.run.rollouts):
                _after_update(run, record)
            _finish(run)
    return dict(read_json(folder / "summary.json"))


def fix_numerics(config: Config) -> None:
    """One thread count and deterministic kernels: the same run gives the same bits."""
    torch.set_num_threads(config.run.threads)
    torch.use_deterministic_algorithms(True)


def build_scheduler(config: Config, task: Task, probe: SuccessProbe) -> Scheduler:
    """The scheduler of ``[scheduler]``, given what only this host knows."""
    chosen = config.scheduler
    given_by_host: dict[str, dict[str, Any]] = {
        "staged": {
            "prior_success_rate_N": task.prior_success_rate_N,
            "total_rollouts": config.run.rollouts,
        },
        "oracle": {"true_success_rate": probe},
    }
    options = {"seed": config.run.seed, **given_by_host.get(chosen.name, {})}
    scheduler = cures.make_scheduler(
        chosen.name,
        num_prompts=config.task.pool_size,
        batch_size=chosen.batch_size,
        budget=chosen.budget,
        estimator=config.learner.estimator,
        **{**options, **chosen.resolved_options()},
    )
    probe.ledger = scheduler.ledger
    return scheduler


def load_run(folder: Path) -> tuple[Config, Task, LanguageModelHost]:
    """Configuration, task and host of a run folder, at its latest checkpoint.

    Raises
    ------
    ValueError
        If ``folder`` holds no run or no checkpoint.
    """
    if not (folder / "config.json").exists():
        fail("load_run", "folder", "a run folder (with config.json)", str(folder))
    config = from_dict(read_json(folder / "config.json"))
    saved = checkpoint.load(folder / "checkpoint")
    if saved is None:
        fail("load_run", "folder", "a run folder with a checkpoint", str(folder))
    fix_numerics(config)
    task = Task(config.task)
    host = LanguageModelHost(config, task, warm_start(config, task).model)
    _load_host(host, None, saved)
    return config, task, host


def _claim(config: Config, folder: Path) -> None:
    """Write the configuration into a new folder, or check that it is the one already there."""
    plain = config.as_dict()
    if (folder / "config.json").exists():
        found = differences(read_json(folder / "config.json"), plain)
        if found:
            raise ValueError(
                f"train: {folder} holds a run with another configuration: {'; '.join(found)}. "
                "Give another --out, or the old values"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        fail("train", "--out", "a new folder, an empty one or a run folder", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", plain)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process per run folder; the lock dies with the process."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"train: another process is training in {folder}") from error
        yield


def _resume(run: _Run) -> None:
    """Go on from the latest checkpoint, or start at step 0 with an evaluation."""
    saved = checkpoint.load(run.folder / "checkpoint")
    if saved is None:
        run.logs.cut(dict.fromkeys(run.logs.positions(), 0))
        _evaluate(run, 0, 0)
        return
    _load_host(run.host, run.probe, saved)
    run.scheduler.load_state_dict(saved.scheduler_state)
    run.probe.ledger = run.scheduler.ledger
    run.logs.cut(saved.position.log_bytes)
    run.progress.console.print(
        f"resumed after update {saved.position.updates} ({saved.position.generated} rollouts)",
        highlight=False,
    )


def _load_host(
    host: LanguageModelHost, probe: SuccessProbe | None, saved: checkpoint.Checkpoint
) -> None:
    oracle = {k: v for k, v in saved.host_tensors.items() if k.startswith("oracle/")}
    rest = {k: v for k, v in saved.host_tensors.items() if k not in oracle}
    host.load_state(rest, generated=saved.position.generated, updates=saved.position.updates)
    if probe is not None:
        probe.load_state_tensors({k.removeprefix("oracle/"): v for k, v in oracle.items()})


def _after_update(run: _Run, record: UpdateRecord) -> None:
    every = run.config.evaluation.every
    before = record.generated - sum(plan.num_rollouts for plan in record.plans)
    is_due = before // every < record.generated // every  # the grid that all arms share
    held_out = _evaluate(run, record.step, record.generated) if is_due else None
    row = metrics_row(record, run.scheduler.ledger, held_out)
    run.logs.append("metrics", row)
    run.logs.append_outcomes(record)
    timing = {f"{k}_cpu_time_s": v for k, v in run.host.cpu_time_s.items()}
    run.logs.append("timing", {"step": record.step, **timing, "unix_time_s": time.time()})
    run.progress.update(row)
    if record.step % run.config.run.checkpoint_every == 0:
        _save(run)


def _evaluate(run: _Run, step: int, generated: int) -> float:
    rate_N = held_out_success(
        run.host.model, run.host.task, run.config.evaluation, run.config.rollout
    )
    success = float(rate_N.mean())
    run.logs.append(
        "evaluation",
        {
            "step": step,
            "generated": generated,
            "held_out": success,
            "standard_error": standard_error(rate_N),
            "cells": _by_cell(rate_N, run.host.task),
        },
    )
    run.progress.held_out(step, generated, success)
    return success


def standard_error(rate_N: FloatArray) -> float:
    """Standard error of the mean over problems."""
    return float(rate_N.std(ddof=1) / np.sqrt(rate_N.size))


def _by_cell(rate_N: FloatArray, task: Task) -> dict[str, float]:
    return {
        f"{cell.family}{cell.digits}": float(rate_N[task.held_out.cell_N == c].mean())
        for c, cell in enumerate(task.cells)
        if (task.held_out.cell_N == c).any()
    }


def _save(run: _Run) -> None:
    tensors = run.host.state_tensors()
    tensors |= {f"oracle/{k}": v for k, v in run.probe.state_tensors().items()}
    position = checkpoint.Position(
        run.scheduler.update_step, run.host.generated, run.logs.positions()
    )
    checkpoint.save(
        run.folder / "checkpoint",
        checkpoint.Checkpoint(position, tensors, run.scheduler.state_dict()),
    )


def _finish(run: _Run) -> None:
    """Last checkpoint and evaluation, summary and picture."""
    saved = checkpoint.load(run.folder / "checkpoint")
    if saved is None or saved.position.updates < run.scheduler.update_step:
        _save(run)
    run.logs.positions()  # puts every line on disk before it is read back
    rows = read_jsonl(run.folder / "evaluation.jsonl")
    if rows[-1]["step"] != run.scheduler.update_step:
        _evaluate(run, run.scheduler.update_step, run.scheduler.ledger.generated)
        run.logs.positions()
        rows = read_jsonl(run.folder / "evaluation.jsonl")
    metric_rows = read_jsonl(run.folder / "metrics.jsonl")
    name = run.config.scheduler.name
    draw_curve(run.folder / "curve.png", rows, metric_rows, f"{name}, seed {run.config.run.seed}")
    write_json(
        run.folder / "summary.json",
        {
            "scheduler": name,
            "updates": run.scheduler.update_step,
            "held_out_start": rows[0]["held_out"],
            "held_out_end": rows[-1]["held_out"],
            "standard_error": rows[-1]["standard_error"],
            "generated": run.scheduler.ledger.generated,
            "ledger": run.scheduler.ledger.as_dict(),
            "counters": dict(sorted(run.scheduler.counters.items())),
        },
    )
