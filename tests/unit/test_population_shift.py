"""Log-loss of outcomes under a population: closed forms, a test of its own level, negative controls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import roots_jacobi
from scipy.stats import betabinom

from cures.population_shift import UNIFORM_SHARE, population_shift, predicted_success, stratum_of

EVEN = np.array([0.1, 0.5, 0.9])
HARD = np.array([0.1, 0.2, 0.3])
THIRDS = np.full(3, 1 / 3)


def draw(generator, support_K, weight_K, trial_B):
    return generator.binomial(trial_B, generator.choice(support_K, trial_B.size, p=weight_K))


def test_predictions_are_those_of_the_beta_binomial():
    # 8 Gauss-Jacobi nodes integrate polynomials of degree 15 exactly; the binomial has degree 7 in p
    node, weight = roots_jacobi(8, 3 - 1, 2 - 1)
    predicted = predicted_success(7, (1 + node) / 2, weight / weight.sum())
    expected = (1 - UNIFORM_SHARE) * betabinom.pmf(np.arange(8), 7, 2, 3) + UNIFORM_SHARE / 8
    assert predicted == pytest.approx(expected, abs=1e-12)
    assert predicted.sum() == pytest.approx(1.0, abs=1e-12)


def test_losses_by_hand():
    # one rollout each, chance 1/2 (the uniform part included): loss log 2 per group; own shares 3/4, 1/4
    shift = population_shift(
        [1, 1, 1, 0], [1] * 4, [0] * 4, [0.5], [[1.0]], generator=np.random.default_rng(0)
    )
    assert shift.loss == pytest.approx(np.log(2))
    assert shift.own_loss == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    # enumeration: as extreme as 3 of 4 are 0, 1, 3, 4 of 4: chance (1 + 4 + 4 + 1) / 16 = 0.625
    assert shift.p_value == pytest.approx(0.625, abs=4 * np.sqrt(0.625 * 0.375 / 2000))
    # mean own loss over the same 16 outcomes: log 2 for 2 of 4 (6 of them), that of 1/4 for 1 and 3 (8)
    mean = (6 * np.log(2) + 8 * shift.own_loss) / 16
    spread = np.sqrt((6 * np.log(2) ** 2 + 8 * shift.own_loss**2) / 16 - mean**2)
    assert shift.excess == pytest.approx(mean - shift.own_loss, abs=4 * spread / np.sqrt(1999))
    # control: without the mean of chance it would be the gap, far outside
    assert abs(shift.loss - shift.own_loss - shift.excess) > 0.1
    assert shift.groups == 4


def test_the_level_is_kept_and_other_populations_are_seen():
    generator = np.random.default_rng(1)
    trial_B = generator.choice([2, 4, 8], 80)
    stratum_B = np.zeros(80, dtype=np.int64)

    def p_value(support_K):
        success_B = draw(generator, support_K, THIRDS, trial_B)
        return population_shift(
            success_B, trial_B, stratum_B, EVEN, [THIRDS], generator=generator, draws=99
        ).p_value

    at_home = np.array([p_value(EVEN) for _ in range(400)])
    # a Monte Carlo p-value is uniform on 1/100 ... 1 (Hope, 1968)
    assert abs((at_home <= 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 400)
    away = np.array([p_value(HARD) for _ in range(50)])
    assert (away <= 0.05).all(), "negative control: harder prompts must be rejected"


def test_excess_is_about_zero_at_home_and_the_divergence_elsewhere():
    generator = np.random.default_rng(2)
    trial_B, stratum_B = np.full(20_000, 4), np.zeros(20_000, dtype=np.int64)
    m, other = predicted_success(4, EVEN, THIRDS), predicted_success(4, HARD, THIRDS)
    divergence = float((other * np.log(other / m)).sum())  # what 20 000 groups approach
    for support_K, expected in ((EVEN, 0.0), (HARD, divergence)):
        success_B = draw(generator, support_K, THIRDS, trial_B)
        shift = population_shift(
            success_B, trial_B, stratum_B, EVEN, [THIRDS], generator=generator, draws=199
        )
        ratio = np.log(other / m)
        error = np.sqrt((other * ratio**2).sum() - divergence**2) / np.sqrt(20_000)
        assert abs(shift.excess - expected) < 4 * error + UNIFORM_SHARE


def test_strata_are_judged_by_their_own_weights():
    generator = np.random.default_rng(3)
    trial_B, stratum_B = np.full(400, 4), np.repeat([0, 1], 200)
    weight_Q_K = [[1.0, 0.0], [0.0, 1.0]]
    success_B = generator.binomial(4, np.repeat([0.2, 0.8], 200))
    right = population_shift(
        success_B, trial_B, stratum_B, [0.2, 0.8], weight_Q_K, generator=generator
    )
    assert right.p_value > 0.001
    swapped = population_shift(
        success_B, trial_B, 1 - stratum_B, [0.2, 0.8], weight_Q_K, generator=generator
    )
    assert swapped.p_value == 0.0005
    assert swapped.excess > 1.0


def test_fresh_means_pilot_or_first_visit():
    visited: set[int] = set()
    rows = [
        {"prompt": 3, "trial": 2, "is_pilot": False},
        {"prompt": 3, "trial": 2, "is_pilot": False},
        {"prompt": 3, "trial": 16, "is_pilot": True},
    ]
    assert [stratum_of(row, visited) for row in rows] == [(True, 1), (False, 1), (True, 4)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"success_B": [5]}, r"success_B must be <= trial_B \(4 at index 0\), got"),
        ({"trial_B": [0]}, r"trial_B must be in \[1, inf\)"),
        ({"success_B": [], "trial_B": [], "stratum_B": []}, r"trial_B must be of shape \(B,\)"),
        ({"support_K": [1.5]}, r"support_K must be in \[0.0, 1.0\]"),
        ({"weight_Q_K": [[0.5]]}, r"weight_Q_K\[0\] must be of sum 1, got sum 0.5$"),
        ({"stratum_B": [1]}, r"stratum_B must be in \[0, 0\]"),
        ({"draws": 0}, r"draws must be an int in \[1, inf\)"),
    ],
)
def test_bad_input_is_named(change, sentence):
    good = {"success_B": [1], "trial_B": [4], "stratum_B": [0], "support_K": [0.5]}
    good |= {"weight_Q_K": [[1.0]], "generator": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=f"population_shift: {sentence}"):
        population_shift(**(good | change))
