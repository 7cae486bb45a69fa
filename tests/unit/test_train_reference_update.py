"""The learner against the same updates written a second time (tests/reference_update.py)."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from cures.records import Selection
from tests.reference_update import (
    ReferenceLearner,
    Settings,
    advantages_of,
    minibatches_of,
    samples_of,
    weights_of,
)
from tests.train_cases import plan_of, ragged_rollouts, small_host, with_rewards
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


# The optional terms of the loss, each by itself and together; all of them are off by default.
TERMS = {
    "entropy of all": {"entropy_over": "all"},
    "k3": {"kl": "k3", "kl_weight": 0.2},
    "k1": {"kl": "k1", "kl_weight": 0.2},
    "truncated": {"mismatch": "truncated", "mismatch_cap": 1.3},
    "k3, truncated": {
        "entropy_over": "all", "kl": "k3", "kl_weight": 0.2, "mismatch": "truncated",
        "mismatch_cap": 1.3,
    },
    "k1, truncated": {
        "kl": "k1", "kl_weight": 0.2, "mismatch": "truncated", "mismatch_cap": 1.3,
    },
}  # fmt: skip


def stale_host(pass_tokens=40, dtype=torch.float64, *, is_ragged=False, **learner):
    """A host and rollouts of a policy that differs from its own by half a nat per token."""
    host = small_host(
        task={"digits": [3]},  # completions of up to five tokens
        model={"initializer_range": 0.3},
        rollout={"decode_temperature": 0.8},
        learner={**LEARNER, "minibatches": 2, "pass_tokens": pass_tokens, **learner},
        run={"seed": 5, "rollouts": 64},
    )
    host.rollout(plan_of(QUOTA))
    rollouts, prompts = host.pending, prompts_of(host, host.pending)
    if is_ragged:
        rollouts, prompts = ragged_rollouts(host)
    columns = rollouts.as_dict()
    shift = np.random.default_rng(0).normal(0.0, 0.5, size=columns["log_prob_R_T"].shape)
    columns["log_prob_R_T"] = columns["log_prob_R_T"] + torch.from_numpy(shift).float()
    host.model.to(dtype)
    if host.learner.reference is not None:
        host.learner.reference.to(dtype)
    return host, Rollouts(**columns), prompts


def prompts_of(host, rollouts):
    return host.task.pool.prompts.take(rollouts.prompt_R.numpy())


def learn(host, rollouts, prompts):
    """Both updates by the trainer's learner; their metrics."""
    return [
        host.learner.update(
            rollouts,
            prompts,
            ADVANTAGE,
            WEIGHT,
            generated=generated,
            step_scale=step_scale,
            update_step=update_step,
        )
        for generated, step_scale, update_step in UPDATES
    ]


def settings_of(host, **wrong):
    """The host's settings in the words of the reference."""
    config = host.config.learner
    names = set(Settings.__dataclass_fields__) - {"decode_temperature", "mismatch_cap"}
    return Settings(
        **{
            "decode_temperature": host.config.rollout.decode_temperature,
            "mismatch_cap": config.mismatch_cap if config.mismatch == "truncated" else None,
            **{name: getattr(config, name) for name in names},
            **wrong,
        }
    )


def reference_learner(host):
    """On a copy of the model, with a copy of the model that a divergence is from."""
    other = host.learner.reference
    return ReferenceLearner(
        copy.deepcopy(host.model).double(),
        None if other is None else copy.deepcopy(other.model).double(),
    )


