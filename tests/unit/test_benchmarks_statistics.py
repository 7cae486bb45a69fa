"""pass@k against enumeration, intervals against scipy and their own coverage, scores by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest

from train.benchmarks import interval
from train.benchmarks.answer_file import Answer
from train.benchmarks.interval import Estimate, clustered_interval, mean_of, wilson
from train.benchmarks.pass_at_k import pass_at_k
from train.benchmarks.scores import score


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(n):
    for right in range(n + 1):
        answers = [True] * right + [False] * (n - right)
        for k in range(1, n + 1):
            # enumeration of all k-subsets
            subsets = [any(subset) for subset in combinations(answers, k)]
            expected = sum(subsets) / len(subsets)
            assert pass_at_k([right], [n], k)[0] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("n", "right", "k"), [(10_000, 5, 1000), (10_000, 1, 9_999), (256, 1, 1)])
def test_pass_at_k_of_many_answers(n, right, k):
    # exact, in rationals: C(10000, 1000) has 1410 digits
    expected = 1 - Fraction(math.comb(n - right, k), math.comb(n, k))
    assert pass_at_k([right], [n], k)[0] == pytest.approx(float(expected), rel=1e-11)


def test_pass_at_k_is_unbiased_and_the_plug_in_is_not():
    # expectation over all outcomes of n answers of success rate p, by the binomial weights
    n, k, p = 6, 3, 0.3
    weight = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    estimate = pass_at_k(np.arange(n + 1), np.full(n + 1, n), k)
    truth = 1 - (1 - p) ** k
    assert np.dot(weight, estimate) == pytest.approx(truth, abs=1e-14)
    plug_in = 1 - (1 - np.arange(n + 1) / n) ** k
    assert np.dot(weight, plug_in) < truth - 0.05  # control


def test_pass_at_k_where_too_few_were_judged():
    found = pass_at_k([1, 1, 0, 0], [3, 2, 2, 0], 3)
    assert found[0] == 1.0
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize(
    ("right", "judged", "k", "message"),
    [
        ([3], [2], 1, "right_N must be <= judged_N, which is 2 at index 0, got 3"),
        ([0], [2], 0, "k must be an int in [1, inf)"),
        ([-1], [2], 1, "right_N must be in [0, inf)"),
        ([0, 0], [2], 1, "right_N must be of shape (1,), got shape (2,)"),
    ],
)
def test_pass_at_k_refuses(right, judged, k, message):
    with pytest.raises(ValueError, match=r"^pass_at_k: ") as error:
        pass_at_k(right, judged, k)
    assert message in str(error.value)


@pytest.mark.parametrize(("right", "problems"), [(0, 30), (1, 30), (17, 40), (500, 500), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_one_answer_per_problem_is_wilson(right, problems, confidence):
    values = [1.0] * right + [0.0] * (problems - right)
    found = clustered_interval(values, 1, confidence=confidence)
    # scipy
    expected = binomtest(right, problems).proportion_ci(confidence, method="wilson")
    assert found.value == pytest.approx(right / problems)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_several_answers_lie_between_problems_and_answers():
    generator = np.random.default_rng(0)
    value_N = generator.binomial(8, generator.beta(1.0, 1.0, 50)) / 8
    found = clustered_interval(value_N, 8)
    independent = wilson(float(value_N.mean()), 400)
    one_each = wilson(float(value_N.mean()), 50)
    assert found.high - found.low > 1.5 * (independent.high - independent.low)
    assert found.high - found.low < one_each.high - one_each.low
    # all answers to a problem alike: they count once
    alike = (generator.random(50) < 0.5).astype(float)
    assert clustered_interval(alike, 8) == clustered_interval(alike, 1)
    # problems alike: every answer counts, and no more than that
    every = wilson(0.5, 400)
    found = clustered_interval(np.full(50, 0.5), 8)
    assert (found.low, found.high) == pytest.approx((every.low, every.high))


# problems, samples, and the Beta distribution that the problems' success rates follow: easy and hard
# benchmarks, spread out and alike, of the sizes of the paper's
POPULATIONS = [
    (30, 16, 0.15, 1.5),
    (30, 16, 0.05, 2.5),
    (30, 16, 0.02, 1.0),
    (30, 16, 0.5, 0.5),
    (30, 16, 2.0, 0.1),
    (30, 16, 50.0, 50.0),
    (40, 16, 0.8, 0.8),
    (40, 16, 5.0, 5.0),
    (272, 4, 0.4, 1.0),
    (500, 1, 2.0, 1.0),
]
REPEATS = 1500


def coverage(interval_of, problems, samples, a, b, truth, value_of=lambda right, n: right / n):
    """Share of simulated benchmarks whose interval holds the population's mean."""
    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(REPEATS):
        right_N = generator.binomial(samples, generator.beta(a, b, problems))
        found = interval_of(value_of(right_N, samples), samples)
        hits += found.low <= truth <= found.high
    return hits / REPEATS


