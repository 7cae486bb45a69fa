"""Any interleaving of propose, next, partial outcomes, saves and loads keeps the books."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import cures
from cures.records import Outcome
from tests.scripted import ScriptedHost, same_state, small_scheduler

# the pool of 48, and those who may join it
RATE_N = np.concatenate([np.zeros(12), np.linspace(0.05, 0.95, 24), np.ones(12), np.full(12, 0.4)])
NOBODY_JOINS = ("staged", "vip", "oracle")  # told about every prompt when they are made


class SchedulerMachine(RuleBasedStateMachine):
    """A host that is as untidy as the protocol allows."""

    @initialize(name=st.sampled_from(cures.list_schedulers()), seed=st.integers(0, 3))
    def start(self, name, seed):
        self.name, self.seed = name, seed
        self.scheduler = small_scheduler(name, seed=seed)
        self.host = ScriptedHost(RATE_N, seed=seed, missing_rate=0.1)
        self.open = {}  # plan id -> (plan, outcome, positions not reported yet)
        self.closed_quota = 0
        self.retired = []

    def _issue(self, plan):
        assert plan.plan_id not in self.open
        assert not np.isin(plan.prompt_B, self.retired).any()
        outcome = self.host.rollout(plan) if len(plan) else Outcome.of(plan, [])
        self.open[plan.plan_id] = (plan, outcome, list(range(len(plan))))

    def _apply(self, selection):
        (self.host.update if selection.is_update else self.host.discard)(selection)

    @precondition(lambda self: len(self.open) < 5)
    @rule(limit=st.none() | st.integers(2, 40))
    def propose(self, limit):
        plan = self.scheduler.propose(limit=limit)
        assert limit is None or plan.num_rollouts <= limit
        self._issue(plan)

    @precondition(lambda self: len(self.open) < 5)
    @rule()
    def next(self):
        plan = self.scheduler.next()
        assert len(plan) <= 1
        self._issue(plan)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def report(self, data):
        plan_id = data.draw(st.sampled_from(sorted(self.open)))
        plan, outcome, left = self.open[plan_id]
        count = data.draw(st.integers(0, len(left)))
        part, rest = np.array(left[:count], dtype=int), left[count:]
        is_final = data.draw(st.booleans()) if rest else True
        if is_final and rest:  # what is never reported is missing: take it off the host's books
            for i in rest:
                group = int(plan.group_B[i])
                self.host.groups[group]["trial"] -= int(outcome.trial_B[i])
                self.host.groups[group]["success"] -= int(outcome.success_B[i])
                self.host.missing += int(outcome.trial_B[i])
        selection = self.scheduler.observe(
            Outcome(
                plan_id,
                plan.group_B[part],
                outcome.success_B[part],
                outcome.trial_B[part],
                is_final=is_final,
            )
        )
        if is_final:
            del self.open[plan_id]
            self.closed_quota += plan.num_rollouts
        else:
            self.open[plan_id] = (plan, outcome, rest)
        self._apply(selection)

    @precondition(lambda self: self.name not in NOBODY_JOINS and self.scheduler.num_prompts < 58)
    @rule(count=st.integers(1, 2))
    def extend(self, count):
        before = self.scheduler.num_prompts
        assert self.scheduler.extend(count).tolist() == list(range(before, before + count))

    @precondition(lambda self: len(self.retired) < 10)
    @rule(data=st.data())
    def retire(self, data):
        active = np.setdiff1d(np.arange(self.scheduler.num_prompts), self.retired)
        gone = data.draw(st.lists(st.sampled_from(active.tolist()), max_size=2, unique=True))
        self.scheduler.retire(gone)
        self.retired += gone

    @rule()
    def save_and_load(self):
        state = self.scheduler.state_dict()
        resumed = small_scheduler(self.name, seed=self.seed)
        resumed.load_state_dict(state, reissue=False)
        assert same_state(state, resumed.state_dict())
        self.scheduler = resumed

    @rule()
    def stale_outcome(self):
        before = self.scheduler.state_dict()
        self.scheduler.observe(Outcome(10**6, [0], [0], [1]))
        after = self.scheduler.state_dict()
        key = "counter/outcome_of_unknown_plan"
        assert after.pop(key) == before.pop(key, 0) + 1
        assert same_state(before, after)

    @invariant()
    def books_agree(self):
        if not hasattr(self, "scheduler"):
            return
        ledger = self.scheduler.ledger
        assert ledger.generated == self.closed_quota
        assert ledger.trained == self.host.trained
        assert ledger.discarded == self.host.discarded
        assert ledger.pending >= 0
        assert ledger.steps == self.host.updates


TestSchedulers = SchedulerMachine.TestCase
TestSchedulers.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
