"""What the parts work on: a setting, a new model, rollouts of it, an update on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from transformers import PreTrainedModel

from benchmarks.gpu_check.clock import Deadline
from benchmarks.gpu_check.profiles import Profile
from benchmarks.gradient_moments import QUOTA
from cures.checks import IntArray
from train.config import Config, from_dict
from train.engines.native import NativeEngine
from train.engines.protocol import Completions, Decoding, Engine
from train.learner import Learner, policy_of
from train.model import new_model
from train.prompts import Prompts
from train.rollouts import Rollouts
from train.tasks.making import make_task


class MissingError(Exception):
    """What a part needs is not on this machine."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Of all parts; ``out`` is the output folder."""

    profile: Profile
    device: torch.device
    out: Path
    deadline: Deadline
    console: Console

    @property
    def has_gpu(self) -> bool:
        """Whether this is no rehearsal."""
        return self.device.type == "cuda"


@dataclass(frozen=True, eq=False)
class Subject:
    """An untrained model in float32 with the prompts and the decoding of its rollouts, :data:`QUOTA`
    of each prompt."""

    model: PreTrainedModel
    prompts: Prompts
    decoding: Decoding

    @classmethod
    def of(cls, setting: Setting, rollouts: int, new_tokens: int, *, ends: bool) -> Subject:
        """Arithmetic prompts, all of one length; rollouts end by chance, or all after ``new_tokens``."""
        task = make_task(setting.profile.config())
        prompts = task.pool.prompts.take(np.arange(rollouts // QUOTA))
        longest = int(prompts.length_N.max()) + new_tokens
        model = new_model(setting.profile.model, max_length=longest, seed=0).to(setting.device)
        end_tokens = task.decoding.end_tokens if ends else ()
        decoding = replace(task.decoding, max_new_tokens=new_tokens, end_tokens=end_tokens)
        return cls(model, prompts, decoding)

    @classmethod
    def short(cls, setting: Setting, *, ends: bool = True) -> Subject:
        """Of agreement, accumulation and moments."""
        return cls.of(setting, setting.profile.rollouts, setting.profile.new_tokens, ends=ends)

    @classmethod
    def long(cls, setting: Setting) -> Subject:
        """Of throughput, with the prompts of the largest number of rows."""
        return cls.of(setting, max(setting.profile.rows), setting.profile.long_tokens, ends=False)

    def first(self, rows: int) -> Subject:
        """With that many rollouts."""
        return replace(self, prompts=self.prompts.take(np.arange(rows // QUOTA)))

    @property
    def rows(self) -> int:
        """Rollouts."""
        return len(self.prompts) * QUOTA

    @property
    def prompt_tokens(self) -> int:
        """Of every prompt."""
        return int(self.prompts.length_N[0])

    def generate(self, engine: Engine, *, keeps_hidden: bool = False) -> Completions:
        """All rollouts, by weights of version 0."""
        index_P = np.arange(len(self.prompts))
        return engine.generate(
            self.prompts, np.full_like(index_P, QUOTA), index_P, self.decoding,
            version=0, keeps_hidden=keeps_hidden,
        )  # fmt: skip

    def batch(self, found: Completions) -> Batch:
        """Completions as a trainer keeps them; verdicts are coins."""
        prompt_R = np.repeat(np.arange(len(self.prompts)), QUOTA)
        coin_R = np.random.default_rng(0).integers(0, 2, prompt_R.size).astype(np.float64)
        return Batch(Rollouts.of(found, prompt_R, prompt_R, coin_R), self.prompts.take(prompt_R))

    def learner(self, config: Config) -> Learner:
        """As a host makes it in one process."""
        policy = policy_of(self.model, self.decoding, config.learner)
        return Learner(policy, config.learner, total_rollouts=config.run.rollouts, seed=0)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rollouts with the prompt of each."""

    rollouts: Rollouts
    prompts: Prompts

    @property
    def row_tokens_R(self) -> IntArray:
        """Tokens that a pass computes of each rollout."""
        return self.prompts.length_N + self.rollouts.length_R.numpy() - 1

    def update(self, learner: Learner) -> None:
        """One step on all rollouts: advantages are signs, so that none is left out."""
        rows = len(self.rollouts)
        advantage_R = 2.0 * self.rollouts.reward_R.numpy() - 1.0
        learner.update(
            self.rollouts, self.prompts, advantage_R, np.full(rows, 1.0 / rows),
            generated=0, step_scale=1.0, update_step=0,
        )  # fmt: skip


def native(model: PreTrainedModel, *, max_rows: int = 2**20) -> NativeEngine:
    """An engine with the model's weights as version 0."""
    engine = NativeEngine(model, max_rows=max_rows)
    engine.load_weights(model.state_dict().items(), 0)
    return engine


def config_of(profile: Profile, **learner: object) -> Config:
    """For updates that are timed or compared: one optimiser step, never cut short."""
    plain = {**profile.sections, "model": asdict(profile.model)}
    return from_dict({**plain, "learner": {"minibatches": 1, "max_grad_norm": 1e9, **learner}})
