"""Chapter 5 against `cures.gradient_std` and the exact scores of the simulator's tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cures import gradient_std, gradient_std_released, gradient_std_surrogate, gradient_variance
from sim.moments import score_moments
from sim.tabular import Tabular
from tests.theory_vs_numeric.formulas import formula
from theory import few_answers, gradient_shape, two_answers
from theory import gradient_std as chapter
from theory.claims import numeric
from theory.few_answers import K_0, K_1, K
from theory.gradient_shape import G
from theory.gradient_std import L, slope
from theory.score_law import G_0, G_1, M_1, N_0, N_1, D
from theory.symbols import p
from theory.two_answers import filler

moments_of_21 = (p, G_1, G_0, D)
stated = numeric(formula(chapter, "5.1", "variance"), moments_of_21)
difference = numeric(formula(chapter, "5.2", "difference"), (p, M_1))
gradient_sq = numeric(formula(chapter, "5.2", "gradient_sq"), (p, D))
short = numeric(formula(chapter, "5.2", "short"), (p, G_1, G_0, slope))
even = numeric(formula(gradient_shape, "5.3", "even"), (p, G, D))
threshold = numeric(formula(gradient_shape, "5.3", "threshold"), G)
hump = numeric(formula(gradient_shape, "5.3", "hump"), (G, D))
top = numeric(formula(gradient_shape, "5.3", "top"), (G, D))
ceiling = numeric(formula(gradient_shape, "5.4", "ceiling"), (p, G))
of_two = numeric(formula(two_answers, "5.5", "variance"), (p, L))
top_of_two = numeric(formula(two_answers, "5.5", "top"), L)
with_filler = numeric(formula(two_answers, "5.6", "variance"), (p, L, filler))
filler_threshold = numeric(formula(two_answers, "5.6", "threshold"), L)
of_table = numeric(formula(few_answers, "5.7", "table"), (p, K_1, K_0))
of_even_table = numeric(formula(few_answers, "5.7", "even"), (p, K))
one_right = numeric(formula(few_answers, "5.7", "one_right"), p)
released = numeric(formula(chapter, "5.8", "released"), (p, G_1, G_0, N_1, N_0))
excess = numeric(formula(chapter, "5.8", "excess"), (p, D, N_1, N_0))
released_for_two = numeric(formula(chapter, "5.8", "two_answers"), (p, L))

RATES = np.array([1e-6, 0.01, 0.2, 0.5, 0.7, 0.95, 0.999])
FINE = np.linspace(0.001, 0.999, 999)  # 1/2 is in it
FIRST = np.array([0])


class Enumerated:
    """Moments of one prompt's score over all answers of a policy of the simulator."""

    def __init__(self, policy: Tabular, theta: np.ndarray):
        answer_K = np.arange(policy.num_answers)
        prompt_K = np.zeros_like(answer_K)
        self.pi = policy.probability(theta, FIRST)[0]
        self.score = np.array(
            [policy.score_sum(theta, FIRST, answer_K[k : k + 1], np.ones(1)) for k in answer_K]
        )
        self.right = policy.is_right(prompt_K, answer_K)
        self.p = policy.success_rate(theta, FIRST)[0]
        self.gradient = policy.success_gradient(theta, FIRST, np.ones(1))
        square = (self.score**2).sum(axis=1)
        (self.sq_1, self.mean_1, self.norm_1), (self.sq_0, self.mean_0, self.norm_0) = (
            (law @ square, law @ self.score, law @ np.sqrt(square))
            for law in (self.pi * kind / (self.pi @ kind) for kind in (self.right, ~self.right))
        )
        self.distance = float(np.linalg.norm(self.mean_1 - self.mean_0))

    def variance(self, advantage_K: np.ndarray) -> float:
        """Trace of the covariance of advantage times score, from the definition."""
        contribution = advantage_K[:, None] * self.score
        return float(self.pi @ ((contribution - self.pi @ contribution) ** 2).sum(axis=1))


def world(kind: str, seed: int) -> Enumerated:
    rng = np.random.default_rng(seed)
    right = rng.random((1, 6)) < 0.4
    right[0, :2] = True, False
    if kind == "table":
        return Enumerated(Tabular(right), 0.8 * rng.normal(size=6))
    policy = Tabular(right, rng.normal(size=(1, 3)), rng.normal(size=(1, 6)))
    return Enumerated(policy, 0.5 * rng.normal(size=18))


WORLDS = list(product(("table", "features"), range(4)))


# -- claims 5.1 and 5.2 ------------------------------------------------------------------------------


