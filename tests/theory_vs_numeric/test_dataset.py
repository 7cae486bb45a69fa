"""Chapter 2 against the simulator's tables, `cures`, and optimisers that know no formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from cures import potential, sampling_distribution
from sim.tabular import Tabular
from tests.tabular_cases import fisher_of, kl_of
from tests.theory_vs_numeric.formulas import formula
from theory import average_bound, average_radius, average_sampling, own_objective
from theory.average_bound import alive, mean_variance, variation
from theory.average_radius import lowest, mean_lean
from theory.average_sampling import Z, average_trust_distribution, spread, variance_of_v
from theory.claims import numeric
from theory.exact_problem import pinsker
from theory.own_objective import (
    mean_root,
    moment_p,
    moment_q,
    own_gradient,
    own_variance,
    sampled_variance,
    square_p,
    square_q,
)
from theory.symbols import alpha, delta, m, own_share, p, q, share, temperature
from theory.trust_region import divergence, exact_dataset_improvement, exact_improvement

RADII = [1e-8, 1e-4, 0.01, 0.1, 1.0, 10.0]

two = (p, q, share)
ceiling = numeric(formula(average_bound, "2.1", "ceiling"), two)
improvement = numeric(formula(average_bound, "2.1", "improvement"), (mean_variance, delta))
stated = numeric(formula(average_bound, "2.2", "stated"), (*two, delta))  # Eq. (12)
corrected = numeric(formula(average_bound, "2.2", "corrected"), (*two, delta))
split = numeric(formula(average_bound, "2.3", "split"), (p, delta, mean_variance))
ratio = numeric(formula(average_bound, "2.3", "ratio"), variation)
ratio_alive = numeric(formula(average_bound, "2.3", "alive"), alive)
at_any_radius = numeric(formula(average_radius, "2.4", "any"), (mean_variance, lowest, delta))
next_order = numeric(formula(average_radius, "2.4", "ratio"), (mean_variance, mean_lean, delta))
share_of = numeric(formula(average_sampling, "2.5", "share"), (p, temperature, spread, Z))
slope = numeric(formula(average_sampling, "2.5", "slope"), (variance_of_v, temperature, spread))
value = numeric(formula(average_sampling, "2.5", "value"), (alpha, delta, Z, spread))
log_odds = numeric(formula(average_sampling, "2.6", "log_odds"), (p, q, temperature, spread))
against = numeric(formula(average_sampling, "2.6", "against"), (p, q, spread))
dead_odds = numeric(formula(average_sampling, "2.6", "dead"), (temperature, spread))
natural_gain = numeric(
    formula(own_objective, "2.7", "natural"), (own_variance, sampled_variance, delta)
)
plain_gain = numeric(
    formula(own_objective, "2.7", "plain"), (own_share, share, square_p, square_q, delta)
)
least_variance = numeric(formula(own_objective, "2.8", "variance"), (mean_root, own_gradient, m))
best_share = numeric(formula(own_objective, "2.8", "share"), (own_share, moment_p, moment_q))


def pool(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Success rates, some extreme, and a distribution over them."""
    rng = np.random.default_rng(seed)
    return rng.beta(0.5, 0.5, size), rng.dirichlet(np.full(size, 2.0))


def variance_under(rate_N: np.ndarray, prob_N: np.ndarray) -> float:
    return float(prob_N @ (rate_N * (1.0 - rate_N)))


# -- claims 2.1 to 2.3 -------------------------------------------------------------------------------


def natural_norm(policy: Tabular, theta: np.ndarray, prob_N: np.ndarray) -> float:
    """``g^T F^+ g`` of the averages under ``prob_N``, from scores of all answers of all prompts."""
    size, answers = policy.is_right_N_K.shape
    everyone = np.arange(size)
    pi_N_K = policy.probability(theta, everyone)
    fisher = np.zeros((theta.size, theta.size))
    for i in range(size):
        for k in range(answers):
            score = policy.score_sum(theta, np.array([i]), np.array([k]), np.ones(1))
            fisher += prob_N[i] * pi_N_K[i, k] * np.outer(score, score)
    g = policy.success_gradient(theta, everyone, prob_N)
    return float(g @ np.linalg.pinv(fisher, rcond=1e-11) @ g)


