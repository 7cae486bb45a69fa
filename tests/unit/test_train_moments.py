"""Closed-form score moments against one backward pass per rollout."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train_cases import plan_of, sequences_of, small_host, with_rewards
from train import gradient_moments as module
from train.gradient_moments import gradient_moments, moments_of_gram, score_gram
from train.rollouts import Rollouts
from train.tasks.characters import EOS, PAD

REWARD = [1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0]  # groups of 5, 1 (wrong -> see below), 2 and 4


@pytest.fixture(scope="module", params=[1.0, 0.6])
def case(request):
    """Host, rollouts of four groups with rewards by decree, and their scores by autograd."""
    host = small_host(
        model={"hidden_size": 32, "layers": 2, "heads": 4},
        rollout={"decode_temperature": request.param},
    )
    plan = plan_of([5, 1, 2, 4])
    host.rollout(plan)
    rollouts = with_lengths(with_rewards(host.pending, [float(r) for r in REWARD]))
    scores = [head_score(host, rollouts.take(torch.tensor([i]))) for i in range(12)]
    return host, plan, rollouts, np.stack(scores)


def with_lengths(rollouts):
    """The same rollouts with their ends after 1, 2, 3, 1, 2, ... tokens."""
    columns = rollouts.as_dict()
    length_R = torch.arange(len(rollouts)) % 3 + 1
    position = torch.arange(3)
    # what had ended before goes on with some digit: nothing follows an end, and no policy says PAD
    going = columns["token_R_T"].masked_fill(columns["token_R_T"] < 3, 5)
    token_R_T = going.masked_fill(position == length_R[:, None] - 1, EOS)
    columns["token_R_T"] = token_R_T.masked_fill(position >= length_R[:, None], PAD)
    columns["length_R"] = length_R
    return Rollouts(**columns)


def head_score(host, rollout):
    """Gradient of the log-probability of one rollout by one backward pass through the model."""
    host.model.zero_grad()
    host.policy(sequences_of(host, rollout)).log_prob_F.sum().backward()
    return host.model.lm_head.weight.grad.double().flatten().numpy().copy()


def found_moments(case):
    host, plan, rollouts, _ = case
    return gradient_moments(
        host.policy,
        host.task.pool.prompts.take(rollouts.prompt_R.numpy()),
        rollouts,
        plan.group_B,
        pass_tokens=30,
    )


def expected_moments(case):
    """The definitions of Eq. 21's inputs, from scores as vectors."""
    _, plan, rollouts, scores = case
    rows = []
    for group in plan.group_B:
        mine = rollouts.group_R.numpy() == group
        right = scores[mine & (rollouts.reward_R.numpy() == 1)]
        wrong = scores[mine & (rollouts.reward_R.numpy() == 0)]
        rows.append(
            {
                "sq_norm_correct": (right**2).sum(1).mean() if len(right) else np.nan,
                "sq_norm_wrong": (wrong**2).sum(1).mean() if len(wrong) else np.nan,
                "norm_correct": np.linalg.norm(right, axis=1).mean() if len(right) else np.nan,
                "norm_wrong": np.linalg.norm(wrong, axis=1).mean() if len(wrong) else np.nan,
                "sq_norm_difference": unbiased_difference(right, wrong),
            }
        )
    return rows


def unbiased_difference(right, wrong):
    """Average over all choices of two different right and two different wrong rollouts of
    (a - c) . (b - d): every factor is an independent draw, so the average is unbiased."""
    products = [
        (right[i] - wrong[k]) @ (right[j] - wrong[m])
        for i in range(len(right))
        for j in range(len(right))
        if i != j
        for k in range(len(wrong))
        for m in range(len(wrong))
        if k != m
    ]
    return np.mean(products) if products else np.nan


def test_agree_with_autograd(case):
    found = found_moments(case)
    for b, expected in enumerate(expected_moments(case)):
        for name, value in expected.items():
            assert getattr(found, name)[b] == pytest.approx(value, rel=1e-4, nan_ok=True), (b, name)


