"""The gradient of an update: whatever the passes and their order, with and without what is skipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.live_bytes import KeptForBackward
from tests.train_cases import ragged_rollouts, small_host
from train import learner as module
from train.learner import Learner
from train.loss import policy_loss
from train.rollouts import Rollouts

# any numbers will do; three rollouts are wasted
ADVANTAGE = np.array([1.2, -0.8, 0.0, 0.5, 1.5, 0.0, -0.7, 2.0, -0.5, 0.0, -0.5, 0.9])
WEIGHT = np.linspace(0.05, 0.16, 12)
SAME = 1e-5  # float32 sums in another order: a hundred and more roundings of 6e-8


def host_of(**learner):
    """One optimiser step per update, so that there is one gradient, and no clipping of it."""
    return small_host(
        task={"digits": [3]},  # completions of up to five tokens
        model={"hidden_size": 32, "heads": 4, "initializer_range": 0.3},
        rollout={"decode_temperature": 0.8},
        learner={"minibatches": 1, "max_grad_norm": 1e9, "entropy_bonus": 0.0, **learner},
    )


def update(host, rollouts, prompts, *, advantage=ADVANTAGE, weight=WEIGHT, update_step=0):
    return host.learner.update(
        rollouts,
        prompts,
        advantage,
        weight,
        generated=12,
        step_scale=1.0,
        update_step=update_step,
    )


def gradients(host, rollouts, prompts, **options):
    """Metrics of an update, and the gradient of each of its steps as one vector."""
    found = []

    def keep(optimizer, *_):
        parts = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        found.append(torch.cat(parts).clone())

    hook = host.learner.optimizer.register_step_pre_hook(keep)
    metrics = update(host, rollouts, prompts, **options)
    hook.remove()
    return metrics, found


def gradient(host, *, shift=0.0, **options):
    """Of rollouts whose sampler was off by ``shift`` nats times a number per token."""
    rollouts, prompts = shifted(host, shift)
    metrics, (found,) = gradients(host, rollouts, prompts, **options)
    return metrics, found


def shifted(host, shift):
    rollouts, prompts = ragged_rollouts(host)
    noise = np.random.default_rng(0).normal(size=rollouts.log_prob_R_T.shape)
    return of_sampler(rollouts, rollouts.log_prob_R_T + shift * torch.from_numpy(noise)), prompts


def of_sampler(rollouts, log_prob_R_T):
    """The same rollouts, sampled with other probabilities by their account."""
    return Rollouts(**{**rollouts.as_dict(), "log_prob_R_T": log_prob_R_T.float()})


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


EVERYTHING = {
    "entropy_bonus": 0.05, "entropy_over": "all", "kl": "k3", "kl_weight": 0.1,
    "mismatch": "truncated",
}  # fmt: skip


@pytest.mark.parametrize("terms", [{}, EVERYTHING], ids=["plain", "everything"])
def test_the_gradient_does_not_depend_on_the_passes(terms):
    # 1: a row a pass; 30: two or three rows, of unequal lengths; 10^6: all in one
    found = [
        gradient(host_of(pass_tokens=tokens, **terms), shift=0.3)[1] for tokens in (1, 30, 10**6)
    ]
    assert error(found[0], found[2]) < SAME
    assert error(found[1], found[2]) < SAME
    # negative control: a single row less is another gradient
    weight = WEIGHT * (np.arange(12) != 3)
    _, without = gradient(host_of(pass_tokens=30, **terms), shift=0.3, weight=weight)
    assert error(without, found[2]) > 1e-2


def test_the_gradient_does_not_depend_on_the_order_of_rows():
    host = host_of(pass_tokens=30)
    _, expected = gradient(host, shift=0.3)
    for step in (1, 2):  # another permutation of the minibatch
        _, found = gradient(host_of(pass_tokens=30), shift=0.3, update_step=step)
        assert error(found, expected) < SAME
    order = np.random.default_rng(1).permutation(12)
    other = host_of(pass_tokens=30)
    rollouts, prompts = shifted(other, 0.3)
    rows = torch.from_numpy(order)
    _, (found,) = gradients(
        other,
        rollouts.take(rows),
        prompts.take(order),
        advantage=ADVANTAGE[order],
        weight=WEIGHT[order],
    )
    assert error(found, expected) < SAME


def test_gradients_of_minibatches_add_up_to_that_of_the_batch():
    # a learning rate of 1e-30 moves no float32, so both minibatches see one policy; of two
    # minibatches each stands for the whole batch, so their mean is the gradient of all
    _, expected = gradient(host_of(), shift=0.3)
    host = host_of(minibatches=2, learning_rate=1e-30)
    rollouts, prompts = shifted(host, 0.3)
    _, (first, second) = gradients(host, rollouts, prompts)
    assert error((first + second) / 2, expected) < SAME
    assert error(first, expected) > 1e-2


@pytest.mark.parametrize(
    ("bonus", "entropy_over"), [(0.0, "informative"), (0.05, "informative"), (0.0, "all")]
)
@pytest.mark.parametrize("mismatch", ["off", "truncated"])
def test_what_is_skipped_has_no_gradient(bonus, entropy_over, mismatch):
    options = {"entropy_bonus": bonus, "mismatch": mismatch, "entropy_over": entropy_over}
    metrics, found = gradient(host_of(**options), shift=0.3)
    whole, expected = gradient(host_of(skip_untouched=False, **options), shift=0.3)
    assert (metrics["learned_from"], whole["learned_from"]) == (9, 12)
    assert metrics["informative"] == whole["informative"] == 9
    assert error(found, expected) < SAME
    assert metrics["loss"] == pytest.approx(whole["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"entropy_bonus": 0.05, "entropy_over": "all"},
        {"kl": "k3", "kl_weight": 0.1},
        {"kl": "k1", "kl_weight": 0.1},
    ],
    ids=["entropy", "k3", "k1"],
)
def test_nothing_is_skipped_where_every_rollout_counts(options, monkeypatch):
    metrics, found = gradient(host_of(**options), shift=0.3)
    assert metrics["learned_from"] == 12
    _, expected = gradient(host_of(skip_untouched=False, **options), shift=0.3)
    assert error(found, expected) < SAME
    # negative control: left out by force, they are missed
    monkeypatch.setattr(Learner, "_touched", lambda self, a: np.flatnonzero(a != 0.0))
    forced, other = gradient(host_of(**options), shift=0.3)
    assert forced["learned_from"] == 9
    assert error(other, expected) > 1e-2


def captured(host, rollouts, prompts, monkeypatch, **options):
    """What the loss is given, pass by pass, and the metrics."""
    calls = []

    def keep(terms, targets, **weights):
        calls.append((terms, targets))
        return policy_loss(terms, targets, **weights)

    with monkeypatch.context() as patch:
        patch.setattr(module, "policy_loss", keep)
        metrics = update(host, rollouts, prompts, **options)
    return calls, metrics


def test_truncated_correction_by_hand(monkeypatch):
    host = host_of(mismatch="truncated", mismatch_cap=2.0, pass_tokens=10**6)
    rollouts, prompts = ragged_rollouts(host)
    true = rollouts.log_prob_R_T
    # the sampler said: rows 0-3 what is true, 4-7 half the probability, 8-11 a third too much
    factor = torch.tensor([1.0, 0.25, 1.5]).repeat_interleave(4)
    sampled = of_sampler(rollouts, true + factor.log()[:, None])
    calls, metrics = captured(host, sampled, prompts, monkeypatch)
    ((terms, targets),) = calls
    used = np.flatnonzero(ADVANTAGE)
    length = rollouts.length_R[used].numpy()
    # min(1 / factor, 2): 1, 2 (not 4), 2/3, in whatever order the pass has the rows
    by_row = np.array([1.0, 2.0, 2 / 3]).repeat(4)[used]
    expected = np.repeat(by_row, length)
    assert np.sort(targets.correction_F) == pytest.approx(np.sort(expected), rel=1e-4)
    assert metrics["mismatch"] == pytest.approx(expected.mean(), rel=1e-4)
    # ratios are to the trainer's own policy, so the first step clips nothing
    torch.testing.assert_close(targets.old_log_prob_F, terms.log_prob_F, atol=1e-5, rtol=0)
    assert metrics["clip_share"] == 0.0
    # negative control: uncorrected, ratios are to what the sampler said
    calls, metrics = captured(host_of(pass_tokens=10**6), sampled, prompts, monkeypatch)
    ((terms, targets),) = calls
    assert targets.correction_F is None
    assert metrics["mismatch"] is None
    ratio = (terms.log_prob_F - targets.old_log_prob_F).exp().detach().numpy()
    expected = np.repeat(1 / factor.numpy()[used], length)
    assert np.sort(ratio) == pytest.approx(np.sort(expected), rel=1e-4)
    assert metrics["clip_share"] > 0.0


def test_correction_is_kept_while_the_policy_moves(monkeypatch):
    # the second minibatch meets another policy; its old one and its correction are those before
    host = host_of(mismatch="truncated", minibatches=2, learning_rate=0.05, pass_tokens=10**6)
    rollouts, prompts = ragged_rollouts(host)
    calls, _ = captured(host, rollouts, prompts, monkeypatch)
    (terms, targets) = calls[1]
    ones = torch.ones_like(targets.correction_F)  # the sampler was right
    torch.testing.assert_close(targets.correction_F, ones, atol=1e-4, rtol=0)
    assert (terms.log_prob_F - targets.old_log_prob_F).abs().max() > 1e-2


def reference_log_prob(host, rollouts, prompts):
    """Of every token, row by row, by the reference's own forward pass."""
    rows = []
    for r in range(len(rollouts)):
        tokens = rollouts.token_R_T[r, : rollouts.length_R[r]]
        ids = torch.cat([prompts.row(r), tokens])
        with torch.no_grad():
            logits = host.learner.reference.model(input_ids=ids[None]).logits[0]
        logits = logits[prompts.length_N[r] - 1 : -1, 2:].double() / 0.8  # 0 and 1 are forbidden
        rows.append(logits.log_softmax(-1)[torch.arange(len(tokens)), tokens - 2].numpy())
    return rows


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_divergence_from_the_reference(kind, monkeypatch):
    host = host_of(kl=kind, kl_weight=0.3, pass_tokens=1)  # a row a pass, shortest first
    rollouts, prompts = ragged_rollouts(host)
    reference = reference_log_prob(host, rollouts, prompts)
    calls, metrics = captured(host, rollouts, prompts, monkeypatch)
    of_row = {tuple(ref.round(4)): r for r, ref in enumerate(reference)}
    assert len(of_row) >= 9, "otherwise rows cannot be told apart"
    k3 = []
    for _, targets in calls:
        r = of_row[tuple(targets.reference_log_prob_F.double().numpy().round(4))]
        old = rollouts.log_prob_R_T[r, : rollouts.length_R[r]].double().numpy()
        k1 = old - reference[r]
        # k1 is taken from the advantage, from each token to the end; k3 leaves it alone
        cost = 0.3 * np.cumsum(k1[::-1])[::-1] if kind == "k1" else 0.0
        expected = np.broadcast_to(ADVANTAGE[r] - cost, old.shape)
        assert targets.advantage_F.numpy() == pytest.approx(expected, abs=1e-4)
        k3 += (np.exp(-k1) - 1 + k1).tolist()
    # the same policy samples and learns, so k3 is measured at the tokens' own probabilities
    assert metrics["kl"] == pytest.approx(np.mean(k3), rel=1e-4)
    assert metrics["kl"] > 0.01
    # a term of the loss in one case alone: with a weight of 0 that gradient is another
    _, with_term = gradient(host_of(kl=kind, kl_weight=0.3))
    _, without = gradient(host_of(kl=kind, kl_weight=0.0))
    assert error(without, with_term) > 1e-2


