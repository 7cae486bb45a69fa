"""What the three hooks share: the scheduler, what it has planned, what came back.

A plan becomes rows of verl's loader, one per group, each with the number of its rollouts; rows of no
rollouts, *fillers*, keep the number of rows at ``data.train_batch_size``. When all rollouts of the rows
are back they are observed. A plan that ends in no update (pilots) is not trained on: the replay buffer
fetches the rows of the next one at once, so verl's optimiser only ever sees updates.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import IntArray, InWords, as_int_array, fail
from cures.integrations.evidence import OUTCOMES, SHADOW_PLANS, RunFiles, load, plan_row, save
from cures.integrations.generation_batch import FILLER, GenerationBatch, Lesson
from cures.integrations.shadow import Shadow
from cures.integrations.verl.agreement import (
    DATA_SET,
    OWN,
    WHERE,
    Options,
    check_configuration,
    scheduler_of,
)
from cures.records import Plan, Selection, outcome_rows
from cures.schedulers import Scheduler


@dataclass(frozen=True, slots=True)
class Row:
    """A row for verl's loader.

    Attributes
    ----------
    prompt : int
        Number of the row of the training set.
    group : int
        Of the plan; -1 for a filler.
    rollouts : int
        0 for a filler.
    """

    prompt: int
    group: int
    rollouts: int


class Session:
    """One training run of verl under a scheduler.

    Parameters
    ----------
    config : DictConfig
        All of verl's.
    options : Options
    resume_from : Path, optional
        Folder of the checkpoint that verl is going to resume.

    Attributes
    ----------
    scheduler : Scheduler
        From :meth:`start` on.
    shadow : Shadow or None

    Raises
    ------
    ValueError
        If the configuration does not work with a scheduler.
    """

    scheduler: Scheduler

    def __init__(self, config: Any, options: Options, resume_from: Path | None = None) -> None:
        check_configuration(config, options)
        self.config = config
        self.options = options
        self.shadow: Shadow | None = None
        self.has_replay_buffer = False  # whether ours was made
        self.is_started = False
        self.trains_per_prompt = config.algorithm.adv_estimator == OWN
        self._resume_from = resume_from
        self._rows_per_fetch = int(config.data.train_batch_size)
        self._waiting: deque[Row] = deque()  # planned, not yet fetched
        self._fetched = 0  # rows, not yet rolled out
        self._plan: Plan | None = None  # open, or the one being trained on
        self._is_open = False
        self._selection = Selection.empty()
        self._group_of: dict[str, int] = {}  # verl's uid -> group
        self._rows_back = 0  # rollouts of the latest plan that came back
        self._mixed = 0.0
        self._names = [OUTCOMES, SHADOW_PLANS] if options.shadow else [OUTCOMES]
        folder = Path(config.trainer.default_local_dir)
        self._files = RunFiles(folder, self._names, is_writer=True)

    def start(self, num_prompts: int, column: Callable[[str], ArrayLike]) -> None:
        """Make the scheduler, or load it from the checkpoint.

        Parameters
        ----------
        num_prompts : int
            Rows of the training set.
        column : callable
            Name -> values of a column of it.

        Raises
        ------
        ValueError
            If our replay buffer is missing, the scheduler does not fit, or the checkpoint has no state.
        """
        if not self.has_replay_buffer:
            legal = f"CuresReplayBuffer of pkg://{WHERE}"
            fail(WHERE, "trainer.v1.sampler.custom_sampler", legal, InWords("another one"))
        self.scheduler = scheduler_of(
            self.config, self.options, num_prompts=num_prompts, column=column
        )
        if self.options.shadow:
            self.shadow = Shadow(self.scheduler, groups_per_batch=self._rows_per_fetch)
        self._files.open(None if self._resume_from is None else self._load(self._resume_from))
        self.is_started = True

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def require_data_set(self) -> None:
        """Refuse to go on where verl has made another training set than ours."""
        if not self.is_started:
            fail(WHERE, "data.custom_cls", DATA_SET, InWords("another one"))

    # -- a step --------------------------------------------------------------------------------------

    def fetch(self, count: int) -> list[Row]:
        """The next rows; a new plan is made when those of the last one are all fetched."""
        rows = []
        for _ in range(count):
            if not self._waiting:
                self._propose()
            rows.append(self._waiting.popleft())
        self._fetched += count
        return rows

    def _propose(self) -> None:
        if self._is_open:
            legal = f"CuresReplayBuffer of pkg://{WHERE}, and asked for every batch"
            fail(WHERE, "trainer.v1.sampler.custom_sampler", legal, InWords("another one"))
        self._plan = plan = self.scheduler.propose(limit=self.scheduler.budget)
        self._is_open = True
        columns = (plan.prompt_B.tolist(), plan.group_B.tolist(), plan.quota_B.tolist())
        self._waiting.extend(Row(*values) for values in zip(*columns, strict=True))
        fillers = -len(plan) % self._rows_per_fetch
        self._waiting.extend([Row(int(plan.prompt_B[0]), FILLER, 0)] * fillers)

    @property
    def rows_to_fetch(self) -> int:
        """Rows of the open plan that verl has not asked for."""
        return len(self._waiting)

    def rolled_out(self) -> int:
        """Number of the rows fetched since the last call."""
        count, self._fetched = self._fetched, 0
        return count

    def observe(
        self, uid_R: Sequence[str], group_R: ArrayLike, reward_R: ArrayLike, *, step: int
    ) -> bool:
        """Report everything that came back of the open plan.

        Parameters
        ----------
        uid_R : sequence of str, shape (R,)
            verl's name of the row.
        group_R : array_like of int, shape (R,)
            As in the rows.
        reward_R : array_like of float, shape (R,)
        step : int
            Updates of the policy that generated this.

        Returns
        -------
        is_update : bool
            Whether this is to be trained on; else it is to be dropped.
        """
        plan, group = self._open_plan(), as_int_array(WHERE, "group_R", group_R, low=0)
        batch = _laid_out(plan, group)
        outcome = batch.outcome(reward_R, threshold=self.options.threshold)
        self._selection = self.scheduler.observe(outcome)
        self._is_open = False
        self._group_of = dict(zip(uid_R, group.tolist(), strict=True))
        self._mixed = float(outcome.trial_B[outcome.is_mixed_B].sum() / max(group.size, 1))
        self._rows_back = group.size
        self._files.append(OUTCOMES, outcome_rows(plan, outcome, step))
        return self._selection.is_update

    def lesson(self, uid_R: Sequence[str], reward_R: ArrayLike) -> Lesson:
        """Advantages and weights of rows in verl's order; rows of unknown names are padding.

        Parameters
        ----------
        uid_R : sequence of str, shape (R,)
        reward_R : array_like of float, shape (R,)
        """
        assert self._plan is not None
        group_R = np.array([self._group_of.get(uid, FILLER) for uid in uid_R], dtype=np.int64)
        known = int((group_R != FILLER).sum())
        if known != self._rows_back:  # they would be taken for padding, or teach twice
            legal = f"names of the {self._rows_back} rollouts that came back, and of padding"
            fail(f"{WHERE}.lesson", "uid_R", legal, InWords(f"{known} known names"))
        return _laid_out(self._plan, group_R).lesson(
            self._selection,
            reward_R,
            estimator=self.scheduler.estimator,
            aggregation=self.options.aggregation,
            threshold=self.options.threshold,
        )

    def watch(self, prompt_R: ArrayLike, reward_R: ArrayLike, *, step: int) -> None:
        """A batch that verl chose itself, for the shadow.

        Parameters
        ----------
        prompt_R : array_like of int, shape (R,)
        reward_R : array_like of float, shape (R,)
        step : int
            As in :meth:`observe`.
        """
        assert self.shadow is not None
        watched = GenerationBatch.watched(prompt_R)
        outcome = watched.outcome(reward_R, threshold=self.options.threshold)
        cost = max(self.scheduler.budget, len(watched))  # failed rollouts cost as well
        self.shadow.observe(
            watched.plan.prompt_B, outcome.success_B, outcome.trial_B, rollouts=cost
        )
        self._files.append(OUTCOMES, outcome_rows(watched.plan, outcome, step))
        self._files.append(SHADOW_PLANS, (plan_row(plan, step) for plan in self.shadow.plans))

    def metrics(self) -> dict[str, float]:
        """Of the latest batch and totals, for verl's log."""
        if self.shadow is not None:
            found = self.shadow.metrics()
        else:
            assert self._plan is not None
            quota_B, ledger = self._plan.quota_B, self.scheduler.ledger
            found = {
                "groups": len(self._plan),
                "smallest_group": int(quota_B.min()),
                "largest_group": int(quota_B.max()),
                "mixed": self._mixed,
                "generated": ledger.generated,
                "pilots": ledger.pilots,
                "missing": ledger.missing,
                "updates": ledger.steps,
                **{f"count/{name}": times for name, times in self.scheduler.counters.items()},
            }
        return {f"cures/{name}": float(value) for name, value in found.items()}

    def _open_plan(self) -> Plan:
        if self._plan is None or not self._is_open or self._waiting:
            raise RuntimeError(f"{WHERE}: verl asked for rollouts of rows that it has not fetched")
        return self._plan

    # -- checkpoints ---------------------------------------------------------------------------------

    def save(self, checkpoint: Path) -> None:
        """Write everything needed to go on into a checkpoint's folder."""
        state = (self.shadow or self.scheduler).state_dict()
        save(checkpoint, self._files.positions(), state, is_shadow=self.options.shadow)

    def _load(self, checkpoint: Path) -> dict[str, int]:
        """Positions in the files; the rest is loaded."""
        positions, state = load(
            checkpoint,
            self._names,
            is_shadow=self.options.shadow,
            where=WHERE,
            parameter="the checkpoint to resume",
        )
        (self.shadow or self.scheduler).load_state_dict(state)
        return positions


