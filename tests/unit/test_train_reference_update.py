"""The learner against the same updates written a second time (tests/reference_update.py)."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.reference_update import ReferenceLearner, Settings, minibatches_of, samples_of
from tests.train_cases import plan_of, small_host
from train.rollouts import Rollouts

# nothing at its default, so that a value that is not passed on shows
LEARNER = {
    "learning_rate": 2e-3,
    "final_lr_share": 0.1,
    "clip_low": 0.15,
    "clip_high": 0.25,
    "entropy_bonus": 0.05,
    "max_grad_norm": 3.8,
    "beta1": 0.7,
    "beta2": 0.8,
    "weight_decay": 0.3,
}
QUOTA = [4, 3, 5]
# any numbers will do; the one 0 is a wasted rollout
ADVANTAGE = np.array([1.2, -0.8, 0.0, 0.5, 1.5, -0.7, -0.7, 2.0, -0.5, -0.5, -0.5, 0.9])
# Eq. 16: 1/m for each of m = 3 prompts, 1/n_i for each of its rollouts, wasted ones included
WEIGHT = np.repeat([1 / 3 / n for n in QUOTA], QUOTA)
# (rollouts generated, step_scale, update_step) of two updates in a row
UPDATES = [(40, 0.5, 3), (52, 1.0, 4)]
# of 64 rollouts in all the rate falls to a tenth: 2e-3 (1 - 0.9 generated / 64) step_scale
RATES = [2e-3 * (1 - 0.9 * 40 / 64) * 0.5, 2e-3 * (1 - 0.9 * 52 / 64)]


def stale_host(pass_tokens=40, dtype=torch.float64):
    """A host and rollouts of a policy that differs from its own by half a nat per token."""
    host = small_host(
        task={"digits": [3]},  # completions of up to five tokens
        model={"initializer_range": 0.3},
        rollout={"decode_temperature": 0.8},
        learner={**LEARNER, "minibatches": 2, "pass_tokens": pass_tokens},
        run={"seed": 5, "rollouts": 64},
    )
    host.rollout(plan_of(QUOTA))
    columns = host.pending.as_dict()
    shift = np.random.default_rng(0).normal(0.0, 0.5, size=columns["log_prob_R_T"].shape)
    columns["log_prob_R_T"] = columns["log_prob_R_T"] + torch.from_numpy(shift).float()
    host.model.to(dtype)
    return host, Rollouts(**columns)


def learn(host, rollouts):
    """Both updates by the trainer's learner; their metrics."""
    return [
        host.learner.update(
            rollouts,
            host.task.pool.prompts.take(rollouts.prompt_R.numpy()),
            ADVANTAGE,
            WEIGHT,
            generated=generated,
            step_scale=step_scale,
            update_step=update_step,
        )
        for generated, step_scale, update_step in UPDATES
    ]


def reference(host, rollouts, *, weight=WEIGHT, minibatches=2, **wrong):
    """Both updates by the reference on a copy of the model: the learner and what it saw in each.

    ``minibatches`` is how many of the two are trained on.
    """
    settings = {k: v for k, v in LEARNER.items() if k != "final_lr_share"}
    settings = Settings(decode_temperature=0.8, **settings)
    found = ReferenceLearner(copy.deepcopy(host.model).double())
    prompts = host.task.pool.prompts.take(rollouts.prompt_R.numpy())
    samples = samples_of(rollouts, prompts, ADVANTAGE, weight)
    seen = []
    for rate, (_, _, update_step) in zip(RATES, UPDATES, strict=True):
        rows = minibatches_of(np.flatnonzero(ADVANTAGE), 2, 5, update_step)[:minibatches]
        found.update(samples, rows, replace(settings, learning_rate=rate, **wrong))
        seen.append(dict(found.seen))
        found.seen.clear()
    return found.model, seen


def change(model, start):
    return [p.detach().double() - s for p, s in zip(model.parameters(), start, strict=True)]


def weights(host):
    return [p.detach().double().clone() for p in host.model.parameters()]


def largest_error(found, expected):
    """Largest relative error of a parameter's change, each parameter measured by its norm."""
    return max(float((f - e).norm() / e.norm()) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("pass_tokens", "dtype", "tolerance"),
    [
        # the learner takes logits to float32, whose rounding is 6e-8: allow a hundred of them
        (1, torch.float64, 5e-6),  # a rollout a pass
        (40, torch.float64, 5e-6),  # two or three, of unequal lengths
        (10**6, torch.float64, 5e-6),
        # weights near 1 are stored to 6e-8 and change by 1e-3 or less
        (40, torch.float32, 5e-4),
    ],
)
def test_updates_equal_the_reference(pass_tokens, dtype, tolerance):
    host, rollouts = stale_host(pass_tokens, dtype)
    start = weights(host)
    model, seen = reference(host, rollouts)
    metrics = learn(host, rollouts)
    assert largest_error(change(host.model, start), change(model, start)) < tolerance
    for k in range(2):
        clipped = np.add(seen[k]["above"], seen[k]["below"])
        assert metrics[k]["learning_rate"] == pytest.approx(RATES[k], rel=1e-12)
        assert metrics[k]["informative"] == 11  # of twelve
        assert metrics[k]["loss"] == pytest.approx(np.mean(seen[k]["loss"]), abs=1e-5)
        assert metrics[k]["grad_norm"] == pytest.approx(np.mean(seen[k]["grad_norm"]), rel=1e-5)
        assert metrics[k]["entropy"] == pytest.approx(np.mean(seen[k]["entropy"]), rel=1e-5)
        assert metrics[k]["clip_share"] == pytest.approx(clipped.mean(), rel=1e-12)


def test_the_case_has_all_that_could_go_wrong():
    host, rollouts = stale_host()
    _, seen = reference(host, rollouts)
    assert [len(rows) for rows in minibatches_of(np.flatnonzero(ADVANTAGE), 2, 5, 3)] == [6, 5]
    assert rollouts.length_R.unique().numel() > 1
    assert sum(seen[0]["above"]) >= 3, "clipped from above"
    assert sum(seen[0]["below"]) >= 3, "clipped from below"
    # one gradient is clipped and one is not: AdamW forgets a factor that all gradients have
    assert min(seen[0]["grad_norm"]) < LEARNER["max_grad_norm"] < max(seen[0]["grad_norm"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"decode_temperature": 1.0},
        {"clip_low": 0.9},
        {"clip_high": 9.0},
        {"entropy_bonus": 0.0},
        {"max_grad_norm": 1e9},
        {"beta1": 0.9},
        {"beta2": 0.95},
        {"weight_decay": 0.0},
        {"minibatches": 1},
        {"weight": WEIGHT / 2},
        {"weight": np.full(12, 1 / 12)},  # every rollout alike, not every prompt
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_another_update_would_be_seen(wrong):
    # negative control of the comparison: every other setting is off by thousands of tolerances
    host, rollouts = stale_host()
    start = weights(host)
    model, _ = reference(host, rollouts, **wrong)
    learn(host, rollouts)
    assert largest_error(change(host.model, start), change(model, start)) > 1e-2
