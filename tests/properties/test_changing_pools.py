"""Pools that grow and shrink, one suite for every scheduler."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.records import Outcome
from cures.schedulers.driver.randomness import ShuffledPasses
from tests.scripted import ScriptedHost, same_plan, same_state, small_scheduler

NAMES = cures.list_schedulers()
SETTINGS = {"vip": {"features_N_D": None}}  # rows for new prompts are what nobody has
NO_EXTENSION = ("staged",)  # its settings say something about every prompt


GROWING = [name for name in NAMES if name not in NO_EXTENSION]


def make(name: str, **settings):
    """As in the other suites; the host of `oracle` knows the rates of every prompt there will be."""
    if name == "oracle":
        scheduler = small_scheduler(
            name, true_success_rate=lambda: RATE[: scheduler.num_prompts], **settings
        )
        return scheduler
    return small_scheduler(name, **(SETTINGS.get(name, {}) | settings))


RATE = np.concatenate([np.zeros(12), np.linspace(0.05, 0.95, 24), np.ones(12), np.full(40, 0.5)])


def step(scheduler, host):
    plan = scheduler.propose()
    outcome = host.rollout(plan) if len(plan) else Outcome.of(plan, [])
    selection = scheduler.observe(outcome)
    (host.update if selection.is_update else host.discard)(selection)
    return plan


def books_agree(scheduler, host):
    ledger = scheduler.ledger
    assert ledger.generated == host.generated
    assert ledger.trained == host.trained
    assert ledger.discarded == host.discarded
    assert ledger.pending == sum(row["trial"] for row in host.groups.values())


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("turns", [0, 1, 7, 30])
def test_new_prompts_are_planned_and_the_old_ones_too(name, turns):
    scheduler, host = make(name), ScriptedHost(RATE)
    for _ in range(turns):
        step(scheduler, host)
    new = scheduler.extend(8)
    assert new.tolist() == list(range(48, 56))
    assert scheduler.num_prompts == scheduler.num_active == 56
    seen = set()
    for _ in range(400):
        seen |= set(step(scheduler, host).prompt_B.tolist())
    assert seen <= set(range(56))
    assert set(new.tolist()) <= seen
    assert len(seen & set(range(48))) > 12
    books_agree(scheduler, host)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("turns", [0, 1, 7, 30])
def test_retired_prompts_are_never_planned_again(name, turns):
    scheduler, host = make(name), ScriptedHost(RATE)
    for _ in range(turns):
        step(scheduler, host)
    gone = np.arange(0, 48, 3)
    scheduler.retire(gone)
    assert scheduler.num_active == 32
    seen, updates = set(), host.updates
    for _ in range(300):
        seen |= set(step(scheduler, host).prompt_B.tolist())
    assert not seen & set(gone.tolist())
    assert len(seen) > 8
    assert host.updates > updates + 5
    books_agree(scheduler, host)


@pytest.mark.parametrize("name", NAMES)
def test_outcomes_under_way_stay_welcome(name):
    scheduler, host = make(name), ScriptedHost(RATE)
    for _ in range(3):
        step(scheduler, host)
    plan = scheduler.propose()
    scheduler.retire(np.unique(plan.prompt_B)[:3])
    selection = scheduler.observe(host.rollout(plan))
    (host.update if selection.is_update else host.discard)(selection)
    books_agree(scheduler, host)
    for _ in range(60):
        step(scheduler, host)
    books_agree(scheduler, host)
    assert scheduler.live.prompt.size <= 64


@pytest.mark.parametrize("name", NAMES)
def test_streams_go_on(name):
    scheduler, host = make(name), ScriptedHost(RATE)
    gone = np.arange(1, 48, 4)
    for turn in range(600):
        if turn == 50:
            scheduler.retire(gone)
        plan = scheduler.next()
        assert turn < 50 or not np.isin(plan.prompt_B, gone).any()
        outcome = host.rollout(plan) if len(plan) else Outcome.of(plan, [])
        selection = scheduler.observe(outcome)
        (host.update if selection.is_update else host.discard)(selection)
    assert host.updates > 5
    books_agree(scheduler, host)


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("turns", [2, 9, 25])
def test_resume_of_a_changed_pool_is_bit_for_bit(name, turns, tmp_path):
    scheduler, host = make(name), ScriptedHost(RATE)
    for change in (
        lambda: scheduler.extend(5),
        lambda: scheduler.retire([1, 50, 7]),
        lambda: scheduler.extend(3),
        lambda: None,
    ):
        for _ in range(turns):
            step(scheduler, host)
        change()
    open_plan = scheduler.propose()
    cures.save_state(tmp_path / "state.npz", scheduler.state_dict())
    state = cures.load_state(tmp_path / "state.npz")
    on_the_way = make(name)
    on_the_way.extend(5)
    for resumed in (make(name), on_the_way):
        resumed.load_state_dict(state)
        assert same_state(resumed.state_dict(), state)
    assert resumed.num_prompts == 56
    assert resumed.num_active == 53
    assert same_plan(resumed.propose(), open_plan)
    for _ in range(40):
        outcome = host.outcome(open_plan) if len(open_plan) else Outcome.of(open_plan, [])
        left, right = scheduler.observe(outcome), resumed.observe(outcome)
        assert left.group_G.tolist() == right.group_G.tolist()
        assert left.discard_G.tolist() == right.discard_G.tolist()
        open_plan = scheduler.propose()
        assert same_plan(open_plan, resumed.propose())
    assert same_state(scheduler.state_dict(), resumed.state_dict())
    too_far = make(name)
    too_far.extend(6)
    with pytest.raises(ValueError, match="sizes must be growing sizes that begin with"):
        too_far.load_state_dict(state)
    assert too_far.num_prompts == 54


@pytest.mark.parametrize("name", NAMES)
def test_bad_changes_are_refused_and_change_nothing(name):
    scheduler, host = make(name), ScriptedHost(RATE)
    for _ in range(4):
        step(scheduler, host)
    scheduler.retire([5])
    before = scheduler.state_dict()
    for bad, sentence in (
        ([48], r"prompt must be in \[0, 47\], got 48 at index 0"),
        ([7, 2, 9, 2, 7], "prompt must be distinct prompts of the pool, none retired, got 2"),
        ([3, 5], "prompt must be distinct prompts of the pool, none retired, got 5"),
        ([0.5], "prompt must be a one-dimensional integer array"),
    ):
        with pytest.raises(ValueError, match=sentence):
            scheduler.retire(bad)
        assert same_state(before, scheduler.state_dict())
    with pytest.raises(ValueError, match=r"retire: prompt must be such that"):
        scheduler.retire(np.setdiff1d(np.arange(48), [5]))
    assert same_state(before, scheduler.state_dict())
    scheduler.retire([])  # nobody
    assert same_state(before, scheduler.state_dict())
    with pytest.raises(ValueError, match="count must be an int"):
        scheduler.extend(0)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("staged", {}, "count must be 0: nobody said how easy new prompts are"),
        (
            "vip",
            {"features_N_D": np.ones((48, 2))},
            "features_N_D must be None in a pool that grows",
        ),
        ("cures", {"subset_N": np.arange(48) % 2}, "subset_N must be None in a pool that grows"),
        ("cures", {"prior": (np.ones(48), 1.0)}, "prior must be a pair of floats"),
        ("mopps", {"prior": (np.ones(48), 1.0)}, "prior must be a pair of floats"),
        ("oracle", {"learnable": np.ones(48, bool)}, "learnable must be None in a pool that grows"),
    ],
)
def test_what_was_said_about_every_prompt_stands_in_the_way_of_new_ones(name, settings, sentence):
    scheduler = small_scheduler(name, **settings)
    scheduler.propose()
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match=sentence):
        scheduler.extend(2)
    assert same_state(before, scheduler.state_dict())
    assert scheduler.num_prompts == 48


@pytest.mark.parametrize("draws", ["dense", "tree"])
def test_cures_keeps_equation_14_among_those_who_are_left(draws):
    scheduler = small_scheduler("cures", num_subsets=1, pilots=2, steps_per_subset=500, draws=draws)
    host = ScriptedHost(RATE)
    while not (plan := step(scheduler, host)).prompt_B.size or plan.is_pilot_B.any():
        pass
    scheduler.extend(4)
    scheduler.retire(np.arange(20, 30))
    while (plan := step(scheduler, host)).is_pilot_B.any():
        assert plan.prompt_B.tolist() == [48, 49, 50, 51]  # pilots of the new ones alone
    stay = np.setdiff1d(np.arange(52), np.arange(20, 30))
    rate = scheduler.posterior.mean(stay)
    expected = cures.sampling_distribution(cures.potential(rate), scheduler.temperature)
    found = scheduler.sampling_distribution()
    assert np.allclose(found[stay], expected, rtol=1e-12)
    assert found[20:30].sum() == 0.0
    plan = scheduler.propose()
    assert np.allclose(plan.prob_B, found[plan.prompt_B], rtol=1e-12)


def test_a_pass_that_changed_holds_everyone_who_is_left_once():
    passes = ShuffledPasses(np.arange(20), seed=3)
    first = passes.peek(8)
    passes.advance(8, 8)
    members = np.setdiff1d(np.arange(26), [0, 1, 2, 3])
    passes = passes.over(members)
    rest = []
    while passes.number == 0:
        rest += passes.peek(1).tolist()
        passes.advance(1, 1)
    # by hand: those who had not come, less who left, and who joined
    assert sorted(rest) == np.setdiff1d(members, first).tolist()
    again = passes.peek(22)
    assert sorted(again.tolist()) == members.tolist()  # the next pass is one over the new set


def test_staged_retires_within_its_stages():
    scheduler, host = make("staged"), ScriptedHost(RATE)
    step(scheduler, host)
    scheduler.retire(np.arange(0, 16, 2))  # rates fall with the id: half of the first stage of 16
    seen = set()
    while scheduler.stage == 0:
        seen |= set(step(scheduler, host).prompt_B.tolist())
    assert seen == set(range(1, 16, 2))
    with pytest.raises(ValueError, match="every stage keeps batch_size = 4 prompts, got 3 left in"):
        scheduler.retire([1, 3, 5, 7, 9])


DAMAGE = {
    "pool/sizes": lambda v: v[::-1].copy(),
    "pool/retired": lambda v: np.append(v, v[-1]),
    "rule/pass_order": lambda v: np.append(v[1:], v[1]),
    "rule/position": lambda v: v + 48,
    "rule/pass_start": lambda v: v + 48,
}


@pytest.mark.parametrize("key", DAMAGE)
def test_damaged_states_of_a_changed_pool_are_refused(key):
    scheduler, host = make("uniform"), ScriptedHost(RATE)
    step(scheduler, host)
    scheduler.extend(4)
    scheduler.retire([3, 9])
    step(scheduler, host)
    state = scheduler.state_dict()
    fresh = make("uniform")
    before = fresh.state_dict()
    with pytest.raises(ValueError, match=f"{key.rpartition('/')[2]} must be|sizes must be"):
        fresh.load_state_dict({**state, key: DAMAGE[key](state[key])})
    assert same_state(before, fresh.state_dict())
    assert fresh.num_prompts == 48
    fresh.load_state_dict(state)  # undamaged it is fine
    assert fresh.num_active == 50


def test_a_changed_order_is_forgotten_when_its_pass_is_over():
    scheduler, host = make("uniform"), ScriptedHost(RATE)
    step(scheduler, host)
    scheduler.extend(4)
    step(scheduler, host)
    assert scheduler.state_dict()["rule/pass_order"].size == 48  # 52 less the first batch of 4
    for _ in range(12):  # batches of 4
        step(scheduler, host)
    assert scheduler.state_dict()["rule/pass_order"].size == 0


@pytest.mark.parametrize("draws", ["dense", "tree"])
def test_new_prompts_are_dealt_evenly_over_subsets(draws):
    scheduler = small_scheduler("cures", num_subsets=5, draws=draws)
    scheduler.extend(13)
    sizes = sorted(part.size for part in scheduler._subsets)
    assert sum(sizes) == 61
    assert sizes[-1] - sizes[0] <= 2  # 48 in 5 parts and 13 in 5 parts, each to within one
    everyone = np.sort(np.concatenate(scheduler._subsets))
    assert everyone.tolist() == list(range(61))