def test_a_divergence_needs_a_reference_and_a_reference_a_divergence():
    host = host_of()
    options = {"total_rollouts": 64, "seed": 0}
    k3 = replace(host.config.learner, kl="k3")
    with pytest.raises(ValueError, match=r"reference must be given if and only if .*, got None"):
        Learner(host.policy, k3, **options)
    with pytest.raises(ValueError, match="if and only if learner.kl is not 'none', got a policy"):
        Learner(host.policy, host.config.learner, reference=host.policy, **options)
    Learner(host.policy, k3, reference=host.policy, **options)


def test_the_reference_never_moves():
    host = host_of(kl="k3", kl_weight=0.5)
    before = [p.clone() for p in host.learner.reference.parameters()]
    rollouts, prompts = ragged_rollouts(host)
    update(host, rollouts, prompts)
    after = list(host.learner.reference.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)


def peak(times, **learner):
    """Bytes that autograd keeps at one time in an update of so many times twelve rollouts."""
    host = host_of(minibatches=2, **learner)
    rollouts, prompts = ragged_rollouts(host)
    rows = np.tile(np.arange(12), times)
    hooks = KeptForBackward(host.policy.parameters())
    with hooks:
        update(
            host,
            rollouts.take(torch.from_numpy(rows)),
            prompts.take(rows),
            advantage=np.tile(ADVANTAGE, times),
            weight=np.tile(WEIGHT, times) / times,
        )
    return hooks.live.peak


