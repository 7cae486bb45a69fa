"""The settings of a comparison: validated at birth, dumped with the run, compared on resume."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from cures.advantage import AGGREGATIONS, ESTIMATORS
from cures.checks import FloatArray, as_bool, as_choice, as_float, as_int, fail
from sim.optimiser import OPTIMISERS
from sim.population_file import EmpiricalLaw, law_from_json, read_population
from sim.populations import NATURAL, POPULATIONS, check_policy

REFERENCE = "uniform"
# Chosen on the reference alone: still rising after 200 000 rollouts of the default batch. Adam
# takes steps of one size however small the gradient, so updates count; plain ascent takes steps as
# long as the gradient, so rollouts with an advantage count. Which arm wins can depend on this
# choice.
LEARNING_RATES = {
    "adam": {"skills": 0.02, "item_response": 0.003, "tabular": 0.02},
    "sgd": {"skills": 10.0, "item_response": 0.2, "tabular": 3.0},
    "normalised": {"skills": 0.3, "item_response": 0.02, "tabular": 0.15},  # mean step of sgd
}
# Arguments of every scheduler that the comparison fixes, and what the host tells some of them.
PROTOCOL = ("num_prompts", "batch_size", "budget", "seed", "estimator")
HOST_TELLS = {
    "oracle": ("true_success_rate",),
    "staged": ("prior_success_rate_N", "total_rollouts"),
}
HOST_DESCRIBES = ("category_N",)  # to any scheduler that has such a keyword; no success rates in it
HOST_GIVES = (*(key for keys in HOST_TELLS.values() for key in keys), *HOST_DESCRIBES)
CATEGORY = "category"  # value of subset_N: cut the subsets by category
HOST = "host"  # value of features_N_D: what each prompt asks for, as far as the policy says
ARM = re.compile(r"([a-z0-9-]+)(?:@([A-Za-z0-9_-]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is compared, on what, for how long.

    Attributes
    ----------
    arms : tuple of str
        Scheduler names; ``name@label`` is a second arm of the same scheduler with settings and
        scheduler seeds of its own. ``uniform`` is the reference and always among them.
    options : dict of str to dict
        Keyword arguments per arm. What the comparison fixes for all arms (:data:`PROTOCOL`) and what
        only the host may tell (:data:`HOST_TELLS`) is refused.
    population : str
        See :mod:`sim.populations`, or the path of a population file (``.json``), which is read at
        once: afterwards this is the name that the file gives.
    policy : str, optional
        ``None``: that of the population file, else ``'skills'``.
    pool, held_out : int
        Training and held-out prompts.
    rollouts : int
        Generated rollouts of every run.
    seeds, dev_seeds : int
        Compared seeds, and further seeds of the reference from which the targets are fixed.
    batch_size, group_size : int
        Draws per update, and rollouts per draw: the budget of an update is their product.
    estimator, aggregation, optimiser : str
    learning_rate : float, optional
        ``None``: what the population file suggests (with its policy and Adam), else that of
        :data:`LEARNING_RATES` for the optimiser and the policy.
    missing_rate : float
        Chance that a rollout never comes back.
    grid_points : int
        Points of the common grid of generated rollouts, 0 and the end included.
    root_seed : int
    margin : float
        Largest loss of held-out success that counts as no harm.
    has_outcomes : bool
        Whether every arm writes ``outcomes.jsonl``.
    empirical : dict, optional
        Content of the population file, so that a run folder needs nothing outside it.
    """

    arms: tuple[str, ...]
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    population: str = NATURAL
    policy: str | None = None
    pool: int = 4000
    held_out: int = 512
    rollouts: int = 200_000
    seeds: int = 8
    dev_seeds: int = 8
    batch_size: int = 64
    group_size: int = 8
    estimator: str = "grpo"
    aggregation: str = "prompt"
    optimiser: str = "adam"
    learning_rate: float | None = None
    missing_rate: float = 0.0
    grid_points: int = 51
    root_seed: int = 0
    margin: float = 0.005
    has_outcomes: bool = False
    empirical: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        where = "compare"
        for arm in self.arms:
            split_arm(arm)
        if len(set(self.arms)) != len(self.arms):
            fail(where, "schedulers", "named once each", list(self.arms))
        if REFERENCE not in self.arms:
            object.__setattr__(self, "arms", (REFERENCE, *self.arms))
        object.__setattr__(self, "options", deepcopy(self.options))
        for arm, options in self.options.items():
            as_choice(where, "set", arm, self.arms)
            check_options(where, arm, options)
        law = self._resolve_population(where)
        for name in ("pool", "held_out", "batch_size", "seeds", "dev_seeds"):
            as_int(where, name, getattr(self, name), 1)
        as_int(where, "group_size", self.group_size, 2)
        as_int(where, "rollouts", self.rollouts, self.budget)
        as_int(where, "grid_points", self.grid_points, 2, 10_000)
        as_int(where, "root_seed", self.root_seed, 0)
        as_choice(where, "estimator", self.estimator, ESTIMATORS)
        as_choice(where, "aggregation", self.aggregation, AGGREGATIONS)
        as_choice(where, "optimiser", self.optimiser, OPTIMISERS)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", self._default_learning_rate(law))
        as_float(where, "learning_rate", self.learning_rate, 0.0, open_low=True)
        as_float(where, "missing_rate", self.missing_rate, 0.0, 1.0, open_high=True)
        as_float(where, "margin", self.margin, 0.0, open_low=True)
        as_bool(where, "has_outcomes", self.has_outcomes)

    def _resolve_population(self, where: str) -> EmpiricalLaw | None:
        """Read a population file once; the policy that nobody chose is the population's."""
        if str(self.population).endswith(".json"):
            read = read_population(self.population)
            if read.name in POPULATIONS:
                legal = f"none of {list(POPULATIONS)}, which are built in"
                fail(where, f"name in {self.population}", legal, read.name)
            object.__setattr__(self, "population", read.name)
            object.__setattr__(self, "empirical", read.as_json())
        law = self.law
        if law is None and self.population not in POPULATIONS:
            legal = f"one of {list(POPULATIONS)} or a population file (PATH.json)"
            fail(where, "population", legal, self.population)
        if law is not None and law.name != self.population:
            fail(where, "population", f"{law.name!r}, as in empirical", self.population)
        policy = check_policy(where, law or self.population, self.policy, parameter="population")
        object.__setattr__(self, "policy", policy)
        return law

    def _default_learning_rate(self, law: EmpiricalLaw | None) -> float:
        """A file's suggestion is one for Adam on its own policy."""
        is_meant = law is not None and (self.optimiser, self.policy) == ("adam", law.policy)
        if law is not None and is_meant and law.learning_rate is not None:
            return law.learning_rate
        return LEARNING_RATES[self.optimiser][str(self.policy)]

    @property
    def law(self) -> EmpiricalLaw | None:
        """The law of a population file; ``None`` for a named population."""
        if self.empirical is None:
            return None
        return law_from_json(self.empirical, "compare: empirical")

    @property
    def budget(self) -> int:
        """Rollouts of an update."""
        return self.batch_size * self.group_size

    @property
    def grid_E(self) -> FloatArray:
        """Common grid of generated rollouts."""
        return np.linspace(0.0, self.rollouts, self.grid_points)

    def as_json(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return dict(json.loads(json.dumps(asdict(self))))


@dataclass(frozen=True, slots=True)
class Seeds:
    """Independent roots of one run.

    Arms of the same seed share the population and the random numbers behind the outcomes of a plan
    (by plan id), not the outcomes: those follow from the arm's own prompts and policy.
    """

    population: int
    host: int
    scheduler: int

    @classmethod
    def of(cls, root_seed: int, arm: str, index: int, *, is_development: bool) -> Seeds:
        """Derive them; a labelled arm differs in its scheduler seed only."""
        root = np.random.SeedSequence(root_seed, spawn_key=(int(is_development), index))
        population, host, scheduler = (int(word) for word in root.generate_state(3))
        label = split_arm(arm)[1]
        return cls(
            population, host, scheduler if label is None else scheduler ^ crc32(label.encode())
        )


def split_arm(arm: str, where: str = "compare") -> tuple[str, str | None]:
    """``name@label`` into its parts; an error sentence begins with ``where``, the command.

    Examples
    --------
    >>> split_arm("cures@cold")
    ('cures', 'cold')
    >>> split_arm("uniform")
    ('uniform', None)
    """
    match = ARM.fullmatch(arm)
    if match is None:
        fail(where, "schedulers", "NAME or NAME@LABEL (letters, digits, - and _)", arm)
    return match[1], match[2]


def is_told_true_rates(arm: str) -> bool:
    """Whether an arm knows exact success rates that no ledger counts: no contender.

    Examples
    --------
    >>> is_told_true_rates("oracle@cold"), is_told_true_rates("cures")
    (True, False)
    """
    return split_arm(arm)[0] in HOST_TELLS


def check_options(where: str, arm: str, options: object) -> None:
    """Refuse options that would give one arm another protocol, or knowledge that is not its own.

    Parameters
    ----------
    where : str
        The command, with which an error sentence begins.
    arm : str
    options : object
        Should be a dict of keyword arguments, none of :data:`PROTOCOL` or :data:`HOST_GIVES`.

    Raises
    ------
    ValueError
        Naming the option.
    """
    if not isinstance(options, dict):
        fail(where, f"set {arm}", "a dict of keyword arguments", options)
    for key, value in options.items():
        if key in PROTOCOL:
            legal = f"left out: {list(PROTOCOL)} are the same for all arms"
            fail(where, f"set {arm}.{key}", legal, value)
        if key in HOST_GIVES:
            fail(where, f"set {arm}.{key}", f"left out: the host gives {list(HOST_GIVES)}", value)


def parse_options(entries: Sequence[str], where: str = "compare") -> dict[str, dict[str, Any]]:
    """Turn ``arm.key=value`` entries into keyword arguments; values are JSON, else strings.

    Parameters
    ----------
    entries : sequence of str
    where : str
        The command, with which an error sentence begins.

    Examples
    --------
    >>> parse_options(["cures.temperature=0.05", "cures.quota=false"])
    {'cures': {'temperature': 0.05, 'quota': False}}
    """
    options: dict[str, dict[str, Any]] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        arm, dot, name = key.partition(".")
        if not (equals and dot and arm and name):
            fail(where, "set", "ARM.KEY=VALUE, e.g. cures.temperature=0.05", entry)
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        if name in options.setdefault(arm, {}):
            fail(where, "set", "given once per key", entry)
        options[arm][name] = value
    return options


def check_same(settings: Settings, stored: Mapping[str, Any], folder: object) -> None:
    """Refuse a run folder that holds another comparison, naming the first setting that differs.

    ``seeds`` may grow: runs of further seeds change nothing in those that are there, and the targets
    rest on the development seeds alone.
    """
    if not isinstance(stored, Mapping):
        fail("compare", f"{folder}/config.json", "a JSON object of settings", stored)
    ours = settings.as_json()
    for key in sorted(ours.keys() | stored.keys()):
        old, new = stored.get(key), ours.get(key)
        can_grow = key == "seeds" and isinstance(old, int)
        if old == new or (key == "seeds" and isinstance(old, int) and settings.seeds > old):
            continue
        if isinstance(old, dict) and isinstance(new, dict):  # of a long value, what differs
            part = next(k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k))
            key, old, new = f"{key}.{part}", old.get(part), new.get(part)
        shown = f"{old!r} or more" if can_grow else repr(old)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        legal = f"{shown} as in {folder}/config.json (or choose another --out)"
        fail("compare", key, legal, new)
