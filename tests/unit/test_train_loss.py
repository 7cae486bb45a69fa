"""The policy-gradient loss against worked values and the plain policy gradient."""

from __future__ import annotations

import math

import pytest
import torch

from train.loss import policy_loss

TOKENS = torch.tensor([[0, 1], [1, 0], [0, 0]])
LENGTHS = torch.tensor([2, 2, 1])
CLIP = {"clip_low": 0.2, "clip_high": 0.28, "entropy_bonus": 0.0}


def two_token_policy(prob_of_zero):
    """Log-probabilities over a vocabulary of two, shape (R, T, 2)."""
    p = torch.tensor(prob_of_zero)
    return torch.stack([p, 1 - p], dim=-1).log()


def test_worked_example():
    # probabilities of the tokens taken, now and when sampled:
    #   rollout 0, A = +1, w = .5: now (.6, .5), then (.5, .5): ratios 1.2, 1.0, inside the clip
    #   rollout 1, A = +2, w = .25: now (.9, .5), then (.6, .5): ratios 1.5 -> 1.28, 1.0
    #   rollout 2, A = -1, w = .25: now .3, then .6: ratio .5 -> .8 (one token only)
    # min(ratio A, clipped A): 1.2, 1.0 | 2.56, 2.0 | min(-.5, -.8) = -.8
    # loss = -(.5 * 1.1 + .25 * 2.28 + .25 * -.8) = -.92
    terms = policy_loss(
        two_token_policy([[0.6, 0.5], [0.1, 0.5], [0.3, 0.5]]),
        TOKENS,
        torch.tensor([[0.5, 0.5], [0.6, 0.5], [0.6, 0.5]]).log(),
        LENGTHS,
        torch.tensor([1.0, 2.0, -1.0]),
        torch.tensor([0.5, 0.25, 0.25]),
        **CLIP,
    )
    assert terms.loss.item() == pytest.approx(-0.92, abs=1e-6)
    assert terms.clipped.item() == 2


def test_clip_is_one_sided():
    # A ratio beyond the clip on the side that hurts is not clipped: A = -1, ratio 2 -> loss +2
    terms = policy_loss(
        two_token_policy([[0.8]]),
        torch.tensor([[0]]),
        torch.tensor([[0.4]]).log(),
        torch.tensor([1]),
        torch.tensor([-1.0]),
        torch.tensor([1.0]),
        **CLIP,
    )
    assert terms.loss.item() == pytest.approx(2.0, abs=1e-6)
    assert terms.clipped.item() == 0


def test_entropy_bonus_by_hand():
    # entropy of (.5, .5) is ln 2, of (.9, .1) it is .325083; rollout 0 has two tokens, weight 1
    log_policy = two_token_policy([[0.5, 0.9]])
    terms = policy_loss(
        log_policy,
        torch.tensor([[0, 0]]),
        log_policy[..., 0],
        torch.tensor([2]),
        torch.tensor([0.0]),
        torch.tensor([1.0]),
        clip_low=0.2,
        clip_high=0.28,
        entropy_bonus=0.1,
    )
    entropy = math.log(2) - 0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert terms.loss.item() == pytest.approx(-0.1 * entropy / 2, abs=1e-6)
    assert terms.entropy.item() == pytest.approx(entropy, abs=1e-6)


def test_on_policy_gradient_is_the_weighted_score():
    # at ratio 1 nothing is clipped and the gradient is that of -sum_r w_r A_r mean_t log pi
    logits = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    advantage, weight = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.2, 0.3, 0.5])
    log_policy = logits.log_softmax(-1)
    taken = log_policy.gather(-1, TOKENS.unsqueeze(-1)).squeeze(-1)
    mask = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    plain = -(weight * advantage * (taken * mask).sum(1) / LENGTHS).sum()
    (expected,) = torch.autograd.grad(plain, logits, retain_graph=True)
    terms = policy_loss(log_policy, TOKENS, taken.detach(), LENGTHS, advantage, weight, **CLIP)
    (found,) = torch.autograd.grad(terms.loss, logits)
    torch.testing.assert_close(found, expected)
    assert (found[2, 1] == 0).all(), "padding has no gradient"


def test_losses_of_disjoint_sets_add_up():
    log_policy = two_token_policy([[0.6, 0.5], [0.1, 0.5], [0.3, 0.5]])
    old = torch.tensor([[0.5, 0.5], [0.6, 0.5], [0.6, 0.5]]).log()
    columns = (log_policy, TOKENS, old, LENGTHS, torch.tensor([1.0, 2.0, -1.0]), torch.ones(3))
    whole = policy_loss(*columns, **CLIP).loss
    parts = [policy_loss(*(c[rows] for c in columns), **CLIP).loss for rows in ([0], [1, 2])]
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-6)
