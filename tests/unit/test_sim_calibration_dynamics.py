"""Drift, transfer and learning rate, from logs whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import approx_fprime, brentq
from scipy.special import expit, logit
from scipy.stats import binom, norm

from cures import loop
from cures.records import outcome_rows
from cures.schedulers import make_scheduler
from sim.calibration import study
from sim.calibration.dynamics import Dynamics, Estimate, fit_dynamics
from sim.calibration.evidence import Evidence
from sim.calibration.learning import Protocol, _end_of_run, match_learning_rate
from sim.calibration.pilots import starting_evidence
from sim.calibration.settings import CalibrationSettings
from sim.calibration.state_space import INITIAL_REACH, state_space
from sim.calibration.study import _why_no_dynamics
from sim.calibration.visits import visits_of
from sim.host import SimHost
from sim.item_response import ItemResponse
from sim.population_file import EmpiricalLaw
from sim.populations import Population
from tests.calibration_cases import random_walk_log

SIGMAS = 4.0
WIDTH = norm.isf(0.025)  # of a 95 % interval, in standard errors


def evidence_of(rows):
    table = np.array(rows, dtype=np.int64)
    return Evidence(*table[:, :4].T, table[:, 4].astype(bool))


def within(estimate, true):
    """Whether the truth is within 4 standard errors, taken from the 95 % interval."""
    return abs(estimate.value - true) <= SIGMAS / WIDTH * (estimate.high - estimate.low) / 2.0


def variance_within(drift_sd, true):
    """The same on the scale of the variance, on which the interval is symmetric above the value."""
    error = (drift_sd.high**2 - drift_sd.value**2) / WIDTH
    return abs(drift_sd.value**2 - true**2) <= SIGMAS * error


def test_visits_are_laid_out_by_hand():
    # prompt 7: pilot at 0, visits at 0 (same policy as the pilot: one visit) and at 2; prompt 8 at 1
    rows = [(7, 0, 1, 2, 1), (7, 0, 1, 4, 0), (8, 1, 2, 4, 0), (7, 2, 4, 4, 0)]
    visits = visits_of(evidence_of(rows), segments=1, most_prompts=100, seed=0)
    first, second = visits.rounds
    # dose of a group is sqrt(s/t (1 - s/t)); pilots have none
    dose = [np.sqrt(1 / 4 * 3 / 4), 0.5]
    assert visits.dose_U == pytest.approx(dose)
    assert first.success.tolist() == [2, 2]  # 7 has more visits, hence comes first
    assert first.trial.tolist() == [6, 4]
    assert first.updates.tolist() == [0.0, 1.0]
    assert first.shared[:, 0] == pytest.approx([0.0, dose[0]])
    assert second.trial.tolist() == [4]
    assert second.updates.tolist() == [2.0]
    assert second.own == pytest.approx([dose[0]])
    assert second.shared[:, 0] == pytest.approx([sum(dose)])
    assert visits.prompts == 2


def test_likelihood_equals_an_integral():
    # one prompt, 3 of 4 at step 0 and 1 of 6 after two updates
    rows = [(0, 0, 3, 4, 0), (0, 2, 1, 6, 0), (1, 1, 4, 8, 0), (2, 2, 0, 2, 0)]
    visits = visits_of(evidence_of(rows), segments=1, most_prompts=100, seed=0)
    model = state_space(visits)
    generator = np.random.default_rng(0)
    parameters = np.concatenate([[0.04, 0.3, 0.5], generator.normal(size=8)])
    spline = parameters[3:]
    height = np.where(np.abs(model.logit_X) <= INITIAL_REACH, model.basis_X_J @ spline, -np.inf)
    initial = np.exp(height) / np.exp(height).sum()
    dose = visits.dose_U
    own = 0.3 * dose[0]

    node, weight = hermegauss(80)  # for a mean over a standard normal, exact to degree 159

    def seen_later(shift, variance, success, trial):
        """Chance of a count after a normal step, from every start."""
        later = model.logit_X[:, None] + shift + np.sqrt(variance) * node
        return binom.pmf(success, trial, expit(later)) @ weight / np.sqrt(2.0 * np.pi)

    expected = 0.0
    first = binom.pmf(3, 4, expit(model.logit_X))
    shift = own + 0.5 * dose.sum()
    expected += np.log(initial @ (first * seen_later(shift, 2 * 0.04, 1, 6)))
    expected += np.log(initial @ seen_later(0.5 * dose[0], 0.04, 4, 8))
    expected += np.log(initial @ seen_later(0.5 * dose.sum(), 2 * 0.04, 0, 2))
    bend = np.diff(np.append(0.0, spline), 2)
    expected -= 0.5 * 0.05 * bend @ bend + 0.5 * (0.3 / 5.0) ** 2  # penalties
    expected -= 0.5 * (0.5 * dose.sum() / 5.0) ** 2
    assert model.evaluate(parameters).value == pytest.approx(expected, abs=1e-5)


def test_the_gradient_is_that_of_the_value():
    log = random_walk_log(0.1, prompts=120, updates=12, batch=40)
    model = state_space(visits_of(log, segments=2, most_prompts=1000, seed=0))
    generator = np.random.default_rng(1)
    parameters = np.concatenate([[0.02, 0.2, 0.002, 0.004], 0.3 * generator.normal(size=8)])
    numeric = approx_fprime(parameters, lambda x: model.evaluate(x).value, 1e-6)
    assert model.evaluate(parameters).slope_J == pytest.approx(numeric, rel=5e-3, abs=1e-2)


def test_few_prompts_at_a_time_where_memory_is_short(monkeypatch):
    log = random_walk_log(0.1, prompts=120, updates=12, batch=40)
    model = state_space(visits_of(log, segments=1, most_prompts=1000, seed=0))
    parameters = np.concatenate([[0.02, 0.2, 0.002], np.full(8, 0.1)])
    whole = model.evaluate(parameters)
    monkeypatch.setattr("sim.calibration.state_space.CHUNK_NUMBERS", 50_000)
    assert model.chunk < 60
    parts = model.evaluate(parameters)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.slope_J == pytest.approx(whole.slope_J, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("drift_sd", [0.0, 0.15])
def test_known_drift_is_found(drift_sd):
    log = random_walk_log(drift_sd, seed=3)
    dynamics = fit_dynamics(visits_of(log, segments=2, most_prompts=5000, seed=0))
    assert variance_within(dynamics.drift_sd, drift_sd)
    assert within(dynamics.own, 0.3)
    assert within(dynamics.shared, 0.004)
    # the control: half of the drift, or some where there is none, must be out of reach
    assert not variance_within(dynamics.drift_sd, 0.075 if drift_sd else 0.15)
    assert not within(dynamics.shared, 0.001)


def test_a_sample_of_the_prompts_gives_the_same_within_error():
    log = random_walk_log(0.15, seed=3)
    visits = visits_of(log, segments=2, most_prompts=400, seed=0)
    assert visits.prompts == 600  # reach is about the pool
    dynamics = fit_dynamics(visits)
    assert dynamics.prompts == 400
    assert variance_within(dynamics.drift_sd, 0.15)
    assert within(dynamics.shared, 0.004)


def simulated_log(shared_square, own_square, *, learning_rate, prompts=500, updates=50, batch=50):
    """A log of the simulator with plain ascent: one ability for all, and one for each prompt.

    A group of dose d moves its own prompt's logit by ``learning_rate / batch * d`` times shared and
    own square together, every other one by the shared square's part: GRPO's advantages times the
    scores of an item response add up to d a_i (sum_r A_r (r - p) / n = std of the rewards).
    """
    generator = np.random.default_rng(7)
    loading = np.hstack(
        [np.full((prompts, 1), np.sqrt(shared_square)), np.sqrt(own_square) * np.eye(prompts)]
    )
    start = generator.normal(-0.5, 1.0, prompts)
    pool = Population(
        name="known",
        policy=ItemResponse(loading, -start),
        theta_D=np.zeros(prompts + 1),
        num_pool=prompts,
        held_out_H=np.array([0]),
        fixed_rate_N=np.full(prompts, np.nan),
    )
    host = SimHost(pool, seed=1, optimiser="sgd", learning_rate=learning_rate, has_moments=False)
    scheduler = make_scheduler("uniform", num_prompts=prompts, batch_size=batch, budget=8 * batch)
    rows = []
    for record in loop.run(scheduler, host, rollouts=8 * batch * updates):
        for plan, outcome in zip(record.plans, record.outcomes, strict=True):
            rows += list(outcome_rows(plan, outcome, outcome.policy_step or 0))
    names = ("prompt", "step", "success", "trial", "is_pilot")
    gain = logit(host.true_success_rate()) - start
    return evidence_of([[int(row[name]) for name in names] for row in rows]), gain


@pytest.mark.parametrize(
    ("shared_square", "own_square", "rate"),
    [(0.0, 1.0, 40.0), (0.005, 0.995, 40.0), (1.0, 0.0, 0.15)],
)
def test_known_transfer_is_found(shared_square, own_square, rate):
    log, gain = simulated_log(shared_square, own_square, learning_rate=rate)
    assert gain.mean() > 0.5  # something was learned, else the test is vacuous
    dynamics = fit_dynamics(visits_of(log, segments=1, most_prompts=5000, seed=0))
    # transfer is the shared square over both; reach N a / (N a + b) for prompts trained alike
    reach = 500 * shared_square / (500 * shared_square + own_square)
    assert within(dynamics.own, rate / 50 * own_square)
    assert within(dynamics.shared, rate / 50 * shared_square)
    assert within(dynamics.reach, reach)
    if own_square:
        assert within(dynamics.transfer, shared_square)  # the two squares add up to 1
    else:  # a + b is a five-hundredth of a logit: whether that is more than 0 no such log tells
        assert dynamics.transfer is None
    # controls: everything its own, or everything shared, where it is not
    assert within(dynamics.reach, 0.0) == (shared_square == 0.0)
    assert within(dynamics.reach, 1.0) == (own_square == 0.0)


def test_transfer_is_not_told_where_no_prompt_is_seen_after_its_training():
    rows = [(i, 0, i % 5, 4, 1) for i in range(300)]
    generator = np.random.default_rng(0)
    for step in range(6):  # every prompt is trained on once
        for i in range(50 * step, 50 * step + 50):
            rows.append((i, step, generator.binomial(8, 0.5), 8, 0))
    dynamics = fit_dynamics(visits_of(evidence_of(rows), segments=1, most_prompts=1000, seed=0))
    assert dynamics.transfer is None
    assert dynamics.reach is None


def test_a_large_gain_does_not_tell_whose_it_is():
    # as above, but everybody gains 1.5 logits per update: the whole is far from 0, its parts are open
    generator = np.random.default_rng(0)
    rows = [(i, 0, generator.binomial(4, expit(-4.0)), 4, 1) for i in range(300)]
    for step in range(6):
        rate = expit(-4.0 + 1.5 * step)
        for i in range(50 * step, 50 * step + 50):
            rows.append((i, step, generator.binomial(8, rate), 8, 0))
    dynamics = fit_dynamics(visits_of(evidence_of(rows), segments=1, most_prompts=1000, seed=0))
    assert dynamics.shared_U[-1] > 4.0
    assert dynamics.reach is None


def test_segments_have_about_equal_dose_and_no_gaps():
    # half of the dose, 4, is given by the first update; the next four give the other half
    rows = [(i, 0, 4, 8, 0) for i in range(8)]  # dose of 4 of 8: 1/2 each
    rows += [(i, step, 4, 8, 0) for step in (3, 4, 5, 6) for i in (0, 1)]
    rows += [(0, 7, 4, 8, 0)]  # the last step: nothing comes after it
    for most, expected in ((2, [0, 0, 0, 1, 1, 1, 1]), (1, [0] * 7)):
        visits = visits_of(evidence_of(rows), segments=most, most_prompts=100, seed=0)
        assert visits.dose_U.tolist() == [4.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
        moved = visits.segment_U[visits.dose_U > 0.0].tolist()
        assert moved == [expected[0], *expected[3:]]
    many = visits_of(evidence_of(rows), segments=8, most_prompts=100, seed=0)
    assert sorted(set(many.segment_U.tolist())) == list(range(many.segment_U.max() + 1))
    assert (many.dose_W > 0.0).any()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([(i, 0, 1, 4, 1) for i in range(200)], "no training in the log"),
        ([(i, s, 0, 4, 0) for i in range(200) for s in (0, 1)], "no group with both rewards"),
        ([(i, i // 50, 2, 4, 0) for i in range(200)], "fewer than 100 prompts were visited twice"),
    ],
)
def test_a_log_that_tells_nothing_of_movement_says_what_it_lacks(rows, reason):
    log = evidence_of(rows)
    assert reason in str(_why_no_dynamics(log, log.only(~log.is_pilot_V)))


def test_a_log_that_tells_something_has_no_such_reason():
    log = random_walk_log(0.0)
    assert _why_no_dynamics(log, log.only(~log.is_pilot_V)) is None


LAW = EmpiricalLaw(
    name="known",
    success_rate_K=np.array([0.1, 0.4, 0.7]),
    weight_K=np.array([0.5, 0.3, 0.2]),
    transfer=0.3,
)
PROTOCOL = Protocol(updates=12, batch_size=32, group_size=8, pool=150, logit_gain=0.0, seed=0)


def gain_to(target):
    """The shift of all logits that leads to a mean success rate, by root finding."""
    return brentq(lambda g: LAW.weight_K @ expit(logit(LAW.success_rate_K) + g) - target, -5, 9)


def test_a_known_learning_rate_is_found():
    ends = [_end_of_run(LAW, PROTOCOL, 0.01, seed, lambda: None) for seed in (0, 1)]
    learning = match_learning_rate(LAW, replace(PROTOCOL, logit_gain=gain_to(np.mean(ends))))
    assert learning.learning_rate == pytest.approx(0.01, rel=0.1)  # PRECISION is 5 %
    assert learning.target == pytest.approx(np.mean(ends))
    assert learning.start == pytest.approx(0.31)  # .5 x .1 + .3 x .4 + .2 x .7
    assert not learning.is_transfer_raised
    more = match_learning_rate(LAW, replace(PROTOCOL, logit_gain=1.5 * gain_to(np.mean(ends))))
    assert more.learning_rate > 0.012  # the control


def test_drift_is_no_gain_that_a_learning_rate_has_to_match():
    moving = replace(LAW, drift_sd=0.5)
    ends = [_end_of_run(law, PROTOCOL, 0.01, 0, lambda: None) for law in (LAW, moving)]
    assert ends[0] == ends[1]


def test_the_run_that_is_imitated_is_that_of_the_log(monkeypatch):
    # 4 prompts; steps 0 and 1 train on 2 each with 4 rollouts, then the policy of step 2 answers once
    rows = [(0, 0, 2, 4, 0), (1, 0, 1, 4, 0), (2, 1, 4, 4, 0), (3, 1, 2, 4, 0), (0, 2, 4, 4, 0)]
    log = evidence_of(rows)
    estimate = Estimate(0.5, 0.4, 0.6)
    dynamics = Dynamics(estimate, estimate, estimate, None, None, (0.2, 0.7), 5, 4, 1, 0.0)
    seen = []
    monkeypatch.setattr(
        study, "match_learning_rate", lambda law, protocol, told: seen.append(protocol)
    )
    settings = CalibrationSettings(pilots="x", seed=3)
    study._learning(settings, LAW, log, log, dynamics, lambda stage: None)
    # doses: 1/2, sqrt(3)/4, 0, 1/2, 0; a prompt's own gain is b = 1/2 times their mean over 4 prompts
    gain = 0.7 + 0.5 * (1.0 + np.sqrt(3.0) / 4.0) / 4.0
    assert seen[0] == Protocol(2, 2, 4, 4, pytest.approx(gain), 3)


def test_drift_and_transfer_go_into_the_population_only_where_they_are_told():
    some, none = Estimate(0.2, 0.1, 0.3), Estimate(0.2, 0.0, 0.3)
    whole = Dynamics(some, some, some, Estimate(1.2, 0.9, 1.5), None, (), 5, 4, 1, 0.0)
    law = study._moving(LAW, whole)
    assert (law.drift_sd, law.transfer) == (0.2, 1.0)
    law = study._moving(LAW, replace(whole, drift_sd=none, transfer=None))
    assert (law.drift_sd, law.transfer) == (0.0, None)
    assert study._moving(replace(LAW, policy="tabular"), whole).transfer is None


def test_the_population_is_that_of_the_earliest_pilots():
    rows = [(0, 0, 1, 4, 0), (1, 2, 1, 4, 1), (2, 2, 3, 4, 1), (3, 5, 4, 4, 1)]
    settings = CalibrationSettings(pilots="x")
    assert starting_evidence(settings, evidence_of(rows)).prompt_V.tolist() == [1, 2]
    start = starting_evidence(replace(settings, at_step=0), evidence_of(rows))
    assert start.prompt_V.tolist() == [0]


def test_no_gain_gives_no_learning_rate():
    learning = match_learning_rate(LAW, replace(PROTOCOL, logit_gain=-0.1))
    assert learning.learning_rate is None


def test_a_gain_out_of_reach_raises_the_transfer_and_says_so():
    alone = replace(LAW, transfer=0.0)
    learning = match_learning_rate(alone, replace(PROTOCOL, logit_gain=3.0))
    assert learning.is_transfer_raised
    assert learning.transfer > 0.0
    assert learning.learning_rate is not None
