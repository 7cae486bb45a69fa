"""Coverage and scores of forecasts: against scipy, by hand, and by simulation with a control."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bernoulli, beta, binomtest

from cures.forecast import LEVELS, central_coverage, forecast_scores


@pytest.mark.parametrize("level", [*LEVELS, 0.999])
def test_a_rate_is_covered_iff_it_lies_between_scipys_quantiles(level):
    """Independent route: invert the quantiles instead of reading the chance."""
    dice = np.random.default_rng(0)
    a, b = dice.uniform(0.3, 40.0, (2, 400))
    rate = dice.random(400)
    low, high = beta.interval(level, a, b)
    expected = np.mean((low <= rate) & (rate <= high))
    assert central_coverage(a, b, rate, [level])[0] == expected


def test_a_right_posterior_covers_its_level_and_an_overconfident_one_does_not():
    """Rates from the prior, counts from the rates: coverage is the level exactly, in expectation."""
    dice, size, trial = np.random.default_rng(1), 20_000, 6
    rate = dice.beta(2.0, 1.0, size)
    success = dice.binomial(trial, rate)
    right = central_coverage(2.0 + success, 1.0 + trial - success, rate)
    doubled = central_coverage(2.0 + 2 * success, 1.0 + 2 * (trial - success), rate)
    for level, covered, control in zip(LEVELS, right, doubled, strict=True):
        assert binomtest(round(covered * size), size, level).pvalue > 6e-5  # 4 sigma
        assert binomtest(round(control * size), size, level).pvalue < 6e-5


def test_no_central_interval_holds_certainty():
    assert central_coverage([1.0, 50.0], [50.0, 1.0], [0.0, 1.0], [0.5, 1.0]).tolist() == [0.0, 0.0]


def test_scores_are_those_of_scipy_rollout_by_rollout():
    dice = np.random.default_rng(2)
    rate, trial = dice.uniform(0.01, 0.99, 30), dice.integers(0, 9, 30)
    success = dice.binomial(trial, rate)
    log_loss, brier = forecast_scores(success, trial, rate)
    reward = [np.repeat([1, 0], [s, t - s]) for s, t in zip(success, trial, strict=True)]
    expected = -sum(bernoulli.logpmf(r, p).sum() for r, p in zip(reward, rate, strict=True))
    assert log_loss == pytest.approx(expected, rel=1e-12)
    squares = sum(((r - p) ** 2).sum() for r, p in zip(reward, rate, strict=True))
    assert brier == pytest.approx(squares, rel=1e-12)


def test_the_excess_of_a_forecast_is_its_divergence():
    """10^6 rollouts at .3 forecast as .4: KL(.3 | .4) and (.1)^2, to 4 standard errors."""
    size, p, q = 1_000_000, 0.3, 0.4
    success = int(np.random.default_rng(3).binomial(size, p))
    told, truth = (forecast_scores([success], [size], [rate]) for rate in (q, p))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    spread = np.sqrt(p * (1 - p) / size)
    slope = abs(np.log(p / q) - np.log((1 - p) / (1 - q)))  # of the log-loss difference per reward
    assert abs((told[0] - truth[0]) / size - divergence) < 4 * slope * spread
    assert abs((told[1] - truth[1]) / size - 0.01) < 4 * 2 * (q - p) * spread
    assert abs((told[0] - truth[0]) / size - 2 * divergence) > 4 * slope * spread  # control


def test_certainty_is_free_when_right_and_infinite_when_wrong():
    assert forecast_scores([0, 3], [2, 3], [0.0, 1.0]) == (0.0, 0.0)
    assert forecast_scores([1], [2], [0.0]) == (np.inf, 1.0)
    assert forecast_scores([], [], []) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: central_coverage([], [], []),
            r"central_coverage: alpha_B must be of shape \(B,\)",
        ),
        (lambda: central_coverage([0.0], [1.0], [0.5]), "central_coverage: alpha_B must be in"),
        (lambda: central_coverage([1.0], [1.0], [1.5]), "central_coverage: success_rate_B must be"),
        (lambda: central_coverage([1.0], [1.0], [0.5], [0.0]), "central_coverage: levels must be"),
        (lambda: forecast_scores([3], [2], [0.5]), "forecast_scores: success_B must be <= trial_B"),
        (lambda: forecast_scores([1], [2], [np.nan]), "forecast_scores: success_rate_B must be"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
