"""Claim 8.10 against `cures.explained_share`, on the simulator's tables and their measured moments."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cures.explained_share import between_and_total
from sim.moments import score_moments
from sim.tabular import Tabular
from tests.theory_vs_numeric.formulas import formula
from theory import explained_share
from theory.claims import numeric
from theory.finite_groups import k
from theory.score_law import G_0, G_1, D
from theory.score_products import slope
from theory.symbols import n, p

between = numeric(formula(explained_share, "8.10", "between"), (p, D))
gradient = numeric(formula(explained_share, "8.10", "gradient"), (p, slope))
share = numeric(formula(explained_share, "8.10", "share"), (p, D, G_1, G_0))
given = numeric(formula(explained_share, "8.10", "given"), (k, n, D))
kept = numeric(formula(explained_share, "8.10", "kept"), (p, n))
four = numeric(formula(explained_share, "8.10", "four"), (D, G_1, G_0))
alike = numeric(formula(explained_share, "8.10", "alike"), p)
two = numeric(formula(explained_share, "8.10", "two"), p)


def law_of(policy, theta, *, is_coin=False):
    """Chances, scores and verdicts of one prompt's answers; a coin doubles the answers."""
    here, size = np.zeros(1, dtype=np.int64), policy.num_answers
    pi_K = policy.probability(theta, here)[0]
    score_K_D = np.stack(
        [policy.score_sum(theta, here, np.array([a]), np.ones(1)) for a in range(size)]
    )
    if not is_coin:
        return pi_K, score_K_D, policy.is_right_N_K[0]
    return (
        np.tile(pi_K / 2, 2),
        np.tile(score_K_D, (2, 1)),
        np.repeat([True, False], size),
    )


def moments_of(law):
    """Success rate, D, G_1 and G_0."""
    pi_K, score_K_D, is_right_K = law
    rate = pi_K[is_right_K].sum()
    kinds = [np.where(kind, pi_K, 0.0) / pi_K[kind].sum() for kind in (is_right_K, ~is_right_K)]
    apart = np.linalg.norm((kinds[0] - kinds[1]) @ score_K_D)
    squares = [np.sqrt(kind @ (score_K_D**2).sum(axis=1)) for kind in kinds]
    return rate, apart, *squares


def all_groups(law, size):
    """Chance and right answers of every group of ``size`` answers, and what the library makes of it."""
    pi_K, score_K_D, is_right_K = law
    answer_B_n = np.array(list(product(range(pi_K.size), repeat=size)))
    answer_R, group_R = answer_B_n.ravel(), np.repeat(np.arange(len(answer_B_n)), size)
    moments = score_moments(score_K_D[answer_R], is_right_K[answer_R], group_R, len(answer_B_n))
    right_B = is_right_K[answer_B_n].sum(axis=1)
    estimates = between_and_total(right_B, np.full(right_B.size, size), moments)
    return pi_K[answer_B_n].prod(axis=1), right_B, *estimates


TABLE = Tabular(np.array([[True, True, False]]))
THETA = np.array([0.4, -0.7, 0.3])
FEATURES = Tabular(
    np.array([[False, True, True]]), features_N_F=np.array([[0.6, -1.1]])
)  # scores are multiples of the features
LAWS = {
    "table": law_of(TABLE, THETA),
    "features": law_of(FEATURES, np.array([0.2, -0.4, 0.9, 0.1, -0.8, 0.5])),
    "coin": law_of(TABLE, THETA, is_coin=True),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_share_is_the_squared_correlation_of_scores_and_reward(name):
    pi_K, score_K_D, is_right_K = law = LAWS[name]
    rate, apart, *squares = moments_of(law)
    # regression of every coordinate of the score on the reward, by least squares with weights
    design = np.sqrt(pi_K)[:, None] * np.stack([np.ones(pi_K.size), is_right_K], axis=1)
    target = np.sqrt(pi_K)[:, None] * score_K_D
    _, left, *_ = np.linalg.lstsq(design, target, rcond=None)
    explained = 1.0 - left.sum() / (target**2).sum()
    assert share(rate, apart, *squares) == pytest.approx(explained, rel=1e-12, abs=1e-14)
    slope_of = np.linalg.norm((pi_K * is_right_K) @ score_K_D)
    expected = between(rate, apart)
    assert gradient(rate, slope_of) == pytest.approx(expected, rel=1e-12, abs=1e-30)
    assert bool(explained > 0.05) is (name != "coin")


@pytest.mark.parametrize(
    ("name", "size"), [("table", 4), ("table", 6), ("features", 5), ("coin", 4), ("coin", 5)]
)
def test_what_groups_measure_has_the_claimed_means(name, size):
    law = LAWS[name]
    rate, apart, *squares = moments_of(law)
    chance_B, right_B, between_B, total_B = all_groups(law, size)
    for right in range(size + 1):
        here = right_B == right
        mean = chance_B[here] @ between_B[here] / chance_B[here].sum()
        expected = given(right, size, apart) if 2 <= right <= size - 2 else 0.0
        assert mean == pytest.approx(expected, rel=1e-12, abs=1e-14)
    expected = between(rate, apart) * kept(rate, size)
    assert chance_B @ between_B == pytest.approx(expected, rel=1e-12, abs=1e-14)
    if name == "coin":
        assert chance_B @ total_B > 0.1  # control: its groups are measured
        return
    # control: the groups that say nothing are missed
    assert chance_B @ between_B < 0.95 * between(rate, apart)
    if size == 4:
        found = chance_B @ between_B / (chance_B @ total_B)
        assert found == pytest.approx(four(apart, *squares), rel=1e-12)
        assert found != pytest.approx(share(rate, apart, *squares), rel=0.05)  # control


@pytest.mark.parametrize("logit", [-6.0, -1.0, 0.0, 2.0])
def test_groups_of_four_with_one_right_and_one_wrong_answer(logit):
    law = law_of(Tabular(np.array([[True, False]])), np.array([logit, 0.0]))
    rate, apart, *squares = moments_of(law)
    chance_B, _, between_B, total_B = all_groups(law, 4)
    assert share(rate, apart, *squares) == pytest.approx(1.0, rel=1e-12)
    found = chance_B @ between_B / (chance_B @ total_B)
    assert found == pytest.approx(two(rate), rel=1e-11)
    assert 2 / 3 < found <= 4 / 3 * (1 + 1e-12)


def test_groups_of_four_where_scores_have_one_norm():
    # answers in pairs s and -s: norms alike, one answer of a pair more often right
    for rate in (0.1, 0.5, 0.8):
        pi_K = np.array([0.5 * rate, 0.5 * (1 - rate), 0.5 * (1 - rate), 0.5 * rate])
        law = pi_K, np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([True, False, False, True])
        turned = pi_K * np.array([1.5, 0.5, 1.5, 0.5])
        law = turned / turned.sum(), *law[1:]
        rate, apart, *squares = moments_of(law)
        assert squares == pytest.approx([1.0, 1.0], rel=1e-12)
        chance_B, _, between_B, total_B = all_groups(law, 4)
        found = chance_B @ between_B / (chance_B @ total_B)
        expected = alike(rate) * share(rate, apart, *squares)
        assert found == pytest.approx(expected, rel=1e-11)
        assert found > 1.3 * share(rate, apart, *squares)
