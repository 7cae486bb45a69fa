"""`oracle`: Eq. 14 and Eq. 20 at the true rates, asked for once per update."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import cures
from tests.scripted import ScriptedHost

RATE_N = np.array([0.0, 0.1, 0.3, 0.5, 0.5, 0.9, 1.0, 0.2])


def make(rate=lambda: RATE_N, **settings):
    return cures.make_scheduler(
        "oracle", num_prompts=8, batch_size=16, budget=128, true_success_rate=rate, **settings
    )


def test_rates_are_asked_for_once_per_update():
    calls = []

    def rate():
        calls.append(1)
        return RATE_N

    scheduler = make(rate)
    opened = [scheduler.propose() for _ in range(3)]
    assert len(calls) == 1
    scheduler.observe(ScriptedHost(RATE_N).outcome(opened[0]))
    scheduler.propose()
    assert len(calls) == 2
    resumed = make(rate)
    resumed.load_state_dict(scheduler.state_dict())
    resumed.propose()
    assert len(calls) == 2  # the rates of this update travel in the state


def test_draws_follow_equation_14_of_the_learnable_prompts():
    learnable_N = np.array(
        [True] * 4 + [False] + [True] * 3
    )  # one of the two coins cannot be learned
    counts = np.zeros(8)
    for seed in range(300):
        plan = make(seed=seed, temperature=0.2, learnable=learnable_N).propose()
        counts[plan.prompt_B] += plan.draw_B

    def expected(worth_N):
        score = np.exp(worth_N / 0.2)
        return counts.sum() * score / score.sum()

    worth_N = np.sqrt(RATE_N * (1 - RATE_N))
    assert stats.chisquare(counts, expected(worth_N * learnable_N)).pvalue > 1e-3
    assert stats.chisquare(counts, expected(worth_N)).pvalue < 1e-6  # negative control


def test_what_was_never_visited_counts_like_the_mean_of_what_was():
    def law(scheduler):
        scheduler.propose()
        return scheduler.sampling_distribution()

    def softmax(worth_N):
        score = np.exp(worth_N / 0.2)
        return score / score.sum()

    worth_N = np.sqrt(RATE_N * (1 - RATE_N))
    scheduler = make(temperature=0.2, knows="visited")
    plan = scheduler.propose()
    assert np.allclose(scheduler.sampling_distribution(), 1 / 8, rtol=1e-15)  # nobody is known
    assert np.allclose(scheduler.gradient_std(np.arange(8))[0], 1.0)
    scheduler.observe(ScriptedHost(RATE_N).outcome(plan))
    is_seen_N = np.isin(np.arange(8), plan.prompt_B)
    assert 0 < is_seen_N.sum() < 8  # else there is nothing to see here
    believed_N = np.where(is_seen_N, worth_N, worth_N[is_seen_N].mean())
    assert np.allclose(law(scheduler), softmax(believed_N), rtol=1e-12)
    assert not np.allclose(law(scheduler), softmax(worth_N), rtol=1e-3)  # which is 'all'
    assert np.allclose(law(make(temperature=0.2)), softmax(worth_N), rtol=1e-12)
    told = make()
    told.propose()
    sigma_N, _ = told.gradient_std(np.arange(8))
    expected_N = np.where(is_seen_N, sigma_N, sigma_N[is_seen_N].mean())
    assert np.allclose(scheduler.gradient_std(np.arange(8))[0], expected_N, rtol=1e-12)
    resumed = make(temperature=0.2, knows="visited")
    resumed.load_state_dict(scheduler.state_dict())
    assert np.array_equal(law(resumed), law(scheduler))
    with pytest.raises(ValueError, match="knows must be one of"):
        make(knows="some")


def test_prompts_that_join_are_not_visited_yet():
    rate_N = RATE_N
    scheduler = make(lambda: rate_N, knows="visited", temperature=0.2)
    scheduler.observe(ScriptedHost(RATE_N).outcome(scheduler.propose()))
    is_seen_N = np.append(scheduler.state_dict()["rule/visited_N"], [0, 0]) == 1
    rate_N = np.append(RATE_N, [0.5, 0.0])
    scheduler.extend(2)
    scheduler.propose()
    worth_N = np.sqrt(rate_N * (1 - rate_N))
    score_N = np.exp(np.where(is_seen_N, worth_N, worth_N[is_seen_N].mean()) / 0.2)
    assert np.allclose(scheduler.sampling_distribution(), score_N / score_N.sum(), rtol=1e-12)


def test_relabelling_the_prompts_relabels_the_distribution():
    order = np.random.default_rng(0).permutation(8)
    plain, moved = make(), make(lambda: RATE_N[order])
    plain.propose(), moved.propose()
    assert np.allclose(
        plain.sampling_distribution()[order], moved.sampling_distribution(), rtol=1e-15
    )


@pytest.mark.parametrize(
    ("rate", "sentence"),
    [
        (0.5, "true_success_rate must be callable"),
        (lambda: RATE_N[:3], r"true_success_rate\(\) must be of shape \(8,\)"),
        (lambda: RATE_N + 0.5, r"true_success_rate\(\) must be in \[0.0, 1.0\]"),
    ],
)
def test_bad_rates_are_named(rate, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(rate).propose()
    with pytest.raises(ValueError, match="learnable must be 8 booleans"):
        make(learnable=np.ones(8))