def test_the_library_computes_21_on_a_grid():
    rate, right, wrong, distance = (
        x.ravel() for x in np.meshgrid(RATES, [0.5, 3.0], [0.7, 40.0], [0.0, 0.4, 1.1])
    )
    expected = stated(rate, right, wrong, distance)
    found = gradient_variance(rate, right**2, wrong**2, distance**2)
    # (21) as printed subtracts its last term last: relative to what is subtracted from
    size = stated(rate, right, wrong, 0.0)
    assert (np.abs(found - expected) <= 1e-12 * size).all()
    exchanged = stated(rate, wrong, right, distance)  # negative control
    assert (np.abs(found - exchanged) > 1e-3 * size).any()


@pytest.mark.parametrize(("kind", "seed"), WORLDS)
def test_variance_of_the_simulators_policies(kind: str, seed: int):
    law = world(kind, seed)
    truth = law.variance(law.right - law.p)
    assert stated(law.p, law.sq_1**0.5, law.sq_0**0.5, law.distance) == pytest.approx(
        truth, rel=1e-12
    )
    sigma = gradient_std(law.p, law.sq_1, law.sq_0, law.distance**2)
    assert sigma**2 == pytest.approx(truth, rel=1e-12)
    plain = law.variance(law.right.astype(float))  # negative control: reward, no baseline
    assert sigma**2 != pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize(("kind", "seed"), WORLDS)
def test_last_term_is_the_squared_gradient(kind: str, seed: int):
    law = world(kind, seed)
    length = float(np.linalg.norm(law.gradient))
    mean_right = float(np.linalg.norm(law.mean_1))
    assert difference(law.p, mean_right) == pytest.approx(law.distance, rel=1e-12)
    assert gradient_sq(law.p, law.distance) == pytest.approx(length**2, rel=1e-12)
    found = gradient_variance(law.p, law.sq_1, law.sq_0, law.distance**2)
    expected = short(law.p, law.sq_1**0.5, law.sq_0**0.5, length)
    assert found == pytest.approx(expected, rel=1e-12)
    assert mean_right != pytest.approx(law.distance, rel=0.01)  # negative control: no factor


def test_measured_difference_is_unbiased_over_all_groups():
    """Groups of two right and two wrong rollouts, each with its probability; D^2 of claim 5.2."""
    law = world("table", 1)
    unbiased = plug_in = mass = 0.0
    for group in product(range(6), repeat=4):
        right = law.right[list(group)]
        if right.sum() != 2:
            continue
        chance, score = law.pi[list(group)].prod(), law.score[list(group)]
        measured = score_moments(score, right, np.zeros(4, dtype=np.int64), 1)
        unbiased += chance * measured.sq_norm_difference[0]
        plug_in += chance * ((score[right].mean(0) - score[~right].mean(0)) ** 2).sum()
        mass += chance
    assert unbiased / mass == pytest.approx(law.distance**2, rel=1e-12)
    assert plug_in / mass > law.distance**2 * 1.05  # negative control: squares counted as signal


# -- claims 5.3 and 5.4 ------------------------------------------------------------------------------


def is_bell(variance_S: np.ndarray) -> bool:
    """Up to the middle of an odd grid, down from there."""
    middle = variance_S.size // 2
    step = np.diff(variance_S)
    return bool((step[:middle] > 0).all() and (step[middle:] < 0).all())


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.01, 1.5, 2.0])
def test_sigma_of_the_library_is_a_bell_up_to_the_threshold(share: float):
    norm = 1.7
    distance_sq = share * threshold(norm)
    variance_S = gradient_variance(FINE, norm**2, norm**2, distance_sq)
    assert variance_S == pytest.approx(even(FINE, norm, distance_sq**0.5), rel=1e-12)
    assert is_bell(variance_S) == (share <= 1.0)
    if share > 1.0:
        product_ = hump(norm, distance_sq**0.5)
        rate = (1 - np.sqrt(1 - 4 * product_)) / 2
        at_hump = gradient_variance(rate, norm**2, norm**2, distance_sq)
        assert at_hump == pytest.approx(top(norm, distance_sq**0.5), rel=1e-12)
        assert at_hump >= variance_S.max()
        assert at_hump > gradient_variance(0.5, norm**2, norm**2, distance_sq)


@pytest.mark.parametrize("kind", ["table", "features"])
def test_no_policy_of_the_simulator_is_above_the_ceiling(kind: str):
    # with unequal norms the one of the rarer outcome binds: its mean score is the longer one
    for seed in range(40):
        law = world(kind, seed)
        rarer = law.sq_0 if law.p >= 0.5 else law.sq_1
        assert law.distance <= ceiling(max(law.p, 1 - law.p), rarer**0.5) * (1 + 1e-12)


def test_surrogate_is_21_with_unit_norms_and_no_difference():
    assert gradient_std_surrogate(RATES) ** 2 == pytest.approx(even(RATES, 1.0, 0.0), rel=1e-12)
    assert gradient_std_surrogate(0.3) ** 2 != pytest.approx(even(0.3, 1.0, 0.5), rel=1e-3)


# -- claims 5.5 to 5.7 -------------------------------------------------------------------------------


