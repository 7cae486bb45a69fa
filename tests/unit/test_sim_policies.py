"""Simulated policies against enumeration of their answers, finite differences and closed forms."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from scipy.stats import chisquare, ortho_group

from sim.item_response import ItemResponse
from sim.skills import Skills, threshold_for_success_rate
from sim.tabular import Tabular
from tests.tabular_cases import fisher_of, kl_of


def item_response():
    generator = np.random.default_rng(0)
    return ItemResponse(generator.normal(size=(3, 2)), np.array([0.3, -0.5, 1.0]))


def tabular(features=False):
    generator = np.random.default_rng(1)
    right = np.array([[True, False, False], [True, True, False], [False, False, True]])
    return Tabular(
        right,
        generator.normal(size=(3, 2)) if features else None,
        generator.normal(size=(3, 3)) if features else None,
    )


def skills(rotated=False):
    # prompt 1 uses skill 2 twice; prompt 0 is one step long and its padding must not matter
    chain = np.array([[1, 3, 3], [2, 0, 2], [3, 1, 0]])
    rotation = ortho_group.rvs(4, random_state=2) if rotated else None
    return Skills(chain, np.array([1, 3, 2]), 4, np.array([0.2, -0.4, 0.1]), rotation)


POLICIES = {
    "item_response": item_response(),
    "tabular": tabular(),
    "tabular with features": tabular(features=True),
    "skills": skills(),
    "skills rotated": skills(rotated=True),
}


def answer_probability(policy, theta, prompt):
    """Chance of every answer, from the definition of the policy and nothing else."""
    if isinstance(policy, ItemResponse):
        p = expit(policy.loading_N_D[prompt] @ theta - policy.threshold_N[prompt])
        return np.array([1 - p, p])
    if isinstance(policy, Tabular):
        weight = theta.reshape(-1, 3)
        if policy.features_N_F is None:
            logits = weight[prompt]
        else:
            logits = policy.features_N_F[prompt] @ weight + policy.offset_N_K[prompt]
        return np.exp(logits) / np.exp(logits).sum()
    strength = theta if policy.rotation_K_K is None else policy.rotation_K_K @ theta
    steps = policy.chain_N_L[prompt][: policy.length_N[prompt]]
    q = expit(strength[steps] - policy.threshold_N[prompt])
    return np.append(np.cumprod(np.append(1.0, q))[:-1] * (1 - q), np.prod(q))


def theta_of(policy, seed=3):
    return np.random.default_rng(seed).normal(size=policy.num_parameters)


def score_of(policy, theta, prompt, answer):
    return policy.score_sum(theta, np.array([prompt]), np.array([answer]), np.ones(1))


cases = pytest.mark.parametrize("name", POLICIES)


@cases
def test_success_rate_is_the_chance_of_right_answers(name):
    policy = POLICIES[name]
    theta = theta_of(policy)
    for prompt in range(3):
        chance = answer_probability(policy, theta, prompt)
        answers = np.arange(chance.size)
        right = policy.is_right(np.full(answers.size, prompt), answers)
        expected = chance[right].sum()
        assert policy.success_rate(theta, np.array([prompt]))[0] == pytest.approx(
            expected, rel=1e-13
        )


@cases
def test_score_is_the_gradient_of_the_log_probability(name):
    # central differences, step 1e-6: error about 1e-10
    policy = POLICIES[name]
    theta = theta_of(policy)
    for prompt in range(3):
        for answer in range(answer_probability(policy, theta, prompt).size):
            numeric = np.zeros(theta.size)
            for d in range(theta.size):
                step = np.zeros(theta.size)
                step[d] = 1e-6
                high = answer_probability(policy, theta + step, prompt)[answer]
                low = answer_probability(policy, theta - step, prompt)[answer]
                numeric[d] = (np.log(high) - np.log(low)) / 2e-6
            np.testing.assert_allclose(score_of(policy, theta, prompt, answer), numeric, atol=1e-8)


@cases
def test_scores_average_to_zero_and_right_ones_to_the_gradient(name):
    # E[s] = 0 and E[r s] = grad p, by enumeration of the answers
    policy = POLICIES[name]
    theta = theta_of(policy)
    for prompt in range(3):
        chance = answer_probability(policy, theta, prompt)
        answers = np.arange(chance.size)
        right = policy.is_right(np.full(answers.size, prompt), answers)
        score = np.array([score_of(policy, theta, prompt, a) for a in answers])
        np.testing.assert_allclose(chance @ score, 0.0, atol=1e-14)
        gradient = policy.success_gradient(theta, np.array([prompt]), np.ones(1))
        np.testing.assert_allclose((chance * right) @ score, gradient, atol=1e-14)


@cases
def test_sums_are_weighted_and_accumulate_repeated_prompts(name):
    policy = POLICIES[name]
    theta = theta_of(policy)
    prompt, answer = np.array([0, 1, 1, 2]), np.array([1, 0, 1, 0])
    weight = np.array([0.5, -2.0, 3.0, 1.5])
    parts = [
        w * score_of(policy, theta, p, a) for p, a, w in zip(prompt, answer, weight, strict=True)
    ]
    total = policy.score_sum(theta, prompt, answer, weight)
    np.testing.assert_allclose(total, np.sum(parts, axis=0), atol=1e-13)
    parts = [
        w * policy.success_gradient(theta, np.array([p]), np.ones(1))
        for p, w in zip(prompt, weight, strict=True)
    ]
    total = policy.success_gradient(theta, prompt, weight)
    np.testing.assert_allclose(total, np.sum(parts, axis=0), atol=1e-13)


@cases
def test_local_scores_have_the_inner_products_of_full_scores(name):
    policy = POLICIES[name]
    theta = theta_of(policy)
    for prompt in range(3):
        answers = np.arange(answer_probability(policy, theta, prompt).size)
        full = np.array([score_of(policy, theta, prompt, a) for a in answers])
        local = policy.local_score(theta, np.full(answers.size, prompt), answers)
        np.testing.assert_allclose(local @ local.T, full @ full.T, atol=1e-13)


@cases
def test_generated_answers_follow_the_probabilities(name):
    """Chi-square of 40 000 answers; the same counts must refuse other parameters."""
    policy = POLICIES[name]
    theta = theta_of(policy)
    size = 40_000
    for prompt in range(3):
        generator = np.random.default_rng([4, prompt])
        answer = policy.generate(theta, np.full(size, prompt), generator)
        chance = answer_probability(policy, theta, prompt)
        count = np.bincount(answer, minlength=chance.size)
        assert chisquare(count, size * chance).pvalue > 6e-5  # 4 sigma, two-sided
        wrong = answer_probability(policy, 0.9 * theta + 0.02, prompt)
        assert chisquare(count, size * wrong).pvalue < 6e-5


@cases
def test_answers_are_derived_from_the_generator(name):
    policy = POLICIES[name]
    theta = theta_of(policy)
    prompt = np.array([0, 1, 2, 1])
    first = policy.generate(theta, prompt, np.random.default_rng(5))
    second = policy.generate(theta, prompt, np.random.default_rng(5))
    np.testing.assert_array_equal(first, second)


# -- the tabular policy, where the paper's bounds are exact ------------------------------------------


def test_fisher_matrix_is_the_covariance_of_the_scores():
    policy = tabular()
    theta = theta_of(policy)
    for prompt in range(3):
        chance = answer_probability(policy, theta, prompt)
        score = np.array([score_of(policy, theta, prompt, a) for a in range(3)])
        block = score[:, 3 * prompt : 3 * prompt + 3]
        expected = (chance[:, None] * block).T @ block
        np.testing.assert_allclose(fisher_of(policy, theta, prompt), expected, atol=1e-15)


def test_cramer_rao_holds_with_equality():
    # g^T F^+ g = p (1 - p): the bound behind Eq. (11) is attained by a tabular softmax
    policy = tabular()
    theta = theta_of(policy)
    for prompt in range(3):
        g = policy.logit_gradient(theta, np.array([prompt]))[0]
        p = policy.success_rate(theta, np.array([prompt]))[0]
        value = g @ np.linalg.pinv(fisher_of(policy, theta, prompt)) @ g
        assert value == pytest.approx(p * (1 - p), rel=1e-10)


@cases
@pytest.mark.parametrize("prompt", [0, 1, 2])
def test_cramer_rao_is_strict_exactly_where_scores_cannot_express_the_reward(name, prompt):
    """g^T F^+ g, of each policy's own gradient and scores, against p (1 - p), for every prompt.

    It is the variance that the scores explain of the reward, so equal to p (1 - p) iff reward - p is
    a linear combination of them. A chain of L distinct skills has L + 1 answers and L scores, enough
    for every function of mean 0; prompt 1 uses one skill twice, hence has a score too few.
    """
    policy = POLICIES[name]
    theta = theta_of(policy)
    chance = answer_probability(policy, theta, prompt)
    answers = np.arange(chance.size)
    score = np.array([score_of(policy, theta, prompt, answer) for answer in answers])
    g = policy.success_gradient(theta, np.array([prompt]), np.ones(1))
    fisher = (chance[:, None] * score).T @ score
    value = g @ np.linalg.pinv(fisher, rcond=1e-10, hermitian=True) @ g
    reward = policy.is_right(np.full(answers.size, prompt), answers).astype(float)
    p = policy.success_rate(theta, np.array([prompt]))[0]
    # least squares of the reward on the scores, weighted by chance: neither g nor F goes in
    root = np.sqrt(chance)
    fit = score @ np.linalg.lstsq(root[:, None] * score, root * (reward - p), rcond=1e-10)[0]
    assert value == pytest.approx(chance @ fit**2, rel=1e-9)
    if name.startswith("skills") and prompt == 1:
        assert value < 0.97 * p * (1 - p)  # 0.956 and 0.587 of it
    else:
        assert value == pytest.approx(p * (1 - p), rel=1e-9)


def test_divergence_is_exact_and_fisher_to_second_order():
    policy = tabular(features=True)
    theta, other = theta_of(policy), theta_of(policy, seed=9)
    for prompt in range(3):
        pi = answer_probability(policy, theta, prompt)
        rho = answer_probability(policy, other, prompt)
        expected = np.sum(pi * np.log(pi / rho))
        measured = kl_of(policy, theta, other, np.array([prompt]))[0]
        assert measured == pytest.approx(expected, rel=1e-12)
    table = tabular()
    theta = theta_of(table)
    step = 1e-3 * np.arange(9.0)
    for prompt in range(3):
        d = step[3 * prompt : 3 * prompt + 3]
        expected = 0.5 * d @ fisher_of(table, theta, prompt) @ d
        measured = kl_of(table, theta, theta + step, np.array([prompt]))[0]
        # the next term is of relative size |d|: at most .01
        assert measured == pytest.approx(expected, rel=0.02)


def test_extreme_logits_stay_finite():
    policy = Tabular(np.array([[True, False]]))
    theta = np.array([800.0, -800.0])
    assert policy.success_rate(theta, np.array([0]))[0] == 1.0
    assert np.isfinite(log_softmax(theta)).all()
    assert policy.generate(theta, np.zeros(100, dtype=int), np.random.default_rng(0)).max() == 0


# -- skills ------------------------------------------------------------------------------------------


def test_thresholds_give_the_wanted_success_rates():
    generator = np.random.default_rng(6)
    strength = generator.normal(size=10)
    chain = generator.integers(0, 10, size=(200, 6))
    length = generator.integers(1, 7, size=200)
    rate = generator.uniform(1e-6, 1 - 1e-6, size=200)
    threshold = threshold_for_success_rate(strength, chain, length, rate)
    policy = Skills(chain, length, 10, threshold)
    np.testing.assert_allclose(policy.success_rate(strength, np.arange(200)), rate, rtol=1e-9)


def test_training_one_prompt_helps_those_that_share_its_skills():
    chain = np.array([[0, 1], [1, 2], [3, 4]])
    policy = Skills(chain, np.full(3, 2), 5, np.zeros(3))
    theta = np.zeros(5)
    step = policy.success_gradient(theta, np.array([0]), np.ones(1))
    before, after = (policy.success_rate(t, np.arange(3)) for t in (theta, theta + step))
    assert after[0] > before[0]
    assert after[1] > before[1]  # shares skill 1
    assert after[2] == before[2]  # shares nothing


def test_tokens_are_the_steps_tried():
    policy = skills()
    # prompt 1 has three steps: fail at once, fail at the last, pass all
    tokens = policy.num_tokens(np.array([1, 1, 1]), np.array([0, 2, 3]))
    assert tokens.tolist() == [1, 3, 3]


def test_a_rotation_changes_coordinates_and_nothing_else():
    plain, rotated = skills(), skills(rotated=True)
    strength = theta_of(plain)
    theta = rotated.rotation_K_K.T @ strength
    prompt = np.arange(3)
    np.testing.assert_allclose(
        rotated.success_rate(theta, prompt), plain.success_rate(strength, prompt), rtol=1e-12
    )
    # a plain gradient step commutes with the rotation
    step = plain.success_gradient(strength, prompt, np.ones(3))
    turned = rotated.success_gradient(theta, prompt, np.ones(3))
    np.testing.assert_allclose(rotated.rotation_K_K @ turned, step, atol=1e-13)


# -- size and bad input ------------------------------------------------------------------------------


def test_cost_follows_the_prompts_touched():
    """A million prompts: one update's work must not allocate anything of that length."""
    generator = np.random.default_rng(7)
    policy = ItemResponse(generator.normal(size=(1_000_000, 2)), np.zeros(1_000_000))
    theta, prompt = np.ones(2), generator.integers(0, 1_000_000, size=512)
    tracemalloc.start()
    answer = policy.generate(theta, prompt, generator)
    policy.score_sum(theta, prompt, answer, np.ones(512))
    peak = tracemalloc.get_traced_memory()[1]
    policy.success_rate(theta, np.arange(1_000_000))  # negative control: this one does
    control = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # one byte per prompt
    assert control > 8_000_000


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: ItemResponse(np.ones(3), np.ones(3)),
            r"ItemResponse: loading_N_D must be .*, got shape \(3,\)$",
        ),
        (lambda: ItemResponse(np.ones((3, 1)), np.ones(2)), "ItemResponse: threshold_N must be"),
        (lambda: Tabular(np.ones((2, 3))), r"is_right_N_K must be bool.*, got float64 \(2, 3\)$"),
        (lambda: Tabular(np.ones((2, 1), dtype=bool)), "Tabular: is_right_N_K must be bool"),
        (
            lambda: Tabular(np.ones((2, 3), bool), np.ones((3, 1))),
            r"features_N_F must be .*, got shape \(3, 1\)$",
        ),
        (
            lambda: Tabular(np.ones((2, 3), bool), None, np.full((2, 3), np.nan)),
            "Tabular: offset_N_K must be finite, got a value that is not$",
        ),
        (
            lambda: Skills(np.array([[0, 7]]), np.array([2]), 5, np.zeros(1)),
            r"Skills: chain_N_L must be in \[0, 4\], got \[0, 7\]$",
        ),
        (
            lambda: Skills(np.array([[0, 1]]), np.array([3]), 5, np.zeros(1)),
            "Skills: length_N must be",
        ),
        (
            lambda: Skills(np.array([[0]]), np.array([1]), 1, np.zeros(1), np.array([[2.0]])),
            "Skills: rotation_K_K must be orthogonal to 1e-9, got off by 3$",  # 2 * 2 - 1
        ),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_tabular_takes_lists():
    policy = Tabular([[True, False], [False, True]], features_N_F=[[1.0], [2.0]])
    assert policy.num_prompts == 2
    assert policy.features_N_F.shape == (2, 1)
