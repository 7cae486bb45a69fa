"""The three records that flow between a scheduler and its host.

    scheduler.propose() -> Plan -> host.rollout -> Outcome
        -> scheduler.observe -> Selection -> host.update

Axis suffixes used everywhere in this project::

    _N  pool of prompts          _G  groups of one selection     _T  tokens
    _B  groups of one plan       _R  rollouts, flat

A *group* is the rollouts of one prompt that share an advantage baseline. A group that gets more
rollouts in a later plan keeps its id, so a host stores rollouts under ``group`` and nothing else.
Records are values, and their arrays are read-only. What a host reports is copied; a plan, which a
scheduler builds at every step, takes over the arrays it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    InWords,
    as_array,
    as_bool,
    as_float,
    as_float_array,
    as_int,
    as_int_array,
    fail,
    frozen,
    is_distinct,
)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to roll out now. Built by a scheduler; hosts only read it.

    The arrays are neither checked nor copied: they are made for the plan, and read-only from then on.

    Attributes
    ----------
    plan_id : int
        0, 1, 2, ...: one per call of ``propose`` or ``next``.
    group_B : ndarray of int64, shape (B,)
        Ascending in the plan and never reused. A known id means "more rollouts for that group".
    prompt_B : ndarray of int64, shape (B,)
        Prompt of each group, in ``[0, N)``.
    quota_B : ndarray of int64, shape (B,)
        *New* rollouts to generate for the group, >= 1.
    is_pilot_B : ndarray of bool, shape (B,)
        Category in the ledger. Whether a group is trained on is the selection's business.
    draw_B : ndarray of int64, shape (B,)
        How often the prompt was drawn (with replacement one prompt can be drawn k times: one group).
    prob_B : ndarray of float64, shape (B,)
        With replacement: chance per draw. Without: inclusion probability. NaN where the rule has none.
    wants_moments : bool
        The scheduler would use :class:`Moments` of these rollouts, if the host can measure them.

    Notes
    -----
    ``B = 0`` means "nothing to generate, an update is ready": observe the empty outcome at once.
    """

    plan_id: int
    group_B: IntArray
    prompt_B: IntArray
    quota_B: IntArray
    is_pilot_B: BoolArray
    draw_B: IntArray
    prob_B: FloatArray
    wants_moments: bool = False

    def __post_init__(self) -> None:
        for array in (self.group_B, self.prompt_B, self.quota_B, self.draw_B):
            frozen(array)
        frozen(self.is_pilot_B)
        frozen(self.prob_B)

    def __len__(self) -> int:
        """Number of groups B."""
        return int(self.group_B.size)

    @property
    def num_rollouts(self) -> int:
        """New rollouts this plan asks for."""
        return int(self.quota_B.sum())

    def rows(self, group: IntArray, where: str, parameter: str) -> IntArray:
        """Row of each of these groups, in any order; one that is not in the plan is refused by name."""
        row = np.searchsorted(self.group_B, group)
        is_known = np.append(self.group_B, -1)[row] == group  # ids are not negative
        if not is_known.all():
            fail(where, parameter, f"a group of plan {self.plan_id}", group[~is_known][0])
        return row


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Norms of the score ``s = grad log pi(y|x)`` per group, the inputs of Eq. 21.

    Every field is a float64 array of shape (B,), NaN where no (or, for the unbiased difference,
    fewer than two) rollouts of a kind exist. ``sq_norm_difference`` estimates
    ``|E[s|r=1] - E[s|r=0]|^2`` without bias and may therefore be negative.
    """

    sq_norm_correct: FloatArray  # mean |s|^2 over right rollouts, >= 0
    sq_norm_wrong: FloatArray  # mean |s|^2 over wrong rollouts, >= 0
    sq_norm_difference: FloatArray  # unbiased, may be negative
    norm_correct: FloatArray  # mean |s| over right rollouts, >= 0 (gvm, cures-released)
    norm_wrong: FloatArray  # mean |s| over wrong rollouts, >= 0 (cures-released)

    def __post_init__(self) -> None:
        length = as_float_array(
            "Moments", "sq_norm_correct", self.sq_norm_correct, allow_nan=True
        ).size
        for f in fields(self):
            low = None if f.name == "sq_norm_difference" else 0.0
            array = as_float_array(
                "Moments", f.name, getattr(self, f.name), length=length, low=low, allow_nan=True
            )
            frozen(array)
            object.__setattr__(self, f.name, array)

    def __len__(self) -> int:
        """Number of groups B."""
        return int(self.sq_norm_correct.size)

    def take(self, index: IntArray) -> Moments:
        """Moments of the groups at ``index``."""
        return Moments(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came back of a plan: increments of this plan only.

    Attributes
    ----------
    plan_id : int
    group_B : ndarray of int64
        Any subset of the plan's groups, in any order, each at most once.
    success_B, trial_B : ndarray of int64
        Right rollouts and returned rollouts, ``0 <= success <= trial <= quota``. The rest of the
        quota is *missing data*, not failure.
    is_final : bool
        True: groups not reported yet are missing altogether and the plan closes.
    token_B : ndarray of int64, optional
        Tokens generated for the group by this plan.
    policy_step : int, optional
        Number of updates the generating policy had seen.
    moments_B : Moments, optional
        Gradient moments of these rollouts.
    """

    plan_id: int
    group_B: IntArray
    success_B: IntArray
    trial_B: IntArray
    is_final: bool = True
    token_B: IntArray | None = None
    policy_step: int | None = None
    moments_B: Moments | None = None

    def __post_init__(self) -> None:
        where = "Outcome"
        set_ = object.__setattr__
        set_(self, "plan_id", as_int(where, "plan_id", self.plan_id, 0))
        group_B = as_int_array(where, "group_B", self.group_B, low=0)
        set_(self, "group_B", group_B)
        size = group_B.size
        if not is_distinct(group_B):
            fail(where, "group_B", "unique within one outcome", group_B.tolist())
        success_B = as_int_array(where, "success_B", self.success_B, length=size, low=0)
        trial_B = as_int_array(where, "trial_B", self.trial_B, length=size, low=0)
        if (success_B > trial_B).any():
            index = int(np.flatnonzero(success_B > trial_B)[0])
            fail(
                where,
                "success_B",
                f"at most trial_B, which is {trial_B[index]} for group {group_B[index]}",
                int(success_B[index]),
            )
        set_(self, "success_B", success_B)
        set_(self, "trial_B", trial_B)
        set_(self, "is_final", as_bool(where, "is_final", self.is_final))
        if self.token_B is not None:
            set_(self, "token_B", as_int_array(where, "token_B", self.token_B, length=size, low=0))
        if self.policy_step is not None:
            set_(self, "policy_step", as_int(where, "policy_step", self.policy_step, 0))
        if self.moments_B is not None:
            if not isinstance(self.moments_B, Moments):
                fail(where, "moments_B", "Moments or None", type(self.moments_B).__name__)
            if len(self.moments_B) != size:
                legal = f"for {size} groups"
                fail(where, "moments_B", legal, InWords(f"moments of {len(self.moments_B)}"))
        for array in (self.group_B, self.success_B, self.trial_B, self.token_B):
            if array is not None:
                frozen(array)

    @property
    def is_mixed_B(self) -> BoolArray:
        """Groups with right and with wrong rollouts: those that teach something."""
        return (self.success_B > 0) & (self.success_B < self.trial_B)

    @classmethod
    def of(
        cls,
        plan: Plan,
        success_B: ArrayLike,
        trial_B: ArrayLike | None = None,
        *,
        token_B: ArrayLike | None = None,
        policy_step: int | None = None,
        moments_B: Moments | None = None,
    ) -> Outcome:
        """The final outcome of a whole plan, in the plan's order.

        Parameters
        ----------
        plan : Plan
        success_B : array_like of int, shape (B,)
            Right rollouts per group.
        trial_B : array_like of int, shape (B,), optional
            Rollouts that came back; ``None``: every planned one did.
        token_B, policy_step, moments_B : optional
            As in :class:`Outcome`.
        """
        trials = plan.quota_B if trial_B is None else trial_B
        return cls(
            plan_id=plan.plan_id,
            group_B=plan.group_B,
            success_B=success_B,  # type: ignore[arg-type]  # validated and converted in __post_init__
            trial_B=trials,  # type: ignore[arg-type]
            token_B=token_B,  # type: ignore[arg-type]
            policy_step=policy_step,
            moments_B=moments_B,
        )

    @classmethod
    def from_rewards(
        cls,
        plan: Plan,
        reward_R: ArrayLike,
        group_R: ArrayLike,
        *,
        threshold: float | None = None,
        policy_step: int | None = None,
    ) -> Outcome:
        """The final outcome of a plan from one reward per returned rollout.

        Parameters
        ----------
        plan : Plan
        reward_R : array_like of float, shape (R,)
            0 or 1. Leave out rollouts that never came back; they are missing, not wrong.
        group_R : array_like of int, shape (R,)
            Group id of each rollout.
        threshold : float, optional
            Turns graded rewards into 0/1: right iff ``reward >= threshold``.

        Raises
        ------
        ValueError
            If a reward is not 0/1 and no threshold is given, is NaN, or a group is not in the plan.
        """
        where = "Outcome.from_rewards"
        reward = binary_rewards(where, reward_R, threshold)
        group = as_int_array(where, "group_R", group_R, length=reward.size, low=0)
        row_R = plan.rows(group, where, "group_R")
        success_B = np.bincount(row_R, weights=reward, minlength=len(plan)).astype(np.int64)
        trial_B = np.bincount(row_R, minlength=len(plan)).astype(np.int64)
        return cls.of(plan, success_B, trial_B, policy_step=policy_step)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What to train on now. An update happens iff ``group_G`` is not empty.

    Attributes
    ----------
    group_G : ndarray of int64, shape (G,)
        Train on these groups now.
    weight_G : ndarray of float64, shape (G,)
        Weight of each group in the loss, ``draw / m`` (Eq. 16); with importance weights 1 / (N x chance
        of a visit), which sum to 1 on average only.
    discard_G : ndarray of int64
        Groups that will never be trained on; the host may drop their rollouts.
    keep_G2 : ndarray of int64, shape (G, 2), optional
        How many right and wrong rollouts to train on, first generated first. Default: all.
    baseline_G : ndarray of float64, shape (G,), optional
        Reward baseline per group. Default: the estimator's own.
    step_scale : float
        Advice that multiplies the learning rate; a host that ignores it says so.
    """

    group_G: IntArray
    weight_G: FloatArray
    discard_G: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    keep_G2: IntArray | None = None
    baseline_G: FloatArray | None = None
    step_scale: float = 1.0

    def __post_init__(self) -> None:
        where = "Selection"
        set_ = object.__setattr__
        set_(self, "group_G", as_int_array(where, "group_G", self.group_G, low=0))
        size = self.group_G.size
        set_(
            self,
            "weight_G",
            as_float_array(where, "weight_G", self.weight_G, length=size, low=0.0),
        )
        set_(self, "discard_G", as_int_array(where, "discard_G", self.discard_G, low=0))
        if not is_distinct(self.group_G):
            fail(where, "group_G", "unique", self.group_G.tolist())
        if self.discard_G.size and not is_distinct(np.append(self.group_G, self.discard_G)):
            fail(where, "discard_G", "unique and apart from group_G", self.discard_G.tolist())
        if self.keep_G2 is not None:
            legal = f"counts of shape ({size}, 2)"
            keep = as_array(where, "keep_G2", self.keep_G2, legal)
            if keep.dtype.kind not in "iu" or keep.shape != (size, 2) or (keep < 0).any():
                fail(where, "keep_G2", legal, self.keep_G2)
            set_(self, "keep_G2", keep.astype(np.int64))
        if self.baseline_G is not None:
            baseline_G = as_float_array(where, "baseline_G", self.baseline_G, length=size)
            set_(self, "baseline_G", baseline_G)
        set_(self, "step_scale", as_float(where, "step_scale", self.step_scale, 0.0))
        for array in (self.group_G, self.weight_G, self.discard_G, self.keep_G2, self.baseline_G):
            if array is not None:
                frozen(array)

    @classmethod
    def empty(cls, discard_G: ArrayLike = ()) -> Selection:
        """Nothing to train on yet."""
        discard = as_int_array("Selection", "discard_G", discard_G, low=0)
        return cls(np.zeros(0, np.int64), np.zeros(0), discard)

    @property
    def is_update(self) -> bool:
        """Whether the host updates the policy now."""
        return bool(self.group_G.size)


def binary_rewards(where: str, reward_R: ArrayLike, threshold: float | None) -> FloatArray:
    """Rewards as exact 0.0 / 1.0, or an error that names the way out (``threshold=``)."""
    given = as_array(where, "reward_R", reward_R, "a one-dimensional array of 0 and 1")
    if given.dtype.kind == "b":
        given = given.astype(np.int64)
    if given.size == 0 and given.ndim == 1:
        given = given.astype(np.float64)
    reward = as_float_array(where, "reward_R", given)
    if threshold is not None:
        cut = as_float(where, "threshold", threshold)
        return (reward >= cut).astype(np.float64)
    is_bad = (reward != 0.0) & (reward != 1.0)
    if is_bad.any():
        fail(
            where,
            "reward_R",
            "0 or 1 (give threshold= to turn graded rewards into 0/1)",
            float(reward[is_bad][0]),
        )
    return reward


def outcome_rows(plan: Plan, outcome: Outcome, step: int) -> Iterator[dict[str, Any]]:
    """Lines of ``outcomes.jsonl``, the evidence every host writes and calibration reads.

    ``step`` counts the updates of the policy that generated the rollouts. Groups with no returned
    rollout are left out: they carry no evidence.
    """
    row_B = plan.rows(outcome.group_B, "outcome_rows", "outcome.group_B")
    for i, success, trial in zip(
        row_B.tolist(), outcome.success_B.tolist(), outcome.trial_B.tolist(), strict=True
    ):
        if trial:
            yield {
                "prompt": int(plan.prompt_B[i]),
                "step": step,
                "success": success,
                "trial": trial,
                "is_pilot": bool(plan.is_pilot_B[i]),
            }
