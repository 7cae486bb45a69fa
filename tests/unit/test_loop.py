"""The one loop."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.schedulers.driver.draft import Draft
from cures.schedulers.uniform import Uniform
from tests.scripted import ScriptedHost, same_state, small_scheduler


def test_records_hold_everything_since_the_previous_update():
    scheduler, host = small_scheduler("dapo"), ScriptedHost(np.linspace(0, 1, 48))
    seen: list[int] = []
    for record in cures.loop.run(scheduler, host, rollouts=4000):
        assert len(record.plans) == len(record.outcomes)
        seen += [plan.plan_id for plan in record.plans]
        assert record.step == host.updates == scheduler.update_step
        assert record.generated == scheduler.ledger.generated
    assert seen == list(range(len(seen)))


def test_resumed_runs_count_what_was_spent():
    scheduler, host = small_scheduler("uniform"), ScriptedHost(np.full(48, 0.5))
    list(cures.loop.run(scheduler, host, rollouts=320))
    assert list(cures.loop.run(scheduler, host, rollouts=320)) == []
    more = list(cures.loop.run(scheduler, host, rollouts=352))
    assert [record.step for record in more] == [11]


def test_another_estimator_is_refused():
    host = ScriptedHost(np.full(48, 0.5), estimator="rloo")
    with pytest.raises(
        ValueError, match="host.estimator must be the scheduler's, 'grpo', got 'rloo'"
    ):
        list(cures.loop.run(small_scheduler("uniform"), host, rollouts=100))


def test_bad_budget():
    with pytest.raises(ValueError, match="rollouts must be an int"):
        list(
            cures.loop.run(
                small_scheduler("uniform"), ScriptedHost(np.full(48, 0.5)), rollouts=10.5
            )
        )


def test_a_bad_call_is_refused_when_it_is_made():
    scheduler, host = small_scheduler("uniform"), ScriptedHost(np.full(48, 0.5))
    with pytest.raises(ValueError, match=r"rollouts must be an int in \[0, inf\), got -5"):
        cures.loop.run(scheduler, host, rollouts=-5)
    list(cures.loop.run(scheduler, host, rollouts=64))
    with pytest.raises(ValueError, match="rollouts must be at least 64, what is generated or"):
        cures.loop.run(scheduler, host, rollouts=63)


def test_two_empty_plans_in_a_row_are_an_error_of_the_scheduler():
    class Broken(Uniform):
        name = "broken"

        def _draft(self, generator):
            return Draft.nothing()

    with pytest.raises(RuntimeError, match="'broken' proposed two empty plans"):
        list(cures.loop.run(Broken(8, 4, 16), ScriptedHost(np.full(8, 0.5)), rollouts=100))


def test_surplus_groups_are_trained_on_after_the_budget_is_spent():
    # speed with easy acceptance has more finished groups than one update takes
    scheduler = cures.make_scheduler("speed", num_prompts=100, batch_size=2, budget=12)
    host = ScriptedHost(np.full(100, 0.5))
    list(cures.loop.run(scheduler, host, rollouts=500))
    assert not scheduler.has_update_ready


def test_every_outcome_is_reported_also_after_the_last_update():
    scheduler, host = small_scheduler("gvm"), ScriptedHost(np.linspace(0, 1, 48))
    seen = []
    # 24 prompts x 8 pilots and no rollouts left for a step: outcomes, but no update
    records = list(
        cures.loop.run(scheduler, host, rollouts=192, on_outcome=lambda p, o: seen.append((p, o)))
    )
    assert records == []
    assert sum(int(outcome.trial_B.sum()) for _, outcome in seen) == 192


def test_outcomes_that_do_not_close_the_plan_are_refused():
    class Half(ScriptedHost):
        def rollout(self, plan):
            whole = super().rollout(plan)
            return cures.Outcome(
                plan.plan_id,
                whole.group_B[:1],
                whole.success_B[:1],
                whole.trial_B[:1],
                is_final=False,
            )

    with pytest.raises(
        ValueError, match=r"host.rollout\(plan\) must be the final outcome of plan 0"
    ):
        list(cures.loop.run(small_scheduler("uniform"), Half(np.full(48, 0.5)), rollouts=100))


def test_open_plans_are_proposed_again_and_counted_once():
    scheduler, host = small_scheduler("uniform"), ScriptedHost(np.full(48, 0.5))
    for _ in range(3):
        scheduler.propose()  # their outcomes are lost
    with pytest.raises(
        ValueError, match="rollouts must be at least 96, what is generated or planned"
    ):
        list(cures.loop.run(scheduler, host, rollouts=90))
    records = list(cures.loop.run(scheduler, host, rollouts=100))
    assert [record.plans[0].plan_id for record in records] == [0, 1, 2, 3]
    assert records[3].plans[0].num_rollouts == 4  # what is left of 100
    assert scheduler.ledger.generated == 100
    assert scheduler.open_rollouts == 0


def test_a_run_goes_on_after_a_host_that_raised():
    class Flaky(ScriptedHost):
        fails_at = 2

        def rollout(self, plan):
            if plan.plan_id == self.fails_at:
                self.fails_at = None
                raise OSError("engine lost")
            return super().rollout(plan)

    scheduler, host = small_scheduler("uniform"), Flaky(np.full(48, 0.5))
    with pytest.raises(OSError, match="engine lost"):
        list(cures.loop.run(scheduler, host, rollouts=160))
    list(cures.loop.run(scheduler, host, rollouts=160))
    assert scheduler.ledger.generated == 160
    reference = small_scheduler("uniform")
    list(cures.loop.run(reference, ScriptedHost(np.full(48, 0.5)), rollouts=160))
    assert scheduler.state_dict().keys() == reference.state_dict().keys()
    assert same_state(scheduler.state_dict(), reference.state_dict())
