"""The books of a scheduler: live groups, ledger and counters, moved only together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cures.checks import IntArray
from cures.ledger import Ledger
from cures.records import Outcome, Selection
from cures.schedulers.driver.groups import LiveGroups
from cures.schedulers.driver.open_plans import OpenPlan


@dataclass(slots=True)
class Books:
    """What came in and what became of it.

    Attributes
    ----------
    ledger : Ledger
    live : LiveGroups
        Groups under way or waiting.
    counters : dict of str to int
        Rare events: repeats, fall-backs, overflows.
    """

    ledger: Ledger = field(default_factory=Ledger)
    live: LiveGroups = field(default_factory=LiveGroups.empty)
    counters: dict[str, int] = field(default_factory=dict)

    def count(self, counter: str, times: int = 1) -> None:
        """Raise a counter; zero times leaves no trace."""
        if times:
            self.counters[counter] = self.counters.get(counter, 0) + times

    def report(self, open_plan: OpenPlan, at: IntArray, outcome: Outcome, row: IntArray) -> None:
        """Rows ``row`` of the outcome are the plan's groups ``at``: add them to these groups."""
        live = self.live.rows(open_plan.plan.group_B[at])
        self.live.success[live] += outcome.success_B[row]
        self.live.trial[live] += outcome.trial_B[row]
        open_plan.is_reported_B[at] = True
        open_plan.trial_B[at] = outcome.trial_B[row]
        if outcome.token_B is not None:
            self.ledger.tokens += int(outcome.token_B[row].sum())

    def close(self, open_plan: OpenPlan) -> None:
        """Book a plan's cost: what was planned, whatever came back."""
        plan = open_plan.plan
        for purpose, is_purpose in (("pilot", plan.is_pilot_B), ("train", ~plan.is_pilot_B)):
            quota = int(plan.quota_B[is_purpose].sum())
            returned = int(open_plan.trial_B[is_purpose].sum())
            self.ledger.add(purpose, "generated", quota)
            self.ledger.add(purpose, "missing", quota - returned)

    def settle(self, selection: Selection) -> None:
        """Book what is trained on and what is discarded; forget these groups."""
        if selection.is_update:
            self.ledger.steps += 1
            without = self.live.trial[self.live.rows(selection.group_G)] == 0
            self.count("selected_without_rollouts", int(without.sum()))
            self._book(selection.group_G, "trained", selection.keep_G2)
        self._book(selection.discard_G, "discarded", None)
        self.live.remove(np.sort(np.concatenate([selection.group_G, selection.discard_G])))

    def _book(self, group: IntArray, fate: str, keep_G2: IntArray | None) -> None:
        rows = self.live.rows(group)
        trial, success = self.live.trial[rows], self.live.success[rows]
        used = trial
        if keep_G2 is not None:
            used = np.minimum(keep_G2[:, 0], success) + np.minimum(keep_G2[:, 1], trial - success)
        is_pilot = self.live.is_pilot[rows].astype(bool)
        for purpose, is_purpose in (("pilot", is_pilot), ("train", ~is_pilot)):
            self.ledger.add(purpose, fate, int(used[is_purpose].sum()))
            self.ledger.add(purpose, "discarded", int((trial - used)[is_purpose].sum()))