def four_sigma(share):
    return 4 * math.sqrt(share * (1 - share) / REPEATS)


@pytest.mark.parametrize("population", POPULATIONS)
def test_the_interval_covers(population):
    problems, samples, a, b = population
    found = coverage(clustered_interval, problems, samples, a, b, truth=a / (a + b))
    assert 0.94 - four_sigma(0.94) < found < 0.99 + four_sigma(0.99)


@pytest.mark.parametrize("population", [p for p in POPULATIONS if p[1] > 1 and p[2] < 5.0])
def test_answers_taken_for_independent_do_not_cover(population):
    # control: the same check must refuse Wilson's interval for problems x samples answers
    problems, samples, a, b = population

    def independent(value_N, samples):
        return wilson(float(value_N.mean()), value_N.size * samples)

    found = coverage(independent, problems, samples, a, b, truth=a / (a + b))
    assert found < 0.83


def test_the_half_problem_is_needed(monkeypatch):
    # control: where most success rates are near 0, the spread seen among 30 problems is too small
    monkeypatch.setattr(interval, "PSEUDO_PROBLEMS", 1e-9)
    problems, samples, a, b = 30, 16, 0.02, 1.0
    assert coverage(clustered_interval, problems, samples, a, b, truth=a / (a + b)) < 0.89


def test_the_interval_of_pass_at_k_covers():
    problems, samples, k, a, b = 30, 16, 4, 0.3, 2.0

    def value_of(right_N, n):
        return pass_at_k(right_N, np.full(right_N.size, n), k)

    # E (1 - p)^k under Beta(a, b): product of (b + j) / (a + b + j)
    truth = 1 - math.prod((b + j) / (a + b + j) for j in range(k))
    found = coverage(clustered_interval, problems, samples, a, b, truth, value_of)
    assert 0.94 - four_sigma(0.94) < found < 0.99 + four_sigma(0.99)
    # control: pass@1's truth is another one
    assert coverage(clustered_interval, problems, samples, a, b, a / (a + b), value_of) < 0.5


@pytest.mark.parametrize(
    ("values", "samples", "message"),
    [
        ([], 1, "value_N must be numbers in [0, 1], at least one, got []"),
        ([1.5], 1, "value_N must be numbers in [0, 1], at least one, got [1.5]"),
        ([np.nan], 1, "value_N must be finite"),
        ([0.5], 0, "samples must be an int in [1, inf)"),
    ],
)
def test_the_interval_refuses(values, samples, message):
    with pytest.raises(ValueError, match="clustered_interval: ") as error:
        clustered_interval(values, samples)
    assert message in str(error.value)


