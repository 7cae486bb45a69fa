"""A plan as the rows of a trainer's generation batch, and their rewards as what its loss needs.

For trainers that roll out and train in batches of a fixed number of rows, one completion per row.
Rows are in the plan's order, so that the processes of a distributed trainer can cut them alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cures.advantage import advantages, rollout_weights
from cures.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    InWords,
    as_choice,
    as_float_array,
    as_int,
    as_int_array,
    fail,
    frozen,
)
from cures.records import Outcome, Plan, Selection

FILLER = -1  # group of a row that no plan asked for
ROW_AGGREGATIONS = ("prompt", "rollout")  # those of rollout_weights that need no tokens


def single_precision(threshold: float) -> float:
    """The threshold as a trainer's rewards would hold it, which are float32.

    A reward of 0.7 is 0.69999999 there, and would be below a threshold of 0.7.
    """
    return float(np.float32(threshold))


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a batch teaches.

    Attributes
    ----------
    advantage_R : ndarray of float64, shape (R,)
        0 for rows that are not trained on.
    weight_R : ndarray of float64, shape (R,)
        Weight of each row relative to a loss that takes the mean over all R rows: R times that of
        :func:`cures.rollout_weights`. 0 for rows that are not trained on.
    """

    advantage_R: FloatArray
    weight_R: FloatArray

    def __post_init__(self) -> None:
        frozen(self.advantage_R)
        frozen(self.weight_R)


@dataclass(frozen=True, slots=True, eq=False)
class GenerationBatch:
    """The rows of one plan.

    Attributes
    ----------
    plan : Plan
    prompt_R : ndarray of int64, shape (R,)
        Prompt of each row.
    group_R : ndarray of int64, shape (R,)
        Group of each row; -1 for a *filler*, generated only to make R a multiple.
    """

    plan: Plan
    prompt_R: IntArray
    group_R: IntArray

    def __post_init__(self) -> None:
        frozen(self.prompt_R)
        frozen(self.group_R)

    @classmethod
    def of(cls, plan: Plan, *, multiple: int = 1) -> GenerationBatch:
        """Lay out a plan of at least one rollout.

        Parameters
        ----------
        plan : Plan
        multiple : int
            R is a multiple of it (the number of processes); the rows that this takes are fillers.

        Raises
        ------
        ValueError
            If the plan is empty or ``multiple`` < 1.
        """
        as_int("GenerationBatch", "multiple", multiple, 1)
        if not len(plan):
            got = InWords(f"empty plan {plan.plan_id}")
            fail("GenerationBatch", "plan", "of at least one rollout", got)
        fillers = -plan.num_rollouts % multiple
        prompt_R = np.repeat(plan.prompt_B, plan.quota_B)
        group_R = np.repeat(plan.group_B, plan.quota_B)
        return cls(
            plan,
            np.append(prompt_R, np.repeat(prompt_R[-1:], fillers)),
            np.append(group_R, np.full(fillers, FILLER)),
        )

    @classmethod
    def watched(cls, prompt_R: ArrayLike) -> GenerationBatch:
        """Rows that a trainer has chosen itself; a group is all rows of a prompt, and has its number.

        Parameters
        ----------
        prompt_R : array_like of int, shape (R,)
        """
        prompt = as_int_array("GenerationBatch.watched", "prompt_R", prompt_R, low=0)
        prompt_B, quota_B = np.unique(prompt, return_counts=True)
        plan = Plan(
            plan_id=0,
            group_B=prompt_B,
            prompt_B=prompt_B,
            quota_B=quota_B.astype(np.int64),
            is_pilot_B=np.zeros(prompt_B.size, dtype=bool),
            draw_B=np.ones(prompt_B.size, dtype=np.int64),
            prob_B=np.full(prompt_B.size, np.nan),
        )
        return cls(plan, prompt, prompt)

    def __len__(self) -> int:
        """Number of rows R."""
        return int(self.prompt_R.size)

    @property
    def fillers(self) -> int:
        """Rows that no plan asked for: generated, but in no ledger of the scheduler."""
        return int((self.group_R == FILLER).sum())

    def returned(self, reward_R: ArrayLike) -> BoolArray:
        """Which rows are evidence: planned, and with a reward (NaN is missing data), shape (R,)."""
        reward = as_float_array(
            "GenerationBatch", "reward_R", reward_R, length=len(self), allow_nan=True
        )
        return np.asarray(~np.isnan(reward) & (self.group_R != FILLER))

    def outcome(self, reward_R: ArrayLike, *, threshold: float | None = None) -> Outcome:
        """What came back, for ``scheduler.observe``.

        Parameters
        ----------
        reward_R : array_like of float, shape (R,)
            0 or 1, NaN where there is none; fillers' are not looked at.
        threshold : float, optional
            Right iff ``reward >= threshold``.

        Raises
        ------
        ValueError
            On rewards other than 0/1 without a threshold, or of another shape.
        """
        is_back_R = self.returned(reward_R)
        return Outcome.from_rewards(
            self.plan,
            np.asarray(reward_R, dtype=np.float64)[is_back_R],
            self.group_R[is_back_R],
            threshold=threshold,
        )

    def lesson(
        self,
        selection: Selection,
        reward_R: ArrayLike,
        *,
        estimator: str,
        aggregation: str = "prompt",
        threshold: float | None = None,
    ) -> Lesson:
        """Advantages and weights of the rows.

        Parameters
        ----------
        selection : Selection
            On groups of this plan alone.
        reward_R, threshold
            See :meth:`outcome`.
        estimator : str
            See :func:`cures.advantages`.
        aggregation : str
            ``prompt``: every draw of a prompt counts alike, whatever its quota (Eq. 16); ``rollout``:
            every rollout counts alike. See :func:`cures.rollout_weights`.

        Raises
        ------
        ValueError
            If the selection has groups of other plans, or trains on some rollouts of a group only.
        """
        where = "GenerationBatch.lesson"
        as_choice(where, "aggregation", aggregation, ROW_AGGREGATIONS)
        if not np.isin(selection.group_G, self.plan.group_B).all():
            legal = f"of plan {self.plan.plan_id} alone"
            fail(where, "selection.group_G", legal, selection.group_G.tolist())
        if selection.keep_G2 is not None:
            fail(where, "selection.keep_G2", "None", selection.keep_G2.tolist())
        advantage_R, weight_R = np.zeros(len(self)), np.zeros(len(self))
        is_trained_R = self.returned(reward_R) & np.isin(self.group_R, selection.group_G)
        if not is_trained_R.any():
            return Lesson(advantage_R, weight_R)
        order_G = np.argsort(selection.group_G)
        slot_R = order_G[
            np.searchsorted(selection.group_G, self.group_R[is_trained_R], sorter=order_G)
        ]
        baseline = selection.baseline_G
        advantage_R[is_trained_R] = advantages(
            np.asarray(reward_R, dtype=np.float64)[is_trained_R],
            slot_R,
            estimator=estimator,
            baseline_R=None if baseline is None else baseline[slot_R],
            threshold=threshold,
        )
        trial_G = np.bincount(slot_R, minlength=selection.group_G.size)
        in_order = np.flatnonzero(is_trained_R)[np.argsort(slot_R, kind="stable")]
        weight_R[in_order] = len(self) * rollout_weights(
            selection.weight_G, trial_G, aggregation=aggregation
        )
        return Lesson(advantage_R, weight_R)
