"""Section ``[scheduler]``: its options are those of the scheduler chosen, so they are open-ended."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cures.checks import as_choice, fail
from cures.schedulers import list_schedulers, scheduler_settings
from train.section import Section, option
from train.tuned import TunedPopulation

SET_ELSEWHERE = ("num_prompts", "estimator")  # by task.pool_size and learner.estimator
MAX_BATCH = 10**7


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig(Section):
    """Which scheduler, and its options.

    Every further key of ``[scheduler]`` is an option for the scheduler, whichever it is; a sub-table
    ``[scheduler.NAME]`` holds options that apply when ``name = NAME`` and win over the former. The
    value ``"host"`` asks for the host's own array: ``category_N``, ``features_N_D``, ...

    ``group_size`` may stand for ``batch_size``: rollouts per draw, a divisor of ``budget``.
    ``[scheduler.tuned]`` is what ``python -m sim tune`` says about the settings (train/tuned.py).
    """

    TITLE = "scheduler"

    name: str = option("who decides", "choice", "uniform", choices=tuple(list_schedulers()))
    batch_size: int = option("groups per update", "int", low=1, high=MAX_BATCH)
    budget: int = option("rollouts per update", "int", low=1, high=MAX_BATCH)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    tuned: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tuned is not None:
            TunedPopulation.of(self.tuned)
        if not isinstance(self.options, Mapping):
            fail("[scheduler]", "options", "a table", self.options)
        for key, value in self.options.items():
            if not isinstance(value, Mapping):
                if key in SET_ELSEWHERE:
                    fail("[scheduler]", key, "left out, because other sections set it", value)
                _check_plain("[scheduler]", key, value)
                continue
            as_choice("[scheduler]", "name of a table", key, tuple(list_schedulers()))
            elsewhere = {*SET_ELSEWHERE, "batch_size", "budget"}
            legal = sorted(set(scheduler_settings(key)) - elsewhere)
            for keyword in value:
                if keyword not in legal:
                    fail(f"[scheduler.{key}]", "key", f"one of {legal}", keyword)
                _check_plain(f"[scheduler.{key}]", keyword, value[keyword])

    def resolved_options(self) -> dict[str, Any]:
        """Keyword arguments for this scheduler beyond the named fields."""
        common = {k: v for k, v in self.options.items() if not isinstance(v, Mapping)}
        return {**common, **self.options.get(self.name, {})}


def _check_plain(where: str, key: str, value: Any) -> None:
    """Options are written to config.json and compared on resume: only what JSON has may be one."""
    for leaf in value if isinstance(value, list | tuple) else [value]:
        is_plain = math.isfinite(leaf) if isinstance(leaf, float) else isinstance(leaf, int | str)
        if not is_plain:
            fail(where, key, "a finite number, a string, a boolean or a list of these", value)
