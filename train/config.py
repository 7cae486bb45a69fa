"""What a run is: a TOML file with eight sections, read into frozen, validated records.

Every value is checked when a record is built, by itself and against the others, and an unknown key is
refused by name, so that a misspelt option can never quietly keep its default. The resolved
configuration goes into the run folder; a run resumes only under the same one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cures.advantage import AGGREGATIONS, ESTIMATORS
from cures.checks import fail
from train.scheduler_config import SchedulerConfig
from train.section import Section, option

FAMILIES = ("add", "sub", "mul", "dig")
MAX_SEED = 2**63 - 1
# Far beyond what a machine can do, so that a slip of the keyboard is refused by name at once.
MAX_SIZE = 10**7  # what is held in memory at one time
MAX_COUNT = 10**12  # what is only counted
MAX_WIDTH = 10**5
MAX_RATE = 10.0
MAX_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Section):
    """Arithmetic prompts (train/tasks.py)."""

    TITLE = "task"

    families: tuple[str, ...] = option("operators", "list", FAMILIES, choices=FAMILIES)
    digits: tuple[int, ...] = option(
        "numbers of digits of the operands", "list", (1, 2, 3, 4), choices=(1, 2, 3, 4)
    )
    pool_size: int = option("prompts to train on", "int", low=1, high=MAX_SIZE)
    held_out_size: int = option("unseen problems for evaluation", "int", 500, low=2, high=MAX_SIZE)
    dead_never: float = option(
        "share of the pool that is never right", "float", 0.0, low=0.0, high=1.0
    )
    dead_always: float = option(
        "share of the pool that is always right", "float", 0.0, low=0.0, high=1.0
    )
    coins: float = option(
        "share of the pool whose reward is a fair coin", "float", 0.0, low=0.0, high=1.0
    )
    seed: int = option("seed of the prompts", "int", 0, low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        total = self.dead_never + self.dead_always + self.coins
        if total > 1.0 + 1e-9:  # 0.6 + 0.3 + 0.1 may exceed 1 in the last bit
            fail("[task]", "dead_never + dead_always + coins", "at most 1", total)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """A Qwen2 causal language model with an untied head (train/model.py)."""

    TITLE = "model"

    hidden_size: int = option("width, a multiple of 2 * heads", "int", 96, low=8, high=MAX_WIDTH)
    layers: int = option("transformer layers", "int", 2, low=1, high=1024)
    heads: int = option("attention heads", "int", 4, low=1, high=MAX_WIDTH)
    kv_heads: int = option("key-value heads, a divisor of heads", "int", 4, low=1, high=MAX_WIDTH)
    ffn_size: int = option("width of the feed-forward layers", "int", 256, low=8, high=MAX_WIDTH)
    rope_theta: float = option(
        "base of the rotary positions; prompts are short", "float", 100.0,
        low=1.0, high=1e9, open_low=True,
    )  # fmt: skip
    initializer_range: float = option(
        "std of the initial weights", "float", 0.1, low=0.0, high=10.0, open_low=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of coordinates
            fail("[model]", "hidden_size", f"a multiple of 2 * heads = {2 * self.heads}",
                 self.hidden_size)  # fmt: skip
        if self.heads % self.kv_heads:
            fail("[model]", "kv_heads", f"a divisor of heads = {self.heads}", self.kv_heads)


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
    """Generation (train/native.py)."""

    TITLE = "rollout"

    decode_temperature: float = option(
        "temperature of the language model", "float", 1.0, low=0.0, high=100.0, open_low=True
    )
    max_rows: int = option(
        "rollouts generated at once; bounds memory", "int", 2048, low=1, high=MAX_SIZE
    )
    gradient_moments: bool = option(
        "measure score norms for schedulers that use them (Eq. 21)", "bool", False
    )


@dataclass(frozen=True, kw_only=True)
class LearnerConfig(Section):
    """The policy-gradient step (train/learner.py)."""

    TITLE = "learner"

    estimator: str = option("advantage estimator", "choice", "grpo", choices=ESTIMATORS)
    aggregation: str = option(
        "weight of a rollout in the loss; prompt is Eq. 16", "choice", "prompt",
        choices=AGGREGATIONS,
    )  # fmt: skip
    learning_rate: float = option(
        "AdamW, at the start", "float", 5e-4, low=0.0, high=MAX_RATE, open_low=True
    )
    final_lr_share: float = option(
        "share of it at the end; linear in rollouts generated", "float", 0.05, low=0.0, high=1.0
    )
    minibatches: int = option("optimiser steps per update", "int", 2, low=1, high=MAX_SIZE)
    micro_batch: int = option(
        "rollouts per backward pass; bounds memory", "int", 256, low=1, high=MAX_SIZE
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
    threads: int = option("torch threads; results depend on it", "int", 1, low=1, high=MAX_THREADS)
    cache: str = option("folder of cached warm starts", "text", "runs/warm_start")
    seed: int = option(
        "seed of sampling, minibatches and scheduler", "int", 0, low=0, high=MAX_SEED
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run."""

    task: TaskConfig
    model: ModelConfig
    warm_start: WarmStartConfig
    rollout: RolloutConfig
    learner: LearnerConfig
    scheduler: SchedulerConfig
    evaluation: EvaluationConfig
    run: RunConfig

    def __post_init__(self) -> None:
        wanted = self.scheduler.resolved_options().get("use_moments", False)
        if wanted is True and not self.rollout.gradient_moments:
            legal = "true, because the scheduler has use_moments = true"
            fail("[rollout]", "gradient_moments", legal, self.rollout.gradient_moments)

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values, as written to ``config.json``; lists instead of tuples."""
        plain = dataclasses.asdict(self)
        for section in plain.values():
            for key, value in section.items():
                section[key] = list(value) if isinstance(value, tuple) else value
        return plain


_CLASSES: tuple[type[Section], ...] = (
    TaskConfig,
    ModelConfig,
    WarmStartConfig,
    RolloutConfig,
    LearnerConfig,
    SchedulerConfig,
    EvaluationConfig,
    RunConfig,
)
SECTIONS: dict[str, type[Section]] = {cls.TITLE: cls for cls in _CLASSES}


def from_dict(content: Mapping[str, Any]) -> Config:
    """Build a configuration from nested mappings, as in TOML or ``config.json``.

    Raises
    ------
    ValueError
        Naming the section and key that is unknown, missing or illegal.
    """
    for title, section in content.items():
        if title not in SECTIONS:
            fail("config", "section", f"one of {list(SECTIONS)}", title)
        if not isinstance(section, Mapping):
            fail("config", title, f"a table, written [{title}]", section)
    return Config(**{t: _section(cls, content.get(t, {})) for t, cls in SECTIONS.items()})


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
            fail(f"[{cls.TITLE}]", f.name, "given", "nothing")
    return cls(**values)
