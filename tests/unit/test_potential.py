"""``potential`` and ``prob_mixed``: worked values, accuracy at both ends, refused input."""

import mpmath
import numpy as np
import pytest

from cures.potential import potential, prob_mixed

# Rates whose complement is far from 1 or 0 in floating point as well as ordinary ones.
RATES = [0.0, 5e-324, 1e-300, 1e-20, 1e-9, 0.1, 0.3, 0.5, 0.7, 1.0 - 1e-9, 1.0 - 2.0**-53, 1.0]


def exact_mixed(p: float, n: int) -> mpmath.mpf:
    with mpmath.workdps(400):  # enough digits for 1 - (1 - 5e-324)
        rate = mpmath.mpf(p)
        return 1 - rate**n - (1 - rate) ** n if n else mpmath.mpf(0)


def relative_error(value: float, expected: mpmath.mpf) -> float:
    with mpmath.workdps(400):
        if expected == 0:
            return 0.0 if value == 0 else np.inf
        return float(abs(mpmath.mpf(value) / expected - 1))


def test_potential_of_rates_with_rational_root():
    # sqrt(.1 * .9) = .3, sqrt(.2 * .8) = .4, sqrt(.5 * .5) = .5
    np.testing.assert_allclose(potential([0.1, 0.2, 0.5, 0.8, 0.9]), [0.3, 0.4, 0.5, 0.4, 0.3])


def test_potential_keeps_shape_and_leaves_the_input_alone():
    p = np.array([[0.0, 0.25], [0.5, 1.0]])
    before = p.copy()
    assert potential(p).shape == (2, 2)
    assert potential(0.5).shape == ()
    np.testing.assert_array_equal(p, before)


@pytest.mark.parametrize("p", RATES)
def test_potential_is_accurate_to_the_last_bits(p):
    with mpmath.workdps(400):
        expected = mpmath.sqrt(mpmath.mpf(p) * (1 - mpmath.mpf(p)))  # mpmath, 400 digits
    assert relative_error(float(potential(p)), expected) < 1e-15


def test_negative_control_expanded_form_fails_the_same_check_near_one():
    p = 1.0 - 1e-9
    with mpmath.workdps(400):
        expected = mpmath.sqrt(mpmath.mpf(p) * (1 - mpmath.mpf(p)))
    assert relative_error((p - p**2) ** 0.5, expected) > 1e-10


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 8, 64, 1024, 10**6])
@pytest.mark.parametrize("p", RATES)
def test_prob_mixed_matches_400_digits(p, n):
    assert relative_error(float(prob_mixed(p, n)), exact_mixed(p, n)) < 2e-15


def test_negative_control_plain_formula_returns_zero_for_rare_successes():
    p, n = 1e-20, 8
    assert relative_error(1 - p**n - (1 - p) ** n, exact_mixed(p, n)) == 1.0
    assert relative_error(float(prob_mixed(p, n)), exact_mixed(p, n)) < 2e-15


def test_prob_mixed_broadcasts_and_is_never_negative_zero_or_minus_one():
    mixed = prob_mixed(np.array([[0.2], [0.5]]), [0, 1, 2])
    # n = 2: 2 p (1 - p)
    np.testing.assert_allclose(mixed, [[0.0, 0.0, 0.32], [0.0, 0.0, 0.5]], atol=1e-16)


@pytest.mark.parametrize("bad", [-1e-12, 1.0 + 1e-12, np.nan, np.inf])
def test_rates_outside_the_unit_interval_are_refused(bad):
    with pytest.raises(ValueError, match=r"potential: p must be (in \[0\.0, 1\.0\]|finite)"):
        potential([0.5, bad])
    with pytest.raises(ValueError, match="prob_mixed: p must be"):
        prob_mixed(bad, 4)


@pytest.mark.parametrize("bad", [-1, 2.0, True])
def test_group_sizes_must_be_whole_and_non_negative(bad):
    with pytest.raises(ValueError, match="prob_mixed: n must be"):
        prob_mixed(0.5, bad)