@pytest.mark.parametrize("seed", range(5))
def test_a_table_attains_the_ceiling_of_the_pool_and_shared_features_do_not(seed: int):
    rng = np.random.default_rng(seed)
    right = rng.random((2, 4)) < 0.5
    right[:, 0], right[:, 1] = True, False
    weight = float(rng.uniform(0.1, 0.9))
    prob_N = np.array([weight, 1.0 - weight])
    table, theta = Tabular(right), rng.normal(size=8)
    top = ceiling(*table.success_rate(theta, np.arange(2)), weight)
    assert natural_norm(table, theta, prob_N) == pytest.approx(top, rel=1e-12)
    # both prompts with one feature: the same answers are right for one prompt and wrong for the other
    shared = Tabular(np.stack([right[0], ~right[0]]), features_N_F=np.ones((2, 1)))
    theta = rng.normal(size=4)
    top = ceiling(*shared.success_rate(theta, np.arange(2)), weight)
    found = natural_norm(shared, theta, prob_N)
    # one policy for both prompts, so that J is linear in one success rate: (2 w - 1)^2 p (1-p)
    assert found == pytest.approx((2 * weight - 1) ** 2 * top, rel=1e-9, abs=1e-12)
    assert found < top


def test_the_counterexample_to_the_dataset_bound():
    """Numbers of the counterexample: exact optimum by SLSQP, the bounds by hand from u = .5, .14."""
    rate_N, prob_N, radius = np.array([0.5, 0.02]), np.array([0.5, 0.5]), 1e-4
    assert stated(0.5, 0.02, 0.5, radius) == pytest.approx(
        np.sqrt(2e-4) * (0.5 + 0.14) / 2, rel=1e-12
    )
    assert corrected(0.5, 0.02, 0.5, radius) == pytest.approx(
        np.sqrt(2e-4 * (0.25 + 0.0196) / 2), rel=1e-12
    )
    best, each = exact_dataset_improvement(rate_N, radius, prob_N)
    assert best == pytest.approx(5.197e-3, abs=5e-7)
    assert best > 1.14 * stated(0.5, 0.02, 0.5, radius)
    # a policy that does it: two-answer tables, their divergence measured by the simulator
    table = Tabular(np.array([[True, False], [True, False]]))
    old, new = (
        np.stack([np.log(r / (1 - r)), np.zeros(2)], axis=1).ravel()
        for r in (rate_N, rate_N + each)
    )
    spent = prob_N @ kl_of(table, old, new, np.arange(2))
    assert spent == pytest.approx(radius, rel=1e-9)
    gain = prob_N @ (table.success_rate(new, np.arange(2)) - rate_N)
    assert gain == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("radius", [1e-6, 1e-3, 0.05])
