"""The sampling distribution and the draws: worked values, frequencies, extremes, refused input."""

import math
from collections import Counter

import mpmath
import numpy as np
import pytest
from scipy import stats

from cures.sampling import (
    draw_with_replacement,
    draw_without_replacement,
    effective_sample_size,
    inclusion_probability,
    order_free_sum,
    sampling_distribution,
    temperature_for_effective_size,
)

FOUR_SIGMA = 2 * stats.norm.sf(4.0)  # two-sided tail beyond 4 standard deviations
POTENTIAL = np.array([0.5, 0.48, 0.4, 0.3, 0.3, 0.1, 0.0])
UNEQUAL = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04, 0.0])  # the first is capped for 3 draws


def test_distribution_equals_eq_14_in_50_digits():
    with mpmath.workdps(50):
        weights = [mpmath.exp(mpmath.mpf(float(u)) / mpmath.mpf(0.05)) for u in POTENTIAL]
        expected = [float(w / mpmath.fsum(weights)) for w in weights]
    np.testing.assert_allclose(sampling_distribution(POTENTIAL, 0.05), expected, rtol=2e-15)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-3, 1.0, 1e300, 1.7e308])
@pytest.mark.parametrize("potential", [POTENTIAL, -POTENTIAL, 8e307 * (2 * POTENTIAL - 1), [0.0]])
def test_no_temperature_overflows(potential, temperature):
    with np.errstate(all="raise"):
        prob = sampling_distribution(potential, temperature)
    assert (prob >= 0).all()
    assert prob.sum() == pytest.approx(1.0, abs=1e-15)


def test_limits_are_the_shared_maximum_and_the_uniform_law():
    cold = sampling_distribution([0.2, 0.5, 0.5, 0.1], 1e-300)
    assert cold.tolist() == [0.0, 0.5, 0.5, 0.0]
    np.testing.assert_allclose(sampling_distribution(POTENTIAL, 1e300), 1 / 7, rtol=1e-15)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_temperature_must_be_positive(bad):
    with pytest.raises(ValueError, match=r"temperature must be a float in \(0.0, inf"):
        sampling_distribution(POTENTIAL, bad)


@pytest.mark.parametrize("bad", [[], [np.nan], [np.inf], [[0.5]]])
def test_potentials_must_be_finite_and_not_empty(bad):
    with pytest.raises(ValueError, match="sampling_distribution: potential must be"):
        sampling_distribution(bad, 1.0)


@pytest.mark.parametrize("size", [1, 10, 1000, 100_000])
def test_order_free_sum_is_accurate_and_ignores_the_order(size):
    generator = np.random.default_rng(size)
    value = generator.random(size) ** 30
    total = order_free_sum(value)
    assert total == pytest.approx(math.fsum(value), rel=4e-16)  # fsum is correctly rounded
    assert all(order_free_sum(generator.permutation(value)) == total for _ in range(20))


def test_negative_control_plain_sums_depend_on_the_order():
    generator = np.random.default_rng(0)
    value = generator.random(1000) ** 30
    assert len({float(generator.permutation(value).sum()) for _ in range(20)}) > 1


def test_effective_sample_size_of_known_laws():
    assert effective_sample_size([1.0, 0.0]) == 1.0
    assert effective_sample_size(np.full(7, 1 / 7)) == pytest.approx(7.0, rel=1e-15)
    assert effective_sample_size([0.5, 0.25, 0.25]) == pytest.approx(8 / 3, rel=1e-15)
    with pytest.raises(
        ValueError, match=r"prob_N must be a distribution that sums to 1, got sum 0.75$"
    ):
        effective_sample_size([0.5, 0.25])


@pytest.mark.parametrize("size", [2, 2.001, 3, 50, 100.5, 399, 399.999, 400])
def test_temperature_reaches_the_effective_size_asked_for(size):
    potential = np.random.default_rng(5).random(400) * 0.4
    potential[[7, 9]] = 0.5  # two maximisers
    tau = temperature_for_effective_size(potential, size)
    reached = effective_sample_size(sampling_distribution(potential, tau))
    assert reached == pytest.approx(size, rel=1e-10)


def test_temperature_handles_near_ties_and_wide_scales():
    for potential in ([1.0, 1.0 - 2.0**-53, 0.0], [1e300, 0.0, -1e300], [1e-300, 0.0, 2e-300]):
        tau = temperature_for_effective_size(potential, 1.5)
        reached = effective_sample_size(sampling_distribution(potential, tau))
        assert reached == pytest.approx(1.5, rel=1e-9)


