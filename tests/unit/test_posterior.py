"""Beta counts, forgetting, persistence; moments of a Beta law against mpmath."""

import itertools

import mpmath
import numpy as np
import pytest
from scipy.special import betaln

from cures.posterior import BetaPosterior, expected_mixed, expected_potential, expected_variance

# 1e-3 .. 1e9, with values on both sides of the shift (10) of the asymptotic series.
COUNTS = [1e-3, 0.03, 0.5, 1.0, 2.7, 9.99, 10.0, 31.4, 1e3, 3e5, 1e7, 1e9]
PAIRS = list(itertools.product(COUNTS, COUNTS))
# 33 = first group size whose sum has 32 terms, 34 and 35 = around the switch to Euler-Maclaurin.
SIZES = [2, 3, 8, 32, 33, 34, 35, 64, 100, 1024, 10**6]
TOLERANCE = 1e-12


def beta_ratio(a, b, da, db):
    """B(a + da, b + db) / B(a, b) in 60 digits."""
    with mpmath.workdps(60):
        a, b = mpmath.mpf(a), mpmath.mpf(b)
        numerator = mpmath.loggamma(a + da) + mpmath.loggamma(b + db) + mpmath.loggamma(a + b)
        denominator = mpmath.loggamma(a) + mpmath.loggamma(b) + mpmath.loggamma(a + b + da + db)
        return mpmath.exp(numerator - denominator)


def worst_error(values, expected):
    with mpmath.workdps(60):
        pairs = zip(np.ravel(values), expected, strict=True)
        return max(float(abs(mpmath.mpf(float(v)) / e - 1)) for v, e in pairs)


@pytest.fixture(scope="module")
def exact_potential():
    half = mpmath.mpf(1) / 2
    return [beta_ratio(a, b, half, half) for a, b in PAIRS]


def exact_mixed(n):
    with mpmath.workdps(60):
        return [1 - beta_ratio(a, b, n, 0) - beta_ratio(a, b, 0, n) for a, b in PAIRS]


A, B = (np.array(side) for side in zip(*PAIRS, strict=True))


def test_expected_potential_is_accurate_over_the_whole_grid(exact_potential):
    assert worst_error(expected_potential(A, B), exact_potential) < TOLERANCE


def test_negative_control_naive_log_beta_fails_the_same_check(exact_potential):
    naive = np.exp(betaln(A + 0.5, B + 0.5) - betaln(A, B))
    assert worst_error(naive, exact_potential) > 1e-9


@pytest.mark.parametrize("n", SIZES)
def test_expected_mixed_is_accurate_over_the_whole_grid(n):
    # Tighter than the promised 1e-12: a dropped Euler-Maclaurin term would cost about 1e-13.
    assert worst_error(expected_mixed(A, B, n), exact_mixed(n)) < 5e-15


def test_negative_control_naive_mixed_fails_the_same_check():
    naive = 1 - np.exp(betaln(A + 8, B) - betaln(A, B)) - np.exp(betaln(A, B + 8) - betaln(A, B))
    assert worst_error(naive, exact_mixed(8)) > 1e-9


def test_expected_variance_is_accurate_over_the_whole_grid():
    assert worst_error(expected_variance(A, B), [beta_ratio(a, b, 1, 1) for a, b in PAIRS]) < 1e-14


def test_moments_of_the_uniform_law():
    # p ~ U(0, 1): E sqrt(p(1-p)) = pi/8, E p(1-p) = 1/6, E mixed = 1 - 2/(n+1)
    assert expected_potential(1.0, 1.0) == pytest.approx(np.pi / 8, rel=1e-15)
    assert expected_variance(1.0, 1.0) == pytest.approx(1 / 6, rel=1e-15)
    np.testing.assert_allclose(
        expected_mixed(1.0, 1.0, [0, 1, 2, 5]), [0.0, 0.0, 1 / 3, 2 / 3], rtol=1e-15
    )


def test_moments_survive_counts_far_outside_the_guaranteed_range():
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        # A point mass at 1/2.
        assert expected_potential(1e300, 1e300) == pytest.approx(0.5, rel=1e-12)
        assert expected_mixed(1e15, 1e15, 4) == pytest.approx(0.875, rel=1e-12)
        # alpha -> 0: E sqrt(p(1-p)) ~ alpha B(1/2, 3/2) = alpha pi / 2 at beta = 1
        assert expected_potential(1e-200, 1.0) == pytest.approx(1e-200 * np.pi / 2, rel=1e-12)