def test_the_exact_dataset_optimum_is_that_of_a_general_optimiser(radius: float):
    rate_N, prob_N = pool(4, 7)
    rate_N = 0.05 + 0.9 * rate_N
    best, each = exact_dataset_improvement(rate_N, radius, prob_N)
    scale = np.sqrt(radius)

    def room(x: np.ndarray) -> float:
        return 1.0 - float(prob_N @ divergence(rate_N, scale * x)) / radius

    found = minimize(
        lambda x: -prob_N @ x, 0.1 * rate_N * (1 - rate_N), method="SLSQP",
        constraints=[{"type": "ineq", "fun": room}],
        bounds=[((1e-9 - r) / scale, (1 - 1e-9 - r) / scale) for r in rate_N],
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert found.success
    assert -found.fun * scale == pytest.approx(best, rel=1e-7)
    np.testing.assert_allclose(found.x * scale, each, rtol=2e-3)
    equal = [float(exact_improvement(r, radius)) for r in rate_N]  # control: equal divergences
    assert prob_N @ equal < best * (1 - 1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_the_split_and_what_it_gains_over_equal_divergences(seed: int):
    rate_N, prob_N = pool(30, seed)
    mean = variance_under(rate_N, prob_N)
    part_N = split(rate_N, 1e-12, mean)
    assert prob_N @ part_N == pytest.approx(1e-12, rel=1e-12)
    u_N = potential(rate_N)
    gain = prob_N @ (np.sqrt(2.0 * part_N) * u_N)
    assert gain == pytest.approx(improvement(mean, 1e-12), rel=1e-12)
    spread_of_u = np.sqrt(prob_N @ u_N**2 - (prob_N @ u_N) ** 2) / (prob_N @ u_N)
    equal = prob_N @ (np.sqrt(2e-12) * u_N)  # Eq. (12)
    assert gain / equal == pytest.approx(ratio(spread_of_u), rel=1e-9)
    _, each = exact_dataset_improvement(rate_N, 1e-14, prob_N)
    inner = u_N > 0.05
    spent = divergence(rate_N, each) / 1e-14
    np.testing.assert_allclose(spent[inner], split(rate_N, 1.0, mean)[inner], rtol=1e-4)


def test_a_pool_of_dead_prompts_gains_by_the_root_of_the_share():
    rate_N = np.array([0.5, 0.0, 1.0, 0.0])
    best, each = exact_dataset_improvement(rate_N, 1e-12, np.full(4, 0.25))
    # p = 0 can rise by about delta (claim 1.5's edge), of second order against sqrt(delta)
    equal = np.sqrt(2e-12) * 0.5 / 4
    assert best / equal == pytest.approx(ratio_alive(0.25), rel=1e-5)
    assert each[2] == 0.0


# -- claim 2.4 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("seed", range(6))
def test_the_bound_at_any_radius_holds_and_the_leading_order_does_not(radius: float, seed: int):
    rate_N, prob_N = pool(12, seed)
    best, _ = exact_dataset_improvement(rate_N, radius, prob_N)
    mean = variance_under(rate_N, prob_N)
    lowest_rate = max(0.0, float((1.0 - 2.0 * rate_N).max()))
    slack = 1 + 1e-12
    assert best <= at_any_radius(mean, lowest_rate, radius) * slack
    assert best <= float(numeric(pinsker, delta)(radius)) * slack
    high_N = 0.5 + 0.5 * rate_N  # no rate below one half: the corrected bound at every radius
    best, _ = exact_dataset_improvement(high_N, radius, prob_N)
    assert best <= improvement(variance_under(high_N, prob_N), radius) * slack


def test_the_leading_order_is_violated_at_a_large_radius():
    rate_N, prob_N, radius = np.array([0.01, 0.05]), np.array([0.5, 0.5]), 0.1
    best, _ = exact_dataset_improvement(rate_N, radius, prob_N)
    mean = variance_under(rate_N, prob_N)
    assert best > 1.5 * improvement(mean, radius)
    assert best <= at_any_radius(mean, 0.98, radius)
    assert best > at_any_radius(mean, 0.9, radius) * 0.8  # the bound is not idle


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize(
    ("rate_N", "prob_N"),
    [
        ([0.0, 1.0, 0.3], [0.3, 0.3, 0.4]),  # dead prompts of either kind
        ([0.0, 0.5], [0.0, 1.0]),  # a prompt without a share
        ([0.0], [1.0]),
        ([1.0], [1.0]),
        ([0.02], [1.0]),
        ([0.0, 0.0, 1e-6], [0.5, 0.4, 0.1]),
    ],
)
def test_the_bound_at_any_radius_holds_at_the_edges(
    rate_N: list[float], prob_N: list[float], radius: float
):
    rate, prob = np.array(rate_N), np.array(prob_N)
    best, each = exact_dataset_improvement(rate, radius, prob)
    lowest_rate = max(0.0, float((1.0 - 2.0 * rate).max()))
    assert best <= at_any_radius(variance_under(rate, prob), lowest_rate, radius) * (1 + 1e-12)
    if (rate * (1 - rate) * prob == 0.0).all() and radius < 1.0:
        # nothing to leading order: a prompt at 0 gains at most 1 - exp(-delta / share)
        assert (
            best
            <= prob @ (rate < 1.0) * -np.expm1(-radius / max(prob @ (rate < 1.0), 1e-9)) + 1e-15
        )
    assert (each[rate == 1.0] == 0.0).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_gap_shrinks_as_the_next_order_says(seed: int):
    rate_N, prob_N = pool(5, seed)
    rate_N = 0.05 + 0.5 * rate_N
    mean = variance_under(rate_N, prob_N)
    leaning = float(prob_N @ ((1 - 2 * rate_N) * rate_N * (1 - rate_N)))

    def measured(radius: float) -> float:
        return exact_dataset_improvement(rate_N, radius, prob_N)[0] / improvement(mean, radius)

    left = [measured(r) - next_order(mean, leaning, r) for r in (1e-5, 1e-7)]
    assert left[0] / left[1] == pytest.approx(100.0, rel=0.2)  # O(delta)
    # control: without the term, what is left is O(sqrt(delta))
    left = [measured(r) - 1.0 for r in (1e-5, 1e-7)]
    assert left[0] / left[1] == pytest.approx(10.0, rel=0.2)


# -- claims 2.5 and 2.6 --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tau", [1e-3, 0.02, 0.1, 0.5, 20.0])
def test_the_distribution_solves_its_equation_and_is_a_softmax_of_the_variance(
    tau: float, seed: int
):
    rate_N, _ = pool(50, seed)
    prob_N, s = average_trust_distribution(rate_N, tau)
    variance_N = rate_N * (1.0 - rate_N)
    assert prob_N @ variance_N == pytest.approx(s**2, rel=1e-12)
    # the library's Eq. (14), with another potential and temperature
    np.testing.assert_allclose(
        prob_N, sampling_distribution(variance_N, 2.0 * tau * s), rtol=1e-11, atol=1e-300
    )
    if tau > 0.01:  # the sum of exponentials is a float
        total = np.exp(variance_N / (2.0 * tau * s)).sum()
        np.testing.assert_allclose(prob_N, share_of(rate_N, tau, s, total), rtol=1e-11)
    paper_N = sampling_distribution(potential(rate_N), tau)
    found = np.log(prob_N[0] / prob_N[1])
    assert found == pytest.approx(log_odds(rate_N[0], rate_N[1], tau, s), rel=1e-9)
    assert found == pytest.approx(
        np.log(paper_N[0] / paper_N[1]) * against(rate_N[0], rate_N[1], s), rel=1e-9
    )


def test_it_is_the_best_of_all_distributions_and_the_softmax_of_the_paper_is_not():
    rate_N, tau = np.array([0.5, 0.35, 0.9, 0.03, 0.0]), 0.1
    variance_N = rate_N * (1 - rate_N)
    scale = np.sqrt(2 * 0.01)

    def objective(prob_N: np.ndarray) -> float:
        entropy = -(prob_N * np.log(prob_N)).sum()
        return float(scale * np.sqrt(prob_N @ variance_N) + tau * scale * entropy)

    prob_N, s = average_trust_distribution(rate_N, tau)
    rng = np.random.default_rng(0)
    best = objective(prob_N)
    total = np.exp(variance_N / (2 * tau * s)).sum()
    assert best == pytest.approx(value(tau * scale, 0.01, total, s), rel=1e-12)
    for size in (1e-3, 0.1, 2.0):
        for _ in range(200):
            other = prob_N * np.exp(size * rng.normal(size=5))
            assert objective(other / other.sum()) < best
    assert objective(sampling_distribution(potential(rate_N), tau)) < best * (1 - 1e-3)


@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0])
def test_the_equation_has_one_solution(tau: float):
    rate_N, _ = pool(40, 3)
    variance_N = rate_N * (1 - rate_N)
    grid = np.linspace(0.01, 0.5, 400)
    mean, spread_of_v = [], []
    for s in grid:
        prob_N = sampling_distribution(variance_N, 2 * tau * s)
        mean.append(prob_N @ variance_N)
        spread_of_v.append(prob_N @ variance_N**2 - mean[-1] ** 2)
    assert (np.diff(grid**2 - np.array(mean)) > 0).all()
    measured = np.gradient(mean, grid)[200:-1]
    expected = slope(np.array(spread_of_v), tau, grid)[200:-1]
    np.testing.assert_allclose(measured, expected, rtol=1e-3, atol=1e-9)


