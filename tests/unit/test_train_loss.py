"""The policy-gradient loss against worked values, plain policy gradients and enumerated policies."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from train.loss import TokenTargets, cost_to_go, policy_loss
from train.policy import TokenTerms

CLIP = {"clip_low": 0.2, "clip_high": 0.28, "entropy_bonus": 0.0}


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def targets(old, advantage, weight, **rest):
    weight_F = tensor(weight)
    return TokenTargets(tensor(advantage), weight_F, weight_F, tensor(old).log(), **rest)


def terms(now, entropy=0.0):
    return TokenTerms(tensor(now).log(), torch.full((len(now),), entropy, dtype=torch.float64))


def test_worked_example():
    # probabilities of the tokens taken, now and when sampled:
    #   rollout 0, A = +1, w = .5: now (.6, .5), then (.5, .5): ratios 1.2, 1.0, inside the clip
    #   rollout 1, A = +2, w = .25: now (.9, .5), then (.6, .5): ratios 1.5 -> 1.28, 1.0
    #   rollout 2, A = -1, w = .25: now .3, then .6: ratio .5 -> .8 (one token only)
    # min(ratio A, clipped A): 1.2, 1.0 | 2.56, 2.0 | min(-.5, -.8) = -.8
    # loss = -(.5 * 1.1 + .25 * 2.28 + .25 * -.8) = -.92; a token's weight is w / length
    found = policy_loss(
        terms([0.6, 0.5, 0.9, 0.5, 0.3]),
        targets([0.5, 0.5, 0.6, 0.5, 0.6], [1, 1, 2, 2, -1], [0.25, 0.25, 0.125, 0.125, 0.25]),
        **CLIP,
    )
    assert found.loss.item() == pytest.approx(-0.92, abs=1e-12)
    assert found.clipped.item() == 2


def test_clip_is_one_sided():
    # a ratio beyond the clip on the side that hurts is not clipped: A = -1, ratio 2 -> loss +2
    found = policy_loss(terms([0.8]), targets([0.4], [-1], [1]), **CLIP)
    assert found.loss.item() == pytest.approx(2.0, abs=1e-12)
    assert found.clipped.item() == 0


def test_correction_multiplies_the_policy_term_alone():
    # ratio 1, A = 1: -(w c + bonus w H) = -(0.5 * 1.5 + 0.1 * 0.5 * 0.7)
    given = targets([0.4], [1], [0.5], correction_F=tensor([1.5]))
    found = policy_loss(terms([0.4], 0.7), given, **{**CLIP, "entropy_bonus": 0.1})
    assert found.loss.item() == pytest.approx(-0.785, abs=1e-12)


def test_entropy_counts_where_it_is_asked_for():
    # two tokens of weight 1/2 and entropy 0.7, of which the second counts: -0.1 * 0.7 / 2
    given = TokenTargets(tensor([0, 0]), tensor([0.5, 0.5]), tensor([0, 0.5]), tensor([1, 1]).log())
    found = policy_loss(terms([1.0, 1.0], 0.7), given, **{**CLIP, "entropy_bonus": 0.1})
    assert found.loss.item() == pytest.approx(-0.035, abs=1e-12)
    assert found.entropy.item() == pytest.approx(1.4), "the measured one is of all tokens"


def test_k3_by_hand():
    # q = ref / now = 0.5: k3 = 0.5 - 1 - ln 0.5; weight 0.25, kl weight 2
    given = targets([0.4], [0], [0.25], reference_log_prob_F=tensor([0.2]).log())
    found = policy_loss(terms([0.4]), given, **CLIP, kl_weight=2.0)
    k3 = 0.5 - 1 + math.log(2)
    assert found.kl.item() == pytest.approx(k3, abs=1e-12)
    assert found.loss.item() == pytest.approx(0.5 * k3, abs=1e-12)


def test_on_policy_gradient_is_the_weighted_score():
    # at ratio 1 nothing is clipped and the gradient is that of -sum_t w_t A_t log pi
    now = tensor([0.2, 0.5, 0.7]).log().requires_grad_()
    given = TokenTargets(
        tensor([1, -2, 0.5]), tensor([0.2, 0.3, 0.5]), tensor([0, 0, 0]), now.detach()
    )
    found = policy_loss(TokenTerms(now, torch.zeros(3)), given, **CLIP)
    (gradient,) = torch.autograd.grad(found.loss, now)
    torch.testing.assert_close(gradient, tensor([-0.2, 0.6, -0.25]))


def test_losses_of_disjoint_sets_add_up():
    now, old, advantage, weight = [0.6, 0.1, 0.3], [0.5, 0.6, 0.6], [1, 2, -1], [1, 1, 1]

    def loss(rows):
        pick = [[column[r] for r in rows] for column in (now, old, advantage, weight)]
        return policy_loss(terms(pick[0]), targets(*pick[1:]), **CLIP).loss.item()

    assert loss([0]) + loss([1, 2]) == pytest.approx(loss([0, 1, 2]), abs=1e-12)


def test_cost_to_go_against_a_loop():
    generator = np.random.default_rng(0)
    length = [3, 1, 5, 2]
    cost = generator.normal(size=sum(length))
    row = np.repeat(np.arange(4), length)
    expected = [cost[t:][row[t:] == row[t]].sum() for t in range(cost.size)]
    found = cost_to_go(torch.from_numpy(cost), torch.from_numpy(row))
    assert found.numpy() == pytest.approx(np.array(expected), abs=1e-12)
    assert cost_to_go(torch.zeros(0), torch.zeros(0, dtype=torch.int64)).numel() == 0


# A policy over three tokens and completions of two, the second given the first, and its reference.
LENGTH, VOCABULARY = 2, 3


@pytest.fixture
def enumerated():
    generator = torch.Generator().manual_seed(3)
    shape = (1 + VOCABULARY, VOCABULARY)  # first token; second after each first one
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    reference = torch.randn(shape, generator=generator, dtype=torch.float64).log_softmax(-1)
    return logits, reference


def token_log_probs(table):
    """Log-probabilities of both tokens of every completion, shape (9, 2)."""
    pairs = itertools.product(range(VOCABULARY), repeat=LENGTH)
    return torch.stack([torch.stack([table[0, a], table[1 + a, b]]) for a, b in pairs])


def expected_gradient(enumerated, targets_of):
    """Exact expectation over completions of the gradient of the loss at the first step."""
    logits, reference = enumerated
    now = token_log_probs(logits.log_softmax(-1))
    ref = token_log_probs(reference)
    chance = now.detach().sum(1).exp()
    total = torch.zeros(())
    for k in range(len(now)):
        old = now[k].detach()
        loss = policy_loss(
            TokenTerms(now[k], torch.zeros(LENGTH)), targets_of(old, ref[k]), **CLIP, kl_weight=1.0
        ).loss
        total = total + chance[k] * loss
    return torch.autograd.grad(total, logits)[0]


def divergence_gradient(enumerated, *, is_reversed=False):
    """Gradient of KL(pi || ref), or of the mean over pi's prefixes of the per-token KL(ref || pi)."""
    logits, reference = enumerated
    policy = logits.log_softmax(-1)
    if not is_reversed:
        now, ref = token_log_probs(policy).sum(1), token_log_probs(reference).sum(1)
        return torch.autograd.grad((now.exp() * (now - ref)).sum(), logits)[0]
    visits = torch.cat([torch.ones(1), policy[0].detach().exp()]).double()
    per_prefix = (reference.exp() * (reference - policy)).sum(-1)
    return torch.autograd.grad((visits * per_prefix).sum(), logits)[0]


