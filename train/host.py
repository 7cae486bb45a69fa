"""The trainer as a :class:`cures.loop.Host`: generate, verify, remember; then train on a selection.

Everything that is decided about prompts, quotas, weights and advantages comes from `cures`. A *wasted*
rollout is one whose advantage is exactly 0.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

import cures
from cures.checks import fail
from cures.records import Moments, Outcome, Plan, Selection
from train.answers import answers
from train.config import Config
from train.engines.making import make_engine
from train.engines.protocol import Engine
from train.errors import TrainingDivergedError
from train.gradient_moments import gradient_moments
from train.learner import Learner, policy_of
from train.moments.parameters import parameter_set
from train.policy import Policy, is_finite
from train.rollouts import Rollouts, slots
from train.seeds import Stream, numpy_generator, prompt_seeds, torch_seed
from train.sequences import Sequences
from train.sharding import reshard, shard, whole_weights
from train.tasks.protocol import Task
from train.world import World

CHECKED_PROMPTS = 64  # of the pool, by one forward pass before every checkpoint


class LanguageModelHost:
    """A language model that learns from verified rollouts.

    Parameters
    ----------
    config : Config
    task : Task
    model : PreTrainedModel
        Warm started; updated in place.
    engine : Engine, optional
        What generates; default: that of ``[rollout]``.
    folder : Path
        Run folder, for engines that keep files.
    reference : PreTrainedModel, optional
        For a KL term.
    world : World
        The processes that train together; all of them make the same calls.

    Attributes
    ----------
    generated : int
        Rollouts generated so far, for any purpose.
    updates : int
        Policy updates so far.
    cpu_time_s : dict of str to float
        CPU seconds spent in ``rollout`` and ``update`` since the start of this process.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        model: PreTrainedModel,
        *,
        engine: Engine | None = None,
        folder: Path = Path(),
        reference: PreTrainedModel | None = None,
        world: World = World(),  # noqa: B008  frozen
    ) -> None:
        self.config = config
        self.task = task
        self.world = world
        learner = config.learner
        is_sharded = learner.sharding == "fsdp" and world.size > 1
        self.engine: Engine = engine or make_engine(config, model, folder, world)
        self.policy = self._policy(model, is_sharded)
        self.learner = Learner(
            self.policy,
            learner,
            total_rollouts=config.run.rollouts,
            seed=config.run.seed,
            reference=None if reference is None else self._policy(reference, is_sharded),
            world=world,
            is_sharded=is_sharded,
        )
        self.pending = Rollouts.empty(task.decoding.max_new_tokens)
        self.generated = 0
        self.updates = 0
        self._verdicts: Counter[str] = Counter()  # this rank's, since they were last taken
        self.cpu_time_s = {"rollout": 0.0, "update": 0.0}
        self._takes_hidden = False
        if config.rollout.gradient_moments:  # refused now rather than after the first pilots
            chosen = parameter_set(self.policy, config.moments.parameters)
            self._takes_hidden = not chosen.needs_backward
        self._hand_over()

    def _policy(self, model: PreTrainedModel, is_sharded: bool) -> Policy:
        policy = policy_of(model, self.task.decoding, self.config.learner)
        if is_sharded:
            shard(policy, self.world, policy.autocast)
        return policy

    @property
    def model(self) -> PreTrainedModel:
        """The model that is trained."""
        return self.policy.model

    @property
    def estimator(self) -> str:
        """Advantage estimator of the loss."""
        return self.config.learner.estimator

    def rollout(self, plan: Plan) -> Outcome:
        """Generate and verify every planned rollout; keep them under their groups.

        What the engine or the verifier lost is missing: neither kept nor counted as a trial.
        """
        started = time.process_time()
        new, hidden_R_T_h = self._generate(plan)
        self.pending = Rollouts.concatenate([self.pending, new])
        self.generated += int(plan.quota_B.sum())
        slot_R = slots(new.group_R.numpy(), plan.group_B)
        trial_B = np.bincount(slot_R, minlength=len(plan))
        success_B = np.bincount(slot_R, weights=new.reward_R.numpy(), minlength=len(plan))
        token_B = np.bincount(slot_R, weights=new.length_R.numpy(), minlength=len(plan))
        outcome = Outcome.of(
            plan,
            success_B.astype(np.int64),
            trial_B,
            token_B=token_B.astype(np.int64),
            policy_step=self.updates,
            moments_B=self._moments(plan, new, hidden_R_T_h),
        )
        self.cpu_time_s["rollout"] += time.process_time() - started
        return outcome

    def _generate(self, plan: Plan) -> tuple[Rollouts, Tensor | None]:
        """Rollouts that are not missing, with hidden states if moments can do with them."""
        rollout, seed = self.config.rollout, self.config.run.seed
        rows = int(plan.quota_B.sum())
        entries = rows * self.task.decoding.max_new_tokens * self.model.config.hidden_size
        before = dict(self.task.pool.verifier_counters)
        found = answers(
            self.engine,
            self.task.pool,
            plan.prompt_B,
            plan.quota_B,
            prompt_seeds(seed, Stream.GENERATION, plan.plan_id, len(plan)),
            self.task.decoding,
            version=self.updates,
            world=self.world,
            luck_R=numpy_generator(seed, Stream.COINS, plan.plan_id).random(rows),
            time_limit_s=rollout.time_limit_s,
            keeps_hidden=self._takes_hidden
            and self._measures(plan)
            and entries <= self.config.moments.exact_entries,
        )
        self._verdicts.update(self.task.pool.verifier_counters)
        self._verdicts.subtract(before)
        completions = found.completions
        table = Rollouts.of(
            completions,
            np.repeat(plan.group_B, plan.quota_B),
            np.repeat(plan.prompt_B, plan.quota_B),
            found.reward_R,
        )
        is_there = torch.from_numpy(np.isfinite(found.reward_R))
        hidden = completions.hidden_R_T_h
        return table.take(is_there), None if hidden is None else hidden[is_there]

    def take_verdicts(self) -> dict[str, int] | None:
        """Verdicts on rollouts since the last call, of all ranks together, reached and not.

        None if nothing counts them. All ranks make this call.
        """
        kinds = list(self.task.pool.verifier_counters)
        if not kinds:
            return None
        counts = torch.tensor([self._verdicts[kind] for kind in kinds])
        self.world.add_up([counts])
        self._verdicts.clear()
        return dict(zip(kinds, counts.tolist(), strict=True))

    def _measures(self, plan: Plan) -> bool:
        return plan.wants_moments and self.config.rollout.gradient_moments

    def _moments(self, plan: Plan, new: Rollouts, hidden_R_T_h: Tensor | None) -> Moments | None:
        if not self._measures(plan):
            return None
        return gradient_moments(
            self.policy,
            self.task.pool.prompts.take(new.prompt_R.numpy()),
            new,
            plan.group_B,
            self.config.moments,
            pass_tokens=self.config.learner.pass_tokens,
            seed=torch_seed(self.config.run.seed, Stream.SKETCHES, plan.plan_id),
            world=self.world,
            hidden_R_T_h=hidden_R_T_h,
        )

    def _hand_over(self) -> None:
        """Give the engine the weights of this update."""
        self.engine.load_weights(whole_weights(self.model), self.updates)

    def update(self, selection: Selection) -> Mapping[str, float]:
        """One policy update; the learning rate is multiplied by ``selection.step_scale``."""
        started = time.process_time()
        chosen = self.pending.of_groups(selection.group_G, selection.keep_G2)
        slot_R = slots(chosen.group_R.numpy(), selection.group_G)
        trial_G = np.bincount(slot_R, minlength=selection.group_G.size)
        baseline_R = None if selection.baseline_G is None else selection.baseline_G[slot_R]
        reward_R = chosen.reward_R.numpy()
        advantage_R = cures.advantages(
            reward_R, slot_R, estimator=self.estimator, baseline_R=baseline_R
        )
        weight_R = cures.rollout_weights(
            selection.weight_G, trial_G, chosen.length_R.numpy(), self.config.learner.aggregation
        )
        metrics = self.learner.update(
            chosen,
            self.task.pool.prompts.take(chosen.prompt_R.numpy()),
            advantage_R,
            weight_R,
            generated=self.generated,
            step_scale=selection.step_scale,
            update_step=self.updates,
        )
        self.updates += 1
        self._hand_over()
        self._drop(selection)
        self.cpu_time_s["update"] += time.process_time() - started
        measured = {
            "trained": len(chosen),
            "groups": int(selection.group_G.size),
            "empty_groups": int((trial_G == 0).sum()),
            "reward": float(reward_R.mean()) if len(chosen) else None,
            "wasted": float((advantage_R == 0.0).mean()) if len(chosen) else None,
            "truncated": float(chosen.is_truncated_R.double().mean()) if len(chosen) else None,
            "trained_tokens": int(chosen.length_R.sum()),
            "step_scale": float(selection.step_scale),
            **metrics,
        }
        return {key: value for key, value in measured.items() if value is not None}

    def discard(self, selection: Selection) -> None:
        """Drop groups that will never be trained on."""
        self._drop(selection)

    def _drop(self, selection: Selection) -> None:
        gone = np.concatenate([selection.group_G, selection.discard_G])
        self.pending = self.pending.without(gone)

    def require_finite(self) -> None:
        """Refuse a policy that is not finite, as finite weights may give.

        Raises
        ------
        TrainingDivergedError
            Naming the update after which this was found.
        """
        prompts = self.task.pool.prompts
        some = prompts.take(np.arange(min(CHECKED_PROMPTS, len(prompts))))
        end = torch.full((len(some), 1), self.task.decoding.end_tokens[0])
        sequences = Sequences.of(some, end, torch.ones(len(some), dtype=torch.int64))
        if not is_finite(self.policy, sequences.to(self.learner.device)):
            raise TrainingDivergedError(
                f"after update {self.updates}: a weight or a probability of the model is not "
                "finite; the checkpoint before is kept; start anew with a smaller learning_rate"
            )

    def model_tensors(self) -> dict[str, Tensor]:
        """All weights by name on the CPU, on the first rank; empty on the others."""
        reshard(self.policy)
        weights = ((name, value.cpu()) for name, value in whole_weights(self.model))
        return {name: value for name, value in weights if self.world.is_first}

    def describe_model(self, folder: Path) -> None:
        """Write what ``from_pretrained`` reads beside the weights."""
        self.model.config.save_pretrained(folder)
        if self.model.can_generate() and self.model.generation_config is not None:
            self.model.generation_config.save_pretrained(folder)
        self.task.save_tokenizer(folder)

    def state_tensors(self) -> dict[str, Tensor]:
        """Beside the weights: optimiser state of this rank and rollouts that wait for their update."""
        reshard(self.policy)
        sections = {
            "optimizer": self.learner.state_tensors(),
            "pending": self.pending.as_dict(),
        }
        return {f"{s}/{key}": value for s, part in sections.items() for key, value in part.items()}

    def load_state(self, tensors: Mapping[str, Tensor], *, generated: int, updates: int) -> None:
        """Inverse of :meth:`state_tensors`, with the two counts of the same moment.

        The weights are those that the host was made with.
        """
        parts: dict[str, dict[str, Tensor]] = {"optimizer": {}, "pending": {}}
        for key, value in tensors.items():
            section, _, name = key.partition("/")
            if section not in parts:
                fail("LanguageModelHost.load_state", "tensors", f"of sections {list(parts)}", key)
            parts[section][name] = value
        self.learner.load_state_tensors(parts["optimizer"])
        self.pending = Rollouts.from_dict(parts["pending"], self.task.decoding.max_new_tokens)
        self.at(generated=generated, updates=updates)

    def at(self, *, generated: int, updates: int) -> None:
        """Say what the weights have seen."""
        self.generated = generated
        self.updates = updates
        self._hand_over()
