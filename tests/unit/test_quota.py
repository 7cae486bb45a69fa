"""Quotas: exact optimum by brute force, ties, bounds, extremes, refused input."""

import heapq
import itertools
from fractions import Fraction

import numpy as np
import pytest

from cures.quota import allocate, allocate_by_value, round_to_total


def cost(sigma, quota):
    """Sum of sigma^2 / n in exact arithmetic."""
    return sum((Fraction(s) ** 2 / int(n) for s, n in zip(sigma, quota, strict=True)), Fraction(0))


def every_quota(budget, low, high):
    """All whole quotas with this sum within the bounds."""
    ranges = [range(a, b + 1) for a, b in zip(low, high, strict=True)]
    return [n for n in itertools.product(*ranges) if sum(n) == budget]


def greedy_by_heap(sigma, budget, low, high):
    """One rollout at a time to the largest sigma^2 / (n (n+1)), exact, ties to the lowest index."""
    quota = [int(n) for n in low]

    def entry(i):
        # Among prompts of sigma 0 the one with the fewest rollouts is next.
        level = quota[i] if sigma[i] == 0 else 0
        return -(Fraction(float(sigma[i])) ** 2) / (quota[i] * (quota[i] + 1)), level, i

    heap = [entry(i) for i in range(len(quota)) if quota[i] < high[i]]
    heapq.heapify(heap)
    for _ in range(budget - sum(quota)):
        i = heapq.heappop(heap)[-1]
        quota[i] += 1
        if quota[i] < high[i]:
            heapq.heappush(heap, entry(i))
    return quota


def random_case(generator):
    size = int(generator.integers(1, 5))
    low = generator.integers(1, 4, size)
    high = low + generator.integers(0, 7, size)
    budget = int(generator.integers(low.sum(), high.sum() + 1))
    return generator.random(size).round(2).tolist(), budget, low, high


def test_worked_example():
    # 12 in proportion 5 : 3 : 1 is 6.67, 4, 1.33; costs .25/n + .09/n + .01/n by hand: 6, 4, 2.
    assert allocate([0.5, 0.3, 0.1], 12).tolist() == [6, 4, 2]


def test_cost_is_the_smallest_of_all_whole_quotas():
    generator = np.random.default_rng(0)
    for _ in range(300):
        sigma, budget, low, high = random_case(generator)
        quota = allocate(sigma, budget, min_quota=low, max_quota=high)
        best = min(cost(sigma, n) for n in every_quota(budget, low, high))
        assert cost(sigma, quota) == best  # brute force, rational arithmetic: equality is exact


def test_negative_control_rounding_the_real_optimum_is_not_optimal():
    generator = np.random.default_rng(0)
    losses = 0
    for _ in range(100):
        sigma = generator.uniform(0.1, 1.0, 4).tolist()
        rounded = round_to_total(sigma, 12)
        if rounded.min() >= 1:
            best = min(cost(sigma, n) for n in every_quota(12, [1] * 4, [9] * 4))
            losses += cost(sigma, rounded) > best
    assert losses > 0


def test_real_optimum_is_approached_for_large_budgets():
    sigma = np.array([0.5, 0.3, 0.1, 0.02])
    quota = allocate(sigma, 10**12)
    np.testing.assert_allclose(quota, 10**12 * sigma / sigma.sum(), atol=2.0)  # Eq. 20
    assert quota.sum() == 10**12


@pytest.mark.parametrize(
    "sigma",
    [
        [1e-300, 1e300, 1.0],
        [5e-324, 1.7e308, 0.0],
        [1e300, 1e300, 1e-300],
        [2e-310, 1e-310, 0.0],
    ],
)
@pytest.mark.parametrize("high", [[30, 30, 30], [7, 3, 30]])
def test_any_sigma_that_a_float_can_hold_matches_the_exact_greedy_rule(sigma, high):
    for budget in range(6, sum(high) + 1):
        with np.errstate(all="raise"):
            quota = allocate(sigma, budget, max_quota=high)
        assert quota.tolist() == greedy_by_heap(sigma, budget, [2, 2, 2], high)


