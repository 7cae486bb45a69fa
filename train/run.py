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

import inspect
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
from cures.storage import write_json
from train import checkpoint
from train.config import Config, from_dict
from train.curve import draw_curve
from train.errors import reading
from train.evaluation import held_out_success
from train.folder import check_environment, claim, locked, read_config
from train.host import LanguageModelHost
from train.logs import RunLogs, metrics_row, read_log
from train.oracle import SuccessProbe
from train.population_watch import Look, PopulationWatch
from train.progress import TrainingProgress
from train.tasks.making import make_task
from train.tasks.protocol import Task
from train.tuned import TunedPopulation, size_note
from train.warm_start import untrained_model, warm_start


@dataclass(frozen=True, slots=True)
class _Run:
    """The parts of a run that is going on."""

    config: Config
    folder: Path
    host: LanguageModelHost
    scheduler: cures.Scheduler
    probe: SuccessProbe
    logs: RunLogs
    progress: TrainingProgress
    grid: _Grid
    watch: PopulationWatch | None


@dataclass(slots=True)
class _Grid:
    """Held-out evaluations happen at multiples of ``evaluation.every``, the same for every arm."""

    last: int = 0  # rollouts at which the latest row of evaluation.jsonl stands
    held_out: float | None = None  # measured since the latest row of metrics.jsonl


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
        If the configuration contradicts itself, or ``folder`` belongs to another one.
    TrainError
        If another process works in ``folder``; if training diverges.
    """
    fix_numerics(config)
    task = make_task(config)
    probe = SuccessProbe(config, task)
    scheduler = build_scheduler(config, task, probe)  # before the warm start: it checks its options
    with locked(folder), _claimed(config, folder) as logs:
        for change in check_environment(folder):
            progress.console.print(f"warning: {change}; a resumed run may differ in the last bits")
        saved = checkpoint.load(folder / "checkpoint")
        if saved is None:
            model = warm_start(config, task, report=progress.warm_start_step).model
        else:
            model = untrained_model(config, task)
        host = LanguageModelHost(config, task, model)
        probe.attach(host, scheduler)
        watch = _watch(config, len(task.pool.prompts), progress)
        run = _Run(config, folder, host, scheduler, probe, logs, progress, _Grid(), watch)
        if saved is None:
            _start(run)
        else:
            _resume(run, saved)
        progress.start(host.generated, config.run.rollouts)

        def on_outcome(plan: cures.Plan, outcome: cures.Outcome) -> None:
            rows = logs.append_outcome(plan, outcome)
            if watch is not None:
                _warn(run, watch.add(rows))
            _evaluate_passed(run, before=scheduler.ledger.generated)

        records = cures.loop.run(
            scheduler, host, rollouts=config.run.rollouts, on_outcome=on_outcome
        )
        for record in records:
            _after_update(run, record)
        return _finish(run)


def _watch(config: Config, pool_size: int, progress: TrainingProgress) -> PopulationWatch | None:
    """For tuned settings; differences of size from what was tuned are told at once."""
    if config.scheduler.tuned is None:
        return None
    tuned = TunedPopulation.of(config.scheduler.tuned)
    note = size_note(
        tuned,
        pool=config.task.pool_size,
        budget=config.scheduler.budget,
        rollouts=config.run.rollouts,
    )
    if note is not None:
        progress.console.print(note, highlight=False, markup=False, soft_wrap=True)
    return PopulationWatch(tuned, rollouts=config.run.rollouts, seed=config.run.seed)


def _warn(run: _Run, looks: list[Look]) -> None:
    for look in looks:
        if look.has_left and run.watch is not None:
            text = look.warning(run.watch.tuned.name)
            run.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)


def fix_numerics(config: Config) -> None:
    """One thread count and deterministic kernels: the same run gives the same bits."""
    torch.set_num_threads(config.run.threads)
    torch.use_deterministic_algorithms(True)


def build_scheduler(config: Config, task: Task, probe: SuccessProbe) -> cures.Scheduler:
    """The scheduler of ``[scheduler]``; keywords it requires and this host knows are filled in."""
    chosen = config.scheduler
    known_to_host = {
        "category_N": task.category_N,
        "features_N_D": task.features_N_D,
        "prior_success_rate_N": task.prior_success_rate_N,
        "total_rollouts": config.run.rollouts,
        "true_success_rate": probe,
        "learnable": probe.learnable_N,
    }
    known_to_host = {key: value for key, value in known_to_host.items() if value is not None}
    options: dict[str, Any] = {"seed": config.run.seed}
    for keyword, default in cures.scheduler_settings(chosen.name).items():
        if default is inspect.Parameter.empty and keyword in known_to_host:
            options[keyword] = known_to_host[keyword]
    for keyword, value in chosen.resolved_options().items():
        if isinstance(value, str) and value == "host":
            if keyword not in known_to_host:
                fail("[scheduler]", f"{keyword} = 'host'", f"one of {list(known_to_host)}", keyword)
            value = known_to_host[keyword]
        options[keyword] = value
    return cures.make_scheduler(
        chosen.name,
        num_prompts=len(task.pool.prompts),
        batch_size=chosen.batch_size,
        budget=chosen.budget,
        estimator=config.learner.estimator,
        **options,
    )


def load_run(folder: Path) -> tuple[Config, Task, LanguageModelHost]:
    """Configuration, task and host of a run folder, at its latest checkpoint.

    Raises
    ------
    ValueError
        If ``folder`` holds no run, no checkpoint, or a damaged one.
    """
    content = read_config(folder)
    with reading(folder / "config.json", "restore it, or train anew in another --out"):
        config = from_dict(content)
    saved = checkpoint.load(folder / "checkpoint")
    if saved is None:
        fail("load_run", "folder", "a run folder with a checkpoint", str(folder))
    fix_numerics(config)
    task = make_task(config)
    host = LanguageModelHost(config, task, untrained_model(config, task))
    _load(folder, host, SuccessProbe(config, task), saved)
    return config, task, host


def _start(run: _Run) -> None:
    """Empty logs and the evaluation of the warm start."""
    run.logs.cut(dict.fromkeys(run.logs.positions(), 0))
    _log_evaluation(run, _held_out(run), 0)


def _resume(run: _Run, saved: checkpoint.Checkpoint) -> None:
    _load(run.folder, run.host, run.probe, saved)
    with checkpoint.reading(run.folder / "checkpoint", "scheduler.npz"):
        run.scheduler.load_state_dict(saved.scheduler_state)
    run.logs.cut(saved.position.log_bytes)
    run.grid.last = read_log(run.folder, "evaluation")[-1]["generated"]
    if run.watch is not None:  # what it saw before is on disk; warnings were given then
        run.watch.add(read_log(run.folder, "outcomes"))
    run.progress.console.print(
        f"resumed after update {saved.position.updates} ({saved.position.generated} rollouts)",
        highlight=False,
        markup=False,
    )


def _load(
    folder: Path, host: LanguageModelHost, probe: SuccessProbe, saved: checkpoint.Checkpoint
) -> None:
    prefix = "oracle/"
    oracle = {k: v for k, v in saved.host_tensors.items() if k.startswith(prefix)}
    rest = {k: v for k, v in saved.host_tensors.items() if k not in oracle}
    with checkpoint.reading(folder / "checkpoint", "host.safetensors"):
        host.load_state(rest, generated=saved.position.generated, updates=saved.position.updates)
        probe.load_state_tensors({k.removeprefix(prefix): v for k, v in oracle.items()})


@contextmanager
def _claimed(config: Config, folder: Path) -> Iterator[RunLogs]:
    """The logs of a folder that is ours, under its lock."""
    claim(config, folder)
    with RunLogs(folder) as logs:
        yield logs


def _evaluate_passed(run: _Run, *, before: int) -> None:
    """Rows for the grid points that the rollouts so far have passed, ``before`` itself excluded.

    Called before the update that these rollouts lead to: at a point inside a plan the policy is still
    the old one, and pilots get no credit for an update that comes after them.
    """
    every = run.config.evaluation.every
    points = range((run.grid.last // every + 1) * every, before, every)
    if points:
        rate_N = _held_out(run)
        for point in points:
            _log_evaluation(run, rate_N, point)


def _after_update(run: _Run, record: UpdateRecord) -> None:
    every = run.config.evaluation.every
    if record.generated % every == 0 and record.generated > run.grid.last:
        _log_evaluation(run, _held_out(run), record.generated)
    held_out, run.grid.held_out = run.grid.held_out, None
    row = metrics_row(record, run.scheduler, held_out)
    run.logs.append("metrics", row)
    timing = {f"{k}_cpu_time_s": v for k, v in run.host.cpu_time_s.items()}
    run.logs.append("timing", {"step": record.step, **timing, "unix_time_s": time.time()})
    run.progress.update(row)
    if record.step % run.config.run.checkpoint_every == 0:
        _save(run)


def _held_out(run: _Run) -> FloatArray:
    host = run.host
    return held_out_success(
        host.engine, host.task, run.config.evaluation, version=host.updates, world=host.world
    )


def _log_evaluation(run: _Run, rate_N: FloatArray, generated: int) -> None:
    success = float(np.nanmean(rate_N))
    row = {
        "step": run.host.updates,
        "generated": generated,
        "held_out": success,
        "standard_error": standard_error(rate_N),
        "cells": by_category(rate_N, run.host.task),
    }
    run.logs.append("evaluation", row)
    run.grid.last, run.grid.held_out = generated, success
    run.progress.held_out(run.host.updates, generated, success)


def standard_error(rate_N: FloatArray) -> float:
    """Standard error of the mean over problems; those without a judged answer are left out."""
    return float(np.nanstd(rate_N, ddof=1) / np.sqrt(np.isfinite(rate_N).sum()))


def by_category(rate_N: FloatArray, task: Task) -> dict[str, float]:
    """Mean of every kind of held-out problem, by name."""
    category_N = task.held_out_category_N
    if category_N is None:
        return {}
    return {
        name: float(np.nanmean(rate_N[category_N == c]))
        for c, name in enumerate(task.category_names)
        if np.isfinite(rate_N[category_N == c]).any()
    }


def _save(run: _Run) -> None:
    run.host.require_finite()
    tensors = run.host.state_tensors()
    tensors |= {f"oracle/{k}": v for k, v in run.probe.state_tensors().items()}
    position = checkpoint.Position(
        run.scheduler.update_step, run.host.generated, run.logs.positions()
    )
    checkpoint.save(
        run.folder / "checkpoint",
        checkpoint.Checkpoint(position, tensors, run.scheduler.state_dict()),
    )


def _finish(run: _Run) -> dict[str, Any]:
    """Last checkpoint and evaluation, picture and summary."""
    scheduler, folder = run.scheduler, run.folder
    total = scheduler.ledger.generated
    _evaluate_passed(run, before=total)
    if run.grid.last < total:
        _log_evaluation(run, _held_out(run), total)
    saved = checkpoint.latest_position(folder / "checkpoint")
    # an update may need no new rollout, and a plan may come after the last update
    if saved is None or (saved.updates, saved.generated) != (scheduler.update_step, total):
        _save(run)
    run.logs.positions()  # puts every line on disk before it is read back
    evaluations = read_log(folder, "evaluation")
    title = f"{scheduler.name}, seed {run.config.run.seed}"
    draw_curve(folder / "curve.png", evaluations, read_log(folder, "metrics"), title)
    summary = {
        "scheduler": scheduler.name,
        "updates": scheduler.update_step,
        "generated": scheduler.ledger.generated,
        "held_out_start": evaluations[0]["held_out"],
        "held_out_end": evaluations[-1]["held_out"],
        "standard_error": evaluations[-1]["standard_error"],
        "ledger": scheduler.ledger.as_dict(),
        "counters": dict(sorted(scheduler.counters.items())),
    }
    if run.watch is not None:
        _warn(run, run.watch.finish())
        summary["tuned_population"] = [look.as_json() for look in run.watch.looks]
    write_json(folder / "summary.json", summary)
    return summary
