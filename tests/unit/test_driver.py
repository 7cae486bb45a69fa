"""What the driver owes every rule, each point by its own small scenario."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.records import Outcome, Selection
from cures.schedulers.driver.pool import Pool
from cures.schedulers.subsets import MOMENTS
from cures.schedulers.uniform import Uniform
from tests.scripted import ScriptedHost, same_plan, same_state, small_scheduler


def test_every_plan_has_its_own_randomness_also_between_updates():
    # rule 6: keyed by the plan, not by the update, else every refill redraws the same prompts
    scheduler = small_scheduler("oracle", temperature=10.0)
    drawn = [scheduler.propose().prompt_B.tolist() for _ in range(6)]
    assert len({tuple(d) for d in drawn}) == 6
    assert scheduler.update_step == 0


class KeepsSome(Uniform):
    """Trains on two right and one wrong rollout of every group."""

    name = "keeps-some"

    def _closed(self, plan, is_streamed):
        keep_G2 = np.tile([2, 1], (len(plan), 1))
        return Selection(plan.group_B, np.full(len(plan), 1 / len(plan)), keep_G2=keep_G2)


def test_rollouts_left_out_of_training_are_discarded():
    scheduler = KeepsSome(8, 4, 32)
    plan = scheduler.propose()
    scheduler.observe(Outcome.of(plan, [8, 1, 4, 0]))
    # used: 2 of 8 right; 1 right + 1 wrong; 2 + 1; 0 + 1 wrong = 2 + 2 + 3 + 1
    assert scheduler.ledger.trained == 8
    assert scheduler.ledger.discarded == 24
    assert scheduler.ledger.pending == 0


def test_tokens_are_booked_once():
    scheduler = small_scheduler("uniform")
    plan = scheduler.propose()
    part = Outcome(0, plan.group_B[:1], [1], [8], is_final=False, token_B=[100])
    scheduler.observe(part)
    scheduler.observe(part)
    scheduler.observe(Outcome.of(plan, [1, 1, 1, 1], token_B=[999, 10, 20, 30]))
    assert scheduler.ledger.tokens == 160  # the repeated group's tokens are not counted again


def test_speed_trains_on_the_oldest_finished_groups_first():
    scheduler = cures.make_scheduler("speed", num_prompts=200, batch_size=4, budget=32)
    host = ScriptedHost(np.full(200, 0.5))
    trained = []
    for _ in range(60):
        plan = scheduler.propose()
        outcome = host.rollout(plan) if len(plan) else Outcome.of(plan, [])
        selection = scheduler.observe(outcome)
        (host.update if selection.is_update else host.discard)(selection)
        trained += selection.group_G.tolist()
    assert len(trained) > 50
    assert trained == sorted(trained)


def test_missing_everything_is_an_update_without_rollouts_and_counted():
    scheduler = small_scheduler("uniform")
    plan = scheduler.propose()
    selection = scheduler.observe(Outcome.of(plan, [0] * 4, [0] * 4))
    assert selection.group_G.size == 4
    assert scheduler.counters["selected_without_rollouts"] == 4


@pytest.mark.parametrize("name", ["gvm", "cures-released"])
def test_quotas_are_not_frozen_before_the_pilots_are_back(name):
    scheduler = small_scheduler(name, num_prompts=16, num_subsets=1, steps_per_subset=30)
    host = ScriptedHost(np.full(16, 0.5))
    opened = []
    while (plan := scheduler.propose()).is_pilot_B.any():
        opened.append(plan)
    assert scheduler.counters["drawn_before_pilots"] == 1
    assert len(plan) > 1  # a uniform batch meanwhile
    scheduler.observe(host.outcome(plan))
    for pilots in opened:
        scheduler.observe(Outcome.of(pilots, pilots.quota_B // 2))
    seen: set[int] = set()
    for _ in range(29):
        plan = scheduler.propose()
        if plan.is_pilot_B.any():
            break
        seen |= set(plan.prompt_B.tolist())
        scheduler.observe(host.outcome(plan))
    assert seen == set(range(16))  # every prompt had mixed pilots, so every prompt is trained
    assert "fallback_uniform" not in scheduler.counters


def test_plans_cannot_be_edited_under_the_scheduler():
    plan = small_scheduler("uniform").propose()
    with pytest.raises(ValueError, match="read-only"):
        plan.quota_B[0] = 10**6


def test_moments_of_another_kind_are_refused_and_change_nothing():
    scheduler = small_scheduler("cures", use_moments=True)
    plan = scheduler.propose()
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match="moments_B must be Moments or None, got 'list'"):
        scheduler.observe(Outcome.of(plan, plan.quota_B, moments_B=[1.0] * len(plan)))
    assert same_state(before, scheduler.state_dict())


# Every way to damage a state that was found to slip through an earlier version of the checks.
DAMAGE = {
    "next_group_id": lambda v: 0,
    "next_plan_id": lambda v: 0,
    "live/prompt": lambda v: v + 10**6,
    "live/success": lambda v: v + 10**6,
    "live/draw": lambda v: v * 0,
    "live/group": lambda v: v[::-1],
    "open/quota_B": lambda v: v * 0,
    "open/prompt_B": lambda v: v + 1000,
    "open/group_B": lambda v: v[::-1],
    "open/trial_B": lambda v: v + 10**6,
    "ledger/train/trained": lambda v: 10**9,
    "ledger/train/generated": lambda v: v + 1,
    "rule/position": lambda v: -1,
    "stream/count": lambda v: 0.5,
    "pool/sizes": lambda v: np.append(v, 2**50),
    "live/is_pilot": lambda v: v + 7,
    "open/is_pilot_B": lambda v: v + 7,
    "open/is_reported_B": lambda v: v * 8,
    "open/is_streamed": lambda v: v + 7,
    "open/wants_moments": lambda v: v + 7,
    "config/seed": lambda v: np.zeros(3),
    "format": lambda v: 99,
}


@pytest.mark.parametrize("key", DAMAGE)
def test_damaged_states_are_refused(key):
    scheduler = small_scheduler("uniform")
    scheduler.observe(ScriptedHost(np.full(48, 0.5)).outcome(scheduler.propose()))
    plan = scheduler.propose()
    scheduler.observe(Outcome(1, plan.group_B[:2], [1, 1], [2, 2], is_final=False))
    state = scheduler.state_dict()
    target = small_scheduler("uniform")
    before = target.state_dict()
    target.load_state_dict(state)  # the undamaged one is fine
    target = small_scheduler("uniform")
    with pytest.raises(ValueError, match="must be"):
        target.load_state_dict({**state, key: DAMAGE[key](state[key])})
    assert same_state(before, target.state_dict())


@pytest.mark.parametrize(
    ("name", "key", "damage"),
    [
        ("cures", "rule/pilots_issued", lambda v: 10**6),
        ("cures", "rule/sq_norm_correct", lambda v: v * 0 - 5.0),
        ("gvm", "rule/chunk_prompt", lambda v: v + 10**6),
        ("oracle", "rule/rate_N", lambda v: v + 2.0),
        ("cures-released", "rule/prob_S", lambda v: v - 1.0),
    ],
)
def test_damaged_states_of_rules_are_refused(name, key, damage):
    scheduler, host = small_scheduler(name), ScriptedHost(np.full(48, 0.5))
    while scheduler.update_step < 2:
        scheduler.observe(host.outcome(scheduler.propose()))
    state = scheduler.state_dict()
    if key.endswith("sq_norm_correct"):
        # what a host that measures moments would have left: a subset has 24 prompts
        state |= {f"rule/{moment}": np.zeros(24) for moment in MOMENTS}
        small_scheduler(name).load_state_dict(state)  # undamaged it is fine
    with pytest.raises(ValueError, match="must be"):
        small_scheduler(name).load_state_dict({**state, key: damage(state[key])})


def test_two_open_plans_of_one_id_are_refused():
    scheduler = small_scheduler("uniform")
    scheduler.propose()
    scheduler.propose()
    state = scheduler.state_dict()
    small_scheduler("uniform").load_state_dict(state)  # undamaged it is fine
    with pytest.raises(ValueError, match=r"open/plan_id must be strictly increasing, got \[1, 1\]"):
        small_scheduler("uniform").load_state_dict({**state, "open/plan_id": np.array([1, 1])})


def test_what_is_interrupted_changes_nothing():
    class Interrupted(Uniform):
        def _extended(self, count):
            super()._extended(count)
            raise KeyboardInterrupt  # Ctrl-C in the middle of a slow one

    scheduler = Interrupted(8, 4, 16)
    scheduler.propose()
    before = scheduler.state_dict()
    with pytest.raises(KeyboardInterrupt):
        scheduler.extend(3)
    assert same_state(before, scheduler.state_dict())
    assert scheduler.num_prompts == 8


def test_the_largest_max_quota_is_none_at_all():
    def plans(max_quota):
        scheduler = cures.make_scheduler(
            "cures", num_prompts=3, batch_size=8, budget=64, num_subsets=1, max_quota=max_quota
        )
        host = ScriptedHost([0.2, 0.5, 0.9])
        for _ in range(5):
            plan = scheduler.propose()
            yield plan
            scheduler.observe(host.outcome(plan))

    bounded, free = list(plans(2**52)), list(plans(None))
    assert max(plan.draw_B.max() for plan in bounded) > 1  # k draws have k times the bound
    assert all(map(same_plan, bounded, free))


def test_pools_are_compared_by_identity_like_all_that_has_arrays():
    pool, same = (Pool((4,)).without(np.array([1]), "test") for _ in range(2))
    assert pool != same  # of arrays, == is no truth value
    assert pool.num_retired == pool.extended(3).num_retired == 1


def test_what_is_no_state_is_refused():
    with pytest.raises(ValueError, match="state must be a dict, got 'NoneType'"):
        small_scheduler("uniform").load_state_dict(None)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            {"name": "speed", "num_prompts": 1, "batch_size": 1, "budget": 2},
            "budget must be at least",
        ),
        ({"name": ["cures"]}, r"name must be one of .*got \['cures'\]"),
        ({"name": "nothing"}, "name must be one of"),
        ({"name": "uniform", "num_prompts": 10**30}, r"num_prompts must be an int in \[1, "),
        ({"name": "uniform", "budget": 2**60}, r"budget must be an int in \[4, "),
        ({"name": "uniform", "seed": 2**70}, r"seed must be an int in \[0, "),
        ({"name": "uniform", "seed": 1.5}, "seed must be an int"),
        ({"name": "uniform", "batch_size": True}, "batch_size must be an int"),
        ({"name": "cures", "temperature": 10**400}, "temperature must be a float"),
        ({"name": "gvm", "beta": 400.0}, r"beta must be a float in \[-10.0, 10.0\]"),
        (
            {"name": "cures", "max_quota": 2**60},
            rf"max_quota must be an int in \[4, {2**52}\], got {2**60}",
        ),
        ({"name": "staged"}, "keyword 'prior_success_rate_N' of 'staged' must be given"),
        ({"name": "dapo", "budget": 9}, "budget must be a multiple of batch_size = 2, got 9"),
        (
            {"name": "band", "low": 0.9, "high": 0.1},
            r"high must be a float in \[0.9, 1.0\], got 0.1",
        ),
    ],
)
def test_bad_calls_of_make_scheduler_are_named(call, sentence):
    arguments = {"num_prompts": 10, "batch_size": 2, "budget": 8, **call}
    with pytest.raises(ValueError, match=sentence):
        cures.make_scheduler(arguments.pop("name"), **arguments)


def test_defaults_fit_small_pools():
    for name in ("cures", "gvm", "speed", "dapo"):
        cures.make_scheduler(name, num_prompts=3, batch_size=2, budget=16).propose()
