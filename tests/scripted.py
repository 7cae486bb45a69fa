"""A strict test double of a host: known success rates, and every rule of the protocol asserted."""

from __future__ import annotations

from typing import Any

import numpy as np

import cures
from cures.records import Outcome, Plan, Selection


class ScriptedHost:
    """Binomial outcomes of fixed success rates; keeps its own books to compare the ledger with."""

    def __init__(
        self,
        success_rate_N,
        *,
        seed: int = 0,
        missing_rate: float = 0.0,
        estimator: str = "grpo",
    ) -> None:
        self.success_rate_N = np.asarray(success_rate_N, dtype=float)
        self.seed = seed
        self.missing_rate = missing_rate
        self._estimator = estimator
        self.groups: dict[int, dict[str, Any]] = {}  # live groups: prompt, trial, success
        self.finished: set[int] = set()
        self.generated = self.missing = self.trained = self.discarded = self.pilots = 0
        self.updates = 0

    @property
    def estimator(self) -> str:
        return self._estimator

    def outcome(self, plan: Plan) -> Outcome:
        """Outcome of a plan; a pure function of (seed, plan), so that replays agree."""
        generator = np.random.default_rng([self.seed, plan.plan_id])
        trial_B = plan.quota_B.copy()
        if self.missing_rate:
            trial_B = generator.binomial(plan.quota_B, 1.0 - self.missing_rate)
        success_B = generator.binomial(trial_B, self.success_rate_N[plan.prompt_B])
        return Outcome.of(plan, success_B, trial_B)

    def rollout(self, plan: Plan) -> Outcome:
        assert plan.group_B.size == np.unique(plan.group_B).size
        assert (plan.quota_B >= 1).all()
        assert ((plan.prompt_B >= 0) & (plan.prompt_B < self.success_rate_N.size)).all()
        outcome = self.outcome(plan)
        for i, group in enumerate(plan.group_B.tolist()):
            assert group not in self.finished, f"group {group} came back after its end"
            row = self.groups.setdefault(
                group, {"prompt": int(plan.prompt_B[i]), "trial": 0, "success": 0}
            )
            assert row["prompt"] == plan.prompt_B[i], "a group keeps its prompt"
            row["trial"] += int(outcome.trial_B[i])
            row["success"] += int(outcome.success_B[i])
        self.generated += plan.num_rollouts
        self.pilots += int(plan.quota_B[plan.is_pilot_B].sum())
        self.missing += plan.num_rollouts - int(outcome.trial_B.sum())
        return outcome

    def _drop(self, groups: np.ndarray) -> int:
        total = 0
        for group in groups.tolist():
            assert group not in self.finished, f"group {group} selected or discarded twice"
            total += self.groups.pop(group)["trial"]
            self.finished.add(group)
        return total

    def _kept(self, selection: Selection) -> int:
        """Rollouts of the selected groups that are trained on: all, or what ``keep_G2`` allows."""
        groups = [self.groups[group] for group in selection.group_G.tolist()]
        if selection.keep_G2 is None:
            return sum(row["trial"] for row in groups)
        pairs = zip(groups, selection.keep_G2.tolist(), strict=True)
        return sum(
            min(right, row["success"]) + min(wrong, row["trial"] - row["success"])
            for row, (right, wrong) in pairs
        )

    def update(self, selection: Selection) -> dict[str, float]:
        assert selection.group_G.size
        assert abs(selection.weight_G.sum() - 1.0) < 1e-12  # Eq. 16: draws / m
        kept = self._kept(selection)
        dropped = self._drop(selection.group_G) - kept
        self.trained += kept
        self.discarded += dropped
        self.discarded += self._drop(selection.discard_G)
        self.updates += 1
        return {}

    def discard(self, selection: Selection) -> None:
        assert not selection.group_G.size
        self.discarded += self._drop(selection.discard_G)


def small_scheduler(name: str, *, num_prompts: int = 48, seed: int = 0, **settings):
    """A scheduler of every kind on a small pool: batch 4, budget 32, two subsets."""
    defaults: dict[str, Any] = {"batch_size": 4, "budget": 32}
    if name in ("cures", "cures-released", "gvm"):
        defaults |= {"num_subsets": 2, "steps_per_subset": 5}
    if name == "cures-released":
        defaults |= {"num_workers": 2, "num_gpus": 2, "batch_size": 4, "budget": 32}
    if name == "vip":  # neighbours in this line are alike
        defaults |= {"features_N_D": np.linspace(0.0, 4.0, num_prompts)[:, None], "rank": 12}
    if name == "oracle":
        defaults |= {"true_success_rate": lambda: np.linspace(0.0, 1.0, num_prompts)}
    if name == "staged":
        rate_N = np.linspace(1.0, 0.0, num_prompts)
        defaults |= {"prior_success_rate_N": rate_N, "total_rollouts": 3200}
    return cures.make_scheduler(name, num_prompts=num_prompts, seed=seed, **(defaults | settings))


def same_plan(a: Plan, b: Plan) -> bool:
    """Bit for bit."""
    return (
        a.plan_id == b.plan_id
        and a.wants_moments == b.wants_moments
        and all(
            np.array_equal(getattr(a, f), getattr(b, f))
            for f in ("group_B", "prompt_B", "quota_B", "is_pilot_B", "draw_B")
        )
        and a.prob_B.tobytes() == b.prob_B.tobytes()
    )


def same_state(a: dict, b: dict) -> bool:
    """Bit for bit, NaN equal to itself."""
    if a.keys() != b.keys():
        return False
    for key, value in a.items():
        other = b[key]
        if isinstance(value, np.ndarray):
            if value.dtype != other.dtype or value.tobytes() != other.tobytes():
                return False
        elif value != other:
            return False
    return True
