"""Claim 2.9 against `adaptive` with importance weights, `cures.advantages` and the library's draws."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest

import cures
from cures.sampling import draw_without_replacement
from tests.scripted import ScriptedHost
from tests.theory_vs_numeric.formulas import formula
from theory import importance_weights
from theory.claims import numeric
from theory.importance_weights import chance, g, mu, n_1, n_2, pi, pi_12, spread
from theory.symbols import n, own_share

shrunk = numeric(formula(importance_weights, "2.9", "shrunk"), n)
seen_share = numeric(formula(importance_weights, "2.9", "seen"), (own_share, n_1, n_2))
within = numeric(formula(importance_weights, "2.9", "within"), (own_share, spread, chance))
pair = numeric(formula(importance_weights, "2.9", "pair"), (*pi[:2], pi_12, *mu[:2], *g[:2]))

POOL, ANSWERS, BATCH = 6, 3, 3
RNG = np.random.default_rng(5)
PROB = RNG.dirichlet(np.ones(ANSWERS), POOL)
IS_RIGHT = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]] * 2)
SCORE = np.eye(ANSWERS) - PROB[:, None, :]  # (prompt, answer, logit): prompts share the logits
GRADIENT = np.einsum("na,na,nal->nl", PROB, IS_RIGHT, SCORE)


def group_moments(prompt, size, estimator):
    """Mean and total variance of a group's gradient, over all its outcomes."""
    mean, square = np.zeros(ANSWERS), 0.0
    for answers in product(range(ANSWERS), repeat=size):
        rows = list(answers)
        advantage = cures.advantages(
            IS_RIGHT[prompt][rows], np.zeros(size, int), estimator=estimator
        )
        value = advantage @ SCORE[prompt][rows] / size
        mean += PROB[prompt][rows].prod() * value
        square += PROB[prompt][rows].prod() * (value @ value)
    return mean, square - mean @ mean


def chances_and_weights(size, estimator):
    """Of every prompt in the last plan that had it; outcomes have made them differ."""
    scheduler = cures.make_scheduler(
        "adaptive", num_prompts=POOL, batch_size=BATCH, budget=BATCH * size, seed=1,
        importance_weights=True, rest=1, estimator=estimator,
    )  # fmt: skip
    host = ScriptedHost(np.array([0.02, 0.5, 0.9, 0.3, 0.99, 0.1]), estimator=estimator)
    chance_N, weight_N = np.full(POOL, np.nan), np.full(POOL, np.nan)
    for _ in range(40):
        plan = scheduler.propose()
        assert (plan.quota_B == size).all()
        selection = scheduler.observe(host.rollout(plan))
        chance_N[plan.prompt_B] = plan.prob_B
        weight_N[plan.prompt_B] = selection.weight_G
    return chance_N, weight_N


@pytest.mark.parametrize("estimator", ["rloo", "dr_grpo"])
@pytest.mark.parametrize("size", [2, 3])
def test_adaptive_trains_the_objective_of_the_dataset(estimator, size):
    chance_N, weight_N = chances_and_weights(size, estimator)
    assert chance_N.min() < 0.8 * chance_N.max()
    mean = np.stack([group_moments(i, size, estimator)[0] for i in range(POOL)])
    factor = 1.0 if estimator == "rloo" else float(shrunk(size))
    # E of the sum: every prompt comes with its chance and its weight
    found = (chance_N * weight_N) @ mean
    np.testing.assert_allclose(found, factor * GRADIENT.mean(axis=0), rtol=0, atol=1e-12)
    plain = chance_N / BATCH @ mean  # control: equal weights
    assert np.abs(plain - factor * GRADIENT.mean(axis=0)).max() > 1e-3


def test_sizes_that_differ_train_another_objective_under_dr_grpo():
    sizes = 2, 4
    means = [group_moments(i, size, "dr_grpo")[0] for i, size in enumerate(sizes)]
    part = [np.linalg.norm(mean) / np.linalg.norm(GRADIENT[i]) for i, mean in enumerate(means)]
    found = part[0] / (part[0] + part[1])
    assert found == pytest.approx(float(seen_share(0.5, *sizes)), rel=1e-12)
    assert found < 0.41  # control: half in the dataset


def test_the_variance_is_that_of_the_librarys_draws():
    """The draws as a design of their own: each batch as often as it came, so that all is exact."""
    inclusion_N = np.array([0.9, 0.75, 0.5, 0.4, 0.3, 0.15])
    rng = np.random.default_rng(0)
    draws = 4000
    batches = Counter(
        tuple(draw_without_replacement(inclusion_N, rng).tolist()) for _ in range(draws)
    )
    share_of = {who: count / draws for who, count in batches.items()}
    own_N = np.zeros(POOL)
    both = dict.fromkeys(combinations(range(POOL), 2), 0.0)
    for who, b in share_of.items():
        own_N[list(who)] += b
        for two in combinations(who, 2):
            both[two] += b
    error = np.sqrt(inclusion_N * (1 - inclusion_N) / draws)
    assert (np.abs(own_N - inclusion_N) < 4 * error).all()  # chances are those of the plan
    assert (np.abs(own_N - 0.5) > 4 * error).sum() >= 5  # control: not those of uniform draws
    variance_N = np.array([group_moments(i, 2, "rloo")[1] for i in range(POOL)])
    weighed = GRADIENT / POOL / own_N[:, None]
    sums = np.stack([weighed[list(who)].sum(axis=0) for who in share_of])
    b = np.array(list(share_of.values()))
    target = GRADIENT.mean(axis=0)
    np.testing.assert_allclose(b @ sums, target, atol=1e-14)
    noise = np.array([(variance_N / POOL**2 / own_N**2)[list(who)].sum() for who in share_of])
    measured = b @ ((sums - target) ** 2).sum(axis=1) + b @ noise
    inside = within(1 / POOL, variance_N, own_N).sum()
    outside = sum(
        pair(own_N[i], own_N[j], together, 1 / POOL, 1 / POOL, GRADIENT[i], GRADIENT[j]).sum()
        for (i, j), together in both.items()
    )
    assert measured == pytest.approx(inside + outside, rel=1e-12)
    assert outside > 0.02 * inside  # control: the second part counts
