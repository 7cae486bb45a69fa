"""Every scheduler by name: ours, the paper's and its published rivals, under one protocol."""

from __future__ import annotations

import inspect
from typing import Any

from cures.checks import fail
from cures.schedulers.adaptive import Adaptive
from cures.schedulers.band import Band
from cures.schedulers.cures import Cures
from cures.schedulers.cures_released import CuresReleased
from cures.schedulers.dapo import Dapo
from cures.schedulers.driver import Scheduler
from cures.schedulers.greso import Greso
from cures.schedulers.gvm import Gvm
from cures.schedulers.knapsack import Knapsack
from cures.schedulers.lilo import Lilo
from cures.schedulers.mopps import Mopps
from cures.schedulers.oracle import Oracle
from cures.schedulers.reinforce_ada import ReinforceAda
from cures.schedulers.speed import Speed
from cures.schedulers.staged import Staged
from cures.schedulers.uniform import Uniform
from cures.schedulers.vip import Vip

_CLASSES: tuple[type[Scheduler], ...] = (
    Cures,
    CuresReleased,
    Uniform,
    Gvm,
    Speed,
    Dapo,
    Staged,
    Band,
    Mopps,
    Lilo,
    Knapsack,
    Greso,
    Vip,
    ReinforceAda,
    Adaptive,
    Oracle,
)
SCHEDULERS: dict[str, type[Scheduler]] = {cls.name: cls for cls in _CLASSES}

__all__ = ["SCHEDULERS", "Scheduler", "list_schedulers", "make_scheduler", "scheduler_settings"]


def list_schedulers() -> list[str]:
    """Names that :func:`make_scheduler` knows.

    Examples
    --------
    >>> list_schedulers()
    ['cures', 'cures-released', 'uniform', 'gvm', 'speed', 'dapo', 'staged', 'band',
     'mopps', 'lilo', 'knapsack', 'greso', 'vip', 'reinforce-ada', 'adaptive', 'oracle']
    """
    return list(SCHEDULERS)


def scheduler_settings(name: str) -> dict[str, Any]:
    """Keywords of a scheduler and their defaults (``inspect.Parameter.empty``: required).

    Parameters
    ----------
    name : str
        One of :func:`list_schedulers`.
    """
    if not isinstance(name, str) or name not in SCHEDULERS:
        fail("scheduler_settings", "name", f"one of {list_schedulers()}", name)
    settings: dict[str, Any] = {}
    for cls in reversed(SCHEDULERS[name].__mro__):  # a subclass's default wins
        if not issubclass(cls, Scheduler) or "__init__" not in vars(cls):
            continue
        for parameter in inspect.signature(cls.__init__).parameters.values():
            if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != "self":
                settings[parameter.name] = parameter.default
    return settings


def make_scheduler(
    name: str, *, num_prompts: int, batch_size: int, budget: int, seed: int = 0, **settings: Any
) -> Scheduler:
    """Make a scheduler by name.

    Parameters
    ----------
    name : str
        One of :func:`list_schedulers`.
    num_prompts : int
        Size N of the prompt pool, >= 1.
    batch_size : int
        Prompts per update, m >= 1.
    budget : int
        Rollouts per update, at least ``batch_size * min_quota``.
    seed : int
        Root of all randomness, >= 0.
    **settings
        Keywords of the scheduler's class; :func:`scheduler_settings` lists them with defaults.

    Raises
    ------
    ValueError
        If the name or a keyword is unknown, one is missing, or a value is out of its range.

    Examples
    --------
    >>> make_scheduler("cures", num_prompts=50_000, batch_size=64, budget=512, temperature=0.05)
    <cures scheduler 'cures': num_prompts=50000, batch_size=64, budget=512, seed=0, step=0>
    """
    if not isinstance(name, str) or name not in SCHEDULERS:
        fail("make_scheduler", "name", f"one of {list_schedulers()}", name)
    legal = scheduler_settings(name)
    for keyword in settings:
        if keyword not in legal:
            fail("make_scheduler", f"keyword of {name!r}", f"one of {sorted(legal)}", keyword)
    given = {"num_prompts", "batch_size", "budget", "seed", *settings}
    for keyword, default in legal.items():
        if default is inspect.Parameter.empty and keyword not in given:
            fail("make_scheduler", f"keyword {keyword!r} of {name!r}", "given", None)
    return SCHEDULERS[name](num_prompts, batch_size, budget, seed, **settings)
