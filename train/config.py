"""What a run is: a TOML file with ten sections, read into frozen, validated records.

Every value is checked when a record is built, by itself and against the others, and an unknown key is
refused by name, so that a misspelt option can never quietly keep its default. Sections ``[task]`` and
``[model]`` come in kinds, each with keys of its own. The resolved configuration goes into the run
folder; a run resumes only under the same one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cures.advantage import AGGREGATIONS, ESTIMATORS
from cures.checks import InWords, as_choice, fail
from train.engines.engine_config import VllmConfig
from train.loss_kinds import KL_KINDS, MISMATCH_KINDS
from train.model_config import DTYPES, PretrainedConfig, ScratchConfig
from train.moments_config import MomentsConfig
from train.scheduler_config import SchedulerConfig
from train.section import MAX_COUNT, MAX_RATE, MAX_SEED, MAX_SIZE, MAX_THREADS, Section, option
from train.tasks.arithmetic_config import ArithmeticConfig
from train.tasks.dataset_config import DatasetConfig
from train.tasks.procedural_config import ProceduralConfig

TASKS: dict[str, type[Section]] = {
    "arithmetic": ArithmeticConfig,
    "dataset": DatasetConfig,
    "procedural": ProceduralConfig,
}
MODELS: dict[str, type[Section]] = {"scratch": ScratchConfig, "pretrained": PretrainedConfig}
ENGINES = ("native", "transformers", "vllm", "vllm-server")
SHARDINGS = ("none", "fsdp")
SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True, kw_only=True)
class WarmStartConfig(Section):
    """Supervised steps on worked examples before any RL (train/warm_start.py)."""

    TITLE = "warm_start"

    steps: int = option(
        "steps, or the most if target_success is given", "int", 500, low=0, high=MAX_COUNT
    )
    examples: int = option(
        "worked examples, each used many times", "int", 4000, low=1, high=MAX_SIZE
    )
    batch_size: int = option("examples per step", "int", 64, low=1, high=MAX_SIZE)
    digit_noise: float = option(
        "chance of a wrong digit in an example's answer", "float", 0.0, low=0.0, high=1.0
    )
    adamw_lr: float = option(
        "AdamW, for embedding, head, norms, biases", "float", 3e-3,
        low=0.0, high=MAX_RATE, open_low=True,
    )  # fmt: skip
    muon_lr: float = option(
        "Muon, for the matrices of the body", "float", 0.02,
        low=0.0, high=MAX_RATE, open_low=True,
    )  # fmt: skip
    target_success: float | None = option(
        "stop as soon as this success rate is measured on problems that are neither examples nor "
        "held out; absent: after steps",
        "float", None, low=0.0, high=1.0, is_optional=True,
    )  # fmt: skip
    check_every: int = option("steps between these measurements", "int", 20, low=1, high=MAX_COUNT)
    check_problems: int = option(
        "such problems, answered once each", "int", 256, low=1, high=MAX_SIZE
    )
    seed: int = option("seed of weights, examples, order", "int", 0, low=0, high=MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(Section):
    """Generation (train/engines)."""

    TITLE = "rollout"

    engine: str = option("what generates", "choice", "native", choices=ENGINES)
    decode_temperature: float = option(
        "temperature of the language model", "float", 1.0, low=0.0, high=100.0, open_low=True
    )
    max_rows: int = option(
        "rollouts that engines native and transformers generate at once; bounds memory", "int", 2048,
        low=1, high=MAX_SIZE,
    )  # fmt: skip
    time_limit_s: float | None = option(
        "seconds for the rollouts of one plan; what is late is missing data; absent: none",
        "float", None, low=0.0, high=1e9, open_low=True, is_optional=True,
    )  # fmt: skip
    gradient_moments: bool = option(
        "measure gradient moments for schedulers that use them (Eq. 21)", "bool", False
    )


@dataclass(frozen=True, kw_only=True)
class LearnerConfig(Section):
    """The policy-gradient step (train/learner.py, train/loss.py)."""

    TITLE = "learner"

    estimator: str = option("advantage estimator", "choice", "grpo", choices=ESTIMATORS)
    aggregation: str = option(
        "weight of a rollout in the loss; prompt is Eq. 16", "choice", "prompt",
        choices=AGGREGATIONS,
    )  # fmt: skip
    learning_rate: float = option(
        "AdamW, highest", "float", 5e-4, low=0.0, high=MAX_RATE, open_low=True
    )
    schedule: str = option(
        "course of the learning rate over rollouts generated", "choice", "linear",
        choices=SCHEDULES,
    )  # fmt: skip
    warmup_share: float = option(
        "share of the rollouts over which it rises from 0", "float", 0.0, low=0.0, high=1.0
    )
    final_lr_share: float = option(
        "share of it at the end, of linear and cosine", "float", 0.05, low=0.0, high=1.0
    )
    minibatches: int = option("optimiser steps per update", "int", 2, low=1, high=MAX_SIZE)
    pass_tokens: int = option(
        "padded tokens per forward and backward pass; bounds memory; a longer rollout is a pass alone",
        "int", 4352, low=1, high=MAX_COUNT,
    )  # fmt: skip
    skip_untouched: bool = option(
        "leave out rollouts that no term of the loss touches: the gradient is the same",
        "bool",
        True,
    )
    clip_low: float = option(
        "PPO ratio clip, below 1", "float", 0.2, low=0.0, high=1.0, open_low=True
    )
    clip_high: float = option(
        "PPO ratio clip, above 1", "float", 0.28, low=0.0, high=1e6, open_low=True
    )
    entropy_bonus: float = option(
        "weight of the entropy per token", "float", 0.02, low=0.0, high=100.0
    )
    entropy_over: str = option(
        "rollouts whose entropy counts", "choice", "informative", choices=("informative", "all")
    )
    kl: str = option(
        "divergence from the model before training: k3 in the loss, k1 in the reward", "choice",
        "none", choices=KL_KINDS,
    )  # fmt: skip
    kl_weight: float = option("its weight", "float", 1e-3, low=0.0, high=100.0)
    mismatch: str = option(
        "correction where the sampler's probabilities are not the trainer's", "choice", "off",
        choices=MISMATCH_KINDS,
    )  # fmt: skip
    mismatch_cap: float = option(
        "largest factor of that correction", "float", 2.0, low=1.0, high=1e6
    )
    precision: str = option(
        "of matrix products; weights and log-probabilities stay as they are", "choice", "float32",
        choices=DTYPES,
    )  # fmt: skip
    activation_checkpointing: bool = option(
        "compute activations twice instead of keeping them", "bool", False
    )
    compile: bool = option("torch.compile the model's body for training", "bool", False)
    sharding: str = option(
        "over the processes of torchrun: every one has all weights, or (FSDP2) its part of them",
        "choice", "none", choices=SHARDINGS,
    )  # fmt: skip
    beta1: float = option("AdamW", "float", 0.9, low=0.0, high=1.0, open_high=True)
    beta2: float = option("AdamW", "float", 0.95, low=0.0, high=1.0, open_high=True)
    weight_decay: float = option("AdamW", "float", 0.0, low=0.0, high=100.0)
    max_grad_norm: float = option("gradient clip", "float", 1.0, low=0.0, high=1e9, open_low=True)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """Held-out success (train/evaluation.py)."""

    TITLE = "evaluation"

    every: int = option(
        "rollouts between evaluations: a grid all arms share", "int", low=1, high=MAX_COUNT
    )
    samples: int = option("answers per held-out problem", "int", 8, low=1, high=MAX_SIZE)
    oracle_rollouts: int = option(
        "rollouts per prompt of scheduler 'oracle'", "int", 16, low=1, high=MAX_SIZE
    )
    oracle_every: int = option("updates between its measurements", "int", 20, low=1, high=MAX_COUNT)
    seed: int = option("seed of the sampled answers", "int", 0, low=0, high=MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """The run as a whole."""

    TITLE = "run"

    rollouts: int = option(
        "rollouts in all, pilots and discarded ones included", "int", low=1, high=MAX_COUNT
    )
    checkpoint_every: int = option("updates between checkpoints", "int", 1, low=1, high=MAX_COUNT)
    checkpoints_kept: int = option("latest ones that stay on disk", "int", 2, low=2, high=MAX_SIZE)
    tensorboard: bool = option("write metrics for TensorBoard as well", "bool", False)
    wandb: str | None = option(
        "project of Weights & Biases to send metrics to; absent: none", "text", None,
        is_optional=True,
    )  # fmt: skip
    threads: int = option("torch threads; results depend on it", "int", 1, low=1, high=MAX_THREADS)
    cache: str = option("folder of cached warm starts", "text", "runs/warm_start")
    seed: int = option(
        "seed of sampling, minibatches and scheduler", "int", 0, low=0, high=MAX_SEED
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run."""

    task: ArithmeticConfig | DatasetConfig | ProceduralConfig
    model: ScratchConfig | PretrainedConfig
    warm_start: WarmStartConfig | None
    rollout: RolloutConfig
    moments: MomentsConfig
    vllm: VllmConfig
    learner: LearnerConfig
    scheduler: SchedulerConfig
    evaluation: EvaluationConfig
    run: RunConfig

    def __post_init__(self) -> None:
        wanted = self.scheduler.resolved_options().get("use_moments", False)
        if wanted is True and not self.rollout.gradient_moments:
            legal = "true, because the scheduler has use_moments = true"
            fail("[rollout]", "gradient_moments", legal, self.rollout.gradient_moments)
        if self.moments != MomentsConfig() and not self.rollout.gradient_moments:
            legal = "true, because [moments] says how"
            fail("[rollout]", "gradient_moments", legal, self.rollout.gradient_moments)
        is_new = isinstance(self.model, ScratchConfig)
        if is_new != (self.warm_start is not None):
            fail(
                "config", "[warm_start]", "given for models of kind scratch alone", self.model.kind
            )
        if is_new and not isinstance(self.task, ArithmeticConfig):
            legal = "scratch only with [task] kind arithmetic, whose characters it is made for"
            fail("[model]", "kind", legal, self.task.kind)
        if not is_new and isinstance(self.task, ArithmeticConfig):
            fail("[model]", "kind", "scratch with [task] kind arithmetic", self.model.kind)

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values, as written to ``config.json``; lists instead of tuples."""
        plain = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        for section in plain.values():
            for key, value in section.items():
                section[key] = list(value) if isinstance(value, tuple) else value
        return plain


SECTIONS: dict[str, type[Section]] = {
    cls.TITLE: cls
    for cls in (
        WarmStartConfig,
        RolloutConfig,
        MomentsConfig,
        VllmConfig,
        LearnerConfig,
        SchedulerConfig,
        EvaluationConfig,
        RunConfig,
    )
}
KINDS: dict[str, dict[str, type[Section]]] = {"task": TASKS, "model": MODELS}


def from_dict(content: Mapping[str, Any]) -> Config:
    """Build a configuration from nested mappings, as in TOML or ``config.json``.

    Raises
    ------
    ValueError
        Naming the section and key that is unknown, missing or illegal.
    """
    titles = [*KINDS, *SECTIONS]
    for title, section in content.items():
        if title not in titles:
            fail("config", "section", f"one of {titles}", title)
        if not isinstance(section, Mapping):
            fail("config", title, f"a table, written [{title}]", section)
    sections = {
        title: _section(_class(title, content.get(title, {})), content.get(title, {}))
        for title in titles
        if title != "warm_start"
    }
    # a model that exists already has none
    if "warm_start" in content or sections["model"].kind == "scratch":
        sections["warm_start"] = _section(WarmStartConfig, content.get("warm_start", {}))
    return Config(**{"warm_start": None, **sections})


def _class(title: str, content: Mapping[str, Any]) -> type[Section]:
    if title in SECTIONS:
        return SECTIONS[title]
    kinds = KINDS[title]
    return kinds[
        as_choice(f"[{title}]", "kind", content.get("kind", next(iter(kinds))), tuple(kinds))
    ]


def _section(cls: type[Section], content: Mapping[str, Any]) -> Any:
    values = dict(content)
    names = [f.name for f in fields(cls)]
    if cls is SchedulerConfig:
        rest = {k: values.pop(k) for k in list(values) if k not in names}
        options = values.get("options", {})  # of config.json; TOML has them beside the name
        if not isinstance(options, Mapping):
            fail("[scheduler]", "options", "a table", options)
        values["options"] = {**options, **rest}
    for key in values:
        if key not in names:
            fail(f"[{cls.TITLE}]", "key", f"one of {names}", key)
    for f in fields(cls):
        if f.metadata and f.default is dataclasses.MISSING and f.name not in values:
            fail(f"[{cls.TITLE}]", f.name, "given", InWords("nothing"))
    return cls(**values)
