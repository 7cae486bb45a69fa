"""Teacher-forced log-probabilities: a head in pieces, half precision, activations made twice."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from tests.live_bytes import Computed, KeptForBackward
from tests.train_cases import ragged_rollouts, small_host
from train import policy as module
from train.policy import Policy
from train.sequences import Sequences
from train.tasks.characters import VOCABULARY_SIZE

SETTINGS = {
    "task": {"digits": [3]},  # completions of up to five tokens
    "model": {"hidden_size": 32, "layers": 2, "heads": 4, "initializer_range": 0.3},
    "rollout": {"decode_temperature": 0.8},
}


@pytest.fixture
def host():
    return small_host(**SETTINGS)


@pytest.fixture
def sequences(host):
    rollouts, prompts = ragged_rollouts(host)
    return Sequences.of(prompts, rollouts.token_R_T, rollouts.length_R)


def terms_and_gradient(policy, sequences):
    """Log-probabilities, entropies, and the gradient of something that depends on all of them."""
    policy.zero_grad()
    terms = policy(sequences)
    place_F = torch.arange(sequences.target_F.numel()) + 1.0
    (place_F * (terms.log_prob_F + 0.3 * terms.entropy_F)).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.parameters()])
    return terms.log_prob_F.detach(), terms.entropy_F.detach(), gradient


def relative_error(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def in_pieces_of(monkeypatch, tokens):
    monkeypatch.setattr(module, "MAX_LOGITS", tokens * VOCABULARY_SIZE)


@pytest.mark.parametrize("tokens", [1, 7])
def test_a_head_in_pieces_has_the_same_terms_and_gradient(host, sequences, monkeypatch, tokens):
    whole = terms_and_gradient(host.policy, sequences)
    in_pieces_of(monkeypatch, tokens)
    pieces = terms_and_gradient(host.policy, sequences)
    # float32 sums in another order: rounding is 6e-8, allow a hundred of them
    for found, expected in zip(pieces, whole, strict=True):
        assert relative_error(found, expected) < 6e-6


def is_over_the_vocabulary(tensor):
    """One number per token and word; the head's own matrix and its gradient have 32 rows."""
    return tensor.shape[1:] == (VOCABULARY_SIZE,) and len(tensor) != 32


def peak_logits(host, sequences):
    """Rows of logits, or of what is made of them, that are there at one time; calls of the head."""
    calls = []
    hook = host.model.lm_head.register_forward_hook(lambda *call: calls.append(len(call[2])))
    computed = Computed(is_over_the_vocabulary)
    with computed:
        terms_and_gradient(host.policy, sequences)
    hook.remove()
    return computed.live.peak / (4 * VOCABULARY_SIZE), calls


def test_a_head_in_pieces_never_holds_all_logits(host, sequences, monkeypatch):
    tokens = sequences.target_F.numel()
    assert tokens >= 20
    # negative control: at once, in one call; log-probabilities and their exponentials at the least
    peak_whole, calls = peak_logits(host, sequences)
    assert calls == [tokens]
    assert peak_whole >= 2 * tokens
    in_pieces_of(monkeypatch, 4)
    peak, calls = peak_logits(host, sequences)
    pieces = [4] * (tokens // 4) + ([tokens % 4] if tokens % 4 else [])
    assert sorted(calls) == sorted(2 * pieces), "forward, and once more in backward"
    # as many rows for a token of a piece as for a token of the whole, up to one gradient more
    assert peak < (peak_whole / tokens + 1) * 4


def test_without_a_gradient_pieces_are_computed_once(host, sequences, monkeypatch):
    in_pieces_of(monkeypatch, 4)
    calls = []
    host.model.lm_head.register_forward_hook(lambda *call: calls.append(len(call[2])))
    with torch.no_grad():
        host.policy(sequences)
    assert sum(calls) == sequences.target_F.numel()


def test_half_precision_is_near_and_its_numbers_and_weights_are_whole(host, sequences):
    log_prob, entropy, gradient = terms_and_gradient(host.policy, sequences)
    half = Policy(host.model, host.policy.decoding, torch.bfloat16)
    found = terms_and_gradient(half, sequences)
    assert {f.dtype for f in found} == {torch.float32}
    assert {p.dtype for p in host.model.parameters()} == {torch.float32}
    assert all(f.isfinite().all() for f in found)
    # bfloat16 rounds by up to 2^-9 = 0.002; a logit here is a sum of 32 products of numbers that
    # were rounded a dozen times on their way through two layers
    assert (found[0] - log_prob).abs().max() < 0.2
    assert (found[1] - entropy).abs().max() < 0.2
    # the gradient is worse conditioned: as good as what weights rounded once would give in float32,
    # up to a factor of 4 for all that is rounded besides
    rounded = copy.deepcopy(host.model)
    with torch.no_grad():
        for weight in rounded.parameters():
            weight.copy_(weight.bfloat16())
    other = terms_and_gradient(Policy(rounded, host.policy.decoding), sequences)
    assert relative_error(found[2], gradient) < 4 * relative_error(other[2], gradient) < 0.5
    # negative control: it is another computation, not float32 under another name
    assert (found[0] - log_prob).abs().max() > 1e-4


def kept(policy, sequences):
    hooks = KeptForBackward(policy.parameters())
    with hooks:
        found = terms_and_gradient(policy, sequences)
    return hooks.live.peak, found


def test_activations_made_twice_give_the_same_gradient_and_keep_less(host, sequences):
    bytes_once, once = kept(host.policy, sequences)
    twice_host = small_host(**SETTINGS, learner={"activation_checkpointing": True})
    bytes_twice, twice = kept(twice_host.policy, sequences)
    for found, expected in zip(twice, once, strict=True):
        assert torch.equal(found, expected), "the same operations on the same numbers"
    # of a layer its input alone, instead of a dozen tensors of that size and more
    assert bytes_twice < bytes_once / 2


def test_a_compiled_body_has_the_same_terms_and_gradient(host, sequences, monkeypatch):
    # the compiler's graph with eager kernels: whether generated kernels are right is torch's business
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda body, **o: compile_(body, backend="eager", **o))
    plain = terms_and_gradient(host.policy, sequences)
    compiled = Policy(host.model, host.policy.decoding, is_compiled=True)
    for found, expected in zip(terms_and_gradient(compiled, sequences), plain, strict=True):
        assert relative_error(found, expected) < 6e-6
    assert len(list(compiled.parameters())) == len(list(host.policy.parameters()))


@pytest.mark.parametrize("name", ["final_logit_softcapping", "logit_scale", "logits_scaling"])
def test_a_model_that_changes_its_logits_is_refused(host, name):
    setattr(host.model.config, name, 1.0)
    Policy(host.model, host.policy.decoding)
    setattr(host.model.config, name, 30.0)
    with pytest.raises(ValueError, match=rf"{name} of the model must be absent.*, got 30.0"):
        Policy(host.model, host.policy.decoding)


def test_greedy_decoding_is_no_policy(host):
    with pytest.raises(ValueError, match=r"temperature must be > 0, got 0.0"):
        Policy(host.model, replace(host.policy.decoding, temperature=0.0))