@pytest.mark.parametrize("entries", [1, 50, 100])
def test_small_blocks_give_the_same_moments(case, monkeypatch, entries):
    # 1: one row of one group at a time; 50 and 100: some rows of the groups of 4 and 5 (36 and 45
    # products of tokens per row), all of the others
    expected = found_moments(case)
    monkeypatch.setattr(module, "MAX_GRAM_ENTRIES", entries)
    found = found_moments(case)
    for name in ("sq_norm_correct", "sq_norm_wrong", "norm_correct", "norm_wrong"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)
    # a difference of products: float32 roundings of them, not of it
    scale = np.nanmax(expected.sq_norm_correct)
    np.testing.assert_allclose(
        found.sq_norm_difference, expected.sq_norm_difference, atol=1e-6 * scale
    )


@pytest.mark.parametrize("size", [1, 7, 40])
def test_products_of_tokens_never_exceed_their_bound(monkeypatch, size):
    """Memory is bounded for one huge group too: watch every matrix that multiplication makes."""
    monkeypatch.setattr(module, "MAX_GRAM_ENTRIES", 2000)
    hidden, residual = torch.rand(1, size, 3, 8), torch.rand(1, size, 3, 5)
    made = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            if "mm" in str(function):
                made.append(result.numel())
            return result

    with Watch():
        gram = score_gram(hidden, residual)
    assert made
    assert max(made) <= 2000
    if size == 40:  # negative control: at once it would be (40 * 3)^2 products
        assert (size * 3) ** 2 > 2000
    scores = torch.einsum("bnth,bntv->bnhv", hidden, residual).flatten(2)
    torch.testing.assert_close(gram, scores @ scores.mT)


def test_nan_exactly_where_rollouts_are_too_few(case):
    found = found_moments(case)
    # groups: 2 right 3 wrong; 1 right; 1 right 1 wrong; 2 right 2 wrong
    assert np.isnan(found.sq_norm_wrong).tolist() == [False, True, False, False]
    assert np.isnan(found.sq_norm_correct).tolist() == [False, False, False, False]
    assert np.isnan(found.sq_norm_difference).tolist() == [False, True, True, False]


def test_plug_in_difference_would_be_seen(case):
    # negative control: the squared difference of the sample means, diagonal included, is larger
    _, _, rollouts, scores = case
    mine = rollouts.group_R.numpy() == 0
    right = scores[mine & (rollouts.reward_R.numpy() == 1)]
    wrong = scores[mine & (rollouts.reward_R.numpy() == 0)]
    plug_in = ((right.mean(0) - wrong.mean(0)) ** 2).sum()
    assert found_moments(case).sq_norm_difference[0] < 0.9 * plug_in


def test_difference_is_unbiased_in_many_dimensions():
    # scores N(mean, I) in 200 dimensions, means one apart: the truth is 1. The plug-in with 2 + 2
    # rollouts has expectation 1 + 200/2 + 200/2 = 201.
    generator = np.random.default_rng(3)
    shift = np.full(200, 1 / np.sqrt(200))
    reward = np.array([1.0, 1.0, 0.0, 0.0])
    estimates, plug_ins = [], []
    for _ in range(2000):
        scores = generator.normal(size=(4, 200)) + reward[:, None] * shift
        estimates.append(moments_of_gram(scores @ scores.T, reward)["sq_norm_difference"])
        plug_ins.append(((scores[:2].mean(0) - scores[2:].mean(0)) ** 2).sum())
    band = 4 * np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - 1.0) < band
    assert abs(np.mean(plug_ins) - 1.0) > band


def test_host_reports_moments_only_when_asked():
    asked = small_host(rollout={"gradient_moments": True})
    assert asked.rollout(plan_of([4, 4], wants_moments=True)).moments_B is not None
    assert asked.rollout(plan_of([4, 4], plan_id=1, first_group=2)).moments_B is None
    assert small_host().rollout(plan_of([4, 4], wants_moments=True)).moments_B is None


def test_tied_head_is_refused():
    host = small_host(rollout={"gradient_moments": True})
    host.model.config.tie_word_embeddings = True
    with pytest.raises(ValueError, match="untied, bias-free head"):
        host.rollout(plan_of([2], wants_moments=True))
