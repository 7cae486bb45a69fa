"""Laws that quotas obey for any sigma, bounds and budget."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cures.quota import allocate, allocate_by_value, round_to_total
from tests.unit.test_quota import greedy_by_heap

# Ordinary values, values that collide often, and every magnitude that a float can hold.
sigmas = st.one_of(
    st.floats(0.0, 1.0),
    st.integers(0, 8).map(float),
    st.floats(0.0, 1.7e308),
)


@st.composite
def problems(draw):
    size = draw(st.integers(1, 8))
    sigma = np.array(draw(st.lists(sigmas, min_size=size, max_size=size)))
    low = np.array(draw(st.lists(st.integers(1, 5), min_size=size, max_size=size)))
    room = np.array(draw(st.lists(st.integers(0, 30), min_size=size, max_size=size)))
    budget = draw(st.integers(int(low.sum()), int((low + room).sum())))
    return sigma, budget, low, low + room


@given(problem=problems())
@settings(max_examples=400, deadline=None)
def test_equals_the_greedy_heap_in_exact_arithmetic(problem):
    sigma, budget, low, high = problem
    quota = allocate(sigma, budget, min_quota=low, max_quota=high)
    assert quota.dtype == np.int64
    assert quota.tolist() == greedy_by_heap(sigma, budget, low, high)


@given(problem=problems())
@settings(deadline=None)
def test_sum_bounds_and_monotonicity_in_the_budget(problem):
    sigma, budget, low, high = problem
    quota = allocate(sigma, budget, min_quota=low, max_quota=high)
    assert quota.sum() == budget
    assert (low <= quota).all()
    assert (quota <= high).all()
    if budget < high.sum():
        more = allocate(sigma, budget + 1, min_quota=low, max_quota=high)
        assert (more >= quota).all()
        assert (more - quota).sum() == 1


def test_negative_control_largest_remainders_are_not_monotone():
    # The last prompt has 2 of 10 but 1 of 11.
    assert (round_to_total([6, 6, 2], 11) < round_to_total([6, 6, 2], 10)).any()


@given(problem=problems(), seed=st.integers(0, 999))
@settings(deadline=None)
def test_renumbering_prompts_renumbers_the_quotas_but_for_ties(problem, seed):
    sigma, budget, low, high = problem
    sigma = np.where(sigma > 0, np.arange(1.0, sigma.size + 1) ** 0.5 * 0.37 + sigma % 1.0, 0.5)
    if np.unique(sigma).size < sigma.size:
        return
    order = np.random.default_rng(seed).permutation(sigma.size)
    quota = allocate(sigma, budget, min_quota=low, max_quota=high)
    renumbered = allocate(sigma[order], budget, min_quota=low[order], max_quota=high[order])
    if not np.array_equal(renumbered, quota[order]):  # only an exact tie may be broken otherwise
        moved = np.flatnonzero(renumbered != quota[order])
        assert np.abs(renumbered - quota[order])[moved].max() == 1
        value = sigma[order][moved] ** 2 / (
            np.minimum(renumbered, quota[order])[moved]
            * (np.minimum(renumbered, quota[order])[moved] + 1)
        )
        assert np.ptp(value) <= 1e-15 * value.max()


@given(problem=problems(), exponent=st.integers(-40, 40))
@settings(deadline=None)
def test_only_ratios_of_sigma_matter(problem, exponent):
    sigma, budget, low, high = problem
    sigma = np.where((sigma > 1e-200) & (sigma < 1e200), sigma, 0.0)  # so that scaling is exact
    scaled = np.ldexp(sigma, exponent)
    quota = allocate(sigma, budget, min_quota=low, max_quota=high)
    assert allocate(scaled, budget, min_quota=low, max_quota=high).tolist() == quota.tolist()


@given(problem=problems())
@settings(deadline=None)
def test_dropping_serves_a_prefix_of_the_prompts_ranked_by_sigma(problem):
    sigma, budget, low, _ = problem
    budget //= 3
    ranked = np.argsort(-sigma, kind="stable")
    served = ranked[np.cumsum(low[ranked]) <= budget]
    if served.size == 0 and budget:
        return
    quota = allocate(sigma, budget, min_quota=low, infeasible="drop")
    assert quota.sum() == budget
    assert (quota[served] >= low[served]).all()
    assert np.count_nonzero(quota) == served.size


@given(problem=problems())
@settings(deadline=None)
def test_by_value_agrees_with_the_closed_form(problem):
    _, budget, low, high = problem
    sigma = np.arange(1.0, low.size + 1)  # exact squares: both sides see the same ties
    quota = allocate_by_value(
        lambda n: sigma**2 / (n * (n + 1.0)), budget, min_quota=low, max_quota=high
    )
    closed = allocate(sigma, budget, min_quota=low, max_quota=high)
    assert quota.tolist() == closed.tolist()


@given(
    weight=st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e3)), min_size=1, max_size=30),
    total=st.integers(0, 10**6),
)
def test_rounding_reaches_the_total_within_one_of_every_share(weight, total):
    weight = np.array(weight)
    if not weight.any():
        total = 0
    rounded = round_to_total(weight, total)
    assert rounded.sum() == total
    assert (rounded[weight == 0.0] == 0).all()
    if weight.any():
        assert (np.abs(rounded - total * weight / weight.sum()) < 1.0 + 1e-9).all()
