"""The trainer: TRL generates, scores and learns; prompts, quotas, advantages and weights are ours.

What is overridden, the same on every supported release:

* ``_generate_and_score_completions``: other rows go in, other advantages come out. The plan is made
  here, when TRL is about to generate, so it is never a batch behind.
* ``_calculate_rewards``: its result, gathered over all processes, is kept.
* ``_generate``: runs with ``num_generations`` 1, because every row is a completion of its own (a vLLM
  server is otherwise sent every ``num_generations``-th row). Around it TRL sees one group, the whole
  batch, so that what it computes of groups is defined, and then replaced.
* ``_prepare_inputs``, ``_save_checkpoint``, ``_load_optimizer_and_scheduler``, ``train``, ``log``:
  skipped steps, state, files and totals.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOTrainer

from cures.checks import FloatArray, IntArray, as_bool, as_choice, as_float, as_int
from cures.integrations.evidence import OUTCOMES, SHADOW_PLANS, RunFiles, load, plan_row, save
from cures.integrations.generation_batch import (
    ROW_AGGREGATIONS,
    GenerationBatch,
    Lesson,
    single_precision,
)
from cures.integrations.shadow import Shadow
from cures.integrations.trl.agreement import WHERE, check, scheduler_of
from cures.integrations.trl.rows import (
    NUMBER,
    Numbered,
    filling,
    rows_at,
    take_rows,
    without_number,
)
from cures.records import Outcome, Plan, outcome_rows
from cures.schedulers import Scheduler
from cures.storage import State

# A mixin has no base; what it asks of the class beside it is, to the type checker, Any.
_Beside: Any = Any if TYPE_CHECKING else object


class CuresMixin(_Beside):  # type: ignore[misc]
    """Makes a subclass of ``GRPOTrainer`` take prompts and rollouts per prompt from a scheduler.

    Parameters
    ----------
    *args, **kwargs
        Of the trainer. ``args.generation_batch_size`` is the budget of a plan and
        ``args.num_generations`` the *average* number of rollouts per prompt.
    scheduler : Scheduler or str
        One plan per update (``is_single_plan``), or one but for pilots (``is_piloted``: ``cures``,
        ``gvm``), which are generation batches without an optimiser step. A name makes one for
        ``train_dataset``, these arguments and the estimator that is TRL's ``scale_rewards``: ``grpo``
        (group), ``dr_grpo`` (none) or ``reinforce++-baseline`` (batch).
    scheduler_settings : mapping, optional
        More keywords of a scheduler given by name.
    threshold : float, optional
        Turns the weighted sum of the reward functions into right (``>= threshold``) and wrong, for the
        scheduler and for the advantages. Without it the sum must be 0 or 1.
    aggregation : str
        ``prompt``: every draw of a prompt counts alike in the loss, whatever its quota (Eq. 16);
        ``rollout``: every rollout alike. The advantages carry the weights, on top of ``loss_type``.
    shadow : bool
        True: training is TRL's own, to the bit; the scheduler, of any kind, only watches
        (:mod:`cures.integrations.shadow`).

    Attributes
    ----------
    scheduler : Scheduler
    shadow : Shadow or None

    Raises
    ------
    ValueError
        If scheduler and trainer do not fit, naming what would.

    Notes
    -----
    ``max_steps`` and the learning rate's schedule count generation batches, pilots included, as they
    would without a scheduler. Schedulers that advise on the step (``Selection.step_scale``) are refused.
    """

    train_dataset: Any  # of the class beside this one
    num_generations: int
    optimizer: Any

    def __init__(
        self,
        *args: Any,
        scheduler: Scheduler | str,
        scheduler_settings: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        aggregation: str = "prompt",
        shadow: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if threshold is not None:
            threshold = single_precision(as_float(WHERE, "threshold", threshold))
        self._threshold = threshold
        self._aggregation = as_choice(WHERE, "aggregation", aggregation, ROW_AGGREGATIONS)
        self.scheduler = scheduler_of(self, scheduler, scheduler_settings or {})
        check(self, self.scheduler, shadow=as_bool(WHERE, "shadow", shadow))
        self.shadow: Shadow | None = None
        names = [OUTCOMES]
        if shadow:
            groups = self.args.generation_batch_size // self.args.num_generations
            self.shadow = Shadow(self.scheduler, groups_per_batch=groups)
            self.train_dataset = Numbered(self.train_dataset)
            names.append(SHADOW_PLANS)
        self._names = names
        is_writer = self.accelerator.is_main_process
        self._files = RunFiles(Path(self.args.output_dir), names, is_writer=is_writer)
        self._fillers = 0
        self._rewards = torch.zeros(0, 0)
        self._is_planned = False  # whether a planned batch is being generated and scored
        self._batch_learns, self._step_learns = True, False  # whether there is something to learn
        self._skipping: Any = None
        self._positions: dict[str, int] | None = None  # in the files; None: at their ends
        self.add_callback(_Start(self._begin))

    # -- generation batches --------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            found: dict[str, Any] = super()._generate_and_score_completions(inputs)
            return found
        if self.shadow is not None:
            return self._watched(self.shadow, inputs)
        world = self.accelerator.num_processes
        plan = self.scheduler.propose(limit=self.args.generation_batch_size)
        self._require_one_plan(plan)
        batch = GenerationBatch.of(plan, multiple=world)
        size = len(batch) // world
        mine = slice(
            self.accelerator.process_index * size, (self.accelerator.process_index + 1) * size
        )
        with self._one_group(len(batch)):
            output = super()._generate_and_score_completions(self._rows(batch.prompt_R[mine]))
        reward_R = self._total_reward()
        outcome = batch.outcome(reward_R, threshold=self._threshold)
        self._files.append(OUTCOMES, outcome_rows(plan, outcome, self.scheduler.update_step))
        selection = self.scheduler.observe(outcome)
        lesson = batch.lesson(
            selection,
            reward_R,
            estimator=self.scheduler.estimator,
            aggregation=self._aggregation,
            threshold=self._threshold,
        )
        self._batch_learns = selection.is_update
        self._fillers += batch.fillers
        self._report(batch, outcome, lesson)
        trained_R = lesson.advantage_R * lesson.weight_R
        return self._filled(output, trained_R[mine])

    def _require_one_plan(self, plan: Plan) -> None:
        """Every process plans for itself; what they plan must be the same."""
        if self.accelerator.num_processes == 1:
            return
        content = np.concatenate([plan.group_B, plan.prompt_B, plan.quota_B])
        digest = torch.tensor([zlib.crc32(content.tobytes())], device=self.accelerator.device)
        if self.accelerator.gather(digest).unique().numel() != 1:
            raise RuntimeError(
                f"{WHERE}: the processes' schedulers have planned differently; give every process the "
                "same scheduler, settings and seed"
            )

    def _rows(self, prompt_R: IntArray) -> list[dict[str, Any]]:
        """A row of the data set for every completion; copies, because TRL writes into rows."""
        prompts = np.unique(prompt_R).tolist()
        row_of = dict(zip(prompts, rows_at(self.train_dataset, prompts), strict=True))
        return [copy.deepcopy(row_of[prompt]) for prompt in prompt_R.tolist()]

    @contextmanager
    def _one_group(self, size: int) -> Iterator[None]:
        given, self.num_generations, self._is_planned = self.num_generations, size, True
        try:
            yield
        finally:
            self.num_generations, self._is_planned = given, False

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        if not self._is_planned:
            return super()._generate(*args, **kwargs)
        given, self.num_generations = self.num_generations, 1
        try:
            return super()._generate(*args, **kwargs)
        finally:
            self.num_generations = given

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        self._rewards = super()._calculate_rewards(*args, **kwargs)
        return self._rewards

    def _total_reward(self) -> FloatArray:
        """Weighted sum of the reward functions as TRL takes it, NaN where none gave one."""
        weights = self.reward_weights.to(self._rewards.device)
        total_R = (self._rewards * weights).nansum(dim=1)
        total_R[self._rewards.isnan().all(dim=1)] = torch.nan
        return np.asarray(total_R.double().cpu().numpy())

    def _filled(self, output: dict[str, Any], advantage_R: FloatArray) -> dict[str, Any]:
        """The batch with our advantages and as many rows as TRL takes.

        Where a plan is smaller, rows are repeated, and share their weight. Of a batch without an update
        a row for each pass is left, whose gradient is dropped.
        """
        have = advantage_R.size
        given = output["advantages"]
        output["advantages"] = torch.from_numpy(advantage_R).to(given)
        want = self.args.generation_batch_size // self.accelerator.num_processes
        if not self._batch_learns:
            want = self.args.steps_per_generation
        if want == have:
            return output
        index, copies = filling(have, want)
        output = take_rows(output, index, have)
        larger = want / have
        output["advantages"] = output["advantages"] * (larger / copies.to(given))
        if self._batch_learns:  # tokens of the whole batch, which some losses divide by
            output["num_items_in_batch"] = output["num_items_in_batch"] * larger
        return output

    def _report(self, batch: GenerationBatch, outcome: Outcome, lesson: Lesson) -> None:
        """TRL's metrics that hang on groups, and ours."""
        trial_B = outcome.trial_B
        mixed = int(trial_B[outcome.is_mixed_B].sum()) / max(int(trial_B.sum()), 1)
        metrics = self._metrics["train"]
        metrics["frac_reward_zero_std"][-1] = 1.0 - mixed
        logged = self._logs["advantages"]
        for _ in range(min(len(logged), len(batch))):
            logged.pop()
        logged.extend(lesson.advantage_R.tolist())
        quota_B = batch.plan.quota_B
        for name, value in (
            ("groups", len(batch.plan)),
            ("smallest_group", int(quota_B.min())),
            ("largest_group", int(quota_B.max())),
            ("mixed", mixed),
            ("wasted", float((lesson.advantage_R == 0.0).mean())),
        ):
            metrics[f"cures/{name}"].append(float(value))

    def _watched(self, shadow: Shadow, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's own batch; the shadow sees its prompts and rewards."""
        output: dict[str, Any] = super()._generate_and_score_completions(
            [without_number(row) for row in inputs]
        )
        number_R = torch.tensor([row[NUMBER] for row in inputs], device=self.accelerator.device)
        prompt_R = self.accelerator.gather(number_R).cpu().numpy()
        watched = GenerationBatch.watched(prompt_R)
        outcome = watched.outcome(self._total_reward(), threshold=self._threshold)
        shadow.observe(
            watched.plan.prompt_B, outcome.success_B, outcome.trial_B, rollouts=prompt_R.size
        )
        step = self.state.global_step
        self._files.append(OUTCOMES, outcome_rows(watched.plan, outcome, step))
        self._files.append(SHADOW_PLANS, (plan_row(plan, step) for plan in shadow.plans))
        return output

    # -- optimiser steps -----------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        inputs = super()._prepare_inputs(generation_batch)
        if self.model.training:
            self._step_learns = self._step_learns or self._batch_learns
        return inputs

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Without gradients a step changes nothing, neither weights nor moments."""
        if not self._step_learns:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        self._step_learns = False

    # -- a run ---------------------------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As TRL's."""
        self._positions = None
        self.scheduler.reissue_open_plans()  # of a run that was interrupted, maybe within a step
        self._step_learns = False
        try:
            return super().train(*args, **kwargs)
        finally:
            self._files.close()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._positions, state = load(
                Path(checkpoint),
                self._names,
                is_shadow=self.shadow is not None,
                where=WHERE,
                parameter="resume_from_checkpoint",
            )
            self._fillers = as_int(WHERE, "fillers", state.pop("fillers", None), 0)
            (self.shadow or self.scheduler).load_state_dict(state)

    def _begin(self) -> None:
        """Everything is made and loaded, nothing is generated yet."""
        self._files.open(self._positions)
        if self._can_skip_steps and self._skipping is None:
            inner = getattr(
                self.optimizer, "optimizer", self.optimizer
            )  # accelerate's has one inside
            self._skipping = inner.register_step_pre_hook(self._before_step)

    @property
    def _can_skip_steps(self) -> bool:
        return self.shadow is None and not self.scheduler.is_single_plan

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """State first: a checkpoint that TRL has finished always has it."""
        if self.args.should_save:
            trial = kwargs.get("trial", args[1] if len(args) > 1 else None)
            folder = Path(self._get_output_dir(trial=trial))
            content: State = {
                "fillers": self._fillers,
                **(self.shadow or self.scheduler).state_dict(),
            }
            target = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            save(target, self._files.positions(), content, is_shadow=self.shadow is not None)
        super()._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """TRL's, with totals under ``cures/``."""
        if self.model.training:
            logs.update({f"cures/{name}": value for name, value in self._totals().items()})
        super().log(logs, *args, **kwargs)

    def _totals(self) -> dict[str, float]:
        if self.shadow is not None:
            return self.shadow.metrics()
        ledger = self.scheduler.ledger
        return {
            "generated": ledger.generated,
            "pilots": ledger.pilots,
            "missing": ledger.missing,
            "updates": ledger.steps,
            "fillers": self._fillers,
            **{f"count/{name}": times for name, times in self.scheduler.counters.items()},
        }


class _Start(TrainerCallback):
    """Calls back when a run starts."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """See transformers."""
        self._begin()


class CuresGRPOTrainer(CuresMixin, GRPOTrainer):  # type: ignore[misc]
    """TRL's ``GRPOTrainer`` with prompts and rollouts per prompt from a scheduler: see the mixin."""