def test_activations_are_those_of_a_pass_and_not_of_the_batch():
    # 8 x 12 rollouts, of which 72 teach, in two minibatches; then twice as many
    bounded = [peak(times, pass_tokens=100) for times in (8, 16)]
    assert bounded[1] == pytest.approx(bounded[0], rel=0.1)
    # negative control: everything in one pass
    at_once = [peak(times, pass_tokens=10**6) for times in (8, 16)]
    assert at_once[1] == pytest.approx(2 * at_once[0], rel=0.1)
    assert at_once[0] > 3 * bounded[0]


def test_half_precision_learns_and_its_weights_stay_whole():
    host = host_of(precision="bfloat16")
    before = [p.clone() for p in host.model.parameters()]
    metrics, found = gradient(host)
    _, expected = gradient(host_of())
    assert all(np.isfinite(metrics[key]) for key in ("loss", "grad_norm", "entropy"))
    # bfloat16 has 8 bits; test_train_policy.py says what that does to a gradient
    assert error(found, expected) < 0.2
    assert error(found, expected) > 1e-4, "otherwise it is float32 under another name"
    state = host.learner.optimizer.state
    dtypes = {t.dtype for parts in state.values() for t in parts.values()}
    assert {p.dtype for p in host.model.parameters()} | dtypes == {torch.float32}
    moved = [not torch.equal(a, b) for a, b in zip(before, host.model.parameters(), strict=True)]
    assert all(moved)


def test_options_that_only_save_memory_change_nothing():
    _, expected = gradient(host_of())
    _, found = gradient(host_of(activation_checkpointing=True))
    assert torch.equal(found, expected)