def test_expected_mixed_takes_arrays_of_sizes_on_both_sides_of_the_switch():
    sizes = np.array([0, 1, 2, 33, 34, 5000])
    together = expected_mixed(0.3, 7.0, sizes)
    np.testing.assert_array_equal(
        together[:4], [float(expected_mixed(0.3, 7.0, n)) for n in sizes[:4]]
    )
    with mpmath.workdps(60):
        expected = [
            1 - beta_ratio(0.3, 7.0, int(n), 0) - beta_ratio(0.3, 7.0, 0, int(n)) for n in sizes[2:]
        ]
    assert worst_error(together[2:], expected) < TOLERANCE


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_moments_refuse_counts_that_are_not_positive(bad):
    for moment in (expected_potential, expected_variance):
        with pytest.raises(ValueError, match=f"{moment.__name__}: (alpha|beta) must be"):
            moment([1.0, bad], 1.0)
    with pytest.raises(ValueError, match="expected_mixed: beta must be"):
        expected_mixed(1.0, bad, 2)
    with pytest.raises(ValueError, match=r"expected_mixed: n must be in \[0, inf\), got '?-1"):
        expected_mixed(1.0, 1.0, -1)


def test_counts_mean_and_variance_of_a_worked_example():
    posterior = BetaPosterior(3, prior=(1.0, 2.0))
    posterior.update([2, 0, 2], [3, 0, 1], [4, 4, 1])  # prompt 2 twice: 4 of 5
    alpha, beta = posterior.alpha_beta()
    assert alpha.tolist() == [1.0, 1.0, 5.0]
    assert beta.tolist() == [6.0, 2.0, 3.0]
    assert posterior.mean([2, 0]).tolist() == [5 / 8, 1 / 7]
    # ab / ((a+b)^2 (a+b+1)) = 15 / (64 * 9)
    assert posterior.variance([2])[0] == pytest.approx(15 / 576, rel=1e-15)


def test_forgetting_decays_evidence_but_not_the_prior_also_of_unvisited_prompts():
    posterior = BetaPosterior(2, prior=(1.0, 1.0), forgetting=0.5)
    posterior.update([0, 1], [4, 0], [4, 8])
    posterior.advance()
    posterior.update([0, 0], [1, 1], [1, 2])  # 4/2 + 2 right, 0 + 1 wrong
    posterior.advance(2)
    alpha, beta = posterior.alpha_beta()
    np.testing.assert_allclose(alpha, [1 + 4 / 4, 1.0], rtol=1e-15)
    np.testing.assert_allclose(beta, [1 + 1 / 4, 1 + 8 / 8], rtol=1e-15)


