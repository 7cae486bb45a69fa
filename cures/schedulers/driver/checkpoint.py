"""The flat dictionary that a scheduler's state travels in, with checked access.

Keys are ``config/<setting>``, ``<counter>`` and ``<section>/<field>``. Values are arrays, ints, floats
and strings, so any format without pickle can hold them (:func:`cures.storage.save_state` does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cures.checks import FloatArray, IntArray, as_float, as_float_array, as_int, as_int_array, fail
from cures.storage import State, StateValue

FORMAT = 1  # raise when the meaning of a key changes


def fingerprint(array: FloatArray | IntArray) -> str:
    """Short digest of an array setting, so that a checkpoint need not carry it."""
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes())
    return f"{array.dtype}{array.shape}:{digest.hexdigest()[:16]}"


class SchedulerState:
    """A flat state with typed reads that name what is wrong."""

    def __init__(self, flat: State) -> None:
        self.flat = flat

    @classmethod
    def collect(
        cls, config: Mapping[str, StateValue], values: Mapping[str, StateValue]
    ) -> SchedulerState:
        """Start a state from its settings and top-level values."""
        flat: State = {"format": FORMAT}
        flat.update({f"config/{key}": value for key, value in config.items()})
        flat.update(values)
        return cls(flat)

    def add(self, section: str, content: Mapping[str, StateValue]) -> None:
        """Put a nested state under ``section/``."""
        self.flat.update({f"{section}/{key}": value for key, value in content.items()})

    def section(self, name: str) -> SchedulerState:
        """What was added under ``name/``."""
        prefix = f"{name}/"
        items = self.flat.items()
        return SchedulerState({k.removeprefix(prefix): v for k, v in items if k.startswith(prefix)})

    def check_config(self, own: State, name: str) -> None:
        """Refuse a state of another format, scheduler, pool or setting, by name."""
        where = f"{name}.load_state_dict"
        if self.flat.get("format") != FORMAT:
            fail(where, "format", str(FORMAT), self.flat.get("format"))
        mine = SchedulerState(own).section("config").flat
        theirs = self.section("config").flat
        first = ("name", "num_prompts")  # the difference that explains the others
        for key in sorted(mine.keys() | theirs.keys(), key=lambda k: (k not in first, k)):
            if repr(mine.get(key)) != repr(theirs.get(key)):  # arrays have no truth value
                fail(where, key, f"{mine.get(key)!r} as in this scheduler", theirs.get(key))

    def _value(self, key: str) -> StateValue:
        if key not in self.flat:
            fail("load_state_dict", "state", f"with an entry {key!r}", sorted(self.flat)[:8])
        return self.flat[key]

    def integer(self, key: str, high: int | None = None) -> int:
        """A count, >= 0."""
        return as_int("load_state_dict", key, self._value(key), 0, high)

    def real(self, key: str, low: float | None = None) -> float:
        """A finite float."""
        return as_float("load_state_dict", key, self._value(key), low)

    def ints(self, key: str, length: int | None = None, high: int | None = None) -> IntArray:
        """An int64 array of counts or ids, >= 0."""
        value = self._value(key)
        return as_int_array("load_state_dict", key, value, length=length, low=0, high=high)

    def counts(self, key: str, length: int, high: int) -> NDArray[np.unsignedinteger[Any]]:
        """Counts in [0, high] in the smallest type that holds them, as there are many."""
        dtype = np.min_scalar_type(high)
        value = self._value(key)
        if not isinstance(value, np.ndarray) or value.dtype != dtype:
            return self.ints(key, length, high).astype(dtype)
        if value.shape != (length,) or int(value.max(initial=0)) > high:
            fail("load_state_dict", key, f"{length} counts in [0, {high}]", value)
        return value.copy()

    def floats(self, key: str, length: int | None = None, low: float | None = None) -> FloatArray:
        """A float64 array; NaN means "not measured"."""
        value = self._value(key)
        return as_float_array("load_state_dict", key, value, length=length, low=low, allow_nan=True)
