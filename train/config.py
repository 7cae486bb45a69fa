"""What a run is: a TOML file with eight sections, read into frozen, validated records.

Every value is checked when a record is built, by itself and against the others, and an unknown key is
refused by name, so that a misspelt option can never quietly keep its default. The resolved
configuration goes into the run folder; a run resumes only under the same one.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cures.advantage import AGGREGATIONS, ESTIMATORS
from cures.checks import as_bool, as_choice, as_float, as_int, fail
from cures.schedulers import list_schedulers, scheduler_settings

FAMILIES = ("add", "sub", "mul", "dig")
MAX_SEED = 2**63 - 1


def _option(help_: str, kind: str, default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A field that knows its meaning and its legal set; both appear in ``--help``."""
    metadata = {"help": help_, "kind": kind, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


def _checked(where: str, name: str, value: Any, metadata: Mapping[str, Any]) -> Any:
    kind, limits = metadata["kind"], dict(metadata["limits"])
    if limits.pop("is_optional", False) and value is None:
        return None
    if kind == "int":
        return as_int(where, name, value, limits.get("low"), limits.get("high"))
    if kind == "float":
        return as_float(where, name, value, **limits)
    if kind == "bool":
        return as_bool(where, name, value)
    if kind == "choice":
        return as_choice(where, name, value, limits["choices"])
    if kind == "text":
        if not isinstance(value, str) or not value:
            fail(where, name, "a non-empty string", value)
        return value
    return _checked_list(where, name, value, limits)


def _checked_list(where: str, name: str, value: Any, limits: Mapping[str, Any]) -> tuple[Any, ...]:
    legal = f"a list of distinct values out of {list(limits['choices'])}, at least one"
    if not isinstance(value, list | tuple) or not value:
        fail(where, name, legal, value)
    is_legal = all(type(v) is type(limits["choices"][0]) and v in limits["choices"] for v in value)
    if not is_legal or len(set(value)) != len(value):
        fail(where, name, legal, value)
    return tuple(value)


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of all sections: validates every field at construction."""

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.metadata:
                value = _checked(f"[{self.title()}]", f.name, getattr(self, f.name), f.metadata)
                object.__setattr__(self, f.name, value)

    @classmethod
    def title(cls) -> str:
        """Name of the section in the TOML file."""
        return _TITLE_OF[cls.__name__]


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Section):
    """Arithmetic prompts (train/tasks.py)."""

    families: tuple[str, ...] = _option("operators", "list", FAMILIES, choices=FAMILIES)
    digits: tuple[int, ...] = _option(
        "numbers of digits of the operands", "list", (1, 2, 3, 4), choices=(1, 2, 3, 4)
    )
    pool_size: int = _option("prompts to train on", "int", low=1)
    held_out_size: int = _option("unseen problems for evaluation", "int", 500, low=2)
    dead_never: float = _option(
        "share of the pool that is never right", "float", 0.0, low=0.0, high=1.0
    )
    dead_always: float = _option(
        "share of the pool that is always right", "float", 0.0, low=0.0, high=1.0
    )
    coins: float = _option(
        "share of the pool whose reward is a fair coin", "float", 0.0, low=0.0, high=1.0
    )
    seed: int = _option("seed of the prompts", "int", 0, low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        total = self.dead_never + self.dead_always + self.coins
        if total > 1.0:
            fail("[task]", "dead_never + dead_always + coins", "at most 1", total)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """A Qwen2 causal language model with an untied head (train/model.py)."""

    hidden_size: int = _option("width, a multiple of heads", "int", 96, low=8)
    layers: int = _option("transformer layers", "int", 2, low=1)
    heads: int = _option("attention heads", "int", 4, low=1)
    kv_heads: int = _option("key-value heads, a divisor of heads", "int", 4, low=1)
    ffn_size: int = _option("width of the feed-forward layers", "int", 256, low=8)
    rope_theta: float = _option(
        "base of the rotary positions; prompts are short", "float", 100.0, low=1.0, open_low=True
    )
    initializer_range: float = _option(
        "std of the initial weights", "float", 0.1, low=0.0, open_low=True
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

    steps: int = _option("steps, or the most if target_success is given", "int", 500, low=0)
    examples: int = _option("worked examples, each used many times", "int", 4000, low=1)
    batch_size: int = _option("examples per step", "int", 64, low=1)
    digit_noise: float = _option(
        "chance of a wrong digit in an example's answer", "float", 0.0, low=0.0, high=1.0
    )
    adamw_lr: float = _option(
        "AdamW, for embedding, head, norms, biases", "float", 3e-3, low=0.0, open_low=True
    )
    muon_lr: float = _option(
        "Muon, for the matrices of the body", "float", 0.02, low=0.0, open_low=True
    )
    target_success: float | None = _option(
        "stop as soon as this success rate is measured on fresh problems; absent: after steps",
        "float", None, low=0.0, high=1.0, is_optional=True,
    )  # fmt: skip
    check_every: int = _option("steps between these measurements", "int", 20, low=1)
    seed: int = _option("seed of weights, examples, order", "int", 0, low=0, high=MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(Section):
    """Generation (train/native.py)."""

    decode_temperature: float = _option(
        "temperature of the language model", "float", 1.0, low=0.0, open_low=True
    )
    max_rows: int = _option("rollouts generated at once; bounds memory", "int", 2048, low=1)
    gradient_moments: bool = _option(
        "measure score norms for schedulers that use them (Eq. 21)", "bool", False
    )


@dataclass(frozen=True, kw_only=True)
class LearnerConfig(Section):
    """The policy-gradient step (train/learner.py)."""

    estimator: str = _option("advantage estimator", "choice", "grpo", choices=ESTIMATORS)
    aggregation: str = _option(
        "weight of a rollout in the loss; prompt is Eq. 16", "choice", "prompt",
        choices=AGGREGATIONS,
    )  # fmt: skip
    learning_rate: float = _option(
        "AdamW, at the start", "float", 5e-4, low=0.0, open_low=True
    )
    final_lr_share: float = _option(
        "share of it at the end; linear in rollouts generated", "float", 0.05, low=0.0, high=1.0
    )
    minibatches: int = _option("optimiser steps per update", "int", 2, low=1)
    micro_batch: int = _option("rollouts per backward pass; bounds memory", "int", 256, low=1)
    clip_low: float = _option(
        "PPO ratio clip, below 1", "float", 0.2, low=0.0, high=1.0, open_low=True
    )
    clip_high: float = _option("PPO ratio clip, above 1", "float", 0.28, low=0.0, open_low=True)
    entropy_bonus: float = _option("weight of the entropy per token", "float", 0.02, low=0.0)
    beta1: float = _option("AdamW", "float", 0.9, low=0.0, high=1.0, open_high=True)
    beta2: float = _option("AdamW", "float", 0.95, low=0.0, high=1.0, open_high=True)
    weight_decay: float = _option("AdamW", "float", 0.0, low=0.0)
    max_grad_norm: float = _option("gradient clip", "float", 1.0, low=0.0, open_low=True)


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig(Section):
    """Which scheduler, and its options.

    Every further key of ``[scheduler]`` is an option for the scheduler, whichever it is; a sub-table
    ``[scheduler.NAME]`` holds options that apply when ``name = NAME`` and win over the former. The
    value ``"host"`` asks for the host's own array: ``category_N``, ``features_N_D``, ...
    """

    name: str = _option(
        "who decides", "choice", "uniform", choices=tuple(list_schedulers())
    )
    batch_size: int = _option("groups per update", "int", low=1)
    budget: int = _option("rollouts per update", "int", low=1)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.options, Mapping):
            fail("[scheduler]", "options", "a table", self.options)
        for key, value in self.options.items():
            if not isinstance(value, Mapping):
                continue
            as_choice("[scheduler]", "name of a table", key, tuple(list_schedulers()))
            legal = sorted(scheduler_settings(key))
            for keyword in value:
                if keyword not in legal:
                    fail(f"[scheduler.{key}]", "key", f"one of {legal}", keyword)

    def resolved_options(self) -> dict[str, Any]:
        """Keyword arguments for this scheduler beyond the named fields."""
        common = {k: v for k, v in self.options.items() if not isinstance(v, Mapping)}
        return {**common, **self.options.get(self.name, {})}


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """Held-out success (train/evaluation.py)."""

    every: int = _option("rollouts between evaluations: a grid all arms share", "int", low=1)
    samples: int = _option("answers per held-out problem", "int", 8, low=1)
    oracle_rollouts: int = _option("rollouts per prompt of scheduler 'oracle'", "int", 16, low=1)
    oracle_every: int = _option("updates between its measurements", "int", 20, low=1)
    seed: int = _option("seed of the sampled answers", "int", 0, low=0, high=MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """The run as a whole."""

    rollouts: int = _option("rollouts in all, pilots and discarded ones included", "int", low=1)
    checkpoint_every: int = _option("updates between checkpoints", "int", 1, low=1)
    threads: int = _option("torch threads; results depend on it", "int", 1, low=1)
    cache: str = _option("folder of cached warm starts", "text", "runs/warm_start")
    seed: int = _option(
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

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values, as written to ``config.json``; lists instead of tuples."""
        plain = dataclasses.asdict(self)
        for section in plain.values():
            for key, value in section.items():
                section[key] = list(value) if isinstance(value, tuple) else value
        return plain


SECTIONS: dict[str, type[Section]] = {
    "task": TaskConfig,
    "model": ModelConfig,
    "warm_start": WarmStartConfig,
    "rollout": RolloutConfig,
    "learner": LearnerConfig,
    "scheduler": SchedulerConfig,
    "evaluation": EvaluationConfig,
    "run": RunConfig,
}
_TITLE_OF = {section.__name__: title for title, section in SECTIONS.items()}


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
        values["options"] = {**values.get("options", {}), **rest}
    for key in values:
        if key not in names:
            fail(f"[{cls.title()}]", "key", f"one of {names}", key)
    for f in fields(cls):
        if f.metadata and f.default is dataclasses.MISSING and f.name not in values:
            fail(f"[{cls.title()}]", f.name, "given", "nothing")
    return cls(**values)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file and apply ``section.key=value`` overrides.

    An override's value is read as TOML; what is not TOML (a bare word) is a string.
    """
    source = Path(path)
    try:
        content = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"config: cannot read {source}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"config: {source} is not valid TOML: {error}") from error
    for override in overrides:
        _apply(content, override)
    return from_dict(content)


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or len(path) < 2 or not all(path):
        fail("--set", "override", "section.key=value", override)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = content
    for name in path[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            fail("--set", "override", f"section.key=value, and {name} is a value", override)
    table[path[-1]] = value


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ between two plain configurations, with both values."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {a!r} and is {b!r}")
    return found


def describe() -> str:
    """All sections and keys with meaning, default and limits, for ``--help``."""
    lines = []
    for title, cls in SECTIONS.items():
        lines.append(f"[{title}]  {(cls.__doc__ or '').splitlines()[0]}")
        for f in fields(cls):
            if f.metadata:
                required = f.default is dataclasses.MISSING
                default = "required" if required else f"default {_toml(f.default)}"
                choices = f.metadata["limits"].get("choices")
                legal = "" if choices is None else f"; of {', '.join(map(str, choices))}"
                lines.append(f"  {f.name:<18} {f.metadata['help']} ({default}{legal})")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, tuple):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