def test_largest_budgets_keep_their_sum():
    for budget in (10**12, 2**52):
        quota = allocate([1e-300, 1e300, 1.0, 0.0], budget)
        assert quota.tolist() == [2, budget - 6, 2, 2]
        quota = allocate([3.0, 3.0, 3.0], budget, max_quota=2**52)
        assert quota.sum() == budget
        assert np.ptp(quota) <= 1
        assert (np.diff(quota) <= 0).all()  # ties: lowest index first


def test_ties_go_to_the_lowest_index_and_are_judged_exactly():
    assert allocate([1.0, 1.0, 1.0], 8).tolist() == [3, 3, 2]
    # 36 / (8 * 9) = 1 / (1 * 2): the tenth rollout is worth the same to both.
    assert allocate([6.0, 1.0], 10, min_quota=1).tolist() == [9, 1]
    assert allocate([1.0, 6.0], 10, min_quota=1).tolist() == [2, 8]
    # One unit in the last place decides.
    assert allocate([1.0, np.nextafter(6.0, 7.0)], 10, min_quota=1).tolist() == [1, 9]
    assert allocate([np.nextafter(6.0, 5.0), 1.0], 10, min_quota=1).tolist() == [8, 2]


def test_near_ties_that_float64_orders_wrongly_are_ordered_exactly():
    # Pairs of floats whose marginal values agree to about 1e-16: at these, a comparison of float
    # keys errs in some case (checked), the exact one in none.
    float_errors = 0
    for n in range(2, 400):
        root = float(np.sqrt(n * (n + 1) / 2))
        for s in (np.nextafter(root, 0.0), root, np.nextafter(root, np.inf)):
            sigma = [1.0, float(s)]
            expected = greedy_by_heap(sigma, n + 2, [1, n], [n + 2, n + 2])
            got = allocate(sigma, n + 2, min_quota=[1, n], max_quota=n + 2)
            assert got.tolist() == expected
            float_errors += (s * s / (n * (n + 1)) > 0.5) != (expected[1] == n + 1)
    assert float_errors > 0


def test_sigma_zero_gets_the_minimum_until_all_others_are_full():
    assert allocate([0.0, 1.0, 0.0], 20).tolist() == [2, 16, 2]
    assert allocate([0.0, 1.0, 0.0], 20, max_quota=[20, 5, 20]).tolist() == [8, 5, 7]


def test_all_zero_means_as_equal_as_the_bounds_allow():
    assert allocate([0.0] * 4, 10).tolist() == [3, 3, 2, 2]
    # Water-filling: minima 1 and 6 stay, the rest is levelled below the cap.
    assert allocate([0.0] * 3, 12, min_quota=[1, 6, 1], max_quota=[2, 9, 9]).tolist() == [2, 6, 4]


def test_empty_and_single():
    assert allocate([], 0).tolist() == []
    assert allocate([0.3], 17).tolist() == [17]
    with pytest.raises(ValueError, match=r"budget must be in \[0, 0\] for 0 served prompts"):
        allocate([], 1)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"budget": 5}, r"budget must be in \[6, \d+\] for 3 served prompts .*, got 5"),
        ({"budget": 10, "max_quota": 3}, r"budget must be in \[6, 9\] for 3 served .*, got 10"),
        ({"budget": 10, "max_quota": 3, "infeasible": "drop"}, r"in \[6, 9\]"),
        ({"budget": 9.0}, "budget must be an int in"),
        ({"budget": 2**52 + 1}, "budget must be an int in"),
        ({"budget": 9, "min_quota": 0}, "min_quota must be an int in"),
        ({"budget": 9, "min_quota": [1, 2]}, r"min_quota must be of shape \(3,\)"),
        ({"budget": 9, "max_quota": [2, 1, 9]}, r"max_quota must be >= min_quota \(2 at index 1\)"),
        ({"budget": 9, "infeasible": "clip"}, r"infeasible must be one of \['raise', 'drop'\]"),
        ({"budget": 9, "sigma": [1.0, -1.0, 0.0]}, "sigma must be in"),
        ({"budget": 9, "sigma": [1.0, np.nan, 0.0]}, "sigma must be finite"),
    ],
)
def test_bad_calls_name_the_parameter_and_the_range(keywords, message):
    arguments = {"sigma": [0.5, 0.3, 0.1], **keywords}
    with pytest.raises(ValueError, match=f"allocate: .*{message}"):
        allocate(arguments.pop("sigma"), arguments.pop("budget"), **arguments)


