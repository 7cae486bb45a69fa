"""Claims 7.11 and 7.12 against `cures.response`: every sequence of visits is a prompt of its own."""

from __future__ import annotations

from copy import deepcopy
from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import comb

import cures.response
from cures.beta_binomial import log_beta_binomial
from cures.response import FIRST_SHARE, FIRST_WEIGHT, LIMIT, MEMORY, Response
from tests.theory_vs_numeric.formulas import formula
from theory import response_odds
from theory.claims import numeric
from theory.posterior import s
from theory.response_odds import (
    count,
    floor,
    level,
    odds,
    right,
    right_1,
    slope,
    visits,
    w,
    w_new,
    wrong,
    wrong_1,
)
from theory.symbols import alpha, beta, n

prediction = numeric(formula(response_odds, "7.11", "prediction"), (s, n, alpha, beta))
steady = numeric(formula(response_odds, "7.11", "steady"), (right, wrong, right_1, wrong_1))
crossing = numeric(formula(response_odds, "7.11", "crossing"), (level, floor, visits))
chance = numeric(formula(response_odds, "7.12", "chance"), (w, odds))
slope_of = numeric(formula(response_odds, "7.12", "slope"), (w, odds))
move = numeric(formula(response_odds, "7.12", "move"), (w, slope, count))
gain = numeric(formula(response_odds, "7.12", "gain"), (w, w_new, count))

PRIOR, STEPS = (0.7, 1.3), (0, 5, 8, 20, 31, 60)  # updates of the visits: ages that differ


def test_chance_of_a_sequence():
    grid = [a.ravel() for a in np.meshgrid(range(5), [4, 9], [0.3, 1.0, 7.5], [0.5, 2.0])]
    np.testing.assert_allclose(np.exp(log_beta_binomial(*grid)), prediction(*grid), rtol=1e-12)


def all_sequences(size):
    """Right answers at every visit, shape (N, V): a row is a prompt."""
    return np.array(list(product(range(size + 1), repeat=len(STEPS))))


def paths(success_N_V, size):
    """The library's log-odds after every visit but the first, shape (N, V - 1)."""
    response, found = Response(len(success_N_V)), []
    everyone = np.arange(len(success_N_V))
    for age, success_N in zip(np.diff(STEPS, prepend=0), success_N_V.T, strict=True):
        sizes, ages = np.full((2, everyone.size), [[size], [age]])
        response.told(everyone, success_N, sizes, prior=PRIOR, age_B=ages)
        found.append(response.log_odds_N.astype(np.float64))
    return np.array(found[1:]).T


def chances(success_N_V, size):
    """Of every sequence under *moving* and under *steady*, visit by visit by the formula, shape (N,)."""
    moving, even = np.ones(len(success_N_V)), np.ones(len(success_N_V))
    a_N, b_N = np.broadcast_to(np.array(PRIOR)[:, None], (2, len(success_N_V)))
    right_N = np.zeros(len(success_N_V))
    for visit, success_N in enumerate(success_N_V.T):
        orders = comb(size, success_N)
        moving = moving * orders * prediction(success_N, size, a_N, b_N)
        seen = visit * size
        even = even * orders * prediction(success_N, size, 1 + right_N, 1 + seen - right_N)
        right_N = right_N + success_N
        if visit + 1 < len(STEPS):
            kept = np.exp(-(STEPS[visit + 1] - STEPS[visit]) / MEMORY)
            a_N, b_N = PRIOR[0] + kept * success_N, PRIOR[1] + kept * (size - success_N)
    return moving, even


@pytest.mark.parametrize("size", [2, 4])
def test_odds_are_one_function_of_all_counts_over_the_predictions_of_moving(size):
    success = all_sequences(size)
    log_odds = paths(success, size)
    inner = np.abs(log_odds).max(axis=1) < LIMIT  # of the others the path was cut
    assert inner.mean() > 0.95
    moving, _ = chances(success, size)
    first = comb(size, success[:, 0]) * prediction(success[:, 0], size, *PRIOR)
    all_right = success.sum(axis=1)
    whole = steady(
        all_right, size * len(STEPS) - all_right, success[:, 0], size - success[:, 0]
    ) * comb(size, success[:, 1:]).prod(axis=1)
    expected = np.log(whole / (moving / first))
    # kept in single precision: every visit rounds a number below 8 by at most 2^-22
    most = len(STEPS) * 2.0**-22
    np.testing.assert_allclose(log_odds[inner, -1], expected[inner], rtol=0, atol=most)