def as_cost(old, ref):
    cost = cost_to_go(old - ref, torch.zeros(LENGTH, dtype=torch.int64))
    return TokenTargets(-cost, torch.ones(LENGTH).double(), torch.zeros(LENGTH), old)


def as_k3(old, ref):
    zero = torch.zeros(LENGTH).double()
    return TokenTargets(zero, torch.ones(LENGTH).double(), zero, old, reference_log_prob_F=ref)


def test_k1_as_a_cost_has_the_gradient_of_the_divergence(enumerated):
    found = expected_gradient(enumerated, as_cost)
    torch.testing.assert_close(found, divergence_gradient(enumerated))
    # negative control: the costs of the token alone, not to the end, have another gradient
    alone = expected_gradient(
        enumerated,
        lambda old, ref: TokenTargets(
            ref - old, torch.ones(LENGTH).double(), torch.zeros(LENGTH), old
        ),
    )
    assert (alone - found).abs().max() > 1e-2


def test_k3_in_the_loss_has_the_gradient_of_the_opposite_divergence(enumerated):
    found = expected_gradient(enumerated, as_k3)
    torch.testing.assert_close(found, divergence_gradient(enumerated, is_reversed=True))
    assert (found - divergence_gradient(enumerated)).abs().max() > 1e-2


def test_k1_as_a_term_of_the_loss_would_do_nothing(enumerated):
    logits, reference = enumerated
    now, ref = token_log_probs(logits.log_softmax(-1)), token_log_probs(reference)
    mean = (now.detach().sum(1).exp() * (now - ref).sum(1)).sum()
    (gradient,) = torch.autograd.grad(mean, logits)
    assert gradient.abs().max() < 1e-12
