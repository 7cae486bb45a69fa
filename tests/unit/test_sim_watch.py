"""What a watch books, worked by hand; that it looks before the posterior learns; what is made of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

import cures
from cures import loop
from cures.records import Plan
from cures.storage import save_state
from sim.diagnosis import courses, diagnose, load_columns
from sim.host import SimHost
from sim.populations import make_population
from sim.task import ArmTask
from sim.watch import COLUMNS, SCORES, Watch

POOL = 40


def arm(name="cures", *, seed=3, grid=(0.0, 200.0, 400.0, 600.0), **options):
    population = make_population("coins", num_pool=POOL, num_held_out=5, seed=1)
    host = SimHost(population, seed=2, learning_rate=0.05)
    scheduler = cures.make_scheduler(
        name, num_prompts=POOL, batch_size=4, budget=16, seed=seed, **options
    )
    return scheduler, host, Watch(scheduler, host, np.array(grid))


def run(scheduler, watch, rollouts=600):
    watch.mark(0)
    for record in loop.run(scheduler, watch, rollouts=rollouts):
        watch.mark(record.generated)
        yield record


def plan_of(plan_id, prompt, quota, draw, is_pilot):
    size = len(prompt)
    return Plan(
        plan_id=plan_id,
        group_B=np.arange(size) + 10 * plan_id,
        prompt_B=np.array(prompt),
        quota_B=np.array(quota),
        is_pilot_B=np.full(size, is_pilot),
        draw_B=np.array(draw),
        prob_B=np.full(size, np.nan),
    )


def test_visits_and_reach_by_hand():
    _, _, watch = arm("uniform")
    watch.rollout(plan_of(0, [0, 1, 2], [2, 2, 2], [1, 1, 1], is_pilot=True))
    watch.rollout(plan_of(1, [2, 3], [6, 2], [3, 1], is_pilot=False))
    column = watch.columns()
    # visits 3 and 1, pilots none: (3 + 1)^2 / (9 + 1); prompts 0 ... 3 of 40 were seen
    assert column["effective_prompts"][-1] == pytest.approx(1.6)
    assert column["never_visited"][-1] == pytest.approx(36 / 40)
    assert np.isnan(column["coverage_80"]).all()  # uniform holds no posterior
    assert column["scored"][-1] == column["known"][-1] == 0.0


def test_the_watched_run_is_the_run():
    alone, host, _ = arm()
    for _ in loop.run(alone, host, rollouts=600):
        pass
    scheduler, watched, watch = arm()
    for _ in run(scheduler, watch):
        pass
    np.testing.assert_array_equal(host.theta_D, watched.theta_D)
    mine, theirs = alone.state_dict(), scheduler.state_dict()
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        np.testing.assert_array_equal(value, theirs[key])


def test_forecasts_are_taken_before_the_outcome_is_observed():
    """An independent tally: own counts, kept outside the scheduler and updated after each score."""
    scheduler, host, watch = arm(num_subsets=1, steps_per_subset=1000)
    success, trial = np.zeros(POOL), np.zeros(POOL)
    expected = dict.fromkeys(SCORES, 0.0)
    hindsight = 0.0
    for _ in range(30):
        plan = scheduler.propose()
        rate = host.true_success_rate()[plan.prompt_B]
        outcome = watch.rollout(plan)
        for i, prompt in enumerate(plan.prompt_B):
            s, t = int(outcome.success_B[i]), int(outcome.trial_B[i])
            if trial[prompt]:
                p = (1 + success[prompt]) / (2 + trial[prompt])  # Beta(1, 1), as cures has it
                expected["scored"] += t
                expected["log_loss"] -= s * np.log(p) + (t - s) * np.log(1 - p)
                expected["log_loss_truth"] -= s * np.log(rate[i]) + (t - s) * np.log(1 - rate[i])
                expected["brier"] += s * (1 - p) ** 2 + (t - s) * p**2
                expected["brier_truth"] += s * (1 - rate[i]) ** 2 + (t - s) * rate[i] ** 2
                late = (1 + success[prompt] + s) / (2 + trial[prompt] + t)
                hindsight -= s * np.log(late) + (t - s) * np.log(1 - late)
            success[prompt] += s
            trial[prompt] += t
        selection = scheduler.observe(outcome)
        (watch.update if selection.is_update else watch.discard)(selection)
    column = watch.columns()
    assert expected["scored"] > 100
    for name, value in expected.items():
        assert column[name][-1] == pytest.approx(value, rel=1e-9)
    assert hindsight < 0.97 * expected["log_loss"]  # control: a score after the fact would show
    # the coverage now, from quantiles: another route than that of cures.forecast
    known = trial > 0
    a, b = 1 + success[known], 1 + trial[known] - success[known]
    low, high = beta.interval(0.8, a, b)
    rate = host.true_success_rate()[known]
    assert column["known"][-1] == known.sum()
    assert column["coverage_80"][-1] == pytest.approx(np.mean((low <= rate) & (rate <= high)))


def test_points_of_the_grid_are_filled_at_the_first_update_that_reaches_them():
    scheduler, _, watch = arm("uniform", grid=(0.0, 10.0, 20.0, 40.0, 50.0))
    trained = []
    for record in run(scheduler, watch, rollouts=48):
        trained.append(record.generated)
    assert trained == [16, 32, 48]
    column = watch.columns()
    # 10 is reached at 16, 20 at 32, 40 at 48; nothing reaches 50, which holds the last values
    assert column["trained"].tolist() == [0.0, 16.0, 32.0, 48.0, 48.0]
    assert np.isnan(column["effective_prompts"][0])
    assert column["never_visited"][0] == 1.0


def test_a_watch_goes_on_from_its_state_to_the_last_bit():
    whole, _, watch = arm()
    for _ in run(whole, watch):
        pass
    half, host, first = arm()
    for record in run(half, first):
        if record.generated >= 300:
            break
    again, new_host, second = arm()
    again.load_state_dict(half.state_dict())
    new_host.load_state_dict(host.state_dict())
    second.load_state_dict(first.state_dict())
    for _ in run(again, second):
        pass
    for name, values in watch.columns().items():
        np.testing.assert_array_equal(values, second.columns()[name])


# -- what is made of it ------------------------------------------------------------------------------


def columns_of(**given):
    """Two seeds, five points, nothing known, unless given."""
    columns = {name: np.zeros((2, 5)) for name in COLUMNS}
    for name in COLUMNS:
        if name.startswith("coverage"):
            columns[name] = np.full((2, 5), np.nan)
    return columns | {name: np.array(values, dtype=float) for name, values in given.items()}


def test_diagnosis_by_hand():
    columns = columns_of(
        trained=[[0, 10, 20, 30, 40], [0, 10, 20, 30, 40]],
        zero_advantage=[[0, 1, 2, 6, 16], [0, 3, 4, 4, 4]],
        effective_prompts=[[np.nan, 1, 2, 3, 4], [np.nan, 1, 2, 3, 8]],
        never_visited=[[1, 0.5, 0.4, 0.3, 0.2], [1, 0.5, 0.4, 0.3, 0.4]],
        known=[[0, 0, 5, 5, 5], [0, 0, 5, 5, 10]],
        coverage_80=[[np.nan, np.nan, 0.6, 0.6, 0.6], [np.nan, np.nan, np.nan, np.nan, 1.0]],
        scored=[[0, 0, 10, 20, 20], [0, 0, 10, 20, 40]],
        log_loss=[[0, 0, 8, 14, 14], [0, 0, 8, 16, 32]],
        log_loss_truth=[[0, 0, 7, 12, 12], [0, 0, 6, 12, 24]],
    )
    result = diagnose(columns, np.array([80.0, 80.0]))
    assert result["effective_prompts"] == 6.0
    assert result["never_visited"] == pytest.approx(0.3)
    # first quarter 1/10 and 3/10, last one 10/10 and 0/10
    assert result["wasted_by_quarter"] == pytest.approx([0.2, 0.1, 0.2, 0.5])
    posterior = result["posterior"]
    assert posterior["coverage"]["0.8"] == pytest.approx(0.8)  # seeds .6 and 1, however many points
    assert posterior["coverage"]["0.5"] is None
    assert posterior["scored"] == pytest.approx((20 / 80 + 40 / 80) / 2)
    assert posterior["log_loss"] == pytest.approx((14 / 20 + 32 / 40) / 2)
    course = courses(columns)
    np.testing.assert_allclose(course["wasted"][0], [np.nan, 0.1, 0.1, 0.4, 1.0])
    np.testing.assert_allclose(course["log_loss"][0], [np.nan, np.nan, 0.1, 0.1, np.nan])


def test_without_a_posterior_there_is_nothing_to_say_about_one():
    assert diagnose(columns_of(), np.array([80.0, 80.0]))["posterior"] is None


def test_a_folder_from_before_there_were_records_has_none(tmp_path):
    folder = tmp_path / ArmTask("uniform", 0, False).folder
    folder.mkdir(parents=True)
    save_state(folder / "curve.npz", {"held_out_E": np.zeros(5)})
    assert load_columns(tmp_path, "uniform", 1) is None
    save_state(folder / "curve.npz", {f"watch/{name}": np.arange(5.0) for name in COLUMNS})
    assert load_columns(tmp_path, "uniform", 1)["trained"].tolist() == [[0, 1, 2, 3, 4]]
