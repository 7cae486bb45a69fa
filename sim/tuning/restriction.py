"""From a scheduler and the user's wishes to its space: which knobs of the table, where."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cures.checks import fail
from cures.schedulers import scheduler_settings
from sim.settings import HOST_GIVES, PROTOCOL
from sim.tuning.knobs import GROUP_SIZE, GROUP_SIZES, TABLE, WHOLE_BATCHES, Knob
from sim.tuning.space import Space


def make_space(
    scheduler: str,
    *,
    budget: int,
    group_size: int,
    pool: int,
    fixed: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, float, bool | None]],
) -> Space:
    """The table's knobs that a scheduler has, restricted by the user.

    Parameters
    ----------
    scheduler : str
    budget, group_size, pool : int
        Of the protocol.
    fixed : mapping of str to value
        Keywords that are not searched.
    ranges : mapping of str to (low, high, is_log)
        Other ranges; ``is_log`` None keeps the table's scale. A numeric keyword that the table lacks
        may be given one, too.

    Raises
    ------
    ValueError
        If a keyword is unknown, fixed and ranged, or fixed to what TOML cannot hold; if a range is
        empty, or nothing is left to search.
    """
    where = f"tune {scheduler}"
    own = scheduler_settings(scheduler)
    of_prompts = ("subset_N",)  # a cut of this pool means nothing on the trainer's
    legal = sorted({*own, GROUP_SIZE}.difference(PROTOCOL, HOST_GIVES, of_prompts))
    for key in (*fixed, *ranges):
        if key not in legal:
            fail(where, "keyword", f"one of {legal}", key)
    for key, value in fixed.items():
        _check_plain(where, key, value)
    for key in ranges:
        if key in fixed:
            fail(where, key, "fixed or given a range, not both", key)
    group_sizes = _group_sizes(where, budget, group_size, fixed, ranges)
    table = {knob.key: knob for knob in TABLE}
    largest_batch = budget // min(group_sizes)
    if largest_batch > pool:
        legal_batch = f"at most the pool of {pool}: an update of {budget} in groups of "
        fail(where, "batch_size", f"{legal_batch}{min(group_sizes)} draws more", largest_batch)
    knobs = []
    for key in own:
        if key in fixed or key in PROTOCOL or key in HOST_GIVES:
            continue
        if key == "temperature" and fixed.get("sampling") is False:
            continue  # nothing is sampled by it
        knob = table.get(key)
        if key in ranges:
            knob = _ranged(where, knob, key, own[key], ranges[key])
        elif knob is not None and key in ("num_subsets", "num_stages"):
            most = pool // (largest_batch if scheduler in WHOLE_BATCHES else 1)
            knob = replace(knob, high=min(knob.high, max(most, 1)))
        if knob is not None and (knob.low < knob.high or key in ranges):
            knobs.append(knob)
    fixed_options = {key: value for key, value in fixed.items() if key != GROUP_SIZE}
    space = Space(scheduler, budget, pool, tuple(knobs), group_sizes, fixed_options)
    if not space.axes:
        fail(where, "fix", "such that something is left to search", dict(fixed))
    _check_band(where, space)
    return space


def parse_ranges(entries: Sequence[str]) -> dict[str, tuple[float, float, bool | None]]:
    """Turn ``key=low:high`` and ``key=low:high:log`` (or ``:linear``) into ranges.

    Examples
    --------
    >>> parse_ranges(["temperature=0.01:0.2:log", "pilots=1:8"])
    {'temperature': (0.01, 0.2, True), 'pilots': (1.0, 8.0, None)}
    """
    legal = "KEY=LOW:HIGH or KEY=LOW:HIGH:log (or :linear), LOW < HIGH"
    ranges: dict[str, tuple[float, float, bool | None]] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        parts = text.split(":")
        scale = {"log": True, "linear": False}.get(parts[2]) if len(parts) == 3 else None
        if not (equals and key) or len(parts) not in (2, 3) or (len(parts) == 3 and scale is None):
            fail("tune", "range", legal, entry)
        try:
            low, high = float(parts[0]), float(parts[1])
        except ValueError:
            fail("tune", "range", legal, entry)
        is_bad = not (np.isfinite(low) and np.isfinite(high) and low < high)
        if is_bad or key in ranges or (scale and low <= 0.0):
            fail("tune", "range", f"{legal}, above 0 for log, once per key", entry)
        ranges[key] = (low, high, scale)
    return ranges


def parse_fixed(entries: Sequence[str]) -> dict[str, Any]:
    """Turn ``key=value`` into keywords; values are JSON, else strings.

    Examples
    --------
    >>> parse_fixed(["pilots=4", "quota=false"])
    {'pilots': 4, 'quota': False}
    """
    fixed: dict[str, Any] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        if not equals or not key or key in fixed:
            fail("tune", "fix", "KEY=VALUE, once per key", entry)
        try:
            fixed[key] = json.loads(text)
        except json.JSONDecodeError:
            fixed[key] = text
    return fixed


def _check_plain(where: str, key: str, value: Any) -> None:
    """Only what the TOML of the recommendation can hold may be fixed."""
    for leaf in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(leaf, int | float | str) or leaf in (np.inf, -np.inf) or leaf != leaf:
            fail(where, key, "a finite number, a string, a boolean or a list of these", value)


def _group_sizes(
    where: str,
    budget: int,
    group_size: int,
    fixed: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, float, bool | None]],
) -> tuple[int, ...]:
    """Sizes n >= 2 that divide an update's rollouts, in the range asked for."""
    if GROUP_SIZE in fixed:
        size = fixed[GROUP_SIZE]
        is_size = isinstance(size, int) and not isinstance(size, bool)
        if not is_size or size < 2 or budget % size:
            fail(where, GROUP_SIZE, f"a divisor of {budget}, at least 2", size)
        return (size,)
    low, high, _ = ranges.get(GROUP_SIZE, (*GROUP_SIZES, None))
    sizes = [n for n in range(2, budget + 1) if budget % n == 0 and low <= n <= high]
    if GROUP_SIZE not in ranges and group_size not in sizes:
        sizes = sorted([*sizes, group_size])
    if not sizes:
        fail(where, GROUP_SIZE, f"a range with a divisor of {budget}", f"{low:g}:{high:g}")
    return tuple(sizes)


def _ranged(
    where: str,
    knob: Knob | None,
    key: str,
    default: object,
    given: tuple[float, float, bool | None],
) -> Knob:
    low, high, is_log = given
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    if knob is None and not is_number:
        legal = "one with a number as its default"
        shown = None if default is inspect.Parameter.empty else default
        fail(where, f"keyword {key} with a range", legal, shown)
    is_whole = knob.is_whole or bool(knob.times) if knob else isinstance(default, int)
    if is_whole and not (low.is_integer() and high.is_integer()):
        fail(where, f"range of {key}", "between whole numbers", f"{low:g}:{high:g}")
    scale = is_log if is_log is not None else bool(knob and knob.is_log and low > 0.0)
    meaning = knob.meaning if knob else ""
    own = knob.default if knob and not knob.times else None
    return Knob(key, low, high, scale, is_whole, meaning, default=own)


def _check_band(where: str, space: Space) -> None:
    """A band's lower end must not cross its upper one anywhere in the space."""
    ends = {knob.key: knob for knob in space.knobs if knob.key in ("low", "high")}
    low = ends["low"].high if "low" in ends else space.fixed.get("low")
    high = ends["high"].low if "high" in ends else space.fixed.get("high")
    if low is not None and high is not None and low > high:
        fail(where, "range of low", f"below that of high, which begins at {high:g}", low)
