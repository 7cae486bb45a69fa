"""The driver of every scheduler: ids, open plans, live groups, ledger, counters, state.

A method of the literature is a subclass that fills the hooks of
:class:`~cures.schedulers.driver.rule.Rule`, and :meth:`Scheduler._closed` where not all of a plan is
trained on; everything that a host relies on is here, once. Rules in this file are those of the protocol:

* ``propose`` and ``next`` share one plan counter; the generator of a plan is derived from its id.
* ``observe`` validates first and changes state second: after an error nothing has moved.
* A plan closes when all its groups were reported or a final outcome came; then its cost is booked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from cures.advantage import ESTIMATORS
from cures.checks import BoolArray, IntArray, as_choice, as_int, as_int_array, fail
from cures.ledger import Ledger
from cures.posterior import BetaPosterior
from cures.quota import LARGEST_BUDGET
from cures.records import Outcome, Plan, Selection
from cures.schedulers.driver import persistence
from cures.schedulers.driver.books import Books
from cures.schedulers.driver.draft import Draft, cut
from cures.schedulers.driver.groups import LiveGroups
from cures.schedulers.driver.open_plans import OpenPlan
from cures.schedulers.driver.pool import MAX_PROMPTS, Pool
from cures.schedulers.driver.randomness import Stream, derived_generator
from cures.schedulers.driver.rule import Rule
from cures.schedulers.driver.streaming import StreamQuota
from cures.storage import State

COMPLETE = 9  # stage of a live group that only waits to be selected


class Scheduler(Rule):
    """Decides which prompts to roll out and how many rollouts each gets.

    Parameters
    ----------
    num_prompts : int
        Size N of the pool, >= 1; prompts are the ids 0 ... N-1.
    batch_size : int
        Prompts (draws) per update, m >= 1.
    budget : int
        Rollouts per update, >= batch_size * min_quota.
    seed : int
        Root of all randomness, >= 0.
    min_quota : int
        Fewest rollouts a group gets; 2, because a group of one has no advantage.
    max_quota : int, optional
        Most rollouts per draw in one plan; None is unbounded.
    estimator : str
        Advantage estimator of the host, see :func:`cures.advantages`.
    """

    has_exact_budget: ClassVar[bool] = False  # every plan but for pilots is of ``budget`` rollouts
    is_single_plan: ClassVar[bool] = False  # every plan is an update
    is_piloted: ClassVar[bool] = False  # every plan is, but for those of pilots

    def __init__(
        self,
        num_prompts: int,
        batch_size: int,
        budget: int,
        seed: int = 0,
        *,
        min_quota: int = 2,
        max_quota: int | None = None,
        estimator: str = "grpo",
    ) -> None:
        where = self.name
        self._pool = Pool((as_int(where, "num_prompts", num_prompts, 1, MAX_PROMPTS),))
        self.batch_size = as_int(where, "batch_size", batch_size, 1)
        self.min_quota = as_int(where, "min_quota", min_quota, 1)
        self.budget = as_int(
            where, "budget", budget, self.batch_size * self.min_quota, LARGEST_BUDGET
        )
        if max_quota is not None:
            fewest = max(self.min_quota, -(-self.budget // self.batch_size))
            max_quota = as_int(where, "max_quota", max_quota, fewest, LARGEST_BUDGET)
        self.max_quota = max_quota
        self.seed = as_int(where, "seed", seed, 0, 2**63 - 1)
        self.estimator = as_choice(where, "estimator", estimator, ESTIMATORS)
        self.posterior: BetaPosterior | None = None
        self._books = Books()
        self._open: dict[int, OpenPlan] = {}
        self._reissue: deque[int] = deque()
        self._next_plan_id = 0
        self._next_group_id = 0
        self._draws_since_update = 0
        self._stream = StreamQuota()

    # -- what hosts call -----------------------------------------------------------------------------

    @property
    def num_prompts(self) -> int:
        """Size N of the pool, retired prompts included."""
        return self._pool.num_prompts

    @property
    def num_active(self) -> int:
        """Prompts of the pool that are not retired."""
        return self._pool.num_active

    @property
    def ledger(self) -> Ledger:
        """Every rollout of this run, by purpose and fate."""
        return self._books.ledger

    @property
    def counters(self) -> dict[str, int]:
        """Rare events so far: repeats, fall-backs, overflows."""
        return self._books.counters

    @property
    def live(self) -> LiveGroups:
        """Groups under way or waiting to be selected."""
        return self._books.live

    @property
    def update_step(self) -> int:
        """Updates so far."""
        return self.ledger.steps

    @property
    def open_rollouts(self) -> int:
        """Rollouts planned and not yet booked, for hosts with several open plans."""
        return sum(open_plan.plan.num_rollouts for open_plan in self._open.values())

    @property
    def has_plan_to_reissue(self) -> bool:
        """Whether ``propose`` returns an open plan again before planning anything new."""
        return self._next_reissue(is_streamed=False) is not None

    def reissue_open_plans(self) -> None:
        """Queue every open plan to be proposed again: their outcomes are lost (a host that failed)."""
        self._reissue = deque(sorted(self._open))

    @property
    def has_update_ready(self) -> bool:
        """Whether the next plan is empty because enough groups wait to be trained on."""
        return False

    def propose(self, limit: int | None = None) -> Plan:
        """Plan the next rollouts.

        Parameters
        ----------
        limit : int, optional
            Most rollouts the plan may hold, >= min_quota. A plan that must be cut loses whole groups
            from its end, then rollouts of its last one.

        Returns
        -------
        Plan
            Empty (B = 0) if an update is ready without generating anything.

        Raises
        ------
        ValueError
            If the limit is below ``min_quota``, or below the size of an open plan that is to be proposed
            again, which is never cut; nothing has changed then.
        """
        return self._propose(limit, is_streamed=False)

    def next(self, limit: int | None = None) -> Plan:
        """Plan one group, for hosts that generate asynchronously.

        The quota is sigma / (running mean of sigma) * budget / batch_size, with what rounding and
        bounds took or gave carried on, so that the long-run mean is budget / batch_size
        (:mod:`cures.schedulers.driver.streaming`). An update is selected whenever ``batch_size``
        streamed draws are complete. After ``load_state_dict`` only open plans of one group are issued
        again.

        Parameters
        ----------
        limit : int, optional
            As for :meth:`propose`.

        Returns
        -------
        Plan
            Of one group (B = 1), or empty (B = 0) if an update is ready without generating anything.

        Raises
        ------
        ValueError
            As :meth:`propose`.
        """
        return self._propose(limit, is_streamed=True)

    def observe(self, outcome: Outcome) -> Selection:
        """Learn from an outcome and say what to train on.

        Parameters
        ----------
        outcome : Outcome
            Of an open plan, whole or in parts. Repeats of a reported (plan, group), and outcomes of
            unknown or closed plans, change nothing and are counted in ``counters``.

        Returns
        -------
        Selection
            Possibly empty.

        Raises
        ------
        ValueError
            If a group is not in the plan or has more trials than its quota; nothing has changed then.
        """
        if not isinstance(outcome, Outcome):
            fail(f"{self.name}.observe", "outcome", "an Outcome", type(outcome).__name__)
        open_plan = self._open.get(outcome.plan_id)
        if open_plan is None:
            is_known = outcome.plan_id < self._next_plan_id
            self._books.count("outcome_of_closed_plan" if is_known else "outcome_of_unknown_plan")
            return Selection.empty()
        at = open_plan.locate(outcome, self.name)
        is_new = ~open_plan.is_reported_B[at]
        self._books.count("repeated_group", int((~is_new).sum()))
        if is_new.any():
            row = np.flatnonzero(is_new)
            self._books.report(open_plan, at[is_new], outcome, row)
            self._evidence(open_plan, at[is_new], outcome, row)
        if not (outcome.is_final or open_plan.is_reported_B.all()):
            return Selection.empty()
        return self._close(open_plan)

    def extend(self, count: int) -> IntArray:
        """Add prompts to the pool; everything else goes on.

        Parameters
        ----------
        count : int
            How many, >= 1.

        Returns
        -------
        ndarray of int64, shape (count,)
            Their ids, the next ones after those of the pool.

        Raises
        ------
        ValueError
            If a setting says something about every prompt and nobody said it about the new ones; nothing
            has changed then.

        Notes
        -----
        O(N), once. A checkpoint is loaded into a scheduler of the first size, or of one on the way.
        """
        count = as_int(f"{self.name}.extend", "count", count, 1, MAX_PROMPTS - self.num_prompts)
        first = self.num_prompts
        with self._unchanged_on_error():
            self._grow(count)
        return np.arange(first, first + count, dtype=np.int64)

    def retire(self, prompt: ArrayLike) -> None:
        """Take prompts out of all future plans; outcomes of plans under way stay welcome.

        Parameters
        ----------
        prompt : array_like of int, shape (K,)
            Distinct ids in [0, N), none retired before. Ids are never used again.

        Raises
        ------
        ValueError
            If an id is no prompt, or was retired, or too few would stay for a plan; nothing has changed
            then.

        Notes
        -----
        Groups of theirs that wait for more rollouts are discarded with the next selection; those that
        are complete are trained on.
        """
        where = f"{self.name}.retire"
        prompt_K = as_int_array(where, "prompt", prompt, low=0, high=self.num_prompts - 1)
        pool = self._pool.without(prompt_K, where)
        if pool.is_retired_N is None or not prompt_K.size:
            return
        self._check_remaining(pool.is_retired_N)
        with self._unchanged_on_error():
            self._pool = pool
            self._retired(prompt_K)

    def state_dict(self) -> State:
        """Everything needed to go on: plain arrays, ints, floats and strings."""
        return persistence.collect(self)

    def load_state_dict(self, state: State, *, reissue: bool = True) -> None:
        """Go on from a saved state.

        Parameters
        ----------
        state : dict
            From :meth:`state_dict` of a scheduler made with the same settings.
        reissue : bool
            True: ``propose`` first returns the open plans again (what was reported of them already is
            left out), same ids, in order. False: they stay open for a host that re-issues them itself.

        Raises
        ------
        ValueError
            If the state is of another scheduler, pool or setting, or damaged; nothing has changed then.
        """
        persistence.restore(self, state, reissue=reissue)

    # -- inside --------------------------------------------------------------------------------------

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Put every attribute back if something is refused on the way."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:  # Ctrl-C, too, must not leave half of a change
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _grow(self, count: int) -> None:
        self._pool = self._pool.extended(count)
        self._extended(count)

    @property
    def _is_retired_N(self) -> BoolArray | None:
        return self._pool.is_retired_N

    def _of_active(self, group: IntArray) -> IntArray:
        """Those of these live groups whose prompt is not retired."""
        if self._is_retired_N is None:
            return group
        return group[~self._is_retired_N[self.live.prompt[self.live.rows(group)]]]

    def _stranded(self, is_retired_N: BoolArray) -> IntArray:
        """Live groups of retired prompts that wait for what will not come."""
        is_waiting = self._awaits_rollouts(self.live.stage) & is_retired_N[self.live.prompt]
        stranded = self.live.group[is_waiting]
        for open_plan in self._open.values():
            stranded = np.setdiff1d(stranded, open_plan.plan.group_B)
        return stranded

    def _propose(self, limit: int | None, *, is_streamed: bool) -> Plan:
        if limit is not None:
            limit = as_int(f"{self.name}.propose", "limit", limit, self.min_quota)
        again = self._next_reissue(is_streamed)
        if again is not None:
            if limit is not None and again.num_rollouts > limit:
                legal = f"at least {again.num_rollouts}, the size of open plan {again.plan_id}"
                fail(f"{self.name}.propose", "limit", legal, limit)
            self._reissue.remove(again.plan_id)
            return again
        if self.has_update_ready:
            return self._issue(Draft.nothing(), is_streamed=False)
        self._prepare()
        generator = derived_generator(self.seed, self._next_plan_id, Stream.PLAN)
        if not is_streamed:
            return self._issue(
                cut(self._draft(generator), limit, self.min_quota), is_streamed=False
            )
        draft = self._streamed_draft(generator, limit)
        return self._issue(cut(draft, limit, self.min_quota), is_streamed=True)

    def _streamed_draft(self, generator: np.random.Generator, limit: int | None) -> Draft:
        draft = self._draft_one(generator)
        if draft.sigma is None:  # the rule fixes the quota itself (pilots, screening)
            return draft
        quota = self._stream.quota(
            draft.sigma,
            budget=self.budget,
            batch_size=self.batch_size,
            min_quota=self.min_quota,
            max_quota=self.max_quota,
        )
        quota = quota if limit is None else min(quota, limit)
        self._stream = self._stream.after(draft.sigma, quota)
        return draft.with_quota(quota)

    def _next_reissue(self, is_streamed: bool) -> Plan | None:
        """The first plan to be issued again; ``next`` only takes plans of one group."""
        self._reissue = deque(
            i for i in self._reissue if i in self._open
        )  # late outcomes close some
        for plan_id in self._reissue:
            if self._open[plan_id].is_streamed or not is_streamed:
                return self._open[plan_id].unreported()
        return None

    def _issue(self, draft: Draft, *, is_streamed: bool) -> Plan:
        size = draft.prompt_B.size
        new_group = np.arange(self._next_group_id, self._next_group_id + size, dtype=np.int64)
        old = self.live.rows(draft.continued_C)
        plan = Plan(
            plan_id=self._next_plan_id,
            group_B=np.concatenate([draft.continued_C, new_group]),
            prompt_B=np.concatenate([self.live.prompt[old], draft.prompt_B]),
            quota_B=np.concatenate([draft.continued_quota_C, draft.quota_B]),
            is_pilot_B=np.concatenate(
                [self.live.is_pilot[old].astype(bool), np.full(size, draft.is_pilot)]
            ),
            draw_B=np.concatenate([self.live.draw[old], draft.draw_B]),
            prob_B=np.concatenate([np.full(old.size, np.nan), draft.prob_B]),
            wants_moments=draft.wants_moments,
        )
        self.live.append(new_group, draft.prompt_B, draft.draw_B, np.full(size, draft.is_pilot))
        self._open[plan.plan_id] = OpenPlan.fresh(plan, is_streamed, self._next_group_id)
        self._next_group_id += size
        self._next_plan_id += 1
        for counter, times in draft.counts.items():
            self._books.count(counter, times)
        self._issued(plan, draft, is_streamed)
        return plan

    def _evidence(self, open_plan: OpenPlan, at: IntArray, outcome: Outcome, row: IntArray) -> None:
        plan = open_plan.plan
        if not self._is_relevant(plan):
            self._books.count("evidence_of_another_subset", at.size)
            return
        part = Outcome(
            plan_id=outcome.plan_id,
            group_B=outcome.group_B[row],
            success_B=outcome.success_B[row],
            trial_B=outcome.trial_B[row],
            policy_step=outcome.policy_step,
        )
        moments = None if outcome.moments_B is None else outcome.moments_B.take(row)
        if plan.wants_moments and moments is None:
            self._books.count("moments_not_measured", at.size)
        self._learn(plan, at, part, moments)

    def _close(self, open_plan: OpenPlan) -> Selection:
        plan = open_plan.plan
        del self._open[plan.plan_id]
        self._books.close(open_plan)
        self._draws_since_update += int(plan.draw_B[plan.group_B >= open_plan.first_new].sum())
        selection = self._closed(plan, open_plan.is_streamed)
        if self._is_retired_N is not None:
            stranded = np.setdiff1d(self._stranded(self._is_retired_N), selection.group_G)
            selection = replace(selection, discard_G=np.union1d(selection.discard_G, stranded))
        self._books.settle(selection)
        if selection.is_update:
            self._draws_since_update = 0
            self._updated()
        return selection

    def _closed(self, plan: Plan, is_streamed: bool) -> Selection:
        """All groups of the plan were reported or given up: select what to train on."""
        if is_streamed:
            self.live.stage[self.live.rows(plan.group_B)] = COMPLETE
            return self._select_when_full()
        # streamed groups that wait (a host that changed its mind) join the batch
        waiting = self.live.in_stage(COMPLETE)
        return self._select(np.union1d(waiting, plan.group_B) if waiting.size else plan.group_B)

    def _select(self, group: IntArray, discard: IntArray | None = None) -> Selection:
        """Train on these groups with Eq. 16 weights."""
        empty = np.zeros(0, dtype=np.int64)
        return Selection(group, self.live.weights(group), empty if discard is None else discard)

    def _select_when_full(self) -> Selection:
        """The oldest complete groups, once they make up ``batch_size`` draws."""
        complete = self.live.in_stage(COMPLETE)
        draws = np.cumsum(self.live.draw[self.live.rows(complete)])
        needed = int(np.searchsorted(draws, self.batch_size)) + 1
        if needed > complete.size:
            return Selection.empty()
        return self._select(complete[:needed])

    def __repr__(self) -> str:
        settings: dict[str, Any] = {
            "num_prompts": self.num_prompts,
            "batch_size": self.batch_size,
            "budget": self.budget,
            "seed": self.seed,
        }
        shown = ", ".join(f"{key}={value}" for key, value in settings.items())
        return f"<cures scheduler {self.name!r}: {shown}, step={self.update_step}>"