def _laid_out(plan: Plan, group_R: IntArray) -> GenerationBatch:
    """Rows in the order given, prompts by group; that of padding is anyone's."""
    row_R = np.searchsorted(plan.group_B, group_R).clip(max=len(plan) - 1)
    return GenerationBatch(plan, plan.prompt_B[row_R], group_R)


_current: Session | None = None


def begin(session: Session) -> None:
    """Make a session the one of this process; the one before is over."""
    global _current
    if _current is not None:
        _current.close()
    _current = session


def current() -> Session:
    """The session of this process.

    Raises
    ------
    ValueError
        If none was begun: verl makes the checkpoint callback first.
    """
    if _current is None:
        legal = f"'{WHERE}.CuresCheckpoint', under trainer.use_v1=True"
        fail(WHERE, "trainer.checkpoint_callback_class", legal, None)
    return _current


def resume_folder(config: Any, latest: Callable[[str], str | None]) -> Path | None:
    """Folder of the checkpoint that verl will resume, by its own rules.

    Parameters
    ----------
    config : DictConfig
    latest : callable
        verl's ``find_latest_ckpt_path``.
    """
    trainer = config.trainer
    if trainer.resume_mode == "disable":
        return None
    if trainer.resume_mode == "resume_path":
        return Path(os.path.abspath(trainer.resume_from_path))
    found = latest(os.path.abspath(trainer.default_local_dir))
    return None if found is None else Path(found)