def test_limits_in_temperature():
    rate_N = np.array([0.5, 0.5, 0.3, 0.0])
    hot, s = average_trust_distribution(rate_N, 1e9)
    np.testing.assert_allclose(hot, 0.25, rtol=1e-8)
    assert s == pytest.approx(np.sqrt((0.25 + 0.25 + 0.21) / 4), rel=1e-8)  # of the pool
    cold, s = average_trust_distribution(rate_N, 1e-6)
    np.testing.assert_allclose(cold, [0.5, 0.5, 0.0, 0.0], atol=1e-12)
    assert s == pytest.approx(0.5, rel=1e-12)
    alike, s = average_trust_distribution([0.3, 0.7], 0.05)
    np.testing.assert_allclose(alike, 0.5, rtol=1e-12)
    assert s == pytest.approx(np.sqrt(0.21), rel=1e-12)


@pytest.mark.parametrize("share_dead", [0.1, 0.98])
def test_dead_prompts_are_suppressed_more_than_in_the_paper_iff_few_prompts_live(
    share_dead: float,
):
    size = 200
    rate_N = np.where(np.arange(size) < share_dead * size, 0.0, 0.5)
    tau = 0.4
    prob_N, s = average_trust_distribution(rate_N, tau)
    odds = prob_N[0] / prob_N[-1]
    assert odds == pytest.approx(dead_odds(tau, s), rel=1e-10)
    paper = np.exp(-0.5 / tau)
    assert (odds < paper) == (s < 0.25) == (share_dead > 0.5)


