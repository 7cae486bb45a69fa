"""What ``sim plan`` counts: against the real loop, and against closed forms of the methods' costs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import cures
from sim.planning.cost import Site
from sim.planning.frozen_host import FrozenHost
from sim.planning.hardware import ACCELERATORS
from sim.planning.measure import Protocol, measure
from sim.planning.models import MODELS
from sim.planning.plan import as_csv, make_plan, success_rates
from sim.planning.report import _with_error
from sim.planning.schedule import Cycle, Rates, run_of_rollouts, run_of_updates
from sim.planning.settings import PlanSettings
from sim.planning.tally import Tally
from sim.planning.workload import Workload
from tests.unit.test_costs import RATE_N, dapo_expectation, mean_mixed

SITE = Site(MODELS["Qwen2.5-Math-1.5B"], ACCELERATORS["H100-SXM"], 8, Workload(), 8)


def pool_of(size):
    return np.resize(RATE_N, size)


def measured(name, *, num_prompts=1200, batch_size=8, budget=48, updates=40, seed=0, **options):
    protocol = Protocol(num_prompts, batch_size, budget, updates, seed)
    return measure(name, options, protocol, pool_of)


def settings(**changes):
    small = {"arms": ("cures", "uniform"), "site": SITE, "num_prompts": 600, "measured_updates": 20}
    return PlanSettings(**{**small, **changes})


# -- the schedule of the paper -------------------------------------------------------------------


def test_the_schedule_of_the_paper():
    # section 6: T = 15, N' = 4, N = 8 x 1024, M = 10: pilots 4 x prompts, 150 steps of 8192
    plan = make_plan(
        settings(
            site=replace(SITE, batch_size=1024), num_prompts=150_000, arms=("cures", "uniform")
        )
    )
    row = plan["arms"]["cures"]["updates"]
    assert row["pilots"] == 4 * 150_000
    assert row["rollouts"] == 4 * 150_000 + 150 * 8192 == 1_828_800
    assert row["trained"] == 150 * 8192
    assert row["relative_error"] == 0.0
    assert plan["arms"]["uniform"]["updates"]["rollouts"] == 150 * 8192
    # as many rollouts as cures buy uniform 1 828 800 / 8192 updates
    assert plan["equal_rollouts"] == 1_828_800
    assert plan["arms"]["uniform"]["rollouts"]["updates"] == pytest.approx(223.2421875)


def test_a_billion_rollouts_on_ten_million_prompts():
    cycle = Cycle(10**7, 15, 10)
    rates = Rates(Tally(updates=1, generated=8192), Tally(generated=4), cycle)
    run = run_of_rollouts(rates, 10**9)
    # a cycle: 4e7 + 150 x 8192 = 41 228 800; 24 of them leave 10 508 800. The first ten subsets have
    # 666 667 prompts: three visits of 4 x 666 667 + 81 920 = 2 748 588 leave 2 263 036, all pilots
    assert run.total.generated == 10**9
    assert run.updates.updates == 24 * 150 + 30
    assert run.pilots.generated == 24 * 4 * 10**7 + 3 * 4 * 666_667 + 2_263_036


@pytest.mark.parametrize(("name", "batch"), [("cures", 4), ("gvm", 16)])
@pytest.mark.parametrize("pilots", [1, 4])
def test_runs_of_the_real_loop(name, batch, pilots):
    frame = {"num_subsets": 3, "steps_per_subset": 2, "pilots": pilots}
    size = {"num_prompts": 50, "batch_size": batch, "budget": 8 * batch}
    what = measured(name, **size, **frame)
    start = partial(cures.make_scheduler, name, seed=5, **size, **frame)
    scheduler = start()
    host = FrozenHost(pool_of(50), seed=5)
    for record in cures.loop.run(scheduler, host, rollouts=10**6):
        if record.step == 15:
            break
        if name == "cures" or record.step % 2 == 0:  # gvm keeps its account per subset
            run = run_of_updates(what.rates, record.step)
            assert run.total.generated == record.generated
            assert run.pilots.generated == scheduler.ledger.pilots
    for rollouts in (150, 333, 500, 777):
        scheduler = start()
        updates = sum(1 for _ in cures.loop.run(scheduler, FrozenHost(pool_of(50), seed=5),
                                                rollouts=rollouts))  # fmt: skip
        run = run_of_rollouts(what.rates, rollouts)
        assert run.total.generated == pytest.approx(rollouts, rel=1e-12)
        assert rollouts - 2 < scheduler.ledger.generated <= rollouts
        assert abs(run.pilots.generated - scheduler.ledger.pilots) <= 1
        if name == "cures":
            assert updates in (np.floor(run.updates.updates), np.ceil(run.updates.updates))


def test_an_update_that_generates_nothing_is_an_error():
    with pytest.raises(ValueError, match="rollouts per update must be positive"):
        run_of_rollouts(Rates(Tally(updates=1), Tally(generated=4), Cycle(10, 2, 3)), 100)


# -- what an update costs ------------------------------------------------------------------------


def close(what, expected):
    """Within four standard errors of what was measured."""
    return abs(what.rates.update.generated - expected) < 4 * what.error


def test_refill_methods_cost_what_their_closed_forms_say():
    dapo = measured("dapo", budget=32, updates=600, refill_size=24, max_plans_per_update=1000)
    assert close(dapo, dapo_expectation(8, 24, 4))
    assert not close(dapo, 8 * 4 / mean_mixed(4))  # negative control: refills of one prompt
    speed = measured("speed", batch_size=6, updates=1500)
    assert close(speed, 6 * (4 / mean_mixed(4) + 4))  # n = 8, screening with 4
    assert not close(speed, 6 * 8)  # negative control: rejected screenings for free


def test_exact_methods_have_no_error():
    for name, options in (("uniform", {}), ("oracle", {}), ("staged", {}),
                          ("gvm", {"num_subsets": 2, "steps_per_subset": 5}),
                          ("cures", {"num_subsets": 2})):  # fmt: skip
        what = measured(name, **options)
        assert (what.rates.update.generated, what.error) == (48.0, 0.0), name
        assert what.rates.update.trained == 48.0


def test_mixed_rollouts_of_uniform():
    updates, batch, n = 400, 8, 6
    what = measured("uniform", updates=updates)
    share = what.rates.update.mixed / 48
    # passes without replacement have less variance than independent groups, so this bound is generous
    expected = mean_mixed(n)
    sd = np.sqrt(expected * (1 - expected) / (updates * batch))
    assert abs(share - expected) < 4 * sd
    assert abs(share - mean_mixed(3)) > 4 * sd  # negative control: another group size


def test_pilots_per_prompt_and_their_norms():
    what = measured("cures", num_subsets=3, pilots=5, use_moments=True)
    assert what.prompts == 400
    assert what.rates.pilot.generated == what.rates.pilot.measured == 5.0
    assert what.rates.pilot.rounds * 400 == pytest.approx(1.0)  # all pilots of a subset: one round
    assert what.rates.update.measured == 0.0
    assert measured("cures", num_subsets=3).rates.pilot.measured == 0.0


def test_a_subset_is_run_at_its_true_size():
    # released code: copies are round(budget sigma / sum sigma) over the subset: none in a large one
    small = measured("cures-released", num_subsets=3, num_prompts=120)
    large = measured("cures-released", num_subsets=3, num_prompts=9000)
    assert small.rates.update.generated > large.rates.update.generated
    assert large.counters["fallback_uniform"] == 40


def test_illegal_options_of_arms():
    with pytest.raises(ValueError, match="train_pilots must be False"):
        measured("cures", num_subsets=3, train_pilots=True)
    with pytest.raises(ValueError, match="subset_N must be left out"):
        measured("cures", num_subsets=3, subset_N=[0])
    with pytest.raises(ValueError, match="num_subsets"):
        measured("cures", num_subsets=0)


# -- the host ------------------------------------------------------------------------------------


def test_frozen_host_counts_mixed_groups_as_trained():
    host = FrozenHost(np.array([0.0, 1.0, 0.5, 0.5]), seed=3)
    plan = cures.Plan(
        plan_id=0, group_B=np.arange(4), prompt_B=np.arange(4), quota_B=np.array([5, 5, 40, 40]),
        is_pilot_B=np.zeros(4, bool), draw_B=np.ones(4, np.int64), prob_B=np.ones(4),
    )  # fmt: skip
    outcome = host.rollout(plan)
    assert outcome.success_B[:2].tolist() == [0, 5]
    weight = np.full(4, 0.25)
    host.update(cures.Selection(np.arange(4), weight))
    assert host.mixed == 80  # both groups of 40 are mixed but for a chance of 2^-38
    host.update(cures.Selection(np.arange(4), weight, keep_G2=np.array([[9, 9]] * 3 + [[0, 9]])))
    assert host.mixed == 80 + 18


# -- settings and files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"arms": ()}, {"arms": ("cures", "cures")}, {"arms": ("magic",)}, {"num_prompts": 0},
     {"num_subsets": 601}, {"group_size": 1}, {"updates": 10**12}, {"rollouts": 3},
     {"options": {"gvm": {}}}, {"options": {"cures": {"budget": 3}}}, {"measured_updates": 1}],
)  # fmt: skip
def test_illegal_settings(changes):
    with pytest.raises(ValueError, match="must be"):
        settings(**changes)


def test_an_arm_may_have_a_frame_of_its_own():
    two = settings(arms=("cures", "cures@few", "uniform"), options={"cures@few": {"pilots": 2}})
    assert two.options_of("cures@few") == {"num_subsets": 15, "pilots": 2, "steps_per_subset": 10}
    assert two.options_of("uniform") == {}
    plan = make_plan(two)
    pilots = [plan["arms"][arm]["updates"]["pilots"] for arm in two.arms]
    assert pilots == [4 * 600, 2 * 600, 0]


def test_success_rates_repeat_beyond_the_sample(monkeypatch):
    monkeypatch.setattr("sim.planning.plan.SAMPLE", 100)
    rate = success_rates("dead", 250, 0)
    assert np.array_equal(rate[:100], rate[100:200])
    assert np.isclose((rate == 0).mean(), 0.6, atol=0.02)  # LAWS["dead"]: 60 % never
    with pytest.raises(ValueError, match="population must be one of"):
        success_rates("flat", 10, 0)


def test_errors_are_relative_to_what_is_shown():
    # R = U g and, with pilots, R = U g + pilots: an error e of g moves R by U e of R
    plan = make_plan(settings(arms=("speed", "gvm"), measured_updates=30))
    for arm in ("speed", "gvm"):
        entry = plan["arms"][arm]
        error, row = entry["measured"]["standard_error_of_rollouts"], entry["updates"]
        assert row["relative_error"] == pytest.approx(150 * error / row["rollouts"])
    assert plan["arms"]["speed"]["updates"]["relative_error"] > 0.0
    row = plan["arms"]["speed"]["updates"]
    assert row["verify_cpu_hours"] == pytest.approx(
        row["rollouts"] * 0.02 / 3600
    )  # Workload's 0.02 s
    assert _with_error(2e6, 0.01) == "2.000M ±2.0%"  # 1.96 standard errors
    assert _with_error(2e6, 0.0) == "2.000M"
    assert _with_error(2e6, None) == "2.000M ±?"


def test_csv_says_what_json_says():
    plan = make_plan(settings())
    rows = list(csv.DictReader(io.StringIO(as_csv(plan))))
    assert len(rows) == 2 * 2 * 3  # bases, arms, levels
    for row in rows:
        entry = plan["arms"][row["arm"]][row["equal"]]
        assert float(row["rollouts"]) == entry["rollouts"]
        assert float(row["device_hours"]) == entry["device_hours"][row["level"]]
        terms = sum(float(row[key]) for key in row if key.startswith("hours_"))
        assert terms == pytest.approx(float(row["device_hours"]))
