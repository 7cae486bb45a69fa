"""The optimiser step: parity with the sampler, what is skipped, how it fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train_cases import log_probs, plan_of, small_host, with_rewards
from train.errors import TrainingDivergedError
from train.learning_rate import learning_rate

REWARD = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
ADVANTAGE = np.array([1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
WEIGHT = np.full(8, 1 / 8)


def host_with_rollouts(**sections):
    host = small_host(**sections)
    host.rollout(plan_of([4, 4]))
    return host, with_rewards(host.pending, REWARD)


def update(host, rollouts, *, advantage=ADVANTAGE, generated=8, step_scale=1.0, update_step=0):
    return host.learner.update(
        rollouts,
        host.task.pool.prompts.take(rollouts.prompt_R.numpy()),
        advantage,
        WEIGHT,
        generated=generated,
        step_scale=step_scale,
        update_step=update_step,
    )


def weights(host):
    return torch.cat([p.detach().flatten().clone() for p in host.model.parameters()])


def ratio_error(host):
    """Largest |log pi_train - log pi_sample| over fresh rollouts: 0 if both see one policy."""
    host.rollout(plan_of([40, 40], plan_id=host.updates + 7, first_group=100))
    rollouts = host.pending.take(host.pending.group_R >= 100)
    return float((log_probs(host, rollouts) - rollouts.log_prob_R_T).abs().max())


def test_sampler_and_loss_see_one_policy_after_an_update():
    host, rollouts = host_with_rollouts(rollout={"decode_temperature": 0.9})
    before = weights(host)
    update(host, rollouts)
    host.at(generated=8, updates=1)
    assert (weights(host) - before).abs().max() > 1e-3, "the update must have moved the policy"
    assert ratio_error(host) < 1e-4


def test_a_stale_sampler_would_be_seen():
    # negative control: rollouts of the policy before the update are off by far more than 1e-4
    host, rollouts = host_with_rollouts()
    update(host, rollouts)
    assert (log_probs(host, rollouts) - rollouts.log_prob_R_T).abs().max() > 1e-2


def test_step_raises_the_right_rollouts():
    host, rollouts = host_with_rollouts(learner={"minibatches": 1, "entropy_bonus": 0.0})

    def objective():
        per_rollout = log_probs(host, rollouts).sum(1).double().numpy() / rollouts.length_R.numpy()
        return float((ADVANTAGE * per_rollout).sum())

    before = objective()
    update(host, rollouts)
    assert objective() > before


def test_wasted_rollouts_are_skipped_and_a_wasted_batch_changes_nothing():
    host, rollouts = host_with_rollouts()
    before = weights(host)
    metrics = update(host, rollouts, advantage=np.zeros(8))
    assert metrics["informative"] == 0
    assert metrics["loss"] is None
    assert torch.equal(weights(host), before)
    assert update(host, rollouts)["informative"] == 4


def test_passes_only_change_rounding():
    first, rollouts = host_with_rollouts(learner={"pass_tokens": 1})  # a row at a time
    second, same = host_with_rollouts(learner={"pass_tokens": 10**6})
    assert torch.equal(rollouts.token_R_T, same.token_R_T)
    one, other = update(first, rollouts), update(second, same)
    # before AdamW divides by the root of a square, gradients agree to float32 rounding
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 0.1 at the end of the rise, at 1/4 of the run; then over the rest down to 0.02:
        # at 5/8, half-way, linear gives their mean, and so does half a cosine
        ("linear", [0.0, 0.05, 0.1, 0.06, 0.02, 0.02]),
        ("cosine", [0.0, 0.05, 0.1, 0.06, 0.02, 0.02]),
        ("constant", [0.0, 0.05, 0.1, 0.1, 0.1, 0.1]),
    ],
)
def test_learning_rate_by_hand(schedule, expected):
    config = small_host(
        learner={
            "learning_rate": 0.1, "final_lr_share": 0.2, "warmup_share": 0.25, "schedule": schedule
        }
    ).config.learner  # fmt: skip
    found = [learning_rate(config, progress) for progress in (0.0, 0.125, 0.25, 0.625, 1.0, 1.5)]
    assert found == pytest.approx(expected)


def test_cosine_is_no_line():
    # at a quarter of the way down 1 - cos is (2 - sqrt 2) / 2 of 2: share 0.8536 of the fall is left
    config = small_host(
        learner={"learning_rate": 1.0, "final_lr_share": 0.0, "schedule": "cosine"}
    ).config.learner
    assert learning_rate(config, 0.25) == pytest.approx(0.853553, abs=1e-6)
    assert learning_rate(config, 0.75) == pytest.approx(0.146447, abs=1e-6)


def test_minibatch_order_depends_on_the_step_and_the_seed_only():
    results = []
    for seed, step in (
        (0, 0),
        (0, 0),
        *((0, s) for s in range(1, 8)),
        *((s, 0) for s in range(1, 8)),
    ):
        host, rollouts = host_with_rollouts(run={"seed": 0})
        host.learner.seed = seed
        update(host, rollouts, update_step=step)
        results.append(weights(host))
    assert torch.equal(results[0], results[1])
    # four informative rollouts in two minibatches of two: six orders matter, so a single other draw
    # may coincide, seven do with chance 6^-7
    assert not all(torch.equal(results[0], other) for other in results[2:9])
    assert not all(torch.equal(results[0], other) for other in results[9:])


def test_divergence_names_the_step_and_spares_the_weights():
    host, rollouts = host_with_rollouts()
    columns = rollouts.as_dict()
    columns["log_prob_R_T"] = torch.full_like(columns["log_prob_R_T"], float("nan"))
    before = weights(host)
    with pytest.raises(TrainingDivergedError, match="update 3: loss is nan"):
        update(host, type(rollouts)(**columns), update_step=3)
    assert torch.equal(weights(host), before)


def test_a_policy_that_is_not_finite_cannot_sample():
    host = small_host()
    with torch.no_grad():
        host.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="the model's probabilities are not finite"):
        host.rollout(plan_of([2]))


def test_optimiser_state_round_trip():
    host, rollouts = host_with_rollouts()
    update(host, rollouts)
    other, _ = host_with_rollouts()
    other.model.load_state_dict(host.model.state_dict())
    other.learner.load_state_tensors(host.learner.state_tensors())
    for h in (host, other):
        update(h, rollouts, update_step=1)
    assert torch.equal(weights(host), weights(other))
    with pytest.raises(ValueError, match=r"named after parameters, got 'nobody/step'"):
        other.learner.load_state_tensors({"nobody/step": torch.zeros(())})