def reference(host, rollouts, prompts, *, weight=WEIGHT, minibatches=2, **wrong):
    """Both updates by the reference: the model and what was seen in each.

    ``minibatches`` is how many of the two are trained on.
    """
    settings = settings_of(host, **wrong)
    is_all = settings.entropy_over == "all" or settings.kl != "none"
    touched = np.arange(12) if is_all else np.flatnonzero(ADVANTAGE)
    found = reference_learner(host)
    samples = samples_of(rollouts, prompts, ADVANTAGE, weight)
    seen = []
    for rate, (_, _, update_step) in zip(RATES, UPDATES, strict=True):
        rows = minibatches_of(touched, 2, 5, update_step)[:minibatches]
        found.update(samples, rows, replace(settings, learning_rate=rate))
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
    host, *rows = stale_host(pass_tokens, dtype)
    start = weights(host)
    model, seen = reference(host, *rows)
    metrics = learn(host, *rows)
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
    host, rollouts, prompts = stale_host()
    _, seen = reference(host, rollouts, prompts)
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
    host, *rows = stale_host()
    start = weights(host)
    model, _ = reference(host, *rows, **wrong)
    learn(host, *rows)
    assert largest_error(change(host.model, start), change(model, start)) > 1e-2


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
def test_optional_terms_equal_the_reference(terms):
    # prompts of unequal lengths; tolerance as above
    host, *rows = stale_host(is_ragged=True, **terms)
    start = weights(host)
    model, seen = reference(host, *rows)
    metrics = learn(host, *rows)
    assert largest_error(change(host.model, start), change(model, start)) < 5e-6
    for k in range(2):
        for key in ("loss", "grad_norm", "entropy"):
            assert metrics[k][key] == pytest.approx(np.mean(seen[k][key]), rel=1e-4, abs=1e-5), key
        clipped = np.add(seen[k]["above"], seen[k]["below"])
        assert metrics[k]["clip_share"] == pytest.approx(clipped.mean(), rel=1e-12)
        # None where there is nothing to measure
        assert (metrics[k]["kl"] is None) == ("kl" not in terms)
        assert (metrics[k]["mismatch"] is None) == ("mismatch" not in terms)
        if "kl" in terms:
            assert metrics[k]["kl"] == pytest.approx(np.mean(seen[k]["kl"]), rel=1e-4)
        if "mismatch" in terms:
            assert metrics[k]["mismatch"] == pytest.approx(np.mean(seen[k]["correction"]), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("entropy of all", {"entropy_over": "informative"}),
        ("k3", {"kl": "k1"}),
        ("k3", {"kl_weight": 0.1}),
        ("k1", {"kl": "k3"}),
        ("k1", {"kl_weight": 0.0}),
        ("truncated", {"mismatch_cap": None}),
        ("truncated", {"mismatch_cap": 1.5}),
        ("k1, truncated", {"mismatch_cap": None}),
        ("k3, truncated", {"entropy_over": "informative"}),
    ],
)
def test_another_term_would_be_seen(name, wrong):
    # negative control
    host, *rows = stale_host(is_ragged=True, **TERMS[name])
    start = weights(host)
    model, _ = reference(host, *rows, **wrong)
    learn(host, *rows)
    assert largest_error(change(host.model, start), change(model, start)) > 1e-2


# Rewards of the groups of 4, 3 and 5; the second group is wasted unless the baseline is the batch's.
REWARD = [1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0]
GROUP = np.repeat(np.arange(3), QUOTA).tolist()
PROMPT_WEIGHT = [0.5, 0.2, 0.3]
HOST_RATE = 2e-3 * (1 - 0.9 * 12 / 64) * 0.5  # after 12 rollouts of 64, half a step


def updated_host(estimator, aggregation):
    """Change of the weights by one update of a whole host, and what is needed to repeat it."""
    host, rollouts, prompts = stale_host(estimator=estimator, aggregation=aggregation)
    rollouts = with_rewards(rollouts, [float(r) for r in REWARD])
    start, again = weights(host), reference_learner(host)
    host.pending = rollouts
    host.update(Selection(np.arange(3), np.array(PROMPT_WEIGHT), step_scale=0.5))
    return change(host.model, start), start, again, settings_of(host), rollouts, prompts


def change_by_reference(case, estimator, aggregation):
    _, start, again, settings, rollouts, prompts = case
    advantage = advantages_of(estimator, REWARD, GROUP)
    weight = weights_of(aggregation, PROMPT_WEIGHT, GROUP, rollouts.length_R.tolist())
    again = copy.deepcopy(again)
    again.update(
        samples_of(rollouts, prompts, advantage, weight),
        minibatches_of(np.flatnonzero(advantage), 2, 5, 0),
        replace(settings, learning_rate=HOST_RATE),
    )
    return change(again.model, start)


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "dr_grpo", "reinforce++"])
@pytest.mark.parametrize("aggregation", ["prompt", "rollout", "token"])
def test_updates_of_a_host_equal_the_reference(estimator, aggregation):
    case = updated_host(estimator, aggregation)
    # the first step of AdamW is nearly the sign of a gradient: rounding, which differs between
    # processors, counts where that is small
    assert largest_error(case[0], change_by_reference(case, estimator, aggregation)) < 1e-4


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "dr_grpo", "reinforce++"])
def test_another_estimator_or_aggregation_would_be_seen(estimator):
    # negative control: with unequal groups and lengths no two of them are the same
    case = updated_host(estimator, "token")
    others = [e for e in ("grpo", "rloo", "dr_grpo", "reinforce++") if e != estimator]
    wrong = [(e, "token") for e in others] + [(estimator, "prompt"), (estimator, "rollout")]
    for other in wrong:
        assert largest_error(case[0], change_by_reference(case, *other)) > 1e-2, other