def test_temperature_range_is_named_and_ties_give_one():
    with pytest.raises(ValueError, match=r"size must be a float in \[2, 3\], got 1.5"):
        temperature_for_effective_size([0.5, 0.5, 0.1], 1.5)
    assert temperature_for_effective_size([0.5, 0.5], 2) == 1.0


def with_replacement_p_value(prob, temperature):
    """Chi-square p value of 40000 draws from ``prob`` against Eq. 14 at ``temperature``."""
    prompt, draw = draw_with_replacement(prob, 40_000, np.random.default_rng(11))
    observed = np.bincount(prompt, weights=draw, minlength=prob.size)
    return stats.chisquare(observed, 40_000 * sampling_distribution(POTENTIAL, temperature)).pvalue


def test_draws_with_replacement_follow_eq_14():
    assert with_replacement_p_value(sampling_distribution(POTENTIAL, 0.2), 0.2) > FOUR_SIGMA


def test_negative_control_another_temperature_is_noticed():
    assert with_replacement_p_value(sampling_distribution(POTENTIAL, 0.2), 0.23) < FOUR_SIGMA


def test_draws_with_replacement_are_distinct_ascending_and_counted():
    prob = sampling_distribution(np.random.default_rng(0).random(1000), 0.3)
    prompt, draw = draw_with_replacement(prob, 5000, np.random.default_rng(1))
    assert prompt.dtype == draw.dtype == np.int64
    assert (np.diff(prompt) > 0).all()
    assert draw.min() >= 1
    assert draw.sum() == 5000


class LastUniform:
    """A generator whose uniforms are the smallest and the largest that numpy can return."""

    def random(self, size):
        return np.resize([0.0, 1.0 - 2.0**-53], size)


@pytest.mark.parametrize("scale", [1.0, 1.0 - 5e-10, 1.0 + 5e-10])
def test_prompts_without_probability_are_never_drawn_even_at_the_ends(scale):
    prob = np.array([0.0, 0.3, 0.0, 0.7, 0.0, 0.0]) * scale
    prompt, draw = draw_with_replacement(prob, 4, LastUniform())
    assert prompt.tolist() == [1, 3]
    assert draw.tolist() == [2, 2]


def test_inclusion_probabilities_of_a_worked_example():
    # 3 draws: 3 * .4 > 1, so the first is certain; the others share 2 in proportion .25 : ... of .6
    pi = inclusion_probability(UNEQUAL, 3)
    np.testing.assert_allclose(pi, [1.0, 5 / 6, 0.5, 1 / 3, 0.2, 2 / 15, 0.0], rtol=1e-15)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 5.0, 40.0, 300.0])
def test_inclusion_probabilities_sum_to_the_size_for_any_inequality(exponent):
    prob = np.random.default_rng(2).random(500) ** exponent
    prob[::7] = 0.0
    prob /= prob.sum()
    positive = np.count_nonzero(prob)
    for size in (1, 2, 17, positive - 1, positive):
        pi = inclusion_probability(prob, size)
        assert math.fsum(pi) == pytest.approx(size, rel=1e-12)
        assert ((pi > 0) == (prob > 0)).all()
        assert pi.max() <= 1.0
        free = (pi < 1.0) & (
            pi > 0.0
        )  # one factor c for all that are not capped, and it caps the rest
        if (prob[free] > 1e-290).any():
            normal = prob[free] > 1e-290  # below, a subnormal probability has too few bits
            factor = pi[free][normal] / prob[free][normal]
            assert np.ptp(factor) <= 1e-12 * factor.max()
            assert (factor.max() * prob[pi == 1.0] >= 1.0 - 1e-9).all()


def test_inclusion_size_must_fit_the_prompts_with_positive_probability():
    message = r"size \(of 6 prompts with positive probability\) must be an int in \[1, 6\], got 7"
    with pytest.raises(ValueError, match=message):
        inclusion_probability(UNEQUAL, 7)
    with pytest.raises(ValueError, match="prob_N must be a distribution"):
        inclusion_probability(UNEQUAL / 2, 2)


