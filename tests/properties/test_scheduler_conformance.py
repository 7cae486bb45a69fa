"""One suite that every scheduler passes, ours and the baselines alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque

import numpy as np
import pytest

import cures
from cures.records import Outcome
from tests.scripted import ScriptedHost, same_plan, same_state, small_scheduler

NAMES = cures.list_schedulers()
EXACT = [n for n in NAMES if cures.schedulers.SCHEDULERS[n].has_exact_budget]
SINGLE = [n for n in NAMES if cures.schedulers.SCHEDULERS[n].is_single_plan]


def spread_rates(num_prompts: int = 48) -> np.ndarray:
    """A quarter never right, a quarter always right, the rest between."""
    middle = np.linspace(0.05, 0.95, num_prompts - 2 * (num_prompts // 4))
    return np.concatenate([np.zeros(num_prompts // 4), middle, np.ones(num_prompts // 4)])


def drive(scheduler, host, rollouts):
    return list(cures.loop.run(scheduler, host, rollouts=rollouts))


def step(scheduler, host):
    """One turn of the loop, without a limit."""
    plan = scheduler.propose()
    outcome = host.rollout(plan) if len(plan) else Outcome.of(plan, [])
    selection = scheduler.observe(outcome)
    (host.update if selection.is_update else host.discard)(selection)
    return plan, selection


def test_exact_budget_is_what_the_design_says():
    assert EXACT == ["cures", "uniform", "staged", "mopps", "knapsack", "vip", "adaptive", "oracle"]


def test_pilots_apart_every_plan_is_an_update_of_these():
    kinds = cures.schedulers.SCHEDULERS.items()
    assert [name for name, kind in kinds if kind.is_piloted] == ["cures", "gvm"]


@pytest.mark.parametrize("name", EXACT)
def test_every_training_plan_sums_to_the_budget(name):
    scheduler, host = small_scheduler(name), ScriptedHost(spread_rates())
    seen = 0
    for _ in range(80):
        plan, _ = step(scheduler, host)
        if not plan.is_pilot_B.any():
            assert plan.num_rollouts == scheduler.budget
            seen += 1
    assert seen > 20


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bounds", [{}, {"min_quota": 3, "max_quota": 11}])
def test_bounds_are_kept(name, bounds):
    if name == "cures-released" and bounds:
        bounds = {"min_quota": 3}  # the released code has no upper bound, and refuses one
    scheduler, host = small_scheduler(name, **bounds), ScriptedHost(spread_rates())
    for _ in range(60):
        plan, _ = step(scheduler, host)
        train = ~plan.is_pilot_B
        assert (plan.quota_B[train] >= scheduler.min_quota).all()
        if scheduler.max_quota is not None:
            assert (plan.quota_B[train] <= scheduler.max_quota * plan.draw_B[train]).all()


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_plan_scheduler_updates_on_every_plan(name):
    scheduler, host = small_scheduler(name), ScriptedHost(spread_rates(), missing_rate=0.2)
    for _ in range(20):
        plan, selection = step(scheduler, host)
        assert np.array_equal(selection.group_G, plan.group_B)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("missing_rate", [0.0, 0.3])
def test_ledger_equals_the_hosts_own_books(name, missing_rate):
    scheduler = small_scheduler(name)
    host = ScriptedHost(spread_rates(), missing_rate=missing_rate)
    records = drive(scheduler, host, 6000)
    ledger = scheduler.ledger
    assert ledger.generated == host.generated
    assert ledger.missing == host.missing
    assert ledger.trained == host.trained
    assert ledger.discarded == host.discarded
    assert ledger.pilots == host.pilots
    assert ledger.pending == sum(row["trial"] for row in host.groups.values())
    assert ledger.steps == host.updates == len(records) == scheduler.update_step > 10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rollouts", [1, 31, 33, 500, 501, 997])
def test_the_loop_spends_what_it_was_given(name, rollouts):
    scheduler = small_scheduler(name)
    drive(scheduler, ScriptedHost(spread_rates()), rollouts)
    assert rollouts - scheduler.min_quota < scheduler.ledger.generated <= rollouts


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_cuts_whole_groups_first_and_leaves_no_group_of_one(name):
    free, cut = small_scheduler(name), small_scheduler(name)
    host = ScriptedHost(spread_rates())
    for turn in range(60):
        limit = 2 + turn % 23
        plan, short = free.propose(), cut.propose(limit=limit)
        assert short.num_rollouts <= limit
        if len(plan):
            assert short.num_rollouts > min(limit, plan.num_rollouts) - cut.min_quota
        whole = len(short) - 1
        assert np.array_equal(short.quota_B[:whole], plan.quota_B[:whole])
        assert (short.quota_B >= 2).all()
        free.observe(host.outcome(plan))
        cut.load_state_dict(free.state_dict())  # both go on from the uncut history


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_hopeless_pools_neither_stall_nor_crash(name, rate):
    scheduler, host = small_scheduler(name), ScriptedHost(np.full(48, rate))
    drive(scheduler, host, 5000)
    assert scheduler.ledger.generated > 5000 - scheduler.min_quota


@pytest.mark.parametrize("name", NAMES)
def test_a_host_that_loses_everything_does_not_stall(name):
    scheduler, host = small_scheduler(name), ScriptedHost(spread_rates(), missing_rate=1.0)
    drive(scheduler, host, 3000)
    assert scheduler.ledger.missing == scheduler.ledger.generated > 2990


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut_at", [1, 7, 23])
def test_resume_is_bit_for_bit(name, cut_at, tmp_path):
    scheduler, host = small_scheduler(name), ScriptedHost(spread_rates())
    for _ in range(cut_at):
        step(scheduler, host)
    opened = [scheduler.propose() for _ in range(2)]  # saved with plans under way
    if len(opened[0]) > 1:  # ... one of them reported in part
        first = opened[0]
        whole = host.outcome(first)
        part = Outcome(
            first.plan_id, first.group_B[:1], whole.success_B[:1], whole.trial_B[:1], is_final=False
        )
        scheduler.observe(part)
    cures.save_state(tmp_path / "state.npz", scheduler.state_dict())
    state = cures.load_state(tmp_path / "state.npz")
    assert same_state(scheduler.state_dict(), state)
    resumed = small_scheduler(name)
    resumed.load_state_dict(state)
    assert same_state(resumed.state_dict(), state)

    again = [resumed.propose() for _ in range(2)]
    assert [p.plan_id for p in again] == [p.plan_id for p in opened]
    assert np.array_equal(again[1].group_B, opened[1].group_B)
    assert again[0].group_B.tolist() == opened[0].group_B[min(1, len(opened[0]) - 1) :].tolist()
    for plan in opened:  # the same outcomes on both sides
        outcome = host.outcome(plan) if len(plan) else Outcome.of(plan, [])
        assert np.array_equal(scheduler.observe(outcome).group_G, resumed.observe(outcome).group_G)
    for _ in range(25):
        a, b = scheduler.propose(), resumed.propose()
        assert same_plan(a, b)
        outcome = host.outcome(a) if len(a) else Outcome.of(a, [])
        left, right = scheduler.observe(outcome), resumed.observe(outcome)
        assert left.group_G.tolist() == right.group_G.tolist()
        assert left.weight_G.tobytes() == right.weight_G.tobytes()
        assert left.discard_G.tolist() == right.discard_G.tolist()
    assert same_state(scheduler.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_open_plans_left_to_the_host_are_not_issued_again(name):
    scheduler = small_scheduler(name)
    opened = scheduler.propose()
    resumed = small_scheduler(name)
    resumed.load_state_dict(scheduler.state_dict(), reissue=False)
    assert resumed.propose().plan_id == 1
    assert resumed.open_rollouts > opened.num_rollouts - 1
    resumed.observe(ScriptedHost(spread_rates()).outcome(opened))
    assert resumed.ledger.generated == opened.num_rollouts


@pytest.mark.parametrize("name", NAMES)
def test_any_order_of_observation_and_parts(name):
    scheduler, host = small_scheduler(name), ScriptedHost(spread_rates())
    waiting: deque = deque()
    order = np.random.default_rng(5)
    for _ in range(150):
        plan = scheduler.propose()
        if len(plan):
            host.rollout(plan)
        waiting.append(plan)
        if len(waiting) < 4:
            continue
        waiting.rotate(int(order.integers(4)))
        late = waiting.popleft()
        whole = host.outcome(late)
        mixed = order.permutation(len(late))
        for part in np.array_split(mixed, 3):
            selection = scheduler.observe(
                Outcome(
                    late.plan_id,
                    late.group_B[part],
                    whole.success_B[part],
                    whole.trial_B[part],
                    is_final=False,
                )
            )
            (host.update if selection.is_update else host.discard)(selection)
    assert host.updates > 5
    assert scheduler.ledger.trained == host.trained
    assert scheduler.ledger.discarded == host.discarded


@pytest.mark.parametrize("name", NAMES)
def test_repeats_and_strangers_change_nothing_and_are_counted(name):
    scheduler, host = small_scheduler(name), ScriptedHost(spread_rates())
    plan = scheduler.propose()
    whole = host.outcome(plan)
    part = Outcome(
        plan.plan_id, plan.group_B[:1], whole.success_B[:1], whole.trial_B[:1], is_final=False
    )
    scheduler.observe(part)
    before = scheduler.state_dict()
    scheduler.observe(part)
    scheduler.observe(Outcome(99, [0], [0], [1]))
    after = scheduler.state_dict()
    assert scheduler.counters["repeated_group"] == 1
    assert scheduler.counters["outcome_of_unknown_plan"] == 1
    scheduler.observe(whole)
    scheduler.observe(whole)
    assert scheduler.counters["outcome_of_closed_plan"] == 1
    for key in ("counter/repeated_group", "counter/outcome_of_unknown_plan"):
        after.pop(key)
    assert same_state(before, after)


@pytest.mark.parametrize("name", NAMES)
def test_bad_outcomes_are_refused_and_change_nothing(name):
    scheduler = small_scheduler(name)
    plan = scheduler.propose()
    before = scheduler.state_dict()
    stranger = Outcome(plan.plan_id, [10_000], [0], [1])
    too_many = Outcome(plan.plan_id, plan.group_B[:1], [0], [plan.quota_B[0] + 1])
    for bad, sentence in (
        (stranger, "group_B must be a group of plan 0, got 10000"),
        (too_many, "trial_B must be at most the quota"),
    ):
        with pytest.raises(ValueError, match=sentence):
            scheduler.observe(bad)
        assert same_state(before, scheduler.state_dict())
    with pytest.raises(ValueError, match="outcome must be an Outcome, got 'dict'"):
        scheduler.observe({"success": 1})
    with pytest.raises(ValueError, match=r"limit must be an int in \[2, inf\), got 1"):
        scheduler.propose(limit=1)
    assert same_state(before, scheduler.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_states_of_others_are_refused_by_name(name):
    scheduler = small_scheduler(name)
    scheduler.propose()
    before = scheduler.state_dict()
    other_pool = small_scheduler(name, num_prompts=60).state_dict()
    with pytest.raises(ValueError, match="num_prompts must be 48 as in this scheduler, got 60"):
        scheduler.load_state_dict(other_pool)
    with pytest.raises(ValueError, match="seed must be 0 as in this scheduler, got 3"):
        scheduler.load_state_dict(small_scheduler(name, seed=3).state_dict())
    other = "uniform" if name != "uniform" else "dapo"
    with pytest.raises(ValueError, match="must be"):
        scheduler.load_state_dict(small_scheduler(other).state_dict())
    for key in before:
        damaged = {k: v for k, v in before.items() if k != key}
        with pytest.raises(ValueError, match=key.split("/")[-1]):
            scheduler.load_state_dict(damaged)
        assert same_state(before, scheduler.state_dict())
    for key in ("later", "rule/later", "ledger/later", "open/later"):  # of a later version
        with pytest.raises(ValueError, match=f"without further entries, got.*{key}"):
            scheduler.load_state_dict({**before, key: 1})
        assert same_state(before, scheduler.state_dict())
    scheduler.load_state_dict(before)
    assert same_state(before, scheduler.state_dict())


@pytest.mark.parametrize("turns", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_plans_with_bounded_memory(name, turns):
    scheduler, host = small_scheduler(name), ScriptedHost(spread_rates())
    sizes = []
    for turn in range(turns):
        plan = scheduler.propose()
        outcome = host.outcome(plan) if len(plan) else Outcome.of(plan, [])
        scheduler.observe(outcome)
        assert len(scheduler.live) <= 64
        if turn in (turns // 5, turns - 1):
            state = scheduler.state_dict()
            sizes.append(
                sum(np.asarray(v).nbytes for k, v in state.items() if not k.startswith("config"))
            )
    assert sizes[1] <= sizes[0] + 5000


def mean_variance_trained(name: str, rate_N: np.ndarray, seeds: range) -> np.ndarray:
    """Mean p (1 - p) over the training rollouts of 40 plans, one value per seed."""
    values = []
    for seed in seeds:
        scheduler = small_scheduler(name, seed=seed)
        host = ScriptedHost(rate_N, seed=seed)
        value = total = 0.0
        for _ in range(40):
            plan, _ = step(scheduler, host)
            quota_B = np.where(plan.is_pilot_B, 0, plan.quota_B)
            rate_B = rate_N[plan.prompt_B]
            value += float((quota_B * rate_B * (1.0 - rate_B)).sum())
            total += float(quota_B.sum())
        values.append(value / total)
    return np.array(values)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("staged", "vip", "oracle")])
def test_prompt_ids_carry_no_meaning(name):
    # `staged`, `vip` and `oracle` are left out: the caller tells them about each prompt (their own
    # tests permute that)
    rate_N = spread_rates()
    order = np.random.default_rng(0).permutation(rate_N.size)
    a = mean_variance_trained(name, rate_N, range(24))
    b = mean_variance_trained(name, rate_N[order], range(100, 124))
    # two independent samples of the same law: difference of means within 4 standard errors
    error = np.sqrt(a.var(ddof=1) / a.size + b.var(ddof=1) / b.size)
    assert abs(a.mean() - b.mean()) <= 4 * error
    # negative control: another pool (the middle moved to p = 1/2) must be told apart
    moved_N = np.where((rate_N > 0) & (rate_N < 1), 0.5, rate_N)
    c = mean_variance_trained(name, moved_N, range(100, 124))
    error = np.sqrt(a.var(ddof=1) / a.size + c.var(ddof=1) / c.size)
    assert abs(a.mean() - c.mean()) > 4 * error


@pytest.mark.parametrize("name", NAMES)
def test_streaming_plans_one_group_and_updates_in_batches(name):
    scheduler, host = small_scheduler(name), ScriptedHost(spread_rates())
    quotas: list[int] = []
    for _ in range(3000):
        plan = scheduler.next()
        assert len(plan) in (0, 1)
        outcome = host.rollout(plan) if len(plan) else Outcome.of(plan, [])
        selection = scheduler.observe(outcome)
        if selection.is_update:
            assert selection.group_G.size <= scheduler.batch_size
            host.update(selection)
        else:
            host.discard(selection)
        quotas += plan.quota_B[~plan.is_pilot_B].tolist()
    assert host.updates > 20
    assert scheduler.ledger.generated == host.generated
    if name in EXACT:
        # rule 9: the long-run mean is budget / batch_size = 8; the carry is bounded by the range of
        # quotas (< 64 rollouts), the running mean of sigma converges like 1 / count
        assert abs(np.mean(quotas) - 8.0) < 0.25


@pytest.mark.parametrize("name", NAMES)
def test_plans_do_not_depend_on_the_hash_seed_or_the_process(name):
    code = (
        "from tests.scripted import *; from tests.properties.test_scheduler_conformance import *\n"
        f"s, h = small_scheduler({name!r}), ScriptedHost(spread_rates())\n"
        "print([(p.prompt_B.tolist(), p.quota_B.tolist()) for p in (step(s, h)[0] for _ in range(12))])"
    )
    outputs = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
