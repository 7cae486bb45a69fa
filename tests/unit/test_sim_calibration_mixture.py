"""The best-fitting population and the simulated one, against closed forms and other algorithms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom

from sim.calibration.mixture import MAX_GAP, Counts, fit, rate_grid
from sim.calibration.smooth import DEFICIT, smooth


def entropy(weight):
    positive = weight[weight > 0.0]
    return float(-(positive * np.log(positive)).sum())


def expectation_maximisation(counts, rate, steps):
    """The classical algorithm for the same optimum: slow, hardly to be got wrong."""
    likelihood = binom.pmf(counts.success_C[:, None], counts.trial_C[:, None], rate)
    weight = np.full(rate.size, 1.0 / rate.size)
    for _ in range(steps):
        weight = weight * (likelihood.T @ (counts.prompts_C / (likelihood @ weight)))
        weight /= counts.prompts
    return float(counts.prompts_C @ np.log(likelihood @ weight)), weight


def random_counts(seed, trials, prompts=400):
    generator = np.random.default_rng(seed)
    trial = generator.choice(trials, prompts)
    return Counts.of(generator.binomial(trial, generator.beta(0.4, 0.7, prompts)), trial)


def test_one_trial_tells_the_mean_alone():
    # with t = 1 the likelihood is that of one coin: N (q log q + (1 - q) log(1 - q))
    best = fit(Counts(np.array([0, 1]), np.array([1, 1]), np.array([30, 70])), rate_grid())
    assert best.log_likelihood == pytest.approx(30 * np.log(0.3) + 70 * np.log(0.7), abs=1e-5)
    assert best.rate_K @ best.weight_K == pytest.approx(0.7, abs=1e-5)


def test_counts_narrower_than_any_mixture_give_one_point():
    # every prompt 1 of 2: Var(s) = 0 is below that of any mixture, so the optimum is p = 1/2
    best = fit(Counts(np.array([1]), np.array([2]), np.array([50])), rate_grid())
    assert best.log_likelihood == pytest.approx(50 * np.log(0.5), abs=1e-5)
    assert best.rate_K @ best.weight_K == pytest.approx(0.5, abs=1e-3)


def test_counts_that_a_mixture_gives_are_fitted_exactly():
    # p uniform on (0, 1): every s of t has chance 1 / (t + 1) (Bayes 1763)
    counts = Counts(np.arange(5), np.full(5, 4), np.full(5, 1000))
    best = fit(counts, rate_grid())
    assert counts.likelihood(best.rate_K) @ best.weight_K == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize("trials", [(4,), (3, 4), tuple(range(2, 12))])
def test_no_other_algorithm_does_better(trials):
    counts = random_counts(1, trials)
    rate = rate_grid(60)
    best = fit(counts, rate)
    other, _ = expectation_maximisation(counts, rate, 3000)
    assert other <= best.log_likelihood + best.gap
    assert best.log_likelihood - other < 0.05  # slow to converge, yet close
    rough, _ = expectation_maximisation(counts, rate, 5)
    assert best.log_likelihood - rough > 0.1  # the control: not everything is close


def test_the_certificate_bounds_what_is_missing():
    # Lindsay 1983: l(best) - l(w) <= N max_k D_k(w), here for weights that are far from optimal
    counts, rate = random_counts(2, (4,)), rate_grid(60)
    likelihood = binom.pmf(counts.success_C[:, None], counts.trial_C[:, None], rate)
    weight = np.full(rate.size, 1.0 / rate.size)
    slope = likelihood.T @ (counts.prompts_C / (likelihood @ weight)) - counts.prompts
    best = fit(counts, rate)
    missing = best.log_likelihood - counts.prompts_C @ np.log(likelihood @ weight)
    assert 1.0 < missing <= slope.max()
    slope = likelihood.T @ (counts.prompts_C / (likelihood @ best.weight_K)) - counts.prompts
    assert slope.max() <= MAX_GAP
    assert np.abs(slope[best.weight_K > 1e-6]).max() < 1e-3  # stationary on its support


def test_the_certificate_is_in_nats_of_all_prompts(monkeypatch):
    monkeypatch.setattr("sim.calibration.mixture.MAX_GAP", 3.0)  # stops early
    counts, rate = random_counts(2, (4,)), rate_grid(60)
    rough = fit(counts, rate)
    likelihood = binom.pmf(counts.success_C[:, None], counts.trial_C[:, None], rate)
    slope = likelihood.T @ (counts.prompts_C / (likelihood @ rough.weight_K)) - counts.prompts
    assert 1e-3 < rough.gap == pytest.approx(slope.max(), rel=1e-6)


def test_the_simulated_population_has_the_largest_entropy_of_those_that_fit():
    counts, rate = random_counts(3, (3,)), rate_grid(18)
    best = fit(counts, rate)
    simulated = smooth(counts, best)
    assert simulated.weight_K.sum() == pytest.approx(1.0)
    assert best.log_likelihood - simulated.log_likelihood == pytest.approx(DEFICIT, abs=0.02)
    # the same problem given to SLSQP in another form
    likelihood = counts.likelihood(rate)
    start = 0.9 * best.weight_K + 0.1 / rate.size
    other = minimize(
        lambda w: float(np.sum(w * np.log(np.maximum(w, 1e-12)))), start, method="SLSQP",
        bounds=[(1e-9, 1.0)] * rate.size, options={"maxiter": 500, "ftol": 1e-10},
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1.0},
            {"type": "ineq", "fun": lambda w: counts.prompts_C @ np.log(likelihood @ w)
             - simulated.log_likelihood},
        ],
    )  # fmt: skip
    assert entropy(simulated.weight_K) == pytest.approx(-other.fun, abs=2e-3)
    assert entropy(simulated.weight_K) > entropy(best.weight_K) + 0.3


def test_a_simulated_population_is_near_the_one_that_made_the_counts():
    generator = np.random.default_rng(4)
    rate = generator.beta(0.4, 0.6, 20_000)
    counts = Counts.of(generator.binomial(8, rate), np.full(rate.size, 8))
    best = fit(counts, rate_grid())
    simulated = smooth(counts, best)
    at = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    true = (rate[:, None] <= at).mean(axis=0)

    def distance(mixture):
        share = [mixture.weight_K[mixture.rate_K <= p].sum() for p in at]
        return float(np.abs(np.array(share) - true).max())

    # no sampling theory here: 8 trials leave much open; the point masses are the control
    assert distance(simulated) < 0.05 < distance(best)