def test_odds_are_a_martingale_under_moving_and_seldom_large(monkeypatch):
    monkeypatch.setattr(cures.response, "LIMIT", 50.0)  # nothing is cut
    size, more = 4, len(STEPS) - 1
    success = all_sequences(size)
    path = np.exp(paths(success, size))
    moving, even = chances(success, size)
    assert moving.sum() == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(moving @ path, 1.0, rtol=1e-7)  # single precision
    assert even @ path[:, -1] > 2.0  # control: under *steady* they grow
    for k in (1.2, 1.5, 2.0, 3.0, 9.0):
        assert 0.0 < moving @ (path.max(axis=1) >= k) <= crossing(k, 0.0, more)
    # control: those of steady prompts get there more often than that
    assert even @ (path.max(axis=1) >= 1.5) > 1.05 * crossing(1.5, 0.0, more)


def test_a_floor_adds_at_most_itself_per_visit(monkeypatch):
    size, low, more = 4, 0.25, len(STEPS) - 1
    monkeypatch.setattr(cures.response, "LIMIT", -np.log(low))
    success = all_sequences(size)
    path = np.exp(paths(success, size))
    moving, even = chances(success, size)
    assert moving @ (path.min(axis=1) <= low * (1 + 1e-12)) > 0.2  # many came to the floor
    for k in (2.5, 3.0, 4.0):  # up to the ceiling, 1 / low
        assert 0.0 < moving @ (path.max(axis=1) >= k * (1 - 1e-12)) <= crossing(k, low, more) < 1.0
    # control: even so, steady prompts come above 3 more often than moving ones
    assert even @ (path.max(axis=1) >= 3.0) > 4 * moving @ (path.max(axis=1) >= 3.0)


def pool(seed):
    """Prompts of middling rates with odds of all kinds."""
    rng = np.random.default_rng(seed)
    size = 60
    response = Response(size)
    response.told(
        np.arange(size), np.full(size, 4), np.full(size, 8), prior=PRIOR, age_B=np.zeros(size)
    )
    response.log_odds_N[:] = rng.normal(rng.normal(), 2.0, size).clip(-LIMIT, LIMIT)
    return response


def likelihood(share, odds_N):
    """Logarithm, with the pseudo-counts of the library."""
    imagined = FIRST_SHARE * FIRST_WEIGHT, (1.0 - FIRST_SHARE) * FIRST_WEIGHT
    mixed = np.log1p(share * (odds_N - 1.0)).sum()
    return mixed + imagined[0] * np.log(share) + imagined[1] * np.log1p(-share)


@pytest.mark.parametrize("seed", range(4))
def test_em_raises_the_likelihood_as_claimed_up_to_its_maximum(seed):
    response = pool(seed)
    odds_N = np.exp(response.log_odds_N.astype(np.float64))
    total = odds_N.size + FIRST_WEIGHT
    imagined = FIRST_SHARE * FIRST_WEIGHT, (1.0 - FIRST_SHARE) * FIRST_WEIGHT
    for _ in range(20):
        old = deepcopy(response)
        response.updated()
        np.testing.assert_allclose(old.prob_steady(), chance(old.share, odds_N), rtol=1e-12)
        slopes = slope_of(old.share, odds_N).sum()
        slopes += imagined[0] / old.share - imagined[1] / (1.0 - old.share)
        expected = move(old.share, slopes, total)
        assert response.share - old.share == pytest.approx(expected, rel=1e-10, abs=1e-14)
        raised = likelihood(response.share, odds_N) - likelihood(old.share, odds_N)
        least = float(gain(old.share, response.share, total))
        assert raised >= least - 1e-12
        assert least >= -1e-14
    for _ in range(500):
        response.updated()
    best = minimize_scalar(
        lambda x: -likelihood(x, odds_N), bounds=(1e-3, 1 - 1e-3), options={"xatol": 1e-10},
        method="bounded",
    )  # fmt: skip
    assert response.share == pytest.approx(best.x, abs=1e-6)
    # control: away from the maximum the likelihood is lower
    assert likelihood(response.share, odds_N) > likelihood(0.9 * response.share, odds_N) + 1e-6


def test_a_step_that_is_cut_off_does_not_lower_either():
    """All but surely moving, fifty thousand of them: the share is cut off at its lower end."""
    response = Response(50_000)
    everyone = np.arange(50_000)
    response.told(
        everyone, np.full(50_000, 4), np.full(50_000, 8), prior=PRIOR, age_B=np.zeros(50_000)
    )
    response.log_odds_N[:] = -LIMIT
    odds_N = np.exp(response.log_odds_N.astype(np.float64))
    for _ in range(3):
        old = deepcopy(response)
        response.updated()
        assert likelihood(response.share, odds_N) >= likelihood(old.share, odds_N)
    assert response.share == cures.response.STEADY[0]