def test_drop_serves_the_largest_sigmas_whose_minima_fit():
    assert allocate([0.1, 0.5, 0.3], 5, infeasible="drop").tolist() == [0, 3, 2]
    assert allocate([0.3, 0.3, 0.3], 4, infeasible="drop").tolist() == [2, 2, 0]
    assert allocate([0.3, 0.3], 0, infeasible="drop").tolist() == [0, 0]
    assert allocate([0.3, 0.4], 4, infeasible="drop").tolist() == [2, 2]  # feasible: nobody dropped
    # Minima 4 (sigma .5) + 4 (sigma .3) do not fit into 7: only the first is served, with all 7.
    assert allocate([0.3, 0.5, 0.1], 7, min_quota=4, infeasible="drop").tolist() == [0, 7, 0]


def test_drop_refuses_what_the_served_prompts_cannot_take():
    with pytest.raises(ValueError, match=r"budget must be in \[4, 5\] for 1 served prompts"):
        allocate([0.3, 0.5], 7, min_quota=4, max_quota=5, infeasible="drop")
    for low, needed in ((2, 2), ([1, 2**52], 2**52)):  # the largest sigma first, none is skipped
        sentence = f"budget must be 0 or >= {needed}, the minimum of the largest sigma, got 1"
        with pytest.raises(ValueError, match=sentence):
            allocate([0.3, 0.5], 1, min_quota=low, infeasible="drop")


def test_input_arrays_are_left_alone():
    sigma, low = np.array([0.5, 0.3]), np.array([2, 2])
    allocate(sigma, 4, min_quota=low)[:] = 0
    allocate_by_value(lambda n: 1.0 / n, 4, min_quota=low, max_quota=None)[:] = 0
    assert sigma.tolist() == [0.5, 0.3]
    assert low.tolist() == [2, 2]


# Values of a group of n with success rate p; the next rollout is worth value(n + 1) - value(n).
P = np.array([0.5, 0.3, 0.1])
VALUES = {
    "rloo": (lambda p, n: -p * (1 - p) / (n - 1), 2),  # concave from n = 2
    "mixed": (lambda p, n: 1 - p**n - (1 - p) ** n, 1),  # concave from n = 1
    "dr_grpo": (lambda p, n: -p * (1 - p) * (n - 1) / n**2, 3),  # concave only from n = 3
}


def best_value(value, p, budget, low):
    candidates = every_quota(budget, [low] * len(p), [budget] * len(p))
    return max(sum(value(a, n) for a, n in zip(p, quota, strict=True)) for quota in candidates)


@pytest.mark.parametrize("budget", [9, 10, 13, 16])
@pytest.mark.parametrize("name", VALUES)
def test_concave_values_are_maximised_exactly(name, budget):
    value, low = VALUES[name]
    quota = allocate_by_value(
        lambda n: value(P, n + 1.0) - value(P, n * 1.0),
        budget,
        min_quota=low,
        max_quota=None,
        num_groups=3,
    )
    assert quota.sum() == budget
    reached = sum(value(a, n) for a, n in zip(P, quota.tolist(), strict=True))
    assert reached == pytest.approx(best_value(value, P, budget, low), rel=1e-12)