def test_lazy_forgetting_equals_decaying_everything_at_every_step():
    generator = np.random.default_rng(3)
    forgetting, size = 0.1, 20
    posterior = BetaPosterior(size, prior=(0.5, 2.0), forgetting=forgetting)
    eager = np.zeros((2, size))
    visited_only = np.zeros((2, size))  # negative control: decay where a prompt is visited
    for _ in range(40):
        prompt = generator.integers(0, size, 6)
        trial = generator.integers(0, 9, 6)
        success = generator.binomial(trial, 0.4)
        posterior.update(prompt, success, trial)
        visited_only[:, np.unique(prompt)] *= 1 - forgetting
        for counts in (eager, visited_only):
            np.add.at(counts, (0, prompt), success)
            np.add.at(counts, (1, prompt), trial - success)
        posterior.advance()
        eager *= 1 - forgetting
    np.testing.assert_allclose(posterior.evidence(), eager, rtol=1e-12)
    assert not np.allclose(posterior.evidence(), visited_only, rtol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3], [0], [0]), r"prompt_B must be in \[0, 2\], got '?3 at index 0"),
        (([-1], [0], [0]), "prompt_B must be in"),
        (([0.0], [0], [0]), "prompt_B must be a one-dimensional integer array"),
        (([0], [1], [0]), r"success_B must be <= trial_B \(0 at index 0\), got 1"),
        (([0], [-1], [0]), "success_B must be in"),
        (([0], [0], [-1]), "trial_B must be in"),
        (([0, 1], [0], [0, 0]), r"success_B must be of shape \(2,\)"),
    ],
)
def test_bad_updates_are_refused_and_change_nothing(arguments, message):
    posterior = BetaPosterior(3, forgetting=0.5)
    posterior.update([0, 1], [1, 1], [3, 3])
    posterior.advance()
    before = posterior.state_dict()
    with pytest.raises(ValueError, match=f"BetaPosterior.update: {message}"):
        posterior.update(*arguments)
    assert_same_state(posterior.state_dict(), before)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_prompts": 0}, "num_prompts must be an int in"),
        ({"forgetting": 1.0}, r"forgetting must be a float in \[0.0, 1.0\), got 1.0"),
        ({"forgetting": -0.1}, "forgetting must be"),
        ({"prior": (0.0, 1.0)}, r"prior alpha must be a float in \(0.0, inf"),
        ({"prior": (1.0, [1.0])}, r"prior beta must be of shape \(4,\)"),
        ({"prior": (1.0, [1.0, 1.0, 0.0, 1.0])}, "prior beta must be in"),
        ({"prior": 1.0}, r"prior must be a pair \(alpha, beta\), got 1.0"),
    ],
)
def test_bad_parameters_are_refused(keywords, message):
    with pytest.raises(ValueError, match=f"BetaPosterior: {message}"):
        BetaPosterior(**{"num_prompts": 4, **keywords})


def assert_same_state(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert np.asarray(value).tobytes() == np.asarray(right[key]).tobytes(), key


def example(forgetting=0.3):
    posterior = BetaPosterior(5, prior=(1.0, np.arange(1.0, 6.0)), forgetting=forgetting)
    posterior.update([0, 3, 3], [1, 2, 0], [4, 4, 4])
    posterior.advance(3)
    posterior.update([4], [1], [7])
    return posterior


@pytest.mark.parametrize("forgetting", [0.0, 0.3])
def test_restored_posterior_continues_bit_for_bit_even_if_the_other_was_read(forgetting):
    original, restored = example(forgetting), example(forgetting)
    restored.update([2], [1], [1])
    restored.load_state_dict(original.state_dict())
    original.mean()
    for posterior in (original, restored):
        posterior.update([3, 1], [1, 1], [2, 2])
        posterior.advance(5)
    assert_same_state(original.state_dict(), restored.state_dict())
    assert original.mean().tobytes() == restored.mean().tobytes()


def test_state_is_a_private_copy_both_ways():
    posterior = example()
    state = posterior.state_dict()
    state["success_N"][:] = 99.0
    assert posterior.evidence()[0].max() < 99.0
    state = posterior.state_dict()
    posterior.load_state_dict(state)
    state["success_N"][:] = 99.0
    assert posterior.evidence()[0].max() < 99.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_prompts", 6),
        ("forgetting", 0.2),
        ("prior_beta", np.ones(5)),
        ("prior_alpha", np.array([2.0])),
        ("step", -1),
        ("success_N", np.ones(4)),
        ("success_N", np.array([0.0, 0.0, 0.0, 0.0, np.nan])),
        ("failure_N", -np.ones(5)),
        ("stamp_N", np.full(5, 4)),  # later than step 3
        ("stamp_N", np.zeros(5)),  # not integers
    ],
)
def test_load_names_the_bad_field_and_changes_nothing(field, value):
    posterior = example()
    before = posterior.state_dict()
    with pytest.raises(ValueError, match=f"BetaPosterior.load_state_dict: {field} must be"):
        posterior.load_state_dict({**example().state_dict(), field: value})
    assert_same_state(posterior.state_dict(), before)


def test_load_refuses_missing_and_unknown_fields():
    state = example().state_dict()
    with pytest.raises(ValueError, match="state must be a dict with keys"):
        example().load_state_dict({k: v for k, v in state.items() if k != "stamp_N"})
    with pytest.raises(ValueError, match="state must be a dict with keys"):
        example().load_state_dict({**state, "extra": 1})
