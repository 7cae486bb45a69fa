"""The simulator's host: outcomes, worked updates, what it keeps and forgets, exact resumption."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from cures.records import Plan, Selection
from sim.host import SimHost, first_of_each_kind
from sim.item_response import ItemResponse
from sim.optimiser import OptimiserState, ascend
from sim.populations import Population, make_population
from sim.skills import Skills

STEP = 0.5  # learning rate of the worked examples


def population_of(policy, theta, fixed=None):
    size = policy.num_prompts
    fixed = np.full(size, np.nan) if fixed is None else np.array(fixed, dtype=float)
    return Population("test", policy, np.array(theta, dtype=float), size, np.arange(size), fixed)


def two_prompts(fixed=None):
    policy = ItemResponse(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.0, 1.0]))
    return population_of(policy, [0.5, 0.25], fixed)


def plan_of(prompt, quota, plan_id=0, group=None, wants_moments=False):
    size = len(prompt)
    return Plan(
        plan_id=plan_id,
        group_B=np.arange(size) if group is None else np.array(group),
        prompt_B=np.array(prompt),
        quota_B=np.array(quota),
        is_pilot_B=np.zeros(size, dtype=bool),
        draw_B=np.ones(size, dtype=np.int64),
        prob_B=np.full(size, np.nan),
        wants_moments=wants_moments,
    )


def host_with(rollouts, population=None, **options):
    """A host whose waiting rollouts are given: (group, prompt, answer) in order of generation."""
    options = {"optimiser": "sgd", "learning_rate": STEP, "estimator": "dr_grpo", **options}
    host = SimHost(population or two_prompts(), seed=0, **options)
    state = host.state_dict()
    group, prompt, answer = np.array(rollouts, dtype=np.int64).T
    right = host.population.policy.is_right(prompt, answer).astype(np.int64)
    state.update({"waiting/group": group, "waiting/prompt": prompt})
    state.update({"waiting/answer": answer, "waiting/right": right})
    host.load_state_dict(state)
    return host


# -- rollouts ----------------------------------------------------------------------------------------


def test_outcomes_follow_the_success_rates_and_the_fixed_rewards():
    """4-sigma exact binomial tests; the wrong chance must be refused."""
    population = two_prompts(fixed=[np.nan, 0.5])
    outcome = SimHost(population, seed=1).rollout(plan_of([0, 1], [20_000, 20_000]))
    p = float(expit(0.5))  # a . theta - b = 0.5, by hand
    assert binomtest(int(outcome.success_B[0]), 20_000, p).pvalue > 6e-5
    assert binomtest(int(outcome.success_B[0]), 20_000, p + 0.03).pvalue < 6e-5
    assert binomtest(int(outcome.success_B[1]), 20_000, 0.5).pvalue > 6e-5
    never = SimHost(two_prompts(fixed=[0.0, 1.0]), seed=1).rollout(plan_of([0, 1], [50, 50]))
    assert never.success_B.tolist() == [0, 50]


def test_a_coin_is_independent_of_the_answer():
    # covariance of two independent coins over 40 000 rollouts: standard error .25 / 200
    population = two_prompts(fixed=[0.5, np.nan])
    host = SimHost(population, seed=2)
    host.rollout(plan_of([0], [40_000]))
    state = host.state_dict()
    covariance = np.cov(state["waiting/answer"], state["waiting/right"])[0, 1]
    assert abs(covariance) < 4 * 0.25 / 200
    # negative control: on a learnable prompt the verdict is the answer
    host = SimHost(two_prompts(), seed=2)
    host.rollout(plan_of([0], [40_000]))
    state = host.state_dict()
    assert np.cov(state["waiting/answer"], state["waiting/right"])[0, 1] > 0.2


def test_outcomes_depend_on_seed_and_plan_id_only():
    plan = plan_of([0, 1], [30, 30], plan_id=5)
    first = SimHost(two_prompts(), seed=3).rollout(plan)
    late = SimHost(two_prompts(), seed=3)
    late.rollout(plan_of([1], [7], plan_id=2, group=[9]))
    np.testing.assert_array_equal(first.success_B, late.rollout(plan).success_B)
    next_id = plan_of([0, 1], [30, 30], plan_id=6)
    again = SimHost(two_prompts(), seed=3).rollout(next_id)
    assert again.success_B.tolist() != first.success_B.tolist()
    other = [SimHost(two_prompts(), seed=s).rollout(plan).success_B.tolist() for s in range(4, 9)]
    assert any(success != first.success_B.tolist() for success in other)


def test_missing_rollouts_are_missing_not_wrong():
    host = SimHost(two_prompts(fixed=[1.0, 1.0]), seed=4, missing_rate=0.3)
    outcome = host.rollout(plan_of([0, 1], [5000, 5000]))
    np.testing.assert_array_equal(outcome.success_B, outcome.trial_B)
    assert binomtest(int(outcome.trial_B.sum()), 10_000, 0.7).pvalue > 6e-5
    assert host.num_waiting == outcome.trial_B.sum()


def test_everything_missing_is_an_empty_group_and_no_step():
    host = SimHost(two_prompts(), seed=0, missing_rate=0.999999)
    outcome = host.rollout(plan_of([0, 1], [2, 2]))
    assert outcome.trial_B.tolist() == [0, 0]
    before = host.theta_D.copy()
    metrics = host.update(Selection(np.array([0, 1]), np.array([0.5, 0.5])))
    assert (metrics["trained"], metrics["empty_groups"]) == (0.0, 2.0)
    np.testing.assert_array_equal(host.theta_D, before)


@pytest.mark.parametrize("outside", [2, 7])
def test_prompts_outside_the_pool_are_refused(outside):
    """Ids 2 ... 5 are held-out prompts: the policy could answer them, training on them is cheating."""
    policy = ItemResponse(np.ones((6, 1)), np.zeros(6))
    population = Population("test", policy, np.zeros(1), 2, np.arange(2, 6), np.full(6, np.nan))
    host = SimHost(population, seed=0)
    sentence = rf"SimHost.rollout: plan.prompt_B must be in the pool \[0, 1\], got {outside}$"
    with pytest.raises(ValueError, match=sentence):
        host.rollout(plan_of([0, outside], [4, 4]))
    assert host.num_waiting == 0  # nothing of the plan was rolled out
    host.rollout(plan_of([0, 1], [4, 4]))
    assert host.num_waiting == 8


def test_moments_are_measured_when_wanted():
    host = SimHost(two_prompts(), seed=5)
    outcome = host.rollout(plan_of([0, 1], [40, 40], wants_moments=True))
    # item response: |s| is |r - p| |a|, the same for every right rollout of a prompt
    p = expit([0.5, -0.5])
    np.testing.assert_allclose(outcome.moments_B.norm_correct, (1 - p) * [1.0, 2.0])
    np.testing.assert_allclose(outcome.moments_B.sq_norm_wrong, (p * [1.0, 2.0]) ** 2)
    np.testing.assert_allclose(outcome.moments_B.sq_norm_difference, [1.0, 4.0])  # |a|^2
    assert host.rollout(plan_of([0], [4], plan_id=1, group=[7])).moments_B is None
    blind = SimHost(two_prompts(), seed=5, has_moments=False)
    assert blind.rollout(plan_of([0], [4], wants_moments=True)).moments_B is None


# -- updates, worked by hand -------------------------------------------------------------------------


def test_an_update_is_the_weighted_sum_of_advantage_times_score():
    # group 3: prompt 0, rewards 1 0 0 0: advantages .75, -.25 x 3; p = expit(.5), score (r - p) (1, 0)
    # so sum_j A_j s_j / 4 = (.75 (1-p) + .75 p) / 4 = .1875
    # group 8: prompt 1, rewards 1 1: advantages 0
    rollouts = [(3, 0, 0), (3, 0, 1), (8, 1, 1), (3, 0, 0), (8, 1, 1), (3, 0, 0)]
    host = host_with(rollouts)
    metrics = host.update(Selection(np.array([8, 3]), np.array([0.25, 0.75])))
    np.testing.assert_allclose(host.theta_D, [0.5 + STEP * 0.75 * 0.1875, 0.25], rtol=1e-14)
    assert (metrics["trained"], metrics["zero_advantage"]) == (6.0, 2.0)
    assert metrics["reward"] == pytest.approx(0.5)
    assert metrics["gradient_norm"] == pytest.approx(0.75 * 0.1875)
    assert host.num_waiting == 0


def test_step_scale_multiplies_the_learning_rate():
    rollouts = [(0, 0, 1), (0, 0, 0)]
    half, full = host_with(rollouts), host_with(rollouts)
    half.update(Selection(np.array([0]), np.array([1.0]), step_scale=0.5))
    full.update(Selection(np.array([0]), np.array([1.0])))
    np.testing.assert_allclose(2 * (half.theta_D - [0.5, 0.25]), full.theta_D - [0.5, 0.25])


def test_a_given_baseline_takes_the_place_of_the_group_mean():
    # rewards 1 1 against baseline .25: advantages .75; scores (1 - p) (1, 0); mean .75 (1 - p)
    host = host_with([(0, 0, 1), (0, 0, 1)])
    host.update(Selection(np.array([0]), np.array([1.0]), baseline_G=np.array([0.25])))
    expected = 0.5 + STEP * 0.75 * (1 - expit(0.5))
    np.testing.assert_allclose(host.theta_D, [expected, 0.25], rtol=1e-14)


def test_keep_trains_on_the_first_generated_of_each_kind():
    # skills: wrong answers differ, so *which* wrong rollout is kept shows in the parameters
    policy = Skills(np.array([[0, 1]]), np.array([2]), 2, np.zeros(1))
    rollouts = [(0, 0, 0), (0, 0, 2), (0, 0, 1), (0, 0, 2), (0, 0, 1)]
    kept = [(0, 0, 0), (0, 0, 2)]  # the first wrong one failed at once, the others at step 2
    selection = {"group_G": np.array([0]), "weight_G": np.array([1.0])}
    host = host_with(rollouts, population_of(policy, [0.1, -0.2]))
    metrics = host.update(Selection(**selection, keep_G2=np.array([[1, 1]])))
    reference = host_with(kept, population_of(policy, [0.1, -0.2]))
    reference.update(Selection(**selection))
    np.testing.assert_array_equal(host.theta_D, reference.theta_D)
    assert metrics["trained"] == 2.0
    assert host.num_waiting == 0  # the rest is dropped, not left behind


def test_keep_counts_each_group_by_itself():
    position = np.array([0, 0, 0, 1, 1, 1, 1])
    right = np.array([1, 1, 0, 0, 0, 1, 1])
    kept = first_of_each_kind(position, right, np.array([[1, 5], [2, 1]]))
    assert kept.tolist() == [True, False, True, True, False, True, True]


def test_aggregations():
    # two groups of the skills policy; tokens 1 2 (failed at once, passed both) and 2 2
    policy = Skills(np.array([[0, 1], [0, 1]]), np.array([2, 2]), 2, np.zeros(2))
    rollouts = [(0, 0, 0), (0, 0, 2), (1, 1, 1), (1, 1, 2), (1, 1, 2)]
    advantage = np.array([-1 / 2, 1 / 2, -2 / 3, 1 / 3, 1 / 3])
    weight = {
        "prompt": np.array([0.5 / 2] * 2 + [0.5 / 3] * 3),
        "rollout": np.full(5, 2 * 0.5 / 5),
        "token": np.full(5, 2 * 0.5 / 9),  # per token, 9 tokens in all; the score sums over tokens
    }
    theta = np.array([0.1, -0.2])
    _, prompt, answer = np.array(rollouts).T
    for aggregation, weight_R in weight.items():
        host = host_with(rollouts, population_of(policy, theta), aggregation=aggregation)
        host.update(Selection(np.array([0, 1]), np.array([0.5, 0.5])))
        gradient = policy.score_sum(theta, prompt, answer, weight_R * advantage)
        np.testing.assert_allclose(host.theta_D, theta + STEP * gradient, rtol=1e-13)


def test_adam_matches_its_definition():
    # by hand: after one step m-hat = g and v-hat = g^2, so the step is lr g / (|g| + eps)
    host = host_with([(0, 0, 1), (0, 0, 0)], optimiser="adam")
    host.update(Selection(np.array([0]), np.array([1.0])))
    g = 0.25  # (1/2)(.5 (1-p) + .5 p)
    assert host.theta_D[0] == pytest.approx(0.5 + STEP * g / (g + 1e-8), rel=1e-12)
    # second step with gradient h: recursion of the published algorithm
    state = host.state_dict()
    state.update({k: np.array([0, 0]) for k in ("waiting/group", "waiting/prompt")})
    state.update({"waiting/answer": np.array([1, 0]), "waiting/right": np.array([1, 0])})
    host.load_state_dict(state)
    before = host.theta_D[0]
    host.update(Selection(np.array([0]), np.array([0.5])))
    h = 0.125
    mean = (0.9 * 0.1 * g + 0.1 * h) / (1 - 0.9**2)
    square = (0.999 * 0.001 * g**2 + 0.001 * h**2) / (1 - 0.999**2)
    assert host.theta_D[0] == pytest.approx(before + STEP * mean / (square**0.5 + 1e-8), rel=1e-12)


@pytest.mark.parametrize("factor", [1.0, 1e-3])
def test_a_normalised_step_is_as_long_as_the_learning_rate(factor):
    # (0.6, 0.8) has length 1: the step is STEP times it, however long the gradient along it
    theta = np.array([0.5, -0.25])
    gradient = factor * np.array([0.6, 0.8])
    state = OptimiserState.zeros(2)
    after, state = ascend("normalised", theta, gradient, state, STEP)
    np.testing.assert_allclose(after, theta + STEP * np.array([0.6, 0.8]), rtol=1e-14)
    after, state = ascend("normalised", after, np.zeros(2), state, STEP)
    np.testing.assert_allclose(after, theta + STEP * np.array([0.6, 0.8]), rtol=1e-14)
    assert state.count == 2
    plain, _ = ascend("sgd", theta, gradient, state, STEP)  # negative control: follows the factor
    np.testing.assert_allclose(plain, theta + STEP * gradient, rtol=1e-14)


def test_rloo_updates_are_unbiased():
    """Mean of 4000 one-group gradients against the exact one; dr_grpo's (n-1)/n must fail."""
    population = make_population("uniform", "tabular", num_pool=3, num_held_out=1, seed=6)
    exact = population.policy.success_gradient(population.theta_D, np.array([1]), np.ones(1))

    def z_scores(estimator):
        steps = []
        host = SimHost(population, seed=8, estimator=estimator, optimiser="sgd", learning_rate=1.0)
        for plan_id in range(4000):
            host.theta_D = population.theta_D.copy()
            host.rollout(plan_of([1], [4], plan_id=plan_id))
            host.update(Selection(np.array([0]), np.array([1.0])))
            steps.append(host.theta_D - population.theta_D)
        error = np.std(steps, axis=0) / np.sqrt(len(steps))
        direction = exact / np.linalg.norm(exact)
        along = np.array(steps) @ direction
        assert (np.abs(np.mean(steps, axis=0) - exact) < 6 * error).all() == (estimator == "rloo")
        return (along.mean() - np.linalg.norm(exact)) / (along.std() / np.sqrt(along.size))

    assert abs(z_scores("rloo")) < 4
    assert z_scores("dr_grpo") < -4


