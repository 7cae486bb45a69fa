"""The simulator as a host: rollouts of a toy policy, real policy gradients.

Rollouts wait as flat arrays, in the order they were generated, until their group is selected or
discarded. An update turns their rewards into advantages (:func:`cures.advantages`) and weights
(:func:`cures.rollout_weights`) and ascends :math:`\\sum_r w_r A_r s_r`, the gradient of Eq. (16)
at ratio 1. Scores are those of the *current* parameters: rollouts that waited over an update are
used as if they were fresh, as in a trainer that recomputes its old log-probabilities before the
update.

An answer is one action: for ``prompt`` and ``rollout`` aggregation its ratio is that of the whole
answer, as in Eq. (16). ``token`` aggregation gives every token the same weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cures.advantage import AGGREGATIONS, ESTIMATORS, advantages, rollout_weights
from cures.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    InWords,
    as_bool,
    as_choice,
    as_float,
    as_int,
    fail,
)
from cures.records import Moments, Outcome, Plan, Selection
from cures.storage import State, refuse_further
from sim.drift import drift_step
from sim.moments import score_moments
from sim.optimiser import OPTIMISERS, OptimiserState, ascend
from sim.populations import Population

ANSWER_STREAM, VERDICT_STREAM, MISSING_STREAM = 0, 1, 2
_WAITING = ("group", "prompt", "answer", "right")
# A run that diverges ends in the error of SimHost._finite, not in a page of warnings before it.
_QUIET = np.errstate(over="ignore", invalid="ignore")


class SimHost:
    """Rolls out and trains a population's policy.

    Where the population drifts, every update ends with a step of its walk (:mod:`sim.drift`), and
    :attr:`population` is the present one.

    Parameters
    ----------
    population : Population
    seed : int
        Root of the outcomes; the generator of a plan follows from (seed, plan id). Give the
        scheduler another seed, or its prompt draws and the outcomes come from the same numbers.
    estimator, aggregation : str
        As in :func:`cures.advantages` and :func:`cures.rollout_weights`.
    optimiser : {'adam', 'sgd', 'normalised'}
    learning_rate : float, > 0
        Multiplied by ``Selection.step_scale``.
    missing_rate : float in [0, 1)
        Chance that a rollout never comes back.
    has_moments : bool
        Whether :class:`cures.Moments` are measured when a plan wants them.
    """

    def __init__(
        self,
        population: Population,
        *,
        seed: int,
        estimator: str = "grpo",
        aggregation: str = "prompt",
        optimiser: str = "adam",
        learning_rate: float = 0.01,
        missing_rate: float = 0.0,
        has_moments: bool = True,
    ) -> None:
        where = "SimHost"
        self.population = self._at_start = population
        self.seed = as_int(where, "seed", seed, 0)
        self._estimator = as_choice(where, "estimator", estimator, ESTIMATORS)
        self.aggregation = as_choice(where, "aggregation", aggregation, AGGREGATIONS)
        self.optimiser = as_choice(where, "optimiser", optimiser, OPTIMISERS)
        self.learning_rate = as_float(where, "learning_rate", learning_rate, 0.0, open_low=True)
        self.missing_rate = as_float(where, "missing_rate", missing_rate, 0.0, 1.0, open_high=True)
        self.has_moments = as_bool(where, "has_moments", has_moments)
        self.theta_D = population.theta_D.copy()
        self.update_step = 0
        self._drift_N = np.zeros(population.num_pool)
        self._memory = OptimiserState.zeros(self.theta_D.size)
        self._waiting: dict[str, IntArray] = {k: np.zeros(0, dtype=np.int64) for k in _WAITING}

    @property
    def estimator(self) -> str:
        """Advantage estimator."""
        return self._estimator

    @property
    def num_waiting(self) -> int:
        """Stored rollouts whose group was neither selected nor discarded yet."""
        return int(self._waiting["group"].size)

    @_QUIET
    def true_success_rate(self) -> FloatArray:
        """Exact success rate of every pool prompt now, for the ``oracle`` scheduler and figures.

        Raises
        ------
        FloatingPointError
            If one is not finite: training diverged.
        """
        pool = np.arange(self.population.num_pool)
        return self._finite("true success rates", self.population.success_rate(self.theta_D, pool))

    @_QUIET
    def held_out_success(self) -> float:
        """Exact mean success rate on the held-out prompts now.

        Raises
        ------
        FloatingPointError
            If it is not finite: training diverged.
        """
        held_out = self.population.held_out_success(self.theta_D)
        return float(self._finite("held-out success", np.array(held_out)))

    @_QUIET
    def rollout(self, plan: Plan) -> Outcome:
        """Sample ``quota_B`` answers per group; the order within a group is the order in time.

        Raises
        ------
        ValueError
            If a prompt is not in the pool: held-out prompts are never trained on.
        """
        outside = (plan.prompt_B < 0) | (plan.prompt_B >= self.population.num_pool)
        if outside.any():
            legal = f"in the pool [0, {self.population.num_pool - 1}]"
            fail("SimHost.rollout", "plan.prompt_B", legal, int(plan.prompt_B[outside][0]))
        policy = self.population.policy
        index: IntArray = np.repeat(np.arange(len(plan)), plan.quota_B)
        prompt = plan.prompt_B[index]
        answer = policy.generate(self.theta_D, prompt, self._generator(plan, ANSWER_STREAM))
        right = policy.is_right(prompt, answer)
        fixed_B = self.population.fixed_rate_N[plan.prompt_B]
        if not np.isnan(fixed_B).all():
            fixed = fixed_B[index]
            chance = self._generator(plan, VERDICT_STREAM).random(prompt.size)
            right = np.where(np.isnan(fixed), right, chance < fixed)
        trial_B = plan.quota_B
        if self.missing_rate:
            chance = self._generator(plan, MISSING_STREAM).random(prompt.size)
            is_back = chance >= self.missing_rate
            index, prompt = index[is_back], prompt[is_back]
            answer, right = answer[is_back], right[is_back]
            trial_B = np.bincount(index, minlength=len(plan))
        self._wait(plan.group_B[index], prompt, answer, right.astype(np.int64))
        size = len(plan)
        token = policy.num_tokens(prompt, answer)
        return Outcome.of(
            plan,
            np.bincount(index[right], minlength=size),
            trial_B,
            token_B=np.bincount(index, weights=token, minlength=size).astype(np.int64),
            policy_step=self.update_step,
            moments_B=self._moments(plan, index, prompt, answer, right),
        )

    @_QUIET
    def update(self, selection: Selection) -> Mapping[str, float]:
        """One ascent step on the selected groups.

        Returns
        -------
        dict of str to float
            ``trained``, ``zero_advantage`` (rollouts), ``empty_groups``, ``reward`` (mean over
            trained rollouts, 0 without any), ``gradient_norm``.

        Raises
        ------
        FloatingPointError
            If a parameter is not finite afterwards: training diverged.
        """
        row, position = self._rows_of(selection.group_G)
        is_last = row.size == self.num_waiting  # nothing stays
        if selection.keep_G2 is not None:
            keep = first_of_each_kind(position, self._waiting["right"][row], selection.keep_G2)
            row, position = row[keep], position[keep]
        prompt, answer, reward = (self._waiting[k][row] for k in ("prompt", "answer", "right"))
        trial_G = np.bincount(position, minlength=selection.group_G.size)
        gradient, zero = np.zeros(self.theta_D.size), 0
        if row.size:
            gradient, zero = self._gradient(selection, position, trial_G, prompt, answer, reward)
            self.theta_D, self._memory = ascend(
                self.optimiser,
                self.theta_D,
                gradient,
                self._memory,
                self.learning_rate * selection.step_scale,
            )
        self.update_step += 1
        self._finite("theta", self.theta_D)
        sd = self.population.drift_sd
        if sd:
            self._drift_to(
                self._drift_N + drift_step(self.seed, self.update_step, self._drift_N.size, sd)
            )
        if is_last:
            self._waiting = {key: array[:0] for key, array in self._waiting.items()}
        else:
            self._drop(np.concatenate([selection.group_G, selection.discard_G]))
        return {
            "trained": float(row.size),
            "zero_advantage": float(zero),
            "empty_groups": float((trial_G == 0).sum()),
            "reward": float(reward.mean()) if row.size else 0.0,
            "gradient_norm": float(np.linalg.norm(gradient)),
        }

    def discard(self, selection: Selection) -> None:
        """Forget the rollouts of groups that will never be trained on."""
        self._drop(selection.discard_G)

    def state_dict(self) -> State:
        """Parameters, optimiser memory and waiting rollouts, flat."""
        waiting: State = {f"waiting/{key}": array for key, array in self._waiting.items()}
        drift: State = {"drift_N": self._drift_N.copy()} if self.population.drift_sd else {}
        return {
            "theta": self.theta_D,
            "first": self._memory.first_D,
            "second": self._memory.second_D,
            "count": self._memory.count,
            "update_step": self.update_step,
            **waiting,
            **drift,
        }

    def load_state_dict(self, state: State) -> None:
        """Inverse of :meth:`state_dict`; a wrong, missing or further entry is named, nothing changes."""
        expected: State = self.state_dict()
        refuse_further("SimHost.load_state_dict", state, expected)
        for key, present in expected.items():
            if key not in state:
                fail("SimHost.load_state_dict", "state", f"with an entry {key!r}", sorted(state))
            old, new = np.asarray(present), np.asarray(state[key])
            if new.dtype != old.dtype or (new.shape != old.shape and "waiting/" not in key):
                legal = f"of dtype {old.dtype}, shape {old.shape}"
                fail(
                    "SimHost.load_state_dict",
                    f"state[{key!r}]",
                    legal,
                    InWords(f"{new.dtype} {new.shape}"),
                )
        if len({np.asarray(state[f"waiting/{key}"]).shape for key in _WAITING}) != 1:
            fail("SimHost.load_state_dict", "waiting/*", "of one length", InWords("several"))
        self.theta_D = np.array(state["theta"])
        self._memory = OptimiserState(
            np.array(state["first"]), np.array(state["second"]), int(np.asarray(state["count"]))
        )
        self.update_step = int(np.asarray(state["update_step"]))
        self._waiting = {key: np.array(state[f"waiting/{key}"]) for key in _WAITING}
        if "drift_N" in expected:
            self._drift_to(np.array(state["drift_N"]))

    def _drift_to(self, logit_N: FloatArray) -> None:
        """Always from the start, not from here: a resumed run adds the same numbers."""
        self._drift_N = logit_N
        self.population = self._at_start.drifted(logit_N)

    def _finite(self, what: str, values: FloatArray) -> FloatArray:
        if not np.isfinite(values).all():
            raise FloatingPointError(
                f"{what} must be finite, got {values[~np.isfinite(values)].flat[0]} after update "
                f"{self.update_step} with learning_rate {self.learning_rate:g}"
            )
        return values

    def _generator(self, plan: Plan, stream: int) -> np.random.Generator:
        root = np.random.SeedSequence(self.seed, spawn_key=(plan.plan_id, stream))
        return np.random.default_rng(root)

    def _gradient(
        self,
        selection: Selection,
        position: IntArray,
        trial_G: IntArray,
        prompt: IntArray,
        answer: IntArray,
        reward: IntArray,
    ) -> tuple[FloatArray, int]:
        """The ascent direction, and how many rollouts have no part in it."""
        policy = self.population.policy
        baseline = None if selection.baseline_G is None else selection.baseline_G[position]
        advantage = advantages(reward, position, estimator=self.estimator, baseline_R=baseline)
        token = policy.num_tokens(prompt, answer)
        weight = rollout_weights(selection.weight_G, trial_G, token, self.aggregation)
        if self.aggregation == "token":
            weight = weight / token  # the weight of each of its tokens; the score sums over them
        gradient = policy.score_sum(self.theta_D, prompt, answer, weight * advantage)  # Eq. (16)
        return gradient, int((advantage == 0.0).sum())

    def _wait(self, *arrays: IntArray) -> None:
        """Keep rollouts, one array per entry of ``_WAITING``."""
        for key, array in zip(_WAITING, arrays, strict=True):
            before = self._waiting[key]
            self._waiting[key] = np.concatenate([before, array]) if before.size else array

    def _rows_of(self, group_G: IntArray) -> tuple[IntArray, IntArray]:
        """Waiting rollouts of the groups, sorted by position in ``group_G``, then by time.

        Rollouts of a group come in runs, one per plan: whole runs are looked up and sorted.
        """
        group = self._waiting["group"]
        if not group.size:
            return group, group
        start = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1])
        length = np.diff(start, append=group.size)
        order = np.argsort(group_G)
        slot = np.searchsorted(group_G[order], group[start])
        slot = order[np.minimum(slot, group_G.size - 1)]
        run = np.flatnonzero(group_G[slot] == group[start])
        run = run[np.argsort(slot[run], kind="stable")]
        start, length = start[run], length[run]
        shift = start - (np.cumsum(length) - length)  # from a place in the result to one in waiting
        row = np.repeat(shift, length) + np.arange(length.sum())
        return row, np.repeat(slot[run], length)

    def _drop(self, group: IntArray) -> None:
        if group.size and self.num_waiting:
            stays = ~np.isin(self._waiting["group"], group)
            self._waiting = {key: array[stays] for key, array in self._waiting.items()}

    def _moments(
        self, plan: Plan, index: IntArray, prompt: IntArray, answer: IntArray, right: BoolArray
    ) -> Moments | None:
        if not (self.has_moments and plan.wants_moments):
            return None
        score = self.population.policy.local_score(self.theta_D, prompt, answer)
        return score_moments(score, right, index, len(plan))


def first_of_each_kind(position_R: IntArray, right_R: IntArray, keep_G2: IntArray) -> BoolArray:
    """Mark the first ``keep_G2[g]`` right and wrong rollouts of each group.

    Parameters
    ----------
    position_R : ndarray of int64, shape (R,)
        Group of each rollout, ascending; within a group in the order of generation.
    right_R : ndarray of int64, shape (R,)
        0 or 1.
    keep_G2 : ndarray of int64, shape (G, 2)
        How many right and wrong ones to keep.

    Examples
    --------
    >>> first_of_each_kind(np.array([0, 0, 0]), np.array([1, 0, 1]), np.array([[1, 1]])).tolist()
    [True, True, False]
    """
    is_kept = np.zeros(position_R.size, dtype=bool)
    for column, kind in enumerate((1, 0)):
        row = np.flatnonzero(right_R == kind)
        position = position_R[row]
        rank = np.arange(row.size) - np.searchsorted(position, position)
        is_kept[row[rank < keep_G2[position, column]]] = True
    return is_kept
