"""The live groups of a scheduler: rollouts that came back or are under way, not yet trained or dropped.

A table of parallel arrays sorted by group id (ids only grow), so that look-ups are binary searches and
a step costs what its batch costs, whatever the pool.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from cures.checks import BoolArray, FloatArray, IntArray, fail
from cures.schedulers.driver.checkpoint import SchedulerState
from cures.storage import State


def _ints() -> IntArray:
    return np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class LiveGroups:
    """One row per live group.

    Attributes
    ----------
    group, prompt, draw : ndarray of int64, shape (L,)
        Id (ascending), prompt and how often the prompt was drawn.
    is_pilot : ndarray of int64, shape (L,)
        1 where the group's rollouts are booked as pilots.
    success, trial : ndarray of int64, shape (L,)
        Sums over all plans of the group.
    stage : ndarray of int64, shape (L,)
        Meaning belongs to the scheduler's rule; 0 for a new group.
    """

    group: IntArray
    prompt: IntArray
    draw: IntArray
    is_pilot: IntArray
    success: IntArray
    trial: IntArray
    stage: IntArray

    @classmethod
    def empty(cls) -> LiveGroups:
        """No groups."""
        return cls(*(_ints() for _ in fields(cls)))

    def __len__(self) -> int:
        return int(self.group.size)

    def append(
        self, group: IntArray, prompt: IntArray, draw: IntArray, is_pilot: BoolArray
    ) -> None:
        """Add new groups; ids must be larger than every id before."""
        zero = np.zeros(group.size, dtype=np.int64)
        new = (group, prompt, draw, is_pilot.astype(np.int64), zero, zero, zero)
        for f, values in zip(fields(self), new, strict=True):
            setattr(self, f.name, np.concatenate([getattr(self, f.name), values]))

    def rows(self, group: IntArray) -> IntArray:
        """Row of each id; all must be live."""
        row = np.searchsorted(self.group, group)
        if row.size and (row.max() >= len(self) or (self.group[row] != group).any()):
            raise RuntimeError("LiveGroups.rows: a group is not live (error of the scheduler)")
        return row

    def remove(self, group: IntArray) -> None:
        """Forget these groups."""
        keep = np.ones(len(self), dtype=bool)
        keep[self.rows(group)] = False
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name)[keep])

    def in_stage(self, stage: int) -> IntArray:
        """Ids of the groups in a stage, oldest first."""
        ids: IntArray = self.group[self.stage == stage]
        return ids

    def weights(self, group: IntArray) -> FloatArray:
        """Eq. 16: share draw / m of each of these groups, m the sum of their draws."""
        draw = self.draw[self.rows(group)]
        return draw / max(int(draw.sum()), 1)

    def state_dict(self) -> State:
        """Copies of the arrays."""
        return {f.name: getattr(self, f.name).copy() for f in fields(self)}

    @classmethod
    def from_state(cls, state: SchedulerState) -> LiveGroups:
        """Rebuild; wrong shapes or ids are errors that name the field."""
        group = state.ints("group")
        if (np.diff(group) <= 0).any():
            fail("LiveGroups.from_state", "group", "strictly increasing", group.tolist())
        highest = {"is_pilot": 1}
        return cls(*(state.ints(f.name, group.size, highest.get(f.name)) for f in fields(cls)))