def largest_z(draw_once, repeats=20_000):
    """Largest deviation of the inclusion frequencies of ``UNEQUAL``, 3 draws, in sigmas."""
    generator = np.random.default_rng(21)
    count = np.zeros(UNEQUAL.size)
    for _ in range(repeats):
        count[draw_once(generator)] += 1
    pi = inclusion_probability(UNEQUAL, 3)
    spread = np.sqrt(repeats * pi * (1 - pi))
    return np.max(np.abs(count - repeats * pi)[spread > 0] / spread[spread > 0])


def naive_draw(generator):
    return generator.choice(UNEQUAL.size, 3, replace=False, p=UNEQUAL)


def test_inclusion_frequencies_lie_within_four_sigma():
    pi = inclusion_probability(UNEQUAL, 3)
    assert largest_z(lambda generator: draw_without_replacement(pi, generator)) < 4.0
    drawn = [draw_without_replacement(pi, np.random.default_rng(seed)) for seed in range(200)]
    assert all(0 in prompt and 6 not in prompt for prompt in drawn)  # certain and impossible


def test_negative_control_successive_draws_have_other_inclusion_probabilities():
    assert largest_z(naive_draw) > 4.0


def systematic_in_given_order(pi, generator):
    cumulative = np.cumsum(pi)
    point = np.arange(round(cumulative[-1])) + generator.random()
    return np.searchsorted(cumulative, point, side="right")


def relabelled_p_value(draw):
    """Homogeneity of the drawn sets between two numberings of the same prompts."""
    pi = inclusion_probability(UNEQUAL[:6], 3)
    order = np.array([3, 0, 5, 1, 4, 2])
    generator = np.random.default_rng(31)
    plain = Counter(tuple(sorted(draw(pi, generator))) for _ in range(10_000))
    mapped = Counter(tuple(sorted(order[draw(pi[order], generator)])) for _ in range(10_000))
    sets = [s for s in plain | mapped if plain[s] + mapped[s] >= 10]
    table = [[counter[s] for s in sets] for counter in (plain, mapped)]
    return stats.chi2_contingency(table).pvalue


def test_numbering_of_prompts_does_not_change_the_law_of_the_drawn_set():
    assert relabelled_p_value(draw_without_replacement) > FOUR_SIGMA


def test_negative_control_systematic_sampling_in_given_order_depends_on_the_numbering():
    assert relabelled_p_value(systematic_in_given_order) < FOUR_SIGMA


def test_probabilities_within_rounding_of_one_still_give_distinct_prompts():
    nearly = np.full(1001, np.nextafter(1.0, 0.0))
    nearly[500] = 1000 * 2.0**-53  # the sum is exactly 1000
    generator = np.random.default_rng(41)
    for _ in range(300):
        drawn = draw_without_replacement(nearly, generator)
        assert drawn.size == np.unique(drawn).size == 1000


class ZeroUniform:
    """A generator that leaves the order alone and puts the first point at 0."""

    def shuffle(self, array):
        pass

    def random(self):
        return 0.0


def test_two_points_in_one_interval_by_rounding_still_give_distinct_prompts():
    # The sum lies 1e-12 below 5, so points are 1 - 2e-13 apart and two of them fall on prompt 0.
    inclusion = np.array([np.nextafter(1.0, 0.0)] * 4 + [1.0 - 1e-12])
    assert (np.arange(5) * inclusion.sum() / 5 < inclusion[0]).sum() == 2  # what must be repaired
    assert draw_without_replacement(inclusion, ZeroUniform()).tolist() == [0, 1, 2, 3, 4]


def test_drawn_sets_have_exactly_the_size_for_large_pools():
    generator = np.random.default_rng(51)
    prob = sampling_distribution(generator.random(20_000), 0.05)
    for size in (1, 64, 1024, 5000, 20_000):
        drawn = draw_without_replacement(inclusion_probability(prob, size), generator)
        assert (np.diff(drawn) > 0).all()
        assert drawn.size == size
        assert drawn.dtype == np.int64


def test_inclusion_probabilities_must_add_up_to_a_whole_number():
    with pytest.raises(ValueError, match=r"inclusion_N must be of a sum .*, got sum 0.75$"):
        draw_without_replacement([0.5, 0.25], np.random.default_rng(0))
    with pytest.raises(ValueError, match="inclusion_N must be in"):
        draw_without_replacement([1.5, 0.5], np.random.default_rng(0))
    assert draw_without_replacement([0.0, 0.0], np.random.default_rng(0)).size == 0
