"""Chapter 3 against `cures.sampling` and `cures.potential`, to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from cures import (
    effective_sample_size,
    potential,
    sampling_distribution,
    temperature_for_effective_size,
)
from tests.theory_vs_numeric.formulas import formula
from theory import effective_size, sampling, temperature
from theory.claims import numeric
from theory.effective_size import Z_half, gap, mean_u_half, rest, size, top
from theory.sampling import Z, rho, share_, tau, u
from theory.symbols import alpha, delta, p
from theory.temperature import mean_u, pool

RATES = np.random.default_rng(0).uniform(0.001, 0.999, 40)
TEMPERATURES = [0.02, 0.1, 0.3, 1.0, 10.0]

share = numeric(formula(sampling, "3.1", "share"), (p, tau, Z))
price_to_temperature = numeric(formula(sampling, "3.1", "temperature"), (alpha, delta))
optimum = numeric(formula(sampling, "3.2", "value"), (alpha, Z))
loss = numeric(formula(sampling, "3.2", "loss"), (alpha, rho, share_))
share_of_best = numeric(formula(temperature, "3.3", "best"), (top, rest, gap, tau))
hot_share = numeric(formula(temperature, "3.3", "hot"), (u, mean_u, pool, tau))
floor = numeric(formula(temperature, "3.6", "floor"), tau)
worst_share = numeric(formula(temperature, "3.6", "worst"), tau)
size_of = numeric(formula(effective_size, "3.4", "size"), (Z, Z_half))
slope = numeric(formula(effective_size, "3.4", "slope"), (mean_u, mean_u_half, tau))
two_level_size = numeric(formula(effective_size, "3.5", "size"), (top, rest, gap, tau))
two_level_temperature = numeric(
    formula(effective_size, "3.5", "temperature"), (top, rest, gap, size)
)


def normaliser(potential_N: np.ndarray, t: float) -> float:
    return float(np.exp(potential_N / t).sum())


def two_levels(best: int, others: int, distance: float) -> np.ndarray:
    return np.array([0.5] * best + [0.5 - distance] * others)


# -- claims 3.1 and 3.2 ------------------------------------------------------------------------------


@pytest.mark.parametrize("t", TEMPERATURES)
def test_the_distribution_of_the_library_is_the_claimed_optimum(t: float):
    found = sampling_distribution(potential(RATES), t)
    expected = share(RATES, t, normaliser(potential(RATES), t))
    assert found == pytest.approx(expected, rel=1e-12)


def test_negative_control_variance_in_place_of_its_root():
    wrong = sampling_distribution(RATES * (1 - RATES), 0.1)
    expected = share(RATES, 0.1, normaliser(potential(RATES), 0.1))
    assert wrong != pytest.approx(expected, rel=0.1)


def objective(rho_N: np.ndarray, price: float, radius: float) -> float:
    """Eq. 13 from its definition."""
    return float(np.sqrt(2 * radius) * rho_N @ potential(RATES) - price * rho_N @ np.log(rho_N))


@pytest.mark.parametrize(
    ("price", "radius"), [(0.01, 0.005), (0.1, 0.1), (1.0, 0.01), (0.05, 1e-3)]
)
def test_no_distribution_exceeds_the_optimum_and_the_loss_is_exact(price: float, radius: float):
    best_N = sampling_distribution(potential(RATES), price_to_temperature(price, radius))
    value = optimum(price, normaliser(np.sqrt(2 * radius) * potential(RATES), price))
    assert objective(best_N, price, radius) == pytest.approx(value, rel=1e-12)
    other_N = np.random.default_rng(1).dirichlet(np.ones(RATES.size))
    lost = loss(price, other_N, best_N).sum()
    assert lost > 0.0
    assert objective(other_N, price, radius) == pytest.approx(value - lost, rel=1e-12)
    reversed_divergence = loss(price, best_N, other_N).sum()  # negative control
    assert objective(other_N, price, radius) != pytest.approx(value - reversed_divergence, rel=1e-3)


# -- claims 3.3 and 3.6 ------------------------------------------------------------------------------


@pytest.mark.parametrize(("best", "others"), [(1, 1), (1, 30), (7, 2), (20, 500)])
@pytest.mark.parametrize("distance", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("t", TEMPERATURES)
def test_share_of_the_best_prompts(best: int, others: int, distance: float, t: float):
    found = sampling_distribution(two_levels(best, others, distance), t)[:best].sum()
    assert found == pytest.approx(share_of_best(best, others, distance, t), rel=1e-12)


def test_other_prompts_further_below_only_help_the_best():
    prob_N = sampling_distribution([0.5, 0.5, 0.4, 0.1, 0.0], 0.2)
    assert prob_N[:2].sum() > share_of_best(2, 3, 0.1, 0.2)
    assert prob_N[:2].sum() < share_of_best(2, 3, 0.4, 0.2)  # negative control: not all are so far


def test_hot_sampling_differs_from_its_first_order_by_the_second():
    potential_N = potential(RATES)

    def errors(t: float) -> tuple[float, float]:
        prob_N = sampling_distribution(potential_N, t)
        first = hot_share(potential_N, potential_N.mean(), RATES.size, t)
        return float(np.abs(prob_N - first).max()), float(np.abs(prob_N - 1 / RATES.size).max())

    (near, near_uniform), (far, far_uniform) = errors(10.0), errors(100.0)
    assert near / far == pytest.approx(100.0, rel=0.05)  # of order 1 / tau^2
    assert near_uniform / far_uniform == pytest.approx(10.0, rel=0.05)  # negative control: 1 / tau


@pytest.mark.parametrize("t", TEMPERATURES)
def test_no_pool_has_a_smaller_size_than_the_floor(t: float):
    rng = np.random.default_rng(2)
    for count in (2, 5, 50):
        rate_N = rng.beta(0.3, 0.3, count)
        assert effective_sample_size(sampling_distribution(potential(rate_N), t)) / count >= floor(
            t
        )


@pytest.mark.parametrize("others", [1, 2, 9, 99])
def test_the_worst_pool_attains_the_floor(others: int):
    # worst / (1 - worst) = exp(-1 / (2 tau)): one prompt at 1/2 in 1 + others
    t = 1 / (2 * np.log(others)) if others > 1 else 1e12
    rate_N = np.array([0.5] + [0.0] * others)
    found = effective_sample_size(sampling_distribution(potential(rate_N), t)) / (1 + others)
    assert found == pytest.approx(floor(t), rel=1e-12)
    assert worst_share(t) == pytest.approx(1 / (1 + others), rel=1e-12)
    if others > 1:  # negative control: two such prompts
        more = np.array([0.5, 0.5] + [0.0] * (others - 1))
        better = effective_sample_size(sampling_distribution(potential(more), t)) / (1 + others)
        assert better > floor(t) * 1.01


# -- claims 3.4 and 3.5 ------------------------------------------------------------------------------


@pytest.mark.parametrize("t", TEMPERATURES)
def test_effective_sample_size_and_its_slope(t: float):
    potential_N = potential(RATES)

    def log_size(at: float) -> float:
        return float(np.log(effective_sample_size(sampling_distribution(potential_N, at))))

    expected = size_of(normaliser(potential_N, t), normaliser(potential_N, t / 2))
    assert log_size(t) == pytest.approx(np.log(expected), rel=1e-12)
    means = [potential_N @ sampling_distribution(potential_N, at) for at in (t, t / 2)]
    h = 1e-4 * t  # differences of fourth order: error about h^4 and rounding over h
    difference = 8 * (log_size(t + h) - log_size(t - h)) - (
        log_size(t + 2 * h) - log_size(t - 2 * h)
    )
    assert slope(*means, t) == pytest.approx(difference / (12 * h), rel=1e-8)
    assert slope(*means, t) > 0.0
    assert slope(means[1], means[0], t) < 0.0  # negative control


@pytest.mark.parametrize(("best", "others"), [(1, 1), (1, 30), (7, 2), (20, 500)])
@pytest.mark.parametrize("distance", [0.01, 0.2, 0.5])
def test_temperature_for_a_size_in_closed_form(best: int, others: int, distance: float):
    potential_N = two_levels(best, others, distance)
    distance = float(potential_N[0] - potential_N[-1])  # as rounded
    for fraction in (0.1, 0.5, 0.9):
        target = best + fraction * others
        t = temperature_for_effective_size(potential_N, target)
        assert t == pytest.approx(two_level_temperature(best, others, distance, target), rel=1e-12)
        found = effective_sample_size(sampling_distribution(potential_N, t))
        assert found == pytest.approx(two_level_size(best, others, distance, t), rel=1e-12)
        wrong = two_level_temperature(best, others, distance, target + 0.05 * others)
        assert t != pytest.approx(wrong, rel=0.01)  # negative control: a size beside it


def test_every_size_belongs_to_one_temperature():
    gap_N = potential(RATES) - potential(RATES).max()  # shifted: the same shares, and no overflow

    def reached(t: float) -> float:
        return float(size_of(normaliser(gap_N, t), normaliser(gap_N, t / 2)))

    for target in (1.5, 10.0, 39.0):
        t = temperature_for_effective_size(potential(RATES), target)
        assert reached(t) == pytest.approx(target, rel=1e-12)
        for wrong in (0.9 * t, 1.1 * t):  # negative control
            assert reached(wrong) != pytest.approx(target, rel=1e-3)