def test_mean_of_estimates():
    # four intervals of half-width h, symmetric: the mean's is h / 2, as of independent normal means
    found = mean_of([Estimate(v, v - 0.1, v + 0.1) for v in (0.2, 0.4, 0.6, 0.8)])
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.45, 0.55))
    # each side by itself, by hand: sqrt(0.3^2 + 0.4^2) / 2 below, sqrt(0 + 0.1^2) / 2 above
    found = mean_of([Estimate(0.5, 0.2, 0.5), Estimate(0.5, 0.1, 0.6)])
    assert (found.low, found.high) == pytest.approx((0.25, 0.55))
    with pytest.raises(ValueError, match="at least one"):
        mean_of([])


def test_the_average_covers():
    generator = np.random.default_rng(3)
    sets = [(30, 16, 0.15, 1.5), (40, 16, 0.8, 0.8), (500, 1, 2.0, 1.0)]
    truth = np.mean([a / (a + b) for _, _, a, b in sets])
    hits = 0
    for _ in range(REPEATS):
        found = mean_of(
            [
                clustered_interval(generator.binomial(s, generator.beta(a, b, n)) / s, s)
                for n, s, a, b in sets
            ]
        )
        hits += found.low <= truth <= found.high
    assert 0.94 - four_sigma(0.94) < hits / REPEATS < 0.99 + four_sigma(0.99)


def answer(problem, sample, reward, finish="stop", verdict="reward", tokens=10, boxed="1"):
    return Answer(
        problem=problem,
        sample=sample,
        completion="",
        extracted=boxed,
        reference="1",
        verdict=reward if verdict == "reward" else verdict,
        reward=reward,
        finish=finish,
        tokens=tokens,
    )


def test_scores_by_hand():
    found = score(
        [
            answer(0, 0, 1.0),
            answer(0, 1, None, finish="missing", tokens=0, boxed=None),  # the engine had no time
            answer(1, 0, 0.0, finish="length", verdict=1.0, tokens=40),
            answer(1, 1, 0.0, boxed=None),
            answer(2, 0, None),  # the verifier had no time
            answer(2, 1, None),
            answer(3, 0, 1.0),
            answer(3, 1, 0.0),
        ],
        samples=2,
    )
    # problems 0, 1 and 3 were judged: (1/1 + 0/2 + 1/2) / 3
    assert found.pass_at_1.value == pytest.approx(0.5)
    # 2 of 8 right if the missing ones are wrong, 5 of 8 if they are right
    assert (found.lowest, found.highest) == (0.25, 0.625)
    assert (found.problems, found.answers, found.missing, found.truncated) == (4, 8, 3, 1)
    assert (found.without_box, found.unanswered) == (1, 0)
    # seven answers that are not missing: six of 10 tokens, one of 40
    assert found.mean_tokens == pytest.approx(100 / 7)
    # with the truncated one right by its text: (1 + 1/2 + 1/2) / 3
    assert found.with_truncated == pytest.approx(2 / 3)
    # two judged answers: problems 1 (none right) and 3 (one right: every pair has it)
    assert found.pass_at_k[2].value == pytest.approx(0.5)
    assert set(found.pass_at_k) == {1, 2}


def test_scores_of_nothing_judged():
    found = score([answer(0, 0, None, finish="missing", tokens=0, boxed=None)], samples=1)
    assert found.pass_at_1 is None
    assert found.with_truncated is None
    assert found.mean_tokens is None
    assert found.pass_at_k == {}
    assert (found.lowest, found.highest) == (0.0, 1.0)


def test_scores_count_problems_without_a_published_answer():
    answers = [answer(p, s, 0.0) for p in range(3) for s in range(2)]
    answers = [replace(a, reference="" if a.problem == 1 else "1") for a in answers]
    assert score(answers, samples=2).unanswered == 1


def test_which_k():
    answers = [answer(0, s, float(s == 0)) for s in range(12)]
    # one of twelve is right: pass@k is k / 12
    found = score(answers, samples=12).pass_at_k
    assert {k: e.value for k, e in found.items()} == pytest.approx(
        {1: 1 / 12, 2: 2 / 12, 4: 4 / 12, 8: 8 / 12, 12: 1.0}
    )
