"""Intervals over all populations that fit, and why a bootstrap is too narrow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import binom, binomtest

from sim.calibration.bootstrap import bootstrap_intervals
from sim.calibration.compatible import compatible_intervals, confidence_region
from sim.calibration.mixture import Counts, rate_grid
from sim.calibration.quantities import quantities_of, share_below
from tests.calibration_cases import LEGENDRE, LOBATTO

GRID = rate_grid()
GROUP = 8


def law_of_counts(population, trials):
    rate, weight = population
    return binom.pmf(np.arange(trials + 1)[:, None], trials, rate) @ weight


def truth(population):
    rate, weight = population
    return np.array([quantity.value_K @ weight for quantity in quantities_of(rate, GROUP)])


def counts_of(number, trials=4):
    number = np.asarray(number, dtype=np.int64)
    seen = number > 0
    return Counts(np.arange(trials + 1)[seen], np.full(seen.sum(), trials), number[seen])


def test_two_populations_that_pilots_cannot_tell_apart():
    # exact on polynomials of degree 5, as the uniform law, which gives 1 / (t + 1) for every count
    for trials in range(1, 6):
        for population in (LEGENDRE, LOBATTO):
            assert law_of_counts(population, trials) == pytest.approx(1.0 / (trials + 1))
    apart = law_of_counts(LEGENDRE, 6) - law_of_counts(LOBATTO, 6)
    assert np.abs(apart).max() > 1e-3  # the control: six trials can
    # E sqrt(p (1 - p)) by hand: 10/18 sqrt(.1) + 8/18 / 2 and 10/12 sqrt(.2)
    assert truth(LEGENDRE)[3] == pytest.approx(10 / 18 * np.sqrt(0.1) + 4 / 18)
    assert truth(LOBATTO)[3] == pytest.approx(10 / 12 * np.sqrt(0.2))


def test_the_bootstrap_is_too_narrow_and_the_range_is_not():
    # 4 pilots of 200 000 prompts of either population: the same law of counts, here its expectation
    counts = counts_of([40_000] * 5)
    quantities = quantities_of(GRID, GROUP)
    both = np.array([truth(LEGENDRE), truth(LOBATTO)])
    low, high = compatible_intervals(confidence_region(counts, GRID), quantities).T
    assert (low <= both).all()
    assert (both <= high).all()
    low, high = bootstrap_intervals(counts, GRID, quantities, draws=60, seed=0).T
    covers_both = ((low <= both) & (both <= high)).all(axis=0)
    names = [quantity.name for quantity in quantities]
    for name in ("below_0.05", "above_0.95", "reward_std"):
        assert not covers_both[names.index(name)], name
    assert covers_both[names.index("mean")]  # what 4 pilots do identify


def test_with_endless_prompts_the_range_is_that_of_the_moments():
    # written down independently: all populations on the grid with the moments of the uniform law
    # up to degree 4, 1 / (k + 1)
    powers = GRID ** np.arange(5)[:, None]
    moments = 1.0 / np.arange(1, 6)
    region = confidence_region(counts_of([10**12] * 5), GRID)
    for quantity in quantities_of(GRID, GROUP)[3:5]:
        exact = [
            sign * linprog(sign * quantity.value_K, A_eq=powers, b_eq=moments, bounds=(0, 1)).fun
            for sign in (1.0, -1.0)
        ]
        found = compatible_intervals(region, [quantity])[0]
        assert found == pytest.approx(exact, abs=2e-4)
        assert exact[1] - exact[0] > 0.01  # not a point: 4 moments do not tell it


def test_limits_are_clopper_and_pearsons():
    number = np.array([30, 0, 50, 20, 100])
    region = confidence_region(counts_of(number), GRID, confidence=0.9)
    # 5 cells, and the tails "at least 2" and "at least 3"; the others are cells or complements
    events = [*number, number[2:].sum(), number[3:].sum()]
    level = 1.0 - 0.1 / len(events)
    for low, high, count in zip(region.low_E, region.high_E, events, strict=True):
        expected = binomtest(int(count), 200).proportion_ci(level, "exact")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    cell = binom.pmf(np.arange(5)[:, None], 4, GRID)
    assert region.event_E_K == pytest.approx(np.vstack([cell, cell[2:].sum(0), cell[3:].sum(0)]))


def test_where_a_share_jumps_mass_may_lie_on_either_side():
    # all prompts at 1/4: below it as close as one likes, so the share at or below 1/4 starts at 0
    at_most = share_below(np.array([0.0, 0.25, 1.0]), 0.25)
    assert at_most.lowest_K.tolist() == [1.0, 0.0, 0.0]
    assert at_most.value_K.tolist() == at_most.highest_K.tolist() == [1.0, 1.0, 0.0]
    below, above = quantities_of(np.array([0.0, 0.05, 0.95, 1.0]), 2)[1:3]
    assert below.lowest_K.tolist() == below.value_K.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert below.highest_K.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert above.lowest_K.tolist() == above.value_K.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert above.highest_K.tolist() == [0.0, 0.0, 1.0, 1.0]


def test_classes_of_trials_share_the_allowed_error_by_size():
    counts = Counts(np.array([0, 1, 0, 1]), np.array([1, 1, 2, 2]), np.array([60, 30, 5, 5]))
    region = confidence_region(counts, GRID, confidence=0.95)
    expected = binomtest(60, 90).proportion_ci(1.0 - 0.05 * 0.9 / 2, "exact")  # 90 of 100, 2 events
    assert region.low_E[0] == pytest.approx(expected.low, abs=1e-9)


@pytest.mark.parametrize(("confidence", "enough"), [(0.95, True), (0.05, False)])
def test_the_truth_lies_in_the_region_as_often_as_promised(confidence, enough):
    generator, runs = np.random.default_rng(5), 400
    chance = law_of_counts(LOBATTO, 4)
    hits = 0
    for _ in range(runs):
        number = generator.multinomial(300, chance)
        region = confidence_region(counts_of(number), LOBATTO[0], confidence)
        share = region.event_E_K @ LOBATTO[1]
        hits += bool(((region.low_E <= share) & (share <= region.high_E)).all())
    # at least 95 %, less 4 standard errors of 400 runs; the control promises 5 %
    assert (hits / runs >= 0.95 - 4.0 * np.sqrt(0.95 * 0.05 / runs)) == enough


def test_a_finer_grid_changes_nothing_that_is_shown():
    counts = counts_of([120, 60, 40, 50, 130])
    ends = []
    for intervals in (400, 1600):
        grid = rate_grid(intervals)
        region = confidence_region(counts, grid)
        ends.append(compatible_intervals(region, quantities_of(grid, GROUP)))
    assert np.abs(ends[0] - ends[1]).max() < 5e-4


def test_many_trials_are_binned_and_still_cover():
    generator = np.random.default_rng(6)
    rate = generator.beta(0.5, 0.5, 2000)
    counts = Counts.of(generator.binomial(200, rate), np.full(rate.size, 200))
    region = confidence_region(counts, GRID)
    assert len(region.low_E) < 60
    bounds = compatible_intervals(region, [*quantities_of(GRID, GROUP), share_below(GRID, 0.5)])
    # Beta(1/2, 1/2): mean 1/2; share at or below x: 2/pi arcsin(sqrt x); E sqrt(p(1-p)) = 1/pi
    at_5 = 2.0 / np.pi * np.arcsin(np.sqrt(0.05))
    for (low, high), expected in zip(
        bounds[[0, 1, 2, 3, 6]], [0.5, at_5, at_5, 1.0 / np.pi, 0.5], strict=True
    ):
        assert low <= expected <= high
        assert high - low < 0.21


def test_counts_of_no_mixture_are_refused():
    # 1000 prompts with exactly 2 of 4: no binomial does that, the likeliest gives 3/8
    with pytest.raises(ValueError, match="no population of success rates gives these"):
        compatible_intervals(
            confidence_region(counts_of([0, 0, 1000, 0, 0]), GRID), quantities_of(GRID, GROUP)
        )
