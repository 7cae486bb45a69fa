"""The ledger: every rollout counted once, by purpose and by fate.

Cost is what was planned and started, whatever became of it. For each purpose::

    generated = missing + trained + discarded + pending

``missing`` never came back (time-outs), ``pending`` waits in a live group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cures.checks import as_int, fail
from cures.storage import State

PURPOSES = ("train", "pilot", "oracle")
FATES = ("generated", "missing", "trained", "discarded")


def _zeros() -> dict[str, dict[str, int]]:
    return {purpose: dict.fromkeys(FATES, 0) for purpose in PURPOSES}


@dataclass(slots=True)
class Ledger:
    """Counts since the start of a run. ``oracle`` is counted beside the budget, not inside it.

    Attributes
    ----------
    counts : dict of dict of int
        ``counts[purpose][fate]`` in rollouts.
    steps : int
        Policy updates.
    tokens : int
        Generated tokens, where the host reports them.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=_zeros)
    steps: int = 0
    tokens: int = 0

    def add(self, purpose: str, fate: str, rollouts: int) -> None:
        """Book ``rollouts`` (>= 0)."""
        if purpose not in PURPOSES:
            fail("Ledger.add", "purpose", f"one of {list(PURPOSES)}", purpose)
        if fate not in FATES:
            fail("Ledger.add", "fate", f"one of {list(FATES)}", fate)
        self.counts[purpose][fate] += as_int("Ledger.add", "rollouts", rollouts, 0)

    def _total(self, fate: str) -> int:
        return self.counts["train"][fate] + self.counts["pilot"][fate]

    @property
    def generated(self) -> int:
        """Rollouts that count against a run's budget: all but the oracle's."""
        return self._total("generated")

    @property
    def missing(self) -> int:
        """Rollouts that never came back."""
        return self._total("missing")

    @property
    def trained(self) -> int:
        """Rollouts that entered an update."""
        return self._total("trained")

    @property
    def discarded(self) -> int:
        """Rollouts that came back and will never enter an update."""
        return self._total("discarded")

    @property
    def pending(self) -> int:
        """Rollouts that came back and wait in a live group."""
        return self.generated - self.missing - self.trained - self.discarded

    @property
    def pilots(self) -> int:
        """Rollouts generated to learn about prompts, trained on or not."""
        return self.counts["pilot"]["generated"]

    def as_dict(self) -> dict[str, int]:
        """Flat view for logs: ``train/generated``, ..., ``steps``, ``tokens``."""
        flat = {f"{p}/{f}": self.counts[p][f] for p in PURPOSES for f in FATES}
        return {**flat, "pending": self.pending, "steps": self.steps, "tokens": self.tokens}

    def state_dict(self) -> State:
        """Plain values; see :meth:`from_state`."""
        flat: State = {f"{p}/{f}": self.counts[p][f] for p in PURPOSES for f in FATES}
        return {**flat, "steps": self.steps, "tokens": self.tokens}

    @classmethod
    def from_state(cls, state: State) -> Ledger:
        """Rebuild a ledger; a missing or negative entry is an error that names it."""

        def entry(key: str) -> int:
            if key not in state:
                fail("Ledger.from_state", "state", f"with an entry {key!r}", sorted(state))
            return as_int("Ledger.from_state", key, state[key], 0)

        counts = {p: {f: entry(f"{p}/{f}") for f in FATES} for p in PURPOSES}
        return cls(counts, entry("steps"), entry("tokens"))


def shares(flat: Mapping[str, int]) -> dict[str, float]:
    """Where the generated rollouts went, as shares of them.

    Parameters
    ----------
    flat : mapping of str to int
        From :meth:`Ledger.as_dict`, or the same read back from a file.

    Returns
    -------
    dict of str to float
        ``trained``, ``discarded``, ``missing``, ``pending`` add up to 1, pilots included: a fate for
        every rollout. ``pilot`` is a purpose, counted under its fates too.

    Raises
    ------
    ValueError
        If nothing was generated, or the fates do not add up to what was.

    Examples
    --------
    >>> ledger = Ledger()
    >>> ledger.add("train", "generated", 6)
    >>> ledger.add("train", "trained", 6)
    >>> ledger.add("pilot", "generated", 2)
    >>> ledger.add("pilot", "discarded", 1)
    >>> shares(ledger.as_dict())
    {'trained': 0.75, 'discarded': 0.125, 'missing': 0.0, 'pending': 0.125, 'pilot': 0.25}
    """
    generated = flat["train/generated"] + flat["pilot/generated"]
    if generated <= 0:
        fail("ledger.shares", "generated", "at least 1 rollout", generated)
    count = {
        fate: flat[f"train/{fate}"] + flat[f"pilot/{fate}"]
        for fate in ("trained", "discarded", "missing")
    }
    count["pending"] = flat["pending"]
    if sum(count.values()) != generated:
        fail("ledger.shares", "fates", f"of {generated} rollouts in all, as generated", count)
    count["pilot"] = flat["pilot/generated"]
    return {key: rollouts / generated for key, rollouts in count.items()}
