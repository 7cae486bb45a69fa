"""Supervised warm start: its examples, when it stops, and the cache that arms share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import nll_loss

from cures.storage import read_json
from tests.train_cases import small_config
from train.errors import TargetNotReachedError
from train.policy import completion_log_policy
from train.run import fix_numerics
from train.tasks import Task
from train.tokenizer import EOS, decode, encode_answers
from train.warm_start import (
    examples,
    fingerprint,
    untrained_model,
    warm_start,
)


def config_of(tmp_path, **warm):
    return small_config(
        warm_start={"steps": 30, "examples": 40, "batch_size": 16, **warm},
        run={"cache": str(tmp_path / "cache")},
    )


def made(config):
    fix_numerics(config)
    return warm_start(config, Task(config.task))


def state(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_steps_lower_the_loss_on_the_examples(tmp_path):
    config = config_of(tmp_path)
    task = Task(config.task)
    prompt_N_L, answer_N_A = examples(task, config.warm_start)
    losses = []
    for model in (untrained_model(config, task), made(config).model):
        with torch.no_grad():
            log_policy = completion_log_policy(model, prompt_N_L, answer_N_A, 1.0)
        losses.append(nll_loss(log_policy.flatten(0, 1), answer_N_A.flatten()).item())
    # EOS alone, which is the last of three tokens in every answer, is worth ln(16) / 3 = 0.9
    assert losses[1] < losses[0] - 0.9


def test_cache_gives_the_same_bits_and_nothing_half_written_counts(tmp_path):
    config = config_of(tmp_path)
    (tmp_path / "cache" / ".partial-killed").mkdir(parents=True)
    first, second = made(config), made(config)
    assert (first.was_cached, second.was_cached) == (False, True)
    assert torch.equal(state(first.model), state(second.model))
    assert (first.steps, first.final_loss) == (second.steps, second.final_loss)
    folder = tmp_path / "cache" / fingerprint(config)
    assert read_json(folder / "about.json")["steps"] == 30
    again = made(config_of(tmp_path / "elsewhere"))
    assert torch.equal(state(first.model), state(again.model)), "trained again: the same bits"


@pytest.mark.parametrize(
    ("section", "values", "is_shared"),
    [
        ("scheduler", {"name": "speed"}, True),
        ("learner", {"learning_rate": 0.5}, True),
        ("run", {"seed": 9, "rollouts": 128}, True),
        ("task", {"dead_never": 0.5, "coins": 0.25}, True),
        ("task", {"seed": 1}, False),
        ("task", {"pool_size": 21}, False),
        ("model", {"rope_theta": 50.0}, False),
        ("warm_start", {"digit_noise": 0.1}, False),
        ("run", {"threads": 2}, False),
    ],
)
def test_arms_share_a_warm_start_iff_it_cannot_differ(section, values, is_shared):
    same = fingerprint(small_config()) == fingerprint(small_config(**{section: values}))
    assert same == is_shared


def test_stress_switches_leave_the_examples_alone():
    plain, spoiled = small_config(), small_config(task={"dead_never": 0.5, "coins": 0.25})
    answers = [examples(Task(c.task), c.warm_start)[1] for c in (plain, spoiled)]
    assert torch.equal(*answers)


def test_digit_noise_replaces_digits_by_others():
    config = small_config(
        task={"digits": [1, 2, 3], "pool_size": 20},
        warm_start={"digit_noise": 0.1, "examples": 3000},
    )
    noisy = examples(Task(config.task), config.warm_start)[1].numpy()
    clean_config = small_config(
        task={"digits": [1, 2, 3], "pool_size": 20}, warm_start={"examples": 3000}
    )
    clean = examples(Task(clean_config.task), clean_config.warm_start)[1].numpy()
    assert (noisy[:, -1] == EOS).all()
    assert all(decode(row).isdigit() and len(decode(row)) == 4 for row in noisy)
    changed = (noisy != clean)[:, :-1]
    # 12,000 digits, each wrong with chance 0.1: four standard errors are 0.011
    assert abs(changed.mean() - 0.1) < 0.011
    # each of the nine other digits alike: 1/9 of about 1200 with four standard errors of 0.036
    shift = (noisy - clean)[:, :-1][changed] % 10
    assert np.abs(np.bincount(shift, minlength=10)[1:] / changed.sum() - 1 / 9).max() < 0.036
    assert (shift != 0).all()


def test_stops_at_a_measured_success_rate_or_says_so(tmp_path):
    easy = made(config_of(tmp_path, target_success=0.0, check_every=10))
    assert easy.steps == 10
    with pytest.raises(TargetNotReachedError, match=r"target_success = 1.0 was not reached in 30"):
        made(config_of(tmp_path, target_success=1.0, check_every=10))


def test_no_steps_is_the_untrained_model(tmp_path):
    config = config_of(tmp_path, steps=0)
    found = made(config)
    assert found.final_loss is None
    assert torch.equal(state(found.model), state(untrained_model(config, Task(config.task))))


def test_examples_are_right_without_noise():
    config = small_config(warm_start={"examples": 40})
    task = Task(config.task)
    prompt_N_L, answer_N_A = examples(task, config.warm_start)
    expected = []
    for row in prompt_N_L.tolist():
        first, second = decode(row).rstrip("=").split("+")
        expected.append(str(int(first) + int(second)).zfill(2)[::-1])
    assert np.array_equal(answer_N_A.numpy(), encode_answers(expected))
