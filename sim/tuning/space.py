"""The space of one scheduler under one protocol: points, the settings they stand for, axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cures.schedulers import scheduler_settings
from sim.tuning.knobs import GROUP_SIZE, Knob, Value
from sim.tuning.setting import Setting

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True, slots=True)
class Space:
    """The knobs of one scheduler under one protocol; what is fixed is part of it.

    Attributes
    ----------
    scheduler : str
    budget : int
        Rollouts of an update, the same for every group size: ``batch_size = budget / group_size``.
    pool : int
    knobs : tuple of Knob
    group_sizes : tuple of int
        One entry: not searched.
    fixed : dict
    """

    scheduler: str
    budget: int
    pool: int
    knobs: tuple[Knob, ...]
    group_sizes: tuple[int, ...]
    fixed: dict[str, Any]

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Ask an Optuna trial for one point of the space."""
        point: dict[str, Value] = {}
        if len(self.group_sizes) > 1:
            point[GROUP_SIZE] = trial.suggest_categorical(GROUP_SIZE, self.group_sizes)
        for knob in self.knobs:
            if knob.can_be_zero:
                point[knob.switch] = trial.suggest_categorical(knob.switch, (False, True))
                if not point[knob.switch]:
                    continue
            if knob.is_whole:
                low, high = int(knob.low), int(knob.high)
                point[knob.name] = trial.suggest_int(knob.name, low, high, log=knob.is_log)
            else:
                point[knob.name] = trial.suggest_float(
                    knob.name, knob.low, knob.high, log=knob.is_log
                )
        return point

    def setting(self, point: Mapping[str, Value]) -> Setting:
        """The scheduler's keywords at a point."""
        group_size = int(point.get(GROUP_SIZE, self.group_sizes[0]))
        size = {"group_size": group_size, "batch_size": self.budget // group_size}
        options = dict(self.fixed)
        for knob in self.knobs:
            if knob.can_be_zero and not point[knob.switch]:
                options[knob.key] = 0.0
            elif knob.times == "group_size":  # both parts of a group have at least two rollouts
                scaled = round(float(point[knob.name]) * group_size)
                options[knob.key] = min(max(scaled, 2), max(group_size - 1, 2))
            elif knob.times:
                scaled = round(float(point[knob.name]) * size[knob.times])
                options[knob.key] = min(max(scaled, 1), self.pool)
            else:
                options[knob.key] = point[knob.name]
        return Setting(self.scheduler, group_size, options)

    def value(self, point: Mapping[str, Value], name: str) -> Value:
        """A knob's value at a point by the name of its axis; 0 where its switch is off."""
        if name == GROUP_SIZE:
            return point.get(GROUP_SIZE, self.group_sizes[0])
        return point.get(name, 0.0)

    def moved(self, point: Mapping[str, Value], name: str, value: Value) -> dict[str, Value]:
        """A point with one axis set to another value."""
        changed = {**point, name: value}
        for knob in self.knobs:
            if knob.name == name and knob.can_be_zero:
                changed[knob.switch] = value > 0
                if not value > 0:
                    del changed[name]
        return changed

    def corner(self, group_size: int, end: int) -> dict[str, Value]:
        """The lower (``end`` 0) or upper (-1) ends of all knobs, switches on."""
        point: dict[str, Value] = {GROUP_SIZE: group_size} if len(self.group_sizes) > 1 else {}
        for knob in self.knobs:
            if knob.can_be_zero:
                point[knob.switch] = True
            point[knob.name] = knob.grid(2)[end]
        return point

    @property
    def axes(self) -> list[str]:
        """Names of everything searched; a switch belongs to its knob's axis."""
        sizes = [GROUP_SIZE] if len(self.group_sizes) > 1 else []
        return sizes + [knob.name for knob in self.knobs]

    def grid(self, name: str, points: int) -> list[Value]:
        """Values along an axis, for a profile."""
        if name == GROUP_SIZE:
            return list(self.group_sizes)
        knob = next(knob for knob in self.knobs if knob.name == name)
        if knob.can_be_zero:
            return [0.0, *knob.grid(max(points - 1, 2))]  # both ends of the range, too
        return knob.grid(points)

    def is_log(self, name: str) -> bool:
        """Whether an axis is drawn and spaced on a logarithmic scale."""
        return name == GROUP_SIZE or any(k.is_log for k in self.knobs if k.name == name)

    def default_point(self, group_size: int) -> dict[str, Value] | None:
        """The scheduler's own defaults as a point; ``None`` if they lie outside the space."""
        if group_size not in self.group_sizes:
            return None
        point: dict[str, Value] = {GROUP_SIZE: group_size} if len(self.group_sizes) > 1 else {}
        own = scheduler_settings(self.scheduler)
        for knob in self.knobs:
            value = own[knob.key] if knob.default is None else knob.default
            if knob.key == "num_subsets":
                value = min(int(value), self.pool)
            if knob.can_be_zero:
                point[knob.switch] = value > 0
                if not value > 0:
                    continue
            if value is None or not knob.low <= value <= knob.high:
                return None
            point[knob.name] = value
        return point