@pytest.mark.parametrize(
    ("tau", "is_more"), [(1.0, True), (0.4, True), (0.1, False), (0.02, False)]
)
def test_in_a_pool_of_few_live_prompts_it_depends_on_the_temperature(tau: float, is_more: bool):
    """Claim 2.6: cold sampling draws live prompts anyhow, and then (14) suppresses dead ones more."""
    rate_N = np.where(np.arange(200) < 196, 0.0, 0.5)
    prob_N, s = average_trust_distribution(rate_N, tau)
    live = float(prob_N[196:].sum())
    assert s**2 == pytest.approx(live / 4, rel=1e-12)
    assert (prob_N[0] / prob_N[-1] < np.exp(-0.5 / tau)) == (live < 0.25) == is_more


@pytest.mark.parametrize(
    ("rate_N", "tau", "what"),
    [
        ([0.5, 1.1], 0.1, "p_N"),
        ([0.5, np.nan], 0.1, "p_N"),
        ([0.0, 1.0], 0.1, "p_N must be not all 0 or 1"),
        ([0.5, 0.2], 0.0, "temperature"),
        ([0.5, 0.2], -1.0, "temperature"),
    ],
)
def test_bad_input_is_refused(rate_N: list[float], tau: float, what: str):
    with pytest.raises(ValueError, match=what):
        average_trust_distribution(rate_N, tau)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"p_N": [0.5, 1.5]}, "p_N"),
        ({"delta": -1.0}, "delta"),
        ({"prob_N": [0.5, 0.6]}, "prob_N"),
        ({"prob_N": [1.0]}, "prob_N"),
    ],
)
def test_the_exact_problem_refuses_bad_input(changed: dict[str, object], what: str):
    with pytest.raises(ValueError, match=what):
        exact_dataset_improvement(
            **{"p_N": [0.5, 0.2], "delta": 0.1, "prob_N": [0.5, 0.5], **changed}
        )


