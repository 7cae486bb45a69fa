"""Laws that the sampling distribution and the draws obey for any potentials."""

import math

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cures.sampling import (
    draw_with_replacement,
    draw_without_replacement,
    effective_sample_size,
    inclusion_probability,
    sampling_distribution,
    temperature_for_effective_size,
)

potentials = arrays(np.float64, st.integers(1, 40), elements=st.floats(0.0, 0.5))
temperatures = st.floats(1e-300, 1e300)
warm = st.floats(1e-3, 10.0)
seeds = st.integers(0, 2**32 - 1)


@given(potential=potentials, temperature=temperatures)
def test_it_is_a_distribution_that_never_prefers_a_smaller_potential(potential, temperature):
    prob = sampling_distribution(potential, temperature)
    assert (prob >= 0).all()
    assert abs(math.fsum(prob) - 1.0) < 1e-14
    order = np.argsort(potential)
    assert (np.diff(prob[order]) >= 0).all()
    assert 1.0 - 1e-12 <= effective_sample_size(prob) <= potential.size * (1 + 1e-12)


@given(potential=potentials, temperature=temperatures, seed=seeds)
def test_renumbering_prompts_changes_no_bit(potential, temperature, seed):
    order = np.random.default_rng(seed).permutation(potential.size)
    prob = sampling_distribution(potential, temperature)
    renumbered = sampling_distribution(potential[order], temperature)
    assert renumbered.tobytes() == prob[order].tobytes()
    size = 1 + np.count_nonzero(prob) // 2
    inclusion = inclusion_probability(prob, size)
    assert inclusion_probability(renumbered, size).tobytes() == inclusion[order].tobytes()
    assert effective_sample_size(prob) == effective_sample_size(renumbered)


@given(potential=potentials, temperature=warm, shift=st.floats(-1.0, 1.0))
def test_only_differences_of_potentials_matter(potential, temperature, shift):
    prob = sampling_distribution(potential, temperature)
    np.testing.assert_allclose(
        sampling_distribution(potential + shift, temperature), prob, rtol=1e-11, atol=0
    )


@given(potential=potentials, share=st.floats(0.0, 1.0))
@example(potential=np.array([2.0**-1022, 0.0]), share=0.0)  # the temperature is subnormal
@settings(deadline=None)
def test_temperature_inverts_the_effective_size(potential, share):
    gap = potential.max() - potential
    smallest = 1e-320 if share == 0.0 else 1e-300  # below, there are too few floats
    assume(not ((gap > 0.0) & (gap < smallest)).any())
    maximisers = np.count_nonzero(gap == 0.0)
    size = maximisers + share * (potential.size - maximisers)
    size = min(max(size, maximisers), potential.size)
    tau = temperature_for_effective_size(potential, size)
    reached = effective_sample_size(sampling_distribution(potential, tau))
    assert np.isclose(reached, size, rtol=1e-9)


@given(potential=potentials, temperature=temperatures, size=st.integers(1, 100), seed=seeds)
def test_draws_with_replacement_add_up_and_avoid_probability_zero(
    potential, temperature, size, seed
):
    prob = sampling_distribution(potential, temperature)
    prompt, draw = draw_with_replacement(prob, size, np.random.default_rng(seed))
    assert (np.diff(prompt) > 0).all()
    assert (draw >= 1).all()
    assert draw.sum() == size
    assert (prob[prompt] > 0).all()


@given(potential=potentials, temperature=temperatures, share=st.floats(0.0, 1.0), seed=seeds)
def test_draws_without_replacement_are_distinct_and_exactly_as_many(
    potential, temperature, share, seed
):
    prob = sampling_distribution(potential, temperature)
    size = max(1, round(share * np.count_nonzero(prob)))
    inclusion = inclusion_probability(prob, size)
    assert abs(math.fsum(inclusion) - size) <= 1e-12 * size
    prompt = draw_without_replacement(inclusion, np.random.default_rng(seed))
    assert prompt.size == size
    assert (np.diff(prompt) > 0).all()
    assert (prob[prompt] > 0).all()
    assert np.isin(np.flatnonzero(inclusion == 1.0), prompt).all()
