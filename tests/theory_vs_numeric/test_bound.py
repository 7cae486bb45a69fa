"""Chapter 1 against the simulator's tables, `cures.potential`, and high-precision roots."""

from __future__ import annotations

from itertools import product

import mpmath
import numpy as np
import pytest
import sympy as sp
from scipy.special import expit, logit

from cures import potential
from sim.tabular import Tabular
from tests.tabular_cases import fisher_of, kl_of
from theory import bound, cramer_rao, exact_problem, finite_radius, policies
from theory.claims import numeric
from theory.symbols import delta, p, q
from theory.trust_region import divergence, exact_improvement

RATES = np.array([1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
RADII = np.array([1e-8, 1e-4, 0.01, 0.1, 1.0])
FIRST = np.array([0])  # the prompt of a table that has one

stated = numeric(finite_radius.stated, (p, delta))  # Eq. (11)
corrected = numeric(finite_radius.corrected, (p, delta))


def table(right_K: np.ndarray) -> Tabular:
    return Tabular(np.asarray(right_K, dtype=bool)[None, :])


def solve_singular(fisher: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """``F^+ g`` for a Fisher matrix whose null space is the constants, by a regular system."""
    size = gradient.size
    return np.linalg.solve(fisher + np.full((size, size), 1.0 / size), gradient)


def random_table(size: int, seed: int) -> tuple[Tabular, np.ndarray]:
    rng = np.random.default_rng(seed)
    right = rng.random(size) < 0.4
    right[:2] = True, False
    return table(right), 0.7 * rng.normal(size=size)


# -- claims 1.1 to 1.4 -------------------------------------------------------------------------------


def test_scores_of_a_table_are_the_derivatives_of_its_log_probabilities():
    weight = policies.weights(4)
    score = policies.softmax_scores(policies.softmax_probabilities(weight))
    by_definition = policies.scores_by_differentiation(weight)
    assert (score - by_definition).applyfunc(sp.cancel) == sp.zeros(4, 4)
    # control: scores without the mean taken off
    assert (sp.eye(4) - by_definition).applyfunc(sp.cancel) != sp.zeros(4, 4)


@pytest.mark.parametrize("size", [2, 3, 7, 40, 200])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_table_of_any_size_attains_the_ceiling(size: int, seed: int):
    policy, theta = random_table(size, seed)
    g, fisher = policy.logit_gradient(theta, FIRST)[0], fisher_of(policy, theta, 0)
    rate = policy.success_rate(theta, FIRST)[0]
    step = solve_singular(fisher, g)
    ceiling = numeric(cramer_rao.ceiling, p)(rate)
    assert g @ step == pytest.approx(ceiling, rel=1e-12)
    assert potential(rate) ** 2 == pytest.approx(ceiling, rel=1e-12)
    right = policy.is_right_N_K[0]
    raised = numeric(cramer_rao.right_logit, (cramer_rao.right_count, cramer_rao.answer_count))(
        int(right.sum()), size
    )
    np.testing.assert_allclose(step, np.where(right, raised, raised - 1.0), atol=1e-12)


def test_the_ceiling_holds_for_every_right_set_and_not_for_another_fisher_matrix():
    theta = np.array([0.3, -1.0, 0.8, 0.0, -0.4])
    ceiling = numeric(cramer_rao.ceiling, p)
    for right in product([False, True], repeat=5):
        if len(set(right)) == 1:
            continue
        policy = table(np.array(right))
        g, fisher = policy.logit_gradient(theta, FIRST)[0], fisher_of(policy, theta, 0)
        rate = policy.success_rate(theta, FIRST)[0]
        assert g @ solve_singular(fisher, g) == pytest.approx(ceiling(rate), rel=1e-12)
        other = fisher_of(policy, np.zeros(5), 0)  # control: that of the uniform policy
        assert g @ solve_singular(other, g) != pytest.approx(ceiling(rate), rel=1e-3)


def test_shared_features_attain_it_too():
    rng = np.random.default_rng(3)
    right = np.array([[True, False, False, True], [False, True, False, False]])
    policy = Tabular(right, features_N_F=rng.normal(size=(2, 3)))
    theta = rng.normal(size=12)
    for prompt in (0, 1):
        here = np.array([prompt])
        rate = policy.success_rate(theta, here)[0]
        pi = policy.probability(theta, here)[0]
        score_K_D = np.stack(
            [policy.score_sum(theta, here, np.array([k]), np.ones(1)) for k in range(4)]
        )
        g = policy.success_gradient(theta, here, np.ones(1))
        norm = g @ np.linalg.pinv(score_K_D.T * pi @ score_K_D, rcond=1e-10) @ g
        assert norm == pytest.approx(numeric(cramer_rao.ceiling, p)(rate), rel=1e-12)


def test_one_parameter_stays_below_by_the_formula():
    rng = np.random.default_rng(4)
    restricted = numeric(cramer_rao.restricted, (p, cramer_rao.between, cramer_rao.within))
    for _ in range(20):
        pi, right = rng.dirichlet(np.ones(6)), np.arange(6) < 2
        score = rng.normal(size=6)
        score -= pi @ score
        rate = pi[right].sum()
        norm = (pi @ (right * score)) ** 2 / (pi @ score**2)
        means = [pi[kind] @ score[kind] / pi[kind].sum() for kind in (right, ~right)]
        between = rate * means[0] ** 2 + (1 - rate) * means[1] ** 2
        within = pi @ (score - np.where(right, *means)) ** 2
        assert norm == pytest.approx(restricted(rate, between, within), rel=1e-12)
        assert norm < potential(rate) ** 2
        # control: a score without spread within the kinds reaches the ceiling
        flat = np.where(right, 1.0 - rate, -rate)
        assert (pi @ (right * flat)) ** 2 / (pi @ flat**2) == pytest.approx(
            potential(rate) ** 2, rel=1e-12
        )


def test_several_parameters_stay_below_by_the_formula():
    rng = np.random.default_rng(5)
    several = numeric(cramer_rao.several, (p, cramer_rao.separation))
    for _ in range(20):
        pi, right = rng.dirichlet(np.full(9, 3.0)), np.arange(9) < 4
        score = rng.normal(size=(9, 3))
        score -= pi @ score
        rate = pi[right].sum()
        g, fisher = (pi * right) @ score, (score.T * pi) @ score
        norm = g @ np.linalg.solve(fisher, g)
        means = [pi[kind] @ score[kind] / pi[kind].sum() for kind in (right, ~right)]
        rest = score - np.where(right[:, None], *means)
        apart = means[0] - means[1]
        t = rate * (1 - rate) * apart @ np.linalg.solve((rest.T * pi) @ rest, apart)
        assert norm == pytest.approx(several(rate, t), rel=1e-12)
        assert norm < potential(rate) ** 2
        overall = rate * (1 - rate) * apart @ np.linalg.solve(fisher, apart)
        assert norm != pytest.approx(several(rate, overall), rel=1e-3)  # control: F in place of W


@pytest.mark.parametrize("radius", RADII)
def test_the_natural_step_gains_the_potential_times_the_radius(radius: float):
    policy, theta = random_table(9, 5)
    g, fisher = policy.logit_gradient(theta, FIRST)[0], fisher_of(policy, theta, 0)
    natural = g @ solve_singular(fisher, g)
    step = solve_singular(fisher, g) / numeric(bound.multiplier, (bound.natural, delta))(
        natural, radius
    )
    assert 0.5 * step @ fisher @ step == pytest.approx(radius, rel=1e-12)
    gain = numeric(bound.improvement, (bound.natural, delta))(natural, radius)
    assert g @ step == pytest.approx(gain, rel=1e-12)
    rate = policy.success_rate(theta, FIRST)[0]
    assert gain == pytest.approx(np.sqrt(2.0 * radius) * potential(rate), rel=1e-12)  # Eq. (11)
    assert gain == pytest.approx(stated(rate, radius), rel=1e-12)
    plain = g * np.sqrt(2.0 * radius / (g @ fisher @ g))
    assert g @ plain < 0.999 * gain  # control: the plain gradient, scaled to the same divergence


# -- claims 1.5 and 1.6: the exact problem -----------------------------------------------------------


def test_the_divergence_is_that_of_a_table_that_keeps_its_shares():
    kl = numeric(exact_problem.divergence, (p, q))
    policy, theta = random_table(8, 6)
    right = policy.is_right_N_K[0]
    old = policy.success_rate(theta, FIRST)
    for lift in (-1.5, -0.1, 0.3, 2.0):
        other = theta + lift * right
        new = policy.success_rate(other, FIRST)
        spent = kl_of(policy, theta, other, FIRST)
        np.testing.assert_allclose(spent, kl(old, new), rtol=1e-12)
        np.testing.assert_allclose(spent, divergence(old, new - old), rtol=1e-11)
        uneven = other + 0.3 * right * np.arange(8)  # control: shares change among the right
        new = policy.success_rate(uneven, FIRST)
        assert kl_of(policy, theta, uneven, FIRST) > 1.001 * kl(old, new)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("radius", RADII)
def test_the_exact_improvement_is_the_root(rate: float, radius: float):
    found = float(exact_improvement(rate, radius))
    kl = sp.lambdify((p, q), exact_problem.divergence, modules="mpmath")
    with mpmath.workdps(120):  # the failure rate goes down to exp(-105)
        start = mpmath.mpf(float(rate))
        low, high = mpmath.log(start / (1 - start)), mpmath.mpf(250)  # logit of q
        for _ in range(150):
            middle = (low + high) / 2
            if kl(start, 1 / (1 + mpmath.exp(-middle))) < radius:
                low = middle
            else:
                high = middle
        exact = 1 / (1 + mpmath.exp(-low)) - start
    assert found == pytest.approx(float(exact), rel=1e-12)


def test_pinsker_holds_everywhere_with_the_best_constant():
    bound_of = numeric(exact_problem.pinsker, delta)
    rate, radius = np.meshgrid(np.linspace(0.001, 0.999, 99), RADII)
    assert (exact_improvement(rate, radius) <= bound_of(radius) * (1 + 1e-12)).all()
    assert float(exact_improvement(0.5, 1e-6)) == pytest.approx(bound_of(1e-6), rel=1e-6)
    # control: no smaller constant would do
    assert (exact_improvement(rate, radius) > 0.99 * bound_of(radius)).any()


# -- claims 1.7 and 1.8: the first-order bound and its gap --------------------------------------------


def test_the_first_order_bound_is_violated_at_a_small_rate_and_a_large_radius():
    """The negative control of Eq. (11): a policy in the trust region that gains 2.6 times as much."""
    rate, radius = 0.01, 0.1
    best = float(exact_improvement(rate, radius))
    assert stated(rate, radius) == pytest.approx(0.0445, abs=5e-5)
    assert best == pytest.approx(0.1179, abs=5e-5)
    assert best / stated(rate, radius) == pytest.approx(2.65, abs=0.01)
    policy = table(np.array([True, False]))
    theta = np.array([logit(rate), 0.0])
    moved = np.array([logit(rate + best), 0.0])
    assert kl_of(policy, theta, moved, FIRST)[0] == pytest.approx(radius, rel=1e-12)
    gain = policy.success_rate(moved, FIRST)[0] - policy.success_rate(theta, FIRST)[0]
    assert gain > stated(rate, radius)
    assert gain <= corrected(rate, radius)
    assert float(exact_improvement(0.1, 0.01)) / stated(0.1, 0.01) == pytest.approx(1.12, abs=5e-3)


def test_where_the_first_order_bound_holds_and_where_the_corrected_one_does():
    rate, radius = (x.ravel() for x in np.meshgrid(RATES, RADII))
    best = exact_improvement(rate, radius)
    is_violated = best > stated(rate, radius)
    assert not is_violated[rate >= 0.5].any()
    # below 1/2 it fails until the radius is so large that it allows more than can be gained at all
    assert is_violated[(rate < 0.5) & (radius <= 0.1)].all()
    assert not is_violated[(rate == 0.3) & (radius == 1.0)].any()
    assert (best <= corrected(rate, radius) * (1 + 1e-12)).all()
    # losses of success: the same problem for 1 - p
    assert (exact_improvement(1 - rate, radius) <= corrected(1 - rate, radius) * (1 + 1e-12)).all()


RATIOS = {
    "exact": finite_radius.exact_ratio,
    "step": finite_radius.step_ratio,
    "spent": finite_radius.step_divergence,
}


def measured(name: str, rate: float, radius: float) -> float:
    """The ratio itself: of the exact optimum, or of one step of nominal length in a table."""
    if name == "exact":
        return float(exact_improvement(rate, radius)) / float(stated(rate, radius))
    nominal = np.sqrt(2.0 * radius / (rate * (1.0 - rate)))  # in the logit
    gained = float(
        rate * (1.0 - rate) * np.expm1(nominal) / (1.0 + rate * np.expm1(nominal))
    )  # expit(logit + nominal) - rate without cancellation
    assert gained == pytest.approx(expit(logit(rate) + nominal) - rate, rel=1e-8)
    if name == "step":
        return gained / float(stated(rate, radius))
    return float(divergence([rate], [gained])[0]) / radius


@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
def test_the_gap_as_a_function_of_the_radius(name: str, rate: float):
    ratio = numeric(RATIOS[name], (p, delta))
    error = [measured(name, rate, radius) - ratio(rate, radius) for radius in (1e-5, 1e-7)]
    assert error[0] / error[1] == pytest.approx(100.0, rel=0.15)  # what is left is O(delta)
    # controls: without the term of order sqrt(delta), and with the other ratio's coefficient
    leading = [measured(name, rate, radius) - 1.0 for radius in (1e-5, 1e-7)]
    assert leading[0] / leading[1] == pytest.approx(10.0, rel=0.15)
    other = numeric(RATIOS["exact" if name == "step" else "step"], (p, delta))
    swapped = [measured(name, rate, radius) - other(rate, radius) for radius in (1e-5, 1e-7)]
    assert swapped[0] / swapped[1] == pytest.approx(10.0, rel=0.15)