# -- claims 2.7 and 2.8 --------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.05, 0.5, 0.95])
def test_the_natural_step_of_a_sample_and_what_the_dataset_gains(weight: float):
    table = Tabular(np.array([[True, False, False], [True, True, False]]))
    theta = np.array([-2.0, 0.0, 1.0, 0.3, -0.2, 0.1])
    both, prob_N, own_N = np.arange(2), np.array([weight, 1 - weight]), np.array([0.7, 0.3])
    rate_N = table.success_rate(theta, both)
    radius = 1e-12
    blocks = [
        w * (fisher_of(table, theta, i) + np.full((3, 3), 1 / 3)) for i, w in enumerate(prob_N)
    ]
    g = table.success_gradient(theta, both, prob_N)
    d = np.concatenate(
        [np.linalg.solve(f, x) for f, x in zip(blocks, g.reshape(2, 3), strict=True)]
    )
    d *= np.sqrt(2 * radius / (g @ d))
    spent = prob_N @ kl_of(table, theta, theta + 1e3 * d, both)  # 1e3: above rounding
    assert spent == pytest.approx(1e6 * radius, rel=1e-2)
    expected = natural_gain(variance_under(rate_N, own_N), variance_under(rate_N, prob_N), radius)
    assert table.success_gradient(theta, both, own_N) @ d == pytest.approx(expected, rel=1e-9)
    # a sample of larger bound gains the dataset less: its own gain times this one is the same
    assert expected * improvement(variance_under(rate_N, prob_N), radius) == pytest.approx(
        2 * radius * variance_under(rate_N, own_N), rel=1e-12
    )


def test_where_divergence_is_averaged_over_the_sample_dull_prompts_gain_the_dataset_most():
    """Claim 2.7: no counterexample to its last part, for this metric depends on the sample."""
    rate_N, own_N, radius = np.array([0.5, 0.02]), np.array([0.5, 0.5]), 1e-4
    mean = variance_under(rate_N, own_N)
    gains = [
        natural_gain(mean, variance_under(rate_N, np.array([w, 1 - w])), radius)
        for w in (0.9, 0.5, 0.1)
    ]
    assert gains[0] < gains[1] < gains[2]
    assert gains[1] == pytest.approx(improvement(mean, radius), rel=1e-12)


def test_no_sample_gains_more_than_the_dataset_along_the_plain_gradient():
    square = (0.02, 0.5)
    grid = np.linspace(0.001, 0.999, 999)
    gain = plain_gain(0.7, grid, *square, 0.1)
    assert grid[gain.argmax()] == pytest.approx(0.7, abs=1e-9)
    largest = np.sqrt(0.2 * (0.7**2 * square[0] + 0.3**2 * square[1]))
    assert gain.max() == pytest.approx(largest, rel=1e-12)


def test_the_least_noisy_sample_for_scores_of_one_norm_is_the_potential():
    rate_N = np.array([0.5, 0.1, 0.03, 0.97])
    own_N = np.full(4, 0.25)
    moment_N = 3.0 * rate_N * (1 - rate_N)  # E (r-p)^2 |s|^2 with |s|^2 = 3
    root_N = own_N * np.sqrt(moment_N)
    best_N = root_N / root_N.sum()
    u_N = potential(rate_N)
    np.testing.assert_allclose(best_N, u_N / u_N.sum(), rtol=1e-12)
    pair = best_share(0.5, moment_N[0], moment_N[1])
    assert pair == pytest.approx(best_N[0] / (best_N[0] + best_N[1]), rel=1e-12)
    # variance of any sample: sum mu^2 S / rho; no tilt lowers it, uniform sampling has more
    least = least_variance(root_N.sum(), 0.0, 5)
    rng = np.random.default_rng(1)
    for _ in range(200):
        other = best_N * np.exp(0.3 * rng.normal(size=4))
        other /= other.sum()
        assert (own_N**2 * moment_N / other).sum() / 5 > least
    assert (own_N * moment_N).sum() / 5 > 1.1 * least
