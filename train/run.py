"""One training run: a folder, the loop of `cures`, logs, checkpoints, resuming.

What differs from the paper's algorithm, beside the scheduler chosen, is what the configuration says
otherwise: ``configs/qwen2.5-*`` are the paper's settings, ``configs/tiny_cpu.toml`` has an entropy bonus
instead of a KL term and a learning rate that falls. Progress is always counted in rollouts generated for
any purpose, pilots included, not in updates.

::

    python -m train run configs/tiny_cpu.toml --scheduler cures --out runs/first
    python -m train eval runs/first
    torchrun --nproc-per-node 2 -m train run configs/tiny_cpu.toml --out runs/two
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cures
from cures.checks import FloatArray
from cures.loop import UpdateRecord
from cures.storage import write_json
from train import checkpoint
from train.building import build_host, build_scheduler, fix_numerics, restore
from train.config import Config
from train.errors import NothingJudgedError, TrainError
from train.evaluation import by_category, held_out_success, mean_and_error
from train.folder import check_environment, check_questions, claim, locked
from train.host import LanguageModelHost
from train.logs import RunLogs, SilentLogs, metrics_row, read_log
from train.oracle import SuccessProbe
from train.progress import TrainingProgress
from train.stopping import StopRequest, TerminatedError, stop_request
from train.tasks.making import make_task
from train.tasks.protocol import Task
from train.trackers import Tracker, check_installed, numbers, trackers
from train.tuned import TunedPopulation, size_note
from train.world import World

if TYPE_CHECKING:
    from train.population_watch import Look, PopulationWatch


@dataclass(frozen=True, slots=True)
class _Run:
    """The parts of a run that is going on."""

    config: Config
    folder: Path
    host: LanguageModelHost
    scheduler: cures.Scheduler
    probe: SuccessProbe
    logs: RunLogs | SilentLogs
    progress: TrainingProgress
    grid: _Grid
    watch: PopulationWatch | None
    trackers: list[Tracker]
    stop: StopRequest

    @property
    def world(self) -> World:
        return self.host.world


@dataclass(slots=True)
class _Grid:
    """Held-out evaluations happen at multiples of ``evaluation.every``, the same for every arm."""

    last: int = 0  # rollouts at which the latest row of evaluation.jsonl stands
    held_out: float | None = None  # measured since the latest row of metrics.jsonl
    lost: NothingJudgedError | None = None  # ends the run as soon as its state is saved


def train(
    config: Config,
    folder: Path,
    progress: TrainingProgress,
    world: World = World(),  # noqa: B008  frozen
) -> dict[str, Any]:
    """Run or resume until ``config.run.rollouts`` rollouts; return the summary.

    Parameters
    ----------
    config : Config
    folder : Path
        Run folder; may hold a checkpoint of the same configuration. Under several processes all of
        them must see the same folder; the first one writes.
    progress : TrainingProgress
    world : World

    Raises
    ------
    ValueError
        If the configuration contradicts itself, or ``folder`` belongs to another one.
    TrainError
        If another process works in ``folder``; if training diverges; if the disk is full; if the
        held-out answers are lost; after SIGTERM.
    """
    check_installed(config.run)  # before what takes long
    fix_numerics(config)
    task = make_task(config)
    probe = SuccessProbe(config, task)
    scheduler = build_scheduler(config, task, probe)  # before the warm start: it checks its options
    with (
        _claimed(config, task, folder, progress, world) as logs,
        stop_request() as stop,
        _said(folder),
    ):
        world.barrier()  # the others read the folder only once it is claimed
        root = folder / "checkpoint"
        saved = checkpoint.load(root, world)
        host = build_host(config, task, world, root, report=progress.warm_start_step)
        probe.attach(host, scheduler)
        watch = _watch(config, len(task.pool.prompts), progress)
        first_step = 1 if saved is None else saved.position.updates + 1
        shown = trackers(config.run, folder, config.as_dict(), first_step) if world.is_first else []
        run = _Run(
            config, folder, host, scheduler, probe, logs, progress, _Grid(), watch, shown, stop
        )
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
        try:
            for record in records:
                _after_update(run, record)
            return _finish(run)
        finally:
            host.engine.close()
            for tracker in shown:
                tracker.close()


def _watch(config: Config, pool_size: int, progress: TrainingProgress) -> PopulationWatch | None:
    """For tuned settings; differences of size from what was tuned are told at once."""
    if config.scheduler.tuned is None:
        return None
    from train.population_watch import PopulationWatch  # scipy.stats takes a second

    tuned = TunedPopulation.of(config.scheduler.tuned)
    note = size_note(
        tuned,
        pool=pool_size,
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


def _start(run: _Run) -> None:
    """Empty logs and the evaluation of the warm start."""
    run.logs.cut(dict.fromkeys(run.logs.positions(), 0))
    _log_evaluation(run, _held_out(run), 0)


def _resume(run: _Run, saved: checkpoint.Checkpoint) -> None:
    root = run.folder / "checkpoint"
    restore(root, run.host, run.probe, saved)
    with checkpoint.reading(root, "scheduler.npz"):
        run.scheduler.load_state_dict(saved.scheduler_state)
    run.logs.cut(saved.position.log_bytes)
    run.world.barrier()  # the others read what is left
    run.grid.last = read_log(run.folder, "evaluation")[-1]["generated"]
    if run.watch is not None:  # what it saw before is on disk; warnings were given then
        run.watch.add(read_log(run.folder, "outcomes"))
    # what was lost is measured before anything is learned; it may be lost again
    _evaluate_passed(run, before=saved.position.generated + 1)
    _end_if_lost(run)
    run.progress.console.print(
        f"resumed after update {saved.position.updates} ({saved.position.generated} rollouts)",
        highlight=False,
        markup=False,
    )


@contextmanager
def _claimed(
    config: Config, task: Task, folder: Path, progress: TrainingProgress, world: World
) -> Iterator[RunLogs | SilentLogs]:
    """The logs of a folder that is ours, under its lock."""
    if not world.is_first:
        yield SilentLogs()
        return
    with locked(folder):
        claim(config, folder)
        check_questions(task, folder)
        if task.dropped:
            counts = ", ".join(f"{count} {reason}" for reason, count in task.dropped.items())
            text = f"[task]: {len(task.pool.prompts)} prompts; left out: {counts}"
            progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
        for change in check_environment(folder):
            progress.console.print(f"warning: {change}; a resumed run may differ in the last bits")
        with RunLogs(folder) as logs:
            yield logs


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """A full disk or lost evaluation ends a run with a sentence; what was saved before is whole."""
    try:
        yield
    except NothingJudgedError as error:
        raise NothingJudgedError(
            f"{error}; the same command goes on from the latest checkpoint in {folder}, if there is one"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TrainError(
            f"no space left for {folder}; its latest checkpoint is whole: free some space and give "
            "the same command again"
        ) from error


def _evaluate_passed(run: _Run, *, before: int) -> None:
    """Rows for the grid points that the rollouts so far have passed, ``before`` itself excluded.

    Called before the update that these rollouts lead to: at a point inside a plan the policy is still
    the old one, and pilots get no credit for an update that comes after them. (If the answers at such
    a point are lost, the run ends after that update, and the resumed run measures the point with it.)
    """
    every = run.config.evaluation.every
    _evaluate(run, range((run.grid.last // every + 1) * every, before, every))


def _evaluate(run: _Run, points: Sequence[int]) -> None:
    """Rows for these grid points; nothing more is measured once answers are lost."""
    if not points or run.grid.lost is not None:
        return
    rate_N = _held_out(run)
    try:
        for point in points:
            _log_evaluation(run, rate_N, point)
    except NothingJudgedError as error:
        run.grid.lost = error


def _end_if_lost(run: _Run) -> None:
    """Save and raise if the answers of an evaluation were lost; a resumed run measures it first."""
    if run.grid.lost is not None:
        _save_the_end(run)
        raise run.grid.lost


def _after_update(run: _Run, record: UpdateRecord) -> None:
    if record.generated % run.config.evaluation.every == 0 and record.generated > run.grid.last:
        _evaluate(run, [record.generated])
    held_out, run.grid.held_out = run.grid.held_out, None
    row = metrics_row(record, run.scheduler, held_out, run.host.take_verdicts())
    run.logs.append("metrics", row)
    timing = {f"{k}_cpu_time_s": v for k, v in run.host.cpu_time_s.items()}
    run.logs.append("timing", {"step": record.step, **timing, "unix_time_s": time.time()})
    run.progress.update(row)
    for tracker in run.trackers:
        tracker.log(record.step, numbers(row))
    is_asked_to_stop = run.world.any(run.stop.has_come)
    if is_asked_to_stop or record.step % run.config.run.checkpoint_every == 0:
        _save(run)
    _end_if_lost(run)
    if is_asked_to_stop:
        raise TerminatedError(f"stopped by SIGTERM after update {record.step}, which is saved")


def _held_out(run: _Run) -> FloatArray:
    host = run.host
    return held_out_success(
        host.engine, host.task, run.config.evaluation, version=host.updates, world=host.world
    )


def _log_evaluation(run: _Run, rate_N: FloatArray, generated: int) -> None:
    success, error = mean_and_error(rate_N)
    row = {
        "step": run.host.updates,
        "generated": generated,
        "held_out": success,
        "standard_error": error,
        "cells": by_category(rate_N, run.host.task),
    }
    run.logs.append("evaluation", row)
    run.grid.last, run.grid.held_out = generated, success
    run.progress.held_out(run.host.updates, generated, success)


def _save(run: _Run) -> None:
    host = run.host
    host.require_finite()
    tensors = host.state_tensors()
    tensors |= {f"oracle/{k}": v for k, v in run.probe.state_tensors().items()}
    position = checkpoint.Position(
        run.scheduler.update_step,
        host.generated,
        run.logs.positions(),
        shards=run.world.size if host.learner.is_sharded else 1,
    )
    checkpoint.save(
        run.folder / "checkpoint",
        checkpoint.Checkpoint(position, tensors, run.scheduler.state_dict()),
        checkpoint.Weights(host.model_tensors(), host.describe_model),
        kept=run.config.run.checkpoints_kept,
        world=run.world,
    )


def _save_the_end(run: _Run) -> None:
    """The last checkpoint, if it is not there already."""
    saved = checkpoint.latest_position(run.folder / "checkpoint")
    run.world.barrier()  # all have looked before the first one writes
    # an update may need no new rollout, and a plan may come after the last update
    now = (run.scheduler.update_step, run.scheduler.ledger.generated)
    if saved is None or (saved.updates, saved.generated) != now:
        _save(run)


def _verdicts(metrics: list[dict[str, Any]]) -> dict[str, int] | None:
    """Verdicts on the rollouts of all updates; None without a verifier."""
    rows = [row["verifier"] for row in metrics if row.get("verifier") is not None]
    return {kind: sum(row[kind] for row in rows) for kind in rows[0]} if rows else None


def _finish(run: _Run) -> dict[str, Any]:
    """Last checkpoint and evaluation, picture and summary."""
    scheduler, folder = run.scheduler, run.folder
    total = scheduler.ledger.generated
    _evaluate_passed(run, before=total)
    if run.grid.last < total:
        _evaluate(run, [total])
    _end_if_lost(run)
    _save_the_end(run)
    run.logs.positions()  # puts every line on disk before it is read back
    run.world.barrier()
    evaluations = read_log(folder, "evaluation")
    lost = {why: count for why, count in run.host.engine.lost.items() if count}
    if lost:
        counts = ", ".join(f"{count} by {why}" for why, count in lost.items())
        text = f"missing rollouts of engine {run.config.rollout.engine} in this process: {counts}"
        run.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
    metrics = read_log(folder, "metrics")
    summary = {
        "scheduler": scheduler.name,
        "updates": scheduler.update_step,
        "generated": scheduler.ledger.generated,
        "held_out_start": evaluations[0]["held_out"],
        "held_out_end": evaluations[-1]["held_out"],
        "standard_error": evaluations[-1]["standard_error"],
        "ledger": scheduler.ledger.as_dict(),
        "counters": dict(sorted(scheduler.counters.items())),
        "verifier": _verdicts(metrics),
    }
    if run.watch is not None:
        _warn(run, run.watch.finish())
        summary["tuned_population"] = [look.as_json() for look in run.watch.looks]
    if run.world.is_first:
        from train.curve import draw_curve  # as does matplotlib; a run should begin at once

        title = f"{scheduler.name}, seed {run.config.run.seed}"
        draw_curve(folder / "curve.png", evaluations, metrics, title)
        write_json(folder / "summary.json", summary)
    return summary