# -- keeping and forgetting --------------------------------------------------------------------------


def test_groups_wait_until_selected_or_discarded():
    host = SimHost(two_prompts(), seed=9)
    host.rollout(plan_of([0, 1, 0], [2, 3, 4], group=[10, 11, 12]))
    host.rollout(plan_of([1], [5], plan_id=1, group=[11]))  # a continued group
    assert host.num_waiting == 14
    host.discard(Selection.empty([12]))
    assert host.num_waiting == 10
    metrics = host.update(Selection(np.array([11]), np.array([1.0])))
    assert metrics["trained"] == 8.0
    assert host.num_waiting == 2


def test_state_is_exact():
    population = make_population("skills", num_pool=40, num_held_out=5)
    hosts = [SimHost(population, seed=1, missing_rate=0.1) for _ in range(2)]

    def step(host, number):
        plan = plan_of([1, 2], [8, 8], plan_id=number, group=[2 * number, 2 * number + 1])
        host.rollout(plan)
        if number:  # trains on groups of the plan before: some rollouts always wait
            host.update(Selection(np.array([2 * number - 2]), np.array([1.0])))

    for number in range(4):
        step(hosts[0], number)
    hosts[1].load_state_dict(hosts[0].state_dict())
    for number in range(4, 8):
        for host in hosts:
            step(host, number)
    first, second = (host.state_dict() for host in hosts)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    assert hosts[0].num_waiting > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("theta"), "with an entry 'theta'"),
        (lambda s: s.update(later=1), r"without further entries, got \['later'\]"),
        (lambda s: s.update(theta=np.zeros(7)), r"state\['theta'\] must be of dtype float64"),
        (lambda s: s.update({"waiting/group": np.zeros(3)}), r"state\['waiting/group'\] must be"),
        (
            lambda s: s.update({"waiting/group": np.zeros(3, np.int64)}),
            r"waiting/\* must be of one",
        ),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(change, message):
    host = SimHost(two_prompts(), seed=0)
    before = host.theta_D.copy()
    state = host.state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        host.load_state_dict(state)
    np.testing.assert_array_equal(host.theta_D, before)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"estimator": "ppo"}, r"SimHost: estimator must be one of \['grpo'"),
        ({"aggregation": "mean"}, "SimHost: aggregation must be one of"),
        ({"optimiser": "lion"}, r"SimHost: optimiser must be one of \['adam', 'sgd', "),
        ({"learning_rate": 0.0}, r"SimHost: learning_rate must be a float in \(0"),
        ({"missing_rate": 1.0}, r"SimHost: missing_rate must be a float in \[0"),
        ({"has_moments": 1}, "SimHost: has_moments must be True or False"),
    ],
)
def test_bad_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        SimHost(two_prompts(), seed=0, **option)
