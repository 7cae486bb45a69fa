"""Score moments: equal to loops over rollouts, unbiased where they claim to be."""

from __future__ import annotations

import numpy as np
import pytest

from sim.moments import score_moments
from sim.tabular import Tabular


def looped(score, right, index, group):
    """Moments of one group by explicit loops over rollouts and pairs of different rollouts."""
    kinds = [
        [s for s, r, g in zip(score, right, index, strict=True) if g == group and r == kind]
        for kind in (True, False)
    ]
    sq = [np.mean([s @ s for s in k]) if k else np.nan for k in kinds]
    norm = [np.mean([np.sqrt(s @ s) for s in k]) if k else np.nan for k in kinds]
    difference = np.nan
    if min(map(len, kinds)) >= 2:
        own = [
            np.mean([a @ b for i, a in enumerate(k) for j, b in enumerate(k) if i != j])
            for k in kinds
        ]
        difference = sum(own) - 2 * np.mean([a @ b for a in kinds[0] for b in kinds[1]])
    return [*sq, difference, *norm]


def test_equal_to_loops_and_nan_where_nothing_was_measured():
    generator = np.random.default_rng(0)
    # group 0: 3 right 2 wrong; 1: all right; 2: all wrong; 3: one right, three wrong; 4: nothing
    index = np.repeat([0, 1, 2, 3], [5, 2, 2, 4])
    right = np.array([1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0], dtype=bool)
    order = generator.permutation(index.size)
    index, right = index[order], right[order]
    score = generator.normal(size=(index.size, 3))
    moments = score_moments(score, right, index, 5)
    for group in range(5):
        measured = [
            moments.sq_norm_correct[group],
            moments.sq_norm_wrong[group],
            moments.sq_norm_difference[group],
            moments.norm_correct[group],
            moments.norm_wrong[group],
        ]
        np.testing.assert_allclose(measured, looped(score, right, index, group), rtol=1e-12)
    assert np.isnan(moments.sq_norm_difference[1:]).all()


def test_difference_of_means_is_unbiased():
    """20 000 groups of eight rollouts of one tabular prompt; the plug-in must fail the same check.

    Given at least two right and two wrong ones, the estimate's mean is |E[s|r=1] - E[s|r=0]|^2,
    which for the logits of one prompt follows from the answer probabilities.
    """
    policy = Tabular(np.array([[True, True, False, False, False]]))
    theta = np.array([0.5, -0.2, 0.1, 0.4, -0.6])
    pi = policy.probability(theta, np.array([0]))[0]
    right = policy.is_right_N_K[0]
    mean = [np.where(kind, pi, 0.0) / pi[kind].sum() for kind in (right, ~right)]
    exact = np.sum((mean[0] - mean[1]) ** 2)  # the -pi of the score cancels in the difference

    groups, size = 20_000, 8
    prompt = np.zeros(groups * size, dtype=np.int64)
    answer = policy.generate(theta, prompt, np.random.default_rng(1))
    score = policy.local_score(theta, prompt, answer)
    is_right = policy.is_right(prompt, answer)
    index = np.repeat(np.arange(groups), size)
    estimate = score_moments(score, is_right, index, groups).sq_norm_difference
    estimate = estimate[~np.isnan(estimate)]
    error = estimate.std() / np.sqrt(estimate.size)
    assert estimate.mean() == pytest.approx(exact, abs=4 * error)

    plug_in = []
    for group in range(2000):
        block, kind = score[group * size :][:size], is_right[group * size :][:size]
        if 2 <= kind.sum() <= size - 2:
            plug_in.append(np.sum((block[kind].mean(0) - block[~kind].mean(0)) ** 2))
    assert abs(np.mean(plug_in) - exact) > 4 * np.std(plug_in) / np.sqrt(len(plug_in))