def test_values_that_are_not_concave_are_refused_because_greedy_would_lose():
    value = VALUES["dr_grpo"][0]

    def total(quota):
        return sum(value(a, n) for a, n in zip(P, quota, strict=True))

    assert total((4, 4, 2)) == pytest.approx(best_value(value, P, 10, 2))
    assert total((5, 3, 2)) < total((4, 4, 2))  # what greedy from n = 2 arrives at
    with pytest.raises(
        ValueError, match=r"marginal_value\(n_B\) must be at most .* group 0 at n = 3"
    ):
        allocate_by_value(
            lambda n: value(P, n + 1.0) - value(P, n * 1.0),
            10,
            min_quota=2,
            max_quota=None,
            num_groups=3,
        )


def test_an_increase_is_found_even_where_the_greedy_rule_would_not_look():
    def gain(n):
        return np.where(np.arange(2) == 1, np.where(n >= 6, 5.0, 0.1), 1.0)

    with pytest.raises(ValueError, match="group 1 at n = 6"):
        allocate_by_value(gain, 12, min_quota=1, max_quota=None, num_groups=2)
    # Out of reach of the bounds, it does no harm.
    assert allocate_by_value(gain, 12, min_quota=1, max_quota=[20, 6], num_groups=2).tolist() == [
        11,
        1,
    ]


def test_by_value_breaks_ties_by_index_and_levels_what_is_worth_nothing():
    def constant(value):
        return lambda n: np.full(n.size, value)

    keywords = {"min_quota": 1, "max_quota": 6, "num_groups": 3}
    assert allocate_by_value(constant(0.0), 8, **keywords).tolist() == [3, 3, 2]
    assert allocate_by_value(constant(1.0), 8, **keywords).tolist() == [6, 1, 1]
    assert allocate_by_value(constant(-1.0), 8, **keywords).tolist() == [6, 1, 1]


def test_by_value_prunes_without_changing_the_result():
    # 12 groups that could each reach 2989 rollouts: 35856 values, pruned on the way. The marginal
    # value is that of `allocate`, an independent implementation.
    sigma = np.geomspace(1.0, 1e-3, 12)
    quota = allocate_by_value(
        lambda n: sigma**2 / (n * (n + 1.0)), 3000, min_quota=1, max_quota=None, num_groups=12
    )
    assert quota.tolist() == allocate(sigma, 3000, min_quota=1).tolist()


def test_by_value_refuses_bad_calls():
    with pytest.raises(ValueError, match="num_groups must be given when min_quota is a single"):
        allocate_by_value(lambda n: 1.0 / n, 4, min_quota=2, max_quota=None)
    with pytest.raises(ValueError, match=r"budget must be in \[4, 6\]"):
        allocate_by_value(lambda n: 1.0 / n, 7, min_quota=2, max_quota=3, num_groups=2)
    with pytest.raises(ValueError, match=r"marginal_value\(n_B\) must be finite, got nan at"):
        allocate_by_value(lambda n: n * np.nan, 5, min_quota=2, max_quota=3, num_groups=2)
    with pytest.raises(ValueError, match=r"marginal_value\(n_B\) must be of shape \(2,\)"):
        allocate_by_value(lambda n: [1.0], 5, min_quota=2, max_quota=3, num_groups=2)


def test_largest_remainder_rounding_of_worked_examples():
    # 10 * (6, 6, 2) / 14 = 4.29, 4.29, 1.43 -> 4, 4, 1, and the last remainder is the largest
    assert round_to_total([6, 6, 2], 10).tolist() == [4, 4, 2]
    assert round_to_total([6, 6, 2], 11).tolist() == [5, 5, 1]  # not monotone in the total
    assert round_to_total([1, 1, 1], 2).tolist() == [1, 1, 0]  # remainders .67 each
    assert round_to_total([0.0, 3.0, 0.0], 7).tolist() == [0, 7, 0]
    assert round_to_total([1e-300, 1e300], 5).tolist() == [0, 5]
    assert round_to_total([], 0).size == 0
    assert round_to_total([1.0, 1.0, 1.0], 2**52).sum() == 2**52


def test_rounding_refuses_bad_calls():
    with pytest.raises(ValueError, match="total must be 0 when no weight is positive, got 3"):
        round_to_total([0.0, 0.0], 3)
    with pytest.raises(ValueError, match="weight must be in"):
        round_to_total([-1.0, 2.0], 3)