def even_table(right: int, wrong: int, rate: float) -> Enumerated:
    logit = np.log([rate / right] * right + [(1 - rate) / wrong] * wrong)
    return Enumerated(Tabular(np.array([[True] * right + [False] * wrong])), logit)


def sigma_sq(law: Enumerated) -> float:
    return float(gradient_variance(law.p, law.sq_1, law.sq_0, law.distance**2))


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.4, 0.7, 0.99])
def test_two_answers(rate: float):
    found = sigma_sq(even_table(1, 1, rate))
    assert found == pytest.approx(of_two(rate, np.sqrt(2)), rel=1e-10)  # small beside its terms
    assert found <= top_of_two(np.sqrt(2))
    assert found != pytest.approx(rate * (1 - rate), rel=1e-3)  # negative control: the bell


def test_two_answers_have_no_variance_at_one_half():
    assert sigma_sq(even_table(1, 1, 0.5)) == pytest.approx(0.0, abs=1e-15)
    assert sigma_sq(even_table(1, 2, 0.5)) > 0.01  # negative control: a third answer


@pytest.mark.parametrize(("own", "bell"), [(0.0, False), (0.9, False), (1.1, True), (9.0, True)])
def test_tokens_that_do_not_matter_make_the_bell(own: float, bell: bool):
    length = 1.3
    h = own * filler_threshold(length)
    right_sq, wrong_sq = (1 - FINE) ** 2 * length**2 + h, FINE**2 * length**2 + h
    variance_S = gradient_variance(FINE, right_sq, wrong_sq, length**2)
    expected = with_filler(FINE, length, h)
    assert np.abs(variance_S - expected).max() <= 1e-12 * expected.max()
    assert is_bell(variance_S) == bell


@pytest.mark.parametrize(("right", "wrong"), [(1, 1), (1, 4), (2, 3), (5, 1), (30, 70)])
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.6, 0.9])
def test_tables_of_a_few_answers(right: int, wrong: int, rate: float):
    found = sigma_sq(even_table(right, wrong, rate))
    assert found == pytest.approx(of_table(rate, right, wrong), rel=1e-10)
    if right != wrong:  # negative control: right and wrong exchanged
        assert found != pytest.approx(of_table(rate, wrong, right), rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_bell_from_three_and_three_answers_on(size: int):
    rates = np.linspace(0.02, 0.98, 49)
    variance_S = np.array([sigma_sq(even_table(size, size, rate)) for rate in rates])
    assert variance_S == pytest.approx(of_even_table(rates, size), rel=1e-10, abs=1e-15)
    assert is_bell(variance_S) == (size >= 3)


def test_one_right_answer_among_many():
    rates = np.array([0.1, 0.5, 0.767])
    limit = one_right(rates)
    near, far = (
        np.abs([sigma_sq(even_table(1, many, rate)) for rate in rates] - limit)
        for many in (50, 200)
    )
    assert near / far == pytest.approx(4.0, rel=1e-6)  # what is left is c / K_0 (5.7)
    assert (far < 2e-3).all()
    fine = np.linspace(0.001, 0.999, 999)
    assert fine[np.argmax(one_right(fine))] == pytest.approx(0.767)
    assert one_right(0.767) > one_right(0.74)  # negative control
    assert not is_bell(one_right(fine))


# -- claim 5.8 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seed"), WORLDS)
def test_the_released_variant(kind: str, seed: int):
    law = world(kind, seed)
    found = gradient_std_released(law.p, law.norm_1, law.norm_0, law.sq_1, law.sq_0) ** 2
    roots = law.sq_1**0.5, law.sq_0**0.5
    assert found == pytest.approx(released(law.p, *roots, law.norm_1, law.norm_0), rel=1e-12)
    signed = (law.right - law.p) * np.linalg.norm(law.score, axis=1)
    scalar = law.pi @ (signed - law.pi @ signed) ** 2  # variance of the number A |s|
    assert found == pytest.approx(scalar, rel=1e-12)
    truth = law.variance(law.right - law.p)
    assert found == pytest.approx(
        truth + excess(law.p, law.distance, law.norm_1, law.norm_0), rel=1e-12
    )
    assert found != pytest.approx(truth, rel=1e-3)  # negative control: it is not (21)


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_the_released_variant_for_two_answers(rate: float):
    law = even_table(1, 1, rate)
    found = gradient_std_released(law.p, law.norm_1, law.norm_0, law.sq_1, law.sq_0) ** 2
    assert found == pytest.approx(released_for_two(rate, np.sqrt(2)), rel=1e-12)
    assert found > of_two(rate, np.sqrt(2))
    # all rollouts agree: the released code gives nothing, whatever the norms
    assert gradient_std_released([0.0, 1.0], np.nan, np.nan, np.nan, np.nan).tolist() == [0.0, 0.0]
